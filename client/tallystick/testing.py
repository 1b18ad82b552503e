"""A gateway for your own tests: a real gRPC server in this process, with scripted answers and recorded requests.

    with StubGateway() as stub, stub.channel() as channel:
        stub.evaluate.answer(b'{"voucher_id": "V-1"}')
        gateway = connect(channel, identity, signer)
        gateway.network("scf").contract("trade").evaluate("get", "V-1")
        assert stub.evaluate.requests[0].arguments == (b"get", b"V-1")

Unscripted, it accepts everything: endorses with an empty result, commits each submitted transaction as valid in a
block of its own, and streams those blocks and events. It checks no signature and no policy; the embedded network does
that.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeVar

import grpc

from tallystick import _wire, aio, fabric
from tallystick.fabric._wire import envelope, read_identity
from tallystick.fabric.block import ENDORSER_TRANSACTION, ChaincodeEvent, FilteredBlock, data_hash, header_hash
from tallystick.fabric.channel import MESSAGE_BYTES_MAX
from tallystick.fabric.errors import ErrorDetail, status_bytes
from tallystick.fabric.identity import Identity
from tallystick.fabric.network import LEDGER_CHAINCODE
from tallystick.fabric.status import ValidationCode

__all__ = [
    "END",
    "WAIT",
    "BlocksAsked",
    "Endorsed",
    "EventsAsked",
    "Proposed",
    "Refusal",
    "Script",
    "StatusAsked",
    "StubGateway",
    "Submitted",
    "Verdict",
]


class _Sign(Enum):
    WAIT = "wait"
    END = "end"


WAIT = _Sign.WAIT
"""As an answer: none, until the client gives up."""
END = _Sign.END
"""As the last item of a stream: the server ends it with success. Otherwise it stays open until the client leaves."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is a gRPC error, with what each node said."""

    code: grpc.StatusCode
    message: str
    details: tuple[ErrorDetail, ...] = ()


@dataclass(frozen=True, slots=True)
class Endorsed:
    """An endorsement: the contract's answer and, if any, its event."""

    result: bytes = b""
    event_name: str = ""
    event_payload: bytes = b""
    channel: str = ""
    """Only to play a gateway that answers for another channel."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A commit status."""

    code: int = ValidationCode.VALID
    block_number: int = 1


@dataclass(frozen=True, slots=True)
class Proposed:
    """A recorded proposal, of evaluate or endorse.

    `timeout` in this and the others: seconds the client gave, None: any.
    """

    transaction_id: str
    channel: str
    chaincode: str
    arguments: tuple[bytes, ...]
    transient: dict[str, bytes]
    endorsing_organizations: tuple[str, ...]
    identity: Identity
    creator: bytes
    nonce: bytes
    proposal: bytes
    signature: bytes
    timeout: float | None
    message: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Submitted:
    """A recorded submit: the envelope's payload and signature."""

    transaction_id: str
    channel: str
    payload: bytes
    signature: bytes
    timeout: float | None


@dataclass(frozen=True, slots=True)
class StatusAsked:
    """A recorded commit status request; `request` is what was signed."""

    transaction_id: str
    channel: str
    identity: Identity
    request: bytes
    signature: bytes
    timeout: float | None


@dataclass(frozen=True, slots=True)
class EventsAsked:
    """A recorded request for chaincode events. start_block None: from the next commit."""

    channel: str
    chaincode: str
    start_block: int | None
    after_transaction_id: str
    identity: Identity
    request: bytes
    signature: bytes
    timeout: float | None


@dataclass(frozen=True, slots=True)
class BlocksAsked:
    """A recorded Deliver request; `payload` is what was signed."""

    channel: str
    start_block: int | None
    stop_block: int | None
    identity: Identity
    tls_certificate_hash: bytes
    payload: bytes
    signature: bytes
    timeout: float | None


R = TypeVar("R")


class Script(Generic[R]):
    """Answers of one method, and the requests it received."""

    def __init__(self, record: bool = True) -> None:
        self.requests: list[R] = []
        self._record = record
        self._answers: deque[Any] = deque()
        self._lock = threading.Lock()

    def answer(self, *answers: Any) -> None:
        """Use these answers, one per request; the last one stays. An answer may be a function of the request."""
        with self._lock:
            self._answers = deque(answers)

    def take(self, request: R, default: Any) -> Any:
        """Record the request and give its answer."""
        with self._lock:
            if self._record:
                self.requests.append(request)
            answer = default
            if self._answers:
                answer = self._answers.popleft() if len(self._answers) > 1 else self._answers[0]
        return answer(request) if callable(answer) else answer


