"""Blocks as a SmartBFT ordering service writes them: header, data, and three of four consenters' signatures.

Hashes come from `tallystick.fabric.block`, so that client and network cannot disagree on them. The peer's slots
(transaction filter, commit hash) stay empty here; the committer fills them.
Source: protoutil/blockutils.go and orderer/consensus/smartbft of Fabric v3.1.5; embedded-network.md C.4."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fabric_protos.common import common_pb2
from tallystick.fabric.block import data_hash, header_der
from tallystick.fabric.hashing import Hash
from tallystick.fabric.signer import Signer

from network.channel.consensus import quorum
from network.embedded.rpc import varint

# The metadata slots that are ever filled; 1 (LAST_CONFIG) and 3 (ORDERER) stay empty.
SIGNATURES: Final = 0
TRANSACTIONS_FILTER: Final = 2
COMMIT_HASH: Final = 4
SLOTS: Final = 5
_NONCE_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Consenter:
    """One ordering node: its number in the channel's consenter mapping, and its key."""

    id: int
    sign: Signer


@dataclass(frozen=True, slots=True)
class Signed:
    """One consenter signature of a block: the signed bytes, who is said to have signed, and the signature."""

    consenter: int
    message: bytes
    signature: bytes


def build(
    number: int,
    previous_hash: bytes,
    envelopes: Sequence[bytes],
    consenters: Sequence[Consenter],
    *,
    nonce: Callable[[int], bytes] = secrets.token_bytes,
) -> common_pb2.Block:
    """Put the envelopes in a block and let a quorum of the consenters sign it.

    The signers rotate with the block number: a real service writes whichever votes arrived first, in that order."""
    block = common_pb2.Block(
        header=common_pb2.BlockHeader(number=number, previous_hash=previous_hash, data_hash=data_hash(envelopes)),
        data=common_pb2.BlockData(data=envelopes),
    )
    value = _orderer_metadata(number)
    header = header_der(number, previous_hash, block.header.data_hash)
    signatures = common_pb2.Metadata(value=value)
    for step in range(quorum(len(consenters))):
        consenter = consenters[(number + step) % len(consenters)]
        identifier = common_pb2.IdentifierHeader(identifier=consenter.id, nonce=nonce(_NONCE_BYTES)).SerializeToString()
        signature = consenter.sign(Hash.SHA256.digest(value + identifier + header))
        signatures.signatures.add(identifier_header=identifier, signature=signature)
    slots = [b""] * SLOTS
    slots[SIGNATURES] = signatures.SerializeToString()
    block.metadata.metadata.extend(slots)
    return block


def signed_by(block: common_pb2.Block) -> list[Signed]:
    """The consenter signatures of a block, in the order in which they stand, for the BlockValidation policy.

    Raises `google.protobuf.message.DecodeError` when the slot is not readable."""
    metadata = common_pb2.Metadata.FromString(block.metadata.metadata[SIGNATURES])
    header = header_der(block.header.number, block.header.previous_hash, block.header.data_hash)
    found = []
    for entry in metadata.signatures:
        identifier = common_pb2.IdentifierHeader.FromString(entry.identifier_header)
        message = metadata.value + entry.identifier_header + header
        found.append(Signed(consenter=identifier.identifier, message=message, signature=entry.signature))
    return found


def as_ordered(block_bytes: bytes) -> bytes:
    """The block as an orderer shows it: the same, with the two slots that peers write left empty."""
    block = common_pb2.Block.FromString(block_bytes)
    for slot in (TRANSACTIONS_FILTER, COMMIT_HASH):
        if slot < len(block.metadata.metadata):
            block.metadata.metadata[slot] = b""
    return block.SerializeToString()


def _orderer_metadata(number: int) -> bytes:
    """OrdererBlockMetadata{last_config 0, ViewMetadata}: the configuration is always block 0 here."""
    return common_pb2.OrdererBlockMetadata(
        last_config=common_pb2.LastConfig(index=0), consenter_metadata=_view_metadata(number)
    ).SerializeToString()


def _view_metadata(number: int) -> bytes:
    """SmartBFT's ViewMetadata{view 0, sequence n, decisions n-1}; its message is not in the published protos."""
    encoded = b"\x10" + varint(number)
    if number > 1:
        encoded += b"\x18" + varint(number - 1)
    return encoded
