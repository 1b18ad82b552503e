"""Recomputes a ledger from block 0 and compares: the first difference, or none.

A copy is verified, so a network may run meanwhile. Everything is judged again by the rules that committed it: the
chain of headers, the data, the consenters' signatures, every validation code, every COMMIT_HASH, and at the end the
whole state."""

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from fabric_protos.common import common_pb2, configtx_pb2, configuration_pb2
from fabric_protos.msp import identities_pb2
from google.protobuf.message import DecodeError
from tallystick.fabric.block import data_hash, header_hash

from network.channel import config
from network.embedded.block import COMMIT_HASH, SIGNATURES, TRANSACTIONS_FILTER, signed_by
from network.embedded.committer import Committer
from network.embedded.ledger import Ledger
from network.embedded.msp import MspManager
from network.embedded.ownership import ForeignLedger, check_home
from network.embedded.policy import PolicyError, PolicyManager, SignedData
from network.embedded.store import LedgerError
from network.home import LEDGER, TOPOLOGY
from network.topology import Topology, load

_BLOCK_VALIDATION: Final = "/Channel/Orderer/BlockValidation"
# Table, the columns that identify a row, the columns that must agree. Plain private values are compared with their
# hashes instead: only what an organisation was given at endorsement can be there, and it is in no block.
_TABLES: Final = (
    ("state", "namespace, key", "value, metadata, version"),
    ("hashed", "namespace, collection, key_hash", "value_hash, metadata, version"),
    ("entry", "id", "version, code"),
    ("history", "namespace, key, version", "version"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What verifying came to: how much was recomputed, and the first difference in a sentence, or None."""

    height: int
    transactions: int
    difference: str | None = None


class _Difference(Exception):
    """What is stored is not what follows from the blocks."""


def verify(home: Path) -> Outcome:
    """Verify the ledger of a home, running or not. Raises OSError or TopologyError when the home cannot be read."""
    topology = load(home / TOPOLOGY)
    msp_ids = [organisation.msp_id for organisation in topology.organisations]
    # SQLite would say of a file that may not be read what it says of a broken one.
    (home / LEDGER).open("rb").close()
    with tempfile.TemporaryDirectory(prefix="tallystick-verify-") as folder:
        copy = Path(folder) / LEDGER
        try:
            _copy(home / LEDGER, copy)
            with Ledger.open(copy, msp_ids) as stored:
                _check_home(home, topology, stored)
                return _verify(stored, msp_ids, Path(folder) / "rebuilt.sqlite")
        except sqlite3.Error as error:
            return Outcome(0, 0, f"the ledger file cannot be read: {error}")
        except (ForeignLedger, LedgerError) as error:
            return Outcome(0, 0, str(error))


def _check_home(home: Path, topology: Topology, stored: Ledger) -> None:
    try:
        check_home(home, topology, config.parse(stored.block(0) or b""))
    except config.ConfigError:
        return  # told in its place, with the number of the block


def _copy(source: Path, target: Path) -> None:
    """SQLite's online backup: the state of one moment, even while the network writes."""
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as reader,
        closing(sqlite3.connect(target)) as writer,
    ):
        reader.backup(writer)


def _verify(stored: Ledger, msp_ids: list[str], rebuilt_path: Path) -> Outcome:
    transactions = 0
    number = 0
    try:
        genesis = _stored_block(stored, 0)
        configuration = config.parse(genesis)
        msps = MspManager.from_config(configuration)
        policies = PolicyManager(configuration, msps)
        consenters = _consenters(configuration)
        # On disk, since a large state would not fit in memory.
        with (
            Ledger.create(rebuilt_path, genesis, msp_ids) as rebuilt,
            closing(Committer(rebuilt, policies, msps)) as committer,
        ):
            for number in range(stored.height):
                block = common_pb2.Block.FromString(_stored_block(stored, number))
                _check_header(block, number, rebuilt.tip_hash)
                if number > 0:
                    _check_signatures(block, policies, consenters)
                    _recommit(block, committer, rebuilt)
                transactions += len(block.data.data)
            _compare_tables(stored, rebuilt)
            _check_private(stored)
    except _Difference as difference:
        return Outcome(stored.height, transactions, str(difference))
    except (DecodeError, config.ConfigError, IndexError) as error:
        return Outcome(stored.height, transactions, f"block {number} cannot be read: {error}")
    return Outcome(stored.height, transactions)


def _stored_block(stored: Ledger, number: int) -> bytes:
    found = stored.block(number)
    if found is None:
        raise _Difference(f"block {number} is missing, although the height is {stored.height}")
    return found


def _check_header(block: common_pb2.Block, number: int, tip_hash: bytes) -> None:
    header = block.header
    if header.number != number:
        raise _Difference(f"block {header.number} stands in the place of block {number}")
    if data_hash(block.data.data) != header.data_hash:
        raise _Difference(f"the transactions of block {number} do not have the hash that its header names")
    if number == 0:
        if header_hash(0, header.previous_hash, header.data_hash) != tip_hash:
            raise _Difference("block 0 does not have the hash it is stored under")
    elif header.previous_hash != tip_hash:
        raise _Difference(f"block {number} does not name block {number - 1} as the one before it")


def _consenters(configuration: configtx_pb2.Config) -> dict[int, bytes]:
    """SerializedIdentity of every consenter, by its number in the channel configuration."""
    value = configuration.channel_group.groups["Orderer"].values["Orderers"].value
    return {
        entry.id: identities_pb2.SerializedIdentity(mspid=entry.msp_id, id_bytes=entry.identity).SerializeToString()
        for entry in configuration_pb2.Orderers.FromString(value).consenter_mapping
    }


def _check_signatures(block: common_pb2.Block, policies: PolicyManager, consenters: dict[int, bytes]) -> None:
    signed = [
        SignedData(
            message=entry.message, identity_bytes=consenters.get(entry.consenter, b""), signature=entry.signature
        )
        for entry in signed_by(block)
    ]
    try:
        policies.policy(_BLOCK_VALIDATION).evaluate(signed)
    except PolicyError as error:
        raise _Difference(f"block {block.header.number} is not signed by enough consenters: {error}") from error


def _recommit(block: common_pb2.Block, committer: Committer, rebuilt: Ledger) -> None:
    """Judge the ordered block anew and compare codes and commit hash with the stored ones."""
    number = block.header.number
    ordered = common_pb2.Block(header=block.header, data=block.data)
    ordered.metadata.metadata.append(block.metadata.metadata[SIGNATURES])
    committed = rebuilt.writer.call(committer.commit, ordered).result()
    again = common_pb2.Block.FromString(committed.block_bytes)
    old, new = block.metadata.metadata[TRANSACTIONS_FILTER], again.metadata.metadata[TRANSACTIONS_FILTER]
    for index, (was, now) in enumerate(zip_longest(old, new)):
        if was != now:
            raise _Difference(f"transaction {index} of block {number} is stored with code {was}, but its code is {now}")
    if block.metadata.metadata[COMMIT_HASH] != again.metadata.metadata[COMMIT_HASH]:
        raise _Difference(f"block {number} is stored with another commit hash than follows from the blocks")


def _compare_tables(stored: Ledger, rebuilt: Ledger) -> None:
    for table, key, values in _TABLES:
        query = f"SELECT {key}, {values} FROM {table} ORDER BY {key}"  # noqa: S608  # constants above
        for was, now in zip_longest(_rows(stored, query), _rows(rebuilt, query)):
            if was != now:
                row = next(entry for entry in (now, was) if entry is not None)[: key.count(",") + 1]
                raise _Difference(f"the stored {table} of {_name(row)} is not what the blocks say")


def _check_private(stored: Ledger) -> None:
    query = (
        "SELECT p.msp_id, p.namespace, p.collection, p.key, p.key_hash, p.value, h.value_hash FROM private p "
        "LEFT JOIN hashed h ON (h.namespace, h.collection, h.key_hash) = (p.namespace, p.collection, p.key_hash) "
        "AND h.version = p.version"
    )
    for msp_id, namespace, collection, key, key_hash, value, value_hash in _rows(stored, query):
        place = _name((namespace, collection, key))
        if hashlib.sha256(key).digest() != key_hash:
            raise _Difference(f"the private value of {place} held by {msp_id} is stored under another key's hash")
        if value_hash is not None and hashlib.sha256(value).digest() != value_hash:
            raise _Difference(f"the private value of {place} held by {msp_id} does not have the hash on the ledger")


def _rows(ledger: Ledger, query: str) -> Iterator[tuple[Any, ...]]:
    yield from ledger.current.connection.execute(query)


def _name(row: tuple[Any, ...]) -> str:
    return " / ".join(part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in row)
