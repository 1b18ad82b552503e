"""Creators for contract tests: self-made certificates with Fabric CA's attributes, one key per name."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier
from fabric_protos.msp import identities_pb2

ATTRIBUTES = ObjectIdentifier("1.2.3.4.5.6.7.8.1")


@dataclass(frozen=True, slots=True)
class Person:
    """A creator: who it claims to be, and the fingerprint under which the ledger knows its key."""

    name: str
    creator: bytes
    fingerprint: str


@lru_cache(maxsize=512)
def person(
    name: str, msp_id: str, attributes: tuple[tuple[str, str], ...] = (), unit: str = "client", key: str = ""
) -> Person:
    """The person of that name; the same name, or the same ``key``, has the same key."""
    private_key = _key(key or name)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private_key.public_key())
        .serial_number(1 + int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2060, 1, 1, tzinfo=UTC))
    )
    if attributes:
        value = json.dumps({"attrs": dict(attributes)}, sort_keys=True).encode()
        builder = builder.add_extension(x509.UnrecognizedExtension(ATTRIBUTES, value), critical=False)
    certificate = builder.sign(private_key, hashes.SHA256())
    creator = identities_pb2.SerializedIdentity(mspid=msp_id, id_bytes=certificate.public_bytes(Encoding.PEM))
    der = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Person(name, creator.SerializeToString(), hashlib.sha256(der).hexdigest())


def attributes(**values: str) -> tuple[tuple[str, str], ...]:
    """Attributes in the form that ``person`` takes."""
    return tuple(sorted(values.items()))


@lru_cache(maxsize=512)
def _key(name: str) -> ec.EllipticCurvePrivateKey:
    """A key derived from the name, so that fingerprints in golden files stay the same."""
    secret = int.from_bytes(hashlib.sha256(f"test key {name}".encode()).digest(), "big")
    return ec.derive_private_key(1 + secret % (2**255), ec.SECP256R1())


def attributes_of(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Attributes from a mapping."""
    return tuple(sorted(values.items()))
