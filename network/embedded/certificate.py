"""Certificates and signatures as Go's libraries and Fabric's crypto provider read them, down to their lenience.

A peer decides with crypto/x509, encoding/pem and encoding/asn1; where those and Python's `cryptography` differ, this
follows Go, because two networks that judge one signature differently are two ledgers. Source: bccsp/sw and bccsp/utils
of fabric-lib-go, msp/cert.go of Fabric v3.1.5; tests/network/embedded/identity_cases.py has a real peer's verdicts."""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

# r and s of the widest curve, P-521, take 66 bytes and one for the sign; longer numbers belong to no signature.
_INTEGER_BYTES_MAX: Final = 67
# Group orders of the curves that Fabric's provider knows (SEC 2).
CURVE_ORDERS: Final = {
    "secp224r1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFF16A2E0B8F03E13DD29455C5C2A3D,
    "secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp384r1": 2**384 - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D,
    "secp521r1": 2**521 - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
}
_SHA256_DIGEST: Final = ec.ECDSA(Prehashed(hashes.SHA256()))
_UNREADABLE_EXTENSION: Final = (ValueError, x509.UnsupportedGeneralNameType)
_SERVER_USES: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
# The critical extensions that Go's verifier knows and that need nothing further here. Name constraints are left out on
# purpose: nothing here evaluates them, so a certificate that depends on them is refused.
_HANDLED_CRITICAL: Final = (
    ExtensionOID.KEY_USAGE,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.EXTENDED_KEY_USAGE,
)


def from_pem(pem: bytes) -> x509.Certificate:
    """The certificate in the first PEM block, whatever its label and whatever stands around it.

    Raises ValueError (or UnsupportedAlgorithm) when there is no block or no certificate in it."""
    start = pem.find(b"-----BEGIN ")
    label_end = pem.find(b"-----", start + len(b"-----BEGIN "))
    label = pem[start + len(b"-----BEGIN ") : label_end]
    end = pem.find(b"\n-----END " + label + b"-----", label_end)
    if start < 0 or label_end < 0 or end < 0 or (start > 0 and pem[start - 1 : start] != b"\n"):
        raise ValueError("could not decode the PEM structure")
    try:
        der = base64.b64decode(b"".join(pem[label_end + len(b"-----") : end].split()), validate=True)
    except binascii.Error as error:
        raise ValueError("could not decode the PEM structure") from error
    if not _has_positive_serial(der):
        raise ValueError("parseCertificate failed: the serial number is not positive")
    try:
        certificate = x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise ValueError(f"parseCertificate failed: {error}") from error
    try:
        # The library reads extensions when they are asked for; Go refuses a certificate that has one twice.
        _ = certificate.extensions
    except x509.DuplicateExtension as error:
        raise ValueError("parseCertificate failed: x509: certificate contains duplicate extensions") from error
    except _UNREADABLE_EXTENSION:
        pass
    return certificate


def _has_positive_serial(der: bytes) -> bool:
    """Whether a certificate's serial number is above zero, as Go asks; the library would write a warning for each."""
    outer = _element(der, 0, 0x30)
    tbs = _element(outer[0], 0, 0x30) if outer else None
    if tbs is None:
        return False
    version = _element(tbs[0], 0, 0xA0)
    serial = _element(tbs[0], version[1] if version else 0, 0x02)
    return serial is not None and int.from_bytes(serial[0], signed=True) > 0


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    """An extension's value, or None."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, *_UNREADABLE_EXTENSION):
        return None


def ecdsa_signed(certificate: x509.Certificate) -> bool:
    """Whether its authority signed it with ECDSA."""
    return isinstance(certificate.signature_algorithm_parameters, ec.ECDSA)


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether it is an authority's."""
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def subject_key(certificate: x509.Certificate) -> bytes:
    """Its subject key identifier; empty without one."""
    identifier = _extension(certificate, x509.SubjectKeyIdentifier)
    return identifier.digest if identifier is not None else b""


