"""`tallystick network` as a person calls it: exit codes, JSON, two starts, stopping, killing, resetting, verifying."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fabric_protos.peer import transaction_pb2

from network.embedded.verify import verify
from network.home import running_pid
from tests.network.embedded.conftest import small_topology
from tests.network.embedded.wire import Client

VALID = transaction_pb2.TxValidationCode.VALID
REFUSED, USAGE, UNAVAILABLE = 1, 2, 3


def run(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    command = [sys.executable, "-m", "network.cli", *words, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def answer(*words: str, home: Path) -> dict[str, Any]:
    """The JSON answer of a command that must end well."""
    done = run(*words, "--json", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    """A topology file with the tests' chaincodes and free ports."""
    path = tmp_path / "topology.toml"
    small_topology().save(path)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A home whose network is gone at the end of the test."""
    home = tmp_path / "home"
    yield home
    pid = running_pid(home)
    if pid:
        os.kill(pid, signal.SIGKILL)
        wait_until_free(home)


def wait_until_free(home: Path) -> None:
    """Wait until no process runs the home, ten seconds at most."""
    deadline = time.monotonic() + 10
    while running_pid(home) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_way_of_a_day(place: Path, topology: Path) -> None:
    """Up, a second up, status, work, verify, reset while running, down, down again, status, verify, reset."""
    started = answer("up", "--detach", "--topology", str(topology), home=place)
    assert started["state"] == "running"
    assert running_pid(place) == started["pid"]
    assert [peer["height"] for peer in started["peers"]] == [3, 3, 3, 3]

    second = run("up", home=place)
    assert second.returncode == REFUSED
    assert f"already running (process {started['pid']})" in second.stderr

    client = Client(place, "core")
    client.transact("put", "day", "1")
    client.close()
    found = answer("status", home=place)
    assert (found["state"], found["channel"], found["expiring"]) == ("running", "scf", [])
    assert [peer["height"] for peer in found["peers"]] == [4, 4, 4, 4]
    assert answer("verify", home=place)["height"] == 4

    refused = run("reset", "--yes", home=place)
    assert refused.returncode == REFUSED
    assert "network down" in refused.stderr

    assert answer("down", home=place)["pid"] == started["pid"]
    assert running_pid(place) is None
    assert run("down", home=place).returncode == UNAVAILABLE
    stopped = run("status", "--json", home=place)
    assert (stopped.returncode, json.loads(stopped.stdout)["state"]) == (UNAVAILABLE, "stopped")

    assert run("reset", home=place).returncode == USAGE
    answer("reset", "--yes", home=place)
    assert not (place / "ledger.sqlite").exists()
    assert (place / "identities" / "core" / "user" / "private_key.pem").exists()
    again = answer("up", "--detach", home=place)
    assert again["network_id"] != started["network_id"]
    answer("down", home=place)
    answer("reset", "--yes", "--keys", home=place)
    assert not (place / "identities").exists()


def test_nothing_there(place: Path) -> None:
    for words in (["down"], ["reset", "--yes"], ["verify"], ["status"]):
        done = run(*words, home=place)
        assert done.returncode == UNAVAILABLE, words
        assert done.stdout + done.stderr
    assert not place.exists()


def test_the_foreground_says_what_it_is_and_stops_at_a_signal(place: Path, topology: Path) -> None:
    command = [sys.executable, "-m", "network.cli", "up", "--home", str(place), "--topology", str(topology)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert child.stdout is not None
        banner = child.stderr.readline()
        assert "Embedded evaluation network" in banner
        for line in child.stdout:
            if "Ctrl-C" in line:
                break
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, rest = child.communicate(timeout=10)
        assert time.monotonic() - begin < 5
        assert child.returncode == 0
        assert "has stopped" in rest
    assert running_pid(place) is None


def test_ports_cannot_move_once_they_stand_in_the_channel(place: Path, topology: Path) -> None:
    answer("up", "--detach", "--topology", str(topology), home=place)
    answer("down", home=place)
    moved = run("up", "--port-base", "9000", home=place)
    assert moved.returncode == REFUSED
    assert "--home" in moved.stderr


def test_a_bad_topology_names_the_key(place: Path, topology: Path) -> None:
    topology.write_text(topology.read_text().replace("[channel]", '[channel]\ncolour = "red"'))
    done = run("up", "--topology", str(topology), "--json", home=place)
    assert done.returncode == REFUSED
    assert "colour" in json.loads(done.stdout)["error"]["message"]


def test_verify_refuses_a_changed_ledger(place: Path, topology: Path) -> None:
    import sqlite3

    answer("up", "--detach", "--topology", str(topology), home=place)
    client = Client(place, "core")
    client.transact("put", "key", "1")
    client.close()
    answer("down", home=place)
    with sqlite3.connect(place / "ledger.sqlite") as connection:
        connection.execute("DELETE FROM state WHERE namespace = 'basic'")
    connection.close()
    done = run("verify", home=place)
    assert done.returncode == REFUSED
    assert "basic / key" in done.stderr


def test_a_damaged_ledger_is_named_and_not_repaired(place: Path, topology: Path) -> None:
    answer("up", "--detach", "--topology", str(topology), home=place)
    answer("down", home=place)
    ledger = place / "ledger.sqlite"
    damaged = b"not a database at all" + ledger.read_bytes()[21:]
    ledger.write_bytes(damaged)
    done = run("up", home=place)
    assert done.returncode == REFUSED
    assert "ledger" in done.stderr
    assert ledger.read_bytes() == damaged


def test_a_killed_network_keeps_what_it_acknowledged(place: Path, topology: Path) -> None:
    """Killed three times in the middle of its work; the next start needs no hand."""
    answer("up", "--detach", "--topology", str(topology), home=place)
    submitted: list[str] = []
    committed: list[tuple[str, int]] = []
    for round_number in range(3):
        client = Client(place, "core")
        for number in range(10):
            proposal = client.propose("put", f"{round_number}-{number}", "1")
            client.submit(client.sign_envelope(client.endorse(proposal)))
            submitted.append(proposal.transaction_id)
            if number == 6:
                committed.append((proposal.transaction_id, client.status(proposal.transaction_id)[1]))
        pid = running_pid(place)
        assert pid
        os.kill(pid, signal.SIGKILL)
        client.close()
        wait_until_free(place)
        answer("up", "--detach", home=place)
    client = Client(place, "bank")
    assert [client.status(transaction_id)[0] for transaction_id in submitted] == [VALID] * len(submitted)
    assert [client.status(transaction_id)[1] for transaction_id, _ in committed] == [block for _, block in committed]
    client.close()
    assert verify(place).difference is None
