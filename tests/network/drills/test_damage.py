"""Full disks, damaged files and wrong starts: one clear sentence, exit code 1, nothing repaired in silence."""

import os
import re
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from network.topology import load
from tests.network.drills.load import VALID, Load, check, height, placed, send_again
from tests.network.drills.process import Process, command, until, verified
from tests.network.embedded.wire import Client, failure

LEDGER = "ledger.sqlite"
NODE = "organisations/core/peers/peer.core"
MARK = b"a value to be found in the file"
NO_SPACE = "the disk is full"
NO_WRITING = "the disk refuses the ledger file"


# -- a full disk -------------------------------------------------------------------------------------------------------


@contextmanager
def full_tmpfs(folder: Path) -> Iterator[Callable[[Process], Callable[[], None]]]:
    """A small file system of its own; filling it up answers how to make room again."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root; the other case of this test fills no disk but runs")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount a file system")
    filler = folder / "filler"

    def fill(_: Process) -> Callable[[], None]:
        # The network writes meanwhile, so the disk becomes full in the middle of something.
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        return filler.unlink

    try:
        yield fill
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def limited_files(folder: Path) -> Iterator[Callable[[Process], Callable[[], None]]]:
    """No file of the process may grow beyond the largest one it has."""

    def limit(process: Process) -> Callable[[], None]:
        largest = max(path.stat().st_size for path in process.home.glob(f"{LEDGER}*"))
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (largest, hard))

        def make_room() -> None:
            with suppress(ProcessLookupError):  # the next process has no limit
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))

        return make_room

    yield limit


@pytest.mark.parametrize(
    ("make", "reason", "ending"),
    [
        pytest.param(full_tmpfs, NO_SPACE, "goes on", id="full-goes-on"),
        pytest.param(full_tmpfs, NO_SPACE, "is killed", id="full-is-killed"),
        pytest.param(limited_files, NO_WRITING, "goes on", id="limited-goes-on"),
        pytest.param(limited_files, NO_WRITING, "is stopped", id="limited-is-stopped"),
    ],
)
def test_a_full_disk_loses_nothing_that_was_acknowledged(
    tmp_path: Path, make: Callable[[Path], Iterator[Callable[[Process], Callable[[], None]]]], reason: str, ending: str
) -> None:
    """Clients are refused with a sentence; with room again the network goes on by itself, or after a new start."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with make(folder) as fill:  # type: ignore[attr-defined]
        home = folder / "home"
        process = Process.started(home)
        client = Client(home, "core")
        try:
            begin = height(client)
            with Load(home, f"{reason} {ending}", value="x" * 20_000, status_seconds=2) as load:
                until(lambda: len(load.promises.acknowledged) > 5, "the network is busy")
                make_room = fill(process)
                until(lambda: bool(load.promises.refusals), "a client is told that the disk is full")
                # What is on the ledger can be read all the same.
                assert client.evaluate(client.propose("who")).payload == b"CoreMSP"
            promises = load.promises
            assert sentence(client) in (
                f"embedded network: the ledger cannot be written: cannot keep an accepted transaction: {reason}",
                f"embedded network: block {height(client)} cannot be written: cannot write a block: {reason}",
            )
            assert process.is_alive
            if ending == "is stopped":
                assert process.stop() == 0
            elif ending == "is killed":
                process.kill()
            make_room()
            if ending != "goes on":
                client.close()
                process = Process.started(home)
                client = Client(home, "core")
            for transaction_id in promises.accepted:
                client.status(transaction_id)
            until(lambda: sentence(client) == "", "it takes transactions again", 10)
            for transaction_id in promises.unknown:
                send_again(client, promises.sent[transaction_id])
                client.status(transaction_id)
            codes = check(promises, placed(client, begin, height(client) - 1))
            assert codes[VALID] > 0
            assert "Traceback" not in process.log
        finally:
            client.close()
            process.stop()
        assert verified(home)["state"] == "sound"


