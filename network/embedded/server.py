"""One peer's TLS port: the services on it, their limits, and the health service.

Messages reach the handlers as bytes and are parsed where the work is done. Source: internal/peer/node/{start,
grpc_limiters}.go and internal/pkg/comm of Fabric v3.1.5; embedded-network.md A."""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.orderer import ab_pb2

from network.embedded.deliver import Delivery
from network.embedded.endorser import EndorserError
from network.embedded.events import ChaincodeEvents
from network.embedded.gateway import Call, Gateway
from network.embedded.orderer import SUCCESS, Orderer
from network.embedded.rpc import RpcError, Unreadable, field, read
from network.embedded.simulation_child import ENDORSE, EVALUATE
from network.embedded.simulation_process import NotAnswered, SimulationProcess
from network.embedded.simulations import Overrun, Simulations
from network.embedded.store import LedgerError

_LOG = logging.getLogger(__name__)

MESSAGE_BYTES_MAX: Final = 100 * 1024 * 1024
LIMITS: Final = {"gateway.Gateway": 500, "protos.Deliver": 2500, "protos.Endorser": 2500}
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 2 * 60 * 60 * 1000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 60_000),
    ("grpc.server_handshake_timeout_ms", 5_000),
    # Two networks on one port would share its connections between them instead of the second one failing.
    ("grpc.so_reuseport", 0),
)
_SERVING: Final = b"\x08\x01"
_SERVICE_UNKNOWN: Final = b"\x08\x03"
_UNMARSHALLING: Final = "grpc: error unmarshalling request: "

Context = grpc.aio.ServicerContext[bytes, bytes]
# The runtime classes are not generic, only their stubs are.
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
Unary = Callable[[bytes, Context], Awaitable[bytes]]
Stream = Callable[[Any, Context], AsyncIterator[bytes]]


class PortError(Exception):
    """The port cannot be had; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class Tls:
    """The port's key and certificate (PEM), and the authorities of client certificates when these are demanded."""

    key: bytes
    certificate: bytes
    client_authorities: bytes | None = None


@dataclass(frozen=True, slots=True)
class OrderingServices:
    """orderer.AtomicBroadcast: what every port offers, because the ordering service is one here."""

    orderer: Orderer
    deliver: Delivery


@dataclass(frozen=True, slots=True)
class PeerServices:
    """What one peer offers, and its node's name. `endorse` is protos.Endorser: the bytes of a signed proposal to those
    of the answer."""

    name: str
    gateway: Gateway
    events: ChaincodeEvents
    deliver: Delivery
    deliver_filtered: Delivery
    deliver_with_private_data: Delivery
    endorse: Callable[[bytes], bytes]