@dataclass(frozen=True, slots=True)
class _Committed:
    number: int
    block: bytes
    header_hash: bytes
    filtered: bytes
    events: tuple[tuple[str, str, str, bytes], ...]


class _Chain:
    """The blocks of the stub: a genesis block of its own, then one per submitted transaction."""

    def __init__(self, name: str) -> None:
        self.changed = threading.Condition()
        self.blocks: list[_Committed] = []
        self.positions: dict[str, Verdict] = {}
        self._append(name, [envelope(name.encode(), b"")], b"\x00", [], [])

    def commit(self, request: Submitted, code: int) -> None:
        submitted = envelope(request.payload, request.signature)
        event = _wire.envelope_event(submitted)
        filtered = [(request.transaction_id, ENDORSER_TRANSACTION, code, [event[:3]] if event else [])]
        with self.changed:
            if request.transaction_id in self.positions:
                return
            self.positions[request.transaction_id] = Verdict(code, len(self.blocks))
            events = [event] if event and code == ValidationCode.VALID else []
            self._append(request.channel, [submitted], bytes([code]), filtered, events)
            self.changed.notify_all()

    def _append(self, channel: str, envelopes: list[bytes], codes: bytes, filtered: Any, events: Any) -> None:
        number = len(self.blocks)
        previous = self.blocks[-1].header_hash if self.blocks else b""
        digest = data_hash(envelopes)
        self.blocks.append(
            _Committed(
                number,
                _wire.block(number, previous, digest, envelopes, codes),
                header_hash(number, previous, digest),
                _wire.filtered_block(channel, number, filtered),
                tuple(events),
            )
        )

    def follow(self, start: int | None, alive: Callable[[], bool]) -> Iterator[_Committed]:
        number = len(self.blocks) if start is None else start
        while True:
            with self.changed:
                # Short waits, because the end of the call does not notify this condition.
                while alive() and number >= len(self.blocks):
                    self.changed.wait(0.05)
            if not alive():
                return
            yield self.blocks[number]
            number += 1


