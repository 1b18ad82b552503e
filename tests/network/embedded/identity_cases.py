"""Identities and signatures of every kind with the verdict of a Fabric 3.1.5 peer.

One table for two readers: our MSP has to give these verdicts, and where Fabric's programs are found a real peer is
asked for its own (tests/network/channel/test_fabric_programs.py)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tallystick.fabric.identity import Identity

from network.identity.authority import Authority
from network.identity.enrolment import authority_folder
from network.identity.identities import load_person
from network.topology import Topology

# "malformed": not even an identity of a known organisation; "refused": one, but invalid, or with a bad signature.
Verdict = Literal["accepted", "malformed", "refused"]
Sign = Callable[[bytes], bytes]
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# The orders of the curves (SEC 2, sections 2.4.2 to 2.6.1).
ORDERS = {
    "secp256r1": P256_ORDER,
    "secp384r1": 2**384 - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D,
    "secp521r1": 2**521 - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
}


@dataclass(frozen=True)
class Case:
    """A creator, how it signs a message, and what a peer says to it."""

    name: str
    verdict: Verdict
    serialized: bytes
    sign: Sign


def cases(home: Path, topology: Topology) -> list[Case]:
    """The table, for the identities that `establish` made in the home."""
    return [
        *_users(home, topology),
        *_certificates(home, topology),
        *_texts(home, topology),
        *_signatures(home, topology),
    ]


def sign_with(key: Key, algorithm: hashes.HashAlgorithm | None = None) -> Sign:
    """How the holder of the key signs: ECDSA with low S, Ed25519 over the message."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign
    if isinstance(key, rsa.RSAPrivateKey):
        return lambda message: b"not tried"
    return lambda message: with_s(key.sign(message, ec.ECDSA(algorithm or hashes.SHA256())), key.curve, high=False)


def with_s(signature: bytes, curve: ec.EllipticCurve, *, high: bool) -> bytes:
    """One of the two valid forms of an ECDSA signature: with high S, which Fabric refuses, or with low S."""
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, (max if high else min)(s, ORDERS[curve.name] - s))


def high_s(signature: bytes) -> bytes:
    """The high-S form of a P-256 signature."""
    return with_s(signature, ec.SECP256R1(), high=True)


