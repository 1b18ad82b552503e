"""The client without its input and output: what both interfaces, synchronous and asyncio, are made of.

Each step of the flow is a generator. It yields what has to be done outside (`Sign`, `Call`, `Pause`), is sent the
answer or thrown the gRPC error, and returns the result. `fabric/_edge.py` and `aio/_edge.py` carry the generators
out; no rule is written in either.
"""

import hashlib
import os
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from tallystick.fabric import _wire
from tallystick.fabric._retry import Retry
from tallystick.fabric.errors import (
    CommitStatusError,
    DecodeError,
    EndorseError,
    ErrorDetail,
    EvaluateError,
    EventError,
    GatewayError,
    SubmitError,
    status_details,
)
from tallystick.fabric.hashing import Hash
from tallystick.fabric.identity import Identity
from tallystick.fabric.status import Status, ValidationCode

# The classes below have a property named `bytes`, which hides the type inside their bodies.
_Bytes = bytes

T = TypeVar("T")
E = TypeVar("E", bound=GatewayError)


# A peer (grpc-go) resets a call at the deadline. When that arrives before our own clock strikes, gRPC says CANCELLED.
_RESET = "RST_STREAM with error code 8"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that each stage may take. `events` bounds a whole stream: None, the default, lets it run until closed."""

    evaluate: float = 5.0
    endorse: float = 15.0
    submit: float = 5.0
    commit_status: float = 60.0
    events: float | None = None


DEFAULT_TIMEOUTS = Timeouts()


@dataclass(slots=True)
class Sign:
    """To be done outside: sign this digest; the answer is the signature."""

    digest: bytes


@dataclass(slots=True)
class Call:
    """To be done outside: this unary call; the answer is the response's bytes, a failure is thrown as grpc.RpcError."""

    method: str
    request: bytes
    timeout: float


@dataclass(slots=True)
class Pause:
    """To be done outside: wait."""

    seconds: float


Steps = Generator[Sign | Call | Pause, Any, T]


class NotSent(grpc.RpcError):
    """A call that never left the client; looks like gRPC's own errors to whoever explains it."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self._code = code
        self._text = text

    def code(self) -> grpc.StatusCode:
        """The status code it stands for."""
        return self._code

    def details(self) -> str:
        """Why it was not sent."""
        return self._text

    def trailing_metadata(self) -> tuple[()]:
        """Nothing: no peer answered."""
        return ()


def explain(kind: type[E], error: Any, transaction_id: str | None = None, hash_option: Hash | None = None) -> E:
    """The error of a stage for a gRPC error, with the details that peers attached. Raise it `from` the gRPC error."""
    trailer = next((value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"), b"")
    code, text = error.code() or grpc.StatusCode.UNKNOWN, error.details() or ""
    if code is grpc.StatusCode.CANCELLED and _RESET in text:
        code = grpc.StatusCode.DEADLINE_EXCEEDED
    return kind(
        code,
        text,
        (ErrorDetail(*detail) for detail in _wire.detail_messages(status_details(trailer))),
        transaction_id,
        hash_name=hash_option.name if hash_option else None,
    )


class Deadline:
    """What is left of a budget that several calls share. Without a budget each call has its stage's own timeout."""

    __slots__ = ("_end",)

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self, stage: float) -> float:
        """Seconds that a stage may take: its own timeout, or all that is left of the budget; 0 when that is spent."""
        return stage if self._end is None else max(0.0, self._end - time.monotonic())

    def at_most(self, seconds: float) -> float:
        """These seconds, or what is left of the budget if that is less."""
        return min(seconds, self.left(seconds))

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        return self._end is not None and time.monotonic() >= self._end


@dataclass(frozen=True, slots=True)
class Settings:
    """What every object of one gateway shares. `edge` carries out the steps; its type is the interface's own."""

    identity: Identity
    creator: bytes
    hash: Hash
    tls_certificate_hash: bytes
    timeouts: Timeouts
    retry: Retry
    edge: Any


def gateway_settings(
    identity: Identity,
    signer: object,
    hash_option: Hash | None,
    tls_certificate_hash: bytes,
    timeouts: Timeouts,
    retry: Retry,
    edge: object,
) -> Settings:
    """Settings of a gateway. Raises IdentityError when the signer holds another key than the certificate's."""
    if not isinstance(hash_option, Hash | None):
        raise TypeError(f"hash is a member of Hash, not {hash_option!r}")
    if signer is not None:
        identity.check_signer(signer)
    return Settings(
        identity=identity,
        creator=identity.serialized,
        hash=hash_option if hash_option is not None else identity.default_hash(),
        tls_certificate_hash=tls_certificate_hash,
        timeouts=timeouts,
        retry=retry,
        edge=edge,
    )


