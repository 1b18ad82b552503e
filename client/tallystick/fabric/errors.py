"""Everything that this library raises.

    FabricError
    ├── GatewayError            the gateway refused, failed or could not be reached; one class per stage
    │   ├── EvaluateError       nothing was changed
    │   ├── EndorseError        nothing was ordered
    │   ├── SubmitError         see `outcome_unknown`
    │   ├── CommitStatusError   the transaction is ordered; whether it is valid is not known yet
    │   └── EventError          a stream of events ended
    ├── CommitError             the transaction is on the ledger and invalid: it changed nothing
    ├── SigningError            no signer and no signature, or a signature that cannot be used
    ├── IdentityError           certificate or key cannot be read, or do not belong together
    ├── DecodeError             bytes are not the object they were given as
    └── CheckpointError         a checkpoint is broken, in use, or of another network

Every GatewayError is raised `from` the gRPC error that it explains.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message

if TYPE_CHECKING:
    from tallystick.fabric.status import ValidationCode

__all__ = [
    "CheckpointError",
    "CommitError",
    "CommitStatusError",
    "ContractAnswer",
    "DecodeError",
    "EndorseError",
    "ErrorDetail",
    "EvaluateError",
    "EventError",
    "FabricError",
    "GatewayError",
    "IdentityError",
    "SigningError",
    "SubmitError",
]


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """What one endorsing or ordering node said: its address, its organisation's MSP id, its message."""

    address: str
    msp_id: str
    message: str


@dataclass(frozen=True, slots=True)
class ContractAnswer:
    """A contract's own error: its status (400 and above) and its text."""

    status: int
    message: str


class FabricError(Exception):
    """Base of everything this library raises."""


class SigningError(FabricError):
    """An object has to be signed and there is neither a signer nor a usable signature."""


class IdentityError(FabricError):
    """A certificate or private key cannot be read or used, or the two do not belong together."""


class DecodeError(FabricError):
    """Bytes are not the object they were given as."""


class CheckpointError(FabricError):
    """A checkpoint cannot be read or written, is in use by another process, or belongs to another network."""


# Both texts are part of what Fabric's peers send (internal/peer/node/grpc_limiters.go,
# internal/pkg/gateway/apiutils.go).
_OVERLOAD = re.compile(r"too many requests for \S+, exceeding concurrency limit")
_CONTRACT_ANSWER = re.compile(r"chaincode response (\d+), (.*)", re.DOTALL)
_MISMATCH = "ProposalResponsePayloads do not match"
_TRANSIENT_DETAIL = re.compile(
    r"stream terminated|code = Unavailable|connection error|transport is closing|too many requests for", re.IGNORECASE
)


