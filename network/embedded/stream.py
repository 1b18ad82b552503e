"""A chaincode that runs as a service: the peer's end of one stream, dialled by the peer.

One stream per peer and package id. The service speaks first (REGISTER with its package id); the peer answers REGISTERED
and READY with the batch sizes it accepts. Source: core/chaincode/{handler,runtime_launcher,handler_registry}.go and
extcc/extcc_handler.go; the stub of the official Node shim needs REGISTERED and READY in just this order.
"""

import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

import grpc
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2_grpc
from google.protobuf.message import DecodeError

from network.embedded.handler import (
    ChaincodeMessage,
    TransactionContext,
    is_request,
    refused,
    type_name,
    unknown_message,
)

logger = logging.getLogger(__name__)

TIMED_OUT: Final = "error sending: timeout expired while executing transaction"
TERMINATED: Final = "error sending: chaincode stream terminated"

MESSAGE_BYTES = 100 * 1024 * 1024  # as every connection of a peer (internal/pkg/comm)
_PING_MS = 60_000  # the peer's own interval towards a chaincode service
_PING_TIMEOUT_MS = 20_000
_RETRY_SECONDS_MIN = 0.1
_RETRY_SECONDS_MAX = 10.0

ADDITIONAL_PARAMS: Final = chaincode_pb2.ChaincodeAdditionalParams(
    use_write_batch=True,
    max_size_write_batch=1000,
    use_get_multiple_keys=True,
    max_size_get_multiple_keys=1000,
)


