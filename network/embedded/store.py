"""The ledger's SQLite file: its tables, its connections and the reads on them.

State tables have no row ids and their primary key is the lookup, so a read is one descent of one tree at any size.
Blocks are kept as one row of header and metadata and one row per envelope: a transaction is read without its block.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from network.embedded.rwset import TRANSACTION_MASK, PrivateSet, position

SCHEMA_VERSION = 1
APPLICATION_ID = 0x54414C4C  # "TALL", so that another program's SQLite file is recognised as such
PAGE_BYTES = 8192  # a record of 2 kB stays inside its page; measured faster than 4096 for 1 kB records
CHECKPOINT_PAGES = 4000  # about 32 MB of WAL before a passive checkpoint
LOG_BYTES = 1 << 26  # what a log that a long reader made grow is cut back to
BUSY_MS = 5000
CACHE_KIB = 16384  # per connection
MAPPED_BYTES = 1 << 30  # of the file read without copying: a cold point read takes 7 instead of 12 µs

SCHEMA = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE tip(id INTEGER PRIMARY KEY CHECK(id = 1), height INTEGER NOT NULL, hash BLOB NOT NULL,
  commit_hash BLOB NOT NULL);
CREATE TABLE block(number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, header BLOB NOT NULL,
  metadata BLOB NOT NULL);
CREATE TABLE envelope(version INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE entry(id TEXT PRIMARY KEY, version INTEGER NOT NULL, code INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE state(namespace TEXT, key BLOB, value BLOB NOT NULL, metadata BLOB, version INTEGER NOT NULL,
  PRIMARY KEY(namespace, key)) WITHOUT ROWID;
CREATE TABLE history(namespace TEXT, key BLOB, version INTEGER, PRIMARY KEY(namespace, key, version)) WITHOUT ROWID;
CREATE TABLE hashed(namespace TEXT, collection TEXT, key_hash BLOB, value_hash BLOB NOT NULL, metadata BLOB,
  version INTEGER NOT NULL, PRIMARY KEY(namespace, collection, key_hash)) WITHOUT ROWID;
CREATE TABLE private(msp_id TEXT, namespace TEXT, collection TEXT, key BLOB, key_hash BLOB NOT NULL,
  value BLOB NOT NULL, version INTEGER NOT NULL, PRIMARY KEY(msp_id, namespace, collection, key)) WITHOUT ROWID;
CREATE INDEX private_by_hash ON private(namespace, collection, key_hash);
CREATE TABLE private_set(version INTEGER, msp_id TEXT, namespace TEXT, collection TEXT, data BLOB NOT NULL,
  PRIMARY KEY(version, msp_id, namespace, collection)) WITHOUT ROWID;
CREATE TABLE private_trace(namespace TEXT, collection TEXT, key_hash BLOB, version INTEGER,
  PRIMARY KEY(namespace, collection, key_hash, version)) WITHOUT ROWID;
CREATE TABLE expiry(block INTEGER, namespace TEXT, collection TEXT, key_hash BLOB, version INTEGER,
  PRIMARY KEY(block, namespace, collection, key_hash, version)) WITHOUT ROWID;
CREATE TABLE transient(transaction_id TEXT, msp_id TEXT, data BLOB NOT NULL, height INTEGER NOT NULL,
  PRIMARY KEY(transaction_id, msp_id)) WITHOUT ROWID;
CREATE INDEX transient_by_height ON transient(height);
CREATE TABLE pending(number INTEGER PRIMARY KEY, data BLOB NOT NULL);
"""


class LedgerError(Exception):
    """The ledger cannot do what was asked; the text is a sentence for the operator."""


class LedgerMissing(LedgerError):
    """There is no ledger at the path."""


class LedgerExists(LedgerError):
    """There already is a ledger at the path."""


class LedgerInUse(LedgerError):
    """Another process has the ledger open."""


class LedgerDamaged(LedgerError):
    """The file is not a sound ledger; nothing was repaired or changed."""


class LedgerFull(LedgerError):
    """The disk is full or refuses writes; the block or queue entry was not written."""


class LedgerClosed(LedgerError):
    """The ledger was closed."""


_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})


