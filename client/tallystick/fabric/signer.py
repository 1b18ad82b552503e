"""Signers: functions from a digest to a signature that Fabric accepts.

Fabric wants ECDSA signatures in DER with *low S* (s at most half the group order) and refuses the other half of all
valid signatures, so every ECDSA signature made or passed through here is normalised. Public under the name `signers`.
"""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import pkcs12

from tallystick.fabric._pem import instead, pem_bytes
from tallystick.fabric.errors import IdentityError, SigningError

__all__ = [
    "Pkcs11Signer",
    "PrivateKey",
    "PublicKey",
    "Signer",
    "from_key",
    "from_pem",
    "from_pkcs11_key",
    "from_pkcs12",
    "low_s",
    "normalise",
    "pkcs11",
]

Signer = Callable[[bytes], bytes]
"""Takes a digest (the message itself for Ed25519), returns the signature:

DER with low S for ECDSA, 64 bytes for Ed25519.
"""

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
Password = bytes | str | Callable[[], bytes | str]

# Group orders n (SEC 2, sections 2.4.2 and 2.5.1): the signatures (r, s) and (r, n - s) are both valid, Fabric takes
# the smaller s.
_ORDERS = {
    "secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp384r1": int(
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16
    ),
}
_P256 = ec.SECP256R1()
# Made once: building them for every signature costs a fifth of the signature. Only the length matters to the key.
_PREHASHED = {32: ec.ECDSA(Prehashed(hashes.SHA256())), 48: ec.ECDSA(Prehashed(hashes.SHA384()))}


def _order(curve: ec.EllipticCurve) -> int:
    order = _ORDERS.get(curve.name)
    if order is None:
        raise IdentityError(f"curve {curve.name} is not used by Fabric: P-256 and P-384 are")
    return order


def low_s(der: bytes, curve: ec.EllipticCurve = _P256) -> bytes:
    """The same ECDSA signature in DER with s at most half the order of the curve.

    Raises SigningError when the bytes are no DER signature.
    """
    order = _order(curve)
    try:
        r, s = decode_dss_signature(der)
    except ValueError as error:
        raise SigningError(f"neither an ECDSA signature in DER nor raw r and s of {curve.name}") from error
    return der if s <= order >> 1 else encode_dss_signature(r, order - s)


def normalise(raw_or_der: bytes, curve: ec.EllipticCurve = _P256) -> bytes:
    """A DER signature with low S from what browsers, HSMs and smart cards give.

    Takes raw r‖s (64 bytes for P-256, 96 for P-384, as WebCrypto and PKCS#11 return it) or DER.
    Raises SigningError for bytes that are neither or hold numbers outside the group.
    """
    order = _order(curve)
    size = (order.bit_length() + 7) // 8
    if len(raw_or_der) != 2 * size:
        return low_s(raw_or_der, curve)
    r, s = int.from_bytes(raw_or_der[:size]), int.from_bytes(raw_or_der[size:])
    if not (0 < r < order and 0 < s < order):
        raise SigningError("a raw signature must hold two numbers of the curve's group")
    return encode_dss_signature(r, min(s, order - s))


class _EcdsaSigner:
    """Signs digests with an EC key; `public_key` lets `connect` compare it with the certificate."""

    __slots__ = ("_half", "_order", "_sign", "public_key")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._order = _order(key.curve)
        self._half = self._order >> 1
        self._sign = key.sign
        self.public_key = key.public_key()

    def __call__(self, digest: bytes) -> bytes:
        algorithm = _PREHASHED.get(len(digest))
        if algorithm is None:
            raise SigningError(f"an ECDSA signer takes a digest of 32 or 48 bytes, not {len(digest)} (hash NONE?)")
        signature = self._sign(digest, algorithm)
        r, s = decode_dss_signature(signature)
        return signature if s <= self._half else encode_dss_signature(r, self._order - s)


class _Ed25519Signer:
    __slots__ = ("_sign", "public_key")

    def __init__(self, key: ed25519.Ed25519PrivateKey) -> None:
        self._sign = key.sign
        self.public_key = key.public_key()

    def __call__(self, message: bytes) -> bytes:
        return self._sign(message)


def from_key(private_key: PrivateKey) -> Signer:
    """Signer from a private key object: P-256, P-384 or Ed25519. Raises IdentityError for other kinds."""
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        return _EcdsaSigner(private_key)
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return _Ed25519Signer(private_key)
    raise IdentityError(f"Fabric takes EC and Ed25519 keys, not {type(private_key).__name__}")


