"""Simulation of one transaction for one organisation: reads from a snapshot, writes into a read-write set.

Reads answer the committed state, never the transaction's own writes. Rules and error texts are Fabric's
(core/ledger/kvledger/txmgmt/txmgr/{query_executor,tx_simulator,collection_val}.go); embedded-network.md B.5.
Key rules (no empty key, no leading NUL) are the shims', not the ledger's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from fabric_protos.common import common_pb2
from fabric_protos.ledger.queryresult import kv_query_result_pb2
from fabric_protos.peer import proposal_pb2, proposal_response_pb2, transaction_pb2

from network.embedded import lifecycle
from network.embedded.ledger import Snapshot
from network.embedded.rwset import RangeRecord, RwSetBuilder, decode_metadata, is_delete, parse, show
from network.embedded.store import HashRow, LedgerDamaged, StateRow

FETCH = 101  # rows read at once; the chaincode host asks for 100 and one more


class SimulationError(Exception):
    """The ledger refuses what the chaincode asked; the text is Fabric's."""


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """What a simulation leaves.

    `public` is the TxReadWriteSet, `private` the TxPvtReadWriteSet or None. `touched` lists each namespace with its
    collections, `private_reads` the (namespace, collection) whose plain values were read, `written_metadata` the
    committed metadata of every written key by (namespace, collection or "", key): what the chaincode interest needs.
    """

    public: bytes
    private: bytes | None
    touched: tuple[tuple[str, tuple[str, ...]], ...]
    private_reads: frozenset[tuple[str, str]]
    written_metadata: Mapping[tuple[str, str, str], Mapping[str, bytes]]


class RangeIterator(Iterator[tuple[str, bytes]]):
    """Rows of a range in key order. What it has returned, and whether it ran off the end, is part of the set."""

    def __init__(
        self, fetch: Callable[[bytes, int], list[tuple[bytes, bytes, int]]], start: str, record: RangeRecord | None
    ) -> None:
        self._fetch = fetch
        self._start = start.encode()
        self._record = record
        self._rows: Iterator[tuple[bytes, bytes, int]] = iter(())
        self._more = True
        self._done = False

    def __next__(self) -> tuple[str, bytes]:
        row = None if self._done else self._next_row()
        if row is None:
            if not self._done and self._record is not None:
                self._record.exhausted()
            self._done = True
            raise StopIteration
        key = row[0].decode()
        if self._record is not None:
            self._record.returned(key, row[2])
        return key, row[1]

    def close(self) -> None:
        """End without running off the end: later rows are not part of what was read."""
        self._done = True

    def _next_row(self) -> tuple[bytes, bytes, int] | None:
        row = next(self._rows, None)
        if row is None and self._more:
            rows = self._fetch(self._start, FETCH)
            self._more = len(rows) == FETCH
            if rows:
                self._start = rows[-1][0] + b"\0"
            self._rows = iter(rows)
            row = next(self._rows, None)
        return row


