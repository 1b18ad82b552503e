import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import load_pem_x509_certificate
from tallystick.fabric import IdentityError, SigningError, signers

from .material import certificate, key_pem, private_key

ORDER = {
    "P-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "P-384": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}
CURVE = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
DIGEST = hashlib.sha256(b"message").digest()


def _verify(kind: str, signature: bytes, digest: bytes = DIGEST) -> None:
    algorithm = {32: hashes.SHA256(), 48: hashes.SHA384()}[len(digest)]
    public = private_key(kind).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signature, digest, ec.ECDSA(Prehashed(algorithm)))


@pytest.mark.parametrize("kind", ["P-256", "P-384"])
def test_ecdsa_signature_verifies(kind: str) -> None:
    _verify(kind, signers.from_key(private_key(kind))(DIGEST))


@pytest.mark.parametrize("kind", ["P-256", "P-384"])
def test_ecdsa_signature_has_low_s(kind: str) -> None:
    signer = signers.from_key(private_key(kind))
    assert all(decode_dss_signature(signer(DIGEST))[1] <= ORDER[kind] // 2 for _ in range(24))


@pytest.mark.parametrize("kind", ["P-256", "P-384"])
def test_ecdsa_signs_digests_of_48_bytes(kind: str) -> None:
    digest = hashlib.sha384(b"message").digest()
    _verify(kind, signers.from_key(private_key(kind))(digest), digest)


def test_ecdsa_refuses_what_is_no_digest() -> None:
    with pytest.raises(SigningError, match="32 or 48"):
        signers.from_key(private_key())(b"the message itself")


def test_ed25519_signs_the_message() -> None:
    key = private_key("Ed25519")
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    key.public_key().verify(signers.from_key(key)(b"message"), b"message")


@pytest.mark.parametrize("kind", ["P-256", "P-384"])
def test_normalise_takes_raw_signatures_with_high_s(kind: str) -> None:
    size = 32 if kind == "P-256" else 48
    r, s = decode_dss_signature(signers.from_key(private_key(kind))(DIGEST))
    high = ORDER[kind] - s
    raw = r.to_bytes(size) + high.to_bytes(size)
    assert signers.normalise(raw, CURVE[kind]) == encode_dss_signature(r, s)
    _verify(kind, signers.normalise(raw, CURVE[kind]))


@pytest.mark.parametrize("kind", ["P-256", "P-384"])
def test_normalise_lowers_der_signatures(kind: str) -> None:
    r, s = decode_dss_signature(signers.from_key(private_key(kind))(DIGEST))
    assert signers.normalise(encode_dss_signature(r, ORDER[kind] - s), CURVE[kind]) == encode_dss_signature(r, s)


def test_low_s_leaves_a_low_signature_as_it_is() -> None:
    signature = signers.from_key(private_key())(DIGEST)
    assert signers.low_s(signature) == signature


@pytest.mark.parametrize("bad", [b"", b"no signature", bytes(64), b"\xff" * 64])
def test_normalise_refuses_what_is_no_signature(bad: bytes) -> None:
    with pytest.raises(SigningError):
        signers.normalise(bad)


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519"])
def test_from_pem(kind: str) -> None:
    assert signers.from_pem(key_pem(private_key(kind)))(DIGEST)


def test_from_pem_takes_text() -> None:
    _verify("P-256", signers.from_pem(key_pem(private_key()).decode())(DIGEST))


def test_from_pem_takes_sec1() -> None:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    pem = private_key().private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    _verify("P-256", signers.from_pem(pem)(DIGEST))


@pytest.mark.parametrize("password", [b"secret", "secret", lambda: "secret"])
def test_from_pem_opens_encrypted_keys(password: object) -> None:
    _verify("P-256", signers.from_pem(key_pem(private_key(), b"secret"), password)(DIGEST))  # type: ignore[arg-type]


def test_from_pem_asks_for_a_password_only_when_needed() -> None:
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        return "secret"

    signers.from_pem(key_pem(private_key()), ask)
    assert not asked
    signers.from_pem(key_pem(private_key(), b"secret"), ask)
    assert asked == [1]


@pytest.mark.parametrize(
    ("password", "words"),
    [(b"wrong", "wrong password"), (None, "no password was given"), (lambda: "", "no password was given")],
)
def test_from_pem_refuses_a_wrong_or_missing_password(password: Any, words: str) -> None:
    with pytest.raises(IdentityError, match=words):
        signers.from_pem(key_pem(private_key(), b"secret"), password)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (certificate(), "it holds a certificate"),
        ("keys/private_key.pem", "looks like a path"),
        (Path("private_key.pem"), "read the file first"),
    ],
)
def test_from_pem_says_what_was_given_in_its_place(given: Any, words: str) -> None:
    with pytest.raises(IdentityError, match=words):
        signers.from_pem(given)


