"""The ledger: blocks, indexes, state, private data and the queue of accepted envelopes in one SQLite file.

One thread writes (`Ledger.writer`), one SQLite transaction per block, and a commit returns only when the disk has it
(WAL, synchronous=FULL). Readers are pooled connections; a `Snapshot` is one of them inside a read transaction, so it
sees one height however long it lives. Nothing here judges a transaction: the committer hands over finished blocks.

Source: embedded-network.md D.6, H.
"""

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from fabric_protos.common import common_pb2

from network.embedded import opening, store
from network.embedded.private import PrivateWrites, store_writes
from network.embedded.rwset import join_private, position, split
from network.embedded.store import (
    HashRow,
    LedgerClosed,
    LedgerDamaged,
    LedgerError,
    LedgerExists,
    LedgerMissing,
    Reader,
    StateRow,
)
from network.embedded.writer import DirectWriter, ThreadWriter, Writer

TRANSIENT_BLOCKS = 1000  # Fabric's transientstoreMaxBlockRetention: endorsed and never committed data goes after these
IDLE_READERS = 32  # connections kept for the next readers; a burst opens more and closes them again
PURGE_EVERY = 100  # blocks between two sweeps of the transient store

# namespace, key, value (None deletes), metadata, version
KeyWrite = tuple[str, bytes, bytes | None, bytes | None, int]
# namespace, collection, key hash, value hash (None deletes), metadata, version
HashWrite = tuple[str, str, bytes, bytes | None, bytes | None, int]


@dataclass(slots=True)
class BlockWrites:
    """Everything that one block changes, written in one SQLite transaction.

    `entries` holds (transaction id, version, code) of every transaction with an id, valid or not, in block order;
    `state` and `hashed` the final write of each key.
    """

    block: common_pb2.Block
    hash: bytes
    commit_hash: bytes
    entries: list[tuple[str, int, int]]
    state: list[KeyWrite] = field(default_factory=list)
    hashed: list[HashWrite] = field(default_factory=list)
    history: list[tuple[str, bytes, int]] = field(default_factory=list)
    private: PrivateWrites = field(default_factory=PrivateWrites)


@dataclass(frozen=True, slots=True)
class TransactionInfo:
    """Where the first transaction with an id lies, and its validation code (0 is VALID)."""

    block: int
    index: int
    code: int
    _read: Callable[[int], bytes | None] = field(repr=False, compare=False)

    @property
    def envelope(self) -> bytes:
        """The serialised envelope, read from the ledger when asked for."""
        data = self._read(position(self.block, self.index))
        if data is None:
            raise LedgerDamaged(f"the ledger file lacks transaction {self.index} of block {self.block}")
        return data


