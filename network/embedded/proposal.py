"""A signed proposal taken apart, with the checks that need nothing but the proposal and the channel's organisations.

Source: core/endorser/msgvalidation.go (`UnpackProposal`, `Validate`) and core/handlers/auth/filter of Fabric v3.1.5;
texts and their order in embedded-network.md A.3, B.1 and B.2.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from fabric_protos.common import common_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2
from google.protobuf.message import DecodeError, Message

from network.embedded import certificate as certificates
from network.embedded.lifecycle import WIRE_FORMAT
from network.embedded.msp import IdentityError, MspManager
from network.embedded.policy import SignedData

_NANOSECONDS: Final = 10**9
_DAY_SECONDS: Final = 86_400
_HEADER_TYPES: Final = (common_pb2.ENDORSER_TRANSACTION, common_pb2.CONFIG)

M = TypeVar("M", bound=Message)


class ProposalError(Exception):
    """The proposal is refused; the text is Fabric's."""


class FilterError(ProposalError):
    """An auth filter in front of the endorser refuses the proposal: the caller gets an error without a response."""


@dataclass(slots=True)
class Proposal:
    """One signed proposal, read once and shared by all peers that are asked to endorse it.

    `chaincode` is the name in the header extension, which is the one that runs; `outermost` the one in the payload's
    spec, which system chaincodes look at. `expires_at_ns` and `timestamp_ns` count from 1970, UTC; an identity that
    cannot be read never expires here, it is refused later. `passed` remembers which checks the proposal has passed.
    """

    message: proposal_pb2.SignedProposal
    chaincode: str
    outermost: str
    channel_header: common_pb2.ChannelHeader
    nonce: bytes
    creator: bytes
    input: chaincode_pb2.ChaincodeInput
    proposal_hash: bytes
    signed: SignedData
    expires_at_ns: int | None
    timestamp_ns: int
    passed: set[str] = field(default_factory=set)

    @property
    def channel(self) -> str:
        """The channel id, empty for a call that concerns the peer alone."""
        return self.channel_header.channel_id

    @property
    def transaction_id(self) -> str:
        """The transaction id as the client wrote it."""
        return self.channel_header.tx_id


def read(message: proposal_pb2.SignedProposal, now_ns: int, window_seconds: float) -> Proposal:
    """Take a signed proposal apart in the order of Fabric's filters and unpacking.

    Raises FilterError for what the filters refuse, expiry and time window included, and ProposalError for the rest.
    """
    proposal = _filtered(proposal_pb2.Proposal, message.proposal_bytes, "proposal")
    header = _filtered(common_pb2.Header, proposal.header, "header")
    signature_header = _filtered(common_pb2.SignatureHeader, header.signature_header, "signature header")
    expires_at_ns = _expiry(signature_header.creator)
    check_expiry(expires_at_ns, now_ns)
    channel_header = _filtered(common_pb2.ChannelHeader, header.channel_header, "channel header")
    timestamp_ns = channel_header.timestamp.seconds * _NANOSECONDS + channel_header.timestamp.nanos
    check_window(timestamp_ns, now_ns, window_seconds)

    extension = _parse(proposal_pb2.ChaincodeHeaderExtension, channel_header.extension)
    if not extension.HasField("chaincode_id"):
        raise ProposalError("ChaincodeHeaderExtension.ChaincodeId is nil")
    if not extension.chaincode_id.name:
        raise ProposalError("ChaincodeHeaderExtension.ChaincodeId.Name is empty")
    payload = _parse(proposal_pb2.ChaincodeProposalPayload, proposal.payload)
    spec = _parse(chaincode_pb2.ChaincodeInvocationSpec, payload.input)
    if not spec.HasField("chaincode_spec"):
        raise ProposalError("chaincode invocation spec did not contain chaincode spec")
    if not spec.chaincode_spec.HasField("input"):
        raise ProposalError("chaincode input did not contain any input")
    public_payload = proposal_pb2.ChaincodeProposalPayload(input=payload.input).SerializeToString()
    hashed = header.channel_header + header.signature_header + public_payload
    return Proposal(
        message=message,
        chaincode=extension.chaincode_id.name,
        outermost=spec.chaincode_spec.chaincode_id.name,
        channel_header=channel_header,
        nonce=signature_header.nonce,
        creator=signature_header.creator,
        input=spec.chaincode_spec.input,
        proposal_hash=hashlib.sha256(hashed).digest(),
        signed=SignedData(message.proposal_bytes, signature_header.creator, message.signature),
        expires_at_ns=expires_at_ns,
        timestamp_ns=timestamp_ns,
    )