@pytest.mark.parametrize("pem", [b"", b"no key", certificate()])
def test_from_pem_refuses_what_is_no_private_key(pem: bytes) -> None:
    with pytest.raises(IdentityError):
        signers.from_pem(pem)


def test_from_pem_refuses_a_public_key() -> None:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = private_key().public_key().public_bytes(serialization.Encoding.PEM, form)
    with pytest.raises(IdentityError):
        signers.from_pem(pem)


def test_refuses_rsa_keys() -> None:
    key = rsa.generate_private_key(65537, 2048)
    with pytest.raises(IdentityError, match="EC and Ed25519"):
        signers.from_key(key)  # type: ignore[arg-type]
    form = serialization.PrivateFormat.PKCS8
    with pytest.raises(IdentityError, match="EC and Ed25519"):
        signers.from_pem(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def test_refuses_other_curves() -> None:
    with pytest.raises(IdentityError, match="secp256k1"):
        signers.from_key(ec.generate_private_key(ec.SECP256K1()))


def test_from_pkcs12_gives_signer_and_certificate() -> None:
    protection = serialization.BestAvailableEncryption(b"secret")
    data = pkcs12.serialize_key_and_certificates(
        b"user", private_key(), load_pem_x509_certificate(certificate()), None, protection
    )
    signer, pem = signers.from_pkcs12(data, "secret")
    assert pem == certificate()
    _verify("P-256", signer(DIGEST))
    with pytest.raises(IdentityError, match="PKCS#12"):
        signers.from_pkcs12(data, "wrong")


def test_from_pkcs12_needs_a_key() -> None:
    data = pkcs12.serialize_key_and_certificates(
        None, None, load_pem_x509_certificate(certificate()), None, serialization.NoEncryption()
    )
    with pytest.raises(IdentityError, match="private key"):
        signers.from_pkcs12(data)


class _Token:
    """A PKCS#11 private key as python-pkcs11 shows it: raw r and s, and often a high s."""

    def sign(self, data: bytes, /, *, mechanism: object) -> bytes:
        key = private_key()
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(Prehashed(hashes.SHA256()))))
        return r.to_bytes(32) + max(s, ORDER["P-256"] - s).to_bytes(32)


def test_pkcs11_signatures_are_normalised() -> None:
    signature = signers.from_pkcs11_key(_Token())(DIGEST)
    _verify("P-256", signature)
    assert decode_dss_signature(signature)[1] <= ORDER["P-256"] // 2


def test_pkcs11_refuses_a_library_that_cannot_be_opened(tmp_path: object) -> None:
    with pytest.raises(IdentityError, match="cannot be opened"):
        signers.pkcs11(f"{tmp_path}/missing.so", token="t", key="k", pin="1234")


def test_pkcs11_signer_closes_its_session() -> None:
    session = SimpleNamespace(closed=0)

    def close() -> None:
        session.closed += 1

    with signers.Pkcs11Signer(lambda digest: digest, close) as signer:
        assert signer(b"d") == b"d"
    assert session.closed == 1