class ExecutionError(Exception):
    """The host could not get an answer from a chaincode; the text is Fabric's."""


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS towards a chaincode service: the authority that certified it, and a client pair for mutual TLS (all PEM)."""

    root_certificates: bytes
    private_key: bytes | None = None
    certificate_chain: bytes | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """The same as gRPC takes it."""
        return grpc.ssl_channel_credentials(self.root_certificates, self.private_key, self.certificate_chain)


class _Open:
    """One transaction on the stream: what came for it, and whether a request of it is being answered."""

    __slots__ = ("busy", "inbox")

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[ChaincodeMessage | None] = queue.SimpleQueue()
        self.busy = False


class _Session:
    """One established stream, from dialling to its loss."""

    def __init__(self, address: str, package_id: str, tls: Tls | None, lost: Callable[["_Session"], None]) -> None:
        self._address = address
        self._package_id = package_id
        self._lost = lost
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], _Open] = {}
        self._outbox: queue.SimpleQueue[ChaincodeMessage | None] = queue.SimpleQueue()
        self._registered: Future[None] = Future()
        self.is_lost = False
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", _PING_MS),
            ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
            # A proxy named in the environment is none of the topology's business.
            ("grpc.enable_http_proxy", 0),
            # Each stream has a connection of its own: a shared one would carry the first dialler's failures.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._channel = (
            grpc.insecure_channel(address, options)
            if tls is None
            else grpc.secure_channel(address, tls.credentials(), options)
        )

    def start(self, dial_seconds: float, start_seconds: float) -> None:
        """Dial and wait until the chaincode has registered. Raises ExecutionError, the session closed."""
        try:
            self._dial(dial_seconds)
            stub = chaincode_shim_pb2_grpc.ChaincodeStub(self._channel)
            call = stub.Connect(iter(self._outbox.get, None))
            threading.Thread(target=self._read, args=(call,), name=f"chaincode {self._package_id}", daemon=True).start()
            try:
                self._registered.result(timeout=start_seconds)
            except TimeoutError as error:
                raise ExecutionError(
                    f"timeout expired while starting chaincode {self._package_id} for transaction"
                ) from error
        except ExecutionError:
            self.close()
            raise

    def _dial(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        prefix = (
            f"connection to {self._package_id} failed: error cannot create connection for {self._package_id}: "
            f"error creating grpc connection to {self._address}: failed to create new connection: "
        )
        host, _, port = self._address.rpartition(":")
        try:
            # gRPC would retry a refused connection until the deadline and not say why.
            socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
        except TimeoutError as error:
            raise ExecutionError(prefix + "context deadline exceeded") from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ExecutionError(
                f'{prefix}connection error: desc = "transport: Error while dialing: '
                f'dial tcp {self._address}: connect: {reason}"'
            ) from error
        try:
            grpc.channel_ready_future(self._channel).result(timeout=max(deadline - time.monotonic(), 0.0))
        except grpc.FutureTimeoutError as error:
            raise ExecutionError(prefix + "context deadline exceeded") from error

    def close(self) -> None:
        """End the stream; open transactions fail."""
        self._lose()
        self._outbox.put(None)
        self._channel.close()

    def send(self, message: ChaincodeMessage) -> None:
        """Hand a message to the stream's one writer."""
        self._outbox.put(message)

    def join(self, message: ChaincodeMessage) -> _Open:
        """Open a transaction. Raises ExecutionError when it is open already or the stream is lost."""
        key = (message.channel_id, message.txid)
        with self._lock:
            if self.is_lost:
                raise ExecutionError(TERMINATED)
            if key in self._open:
                raise ExecutionError(f"error sending: txid: {message.txid}({message.channel_id}) exists")
            transaction = self._open[key] = _Open()
        return transaction

    def leave(self, message: ChaincodeMessage) -> None:
        """Forget a transaction; its later requests are refused."""
        with self._lock:
            self._open.pop((message.channel_id, message.txid), None)

    def _read(self, call: Any) -> None:
        try:
            for message in call:
                self._receive(message)
        except grpc.RpcError as error:
            logger.info("chaincode stream of %s ended: %s", self._package_id, error.code())
        except ExecutionError as error:
            logger.error("chaincode stream of %s closed: %s", self._package_id, error)
        call.cancel()
        self.close()

    def _receive(self, message: ChaincodeMessage) -> None:
        if message.type == ChaincodeMessage.KEEPALIVE:
            return
        if not self._registered.done():
            self._register(message)
            return
        kind = message.type
        is_answer = kind in (ChaincodeMessage.COMPLETED, ChaincodeMessage.ERROR)
        if not is_answer and not is_request(kind):
            raise ExecutionError(f"error handling message, ending stream: {unknown_message(message)}")
        with self._lock:
            transaction = self._open.get((message.channel_id, message.txid))
            is_dropped = transaction is not None and not is_answer and transaction.busy
            if transaction is not None and not is_answer:
                transaction.busy = True
        if transaction is None:
            if not is_answer:
                self.send(refused(message))
        elif is_dropped:
            logger.error("another request of transaction %s is pending, dropped %s", message.txid, type_name(kind))
        else:
            transaction.inbox.put(message)

    def _register(self, message: ChaincodeMessage) -> None:
        try:
            if message.type != ChaincodeMessage.REGISTER:
                raise ExecutionError(
                    f"[{message.txid}] Fabric side handler cannot handle message ({type_name(message.type)}) "
                    "while in created state"
                )
            name = _registered_name(message)
            if not name:
                raise ExecutionError("error in handling register chaincode, chaincodeID name is empty")
            if name != self._package_id:
                raise ExecutionError(f"peer will not accept external chaincode connection {name} (except in dev mode)")
        except ExecutionError as error:
            self._registered.set_exception(ExecutionError(f"chaincode registration failed: {error}"))
            raise
        self.send(ChaincodeMessage(type=ChaincodeMessage.REGISTERED))
        self.send(ChaincodeMessage(type=ChaincodeMessage.READY, payload=ADDITIONAL_PARAMS.SerializeToString()))
        self._registered.set_result(None)

    def _lose(self) -> None:
        with self._lock:
            if self.is_lost:
                return
            self.is_lost = True
            waiting = list(self._open.values())
        for transaction in waiting:
            transaction.inbox.put(None)
        if not self._registered.done():
            self._registered.set_exception(
                ExecutionError(f"chaincode registration failed: connection to {self._package_id} terminated")
            )
        self._lost(self)


def _registered_name(message: ChaincodeMessage) -> str:
    try:
        return chaincode_pb2.ChaincodeID.FromString(message.payload).name
    except DecodeError as error:
        raise ExecutionError("could NOT unmarshal registration info") from error


