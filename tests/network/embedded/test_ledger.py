"""The ledger file: what is read back, one height per snapshot, crash safety, and clear errors at start."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fabric_protos.common import common_pb2
from tallystick.fabric.block import header_hash

from network.embedded.committer import BlockError
from network.embedded.ledger import Ledger
from network.embedded.rwset import RwSetBuilder
from network.embedded.store import (
    LedgerClosed,
    LedgerDamaged,
    LedgerError,
    LedgerExists,
    LedgerFull,
    LedgerInUse,
    LedgerMissing,
)
from tests.network.embedded.transactions import ALL, Chain, Channel


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def stored(channel: Channel, path: Path) -> Iterator[Chain]:
    """A chain on a file, with a few blocks."""
    chain = Chain(channel, path)
    for number in range(3):
        chain.put(k=str(number).encode())
    yield chain
    chain.close()


def reopened(path: Path) -> Ledger:
    return Ledger.open(path, ALL)


# --- reading back -------------------------------------------------------------------------------------------------


def test_genesis_is_stored_as_made(channel: Channel, stored: Chain) -> None:
    given, kept = (
        common_pb2.Block.FromString(channel.genesis),
        common_pb2.Block.FromString(stored.ledger.block(0) or b""),
    )
    assert (kept.header, kept.data) == (given.header, given.data)
    assert stored.ledger.network_id == header_hash(0, b"", given.header.data_hash).hex()
    assert kept.metadata.metadata[0] == given.metadata.metadata[0] and kept.metadata.metadata[2] == b"\x00"


def test_blocks_are_found_by_number_hash_and_transaction(stored: Chain) -> None:
    builder = RwSetBuilder()
    builder.write("trade", "k", b"last")
    draft = stored.draft(builder)
    committed = stored.commit_block([draft])
    ledger = stored.ledger
    assert ledger.height == committed.number + 1 and ledger.tip_hash == committed.header_hash
    assert ledger.block(committed.number) == committed.block_bytes
    assert ledger.block_by_hash(committed.header_hash) == committed.block_bytes
    assert ledger.block_by_transaction(draft.transaction_id or "") == committed.block_bytes
    info = ledger.transaction(draft.transaction_id or "")
    assert info is not None and (info.block, info.index, info.code) == (committed.number, 0, 0)
    assert common_pb2.Block.FromString(committed.block_bytes).data.data[0] == info.envelope
    assert ledger.block(ledger.height) is None and ledger.block_by_hash(b"x") is None
    assert ledger.transaction("x") is None and ledger.block_by_transaction("x") is None


def test_everything_is_there_after_reopening(stored: Chain, path: Path) -> None:
    before = (stored.ledger.height, stored.ledger.tip_hash, stored.ledger.commit_hash, stored.ledger.network_id)
    blocks = [stored.ledger.block(number) for number in range(stored.ledger.height)]
    stored.ledger.add_pending([b"waiting", b"also"]).result()
    stored.close()
    with reopened(path) as ledger:
        assert (ledger.height, ledger.tip_hash, ledger.commit_hash, ledger.network_id) == before
        assert [ledger.block(number) for number in range(ledger.height)] == blocks
        assert ledger.pending() == [b"waiting", b"also"]


def test_file_is_for_its_owner_only(stored: Chain, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


# --- snapshots ----------------------------------------------------------------------------------------------------


def test_snapshot_keeps_its_height_while_blocks_are_committed(stored: Chain) -> None:
    with stored.ledger.snapshot() as old:
        stored.put(k=b"new", other=b"new")
        with stored.ledger.snapshot() as new:
            assert (old.get_state("trade", "k"), new.get_state("trade", "k")) == (b"2", b"new")
            assert (old.get_state("trade", "other"), new.get_state("trade", "other")) == (None, b"new")
            assert new.height == old.height + 1 == stored.ledger.height
        assert old.state_range("trade", b"", b"", 9) == [(b"k", b"2", old.state("trade", b"k").version)]  # type: ignore[union-attr]


def test_snapshot_taken_with_another_threads_help_is_isolated_too(stored: Chain) -> None:
    seen: list[bytes | None] = []
    with stored.ledger.snapshot() as old:
        stored.put(k=b"new")
        thread = threading.Thread(target=lambda: seen.append(old.get_state("trade", "k")))
        thread.start()
        thread.join(10)
    assert seen == [b"2"]


def test_snapshot_cannot_write(stored: Chain) -> None:
    with stored.ledger.snapshot() as snapshot, pytest.raises(sqlite3.OperationalError, match="readonly"):
        snapshot.connection.execute("DELETE FROM state")


def test_snapshot_in_memory_must_be_closed_before_the_next_block(chain: Chain) -> None:
    with chain.ledger.snapshot(), pytest.raises(LedgerError, match="still open"):
        chain.put(k=b"1")
    chain.put(k=b"1")


# --- writing ------------------------------------------------------------------------------------------------------


def test_block_that_does_not_follow_is_refused_and_changes_nothing(stored: Chain) -> None:
    ledger = stored.ledger
    before = (ledger.height, ledger.tip_hash, ledger.commit_hash)

    def spoil(change: Callable[[common_pb2.Block], None]) -> None:
        block = stored.block([])
        change(block)
        with pytest.raises(BlockError):
            ledger.writer.call(stored.committer.commit, block).result()

    spoil(lambda block: setattr(block.header, "number", block.header.number + 1))
    spoil(lambda block: setattr(block.header, "number", block.header.number - 1))
    spoil(lambda block: setattr(block.header, "previous_hash", b"\x00" * 32))
    spoil(lambda block: setattr(block.header, "data_hash", b"\x00" * 32))
    assert (ledger.height, ledger.tip_hash, ledger.commit_hash) == before


def test_append_is_for_the_writers_thread(stored: Chain) -> None:
    prepared = stored.ledger.writer.call(stored.committer.prepare, stored.block([])).result()
    with pytest.raises(LedgerError, match="writer's thread"):
        stored.ledger.append(prepared.writes)


def test_pending_envelopes_leave_with_their_block(stored: Chain) -> None:
    builder = RwSetBuilder()
    builder.write("trade", "k", b"pending")
    envelope = stored.draft(builder).envelope()
    stored.ledger.add_pending([b"first", envelope]).result()
    stored.ledger.add_pending([envelope, b"last"]).result()
    assert stored.ledger.pending() == [b"first", envelope, b"last"], "kept once, in order"
    assert stored.commit([envelope]) == [0]
    assert stored.ledger.pending() == [b"first", b"last"]
    stored.ledger.add_pending([envelope]).result()
    assert stored.ledger.pending() == [b"first", b"last", envelope], "what came back is kept again"


def test_small_writes_behind_each_other_are_all_kept(stored: Chain) -> None:
    futures = [stored.ledger.add_pending([str(number).encode()]) for number in range(1000)]
    for future in futures:
        future.result(20)
    assert stored.ledger.pending() == [str(number).encode() for number in range(1000)]


def test_writer_survives_what_fails_on_it(stored: Chain) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        stored.ledger.writer.call(fail).result()
    stored.put(k=b"after")


def test_closed_ledger_says_so(stored: Chain) -> None:
    stored.close()
    stored.ledger.close()
    with pytest.raises(LedgerClosed):
        stored.ledger.add_pending([b"x"])
    with pytest.raises(LedgerClosed):
        stored.ledger.block(0)
    with pytest.raises(LedgerClosed):
        stored.ledger.snapshot()


def test_backup_is_a_ledger_of_its_own(stored: Chain, path: Path, tmp_path: Path) -> None:
    stored.ledger.add_pending([b"waiting"]).result()
    copy = tmp_path / "copy.sqlite"
    stored.ledger.backup(copy)
    stored.put(k=b"later")
    with reopened(copy) as ledger:
        assert ledger.height == stored.ledger.height - 1
        assert ledger.current.get_state("trade", "k") == b"2"
        assert ledger.pending() == [], "a restored network must not submit what the running one submits"
    with pytest.raises(LedgerExists):
        stored.ledger.backup(copy)


# --- the disk -----------------------------------------------------------------------------------------------------


def test_full_disk_refuses_the_block_and_goes_on_when_there_is_room(stored: Chain, path: Path) -> None:
    ledger = stored.ledger
    before = ledger.height
    pages = ledger.writer.call(lambda: ledger.current.connection.execute("PRAGMA page_count").fetchone()[0]).result()
    limit = "PRAGMA max_page_count={}"
    ledger.writer.call(lambda: ledger.current.connection.execute(limit.format(pages)).fetchone()).result()
    builder = RwSetBuilder()
    builder.write("trade", "big", b"x" * 100_000)
    draft = stored.draft(builder)
    with pytest.raises(LedgerFull, match="the disk is full"):
        stored.commit([draft])
    with pytest.raises(LedgerFull, match="the disk is full"):
        ledger.add_pending([b"small", b"x" * 100_000]).result()
    assert ledger.height == before and ledger.pending() == []
    ledger.writer.call(lambda: ledger.current.connection.execute(limit.format(1 << 30)).fetchone()).result()
    assert stored.commit([draft]) == [0]
    ledger.add_pending([b"small", b"x" * 100_000]).result()
    stored.close()
    with reopened(path) as again:
        assert again.height == before + 1 and len(again.pending()) == 2


def test_folder_that_is_missing_is_a_ledger_error(channel: Channel, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="lock file"):
        Ledger.create(tmp_path / "none" / "ledger.sqlite", channel.genesis, ALL)


# --- starting -----------------------------------------------------------------------------------------------------


def test_second_start_is_refused_with_the_process_number(stored: Chain, path: Path) -> None:
    with pytest.raises(LedgerInUse, match=f"in use by process {os.getpid()}: this network is already running"):
        reopened(path)
    stored.close()
    reopened(path).close()


def test_missing_and_existing_ledgers(channel: Channel, stored: Chain, path: Path, tmp_path: Path) -> None:
    with pytest.raises(LedgerMissing):
        reopened(tmp_path / "none.sqlite")
    stored.close()
    with pytest.raises(LedgerExists):
        Ledger.create(path, channel.genesis, ALL)
    reopened(path).close()


def test_unfinished_creation_leaves_no_ledger(channel: Channel, path: Path) -> None:
    path.with_name(path.name + ".new").write_bytes(b"half a file")
    with Ledger.create(path, channel.genesis, ALL) as ledger:
        assert ledger.height == 1


@pytest.mark.parametrize("genesis", [b"\x00", b"", b"other number"])
def test_what_is_no_block_zero_is_refused(channel: Channel, path: Path, genesis: bytes) -> None:
    if genesis == b"other number":
        block = common_pb2.Block.FromString(channel.genesis)
        block.header.number = 1
        genesis = block.SerializeToString()
    with pytest.raises(LedgerError, match="genesis block"):
        Ledger.create(path, genesis, ALL)
    assert not path.exists()


DAMAGES = [
    ("another schema", "UPDATE meta SET value=x'39' WHERE name='schema_version'", "schema version 9"),
    ("schema unreadable", "UPDATE meta SET value=9 WHERE name='schema_version'", "no readable schema_version"),
    ("no schema", "DELETE FROM meta WHERE name='schema_version'", "holds no schema_version"),
    ("another consortium", "UPDATE meta SET value=x'414d5350' WHERE name='msp_ids'", "belongs to organisations"),
    ("height", "UPDATE tip SET height = height + 1", "height is"),
    ("block lost", "DELETE FROM block WHERE number = 2", "lacks block 2"),
    ("last block lost", "DELETE FROM block WHERE number = 4", "height is"),
    ("no tip", "DELETE FROM tip", "holds no height"),
    ("tip hash", "UPDATE tip SET hash = x'00'", "stores as its tip"),
    ("stored hash", "UPDATE block SET hash = x'00' WHERE number = 2", "header of block 2 does not have the hash"),
    ("header", "UPDATE block SET header = (SELECT header FROM block WHERE number = 3) WHERE number = 2", "block 2"),
    ("header unreadable", "UPDATE block SET header = x'00' WHERE number = 2", "header of block 2 cannot be read"),
    ("data", "UPDATE envelope SET data = x'00' WHERE version >= 4 << 20", "transactions of block 4"),
    ("envelope lost", "DELETE FROM envelope WHERE version >= 4 << 20", "transactions of block 4"),
    ("envelopes lost", "DELETE FROM envelope", "height is"),
    ("envelope too many", "INSERT INTO envelope VALUES(5 << 20, x'00')", "height is"),
    ("application", "PRAGMA application_id = 7", "not a Tallystick ledger"),
]


@pytest.mark.parametrize(("statement", "text"), [row[1:] for row in DAMAGES], ids=[row[0] for row in DAMAGES])
def test_start_finds_what_does_not_agree(stored: Chain, path: Path, statement: str, text: str) -> None:
    stored.close()
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=text):
        reopened(path)
    assert path.read_bytes() == before, "nothing is repaired"


def test_links_are_checked_over_the_last_hundred_blocks(stored: Chain, path: Path) -> None:
    for _ in range(100):
        stored.commit_block([])
    stored.close()
    for number, found in ((1, False), (10, True)):
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE block SET hash = ? WHERE number = ?", (bytes((number,)), number))
        connection.close()
        if found:
            with pytest.raises(LedgerDamaged, match="block 10"):
                reopened(path)
        else:
            reopened(path).close()


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100], ids=["empty", "other"])
def test_file_that_is_no_ledger(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LedgerDamaged):
        reopened(path)
    assert path.read_bytes() == content


def test_overwritten_pages_are_an_error_with_a_sentence(stored: Chain, path: Path) -> None:
    stored.close()
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 8192):
            file.seek(page * 8192)
            file.write(b"\xff" * 4096)
    with pytest.raises(
        LedgerDamaged, match=r"the ledger file is damaged .*; nothing was changed, restore it from a backup"
    ):
        reopened(path)


# --- kill -9 ------------------------------------------------------------------------------------------------------

CHILD = """
import os, signal, sys
from pathlib import Path
from network import topology
from network.channel import config
from network.embedded.rwset import RwSetBuilder
from tests.network.conftest import Established
from tests.network.embedded.transactions import Chain, Channel

