"""Private keys on disk: readable by their owner only, whole or absent, and encrypted as RFC 8018 says."""

import base64
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from tallystick.fabric import signer as signers

from network.identity import key as keys
from network.identity.key import KeyFileError

# PBES2; PBKDF2 with HMAC-SHA256; AES-256-CBC; 600,000 rounds (09 27 C0): as they stand in the parameters.
PBES2_PARTS = [
    bytes.fromhex(part)
    for part in ("2a864886f70d01050d", "2a864886f70d01050c", "2a864886f70d0209", "60864801650304012a", "02030927c0")
]


@pytest.mark.parametrize(
    "key", [keys.generate(), ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()]
)
def test_an_encrypted_key_is_pbes2_and_opens_with_its_password_only(key: keys.PrivateKey) -> None:
    pem = keys.to_pem(key, "口令 secret".encode())
    der = serialization.load_pem_private_key(pem, "口令 secret".encode())
    assert keys.to_pem(keys.from_pem(pem, "口令 secret".encode())) == keys.to_pem(key)
    assert der.public_key() == key.public_key()
    content = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert [part in content for part in PBES2_PARTS] == [True] * 5
    assert max(map(len, pem.splitlines())) <= 64
    for wrong in (None, b"secret"):
        with pytest.raises(KeyFileError, match="wrong or missing password"):
            keys.from_pem(pem, wrong)
    assert signers.from_pem(pem, "口令 secret")


def test_two_encryptions_of_one_key_differ() -> None:
    key = keys.generate()
    assert keys.to_pem(key, b"p") != keys.to_pem(key, b"p")
    with pytest.raises(ValueError, match="must not be empty"):
        keys.to_pem(key, b"")


def test_keys_that_fabric_does_not_take_are_refused() -> None:
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(KeyFileError, match="Fabric takes EC and Ed25519 keys, not RSAPrivateKey"):
        keys.from_pem(pem)
    with pytest.raises(KeyFileError, match="not a private key in PEM"):
        keys.from_pem(b"hello")


def test_files_are_whole_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a" / "key.pem"
    keys.write_new(path, b"first", private=True)
    keys.write_new(path, b"second", private=True)
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # What an interrupted write left behind is no obstacle.
    (path.parent / ".key.pem.part").write_bytes(b"half")
    keys.replace_file(path, b"third", private=True)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"third", 0o600)
    assert [entry.name for entry in path.parent.iterdir()] == ["key.pem"]


def test_a_key_is_made_once_and_a_broken_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    first = keys.load_or_generate(path)
    assert keys.load_or_generate(path).public_key() == first.public_key()
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(KeyFileError, match=r"key\.pem: not a private key in PEM"):
        keys.load_or_generate(path)
