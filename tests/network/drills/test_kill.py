"""Kill -9 while clients submit: everything acknowledged is there after an ordinary start, with the same code.

It shows that nothing is promised before it is written and that no file is ever half made; a power cut needs more, the
disk's own word for an fsync, which no test can ask for."""

import random
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from network.topology import load
from tests.network.drills.load import COUNTER, VALID, Load, Promises, check, height, placed, send_again
from tests.network.drills.process import Process, until, verified
from tests.network.embedded.wire import Client

ROUNDS = 50
SEED = "kill -9"
LOAD_SECONDS = (0.15, 1.0)
STATUS_SECONDS = 15.0


@dataclass(slots=True)
class Tally:
    """What all rounds came to."""

    rounds: int = 0
    acknowledged: int = 0
    accepted: int = 0
    unknown: int = 0
    in_the_queue: int = 0
    increments: int = 0
    slowest_start: float = 0.0


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    home = tmp_path / "home"
    chance = random.Random(SEED)
    tally = Tally()
    keys: set[str] = set()
    first = Process.started(home)
    running, begin = first, 0
    try:
        for number in range(ROUNDS):
            promises = work_and_kill(running, f"{SEED} {number}", chance.uniform(*LOAD_SECONDS))
            started = time.monotonic()
            running = Process.started(home)
            tally.slowest_start = max(tally.slowest_start, time.monotonic() - started)
            begin, written, increments = settle(home, begin, promises, tally)
            keys |= written
            tally.rounds += 1
            tally.increments += increments
    finally:
        code = running.stop()
    assert code == 0
    print(f"\n{tally}")
    assert tally.acknowledged > 10 * ROUNDS, "too little was going on to prove anything"
    outcome = verified(home)
    assert outcome["height"] == begin
    stored = state(home)
    assert int(stored[COUNTER]) == tally.increments, "every valid increment counts once"
    assert keys <= stored.keys()


def work_and_kill(running: Process, seed: str, seconds: float) -> Promises:
    """Let clients work for so long, then kill the network under their hands."""
    with Load(running.home, seed) as load:
        begin = time.monotonic()
        until(lambda: time.monotonic() - begin > seconds, "the moment to kill")
        assert load.is_working and not load.promises.refusals, load.promises.refusals
        load.ending.set()
        running.kill()
    return load.promises


def settle(home: Path, begin: int, promises: Promises, tally: Tally) -> tuple[int, set[str], int]:
    """Ask the restarted network for everything that the killed one had promised.

    Transactions whose Submit never answered are sent again as they are, which is all that a client can do. Answers the
    height, the keys that are written now, and the number of valid increments."""
    client = Client(home, "core")
    try:
        tally.in_the_queue += len(promises.accepted) - len(promises.acknowledged)
        tally.unknown += len(promises.unknown)
        for transaction_id in promises.unknown:
            send_again(client, promises.sent[transaction_id])
        verdicts = {each: client.status(each, timeout=STATUS_SECONDS) for each in promises.sent}
        # What stands behind the last of them in the queue is the second copy of some envelope.
        client.transact("put", "settled", "yes")
        top = height(client)
        check(promises, placed(client, begin, top - 1))
    finally:
        client.close()
    tally.acknowledged += len(promises.acknowledged)
    tally.accepted += len(promises.accepted)
    assert all(verdicts[each] == promised for each, promised in promises.acknowledged.items())
    valid = [promises.sent[each].key for each, (code, _) in verdicts.items() if code == VALID]
    assert {promises.sent[each].key for each, (code, _) in verdicts.items() if code != VALID} <= {COUNTER}
    return top, set(valid), valid.count(COUNTER)


def state(home: Path) -> dict[str, bytes]:
    """The keys of the chaincode `basic` in a ledger that nobody runs."""
    with closing(sqlite3.connect(f"{(home / 'ledger.sqlite').as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT key, value FROM state WHERE namespace='basic'")
        return {key.decode(): value for key, value in rows}


@pytest.mark.parametrize(
    "stage",
    [
        "home/topology.toml",
        "home/organisations/warehouse/ca/private_key.pem",
        "home/identities/bank/user/private_key.pem",
        "home/ledger.sqlite.new",
        "home/ledger.sqlite",
        "home/ledger.sqlite-wal",
        "home/connection.json",
    ],
)
def test_a_first_start_that_was_killed_is_completed_by_the_next(tmp_path: Path, stage: str) -> None:
    """Killed as soon as a certain file is there: keys half made, the ledger half made, chaincodes half deployed."""
    home = tmp_path / "home"
    process = Process(home)
    # A file that is there for a moment only may be missed; the start is then killed where it ends.
    try:
        until(lambda: (tmp_path / stage).exists() or (home / "connection.json").exists(), stage)
    finally:
        process.kill()
    authority = home / "organisations" / "warehouse" / "ca" / "private_key.pem"
    key = authority.read_bytes() if authority.exists() else b""
    with Process.started(home):
        client = Client(home, "bank")
        try:
            assert client.transact("put", "first", "1")[1] == VALID
            assert client.evaluate(client.propose("who", chaincode="both")).payload == b"BankMSP"
        finally:
            client.close()
    assert verified(home)["state"] == "sound"
    assert load(home / "topology.toml").channel == "scf"
    assert authority.read_bytes().startswith(key), "keys are made once"