class Signable:
    """Something that is signed before it is sent. Signed lazily, and only if it is unsigned."""

    __slots__ = ("_digest", "_message", "_settings", "_signature")

    def __init__(self, settings: Settings, message: bytes, signature: bytes) -> None:
        self._settings = settings
        self._message = message
        self._signature = signature
        self._digest: bytes | None = None

    @property
    def digest(self) -> bytes:
        """What a signer elsewhere has to sign: the hash of the signed part (the part itself with hash NONE)."""
        if self._digest is None:
            self._digest = self._settings.hash.digest(self._message)
        return self._digest

    def _signed(self) -> Steps[bytes]:
        if not self._signature:
            self._signature = yield Sign(self.digest)
        return self._signature


class ProposalCore(Signable):
    """A transaction as proposed: function, arguments and transient data under a fresh transaction id."""

    __slots__ = ("channel", "endorsing_organizations", "transaction_id")

    def __init__(self, settings: Settings, proposed: _wire.ProposedTransaction) -> None:
        super().__init__(settings, proposed.proposal, proposed.signature)
        self.transaction_id = proposed.transaction_id
        self.channel = proposed.channel
        self.endorsing_organizations = proposed.endorsing_organizations

    @property
    def bytes(self) -> _Bytes:
        """`gateway.ProposedTransaction`, to be stored or signed elsewhere; `gateway.proposal` reads it back."""
        return _wire.proposed_transaction(
            self.transaction_id, self._message, self._signature, self.endorsing_organizations
        )

    def _request(self) -> Steps[_Bytes]:
        signature = yield from self._signed()
        return _wire.call_request(
            self.channel, self.transaction_id, self._message, signature, self.endorsing_organizations
        )

    def _evaluation(self, timeout: float | None) -> Steps[_Bytes]:
        request = yield from self._request()
        seconds = self._settings.timeouts.evaluate if timeout is None else timeout
        try:
            response = yield Call(_wire.EVALUATE, request, seconds)
        except grpc.RpcError as error:
            raise explain(EvaluateError, error, self.transaction_id, self._settings.hash) from error
        return _wire.evaluate_result(response)

    def _endorsement(self, timeout: float | None) -> Steps[_wire.PreparedTransaction]:
        request = yield from self._request()
        seconds = self._settings.timeouts.endorse if timeout is None else timeout
        try:
            response = yield Call(_wire.ENDORSE, request, seconds)
        except grpc.RpcError as error:
            raise explain(EndorseError, error, self.transaction_id, self._settings.hash) from error
        prepared = _wire.read_envelope(*_wire.prepared_of_endorsement(response), self.transaction_id)
        if prepared.channel != self.channel:
            raise DecodeError(f"the gateway answered with a transaction of channel {prepared.channel!r}")
        return prepared


def new_proposal(
    settings: Settings,
    channel: str,
    chaincode: str,
    arguments: Sequence[bytes],
    transient: Mapping[str, bytes],
    endorsing_organizations: Sequence[str],
) -> _wire.ProposedTransaction:
    """An unsigned proposal with a fresh nonce; the transaction id is SHA-256 of nonce and creator, whatever the hash
    option.
    """
    nonce = os.urandom(24)
    transaction_id = hashlib.sha256(nonce + settings.creator).hexdigest()
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    proposal = _wire.proposal(
        channel=channel,
        chaincode=chaincode,
        arguments=arguments,
        transient=transient,
        creator=settings.creator,
        nonce=nonce,
        transaction_id=transaction_id,
        seconds=seconds,
        nanos=nanos,
    )
    return _wire.ProposedTransaction(transaction_id, channel, proposal, b"", tuple(endorsing_organizations))


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """An unsigned or signed request for the status of one transaction."""

    transaction_id: str
    channel: str
    request: bytes
    signature: bytes


def new_status_request(settings: Settings, channel: str, transaction_id: str) -> StatusRequest:
    """An unsigned request; the transaction may be anyone's."""
    return StatusRequest(
        transaction_id, channel, _wire.commit_status_request(channel, transaction_id, settings.creator), b""
    )


class TransactionCore(Signable):
    """A transaction as endorsed: what the contract answered is known, nothing is ordered yet."""

    __slots__ = ("_result", "channel", "transaction_id")

    def __init__(self, settings: Settings, prepared: _wire.PreparedTransaction) -> None:
        super().__init__(settings, prepared.payload, prepared.signature)
        self.transaction_id = prepared.transaction_id
        self.channel = prepared.channel
        self._result = prepared.result

    @property
    def result(self) -> bytes:
        """What the contract answered. It becomes true only when the transaction is committed as valid."""
        return self._result

    @property
    def status_request(self) -> StatusRequest:
        """The unsigned question how it ended."""
        return new_status_request(self._settings, self.channel, self.transaction_id)

    @property
    def bytes(self) -> _Bytes:
        """`gateway.PreparedTransaction`, to be stored or signed elsewhere; `gateway.transaction` reads it back."""
        return _wire.prepared_transaction(self.transaction_id, self._message, self._signature)

    def _submission(self, timeout: float | None) -> Steps[None]:
        signature = yield from self._signed()
        seconds = self._settings.timeouts.submit if timeout is None else timeout
        request = _wire.submit_request(self.channel, self.transaction_id, self._message, signature)
        try:
            yield Call(_wire.SUBMIT, request, seconds)
        except grpc.RpcError as error:
            explained = explain(SubmitError, error, self.transaction_id, self._settings.hash)
            explained.not_sent = isinstance(error, NotSent)
            raise explained from error