class StubGateway:
    """An in-process gateway on a free port of the loopback interface. Use it in a `with` block or call `stop`.

    Scripts: `evaluate` (answers: bytes), `endorse` (bytes or Endorsed), `submit` (None), `commit_status` (Verdict or
    a ValidationCode), `chaincode_events` (a sequence of ChaincodeEvent), `deliver`, `deliver_filtered`,
    `deliver_private` (a sequence of serialised blocks, FilteredBlock or status numbers). In place of each: Refusal,
    WAIT, or a function of the request. Questions to qscc are answered from the stub's own blocks and recorded in
    `ledger_queries`. `network_name` makes the genesis block, and with it the network id, different. `code` is the
    verdict on everything that is submitted. Pass tls=(certificate, key) in PEM to serve TLS, and client_ca for mutual
    TLS. With record=False it keeps neither requests nor blocks, for load that never ends. Each open stream or waiting
    call holds one of `workers`.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        network_name: str = "stub",
        tls: tuple[bytes, bytes] | None = None,
        client_ca: bytes | None = None,
        workers: int = 64,
        record: bool = True,
    ) -> None:
        self.evaluate: Script[Proposed] = Script(record)
        self.endorse: Script[Proposed] = Script(record)
        self.submit: Script[Submitted] = Script(record)
        self.commit_status: Script[StatusAsked] = Script(record)
        self.chaincode_events: Script[EventsAsked] = Script(record)
        self.deliver: Script[BlocksAsked] = Script(record)
        self.deliver_filtered: Script[BlocksAsked] = Script(record)
        self.deliver_private: Script[BlocksAsked] = Script(record)
        self.ledger_queries: list[Proposed] = []
        self.code: int = ValidationCode.VALID
        self._record = record
        self._chain = _Chain(network_name)
        self._streams = 0
        self._lock = threading.Lock()
        self._server = grpc.server(
            ThreadPoolExecutor(workers, thread_name_prefix="stub-gateway"),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ],
        )
        self._server.add_generic_rpc_handlers(self._handlers())
        if tls is None:
            self._port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        else:
            credentials = grpc.ssl_server_credentials(
                [(tls[1], tls[0])], root_certificates=client_ca, require_client_auth=client_ca is not None
            )
            self._port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        self._server.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def target(self) -> str:
        """`host:port`, as `channel` takes it."""
        return f"127.0.0.1:{self._port}"

    @property
    def network_id(self) -> str:
        """Header hash of the stub's block 0."""
        return self._chain.blocks[0].header_hash.hex()

    @property
    def open_streams(self) -> int:
        """Event streams that clients hold open now."""
        with self._lock:
            return self._streams

    def channel(self) -> fabric.Channel:
        """A channel to it, for a stub without TLS."""
        return fabric.channel(self.target, insecure=True)

    def aio_channel(self) -> aio.Channel:
        """A channel to it for asyncio, for a stub without TLS."""
        return aio.channel(self.target, insecure=True)

    def stop(self, grace: float | None = None) -> None:
        """Stop serving: calls and streams that are open end after `grace` seconds, at once by default."""
        self._server.stop(grace).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- the service

    def _handlers(self) -> tuple[Any, ...]:
        gateway = {
            "Evaluate": grpc.unary_unary_rpc_method_handler(self._evaluate),
            "Endorse": grpc.unary_unary_rpc_method_handler(self._endorse),
            "Submit": grpc.unary_unary_rpc_method_handler(self._submit),
            "CommitStatus": grpc.unary_unary_rpc_method_handler(self._commit_status),
            "ChaincodeEvents": grpc.unary_stream_rpc_method_handler(self._chaincode_events),
        }
        deliver = {
            "Deliver": self._deliver(self.deliver, "block", lambda block: block.block),
            "DeliverFiltered": self._deliver(self.deliver_filtered, "filtered_block", lambda block: block.filtered),
            "DeliverWithPrivateData": self._deliver(
                self.deliver_private, "block_and_private_data", lambda block: _wire.block_and_private_data(block.block)
            ),
        }
        return (
            grpc.method_handlers_generic_handler("gateway.Gateway", gateway),
            grpc.method_handlers_generic_handler("protos.Deliver", deliver),
        )

    def _evaluate(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        request = _proposed(message, context)
        if request.chaincode == LEDGER_CHAINCODE:
            self.ledger_queries.append(request)
            return _wire.evaluate_response(self._ledger_answer(request, context))
        return _wire.evaluate_response(_settled(self.evaluate.take(request, b""), context))

    def _ledger_answer(self, request: Proposed, context: grpc.ServicerContext) -> bytes:
        blocks, function = self._chain.blocks, request.arguments[0]
        match function, *request.arguments[2:]:
            case b"GetChainInfo", *_:
                previous = blocks[-2].header_hash if len(blocks) > 1 else b""
                return _wire.chain_info(len(blocks), blocks[-1].header_hash, previous)
            case b"GetBlockByNumber", number if int(number) < len(blocks):
                return blocks[int(number)].block
            case b"GetBlockByHash", digest:
                found = [block.block for block in blocks if block.header_hash == digest]
            case b"GetBlockByTxID" | b"GetTransactionByID", transaction_id:
                verdict = self._chain.positions.get(transaction_id.decode())
                found = [blocks[verdict.block_number].block] if verdict else []
                if verdict and function == b"GetTransactionByID":
                    committed = fabric.Block.from_bytes(found[0]).transactions[0]
                    return _wire.processed_transaction(committed.envelope, verdict.code)
            case _:
                found = []
        if not found:
            text = f"chaincode response 500, Failed to answer {function.decode()}: not found"
            _refuse(Refusal(grpc.StatusCode.UNKNOWN, text), context)
        return found[0]

    def _endorse(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        request = _proposed(message, context)
        answer = _settled(self.endorse.take(request, b""), context)
        endorsed = answer if isinstance(answer, Endorsed) else Endorsed(answer)
        event = (endorsed.event_name, endorsed.event_payload) if endorsed.event_name else None
        call = _wire.read_call(message)
        return _wire.endorse_response(call, endorsed.result, event, endorsed.channel or call.channel)

    def _submit(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        request = Submitted(*_wire.read_submit(message), _remaining(context))
        _settled(self.submit.take(request, None), context)
        if self._record:
            self._chain.commit(request, self.code)
        return b""

    def _commit_status(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        transaction_id, channel, identity, signed, signature = _wire.read_status_request(message)
        request = StatusAsked(transaction_id, channel, _identity(identity), signed, signature, _remaining(context))
        known = self._chain.positions.get(transaction_id, Verdict())
        answer = _settled(self.commit_status.take(request, known), context)
        verdict = answer if isinstance(answer, Verdict) else Verdict(answer)
        return _wire.commit_status_response(verdict.code, verdict.block_number)

    def _chaincode_events(self, message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        channel, chaincode, start, after, identity, signed, signature = _wire.read_events_request(message)
        request = EventsAsked(
            channel, chaincode, start, after, _identity(identity), signed, signature, _remaining(context)
        )
        answer = _settled(self.chaincode_events.take(request, None), context)
        with _Open(self, context):
            if answer is None:
                for block in self._chain.follow(start, context.is_active):
                    events = [event for event in block.events if event[1] == chaincode]
                    if events:
                        yield _wire.chaincode_events_response(block.number, events)
                return
            yield from _scripted(answer, _event_message, context)

    def _deliver(self, script: Script[BlocksAsked], kind: str, part: Callable[[_Committed], bytes]) -> Any:
        def answer(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            channel, start, stop, creator, tls_hash, payload, signature = _wire.read_seek(next(messages))
            request = BlocksAsked(
                channel, start, stop, _identity(creator), tls_hash, payload, signature, _remaining(context)
            )
            scripted = _settled(script.take(request, None), context)
            with _Open(self, context):
                if scripted is None:
                    for block in self._chain.follow(start, context.is_active):
                        yield _wire.deliver_response(kind, part(block))
                    return
                yield from _scripted(scripted, lambda item: _deliver_message(kind, item), context)

        return grpc.stream_stream_rpc_method_handler(answer)

    def stream_opened(self, change: int) -> None:
        """Count a stream that a client opened (1) or left (-1)."""
        with self._lock:
            self._streams += change


class _Open:
    """One open stream of a client."""

    def __init__(self, stub: StubGateway, context: grpc.ServicerContext) -> None:
        self._stub = stub
        self._context = context

    def __enter__(self) -> None:
        self._stub.stream_opened(1)

    def __exit__(self, *_: object) -> None:
        self._stub.stream_opened(-1)


def _scripted(items: Any, message: Callable[[Any], bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    for item in items:
        if item is END:
            return
        if isinstance(item, Refusal):
            _refuse(item, context)
        if item is WAIT:
            break
        yield message(item)
    _wait(context)


def _event_message(item: ChaincodeEvent | tuple[ChaincodeEvent, ...] | bytes) -> bytes:
    if isinstance(item, bytes):
        return item
    events = (item,) if isinstance(item, ChaincodeEvent) else item
    rows = [(event.transaction_id, event.chaincode, event.name, event.payload) for event in events]
    return _wire.chaincode_events_response(events[0].block_number, rows)


def _deliver_message(kind: str, item: bytes | int | FilteredBlock | tuple[str, bytes]) -> bytes:
    if isinstance(item, FilteredBlock):
        rows = [
            (
                transaction.transaction_id,
                transaction.type,
                int(transaction.validation_code),
                [(event.transaction_id, event.chaincode, event.name) for event in transaction.events],
            )
            for transaction in item.transactions
        ]
        return _wire.deliver_response("filtered_block", _wire.filtered_block(item.channel, item.number, rows))
    if isinstance(item, tuple):
        return _wire.deliver_response(*item)
    return _wire.deliver_response(kind, item)


def _proposed(message: bytes, context: grpc.ServicerContext) -> Proposed:
    call = _wire.read_call(message)
    return Proposed(
        transaction_id=call.transaction_id,
        channel=call.channel,
        chaincode=call.chaincode,
        arguments=call.arguments,
        transient=call.transient,
        endorsing_organizations=call.organizations,
        identity=_identity(call.creator),
        creator=call.creator,
        nonce=call.nonce,
        proposal=call.proposal,
        signature=call.signature,
        timeout=_remaining(context),
        message=message,
    )


def _identity(creator: bytes) -> Identity:
    return Identity(*read_identity(creator))


def _remaining(context: grpc.ServicerContext) -> float | None:
    seconds = context.time_remaining()
    return None if seconds is None or seconds > 1e8 else seconds


def _settled(answer: Any, context: grpc.ServicerContext) -> Any:
    """The answer, unless it is a refusal or none at all."""
    if isinstance(answer, Refusal):
        _refuse(answer, context)
    if answer is WAIT:
        _wait(context)
    return answer


def _refuse(refusal: Refusal, context: grpc.ServicerContext) -> NoReturn:
    if refusal.details:
        details = (_wire.error_detail(detail.address, detail.msp_id, detail.message) for detail in refusal.details)
        status = status_bytes(refusal.code.value[0], refusal.message, details)
        context.set_trailing_metadata((("grpc-status-details-bin", status),))
    context.abort(refusal.code, refusal.message)
    raise AssertionError("abort does not return")


def _wait(context: grpc.ServicerContext) -> None:
    ended = threading.Event()
    if context.add_callback(ended.set):
        ended.wait()
