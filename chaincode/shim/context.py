"""What a transaction knows about itself: the facts of its signed proposal, parsed once.

Source of the layout: Fabric's `peer/proposal.proto`, `common/common.proto`; of the binding: `cc-go: shim/stub.go`.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fabric_protos.common import common_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2, proposal_pb2
from google.protobuf.message import DecodeError

# Fabric CA's own arc for attributes: the extension's value is the JSON {"attrs": {name: value}}.
_ATTRIBUTES_OID = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1")
_CREATORS_KEPT = 1024
"""Certificates whose facts are kept: a person sends many transactions, and every organisation's simulation asks."""


class Timestamp(NamedTuple):
    """The client's time in the proposal, UTC; the same on every peer, and as true as the client is honest."""

    seconds: int
    nanos: int


class ContextError(ValueError):
    """The TRANSACTION message has no readable proposal. Never happens behind a real peer."""


@lru_cache(_CREATORS_KEPT)
def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise ContextError("the creator's identity is no X.509 certificate") from error


@lru_cache(_CREATORS_KEPT)
def _attributes(pem: bytes) -> Mapping[str, str]:
    nothing: Mapping[str, str] = MappingProxyType({})
    try:
        extension = _certificate(pem).extensions.get_extension_for_oid(_ATTRIBUTES_OID).value
    except x509.ExtensionNotFound:
        return nothing
    if not isinstance(extension, x509.UnrecognizedExtension):
        return nothing
    try:
        attributes = json.loads(extension.value)["attrs"]
    except (ValueError, KeyError, TypeError):
        return nothing
    if not isinstance(attributes, dict):
        return nothing
    return MappingProxyType({name: value for name, value in attributes.items() if isinstance(value, str)})


@lru_cache(_CREATORS_KEPT)
def _fingerprint(pem: bytes) -> str:
    key = _certificate(pem).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()


@lru_cache(_CREATORS_KEPT)
def _units(pem: bytes) -> tuple[str, ...]:
    names = _certificate(pem).subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
    return tuple(str(name.value) for name in names)


class Creator:
    """Who signed the proposal; everything but the MSP id is parsed when first asked for.

    What the certificate says is kept from transaction to transaction: it follows from the bytes alone.
    """

    def __init__(self, serialized: bytes) -> None:
        identity = identities_pb2.SerializedIdentity()
        try:
            identity.ParseFromString(serialized)
        except DecodeError as error:
            raise ContextError("the creator is no serialised identity") from error
        self.serialized = serialized
        """The SerializedIdentity as bytes."""
        self.msp_id: str = identity.mspid
        """The organisation whose authority certified the creator."""
        self._pem = identity.id_bytes

    @property
    def certificate(self) -> x509.Certificate:
        """The creator's certificate. Raises ContextError when the identity is not an X.509 one."""
        return _certificate(self._pem)

    @property
    def attributes(self) -> Mapping[str, str]:
        """The attributes that Fabric CA writes into certificates; empty when there are none or they are unreadable."""
        return _attributes(self._pem)

    @property
    def public_key_fingerprint(self) -> str:
        """SHA-256 of the public key (SubjectPublicKeyInfo, DER), lower-case hex: outlives a renewed certificate."""
        return _fingerprint(self._pem)

    @property
    def organizational_units(self) -> tuple[str, ...]:
        """The OU values of the subject in the certificate's order; Fabric's node role (`client`, `admin`) is one."""
        return _units(self._pem)


class Context:
    """The facts of one TRANSACTION message: ids, arguments, and the proposal's header and payload."""

    def __init__(self, message: chaincode_shim_pb2.ChaincodeMessage) -> None:
        try:
            arguments = chaincode_pb2.ChaincodeInput.FromString(message.payload)
            proposal = proposal_pb2.Proposal.FromString(message.proposal.proposal_bytes)
            header = common_pb2.Header.FromString(proposal.header)
            channel_header = common_pb2.ChannelHeader.FromString(header.channel_header)
            signature_header = common_pb2.SignatureHeader.FromString(header.signature_header)
            extension = proposal_pb2.ChaincodeHeaderExtension.FromString(channel_header.extension)
            payload = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
        except DecodeError as error:
            raise ContextError("the proposal of the transaction is malformed") from error
        if not proposal.header:
            raise ContextError("the transaction has no proposal")
        if channel_header.type not in (common_pb2.ENDORSER_TRANSACTION, common_pb2.CONFIG):
            raise ContextError("the proposal is not one of a transaction")
        self.transaction_id = message.txid
        self.channel_id = message.channel_id
        self.args: tuple[bytes, ...] = tuple(arguments.args)
        self.decorations: Mapping[str, bytes] = dict(arguments.decorations)
        self.transient: Mapping[str, bytes] = dict(payload.TransientMap)
        self.timestamp = Timestamp(channel_header.timestamp.seconds, channel_header.timestamp.nanos)
        self.outermost_chaincode = extension.chaincode_id.name
        self.signed_proposal = message.proposal
        self._creator = signature_header.creator
        self._nonce = signature_header.nonce
        self._epoch = channel_header.epoch

    @cached_property
    def creator(self) -> Creator:
        """Who signed the proposal."""
        return Creator(self._creator)

    @cached_property
    def binding(self) -> bytes:
        """SHA-256 of nonce, creator and epoch: ties something signed elsewhere to this one proposal."""
        return hashlib.sha256(self._nonce + self._creator + self._epoch.to_bytes(8, "little")).digest()
