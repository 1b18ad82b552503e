"""Keys, certificates and identities of the tests; made once per run."""

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from tallystick.fabric import Identity

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
KINDS = ("P-256", "P-384", "Ed25519")


def private_key(kind: str = "P-256", name: str = "user") -> Key:
    """One key per kind and name."""
    return _private_key(kind, name)


@cache
def _private_key(kind: str, name: str) -> Key:
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1() if kind == "P-256" else ec.SECP384R1())


def certificate(kind: str = "P-256", name: str = "user", *, server: bool = False) -> bytes:
    """A self-signed certificate in PEM for that key; for a server with names in it."""
    return _certificate(kind, name, server)


@cache
def _certificate(kind: str, name: str, server: bool) -> bytes:
    key = private_key(kind, name)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
    )
    if server:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName("peer.bank.example")])
        builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    algorithm = None if kind == "Ed25519" else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def key_pem(key: Key, password: bytes | None = None) -> bytes:
    """PKCS#8 in PEM, encrypted if there is a password."""
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        protection = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def identity(kind: str = "P-256", name: str = "user", msp_id: str = "Org1MSP") -> Identity:
    """The identity that goes with the key of that kind and name."""
    return Identity.x509(msp_id, certificate(kind, name))