class GatewayError(FabricError):
    """A call to the gateway failed. `code` is the gRPC status code, `details` what each node said (often empty)."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        details: Iterable[ErrorDetail] = (),
        transaction_id: str | None = None,
        *,
        hash_name: str | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.transaction_id = transaction_id
        self._hash_name = hash_name
        super().__init__(message)
        self._note_hint()

    def _note_hint(self) -> None:
        """Let a traceback show the hint: who reads one has not asked for `hint`."""
        if self.hint:
            self.add_note(f"Hint: {self.hint}")

    def __str__(self) -> str:
        parts = [f"{self.code.name}: {self.message}"]
        for detail in self.details:  # on evaluate the only detail repeats the message
            said = "" if detail.message in self.message else f": {detail.message}"
            parts.append(f"{detail.msp_id} {detail.address}{said}")
        if self.transaction_id:
            parts.append(f"transaction {self.transaction_id}")
        return "; ".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.details, self.transaction_id)

    @property
    def contract_answers(self) -> tuple[ContractAnswer, ...]:
        """The contract's own errors, one per different answer: of the message on evaluate, of the details on submit.

        Empty when the failure is not the contract's. More than one: the endorsing peers disagreed.
        """
        texts = [self.message, *(detail.message for detail in self.details)]
        found = (_CONTRACT_ANSWER.search(text) for text in texts)
        answers = (ContractAnswer(int(match[1]), match[2]) for match in found if match)
        return tuple(dict.fromkeys(answers))

    @property
    def contract_answer(self) -> ContractAnswer | None:
        """The contract's own error (status and text), or None when the failure is not the contract's."""
        return next(iter(self.contract_answers), None)

    @property
    def overloaded(self) -> bool:
        """Whether the peer refused the call because too many are open: nothing was done, the call may be repeated."""
        return self.code is grpc.StatusCode.UNKNOWN and bool(_OVERLOAD.search(self.message))

    @property
    def mismatch(self) -> bool:
        """Whether endorsing peers answered differently: they stood at different heights, or the contract is not
        deterministic.
        """
        return any(_MISMATCH in text for text in (self.message, *(detail.message for detail in self.details)))

    @property
    def retryable(self) -> bool:
        """Whether repeating this step is safe and may help. `Retry.safe()` repeats exactly these."""
        return self.overloaded or self.code is grpc.StatusCode.UNAVAILABLE

    @property
    def hint(self) -> str | None:
        """What to look at, for refusals whose text does not say it; None when there is nothing to add."""
        texts = "\n".join((self.message, *(detail.message for detail in self.details)))
        for pattern, hint in _HINTS:
            if pattern.search(texts):
                return hint.format(hash=self._hash_name or "the default")
        return None


_HINTS = tuple(
    (re.compile(pattern, re.IGNORECASE), hint)
    for pattern, hint in (
        (
            r"creator org unknown",
            "The MSP id is not of this channel, or the certificate was not issued by that organisation's authority.",
        ),
        (
            r"access denied.*creator org",
            "In order of likelihood: (1) the hash does not go with the key and the channel (signed with {hash}; SHA-256"
            " for P-256 and P-384, NONE for Ed25519); (2) a signature with high S (use signers.normalise); (3) the"
            " certificate has expired or is not of this MSP; (4) a channel capability is missing (Ed25519 needs V3_0).",
        ),
        (r"client identity expired", "The certificate has expired: enrol again."),
        (r"incorrect timestamp", "The clocks of this machine and the peer differ by more than the peer allows."),
        (
            _OVERLOAD.pattern,
            "The peer is at its limit of open calls: repeat with back-off, and close event streams that are not read.",
        ),
        (
            _MISMATCH,
            "The peers stood at different heights (then a new proposal succeeds), or the contract is not"
            " deterministic (then the same answer comes every time).",
        ),
        (
            r"no peers available to evaluate chaincode|No metadata was found for chaincode"
            r"|has been successfully defined on channel",
            "No such chaincode is committed on the channel, or no reachable peer runs it: check both names.",
        ),
        (
            r"find any endorsing peers for org|retry specifying|no combination of peers can be derived"
            r"|no peer combination can satisfy",
            "Name the organisations that shall endorse with endorsing_organizations (MSP ids); check that their peers"
            " are up.",
        ),
        (
            r"failed to get config for channel|policy manager for channel|channel '.*' not found"
            r"|channel does not exist",
            "The peer has not joined a channel of that name.",
        ),
        (
            r"Failed evaluating policy on signed data",
            "The identity is not a reader of the channel: check its MSP id, role and expiry.",
        ),
        (
            r"tls.*cert.*hash|tls cert hash",
            "Block events under mutual TLS need the hash of the client certificate: build the channel with"
            " channel(...), or give connect(tls_certificate_hash=SHA-256 of the certificate's DER).",
        ),
        # What gRPC says when the connection cannot be made.
        (
            r"CERTIFICATE_VERIFY_FAILED",
            "The peer's TLS certificate is not of this authority: tls_ca is the certificate of the organisation's TLS"
            " authority, which is another than the one that enrols users.",
        ),
        (
            r"Hostname Verification Check failed",
            "The peer's TLS certificate holds another name: give channel(server_name=...) one that is in it.",
        ),
        (r"WRONG_VERSION_NUMBER", "The peer does not speak TLS at this port: check the port, or use insecure=True."),
        (
            r"CERTIFICATE_REQUIRED|failed to connect.*Socket closed|failed to connect.*Connection reset",
            "Something is there but hangs up: a peer with TLS (then not insecure=True), one that demands client"
            " certificates (client_certificate and client_key), or no peer at all.",
        ),
        (r"Connection refused", "Nothing listens there: check host and port, and that the peer is running."),
        (r"errors resolving", "The host's name is not known here: check the target, `host:port`."),
    )
)


class EvaluateError(GatewayError):
    """The query failed. Nothing was changed."""


class EndorseError(GatewayError):
    """The transaction was not endorsed. Nothing was ordered, so a new proposal is always safe."""

    @property
    def retryable(self) -> bool:
        """As of every stage; also past its deadline, and when all that the endorsers reported was that they were
        unreachable.
        """
        if super().retryable or self.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return True
        if self.code is not grpc.StatusCode.ABORTED or self.contract_answer is not None:
            return False
        return any(_TRANSIENT_DETAIL.search(detail.message) for detail in self.details)


# Codes with which a peer or orderer says that it did not take the envelope (gateway/submit.go; a failed broadcast is
# ABORTED).
_REFUSALS = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class SubmitError(GatewayError):
    """The endorsed transaction could not be handed to the ordering service, or its answer did not arrive."""

    not_sent = False
    """Whether the call never left this client (no free slot, closed channel, no time left)."""

    @property
    def outcome_unknown(self) -> bool:
        """Whether the transaction may have been ordered all the same.

        If so, ask for the status of this transaction id or send the same transaction again; never propose anew.
        """
        return not self.not_sent and self.code not in _REFUSALS and not self.overloaded

    @property
    def retryable(self) -> bool:
        """Whether the *same signed transaction* may be sent again. Never a new proposal."""
        return self.overloaded or self.outcome_unknown


class CommitStatusError(GatewayError):
    """The commit status could not be had: the transaction is ordered, its outcome is unknown.

    Ask again for the same id.
    """

    @property
    def outcome_unknown(self) -> bool:
        """Always true: the transaction was accepted for ordering before its status was asked."""
        return True

    @property
    def retryable(self) -> bool:
        """As of every stage, and past the deadline: the transaction may not be committed yet."""
        return super().retryable or self.code is grpc.StatusCode.DEADLINE_EXCEEDED

    @property
    def hint(self) -> str | None:
        """What to look at; past the deadline why a peer may have no verdict."""
        if self.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return "Not committed yet, never ordered, or the peer is behind: ask again for the same transaction id."
        return super().hint


# common.Status (Fabric's numbers follow HTTP) to the gRPC code of the same meaning.
_DELIVER_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    503: grpc.StatusCode.UNAVAILABLE,
}


class EventError(GatewayError):
    """A stream of events failed or could not be opened. Open a new one from the checkpoint.

    `deliver_status` is Fabric's own status (400, 403, 404, 503 …) when a block stream ended with one, else None.
    """

    deliver_status: int | None = None

    @classmethod
    def from_deliver_status(cls, status: int, name: str) -> "EventError":
        """The error for a Deliver stream that ended with a status other than success."""
        reasons = {
            400: "a malformed request, a wrong TLS certificate hash, or a clock outside the peer's window",
            403: "the identity may not read this channel, or has expired",
            404: "unknown channel, or a start block beyond the next one",
            503: "the peer's ledger is not available",
        }
        text = f"the stream of blocks ended with status {status} {name}"
        error = cls(_DELIVER_CODES.get(status, grpc.StatusCode.UNKNOWN), text)
        error.deliver_status = status
        error._reason = reasons.get(status)
        error._note_hint()
        return error

    _reason: str | None = None

    @property
    def hint(self) -> str | None:
        """What to look at; for a Deliver status what it usually means."""
        return self._reason or super().hint


class CommitError(FabricError):
    """The transaction was committed with a code other than VALID: it is on the ledger and changed nothing."""

    def __init__(self, code: "ValidationCode", transaction_id: str, block_number: int) -> None:
        self.code = code
        self.transaction_id = transaction_id
        self.block_number = block_number
        super().__init__(f"transaction {transaction_id} is invalid in block {block_number}: {code.name} ({int(code)})")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.transaction_id, self.block_number)


def _status_message() -> type[Message]:
    """google.rpc.Status in a pool of its own: the official messages lack it, and the default pool may hold another
    copy.
    """
    pool = descriptor_pool.DescriptorPool()
    field = descriptor_pb2.FieldDescriptorProto
    any_file = descriptor_pb2.FileDescriptorProto(name="any.proto", package="google.protobuf", syntax="proto3")
    any_message = any_file.message_type.add(name="Any")
    any_message.field.add(name="type_url", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    any_message.field.add(name="value", number=2, type=field.TYPE_BYTES, label=field.LABEL_OPTIONAL)
    file = descriptor_pb2.FileDescriptorProto(
        name="status.proto", package="google.rpc", syntax="proto3", dependency=["any.proto"]
    )
    status = file.message_type.add(name="Status")
    status.field.add(name="code", number=1, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    status.field.add(name="message", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    status.field.add(
        name="details",
        number=3,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_REPEATED,
        type_name=".google.protobuf.Any",
    )
    pool.Add(any_file)  # type: ignore[no-untyped-call]
    pool.Add(file)  # type: ignore[no-untyped-call]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("google.rpc.Status"))  # type: ignore[no-untyped-call]


_Status: Any = _status_message()
_DETAIL_URL = "type.googleapis.com/gateway.ErrorDetail"


def status_bytes(code: int, message: str, details: Iterable[bytes]) -> bytes:
    """`google.rpc.Status` as a peer puts it in the trailer; details are serialised `gateway.ErrorDetail` messages."""
    status = _Status(code=code, message=message)
    for detail in details:
        status.details.add(type_url=_DETAIL_URL, value=detail)
    serialised: bytes = status.SerializeToString()
    return serialised


def status_details(data: bytes) -> list[bytes]:
    """The serialised `gateway.ErrorDetail` messages in a `google.rpc.Status`; [] when the bytes cannot be read."""
    try:
        status = _Status.FromString(data)
    except ProtobufDecodeError:
        return []
    return [detail.value for detail in status.details if detail.type_url == _DETAIL_URL]