def from_pem(pem: bytes | str, password: Password | None = None) -> Signer:
    """Signer from a private key in PEM: PKCS#8, encrypted PKCS#8 or SEC 1.

    password is text, bytes, or a function that is called only if the key is encrypted (so a prompt appears only when
    needed). Raises IdentityError for anything that is not such a key, and for a wrong or missing password.
    """
    data = pem_bytes(pem, "the private key")
    encrypted = b"ENCRYPTED" in data
    secret = _secret(password) if encrypted else None
    if encrypted and not secret:
        raise IdentityError("the private key cannot be read: it is encrypted and no password was given")
    try:
        key = serialization.load_pem_private_key(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise IdentityError("the private key cannot be read: wrong password, or a broken file") from error
        raise IdentityError(f"the private key is not a private key in PEM{instead(data)}") from error
    return from_key(_supported(key))


def from_pkcs12(data: bytes, password: Password | None = None) -> tuple[Signer, bytes]:
    """Signer and certificate (PEM) from a PKCS#12 file.

    Raises IdentityError when it cannot be opened or lacks either.
    """
    try:
        key, certificate, _ = pkcs12.load_key_and_certificates(data, _secret(password))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError("the PKCS#12 file cannot be read: wrong password or not PKCS#12") from error
    if key is None or certificate is None:
        raise IdentityError("the PKCS#12 file must hold a private key and its certificate")
    return from_key(_supported(key)), certificate.public_bytes(serialization.Encoding.PEM)


def _supported(key: object) -> PrivateKey:
    if isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        return key
    raise IdentityError(f"Fabric takes EC and Ed25519 keys, not {type(key).__name__}")


def _secret(password: Password | None) -> bytes | None:
    value = password() if callable(password) else password
    return value.encode() if isinstance(value, str) else value


class Pkcs11Key(Protocol):
    """The one method of a python-pkcs11 private key that signing needs."""

    def sign(self, data: bytes, /, *, mechanism: Any) -> bytes:
        """Raw r‖s of the digest."""


def from_pkcs11_key(key: Pkcs11Key, curve: ec.EllipticCurve = _P256) -> Signer:
    """Signer from an EC private key object of an open python-pkcs11 session. Needs the extra `hsm`."""
    mechanism = _pkcs11_module().Mechanism.ECDSA
    return lambda digest: normalise(key.sign(digest, mechanism=mechanism), curve)


def pkcs11(library: str | Path, *, token: str, key: str, pin: str, curve: ec.EllipticCurve = _P256) -> "Pkcs11Signer":
    """Signer whose key stays in a PKCS#11 token; use it in a `with` block, it holds a session. Needs the extra `hsm`.

    library is the token's shared library, token and key are labels. A process logs in to a token once: for several keys
    of one token open the session with python-pkcs11 and use `from_pkcs11_key`. Raises IdentityError when the token or
    the key cannot be opened.
    """
    module = _pkcs11_module()
    try:
        session = module.lib(str(library)).get_token(token_label=token).open(user_pin=pin)
    except (module.PKCS11Error, RuntimeError) as error:
        raise IdentityError(f"the token {token!r} cannot be opened: {_pkcs11_reason(module, error)}") from error
    try:
        private = session.get_key(object_class=module.ObjectClass.PRIVATE_KEY, label=key)
    except module.PKCS11Error as error:
        session.close()
        raise IdentityError(f"the token {token!r} holds no private key {key!r}") from error
    return Pkcs11Signer(from_pkcs11_key(private, curve), session.close)


def _pkcs11_reason(module: Any, error: Exception) -> str:
    """python-pkcs11 mostly gives the class of its errors a meaning and no text."""
    reasons = {
        module.PinIncorrect: "the PIN is wrong",
        module.PinLocked: "the PIN is locked after too many wrong ones",
        module.NoSuchToken: "there is no token of that label",
        module.exceptions.UserAlreadyLoggedIn: "this process has it open already; use from_pkcs11_key for more keys",
    }
    return reasons.get(type(error)) or str(error) or type(error).__name__


class Pkcs11Signer:
    """A signer that holds a session of a token until it is closed."""

    __slots__ = ("_close", "_signer")

    def __init__(self, signer: Signer, close: Callable[[], None]) -> None:
        self._signer = signer
        self._close = close

    def __call__(self, digest: bytes) -> bytes:
        return self._signer(digest)

    def close(self) -> None:
        """End the session; signing afterwards fails."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _pkcs11_module() -> Any:
    try:
        import pkcs11 as module  # an extra, and loading it without a token library is pointless work
    except ImportError as error:
        raise IdentityError("keys in a PKCS#11 token need the extra: pip install 'tallystick[hsm]'") from error
    return module