def issued_by(subject: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name stands in the subject's certificate and the issuer's key signed it."""
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def may_issue(issuer: x509.Certificate, intermediates: int) -> bool:
    """Whether its own extensions let it stand above an identity with that many authorities between."""
    constraints, usage = _extension(issuer, x509.BasicConstraints), _extension(issuer, x509.KeyUsage)
    if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
        return False
    return constraints.path_length is None or intermediates <= constraints.path_length


def usable(certificate: x509.Certificate, moment: datetime) -> bool:
    """Valid at the moment, no critical extension that is not understood, and any extended use includes a server's.

    The last is what Go's verifier asks when it is not told otherwise, and Fabric does not tell it otherwise."""
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        return False
    try:
        if any(extension.critical and extension.oid not in _HANDLED_CRITICAL for extension in certificate.extensions):
            return False
    except _UNREADABLE_EXTENSION:
        return False
    uses = _extension(certificate, x509.ExtendedKeyUsage)
    return uses is None or any(use in _SERVER_USES for use in uses)


def chain_hash(chain: Sequence[x509.Certificate]) -> bytes:
    """SHA-256 over the certificates of a chain in low-S form: the "certifiers identifier"."""
    pairs = zip(chain, [*chain[1:], chain[-1]], strict=True)
    return sha256(b"".join(low_s_der(certificate, issuer) for certificate, issuer in pairs)).digest()


def low_s_der(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """The certificate's DER with its ECDSA signature in low-S form; other signatures as they are (msp/cert.go)."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVE_ORDERS:
        return der
    numbers = _ecdsa_numbers(certificate.signature)
    order = CURVE_ORDERS[key.curve.name]
    if numbers is None or numbers[1] <= order >> 1:
        return der
    signature = encode_dss_signature(numbers[0], order - numbers[1])
    # Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue BIT STRING }
    end = _der(0x03, b"\0" + certificate.signature)
    head = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)
    return _der(0x30, der[head : len(der) - len(end)] + _der(0x03, b"\0" + signature))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def verify(public_key: PublicKey, message: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether the key made the signature: Ed25519 over the message, ECDSA with low S over its SHA-256 digest."""
    try:
        if isinstance(public_key, ed25519.Ed25519PublicKey):
            public_key.verify(signature, message)
            return True
        numbers = _ecdsa_numbers(signature)
        if numbers is None or numbers[1] > CURVE_ORDERS[public_key.curve.name] >> 1:
            return False
        public_key.verify(encode_dss_signature(*numbers), digest, _SHA256_DIGEST)
    except InvalidSignature:
        return False
    return True


def _ecdsa_numbers(signature: bytes) -> tuple[int, int] | None:
    """r and s of an ECDSA signature in DER, both above 0, or None.

    Read as Go's asn1 reads it, which matters for agreeing with a real peer: minimal lengths and integers are required,
    bytes after the sequence and further elements inside it are ignored."""
    sequence = _element(signature, 0, 0x30)
    if sequence is None:
        return None
    first = _element(sequence[0], 0, 0x02)
    second = _element(sequence[0], first[1], 0x02) if first else None
    if first is None or second is None or not (_minimal(first[0]) and _minimal(second[0])):
        return None
    r, s = int.from_bytes(first[0], signed=True), int.from_bytes(second[0], signed=True)
    return (r, s) if r > 0 and s > 0 else None


def _element(data: bytes, offset: int, tag: int) -> tuple[bytes, int] | None:
    """Content of the DER element at the offset and the offset behind it, or None."""
    if len(data) < offset + 2 or data[offset] != tag:
        return None
    size, start = data[offset + 1], offset + 2
    if size & 0x80:
        count = size & 0x7F
        length = data[start : start + count]
        # Indefinite, cut off, or longer than it has to be.
        if not length or len(length) != count or length[0] == 0 or int.from_bytes(length) < 0x80:
            return None
        size, start = int.from_bytes(length), start + count
    end = start + size
    return (data[start:end], end) if end <= len(data) else None


def _minimal(integer: bytes) -> bool:
    """Whether it is the shortest form of a number that a signature could hold."""
    if not 2 <= len(integer) <= _INTEGER_BYTES_MAX:
        return len(integer) == 1
    return not (integer[0] == 0 and integer[1] < 0x80) and not (integer[0] == 0xFF and integer[1] >= 0x80)
