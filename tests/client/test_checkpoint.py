"""Checkpointers: positions, files in every official format, safety."""

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tallystick.fabric import (
    ChaincodeEvent,
    CheckpointError,
    FileCheckpointer,
    HookCheckpointer,
    InMemoryCheckpointer,
    Position,
)
from tallystick.testing import END, StubGateway

EVENT = ChaincodeEvent(3, "tx3", "trade", "e", b"")


@pytest.fixture(params=["memory", "file", "hook"])
def checkpointer(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """One of each kind, empty."""
    if request.param == "memory":
        return InMemoryCheckpointer()
    if request.param == "file":
        made = FileCheckpointer(tmp_path / "trade.cp")
        request.addfinalizer(made.close)
        return made
    return HookCheckpointer(lambda: None, lambda position: None)


def test_nothing_is_recorded_at_first(checkpointer: Any) -> None:
    assert (checkpointer.block_number, checkpointer.transaction_id) == (None, None)


def test_a_block_gives_the_next_one_and_no_transaction(checkpointer: Any) -> None:
    checkpointer.checkpoint_transaction(1, "tx1")
    checkpointer.checkpoint_block(1)
    assert (checkpointer.block_number, checkpointer.transaction_id) == (2, None)


def test_a_transaction_gives_its_block_and_id(checkpointer: Any) -> None:
    checkpointer.checkpoint_transaction(1, "tx1")
    assert (checkpointer.block_number, checkpointer.transaction_id) == (1, "tx1")


def test_an_event_gives_its_block_and_id(checkpointer: Any) -> None:
    checkpointer.checkpoint_chaincode_event(EVENT)
    assert (checkpointer.block_number, checkpointer.transaction_id) == (3, "tx3")


def test_the_network_stays(checkpointer: Any) -> None:
    checkpointer.bind("3f9a")
    checkpointer.checkpoint_block(7)
    assert checkpointer.network_id == "3f9a"
    checkpointer.bind("3f9a")
    with pytest.raises(CheckpointError, match="3f9a"):
        checkpointer.bind("other")
    assert checkpointer.network_id == "3f9a"


def _reopened(path: Path) -> Position:
    with FileCheckpointer(path) as checkpointer:
        return Position(checkpointer.block_number, checkpointer.transaction_id, checkpointer.network_id)


@pytest.mark.parametrize(
    ("record", "position"),
    [
        (lambda cp: cp.checkpoint_block(7), Position(8)),
        (lambda cp: cp.checkpoint_transaction(0, "tx0"), Position(0, "tx0")),
        (lambda cp: cp.checkpoint_chaincode_event(EVENT), Position(3, "tx3")),
        (lambda cp: cp.checkpoint_block(2**64 - 2), Position(2**64 - 1)),
    ],
)
def test_file_survives_a_restart(tmp_path: Path, record: Callable[[Any], None], position: Position) -> None:
    path = tmp_path / "trade.cp"
    with FileCheckpointer(path) as checkpointer:
        record(checkpointer)
    assert _reopened(path) == position


def test_file_holds_numbers_and_no_nulls(tmp_path: Path) -> None:
    path = tmp_path / "trade.cp"
    with FileCheckpointer(path) as checkpointer:
        checkpointer.bind("3f9a")
        checkpointer.checkpoint_transaction(7, "ab")
        assert json.loads(path.read_bytes()) == {"blockNumber": 7, "transactionId": "ab", "networkId": "3f9a"}
        checkpointer.checkpoint_block(7)
        assert json.loads(path.read_bytes()) == {"blockNumber": 8, "networkId": "3f9a"}


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ('{"blockNumber":0,"transactionId":""}', Position()),
        ('{"blockNumber":7,"transactionId":""}', Position(7)),
        ('{"blockNumber":7,"transactionId":"ab"}', Position(7, "ab")),
        ('{"blockNumber":0,"transactionId":"ab"}', Position(0, "ab")),
        ("{}", Position()),
        ('{"blockNumber":"7"}', Position(7)),
        ('{"blockNumber":"7","transactionId":"ab"}', Position(7, "ab")),
        ('{"blockNumber":"18446744073709551615"}', Position(2**64 - 1)),
        ('{"blockNumber": 7, "transactionId": "ab"}', Position(7, "ab")),
        ('{"blockNumber":null,"transactionId":null}', Position()),
        ("", Position()),
    ],
    ids=[
        "go empty",
        "go block",
        "go",
        "go zero",
        "node empty",
        "node block",
        "node",
        "node large",
        "java",
        "null",
        "new",
    ],
)
def test_file_reads_the_official_formats(tmp_path: Path, text: str, position: Position) -> None:
    path = tmp_path / "trade.cp"
    path.write_text(text)
    assert _reopened(path) == position


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        '{"blockNumber": 1.5}',
        '{"blockNumber": -1}',
        '{"blockNumber": true}',
        '{"blockNumber": "seven"}',
        '{"blockNumber": 18446744073709551616}',
        '{"transactionId": 7}',
        '{"networkId": 7}',
        "\x00\x00\x00\x00",
    ],
)
def test_a_broken_file_is_an_error_and_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trade.cp"
    path.write_text(text)
    with pytest.raises(CheckpointError, match="broken"):
        FileCheckpointer(path)
    assert path.read_text() == text
    path.unlink()
    assert _reopened(path) == Position()


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="lock file"):
        FileCheckpointer(tmp_path / "missing" / "trade.cp")


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        FileCheckpointer(tmp_path)


