"""A client made of nothing but messages, so that a test can send what no proper client would.

Every part of a proposal can be replaced; calls go through gRPC's own stubs and TLS."""

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2, gateway_pb2_grpc
from fabric_protos.orderer import ab_pb2, ab_pb2_grpc
from fabric_protos.peer import (
    chaincode_pb2,
    events_pb2_grpc,
    peer_pb2_grpc,
    proposal_pb2,
)
from tallystick.fabric import Identity, Signer, signers
from tallystick.fabric.hashing import Hash

CHANNEL = "scf"
FOREVER = 2**64 - 1
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class Person:
    """Somebody with a certificate and a key."""

    msp_id: str
    serialized: bytes
    sign_digest: Signer

    def sign(self, message: bytes) -> bytes:
        """Sign a message as Fabric expects it: ECDSA over SHA-256, low S."""
        return self.sign_digest(Hash.SHA256.digest(message))


@dataclass(frozen=True)
class Parts:
    """What a proposal is made of; replace what a case is about. None leaves a part out."""

    creator: bytes
    args: Sequence[bytes]
    chaincode: str = "basic"
    channel: str = CHANNEL
    nonce: bytes = b""
    timestamp: float | None = 0.0
    type: int = common_pb2.HeaderType.ENDORSER_TRANSACTION
    epoch: int = 0
    tx_id: str | None = None
    extension: bytes | None = None
    spec: bytes | None = None
    transient: Mapping[str, bytes] | None = None


@dataclass(frozen=True)
class Proposal:
    """A signed proposal and its transaction id."""

    transaction_id: str
    signed: proposal_pb2.SignedProposal
    channel: str


@dataclass(frozen=True)
class Failure:
    """How a call failed: code, text, and (address, MSP id, message) per detail."""

    code: grpc.StatusCode
    message: str
    details: tuple[tuple[str, str, str], ...]


