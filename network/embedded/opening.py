"""Making a ledger file, checking it at every start, and the lock that keeps a second process out."""

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from fabric_protos.common import common_pb2
from fabric_protos.peer import transaction_pb2
from google.protobuf.message import DecodeError
from tallystick.fabric.block import data_hash, header_hash

from network.embedded import store
from network.embedded.block import SLOTS, TRANSACTIONS_FILTER
from network.embedded.rwset import split
from network.embedded.store import LedgerDamaged, LedgerError, LedgerExists, LedgerInUse, Reader

LINKS_CHECKED = 100  # header links recomputed at every start


def make_file(path: Path, genesis: bytes, msp_ids: Sequence[str]) -> None:
    """Make the ledger file with block 0. It appears under its name only when it is complete.

    Raises LedgerExists when the file is there already, LedgerError when `genesis` is no block 0.
    """
    if path.exists():
        raise LedgerExists(f"there already is a ledger at {path}; reset the network to start a new one")
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    path.with_name(unfinished.name + "-journal").unlink(missing_ok=True)
    connection = store.connect(unfinished)
    try:
        with store.plain_errors("create the ledger"):
            connection.execute(f"PRAGMA page_size={store.PAGE_BYTES}")
            connection.execute("PRAGMA synchronous=FULL")
            write_genesis(connection, genesis, msp_ids)
    finally:
        connection.close()
    os.chmod(unfinished, 0o600)
    os.replace(unfinished, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_genesis(connection: sqlite3.Connection, genesis: bytes, msp_ids: Sequence[str]) -> None:
    """Write tables and block 0 into an empty database. Its one transaction is valid and has no state of its own."""
    try:
        block = common_pb2.Block.FromString(genesis)
    except DecodeError as error:
        raise LedgerError(f"the genesis block cannot be read: {error}") from error
    header = block.header
    if header.number != 0 or header.previous_hash or data_hash(block.data.data) != header.data_hash:
        raise LedgerError("the genesis block is not a block 0 whose header names its data")
    tip_hash = header_hash(0, b"", header.data_hash)
    metadata = common_pb2.BlockMetadata(metadata=pad(block.metadata.metadata))
    metadata.metadata[TRANSACTIONS_FILTER] = bytes((transaction_pb2.TxValidationCode.VALID,)) * len(block.data.data)
    connection.execute(f"PRAGMA application_id={store.APPLICATION_ID}")
    connection.execute("BEGIN")
    for statement in store.SCHEMA.split(";"):
        if statement.strip():
            connection.execute(statement)
    rows = [
        ("schema_version", str(store.SCHEMA_VERSION).encode()),
        ("network_id", tip_hash),
        ("msp_ids", "\n".join(msp_ids).encode()),
    ]
    connection.executemany("INSERT INTO meta VALUES(?, ?)", rows)
    connection.execute(
        "INSERT INTO block VALUES(0, ?, ?, ?)", (tip_hash, header.SerializeToString(), metadata.SerializeToString())
    )
    connection.executemany("INSERT INTO envelope VALUES(?, ?)", enumerate(block.data.data))
    for index, data in enumerate(block.data.data):
        connection.execute("INSERT OR IGNORE INTO entry VALUES(?, ?, 0)", (_transaction_id(data), index))
    connection.execute("INSERT INTO tip VALUES(1, 1, ?, ?)", (tip_hash, b""))
    connection.execute("COMMIT")


def pad(metadata: Sequence[bytes]) -> list[bytes]:
    """The metadata slots of a block, all five."""
    return [*metadata, *[b""] * (SLOTS - len(metadata))]


def _transaction_id(envelope: bytes) -> str:
    try:
        payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(envelope).payload)
        return common_pb2.ChannelHeader.FromString(payload.header.channel_header).tx_id
    except DecodeError as error:
        raise LedgerError(f"the genesis block holds no configuration transaction: {error}") from error


def check(connection: sqlite3.Connection, msp_ids: Sequence[str]) -> None:
    """The checks of every start; raises LedgerDamaged with the first thing that is wrong."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != store.APPLICATION_ID:
        raise LedgerDamaged("the file is not a Tallystick ledger; nothing was changed")
    version = meta(connection, "schema_version").decode(errors="replace")
    if version != str(store.SCHEMA_VERSION):
        raise LedgerError(f"the ledger has schema version {version}; this program reads {store.SCHEMA_VERSION} only")
    stored = meta(connection, "msp_ids").decode(errors="replace").split("\n")
    if stored != list(msp_ids):
        raise LedgerError(f"the ledger belongs to organisations {stored}, not to {list(msp_ids)}")
    reader = Reader(connection)
    height, tip_hash, _ = reader.tip()
    last = connection.execute("SELECT MAX(number) FROM block").fetchone()[0]
    envelope = connection.execute("SELECT MAX(version) FROM envelope").fetchone()[0]
    if last is None or last + 1 != height or envelope is None or split(envelope)[0] > last:
        raise LedgerDamaged(
            f"the ledger's height is {height}, but its last block is {last}; nothing was changed, restore a backup"
        )
    check_links(reader, max(0, height - LINKS_CHECKED), height, tip_hash)


def check_links(reader: Reader, first: int, height: int, tip_hash: bytes) -> None:
    """Recompute header hashes and links of blocks `first` to `height - 1`, and the data hash of the last one."""
    previous: bytes | None = None
    for number in range(first, height):
        row = reader.block_row(number)
        if row is None:
            raise LedgerDamaged(f"the ledger file lacks block {number}")
        try:
            header = common_pb2.BlockHeader.FromString(row[1])
        except DecodeError as error:
            raise LedgerDamaged(f"the header of block {number} cannot be read: {error}") from error
        if header.number != number or header_hash(number, header.previous_hash, header.data_hash) != row[0]:
            raise LedgerDamaged(f"the header of block {number} does not have the hash that is stored with it")
        if previous is not None and header.previous_hash != previous:
            raise LedgerDamaged(f"block {number} does not name block {number - 1} as the one before it")
        previous = row[0]
        if number == height - 1 and data_hash(reader.envelopes(number)) != header.data_hash:
            raise LedgerDamaged(f"the transactions of block {number} do not have the hash that its header names")
    if previous != tip_hash:
        raise LedgerDamaged("the last block does not have the hash that the ledger stores as its tip")


def meta(connection: sqlite3.Connection, name: str) -> bytes:
    """A fixed property of the ledger; raises LedgerDamaged when it is not there."""
    row = connection.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
    if row is None:
        raise LedgerDamaged(f"the ledger file holds no {name}; nothing was changed, restore it from a backup")
    if not isinstance(row[0], bytes):
        raise LedgerDamaged(f"the ledger file holds no readable {name}; nothing was changed, restore it from a backup")
    return row[0]


def lock(path: Path | None) -> int:
    """Take the exclusive lock beside the ledger file; the kernel frees it when the process ends in any way."""
    if path is None:
        return -1
    try:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerError(f"cannot open the ledger's lock file: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise LedgerInUse(
            f"the ledger at {path} is in use by process {holder}: this network is already running, stop it first"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def unlock(descriptor: int) -> None:
    """Free the lock."""
    if descriptor >= 0:
        os.close(descriptor)