class Snapshot(Reader):
    """The ledger at one height, as long as it is open. Use as a context manager, by one thread at a time.

    Each key is read from the file once: the simulations of all organisations of a call mostly read the same keys."""

    __slots__ = ("_entries", "_hashed_rows", "_release", "_states", "height", "msp_ids")

    def __init__(
        self, connection: sqlite3.Connection, height: int, msp_ids: tuple[str, ...], release: Callable[[], None]
    ) -> None:
        super().__init__(connection)
        self.height = height
        self.msp_ids = msp_ids
        self._release: Callable[[], None] | None = release
        self._states: dict[tuple[str, bytes], StateRow | None] = {}
        self._hashed_rows: dict[tuple[str, str, bytes], HashRow | None] = {}
        self._entries: dict[str, tuple[int, int] | None] = {}

    def state(self, namespace: str, key: bytes) -> StateRow | None:
        """A public key; None when absent."""
        name = (namespace, key)
        if name not in self._states:
            self._states[name] = super().state(namespace, key)
        return self._states[name]

    def get_state(self, namespace: str, key: str) -> bytes | None:
        """Only the value of a public key."""
        row = self.state(namespace, key.encode())
        return None if row is None else row.value

    def hashed(self, namespace: str, collection: str, key_hash: bytes) -> HashRow | None:
        """A private key by its hash."""
        name = (namespace, collection, key_hash)
        if name not in self._hashed_rows:
            self._hashed_rows[name] = super().hashed(namespace, collection, key_hash)
        return self._hashed_rows[name]

    def entry(self, transaction_id: str) -> tuple[int, int] | None:
        """Place and validation code of the first transaction with this id."""
        if transaction_id not in self._entries:
            self._entries[transaction_id] = super().entry(transaction_id)
        return self._entries[transaction_id]

    def close(self) -> None:
        """Give the connection back; closing twice does nothing."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class LedgerReader(ABC):
    """What endorsing needs of the ledger, in whichever process: all reads, and a place for private write sets.

    `msp_ids` are the channel's organisations. Every public method may be called from any thread."""

    def __init__(self, path: Path | None, msp_ids: Sequence[str]) -> None:
        self._path = path
        self.msp_ids = tuple(msp_ids)
        self._guard = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @property
    def height(self) -> int:
        """Number of committed blocks."""
        with self._reader() as reader:
            return reader.tip()[0]

    def snapshot(self) -> Snapshot:
        """The state of now, unchanged by later blocks until it is closed."""
        connection = self._borrow()
        try:
            connection.execute("BEGIN")
            # The first read fixes what the transaction sees.
            height = connection.execute("SELECT height FROM tip").fetchone()[0]
        except sqlite3.Error as error:
            connection.close()
            raise store.explain(error, "read the ledger") from error
        return Snapshot(connection, height, self.msp_ids, lambda: self._end_snapshot(connection))

    def block(self, number: int) -> bytes | None:
        """A block with filled metadata, serialised; None when it is not committed."""
        with self._reader() as reader:
            return _assemble(reader, number)

    def block_by_hash(self, hash_of_header: bytes) -> bytes | None:
        """The block with this header hash."""
        with self._reader() as reader:
            number = reader.block_number(hash_of_header)
            return None if number is None else _assemble(reader, number)

    def block_by_transaction(self, transaction_id: str) -> bytes | None:
        """The block that holds the first transaction with this id."""
        with self._reader() as reader:
            entry = reader.entry(transaction_id)
            return None if entry is None else _assemble(reader, split(entry[0])[0])

    def transaction(self, transaction_id: str) -> TransactionInfo | None:
        """The first transaction with this id, valid or not; None when no block holds it."""
        with self._reader() as reader:
            entry = reader.entry(transaction_id)
        if entry is None:
            return None
        block, index = split(entry[0])
        return TransactionInfo(block, index, entry[1], self.envelope)

    def envelope(self, version: int) -> bytes | None:
        """The envelope at this place."""
        with self._reader() as reader:
            return reader.envelope(version)

    @abstractmethod
    def keep_transient(self, transaction_id: str, msp_id: str, private: bytes) -> "Future[None]":
        """Keep the plain private writes (TxPvtReadWriteSet) of an endorsed transaction for one organisation."""

    def close(self) -> None:
        """Close every idle connection; open snapshots end when they close."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # --- inside --------------------------------------------------------------------------------------------------

    @contextmanager
    def _reader(self) -> Iterator[Reader]:
        connection = self._borrow()
        try:
            yield Reader(connection)
        finally:
            self._give_back(connection)

    def _borrow(self) -> sqlite3.Connection:
        with self._guard:
            if self._closed:
                raise LedgerClosed("the ledger is closed")
            if self._idle:
                return self._idle.pop()
        return store.connect(self._path, read_only=True)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._guard:
            if not self._closed and len(self._idle) < IDLE_READERS:
                self._idle.append(connection)
                return
        connection.close()

    def _end_snapshot(self, connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")
        self._give_back(connection)


class Ledger(LedgerReader):
    """One channel's ledger. Open it with `create` or `open`, end it with `close` (or use it as a context manager).

    Every public method may be called from any thread; those that write run on the writer's thread.
    """

    writer: Writer

    def __init__(self, path: Path | None, msp_ids: Sequence[str], connection: sqlite3.Connection, lock: int) -> None:
        super().__init__(path, msp_ids)
        self._lock = lock
        self._connection = connection
        self.current = Reader(connection)  # the committed state as the writer sees it
        self._open_snapshots = 0
        self._height, self._tip_hash, self.commit_hash = self.current.tip()
        self.network_id = bytes(opening.meta(connection, "network_id")).hex()
        self._pending = {bytes(data): number for number, data in connection.execute("SELECT number, data FROM pending")}
        self._next_pending = max(self._pending.values(), default=0) + 1
        self.writer = DirectWriter(self._small_writes) if path is None else ThreadWriter(self._small_writes)

    # --- opening and closing -------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path | None, genesis: bytes, msp_ids: Sequence[str]) -> Self:
        """Make a ledger that holds block 0 (`genesis`, a serialised Block) and open it; None keeps it in memory.

        Raises LedgerExists when the file is there, LedgerError when `genesis` is no block 0.
        """
        lock = opening.lock(path)
        try:
            if path is not None:
                opening.make_file(path, genesis, msp_ids)
            connection = store.connect(path)
            try:
                with store.plain_errors("create the ledger"):
                    if path is None:
                        opening.write_genesis(connection, genesis, msp_ids)
                    else:
                        store.make_durable(connection)
                return cls(path, msp_ids, connection, lock)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            opening.unlock(lock)
            raise

    @classmethod
    def open(cls, path: Path, msp_ids: Sequence[str]) -> Self:
        """Open a ledger after checking it: schema, height, tip hash and the last 100 header links.

        Raises LedgerMissing, LedgerInUse, LedgerDamaged. Nothing is repaired; SQLite itself finishes or drops the
        block that a crash interrupted.
        """
        lock = opening.lock(path)
        try:
            if not path.exists():
                raise LedgerMissing(f"there is no ledger at {path}; create the network first")
            connection = store.connect(path)
            try:
                with store.plain_errors("open the ledger"):
                    opening.check(connection, msp_ids)
                    store.make_durable(connection)
                return cls(path, msp_ids, connection, lock)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            opening.unlock(lock)
            raise

    def close(self) -> None:
        """Finish queued writes, close every connection and release the lock; open snapshots end when they close."""
        if self._closed:
            return
        self.writer.close()
        super().close()
        self._connection.close()
        opening.unlock(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        """Number of committed blocks."""
        return self._height

    @property
    def tip_hash(self) -> bytes:
        """Header hash of the last block."""
        return self._tip_hash

    def snapshot(self) -> Snapshot:
        """The state of now, unchanged by later blocks until it is closed."""
        if self._path is not None:
            return super().snapshot()
        # One connection cannot hold an old state while it writes: append() refuses while a snapshot is open.
        self._open_snapshots += 1
        return Snapshot(self._connection, self._height, self.msp_ids, self._release_in_memory)

    def private_write_sets(self, block: int, msp_id: str) -> dict[int, bytes]:
        """Plain private writes of a block that this organisation holds: transaction number -> TxPvtReadWriteSet."""
        with self._reader() as reader:
            found = reader.private_sets(block, msp_id)
        return {index: join_private(sets) for index, sets in found.items()}

    def pending(self) -> list[bytes]:
        """Envelopes accepted and not yet in a block, oldest first."""
        with self._reader() as reader, store.plain_errors("read the ledger"):
            rows = reader.connection.execute("SELECT data FROM pending ORDER BY number").fetchall()
        return [row[0] for row in rows]

    # --- writing -------------------------------------------------------------------------------------------------

    def add_pending(self, envelopes: Sequence[bytes]) -> "Future[None]":
        """Keep accepted envelopes until a block holds them; done when the disk has them.

        Calls that queue up behind each other share one fsync. No envelopes: only tries whether the disk takes writes.
        """
        return self.writer.small(lambda: self._insert_pending(envelopes))

    def keep_transient(self, transaction_id: str, msp_id: str, private: bytes) -> "Future[None]":
        """Keep the plain private writes (TxPvtReadWriteSet) of an endorsed transaction for one organisation.

        Queued before any later submission of the same transaction, so it is on disk when that one is accepted.
        """
        return self.writer.small(lambda: self._insert_transient(transaction_id, msp_id, private))

    def append(self, writes: BlockWrites) -> None:
        """Write one finished block, all of it or nothing; on the writer's thread only. Raises LedgerError."""
        if not self.writer.here:
            raise LedgerError("a block is appended on the writer's thread only: ledger.writer.call(...)")
        if self._open_snapshots and self._path is None:
            raise LedgerError("a snapshot of this ledger in memory is still open; close it before the next block")
        number = writes.block.header.number
        with self._transaction("write a block"):
            self._append(number, writes)
        for data in writes.block.data.data:
            self._pending.pop(data, None)
        self._tip_hash = writes.hash
        self.commit_hash = writes.commit_hash
        self._height = number + 1

    def backup(self, target: Path) -> None:
        """Copy the ledger while it runs; `target` is then a sound ledger file at some committed height."""
        if target.exists():
            raise LedgerExists(f"there already is a file at {target}")
        with self._reader() as reader, store.plain_errors("back up the ledger"):
            copy = sqlite3.connect(target)
            try:
                reader.connection.backup(copy, pages=4096, sleep=0.001)
                copy.execute("DELETE FROM pending")
                copy.commit()
            finally:
                copy.close()

    # --- inside --------------------------------------------------------------------------------------------------

    def _append(self, number: int, writes: BlockWrites) -> None:
        run, many = self._connection.execute, self._connection.executemany
        block = writes.block
        run(
            "INSERT INTO block VALUES(?, ?, ?, ?)",
            (number, writes.hash, block.header.SerializeToString(), block.metadata.SerializeToString()),
        )
        first = position(number, 0)
        many("INSERT INTO envelope VALUES(?, ?)", enumerate(block.data.data, first))
        many("INSERT OR IGNORE INTO entry VALUES(?, ?, ?)", writes.entries)
        many("INSERT OR REPLACE INTO state VALUES(?, ?, ?, ?, ?)", [row for row in writes.state if row[2] is not None])
        many("DELETE FROM state WHERE namespace=? AND key=?", [row[:2] for row in writes.state if row[2] is None])
        many("INSERT OR IGNORE INTO history VALUES(?, ?, ?)", writes.history)
        if writes.hashed:
            many(
                "INSERT OR REPLACE INTO hashed VALUES(?, ?, ?, ?, ?, ?)",
                [row for row in writes.hashed if row[3] is not None],
            )
            many(
                "DELETE FROM hashed WHERE namespace=? AND collection=? AND key_hash=?",
                [row[:3] for row in writes.hashed if row[3] is None],
            )
        store_writes(self._connection, number, writes.private)
        run("UPDATE tip SET height=?, hash=?, commit_hash=?", (number + 1, writes.hash, writes.commit_hash))
        if self._pending:
            gone = [(self._pending[data],) for data in block.data.data if data in self._pending]
            many("DELETE FROM pending WHERE number=?", gone)
        many("DELETE FROM transient WHERE transaction_id=?", [entry[:1] for entry in writes.entries])
        if number % PURGE_EVERY == 0:
            run("DELETE FROM transient WHERE height<?", (number - TRANSIENT_BLOCKS,))

    def _insert_pending(self, envelopes: Sequence[bytes]) -> None:
        if not envelopes:
            self._connection.execute("UPDATE tip SET height=height")
        for data in envelopes:
            if data not in self._pending:
                number = self._next_pending
                self._connection.execute("INSERT INTO pending VALUES(?, ?)", (number, data))
                self._next_pending = number + 1
                self._pending[data] = number

    def _insert_transient(self, transaction_id: str, msp_id: str, private: bytes) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO transient VALUES(?, ?, ?, ?)", (transaction_id, msp_id, private, self._height)
        )

    def _small_writes(self, writes: Sequence[Callable[[], None]]) -> None:
        try:
            with self._transaction("keep an accepted transaction"):
                for write in writes:
                    write()
        except LedgerError:
            self._pending = self._stored_pending()
            raise

    def _stored_pending(self) -> dict[bytes, int]:
        with store.plain_errors("read the ledger"):
            rows = self._connection.execute("SELECT number, data FROM pending").fetchall()
        return {data: number for number, data in rows}

    @contextmanager
    def _transaction(self, what: str) -> Iterator[None]:
        if self._closed:
            raise LedgerClosed(f"cannot {what}: the ledger is closed")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            # SQLite has rolled back by itself after a full disk; a second rollback would only hide the cause.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise store.explain(error, what) from error
            raise

    @contextmanager
    def _reader(self) -> Iterator[Reader]:
        if self._path is None:
            yield self.current
            return
        with super()._reader() as reader:
            yield reader

    def _release_in_memory(self) -> None:
        self._open_snapshots -= 1


def _assemble(reader: Reader, number: int) -> bytes | None:
    row = reader.block_row(number)
    if row is None:
        return None
    block = common_pb2.Block(
        header=common_pb2.BlockHeader.FromString(row[1]),
        data=common_pb2.BlockData(data=reader.envelopes(number)),
        metadata=common_pb2.BlockMetadata.FromString(row[2]),
    )
    return block.SerializeToString()
