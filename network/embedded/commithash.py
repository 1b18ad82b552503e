"""COMMIT_HASH: the running hash of validation codes and state changes that every peer of a channel agrees on.

Its message is not among Fabric's published ones, so it is encoded here by hand. Source: embedded-network.md D.7; Fabric
core/ledger/kvledger/kv_ledger.go (addBlockCommitHash), txmgmt/txmgr/{update_batch_bytes.go,updates.proto}.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256

from network.embedded.mvcc import Update, Updates
from network.embedded.rpc import field, varint
from network.embedded.rwset import split


def commit_hash(codes: bytes, updates: Updates, previous: bytes) -> bytes:
    """The hash after a block: `codes` has one byte per transaction, `previous` is empty for block 1."""
    return sha256(varint(len(codes)) + codes + updates_bytes(updates) + previous).digest()


def updates_bytes(updates: Updates) -> bytes:
    """A block's final writes in canonical order: namespaces sorted, public keys before collections, keys sorted.

    Metadata is not included, nor is the namespace "" of the channel configuration.
    """
    parts: list[bytes] = []
    for namespace in sorted(updates.public.keys() | updates.hashed.keys()):
        if not namespace:
            continue
        prefix = field(1, namespace.encode())
        for entry in _entries(updates.of(namespace)):
            parts.append(field(1, prefix + entry))
            prefix = b""
        for collection, changes in sorted(updates.hashed.get(namespace, {}).items()):
            prefix += field(2, collection.encode())
            for entry in _entries(changes):
                parts.append(field(1, prefix + entry))
                prefix = b""
    return b"".join(parts)


def _entries(changes: Mapping[bytes, Update]) -> Iterator[bytes]:
    for key, (value, _, version) in sorted(changes.items()):
        block, transaction = split(version)
        end = field(5, value) if value else b""
        yield (
            (field(3, key) if key else b"")
            + (b"\x20\x01" if value is None else b"")
            + end
            + field(6, _ordered(block) + _ordered(transaction))
        )


def _ordered(number: int) -> bytes:
    """One length byte (0 to 8), then the number big-endian without leading zeros."""
    size = (number.bit_length() + 7) // 8
    return bytes((size,)) + number.to_bytes(size, "big")