class ChaincodeStream:
    """One peer's stream to one chaincode service, redialled when it is needed and, once started, in the background.

    `execute` may be called from many threads at once. Times in seconds.
    """

    def __init__(
        self,
        address: str,
        package_id: str,
        *,
        tls: Tls | None = None,
        dial_seconds: float = 3.0,
        start_seconds: float = 300.0,
    ) -> None:
        self._address = address
        self._package_id = package_id
        self._tls = tls
        self._dial_seconds = dial_seconds
        self._start_seconds = start_seconds
        self._lock = threading.Lock()
        self._session: _Session | None = None
        self._launch: Future[_Session] | None = None
        self._is_closed = threading.Event()
        self._wanted = threading.Event()
        self._keeper: threading.Thread | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a chaincode is registered on the stream now."""
        session = self._session
        return session is not None and not session.is_lost

    def start(self) -> None:
        """Dial in the background, and again with growing pauses whenever the stream is lost."""
        if self._keeper is None:
            self._wanted.set()
            self._keeper = threading.Thread(target=self._keep, name=f"dial {self._address}", daemon=True)
            self._keeper.start()

    def close(self) -> None:
        """Close the stream for good; open transactions fail."""
        self._is_closed.set()
        self._wanted.set()
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()
        if self._keeper is not None:
            self._keeper.join(timeout=self._dial_seconds + 1)

    def execute(self, message: ChaincodeMessage, context: TransactionContext, deadline: float) -> ChaincodeMessage:
        """Send a TRANSACTION or INIT, answer the chaincode's requests from `context`, return its COMPLETED or ERROR.

        `deadline` is in the seconds of time.monotonic. Raises ExecutionError with Fabric's text when the service
        cannot be reached, is lost meanwhile, or does not answer in time.
        """
        session = self._ready()
        transaction = session.join(message)
        try:
            session.send(message)
            while True:
                try:
                    received = transaction.inbox.get(timeout=max(deadline - time.monotonic(), 0.0))
                except queue.Empty as error:
                    raise ExecutionError(TIMED_OUT) from error
                if received is None:
                    raise ExecutionError(TERMINATED)
                if received.type in (ChaincodeMessage.COMPLETED, ChaincodeMessage.ERROR):
                    return received
                answer = context.handle(received)
                transaction.busy = False
                session.send(answer)
        finally:
            session.leave(message)

    def _ready(self) -> _Session:
        """The established session, dialling when there is none; callers who come meanwhile share the attempt."""
        with self._lock:
            if self._session is not None and not self._session.is_lost:
                return self._session
            if self._is_closed.is_set():
                raise ExecutionError(TERMINATED)
            launch = self._launch
            if launch is None:
                mine = self._launch = Future()
        if launch is not None:
            try:
                return launch.result()
            except ExecutionError as error:
                raise ExecutionError(f"could not launch chaincode {self._package_id}: {error}") from error
        return self._dial(mine)

    def _dial(self, launch: "Future[_Session]") -> _Session:
        session = _Session(self._address, self._package_id, self._tls, self._on_lost)
        try:
            session.start(self._dial_seconds, self._start_seconds)
        except ExecutionError as error:
            with self._lock:
                self._launch = None
            launch.set_exception(error)
            raise ExecutionError(f"could not launch chaincode {self._package_id}: {error}") from error
        with self._lock:
            self._launch = None
            self._session = session
        launch.set_result(session)
        if self._is_closed.is_set():
            session.close()
        return session

    def _on_lost(self, _session: _Session) -> None:
        self._wanted.set()

    def _keep(self) -> None:
        pause = _RETRY_SECONDS_MIN
        while not self._is_closed.is_set():
            self._wanted.wait()
            self._wanted.clear()
            while not self._is_closed.is_set() and not self.is_ready:
                try:
                    self._ready()
                    pause = _RETRY_SECONDS_MIN
                except ExecutionError as error:
                    logger.info("%s; trying again in %.1f s", error, pause)
                    self._is_closed.wait(pause)
                    pause = min(pause * 2, _RETRY_SECONDS_MAX)
