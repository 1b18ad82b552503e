import pickle
from pathlib import Path
from typing import Any

import pytest
from fabric_protos.msp.identities_pb2 import SerializedIdentity
from tallystick.fabric import Hash, Identity, IdentityError, signers

from .material import KINDS, certificate, identity, key_pem, private_key
from .sides import Side


def test_serialized_is_the_creator_message() -> None:
    message = SerializedIdentity.FromString(identity().serialized)
    assert (message.mspid, message.id_bytes) == ("Org1MSP", certificate())


def test_x509_takes_text() -> None:
    assert Identity.x509("Org1MSP", certificate().decode()) == identity()


@pytest.mark.parametrize("pem", [b"", b"no certificate", certificate()[:-80]])
def test_x509_refuses_what_is_no_certificate(pem: bytes) -> None:
    with pytest.raises(IdentityError, match="certificate"):
        Identity.x509("Org1MSP", pem)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (key_pem(private_key()), "it holds a private key"),
        (b"", "it is empty"),
        ("identities/bank/user/certificate.pem", "looks like a path.*read the file"),
        (Path("certificate.pem"), "not as P.*Path: read the file"),
    ],
)
def test_x509_says_what_was_given_in_its_place(given: Any, words: str) -> None:
    with pytest.raises(IdentityError, match=words):
        Identity.x509("Org1MSP", given)


def test_x509_refuses_an_empty_msp_id() -> None:
    with pytest.raises(IdentityError, match="MSP"):
        Identity.x509("", certificate())


def test_identity_is_a_value() -> None:
    pem = bytearray(certificate())
    made = Identity.x509("Org1MSP", bytes(pem))
    pem[0] = 0
    assert made == identity() == pickle.loads(pickle.dumps(made))
    with pytest.raises(AttributeError):
        made.msp_id = "Org2MSP"  # type: ignore[misc]


@pytest.mark.parametrize(("kind", "expected"), [("P-256", Hash.SHA256), ("P-384", Hash.SHA256), ("Ed25519", Hash.NONE)])
def test_hash_follows_the_key(kind: str, expected: Hash) -> None:
    assert identity(kind).default_hash() is expected


@pytest.mark.parametrize("kind", KINDS)
def test_connect_refuses_a_key_of_another_certificate(side: Side, kind: str) -> None:
    channel = side.channel("127.0.0.1:1", insecure=True)
    with pytest.raises(IdentityError, match="does not belong"):
        side.connect(channel, identity(kind), signers.from_key(private_key(kind, "someone else")))


def test_connect_takes_credentials_that_are_no_certificate(side: Side) -> None:
    gateway = side.connect(side.channel("127.0.0.1:1", insecure=True), Identity("IdemixMSP", b"opaque"))
    assert gateway.identity.credentials == b"opaque"