def check_expiry(expires_at_ns: int | None, now_ns: int) -> None:
    """Raise FilterError when the creator's certificate is past its end."""
    if expires_at_ns is not None and now_ns > expires_at_ns:
        raise FilterError("proposal client identity expired")


def check_window(timestamp_ns: int, now_ns: int, window_seconds: float) -> None:
    """Raise FilterError when the client's clock and the peer's differ by more than the window."""
    window = round(window_seconds * _NANOSECONDS)
    if abs(now_ns - timestamp_ns) > window:
        raise FilterError(
            f"request unauthorized due to incorrect timestamp {rfc3339(timestamp_ns // _NANOSECONDS)}, "
            f"peer time {rfc3339(now_ns // _NANOSECONDS)}, peer.authentication.timewindow {go_duration(window)}"
        )


def validate(proposal: Proposal, msps: MspManager, local_msp_id: str) -> None:
    """The checks of `UnpackedProposal.Validate` in their order; raises ProposalError without the outer prefix.

    A call without channel is judged by the peer's own organisation, `local_msp_id`.
    """
    header = proposal.channel_header
    if header.type not in _HEADER_TYPES:
        raise ProposalError(f"invalid header type {_header_type(header.type)}")
    if header.epoch != 0:
        raise ProposalError("epoch is non-zero")
    if not proposal.nonce:
        raise ProposalError("nonce is empty")
    if not proposal.creator:
        raise ProposalError("creator is empty")
    expected = hashlib.sha256(proposal.nonce + proposal.creator).hexdigest()
    if header.tx_id != expected:
        raise ProposalError(f"incorrectly computed txid '{header.tx_id}' -- expected '{expected}'")
    if not proposal.message.proposal_bytes:
        raise ProposalError("empty proposal bytes")
    if not proposal.message.signature:
        raise ProposalError("empty signature bytes")
    _validate_creator(proposal, msps, local_msp_id)


def _validate_creator(proposal: Proposal, msps: MspManager, local_msp_id: str) -> None:
    unknown = f"access denied: channel [{proposal.channel}] creator org unknown, creator is malformed"
    try:
        identity = msps.identity(proposal.creator)
    except IdentityError as error:
        if error.malformed or (not proposal.channel and error.msp_id != local_msp_id):
            raise ProposalError(unknown) from error
        raise ProposalError(f"access denied: channel [{proposal.channel}] creator org [{error.msp_id}]") from error
    if not proposal.channel and identity.msp_id != local_msp_id:
        raise ProposalError(unknown)
    if not msps.verify(identity, proposal.message.proposal_bytes, proposal.message.signature):
        raise ProposalError(f"access denied: channel [{proposal.channel}] creator org [{identity.msp_id}]")


def rfc3339(seconds: int) -> str:
    """A time as Go's RFC 3339 layout prints it in UTC; years beyond 9999 too, which clients can send."""
    days, rest = divmod(seconds, _DAY_SECONDS)
    year, month, day = _civil(days)
    sign = "-" if year < 0 else ""
    return f"{sign}{abs(year):04d}-{month:02d}-{day:02d}T{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}Z"


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day count from 1970-01-01 (proleptic Gregorian; eras of 400 years from 1 March)."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1


def go_duration(nanoseconds: int) -> str:
    """A duration of at least a second as Go prints it: `1m0s`, `1h0m0s`, `1.5s`."""
    minutes, rest = divmod(nanoseconds, 60 * _NANOSECONDS)
    whole, part = divmod(rest, _NANOSECONDS)
    seconds = f"{whole}.{part:09d}".rstrip("0") if part else str(whole)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _header_type(kind: int) -> str:
    try:
        return common_pb2.HeaderType.Name(kind)
    except ValueError:
        return str(kind)


def _expiry(creator: bytes) -> int | None:
    """When the certificate inside a creator ends, whoever issued it; None when there is none to read."""
    try:
        certificate = certificates.from_pem(identities_pb2.SerializedIdentity.FromString(creator).id_bytes)
        return round(certificate.not_valid_after_utc.timestamp()) * _NANOSECONDS
    except (DecodeError, ValueError, UnsupportedAlgorithm):
        return None


def _filtered(kind: type[M], data: bytes, what: str) -> M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        name = kind.DESCRIPTOR.name
        raise FilterError(f"failed parsing {what}: error unmarshalling {name}: {WIRE_FORMAT}") from error


def _parse(kind: type[M], data: bytes) -> M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ProposalError(f"error unmarshalling {kind.DESCRIPTOR.name}: {WIRE_FORMAT}") from error
