"""Blocks as plain values, and the hashes that chain them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tallystick.fabric import _wire
from tallystick.fabric.errors import DecodeError
from tallystick.fabric.identity import Identity
from tallystick.fabric.status import ValidationCode

__all__ = [
    "Block",
    "BlockAndPrivateData",
    "BlockTransaction",
    "ChainInfo",
    "ChaincodeEvent",
    "FilteredBlock",
    "FilteredTransaction",
    "PrivateWrites",
    "Write",
    "data_hash",
    "header_der",
    "header_hash",
    "processed_transaction",
]

CONFIG = 1
"""Header type of a configuration transaction (`common.HeaderType`)."""
ENDORSER_TRANSACTION = 3
"""Header type of a contract's transaction."""


def header_der(number: int, previous_hash: bytes, data_hash: bytes) -> bytes:
    """A block header as orderers hash and sign it: DER SEQUENCE {INTEGER, OCTET STRING, OCTET STRING}.

    Fabric: protoutil/blockutils.go `BlockHeaderBytes`. The genesis block has an empty previous hash.
    """
    integer = number.to_bytes(number.bit_length() // 8 + 1)
    return _tlv(0x30, _tlv(0x02, integer) + _tlv(0x04, previous_hash) + _tlv(0x04, data_hash))


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def header_hash(number: int, previous_hash: bytes, data_hash: bytes) -> bytes:
    """SHA-256 of the header: the next block's previous hash; of block 0 the network id."""
    return hashlib.sha256(header_der(number, previous_hash, data_hash)).digest()


def data_hash(envelopes: Sequence[bytes]) -> bytes:
    """SHA-256 over the serialised envelopes of a block, one after the other."""
    digest = hashlib.sha256()
    for envelope in envelopes:
        digest.update(envelope)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class ChaincodeEvent:
    """An event that a contract set in one transaction. Filtered blocks leave the payload out (empty)."""

    block_number: int
    transaction_id: str
    chaincode: str
    name: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Write:
    """One key that a transaction wrote or deleted."""

    key: str
    value: bytes
    is_delete: bool


@dataclass(frozen=True, slots=True)
class BlockTransaction:
    """One envelope of a block. Events and results stand in invalid transactions too: look at `successful` first.

    Configuration blocks and unreadable envelopes have no chaincode, arguments, result or event. `timestamp` is the
    client's own, in UTC. `status` is the contract's (below 400).
    """

    index: int
    transaction_id: str
    type: int
    channel: str
    timestamp: datetime | None
    creator: Identity
    validation_code: ValidationCode
    chaincode: str
    arguments: tuple[bytes, ...]
    status: int
    result: bytes
    event: ChaincodeEvent | None
    endorsers: tuple[Identity, ...]
    read_write_set: bytes = field(repr=False)
    envelope: bytes = field(repr=False)

    @property
    def successful(self) -> bool:
        """Whether the transaction took effect."""
        return self.validation_code is ValidationCode.VALID

    @property
    def function(self) -> str:
        """The transaction name as sent, for example `voucher:issue`; empty when there is none."""
        return self.arguments[0].decode(errors="replace") if self.arguments else ""

    @property
    def writes(self) -> dict[str, tuple[Write, ...]]:
        """The public writes by chaincode, as the endorsers proposed them."""
        return {name: _writes(data) for name, data in _wire.namespaces(self.read_write_set)}


def _writes(data: bytes) -> tuple[Write, ...]:
    return tuple(Write(*entry) for entry in _wire.key_writes(data))


@dataclass(frozen=True, slots=True)
class Block:
    """A block of the channel. `data` is the block as received, `raw` the message it parses to."""

    number: int
    previous_hash: bytes
    data_hash: bytes
    transactions: tuple[BlockTransaction, ...]
    data: bytes = field(repr=False)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Block":
        """Read a serialised `common.Block`. Raises DecodeError."""
        return cls._from_message(_wire.parse_block(data), data)

    @classmethod
    def _from_message(cls, message: Any, data: bytes) -> "Block":
        parts = _wire.block_parts(message)
        codes = parts.codes
        transactions = tuple(
            _transaction(parts.number, index, envelope, codes[index] if index < len(codes) else 254)
            for index, envelope in enumerate(parts.envelopes)
        )
        return cls(parts.number, parts.previous_hash, parts.data_hash, transactions, data)

    @property
    def hash(self) -> bytes:
        """SHA-256 of the header."""
        return header_hash(self.number, self.previous_hash, self.data_hash)

    @property
    def raw(self) -> Any:
        """The `common.Block` message. Messages do not pickle: pass `data` between processes."""
        return _wire.parse_block(self.data)

    def chaincode_events(self, chaincode: str) -> Iterable[ChaincodeEvent]:
        """The events of one chaincode in valid transactions, in block order: what the event stream would deliver."""
        for transaction in self.transactions:
            event = transaction.event
            if transaction.successful and event is not None and event.chaincode == chaincode:
                yield event


def processed_transaction(data: bytes) -> BlockTransaction:
    """A transaction from a `ProcessedTransaction`, the answer of qscc GetTransactionByID. Raises DecodeError.

    Its place on the ledger is not in the answer: index is -1, and the block number of its event 0.
    """
    return _transaction(0, -1, *_wire.processed_transaction(data))


def _transaction(number: int, index: int, envelope: bytes, code: int) -> BlockTransaction:
    try:
        parts = _wire.envelope_parts(envelope)
    except DecodeError:
        # Peers keep what they cannot read in the block and mark it invalid; a reader must get past it.
        parts = _wire.EnvelopeParts(-1, "", "", 0, 0, b"", b"", "", (), 0, b"", None, b"", ())
    event = parts.event
    return BlockTransaction(
        index=index,
        transaction_id=parts.transaction_id,
        type=parts.type,
        channel=parts.channel,
        timestamp=_timestamp(parts.seconds, parts.nanos),
        creator=Identity(*_wire.read_identity(parts.creator)),
        validation_code=ValidationCode(code),
        chaincode=parts.chaincode,
        arguments=parts.arguments,
        status=parts.status,
        result=parts.result,
        event=ChaincodeEvent(number, event[0], event[1], event[2], event[3]) if event else None,
        endorsers=tuple(Identity(*_wire.read_identity(endorser)) for endorser in parts.endorsers),
        read_write_set=parts.read_write_set,
        envelope=envelope,
    )


def _timestamp(seconds: int, nanos: int) -> datetime | None:
    if not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanos // 1000)
    except (ValueError, OverflowError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class FilteredTransaction:
    """One transaction of a filtered block: id, header type, verdict, events without payload."""

    transaction_id: str
    type: int
    validation_code: ValidationCode
    events: tuple[ChaincodeEvent, ...]

    @property
    def successful(self) -> bool:
        """Whether the transaction took effect."""
        return self.validation_code is ValidationCode.VALID


@dataclass(frozen=True, slots=True)
class FilteredBlock:
    """A block without contents: enough to learn the outcome of transactions."""

    channel: str
    number: int
    transactions: tuple[FilteredTransaction, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> "FilteredBlock":
        """Read a serialised `protos.FilteredBlock`. Raises DecodeError."""
        return cls._from_message(_wire.parse_filtered_block(data))

    @classmethod
    def _from_message(cls, message: Any) -> "FilteredBlock":
        channel, number, entries = _wire.filtered_block(message)
        return cls(
            channel,
            number,
            tuple(
                FilteredTransaction(
                    transaction_id,
                    kind,
                    ValidationCode(code),
                    tuple(ChaincodeEvent(number, *event) for event in events),
                )
                for transaction_id, kind, code, events in entries
            ),
        )


@dataclass(frozen=True, slots=True)
class PrivateWrites:
    """What one transaction wrote to one private collection that the peer's organisation may hold."""

    index: int
    chaincode: str
    collection: str
    writes: tuple[Write, ...]


@dataclass(frozen=True, slots=True)
class BlockAndPrivateData:
    """A block with the private writes that the peer's organisation holds; `index` points into the block."""

    block: Block
    private_writes: tuple[PrivateWrites, ...]

    @classmethod
    def _from_message(cls, message: Any) -> "BlockAndPrivateData":
        block = Block._from_message(message.block, message.block.SerializeToString())
        return cls(
            block,
            tuple(
                PrivateWrites(index, chaincode, collection, _writes(data))
                for index, chaincode, collection, data in _wire.private_write_sets(message)
            ),
        )


@dataclass(frozen=True, slots=True)
class ChainInfo:
    """Height of the ledger and the header hashes of its last two blocks."""

    height: int
    current_hash: bytes
    previous_hash: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> "ChainInfo":
        """Read a `BlockchainInfo`, the answer of qscc GetChainInfo. Raises DecodeError."""
        return cls(*_wire.chain_info(data))