home, path, fatal = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
chain = Chain(Channel(Established(topology.load(), home, (home / "genesis").read_bytes())), path)
count = 0

def trace(statement):
    global count
    count += statement.startswith(fatal)
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)

if fatal:
    chain.ledger.writer.call(chain.ledger.current.connection.set_trace_callback, trace).result()
for number in range(100000):
    builder = RwSetBuilder()
    builder.write("trade", f"k{number}", b"v" * 2000)
    builder.write_private("trade", "_implicit_org_CoreMSP", f"p{number}", b"v")
    draft = chain.draft(builder)
    envelope = draft.envelope()
    chain.ledger.add_pending([envelope]).result()
    print("accepted", number, draft.transaction_id, flush=True)
    assert chain.commit([envelope]) == [0]
    print("committed", number, draft.transaction_id, flush=True)
"""

STEPS = ["", "BEGIN", "INSERT INTO block", "INSERT INTO envelope", "INSERT OR REPLACE INTO state", "UPDATE tip"]
STEPS += ["DELETE FROM pending", "COMMIT"]


@pytest.mark.parametrize("fatal", STEPS)
def test_killed_process_loses_nothing_that_was_acknowledged(
    channel: Channel, path: Path, home_of: Path, fatal: str
) -> None:
    """Kill -9 at a statement of the fourth block (or small write), or from outside at any moment."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(home_of), str(path), fatal], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    lines = []
    try:
        for line in child.stdout:
            lines.append(line.split())
            if not fatal and len(lines) == 25:
                child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait(30)
        child.stdout.close()
    assert child.returncode == -signal.SIGKILL and len(lines) >= 2
    accepted = {number for word, number, _ in lines if word == "accepted"}
    committed = {number: transaction_id for word, number, transaction_id in lines if word == "committed"}
    with reopened(path) as ledger:
        for number, transaction_id in committed.items():
            info = ledger.transaction(transaction_id)
            assert info is not None and info.code == 0
            assert ledger.current.get_state("trade", f"k{number}") == b"v" * 2000
            private = ledger.current.private("CoreMSP", "trade", "_implicit_org_CoreMSP", f"p{number}".encode())
            assert private is not None and private[0] == b"v"
        states = len(ledger.current.state_range("trade", b"", b"", 1000))
        assert states + len(ledger.pending()) >= len(accepted), "accepted and in no block: still waiting"
        assert states == ledger.height - 2, "a block is there with its state or not at all"


@pytest.fixture(scope="session")
def home_of(established: tuple[object, Path, bytes]) -> Path:
    """The home of the session's identities, with its block 0 in a file."""
    _, home, genesis = established
    (home / "genesis").write_bytes(genesis)
    return home