def sentence(client: Client) -> str:
    """What the orderer says to a new transaction, without what it advises; empty when it accepts it."""
    proposal = client.propose("put", "room", "for one more")
    try:
        client.submit(client.sign_envelope(client.endorse(proposal)))
    except grpc.RpcError as error:
        found = failure(error)
        assert found.code is grpc.StatusCode.UNAVAILABLE
        assert found.message == (
            "insufficient number of orderers could successfully process transaction to satisfy quorum requirement"
        )
        text = found.details[0][2].removeprefix(
            "received unsuccessful response from orderer: status=SERVICE_UNAVAILABLE, info="
        )
        return re.split(r"; | \(", text)[0]
    return ""


def test_private_data_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    """An endorsement of private data is a promise to have it: without room there is no endorsement."""
    home = tmp_path / "home"
    with Process.started(home) as process, limited_files(tmp_path) as limit:
        client = Client(home, "core")
        try:
            make_room = limit(process)

            def keep() -> str:
                proposal = client.propose(
                    "keep_private", "_implicit_org_CoreMSP", "secret", transient={"value": b"x" * 60_000}
                )
                client.submit(client.sign_envelope(client.endorse(proposal)))
                return proposal.transaction_id

            with pytest.raises(grpc.RpcError) as refused:
                keep()
            found = failure(refused.value)
            assert found.code is grpc.StatusCode.ABORTED
            assert NO_WRITING in found.details[0][2]
            make_room()
            assert client.status(keep())[0] == VALID
            assert "Traceback" not in process.log
        finally:
            client.close()


# -- damaged files -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a stopped network with a few dozen blocks. Tests work on copies."""
    home = tmp_path_factory.mktemp("sound") / "home"
    with Process.started(home):
        client = Client(home, "core")
        try:
            assert client.transact("put", "mark", MARK.decode() * 20)[1] == VALID
            for number in range(30):
                client.transact("put", f"key-{number}", "x" * 1000)
        finally:
            client.close()
    return home