class Client:
    """One organisation's gateway as one person calls it."""

    def __init__(self, home: Path, organisation: str, person: str = "user") -> None:
        connection = json.loads((home / "connection.json").read_text())
        self.entry: dict[str, Any] = next(e for e in connection["organisations"] if e["name"] == organisation)
        self.address: str = self.entry["gateway"]
        credentials = grpc.ssl_channel_credentials((home / self.entry["tls_ca_file"]).read_bytes())
        self.person = load_person(home, organisation, self.entry["msp_id"], person)
        self.connect(credentials)

    def connect(self, credentials: grpc.ChannelCredentials) -> None:
        """Connect, anew with other credentials if need be."""
        options = [("grpc.max_receive_message_length", 100 << 20), ("grpc.max_send_message_length", 128 << 20)]
        self.link = grpc.secure_channel(self.address, credentials, options=options)
        self.gateway = gateway_pb2_grpc.GatewayStub(self.link)
        self.deliver = events_pb2_grpc.DeliverStub(self.link)
        self.orderer = ab_pb2_grpc.AtomicBroadcastStub(self.link)
        self.endorser = peer_pb2_grpc.EndorserStub(self.link)

    def close(self) -> None:
        """Close the connection."""
        self.link.close()

    # -- proposals -----------------------------------------------------------------------------------------------------

    def parts(self, function: str, *args: str, **changes: Any) -> Parts:
        """The parts of a proper proposal, with changes."""
        encoded = [function.encode(), *(arg.encode() for arg in args)]
        return replace(Parts(creator=self.person.serialized, args=encoded), **changes)

    def propose(self, function: str, *args: str, signature: bytes | None = None, **changes: Any) -> Proposal:
        """A signed proposal; a given signature stands in the place of the real one."""
        parts = self.parts(function, *args, **changes)
        transaction_id, data = build(parts)
        signed = proposal_pb2.SignedProposal(
            proposal_bytes=data, signature=self.person.sign(data) if signature is None else signature
        )
        return Proposal(transaction_id, signed, parts.channel)

    def evaluate(self, proposal: Proposal, targets: Iterable[str] = (), timeout: float = 10.0) -> Any:
        """Evaluate a proposal and answer the response."""
        request = gateway_pb2.EvaluateRequest(
            transaction_id=proposal.transaction_id,
            channel_id=proposal.channel,
            proposed_transaction=proposal.signed,
            target_organizations=targets,
        )
        return self.gateway.Evaluate(request, timeout=timeout).result

    def endorse(self, proposal: Proposal, organisations: Iterable[str] = (), timeout: float = 10.0) -> Any:
        """Endorse a proposal and answer the unsigned envelope."""
        request = gateway_pb2.EndorseRequest(
            transaction_id=proposal.transaction_id,
            channel_id=proposal.channel,
            proposed_transaction=proposal.signed,
            endorsing_organizations=organisations,
        )
        return self.gateway.Endorse(request, timeout=timeout).prepared_transaction

    # -- transactions --------------------------------------------------------------------------------------------------

    def sign_envelope(self, envelope: common_pb2.Envelope) -> common_pb2.Envelope:
        """Sign an envelope's payload in place."""
        envelope.signature = self.person.sign(envelope.payload)
        return envelope

    def submit(self, envelope: common_pb2.Envelope | None, transaction_id: str = "", channel: str = CHANNEL) -> None:
        """Submit an envelope as it is."""
        request = gateway_pb2.SubmitRequest(transaction_id=transaction_id, channel_id=channel)
        if envelope is not None:
            request.prepared_transaction.CopyFrom(envelope)
        self.gateway.Submit(request, timeout=10)

    def status_request(self, of: str, **changes: Any) -> gateway_pb2.SignedCommitStatusRequest:
        """A signed commit status request for a transaction id, with changes to its fields."""
        fields = {"transaction_id": of, "channel_id": CHANNEL, "identity": self.person.serialized}
        request = gateway_pb2.CommitStatusRequest(**(fields | changes)).SerializeToString()
        return gateway_pb2.SignedCommitStatusRequest(request=request, signature=self.person.sign(request))

    def status(self, transaction_id: str, timeout: float = 10.0) -> tuple[int, int]:
        """Wait for a transaction; answers its validation code and block."""
        answer = self.gateway.CommitStatus(self.status_request(transaction_id), timeout=timeout)
        return answer.result, answer.block_number

    def transact(self, function: str, *args: str, **changes: Any) -> tuple[str, int, int]:
        """The whole way: answers transaction id, validation code and block."""
        proposal = self.propose(function, *args, **changes)
        self.submit(self.sign_envelope(self.endorse(proposal)), proposal.transaction_id)
        return proposal.transaction_id, *self.status(proposal.transaction_id)

    # -- streams -------------------------------------------------------------------------------------------------------

    def events(self, chaincode: str = "basic", timeout: float | None = 10.0, **fields: Any) -> Any:
        """The stream of chaincode event responses; `fields` are further fields of the request."""
        chosen = {"channel_id": CHANNEL, "chaincode_id": chaincode, "identity": self.person.serialized} | fields
        request = gateway_pb2.ChaincodeEventsRequest(**chosen).SerializeToString()
        signed = gateway_pb2.SignedChaincodeEventsRequest(request=request, signature=self.person.sign(request))
        return self.gateway.ChaincodeEvents(signed, timeout=timeout)

    def seek(self, info: ab_pb2.SeekInfo | bytes, **changes: Any) -> common_pb2.Envelope:
        """A signed seek envelope; its parts can be changed, a timestamp of None leaves it out."""
        header = common_pb2.ChannelHeader(
            type=common_pb2.HeaderType.DELIVER_SEEK_INFO,
            channel_id=changes.get("channel", CHANNEL),
            tls_cert_hash=changes.get("tls_cert_hash", b""),
        )
        timestamp = changes.get("timestamp", 0.0)
        if timestamp is not None:
            header.timestamp.FromNanoseconds(time.time_ns() + int(timestamp * 1e9))
        creator = common_pb2.SignatureHeader(
            creator=changes.get("creator", self.person.serialized), nonce=secrets.token_bytes(24)
        )
        payload = common_pb2.Payload(data=info if isinstance(info, bytes) else info.SerializeToString())
        payload.header.channel_header = header.SerializeToString()
        payload.header.signature_header = creator.SerializeToString()
        data = payload.SerializeToString()
        signature = changes.get("signature")
        return common_pb2.Envelope(payload=data, signature=self.person.sign(data) if signature is None else signature)