@contextmanager
def plain_errors(what: str) -> Iterator[None]:
    """Turn SQLite's errors into LedgerError; `what` completes the sentence "cannot ..."."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, what) from error


def explain(error: sqlite3.Error, what: str) -> LedgerError:
    """The LedgerError that says what SQLite's error means for the operator."""
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    if code in _DAMAGED:
        return LedgerDamaged(
            f"cannot {what}: the ledger file is damaged ({error}); nothing was changed, restore it from a backup"
        )
    if code == sqlite3.SQLITE_FULL:
        return LedgerFull(f"cannot {what}: the disk is full; nothing of it was written, free space and start again")
    if code in _FULL:
        return LedgerFull(f"cannot {what}: the disk refuses the ledger file ({error}); nothing of it was written")
    return LedgerError(f"cannot {what}: {error}")


def connect(path: Path | None, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection in autocommit mode; None is a database in memory. Raises LedgerError."""
    with plain_errors("open the ledger"):
        connection = sqlite3.connect(
            ":memory:" if path is None else path, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute(f"PRAGMA cache_size={-CACHE_KIB}")
            connection.execute(f"PRAGMA mmap_size={MAPPED_BYTES}")
            if read_only:
                connection.execute("PRAGMA query_only=ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection


def make_durable(connection: sqlite3.Connection) -> None:
    """Write-ahead log, and a commit returns only after the disk has it."""
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode not in ("wal", "memory"):
        raise LedgerError(f"cannot open the ledger: the file system allows no write-ahead log (journal mode {mode})")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")


class StateRow(NamedTuple):
    """A committed public key: value (never empty), stored metadata or None, version."""

    value: bytes
    metadata: bytes | None
    version: int


class HashRow(NamedTuple):
    """A committed private key by its hash: hash of the value, stored metadata or None, version."""

    value_hash: bytes
    metadata: bytes | None
    version: int


_STATE = "SELECT value, metadata, version FROM state WHERE namespace=? AND key=?"
_VERSION = "SELECT version FROM state WHERE namespace=? AND key=?"
_RANGE = "SELECT key, value, version FROM state WHERE namespace=? AND key>=? AND key<? ORDER BY key LIMIT ?"
_RANGE_OPEN = "SELECT key, value, version FROM state WHERE namespace=? AND key>=? ORDER BY key LIMIT ?"
_VERSIONS = "SELECT key, version FROM state WHERE namespace=? AND key>=? AND key<? ORDER BY key LIMIT ?"
_VERSIONS_OPEN = "SELECT key, version FROM state WHERE namespace=? AND key>=? ORDER BY key LIMIT ?"
_HASHED = "SELECT value_hash, metadata, version FROM hashed WHERE namespace=? AND collection=? AND key_hash=?"
_PRIVATE = "SELECT value, version FROM private WHERE msp_id=? AND namespace=? AND collection=? AND key=?"
_PRIVATE_RANGE = (
    "SELECT key, value, version FROM private WHERE msp_id=? AND namespace=? AND collection=? AND key>=? AND key<?"
    " ORDER BY key LIMIT ?"
)
_PRIVATE_RANGE_OPEN = (
    "SELECT key, value, version FROM private WHERE msp_id=? AND namespace=? AND collection=? AND key>=?"
    " ORDER BY key LIMIT ?"
)

KeyRow = tuple[bytes, bytes, int]  # key, value, version


class Reader:
    """The ledger's reads on one connection. Keys are UTF-8 bytes; versions are `rwset.position` integers."""

    __slots__ = ("connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def state(self, namespace: str, key: bytes) -> StateRow | None:
        """A public key; None when absent."""
        row = self._row(_STATE, (namespace, key))
        return None if row is None else StateRow._make(row)

    def version(self, namespace: str, key: bytes) -> int | None:
        """Only the version of a public key."""
        row = self._row(_VERSION, (namespace, key))
        return None if row is None else int(row[0])

    def get_state(self, namespace: str, key: str) -> bytes | None:
        """Only the value of a public key."""
        row = self._row(_STATE, (namespace, key.encode()))
        return None if row is None else bytes(row[0])

    def state_range(self, namespace: str, start: bytes, end: bytes, limit: int) -> list[KeyRow]:
        """At most `limit` rows from `start` (inclusive) to `end` (exclusive; empty means open), in key order."""
        if end:
            return self._rows(_RANGE, (namespace, start, end, limit))
        return self._rows(_RANGE_OPEN, (namespace, start, limit))

    def version_range(self, namespace: str, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, int]]:
        """As `state_range`, only keys and versions."""
        if end:
            return self._rows(_VERSIONS, (namespace, start, end, limit))
        return self._rows(_VERSIONS_OPEN, (namespace, start, limit))

    def hashed(self, namespace: str, collection: str, key_hash: bytes) -> HashRow | None:
        """A private key by its hash."""
        row = self._row(_HASHED, (namespace, collection, key_hash))
        return None if row is None else HashRow._make(row)

    def private(self, msp_id: str, namespace: str, collection: str, key: bytes) -> tuple[bytes, int] | None:
        """Value and version of a private key as this organisation holds it."""
        row = self._row(_PRIVATE, (msp_id, namespace, collection, key))
        return None if row is None else (row[0], row[1])

    def private_range(
        self, msp_id: str, namespace: str, collection: str, start: bytes, end: bytes, limit: int
    ) -> list[KeyRow]:
        """As `state_range` over the private keys that this organisation holds."""
        if end:
            return self._rows(_PRIVATE_RANGE, (msp_id, namespace, collection, start, end, limit))
        return self._rows(_PRIVATE_RANGE_OPEN, (msp_id, namespace, collection, start, limit))

    def history(self, namespace: str, key: bytes, before: int | None, limit: int) -> list[int]:
        """Versions of the valid writes of a public key, newest first, older than `before` (None: all)."""
        rows = self._rows(
            "SELECT version FROM history WHERE namespace=? AND key=? AND version<? ORDER BY version DESC LIMIT ?",
            (namespace, key, (1 << 62) if before is None else before, limit),
        )
        return [row[0] for row in rows]

    def envelope(self, version: int) -> bytes | None:
        """The envelope of the transaction at this place."""
        row = self._row("SELECT data FROM envelope WHERE version=?", (version,))
        return None if row is None else bytes(row[0])

    def entry(self, transaction_id: str) -> tuple[int, int] | None:
        """Place and validation code of the first transaction with this id."""
        row = self._row("SELECT version, code FROM entry WHERE id=?", (transaction_id,))
        return None if row is None else (row[0], row[1])

    def block_row(self, number: int) -> tuple[bytes, bytes, bytes] | None:
        """Hash, serialised header and serialised metadata of a block."""
        row = self._row("SELECT hash, header, metadata FROM block WHERE number=?", (number,))
        return None if row is None else (row[0], row[1], row[2])

    def block_number(self, header_hash: bytes) -> int | None:
        """Number of the block with this header hash."""
        row = self._row("SELECT number FROM block WHERE hash=?", (header_hash,))
        return None if row is None else int(row[0])

    def envelopes(self, number: int) -> list[bytes]:
        """The envelopes of a block, in order."""
        first = position(number, 0)
        rows = self._rows(
            "SELECT data FROM envelope WHERE version BETWEEN ? AND ? ORDER BY version",
            (first, first | TRANSACTION_MASK),
        )
        return [row[0] for row in rows]

    def private_sets(self, number: int, msp_id: str) -> dict[int, list[PrivateSet]]:
        """The private writes of a block that this organisation holds, by transaction number."""
        first = position(number, 0)
        rows = self._rows(
            "SELECT version, namespace, collection, data FROM private_set WHERE version BETWEEN ? AND ? AND msp_id=?"
            " ORDER BY version, namespace, collection",
            (first, first | TRANSACTION_MASK, msp_id),
        )
        found: dict[int, list[PrivateSet]] = {}
        for version, namespace, collection, data in rows:
            found.setdefault(version & TRANSACTION_MASK, []).append(PrivateSet(namespace, collection, data))
        return found

    def transient(self, transaction_id: str) -> list[tuple[str, bytes]]:
        """Organisation and TxPvtReadWriteSet bytes kept since endorsement."""
        return self._rows("SELECT msp_id, data FROM transient WHERE transaction_id=?", (transaction_id,))

    def tip(self) -> tuple[int, bytes, bytes]:
        """Height, header hash of the last block, commit hash of the last block (empty after block 0)."""
        row = self._row("SELECT height, hash, commit_hash FROM tip", ())
        if row is None:
            raise LedgerDamaged("the ledger file holds no height; nothing was changed, restore it from a backup")
        return row[0], row[1], row[2]

    def _row(self, query: str, values: tuple[object, ...]) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self.connection.execute(query, values).fetchone()
        except sqlite3.Error as error:
            raise explain(error, "read the ledger") from error
        return row

    def _rows(self, query: str, values: tuple[object, ...]) -> list[Any]:
        try:
            return self.connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise explain(error, "read the ledger") from error
