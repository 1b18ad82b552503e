"""Private keys: making them, writing them so that only their owner reads them, and encrypting them under a password."""

import base64
import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

# What OWASP recommends for PBKDF2-HMAC-SHA256 (Password Storage Cheat Sheet, 2023); about 0.2 s per attempt. The
# library would write 2,048, OpenSSL's default, too few for a password that people choose.
PBKDF2_ITERATIONS: Final = 600_000
_SALT_BYTES: Final = 16
_AES_KEY_BYTES: Final = 32
_AES_BLOCK_BYTES: Final = 16
# RFC 8018 (PBES2, PBKDF2), RFC 8018 B.1.2 (hmacWithSHA256), NIST (aes256-CBC): the object identifiers, already in DER.
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2: Final = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA256: Final = bytes.fromhex("06082a864886f70d02090500")
_AES256_CBC: Final = bytes.fromhex("060960864801650304012a")


class KeyFileError(Exception):
    """A private key cannot be read: not a key, of a kind Fabric does not take, or under another password."""


def generate() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key, the kind every node and user of the network has."""
    return ec.generate_private_key(ec.SECP256R1())


def to_pem(key: PrivateKey, password: bytes | None = None) -> bytes:
    """The key as PKCS#8 PEM, encrypted by PBES2 (PBKDF2-HMAC-SHA256, AES-256-CBC) when a password is given."""
    plain = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if password is None:
        return _pem(plain, b"PRIVATE KEY")
    if not password:
        raise ValueError("the password must not be empty")
    return _pem(_encrypted(plain, password), b"ENCRYPTED PRIVATE KEY")


def from_pem(pem: bytes, password: bytes | None = None) -> PrivateKey:
    """The key of a PKCS#8 or SEC 1 PEM. Raises KeyFileError."""
    try:
        key = serialization.load_pem_private_key(pem, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = "wrong or missing password" if b"ENCRYPTED" in pem else "not a private key in PEM"
        raise KeyFileError(reason) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise KeyFileError(f"Fabric takes EC and Ed25519 keys, not {type(key).__name__}")
    return key


def write_new(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file that is complete or absent, never half there; mode 0600 when private, folders made as needed.

    An existing file is left as it is."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content, private=private)


def replace_file(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file over what is there, in one step; mode 0600 when private, else 0644."""
    mode = 0o600 if private else 0o644
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load_or_generate(path: Path) -> PrivateKey:
    """The key at path, or a new one that is now there. Raises KeyFileError when what is there is no key."""
    if not path.exists():
        write_new(path, to_pem(generate()), private=True)
    try:
        return from_pem(path.read_bytes())
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from error


def _encrypted(plain: bytes, password: bytes) -> bytes:
    """EncryptedPrivateKeyInfo (RFC 5958) with PBES2 parameters (RFC 8018 A.4)."""
    salt, vector = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_AES_BLOCK_BYTES)
    secret = PBKDF2HMAC(hashes.SHA256(), _AES_KEY_BYTES, salt, PBKDF2_ITERATIONS).derive(password)
    padder = padding.PKCS7(8 * _AES_BLOCK_BYTES).padder()
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(vector)).encryptor()
    data = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    rounds = PBKDF2_ITERATIONS.to_bytes((PBKDF2_ITERATIONS.bit_length() + 8) // 8)
    derivation = _sequence(_PBKDF2, _sequence(_der(0x04, salt), _der(0x02, rounds), _sequence(_HMAC_SHA256)))
    scheme = _sequence(_AES256_CBC, _der(0x04, vector))
    return _sequence(_sequence(_PBES2, _sequence(derivation, scheme)), _der(0x04, data))


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, b"".join(parts))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def _pem(der: bytes, label: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = b"\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label, lines, label)