def certificate(
    authority: Authority,
    public_key: object,
    *units: str,
    name: str = "odd",
    ca: bool = False,
    uses: list[x509.ObjectIdentifier] | None = None,
    critical: bool = False,
    start: datetime | None = None,
    issuer: x509.Name | None = None,
    key: Key | None = None,
) -> bytes:
    """A certificate (PEM) as the authority would never issue it."""
    ous = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units]
    moment = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*ous, x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer or authority.certificate.subject)
        .public_key(public_key)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(start or authority.certificate.not_valid_before_utc)
        .not_valid_after(moment + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)  # type: ignore[arg-type]
    )
    if uses is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    if critical:
        odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5.6.7.8.99"), b"{}")
        builder = builder.add_extension(odd, critical=True)
    signing = key or authority.key
    digest = None if isinstance(signing, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(signing, digest).public_bytes(serialization.Encoding.PEM)


def with_certificate_s(pem: bytes, *, high: bool) -> bytes:
    """The same certificate with its own signature in high-S or low-S form."""
    parsed = x509.load_pem_x509_certificate(pem)
    r, s = decode_dss_signature(parsed.signature)
    wanted = max(s, P256_ORDER - s) if high else min(s, P256_ORDER - s)
    old, new = parsed.signature, encode_dss_signature(r, wanted)
    der = parsed.public_bytes(serialization.Encoding.DER)
    bits = len(old) + 1
    body = parsed.tbs_certificate_bytes + der[4 + len(parsed.tbs_certificate_bytes) : len(der) - bits - 2]
    body += bytes((0x03, len(new) + 1, 0)) + new
    whole = b"\x30\x82" + len(body).to_bytes(2) + body
    return x509.load_der_x509_certificate(whole).public_bytes(serialization.Encoding.PEM)


def _serialized(pem: bytes, msp_id: str = "CoreMSP") -> bytes:
    return Identity(msp_id, pem).serialized


def _core(home: Path) -> Authority:
    return Authority.load(authority_folder(home, "core"))


def _users(home: Path, topology: Topology) -> list[Case]:
    authority = _core(home)
    keys: dict[str, Key] = {
        "P-256": ec.generate_private_key(ec.SECP256R1()),
        "P-384": ec.generate_private_key(ec.SECP384R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    }
    issued = [
        Case(
            f"client with {name}",
            "accepted",
            _serialized(authority.issue(key.public_key(), "c", ou="client")),
            sign_with(key),
        )
        for name, key in keys.items()
    ]
    odd_keys: dict[str, tuple[Key, Verdict]] = {
        "P-521": (ec.generate_private_key(ec.SECP521R1()), "accepted"),
        "RSA": (rsa.generate_private_key(65537, 2048), "refused"),
    }
    odd = [
        Case(
            f"client with {name}",
            verdict,
            _serialized(certificate(authority, key.public_key(), "client")),
            sign_with(key),
        )
        for name, (key, verdict) in odd_keys.items()
    ]
    return [*issued, *odd]


def _certificates(home: Path, topology: Topology) -> list[Case]:
    authority, bank = _core(home), Authority.load(authority_folder(home, "bank"))
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    signing = sign_with(key)
    unknown_ed25519 = ed25519.Ed25519PrivateKey.generate()
    early = authority.certificate.not_valid_before_utc - timedelta(hours=1)
    user = x509.load_pem_x509_certificate(load_person(home, topology.organisation("core"), "user").certificate)
    user_key = serialization.load_pem_private_key((home / "identities/core/user/private_key.pem").read_bytes(), None)
    assert isinstance(user_key, ec.EllipticCurvePrivateKey)
    honest = certificate(authority, public, "client")
    rows: list[tuple[str, Verdict, bytes]] = [
        ("an OU beside the role", "accepted", certificate(authority, public, "client", "finance")),
        ("no OU", "refused", certificate(authority, public)),
        ("an OU that is no role", "refused", certificate(authority, public, "finance")),
        ("two role OUs", "refused", certificate(authority, public, "client", "admin")),
        ("the same role OU twice", "refused", certificate(authority, public, "client", "client")),
        ("a CA certificate", "refused", certificate(authority, public, "client", ca=True)),
        ("the authority itself", "refused", authority.certificate_pem),
        ("another organisation's authority", "malformed", certificate(bank, public, "client")),
        ("the right issuer's name, another key", "malformed", certificate(authority, public, "client", key=bank.key)),
        ("an unknown Ed25519 authority", "refused", certificate(authority, public, "client", key=unknown_ed25519)),
        ("issued by a user", "malformed", certificate(authority, public, "client", issuer=user.subject, key=user_key)),
        ("older than its authority", "malformed", certificate(authority, public, "client", start=early)),
        (
            "use as TLS client only",
            "malformed",
            certificate(authority, public, "client", uses=[ExtendedKeyUsageOID.CLIENT_AUTH]),
        ),
        (
            "use as TLS server",
            "accepted",
            certificate(authority, public, "client", uses=[ExtendedKeyUsageOID.SERVER_AUTH]),
        ),
        ("an unknown critical extension", "malformed", certificate(authority, public, "client", critical=True)),
        ("certificate signed with high S", "accepted", with_certificate_s(honest, high=True)),
        ("certificate signed with low S", "accepted", with_certificate_s(honest, high=False)),
    ]
    return [Case(name, verdict, _serialized(pem), signing) for name, verdict, pem in rows]


def _texts(home: Path, topology: Topology) -> list[Case]:
    key = ec.generate_private_key(ec.SECP256R1())
    signing = sign_with(key)
    pem = certificate(_core(home), key.public_key(), "client")
    rows: list[tuple[str, Verdict, bytes]] = [
        ("text before the PEM", "accepted", _serialized(b"# mine\n" + pem)),
        ("text after the PEM", "accepted", _serialized(pem + b"more")),
        ("another PEM label", "accepted", _serialized(pem.replace(b"CERTIFICATE", b"WHATEVER"))),
        ("PEM with CRLF", "accepted", _serialized(pem.replace(b"\n", b"\r\n"))),
        ("PEM cut off", "malformed", _serialized(pem[:-40])),
        ("no PEM", "malformed", _serialized(b"hello")),
        ("DER", "malformed", _serialized(x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER))),
        ("an unknown MSP", "malformed", _serialized(pem, "NobodyMSP")),
        ("another member's MSP", "malformed", _serialized(pem, "BankMSP")),
        ("no SerializedIdentity", "malformed", b"\xff\xff\xff"),
    ]
    return [Case(name, verdict, serialized, signing) for name, verdict, serialized in rows]


def _signatures(home: Path, topology: Topology) -> list[Case]:
    authority = _core(home)
    key, p384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    edwards = ed25519.Ed25519PrivateKey.generate()
    p256_identity = _serialized(authority.issue(key.public_key(), "c", ou="client"))
    p384_identity = _serialized(authority.issue(p384.public_key(), "c", ou="client"))
    edwards_identity = _serialized(authority.issue(edwards.public_key(), "c", ou="client"))
    good = sign_with(key)

    def rebuilt(message: bytes, **changes: bytes) -> bytes:
        """The good signature from its two integers, with the parts of the encoding that a case changes."""
        r, s = decode_dss_signature(good(message))
        numbers = [n.to_bytes((n.bit_length() + 8) // 8) for n in (r, s)]
        parts = [bytes((2, len(number))) + number for number in (changes.get("before", b"") + numbers[0], numbers[1])]
        body = b"".join(parts) + changes.get("inside", b"")
        return b"\x30" + changes.get("length", b"") + bytes((len(body),)) + body + changes.get("after", b"")

    rows: list[tuple[str, Verdict, Sign]] = [
        ("rebuilt unchanged", "accepted", rebuilt),
        ("high S", "refused", lambda m: high_s(good(m))),
        ("over another message", "refused", lambda m: good(m + b"!")),
        ("bytes after the sequence", "accepted", lambda m: rebuilt(m, after=b"\0\1")),
        ("a third element inside", "accepted", lambda m: rebuilt(m, inside=b"\2\1\1")),
        ("an integer with a zero too many", "refused", lambda m: rebuilt(m, before=b"\0")),
        ("a length longer than needed", "refused", lambda m: rebuilt(m, length=b"\x81")),
        ("an empty sequence", "refused", lambda _: b"\x30\x00"),
        ("s of zero", "refused", lambda m: encode_dss_signature(decode_dss_signature(good(m))[0], 0)),
        ("s negative", "refused", lambda _: b"\x30\x06\x02\x01\x01\x02\x01\xff"),
        ("raw numbers", "refused", lambda m: b"".join(n.to_bytes(32) for n in decode_dss_signature(good(m)))),
        ("SHA-384", "refused", sign_with(key, hashes.SHA384())),
    ]
    signed = [Case(f"signature: {name}", verdict, p256_identity, sign) for name, verdict, sign in rows]
    p521 = ec.generate_private_key(ec.SECP521R1())
    p521_identity = _serialized(certificate(authority, p521.public_key(), "client"))

    def high(signer: ec.EllipticCurvePrivateKey) -> Sign:
        return lambda m: with_s(signer.sign(m, ec.ECDSA(hashes.SHA256())), signer.curve, high=True)

    return [
        *signed,
        Case("signature: P-384 with high S", "refused", p384_identity, high(p384)),
        Case("signature: P-521 with high S", "refused", p521_identity, high(p521)),
        Case("signature: P-384 over SHA-384", "refused", p384_identity, sign_with(p384, hashes.SHA384())),
        Case("signature: Ed25519 over a digest", "refused", edwards_identity, lambda m: edwards.sign(_sha256(m))),
    ]


def _sha256(message: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(message)
    return digest.finalize()