@pytest.fixture
def home(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound home."""
    return Path(shutil.copytree(sound, tmp_path / "home"))


def flip(home: Path, begin: int, length: int) -> None:
    """Turn some bytes of the ledger file over."""
    with (home / LEDGER).open("r+b") as file:
        file.seek(begin)
        found = file.read(length)
        file.seek(begin)
        file.write(bytes(byte ^ 0xFF for byte in found))


def in_the_header(home: Path) -> None:
    flip(home, 0, 16)


def in_the_first_page(home: Path) -> None:
    flip(home, 100, 8)


def in_a_block(home: Path) -> None:
    flip(home, (home / LEDGER).read_bytes().index(MARK * 20), 5)


def in_the_state(home: Path) -> None:
    with closing(sqlite3.connect(home / LEDGER)) as connection, connection:
        changed = connection.execute(
            "UPDATE state SET value = CAST('changed' AS BLOB) WHERE key = CAST('mark' AS BLOB)"
        )
        assert changed.rowcount == 1


def cut_off(home: Path) -> None:
    os.truncate(home / LEDGER, (home / LEDGER).stat().st_size // 2)


def emptied(home: Path) -> None:
    os.truncate(home / LEDGER, 0)


def missing(home: Path) -> None:
    (home / LEDGER).unlink()


def text_instead(home: Path) -> None:
    (home / LEDGER).write_text("This is no ledger.\n" * 1000, encoding="utf-8")


def other_database(home: Path) -> None:
    (home / LEDGER).unlink()
    with closing(sqlite3.connect(home / LEDGER)) as connection, connection:
        connection.execute("CREATE TABLE shopping(item TEXT)")


def folder_instead(home: Path) -> None:
    (home / LEDGER).unlink()
    (home / LEDGER).mkdir()


RESTORE = "nothing was changed, restore it from a backup"
DAMAGES = [
    (in_the_header, rf"^cannot open the ledger: the ledger file is damaged \(file is not a database\); {RESTORE}$"),
    (in_the_first_page, rf"^cannot open the ledger: the ledger file is damaged \(.* malformed\); {RESTORE}$"),
    (in_a_block, None),
    (in_the_state, None),
    (cut_off, rf"^cannot open the ledger: the ledger file is damaged \(.* malformed\); {RESTORE}$"),
    (emptied, r"^the file is not a Tallystick ledger; nothing was changed$"),
    (missing, r"^\S+/ledger.sqlite is missing, although the network in \S+ has run. Restore it from a backup, or "),
    (text_instead, rf"^cannot open the ledger: the ledger file is damaged \(file is not a database\); {RESTORE}$"),
    (other_database, r"^the file is not a Tallystick ledger; nothing was changed$"),
    (folder_instead, r"^cannot open the ledger: the disk refuses the ledger file \(unable to open database file\)"),
]
IN_VERIFY: dict[Callable[[Path], None], str] = {
    in_a_block: "the transactions of block 3 do not have the hash that its header names",
    in_the_state: "the stored state of basic / mark is not what the blocks say",
}


@pytest.mark.parametrize(("damage", "text"), DAMAGES, ids=[damage.__name__.replace("_", "-") for damage, _ in DAMAGES])
def test_a_damaged_ledger_is_told_in_a_sentence(home: Path, damage: Callable[[Path], None], text: str | None) -> None:
    damage(home)
    before = contents(home)
    checked = command("verify", home)
    assert_one_sentence(checked)
    assert IN_VERIFY.get(damage, "") in checked.stderr
    if text is not None:
        # What verify alone can find, because it reads every block, does not keep a network from starting.
        started = command("up", home)
        assert_one_sentence(started)
        assert re.search(text, started.stderr), started.stderr
    assert contents(home) == before, "nothing is repaired in silence"


def test_another_networks_ledger_is_told_from_ones_own(home: Path, tmp_path: Path) -> None:
    """It is sound in itself, and of the same organisations, but what this home's keys would add is worth nothing."""
    other = tmp_path / "other"
    Process.started(other).stop()
    shutil.copy(other / LEDGER, home / LEDGER)
    before = contents(home)
    for verb in ("up", "verify"):
        done = command(verb, home)
        assert_one_sentence(done)
        assert "the ledger file is that of another network, whose orderers have other keys" in done.stderr
    assert contents(home) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (f"{NODE}/msp/keystore/key.pem", "A key or certificate in {home} cannot be used: the private key is not"),
        (f"{NODE}/msp/signcerts/cert.pem", "A key or certificate in {home} cannot be used: the certificate of CoreMSP"),
        (f"{NODE}/tls/server.key", "A key or certificate in {home} cannot be used: {home}/{name}: not a private key"),
        ("identities/core/admin/private_key.pem", "A key or certificate in {home} cannot be used: the private key"),
        ("topology.toml", "{home}/topology.toml: not TOML"),
    ],
)
def test_a_broken_file_of_the_home_is_told_in_a_sentence(home: Path, name: str, text: str) -> None:
    (home / name).write_text("broken [", encoding="utf-8")
    done = command("up", home)
    assert_one_sentence(done)
    assert done.stderr.startswith(text.format(home=home, name=name)), done.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (f"{NODE}/msp/keystore/key.pem", "The home {home} cannot be used: No such file or directory ({home}/{name})."),
        ("topology.toml", "{home}/topology.toml is missing: it says which organisations, ports and chaincodes"),
    ],
)
def test_what_is_missing_is_not_made_anew(home: Path, name: str, text: str) -> None:
    """Another key would fit no certificate, and another topology no channel."""
    (home / name).unlink()
    done = command("up", home)
    assert_one_sentence(done)
    assert done.stderr.startswith(text.format(home=home, name=name)), done.stderr
    assert not (home / name).exists()


def test_a_broken_topology_stops_verify_too(home: Path) -> None:
    (home / "topology.toml").write_text("schema = [", encoding="utf-8")
    assert_one_sentence(command("verify", home))