class Limit:
    """How many calls of one service may be open at once, unary and streams alike; waiting ones count."""

    def __init__(self, service: str, maximum: int) -> None:
        self._text = f"too many requests for /{service}, exceeding concurrency limit ({maximum})"
        self._maximum = maximum
        self.open = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one slot. Raises `RpcError` UNKNOWN when there is none."""
        if self.open >= self._maximum:
            raise RpcError(grpc.StatusCode.UNKNOWN, self._text)
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


class Server:
    """Serves a peer, or an orderer that has a port of its own, on one address.

    Runs on the network's event loop. Raises `PortError` when the address cannot be had."""

    def __init__(
        self,
        address: str,
        tls: Tls,
        ordering: OrderingServices,
        peer: PeerServices | None,
        simulations: Simulations,
        process: SimulationProcess | None = None,
    ) -> None:
        self._ordering = ordering
        self._simulations = simulations
        self._process = process
        self._needs_client_certificate = tls.client_authorities is not None
        self.limits = {service: Limit(service, maximum) for service, maximum in LIMITS.items()}
        self._server = grpc.aio.server(options=OPTIONS)
        methods = self._ordering_methods()
        if peer is not None:
            self._peer = peer
            methods |= self._peer_methods(peer)
        # A request has one field, the service's name: the known requests are compared as bytes.
        self._healthy = {b"", field(1, b""), *(field(1, service.encode()) for service in methods)}
        for service, handlers in methods.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        credentials = grpc.ssl_server_credentials(
            [(tls.key, tls.certificate)],
            root_certificates=tls.client_authorities,
            require_client_auth=self._needs_client_certificate,
        )
        try:
            self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise PortError(
                f"{address} is in use by another program. Stop that program: a network keeps the ports it was made "
                "with. Another one, in another --home, can have others (--port-base)."
            ) from error

    async def start(self) -> None:
        """Begin to answer."""
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Take no new calls, and end those still open after `grace` seconds."""
        await self._server.stop(grace)

    def _ordering_methods(self) -> dict[str, dict[str, Handler]]:
        return {
            "orderer.AtomicBroadcast": {
                "Broadcast": self._stream(None, self._broadcast),
                "Deliver": self._stream(None, self._delivering(self._ordering.deliver)),
            },
            "grpc.health.v1.Health": {
                "Check": self._unary(None, self._check_health),
                "Watch": self._server_stream(None, self._watch_health),
            },
        }

    def _peer_methods(self, peer: PeerServices) -> dict[str, dict[str, Handler]]:
        gateway, deliver, endorser = LIMITS
        return {
            gateway: {
                "Evaluate": self._unary(gateway, self._evaluate),
                "Endorse": self._unary(gateway, self._endorse),
                "Submit": self._unary(gateway, self._submit),
                "CommitStatus": self._unary(gateway, self._commit_status),
                "ChaincodeEvents": self._server_stream(gateway, self._chaincode_events),
            },
            deliver: {
                "Deliver": self._stream(deliver, self._delivering(peer.deliver)),
                "DeliverFiltered": self._stream(deliver, self._delivering(peer.deliver_filtered)),
                "DeliverWithPrivateData": self._stream(deliver, self._delivering(peer.deliver_with_private_data)),
            },
            endorser: {"ProcessProposal": self._unary(endorser, self._process_proposal)},
        }

    # -- gateway -------------------------------------------------------------------------------------------------------

    async def _evaluate(self, request: bytes, context: Context) -> bytes:
        call = Call()

        def job() -> bytes:
            message = read(gateway_pb2.EvaluateRequest, request)
            return self._peer.gateway.evaluate(message, call).SerializeToString()

        return await self._simulate(EVALUATE, request, job, call, context, lambda: "evaluate timeout expired")

    async def _endorse(self, request: bytes, context: Context) -> bytes:
        call = Call()

        def job() -> bytes:
            message = read(gateway_pb2.EndorseRequest, request)
            return self._peer.gateway.endorse(message, call).SerializeToString()

        def expired() -> str:
            stage = "first endorsement" if call.is_first else "endorsements"
            return f"endorsement timeout expired while collecting {stage}"

        return await self._simulate(ENDORSE, request, job, call, context, expired)

    async def _submit(self, request: bytes, context: Context) -> bytes:
        message = read(gateway_pb2.SubmitRequest, request)
        try:
            async with asyncio.timeout(context.time_remaining()):
                return (await self._peer.gateway.submit(message)).SerializeToString()
        except TimeoutError as error:
            raise RpcError(
                grpc.StatusCode.DEADLINE_EXCEEDED, "submit timeout expired while broadcasting to ordering service"
            ) from error

    async def _commit_status(self, request: bytes, context: Context) -> bytes:
        message = read(gateway_pb2.SignedCommitStatusRequest, request)
        try:
            async with asyncio.timeout(context.time_remaining()):
                return (await self._peer.gateway.commit_status(message)).SerializeToString()
        except TimeoutError as error:
            raise RpcError(grpc.StatusCode.DEADLINE_EXCEEDED, "context deadline exceeded") from error

    async def _chaincode_events(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        message = read(gateway_pb2.SignedChaincodeEventsRequest, request)
        async for response in self._peer.events.stream(message):
            yield response.SerializeToString()

    async def _simulate(
        self,
        method: str,
        request: bytes,
        job: Callable[[], bytes],
        call: Call,
        context: Context,
        expired: Callable[[], str],
    ) -> bytes:
        """Run a simulation off the loop, as long as the client waits for it: in the second process when there is a
        crowd, else here. `job` is the same call of the gateway as the process makes."""
        process = self._process
        try:
            async with asyncio.timeout(context.time_remaining()):
                if process is not None and process.takes(self._simulations.busy):
                    with contextlib.suppress(NotAnswered):
                        return await process.run(method, self._peer.name, request)
                return await self._simulations.run(job, call)
        except TimeoutError as error:
            raise RpcError(grpc.StatusCode.DEADLINE_EXCEEDED, expired()) from error
        except Overrun as error:
            raise self._peer.gateway.overrun(call, method, str(error)) from error
        finally:
            call.is_abandoned = True

    # -- the other services --------------------------------------------------------------------------------------------

    async def _process_proposal(self, request: bytes, context: Context) -> bytes:
        try:
            return await self._simulations.run(lambda: self._peer.endorse(request), Call())
        except (EndorserError, Overrun) as error:
            # gRPC drops a response that comes with an error, so over the wire only the text is left (A.2).
            raise RpcError(grpc.StatusCode.UNKNOWN, str(error)) from error

    async def _broadcast(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async for request in requests:
            answer = await self._ordering.orderer.broadcast(read(common_pb2.Envelope, request))
            yield ab_pb2.BroadcastResponse(status=answer.status, info=answer.info).SerializeToString()
            if answer.status != SUCCESS:
                return

    def _delivering(self, delivery: Delivery) -> Stream:
        async def serve(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            async for answer in delivery.serve(requests, self._tls_binding(context)):
                yield answer

        return serve

    def _tls_binding(self, context: Context) -> bytes | None:
        """SHA-256 of the client certificate's DER, which seek requests must repeat under mutual TLS."""
        if not self._needs_client_certificate:
            return None
        pem = next(iter(context.auth_context()["x509_pem_cert"]))
        return hashlib.sha256(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)).digest()

    async def _check_health(self, request: bytes, context: Context) -> bytes:
        if request not in self._healthy:
            raise RpcError(grpc.StatusCode.NOT_FOUND, "unknown service")
        return _SERVING

    async def _watch_health(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield _SERVING if request in self._healthy else _SERVICE_UNKNOWN
        # Nothing changes while the port is open; the stream ends with it or with the client.
        await asyncio.Event().wait()

    # -- edges ---------------------------------------------------------------------------------------------------------

    def _unary(self, service: str | None, answer: Unary) -> Handler:
        limit = self._limit(service)

        async def handle(request: bytes, context: Context) -> bytes:
            try:
                with limit.slot():
                    return await answer(request, context)
            except RpcError as error:
                failure = error
            except Unreadable as error:
                failure = RpcError(grpc.StatusCode.INTERNAL, f"{_UNMARSHALLING}{error}")
            except LedgerError as error:
                failure = RpcError(grpc.StatusCode.INTERNAL, f"embedded network: {error}")
            await context.abort(failure.code, failure.message, failure.trailer())
            raise AssertionError("abort raises")

        return grpc.unary_unary_rpc_method_handler(handle)

    def _streaming(self, service: str | None, answer: Stream) -> Stream:
        limit = self._limit(service)

        async def handle(request: Any, context: Context) -> AsyncIterator[bytes]:
            answers = answer(request, context)
            try:
                with limit.slot():
                    async for message in answers:
                        yield message
                return
            except RpcError as error:
                failure = error
            except Unreadable as error:
                failure = RpcError(grpc.StatusCode.INTERNAL, f"{_UNMARSHALLING}{error}")
            except LedgerError as error:
                failure = RpcError(grpc.StatusCode.INTERNAL, f"embedded network: {error}")
            finally:
                await answers.aclose()  # type: ignore[attr-defined]  # every handler here is an async generator
            await context.abort(failure.code, failure.message, failure.trailer())

        return handle

    def _stream(self, service: str | None, answer: Stream) -> Handler:
        return grpc.stream_stream_rpc_method_handler(self._streaming(service, answer))

    def _server_stream(self, service: str | None, answer: Stream) -> Handler:
        return grpc.unary_stream_rpc_method_handler(self._streaming(service, answer))

    def _limit(self, service: str | None) -> Limit:
        return self.limits[service] if service is not None else Limit("", 1 << 62)
