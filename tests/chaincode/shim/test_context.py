"""What a transaction reads from its signed proposal."""

import datetime
import hashlib
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fabric_protos.common import common_pb2
from fabric_protos.msp.identities_pb2 import SerializedIdentity
from fabric_protos.peer import proposal_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from chaincode.shim.context import Context, ContextError, Creator, Timestamp
from chaincode.shim.testing.exchange import transaction

ATTRIBUTES = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1")
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(attributes: bytes | None = None) -> bytes:
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "client"),
            x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "sales"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "user"),
        ]
    )
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(
        name, name, KEY.public_key(), x509.random_serial_number(), start, start + datetime.timedelta(days=1)
    )
    if attributes is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(ATTRIBUTES, attributes), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def creator(attributes: bytes | None = None) -> Creator:
    identity = SerializedIdentity(mspid="CoreMSP", id_bytes=certificate(attributes))
    return Creator(identity.SerializeToString())


def test_the_creator_is_parsed_from_its_certificate() -> None:
    found = creator(json.dumps({"attrs": {"roles": "operator,reviewer", "hf.EnrollmentID": "user"}}).encode())
    public = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert found.msp_id == "CoreMSP"
    assert found.attributes == {"roles": "operator,reviewer", "hf.EnrollmentID": "user"}
    assert found.public_key_fingerprint == hashlib.sha256(public).hexdigest()
    assert found.organizational_units == ("client", "sales")


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"attrs":[]}', b"null", b"\xff"])
def test_missing_or_unreadable_attributes_are_none(value: bytes | None) -> None:
    assert creator(value).attributes == {}


def test_an_identity_without_a_certificate_is_refused_when_asked_for_it() -> None:
    found = Creator(SerializedIdentity(mspid="CoreMSP", id_bytes=b"idemix").SerializeToString())
    assert found.msp_id == "CoreMSP"
    with pytest.raises(ContextError, match=r"X\.509"):
        _ = found.certificate


def test_the_facts_of_the_proposal() -> None:
    message = transaction(
        "voucher:issue",
        b"{}",
        chaincode="trade",
        channel_id="scf",
        transient={"code": b"secret"},
        timestamp=Timestamp(1_790_000_000, 5),
        nonce=b"n",
        epoch=258,
    )
    context = Context(message)
    assert context.args == (b"voucher:issue", b"{}")
    assert (context.channel_id, context.outermost_chaincode) == ("scf", "trade")
    assert context.transient == {"code": b"secret"}
    assert context.timestamp == Timestamp(1_790_000_000, 5)
    assert context.transaction_id == message.txid
    identity = context.creator.serialized
    assert context.binding == hashlib.sha256(b"n" + identity + b"\x02\x01" + bytes(6)).digest()


def test_a_proposal_of_another_kind_is_refused() -> None:
    message = transaction("f")
    proposal = proposal_pb2.Proposal.FromString(message.proposal.proposal_bytes)
    header = common_pb2.Header.FromString(proposal.header)
    channel_header = common_pb2.ChannelHeader.FromString(header.channel_header)
    channel_header.type = common_pb2.MESSAGE
    header.channel_header = channel_header.SerializeToString()
    proposal.header = header.SerializeToString()
    message.proposal.proposal_bytes = proposal.SerializeToString()
    with pytest.raises(ContextError, match="not one of a transaction"):
        Context(message)


def test_a_missing_proposal_is_refused() -> None:
    message = transaction("f")
    message.ClearField("proposal")
    with pytest.raises(ContextError, match="no proposal"):
        Context(message)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_message_is_read_or_refused_with_our_error(data: st.DataObject) -> None:
    message = transaction("f", b"a", transient={"k": b"v"})
    field = data.draw(st.sampled_from(["payload", "proposal"]))
    whole = message.payload if field == "payload" else message.proposal.proposal_bytes
    place = data.draw(st.integers(0, len(whole)))
    damaged = whole[:place] + data.draw(st.binary(max_size=4)) + whole[place + data.draw(st.integers(0, 4)) :]
    if field == "payload":
        message.payload = damaged
    else:
        message.proposal.proposal_bytes = damaged
    try:
        Context(message)
    except ContextError:
        pass