def load_person(home: Path, organisation: str, msp_id: str, person: str) -> Person:
    """A person of the home."""
    folder = home / "identities" / organisation / person
    identity = Identity.x509(msp_id, (folder / "certificate.pem").read_bytes())
    return Person(msp_id, identity.serialized, signers.from_pem((folder / "private_key.pem").read_bytes()))


def build(parts: Parts) -> tuple[str, bytes]:
    """Transaction id and bytes of a proposal."""
    nonce = parts.nonce or secrets.token_bytes(24)
    name = chaincode_pb2.ChaincodeID(name=parts.chaincode)
    expected = hashlib.sha256(nonce + parts.creator).hexdigest()
    extension = proposal_pb2.ChaincodeHeaderExtension(chaincode_id=name).SerializeToString()
    channel_header = common_pb2.ChannelHeader(
        type=parts.type,
        tx_id=expected if parts.tx_id is None else parts.tx_id,
        channel_id=parts.channel,
        epoch=parts.epoch,
        extension=extension if parts.extension is None else parts.extension,
    )
    if parts.timestamp is not None:
        channel_header.timestamp.FromNanoseconds(time.time_ns() + int(parts.timestamp * 1e9))
    header = common_pb2.Header(
        channel_header=channel_header.SerializeToString(),
        signature_header=common_pb2.SignatureHeader(creator=parts.creator, nonce=nonce).SerializeToString(),
    )
    spec = chaincode_pb2.ChaincodeInvocationSpec(
        chaincode_spec=chaincode_pb2.ChaincodeSpec(
            chaincode_id=name, input=chaincode_pb2.ChaincodeInput(args=parts.args)
        )
    ).SerializeToString()
    payload = proposal_pb2.ChaincodeProposalPayload(
        input=spec if parts.spec is None else parts.spec, TransientMap=parts.transient or {}
    )
    proposal = proposal_pb2.Proposal(header=header.SerializeToString(), payload=payload.SerializeToString())
    return channel_header.tx_id, proposal.SerializeToString()


def failure(error: grpc.RpcError) -> Failure:
    """Code, text and details of a failed call; the trailer must repeat code and text."""
    call: Any = error
    trailer = dict(call.trailing_metadata() or ())
    details: list[tuple[str, str, str]] = []
    data = trailer.get("grpc-status-details-bin")
    if data is not None:
        code, message, values = _status(data)
        assert (code, message) == (call.code().value[0], call.details())
        for value in values:
            detail = gateway_pb2.ErrorDetail.FromString(value)
            details.append((detail.address, detail.msp_id, detail.message))
    return Failure(call.code(), call.details(), tuple(details))


def high_s(signature: bytes) -> bytes:
    """The other, equally valid, form of a P-256 signature, which Fabric refuses."""
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, _P256_ORDER - s)


def blocks_from(start: int, stop: int = FOREVER, **fields: Any) -> ab_pb2.SeekInfo:
    """Seek from one block to another."""
    return ab_pb2.SeekInfo(
        start=ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=start)),
        stop=ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=stop)),
        **fields,
    )


def _status(data: bytes) -> tuple[int, str, list[bytes]]:
    """google.rpc.Status read by hand: code, message and the value of each Any."""
    code, message, values = 0, "", []
    for number, value in _fields(data):
        if number == 1:
            assert isinstance(value, int)
            code = value
        elif number == 2:
            assert isinstance(value, bytes)
            message = value.decode()
        else:
            assert isinstance(value, bytes)
            entry = dict(_fields(value))
            assert entry[1] == b"type.googleapis.com/gateway.ErrorDetail"
            values.append(entry[2])
    return code, message, values


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            length = varint()
            yield tag >> 3, data[place : place + length]
            place += length