# -- wrong starts ------------------------------------------------------------------------------------------------------


def test_starting_twice_is_refused(home: Path) -> None:
    with Process.started(home) as process:
        for option in ((), ("--detach",)):
            done = command("up", home, *option)
            assert_one_sentence(done)
            assert done.stderr.startswith(f"The network in {home} is already running (process {process.pid}).")
        assert process.is_alive
        client = Client(home, "core")
        assert client.transact("put", "still", "there")[1] == VALID
        client.close()


@pytest.mark.parametrize("option", [(), ("--detach",)], ids=["foreground", "detached"])
def test_a_taken_port_is_told_by_its_number(home: Path, option: tuple[str, ...]) -> None:
    node = load(home / "topology.toml").organisations[2].peers[0]
    with socket.socket() as other:
        other.bind((node.host, node.port))
        other.listen()
        done = command("up", home, *option)
    assert_one_sentence(done)
    assert f"{node.address} is in use by another program." in done.stderr
    Process.started(home).stop()


@pytest.fixture
def powerless() -> tuple[str, ...]:
    """What runs a command so that file permissions hold for it: root ignores them."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may write everywhere, and this machine has no setpriv to give that up")
    return (setpriv, "--bounding-set=-all", "--inh-caps=-all")


@pytest.mark.parametrize("option", [(), ("--detach",)], ids=["foreground", "detached"])
def test_a_home_that_cannot_be_written_is_told(
    tmp_path: Path, powerless: tuple[str, ...], option: tuple[str, ...]
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    for place in (locked, locked / "home"):
        done = command("up", place, "--port-base", "0", *option, prefix=powerless)
        assert_one_sentence(done)
        assert done.stderr.startswith(f"The home {place} cannot be used: Permission denied"), done.stderr
    assert not list(locked.iterdir())


@pytest.mark.parametrize("word", ["up", "down", "status", "verify", "reset"])
def test_a_home_that_cannot_be_read_is_told(home: Path, powerless: tuple[str, ...], word: str) -> None:
    locked = home / (LEDGER if word == "verify" else "network.pid")
    locked.chmod(0)
    done = command(word, home, prefix=powerless)
    assert_one_sentence(done)
    assert done.stderr.startswith(f"The home {home} cannot be used: Permission denied ({locked})."), done.stderr
    assert (home / LEDGER).exists()


def test_a_home_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"
    done = command("up", home)
    assert_one_sentence(done)
    assert done.stderr.startswith(f"The home {home} cannot be used: Not a directory")


def test_without_connection_file_down_and_status_still_work(home: Path) -> None:
    """The file is for clients; the commands need it for the addresses only."""
    with Process.started(home) as process:
        for content in (None, '{"half'):
            (home / "connection.json").unlink()
            if content is not None:
                (home / "connection.json").write_text(content, encoding="utf-8")
            else:
                (home / "connection.json").touch()
            done = command("status", home)
            assert done.returncode == 3
            assert "connection.json cannot be read" in " ".join(done.stdout.split())
        (home / "connection.json").unlink()
        assert command("status", home).returncode == 3
        done = command("down", home)
        assert (done.returncode, done.stderr) == (0, "")
        until(lambda: not process.is_alive, "the process has ended")
    done = command("down", home)
    assert (done.returncode, done.stderr.strip()) == (3, f"No network is running in {home}.")
    with Process.started(home):
        assert command("status", home).returncode == 0, "the next start writes it anew"


def assert_one_sentence(done: "subprocess.CompletedProcess[str]") -> None:
    """Refused with exit code 1 and a line on standard error; no traceback, nothing else."""
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def contents(home: Path) -> dict[str, bytes]:
    """Every file of the home that is to stay as it is: locks and logs are the commands' own."""
    own = (".pid", ".lock", ".log", "-shm", "-wal")
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and not path.name.endswith(own)
    }


assert sys.platform == "linux", "prlimit and the mounted file system are Linux's"