class CommitCore(Signable):
    """The question how a transaction ended."""

    __slots__ = ("channel", "transaction_id")

    def __init__(self, settings: Settings, request: StatusRequest) -> None:
        super().__init__(settings, request.request, request.signature)
        self.transaction_id = request.transaction_id
        self.channel = request.channel

    @property
    def bytes(self) -> _Bytes:
        """`gateway.SignedCommitStatusRequest`, to be stored or signed elsewhere; `gateway.commit` reads it back."""
        return _wire.signed_request(self._message, self._signature)

    def _outcome(self, timeout: float | None) -> Steps[Status]:
        signature = yield from self._signed()
        seconds = self._settings.timeouts.commit_status if timeout is None else timeout
        try:
            response = yield Call(_wire.COMMIT_STATUS, _wire.signed_request(self._message, signature), seconds)
        except grpc.RpcError as error:
            raise explain(CommitStatusError, error, self.transaction_id, self._settings.hash) from error
        code, block_number = _wire.commit_status(response)
        return Status(ValidationCode(code), self.transaction_id, block_number)


class ChaincodeEventsRequestCore(Signable):
    """The wish to receive the events of one chaincode."""

    __slots__ = ("chaincode", "channel")

    def __init__(self, settings: Settings, channel: str, chaincode: str, request: bytes, signature: bytes) -> None:
        super().__init__(settings, request, signature)
        self.channel = channel
        self.chaincode = chaincode

    @property
    def bytes(self) -> _Bytes:
        """`gateway.SignedChaincodeEventsRequest`; `gateway.chaincode_events_request` reads it back."""
        return _wire.signed_request(self._message, self._signature)

    def _opening(self) -> Steps[_Bytes]:
        signature = yield from self._signed()
        return _wire.signed_request(self._message, signature)


class BlockEventsRequestCore(Signable):
    """The wish to receive blocks; which kind is the class of the object."""

    __slots__ = ("channel",)

    def __init__(self, settings: Settings, channel: str, payload: bytes, signature: bytes) -> None:
        super().__init__(settings, payload, signature)
        self.channel = channel

    @property
    def bytes(self) -> _Bytes:
        """`common.Envelope`, to be stored or signed elsewhere; the gateway's loader of the same kind reads it back."""
        return _wire.envelope(self._message, self._signature)

    def _opening(self) -> Steps[_Bytes]:
        signature = yield from self._signed()
        return _wire.envelope(self._message, signature)


def new_block_events_payload(settings: Settings, channel: str, start_block: int | None) -> bytes:
    """Payload of a request for blocks from start_block (None: the next that is committed)."""
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return _wire.block_events_payload(
        channel=channel,
        creator=settings.creator,
        start_block=start_block,
        tls_certificate_hash=settings.tls_certificate_hash,
        seconds=seconds,
        nanos=nanos,
    )


def read_chaincode_events_request(data: bytes, signature: bytes | None) -> tuple[str, str, bytes, bytes]:
    """Channel, chaincode, request and signature of a stored request; a given signature replaces the stored one."""
    channel, chaincode, request, stored = _wire.read_signed_chaincode_events_request(data)
    return channel, chaincode, request, signature or stored


def read_block_events_request(data: bytes, signature: bytes | None) -> tuple[str, bytes, bytes]:
    """Channel, payload and signature of a stored request; a given signature replaces the stored one."""
    channel, payload, stored = _wire.read_block_events_envelope(data)
    return channel, payload, signature or stored


def read_proposal(data: bytes, signature: bytes | None) -> _wire.ProposedTransaction:
    """A stored proposal; a given signature replaces the stored one."""
    read = _wire.read_proposed_transaction(data)
    return _wire.ProposedTransaction(
        read.transaction_id, read.channel, read.proposal, signature or read.signature, read.endorsing_organizations
    )


def read_transaction(data: bytes, signature: bytes | None) -> _wire.PreparedTransaction:
    """A stored transaction; a given signature replaces the stored one (an endorsed transaction arrives without one)."""
    read = _wire.read_prepared_transaction(data)
    return _wire.PreparedTransaction(
        read.transaction_id, read.channel, read.payload, signature or read.signature, read.result
    )


def read_commit(data: bytes, signature: bytes | None) -> StatusRequest:
    """A stored status request; a given signature replaces the stored one."""
    transaction_id, channel, request, stored = _wire.read_signed_commit_status_request(data)
    return StatusRequest(transaction_id, channel, request, signature or stored)


def event_error(error: Any, settings: Settings) -> EventError:
    """The error of an event stream for a gRPC error."""
    return explain(EventError, error, None, settings.hash)
