"""Hash options of the signing step: which digest of an object a signer receives."""

import hashlib
from collections.abc import Callable
from enum import Enum


class Hash(Enum):
    """How an object's bytes become the digest that is signed.

    SHA-256 is right for every ECDSA key on today's channels (channel MSPs refuse SHA-384 even for P-384), and NONE is
    right for Ed25519, which signs the message itself. The others are honoured when asked for by name.
    """

    NONE = "none"
    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA3_256 = "sha3_256"
    SHA3_384 = "sha3_384"

    def digest(self, data: bytes) -> bytes:
        """Digest of data: 32 or 48 bytes, or data itself for NONE."""
        return _FUNCTIONS[self](data)


_FUNCTIONS: dict[Hash, Callable[[bytes], bytes]] = {
    Hash.NONE: lambda data: data,
    Hash.SHA256: lambda data: hashlib.sha256(data).digest(),
    Hash.SHA384: lambda data: hashlib.sha384(data).digest(),
    Hash.SHA3_256: lambda data: hashlib.sha3_256(data).digest(),
    Hash.SHA3_384: lambda data: hashlib.sha3_384(data).digest(),
}