def test_a_failed_write_moves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trade.cp"
    with FileCheckpointer(path) as checkpointer:
        checkpointer.checkpoint_block(7)
        path.unlink()
        path.mkdir()
        with pytest.raises(CheckpointError, match="cannot be written"):
            checkpointer.checkpoint_block(8)
        assert checkpointer.block_number == 8
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["trade.cp", "trade.cp.lock"]


def test_a_closed_checkpointer_writes_nothing(tmp_path: Path) -> None:
    with FileCheckpointer(tmp_path / "trade.cp") as checkpointer:
        pass
    with pytest.raises(CheckpointError, match="closed"):
        checkpointer.checkpoint_block(7)


def test_a_second_user_is_kept_out(tmp_path: Path) -> None:
    with FileCheckpointer(tmp_path / "trade.cp"), pytest.raises(CheckpointError, match="in use"):
        FileCheckpointer(tmp_path / "trade.cp")
    FileCheckpointer(tmp_path / "trade.cp").close()


def _open_in_child(path: str, answer: Any) -> None:
    try:
        FileCheckpointer(path).close()
    except CheckpointError as error:
        answer.put(str(error))
    else:
        answer.put("opened")


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()
    with FileCheckpointer(tmp_path / "trade.cp"):
        child = spawn.Process(target=_open_in_child, args=(str(tmp_path / "trade.cp"), answer))
        child.start()
        assert "in use" in answer.get(timeout=30)
        child.join()


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "trade.cp"
    with FileCheckpointer(path) as checkpointer:
        checkpointer.checkpoint_transaction(1, "a" * 64)
        with path.open("rb") as before:
            checkpointer.checkpoint_block(5)
            # The old file is whole and still there for whoever has it open: it was replaced, not written over.
            assert json.loads(before.read()) == {"blockNumber": 1, "transactionId": "a" * 64}
            assert os.fstat(before.fileno()).st_nlink == 0
        assert json.loads(path.read_bytes()) == {"blockNumber": 6}


def test_hook_loads_and_saves() -> None:
    table: list[Position] = []
    first = HookCheckpointer(lambda: None, table.append)
    first.bind("3f9a")
    first.checkpoint_transaction(7, "ab")
    assert table == [Position(None, None, "3f9a"), Position(7, "ab", "3f9a")]
    assert HookCheckpointer(lambda: table[-1], table.append).block_number == 7


def test_a_failing_hook_moves_nothing() -> None:
    def save(position: Position) -> None:
        raise OSError("database is gone")

    checkpointer = HookCheckpointer(lambda: Position(7, "ab"), save)
    with pytest.raises(OSError, match="gone"):
        checkpointer.checkpoint_block(8)
    assert (checkpointer.block_number, checkpointer.transaction_id) == (7, "ab")


def test_a_stream_binds_the_checkpoint_to_its_network(stub: StubGateway, network: Any) -> None:
    stub.chaincode_events.answer([END])
    checkpoint = InMemoryCheckpointer()
    with network.chaincode_events("trade", checkpoint=checkpoint) as events:
        assert list(events) == []
    assert checkpoint.network_id == stub.network_id == network.network_id()


@pytest.mark.parametrize(
    "kind", ["chaincode_events", "block_events", "filtered_block_events", "block_and_private_data_events"]
)
def test_a_checkpoint_of_another_network_is_refused(stub: StubGateway, network: Any, kind: str) -> None:
    checkpoint = InMemoryCheckpointer(Position(7, "ab", "another network"))
    arguments = ["trade"] if kind == "chaincode_events" else []
    with (
        pytest.raises(CheckpointError, match="another network"),
        getattr(network, kind)(*arguments, checkpoint=checkpoint, timeout=0.5) as events,
    ):
        next(events)
    scripts = (stub.chaincode_events, stub.deliver, stub.deliver_filtered, stub.deliver_private)
    assert not any(script.requests for script in scripts)
    assert checkpoint.network_id == "another network"


def test_the_network_is_asked_for_once(stub: StubGateway, network: Any) -> None:
    stub.chaincode_events.answer([END])
    for _ in range(3):
        with network.chaincode_events("trade", checkpoint=InMemoryCheckpointer()) as events:
            assert list(events) == []
    assert len(stub.ledger_queries) == 1


def test_a_given_network_id_is_not_asked_for(stub: StubGateway, gateway: Any) -> None:
    stub.deliver.answer([END])
    network = gateway.network("scf", network_id="known")
    checkpoint = InMemoryCheckpointer()
    with network.block_events(checkpoint=checkpoint) as events:
        assert list(events) == []
    assert (checkpoint.network_id, stub.ledger_queries) == ("known", [])
    with pytest.raises(CheckpointError):
        network.chaincode_events_request("trade", checkpoint=InMemoryCheckpointer(Position(1, None, "other")))


def test_a_reader_goes_on_where_it_stopped(stub: StubGateway, network: Any, tmp_path: Path) -> None:
    from tallystick.testing import Endorsed

    stub.endorse.answer(*(Endorsed(b"", "e", b"%d" % number) for number in range(1, 5)))
    for _ in range(4):
        network.contract("trade").submit("issue")
    seen = []
    for _ in range(2):
        with (
            FileCheckpointer(tmp_path / "trade.cp") as checkpoint,
            network.block_events(start_block=1, checkpoint=checkpoint) as blocks,
        ):
            for _ in range(2):
                block = next(blocks)
                seen.append(block.number)
                checkpoint.checkpoint_block(block.number)
    assert seen == [1, 2, 3, 4]