class Simulator:
    """One transaction's view of the ledger, shared by all chaincodes that it calls on the channel."""

    def __init__(self, snapshot: Snapshot, msp_id: str, transaction_id: str = "") -> None:
        self._snapshot = snapshot
        self._msp_id = msp_id
        self._transaction_id = transaction_id
        self._set = RwSetBuilder()
        self._rows: dict[tuple[str, str], StateRow | None] = {}
        self._collections: dict[str, lifecycle.Definition] = {}
        self._private_reads: set[tuple[str, str]] = set()
        self._written: dict[tuple[str, str, str], Mapping[str, bytes]] = {}
        self._wrote = False
        self._paginated = False
        self._queried_private = False
        self._finished = False

    # --- public state --------------------------------------------------------------------------------------------

    def get_state(self, namespace: str, key: str) -> bytes | None:
        """The committed value, None when absent."""
        row = self._read(namespace, key)
        return None if row is None else row.value

    def get_state_multiple(self, namespace: str, keys: Iterable[str]) -> list[bytes | None]:
        """The committed values in the order of the keys."""
        return [self.get_state(namespace, key) for key in keys]

    def set_state(self, namespace: str, key: str, value: bytes) -> None:
        """Write a key; an empty value deletes it."""
        self._before_write()
        self._set.write(namespace, key, value)
        self._note(namespace, key)

    def delete_state(self, namespace: str, key: str) -> None:
        """Delete a key, and its metadata with it."""
        self.set_state(namespace, key, b"")

    def get_metadata(self, namespace: str, key: str) -> dict[str, bytes]:
        """The committed metadata by name, empty when there is none; counts as a read of the key."""
        row = self._read(namespace, key)
        return {} if row is None else decode_metadata(row.metadata)

    def set_metadata(self, namespace: str, key: str, metadata: Mapping[str, bytes]) -> None:
        """Replace the metadata of a key; empty removes it."""
        self._before_write()
        self._set.write_metadata(namespace, key, dict(metadata))
        self._note(namespace, key)

    def range(self, namespace: str, start: str, end: str) -> RangeIterator:
        """Rows from `start` to `end` (exclusive; empty means open); protected against phantoms as far as read."""
        self._check_open()
        last = end.encode()
        return RangeIterator(
            lambda first, limit: self._snapshot.state_range(namespace, first, last, limit),
            start,
            self._set.range(namespace, start, end),
        )

    def range_page(
        self, namespace: str, start: str, end: str, page_size: int, bookmark: str = ""
    ) -> tuple[list[tuple[str, bytes]], str]:
        """One page of a range and the key of the next page (empty at the end). No writes afterwards."""
        if self._wrote:
            raise self._refusal("Paginated queries are supported only in a read-only transaction")
        self._check_open()
        self._paginated = True
        first = bookmark or start
        record = self._set.range(namespace, first, end)
        rows = self._snapshot.state_range(namespace, first.encode(), end.encode(), page_size + 1)
        page = rows[:page_size]
        for key, _, version in page:
            record.returned(key.decode(), version)
        if len(page) < page_size:
            record.exhausted()
        following = rows[page_size][0].decode() if len(rows) > page_size else ""
        return [(key.decode(), value) for key, value, _ in page], following

    def history(self, namespace: str, key: str) -> Iterator[kv_query_result_pb2.KeyModification]:
        """Every valid write of a key, newest first; not part of the read-write set."""
        self._check_open()
        name = key.encode()
        before: int | None = None
        while versions := self._snapshot.history(namespace, name, before, FETCH):
            for version in versions:
                yield self._modification(namespace, key, version)
            before = versions[-1]

    # --- private state -------------------------------------------------------------------------------------------

    def get_private(self, namespace: str, collection: str, key: str) -> bytes | None:
        """The plain value as this organisation holds it; refused when it is not the one whose hash is public."""
        self._check_collection(namespace, collection)
        row = self._snapshot.private(self._msp_id, namespace, collection, key.encode())
        hashed = self._hashed(namespace, collection, key)
        version = None if row is None else row[1]
        public_version = None if hashed is None else hashed.version
        if version != public_version:
            raise SimulationError(
                "private data matching public hash version is not available. "
                f"Public hash version = {show(public_version)}, Private data version = {show(version)}"
            )
        self._set.read_private(namespace, collection, key, version)
        self._private_reads.add((namespace, collection))
        return None if row is None else row[0]

    def get_private_hash(self, namespace: str, collection: str, key: str) -> bytes | None:
        """SHA-256 of the value, known to every organisation; None when absent."""
        self._check_collection(namespace, collection)
        row = self._hashed(namespace, collection, key)
        self._set.read_private(namespace, collection, key, None if row is None else row.version)
        return None if row is None else row.value_hash

    def set_private(self, namespace: str, collection: str, key: str, value: bytes) -> None:
        """Write a private key; an empty value deletes it."""
        self._write_private(namespace, collection, key, value, purge=False)

    def delete_private(self, namespace: str, collection: str, key: str) -> None:
        """Delete a private key; what earlier blocks hold of it stays."""
        self._write_private(namespace, collection, key, b"", purge=False)

    def purge_private(self, namespace: str, collection: str, key: str) -> None:
        """Delete a private key and erase its plain values of earlier blocks."""
        self._write_private(namespace, collection, key, b"", purge=True)

    def private_range(self, namespace: str, collection: str, start: str, end: str) -> RangeIterator:
        """Plain rows of a range; not protected against phantoms, hence no writes in the same transaction."""
        if self._wrote:
            raise self._refusal("Queries on pvt data is supported only in a read-only transaction")
        self._queried_private = True
        self._check_collection(namespace, collection)
        last = end.encode()
        return RangeIterator(
            lambda first, limit: self._snapshot.private_range(self._msp_id, namespace, collection, first, last, limit),
            start,
            None,
        )

    def get_private_metadata(self, namespace: str, collection: str, key: str) -> dict[str, bytes]:
        """The committed metadata of a private key; counts as a read of its hash."""
        self._check_collection(namespace, collection)
        row = self._hashed(namespace, collection, key)
        self._set.read_private(namespace, collection, key, None if row is None else row.version)
        return {} if row is None else decode_metadata(row.metadata)

    def set_private_metadata(self, namespace: str, collection: str, key: str, metadata: Mapping[str, bytes]) -> None:
        """Replace the metadata of a private key; empty removes it."""
        self._check_collection(namespace, collection)
        self._before_write()
        self._set.write_private_metadata(namespace, collection, key, dict(metadata))
        self._note_private(namespace, collection, key)

    # --- the end -------------------------------------------------------------------------------------------------

    def result(self) -> SimulationResult:
        """End the simulation. Raises SimulationError when called twice."""
        if self._finished:
            raise SimulationError("this function should only be called once on a transaction simulator instance")
        self._finished = True
        public, private = self._set.build()
        return SimulationResult(
            public, private, self._set.touched(), frozenset(self._private_reads), dict(self._written)
        )

    # --- inside --------------------------------------------------------------------------------------------------

    def _read(self, namespace: str, key: str) -> StateRow | None:
        self._check_open()
        row = self._committed(namespace, key)
        self._set.read(namespace, key, None if row is None else row.version)
        return row

    def _committed(self, namespace: str, key: str) -> StateRow | None:
        name = (namespace, key)
        if name not in self._rows:
            self._rows[name] = self._snapshot.state(namespace, key.encode())
        return self._rows[name]

    def _hashed(self, namespace: str, collection: str, key: str) -> HashRow | None:
        return self._snapshot.hashed(namespace, collection, sha256(key.encode()).digest())

    def _write_private(self, namespace: str, collection: str, key: str, value: bytes, purge: bool) -> None:
        self._check_collection(namespace, collection)
        self._before_write()
        self._set.write_private(namespace, collection, key, value, purge)
        self._note_private(namespace, collection, key)

    def _note(self, namespace: str, key: str) -> None:
        """Remember the key's committed metadata without reading the key: the interest names its policy."""
        row = self._committed(namespace, key)
        self._written[(namespace, "", key)] = {} if row is None else decode_metadata(row.metadata)

    def _note_private(self, namespace: str, collection: str, key: str) -> None:
        row = self._hashed(namespace, collection, key)
        self._written[(namespace, collection, key)] = {} if row is None else decode_metadata(row.metadata)

    def _before_write(self) -> None:
        self._check_open()
        if self._queried_private:
            raise self._refusal("Transaction has already performed queries on pvt data. Writes are not allowed")
        if self._paginated:
            raise self._refusal("Transaction has already performed a paginated query. Writes are not allowed")
        self._wrote = True

    def _refusal(self, text: str) -> SimulationError:
        # The misspelling is Fabric's and part of what clients see.
        return SimulationError(f"txid [{self._transaction_id}]: unsuppored transaction. {text}")

    def _check_open(self) -> None:
        if self._finished:
            raise SimulationError("this instance should not be used after calling Done()")

    def _check_collection(self, namespace: str, collection: str) -> None:
        """The collection exists; looking it up reads the chaincode's definition as part of the transaction."""
        self._check_open()
        definition = self._collections.get(namespace)
        if definition is None:
            definition = lifecycle.definition(self.get_state, namespace)
            if definition is None:
                raise SimulationError(
                    f"collection config not defined for chaincode [{namespace}], "
                    "pass the collection configuration upon chaincode definition/instantiation"
                )
            self._collections[namespace] = definition
        owner = lifecycle.implicit_owner(collection)
        known = collection in definition.collections if owner is None else owner in self._snapshot.msp_ids
        if not known:
            raise SimulationError(
                f"collection [{collection}] not defined in the collection config for chaincode [{namespace}]"
            )

    def _modification(self, namespace: str, key: str, version: int) -> kv_query_result_pb2.KeyModification:
        data = self._snapshot.envelope(version)
        if data is None:
            raise LedgerDamaged("the ledger file lacks a transaction that its history names")
        return modification(data, namespace, key)


def modification(envelope: bytes, namespace: str, key: str) -> kv_query_result_pb2.KeyModification:
    """What a committed transaction wrote to a public key: value, transaction id, timestamp, delete flag."""
    payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(envelope).payload)
    header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
    transaction = transaction_pb2.Transaction.FromString(payload.data)
    action = transaction_pb2.ChaincodeActionPayload.FromString(transaction.actions[0].payload).action
    response = proposal_response_pb2.ProposalResponsePayload.FromString(action.proposal_response_payload)
    results = proposal_pb2.ChaincodeAction.FromString(response.extension).results
    for item in parse(results):
        if item.name == namespace:
            for write in item.public.writes:
                if write.key == key:
                    return kv_query_result_pb2.KeyModification(
                        tx_id=header.tx_id, value=write.value, timestamp=header.timestamp, is_delete=is_delete(write)
                    )
    raise LedgerDamaged(f"the ledger's history names transaction {header.tx_id}, which does not write the key")
