"""`tallystick network`: start, stop, look at, empty and verify the network of a home.

Exit codes: 0 done, 1 refused (the sentence says why), 2 wrong usage, 3 not available (nothing runs, or it does not
answer).

What runs a network is imported by the commands that need it: most of them should answer at once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from network.home import CONNECTION, LEDGER, LOG, READY, TOPOLOGY, HomeInUse, cannot_use, running_pid
from network.identity.authority import AuthorityError
from network.topology import Topology, TopologyError, load

REFUSED: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 3

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.05
_LOG_LINES: Final = 12
BANNER: Final = (
    "Embedded evaluation network: one process holds the keys of all {count} organisations, so there is no separation "
    "of trust. It is for evaluation, development, tests and single-operator pilots; independent organisations use "
    "Hyperledger Fabric."
)

if TYPE_CHECKING:
    from network.embedded.network import EmbeddedNetwork
    from network.status import Status

app = typer.Typer(name="network", help="Start, stop and look at the network.", no_args_is_help=True)

Home = Annotated[
    Path,
    typer.Option("--home", envvar="TALLYSTICK_HOME", help="The network's folder.", file_okay=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_HOME: Final = Path(".tallystick")


@app.command()
def up(
    home: Home = _HOME,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running and return when it answers.")] = False,
    port_base: Annotated[
        int | None,
        typer.Option("--port-base", min=0, max=65_000, help="Move all ports; 0 takes free ones. First start only."),
    ] = None,
    topology: Annotated[
        Path | None, typer.Option("--topology", help="A topology file other than the shipped one. First start only.")
    ] = None,
    simulated_days: Annotated[
        bool | None,
        typer.Option(
            "--simulated-days/--real-days", help="Whether the business date may run apart from the clock. First start."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start the network. The first start makes its keys, its channel and its chaincodes in the home."""
    home = home.absolute()
    with _usable(home, as_json):
        pid = running_pid(home)
        if pid is not None:
            _refuse(str(HomeInUse(home, pid)), as_json)
        chosen = _topology(home, topology, port_base, as_json)
        if simulated_days is not None and (home / CONNECTION).exists():
            text = "Members are founded once: when that is done, --simulated-days and --real-days change nothing."
            typer.echo(text, err=True)
    if detach:
        _start_detached(home, _options(topology, port_base, simulated_days), as_json)
        _print_running(home, as_json)
        return
    # gRPC's library would write lines of its own beside our sentence, about a taken port or a client's bad handshake.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from network.embedded.network import EmbeddedNetwork, NetworkError
    from network.founding import FoundingError, found

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        network = EmbeddedNetwork.prepare(home, chosen)
        network.start()
    except (NetworkError, HomeInUse) as error:
        _refuse(str(error), as_json)
    try:
        found(home, network.topology, network.connection, simulated_days=simulated_days)
        (home / READY).write_text(f"{os.getpid()}\n", encoding="utf-8")
        _print_started(network, as_json)
        stopped.wait()
    except FoundingError as error:
        _refuse(str(error), as_json)
    except OSError as error:
        _refuse(cannot_use(home, error), as_json)
    finally:
        (home / READY).unlink(missing_ok=True)
        network.stop()
    if not as_json:
        Console(stderr=True).print("The network has stopped. Everything acknowledged is on disk.")


@app.command()
def down(home: Home = _HOME, as_json: Json = False) -> None:
    """Stop the network and wait until it has stopped."""
    home = home.absolute()
    with _usable(home, as_json):
        pid = running_pid(home)
    if pid is None:
        _end(UNAVAILABLE, f"No network is running in {home}.", as_json)
    deadline = time.monotonic() + _STOP_SECONDS
    while not pid and time.monotonic() < deadline:
        # It holds the home but has not written its number yet.
        time.sleep(_LOOK_SECONDS)
        pid = running_pid(home)
    if pid:
        with _usable(home, as_json):
            os.kill(pid, signal.SIGTERM)
    while running_pid(home) is not None:
        if time.monotonic() > deadline:
            _end(
                UNAVAILABLE,
                f"The network (process {pid}) did not stop within {_STOP_SECONDS:.0f} seconds. Its last lines are in "
                f"{home / LOG}. Nothing acknowledged is lost if you end the process yourself: kill -9 {pid}",
                as_json,
            )
        time.sleep(_LOOK_SECONDS)
    _say({"state": "stopped", "home": str(home), "pid": pid}, f"The network in {home} has stopped.", as_json)


@app.command()
def status(home: Home = _HOME, as_json: Json = False) -> None:
    """Show whether the network runs, and ask every organisation's gateway for its height."""
    from network.status import inspect

    home = home.absolute()
    with _usable(home, as_json):
        found = inspect(home)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        _show(found)
    if found.state != "running":
        raise typer.Exit(UNAVAILABLE)


@app.command()
def reset(
    home: Home = _HOME,
    keys: Annotated[bool, typer.Option("--keys", help="Delete keys, certificates and ports too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete the ledger, so that the next start begins with a new, empty one. Keys stay unless --keys is given."""
    home = home.absolute()
    with _usable(home, as_json):
        pid = running_pid(home)
        is_there = any((home / name).exists() for name in (TOPOLOGY, LEDGER, CONNECTION, "organisations"))
    if pid is not None:
        _refuse(
            f"The network in {home} is running (process {pid}). Stop it first with "
            f"`tallystick network down --home {home}`.",
            as_json,
        )
    if not is_there:
        _end(UNAVAILABLE, f"There is no network in {home}, so there is nothing to reset.", as_json)
    what = "the ledger, all keys and all certificates" if keys else "the ledger"
    if not yes:
        if as_json or not sys.stdin.isatty():
            _end(USAGE, f"This would delete {what} in {home} for good. Say --yes if that is meant.", as_json)
        typer.confirm(f"Delete {what} in {home} for good?", abort=True)
    doomed = [*home.glob(f"{LEDGER}*"), home / CONNECTION, home / LOG]
    if keys:
        doomed += [home / "organisations", home / "identities", home / TOPOLOGY]
    with _usable(home, as_json):
        for path in doomed:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    text = (
        f"Deleted {what} in {home}. The next `tallystick network up --home {home}` begins anew, with another network "
        "id."
    )
    _say({"state": "stopped" if not keys else "absent", "home": str(home)}, text, as_json)


@app.command()
def verify(home: Home = _HOME, as_json: Json = False) -> None:
    """Recompute everything from block 0: hash chain, signatures, validation codes, commit hashes and the state."""
    home = home.absolute()
    with _usable(home, as_json):
        is_there, has_run = (home / LEDGER).exists(), (home / CONNECTION).exists()
    if not is_there and has_run:
        _refuse(
            f"{home / LEDGER} is missing, although the network in {home} has run. Restore it from a backup.", as_json
        )
    if not is_there:
        _end(
            UNAVAILABLE,
            f"There is no ledger in {home}. Make a network with `tallystick network up --home {home}`.",
            as_json,
        )
    from network.embedded.verify import verify as verify_ledger

    with _usable(home, as_json):
        outcome = verify_ledger(home)
    if outcome.difference is not None:
        _end(REFUSED, f"The ledger in {home} is not sound: {outcome.difference}", as_json)
    _say(
        {"state": "sound", "home": str(home), "height": outcome.height, "transactions": outcome.transactions},
        f"The ledger in {home} is sound: {outcome.height} blocks with {outcome.transactions} transactions recomputed "
        "from block 0, without a difference.",
        as_json,
    )


def _topology(home: Path, topology: Path | None, port_base: int | None, as_json: bool) -> Topology | None:
    """The topology of a first start; None when the home has one, which then may not be contradicted."""
    stored = home / TOPOLOGY
    try:
        if not stored.exists():
            return load(topology, port_base)
        kept = load(stored)
    except TopologyError as error:
        _refuse(str(error), as_json)
    if topology is not None or (port_base and port_base != kept.port_base):
        what = "its own topology" if topology is not None else f"ports from {kept.port_base} on"
        _refuse(
            f"The network in {home} was made with {what}; that stands in its channel's configuration and cannot "
            "change. Start it without this option, make another network with --home, or begin anew with other keys: "
            f"`tallystick network reset --keys --home {home}`.",
            as_json,
        )
    return None


@contextmanager
def _usable(home: Path, as_json: bool) -> Iterator[None]:
    """Tell a home that cannot be read or written in a sentence."""
    try:
        yield
    except OSError as error:
        _refuse(cannot_use(home, error), as_json)
    except (AuthorityError, TopologyError) as error:
        _refuse(str(error), as_json)


def _options(topology: Path | None, port_base: int | None, simulated_days: bool | None) -> list[str]:
    """The options of a first start, for the process that runs the network."""
    options = []
    if port_base is not None:
        options += ["--port-base", str(port_base)]
    if topology is not None:
        options += ["--topology", str(topology.absolute())]
    if simulated_days is not None:
        options.append("--simulated-days" if simulated_days else "--real-days")
    return options


def _start_detached(home: Path, options: list[str], as_json: bool) -> None:
    """Start a child that outlives this command, and wait until it says it is ready and every gateway answers."""
    from network.status import inspect

    command = [sys.executable, "-m", "network.cli", "up", "--home", str(home), *options]
    log = home / LOG
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        output = log.open("ab")
    except OSError as error:
        _refuse(cannot_use(home, error), as_json)
    with output:
        begin = output.tell()
        child = subprocess.Popen(  # noqa: S603  # our own module and checked options, no shell
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    deadline = time.monotonic() + _START_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        if _is_ready(home, child.pid) and inspect(home).state == "running":
            return
        time.sleep(_LOOK_SECONDS)
    tail = log.read_bytes()[begin:].decode(errors="replace").strip().splitlines()[-_LOG_LINES:]
    if child.poll() is not None:
        _end(REFUSED, "\n".join(tail) or f"The network ended at once; see {log}.", as_json)
    _end(
        UNAVAILABLE,
        f"The network (process {child.pid}) has not answered within {_START_SECONDS:.0f} seconds. Its log is {log}; "
        f"stop it with `tallystick network down --home {home}`.",
        as_json,
    )


def _is_ready(home: Path, pid: int) -> bool:
    try:
        return (home / READY).read_text(encoding="utf-8").strip() == str(pid)
    except FileNotFoundError:
        return False


def _print_running(home: Path, as_json: bool) -> None:
    from network.status import inspect

    found = inspect(home)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        Console(stderr=True).print(BANNER.format(count=len(found.peers)), style="yellow")
        _show(found)


def _print_started(network: "EmbeddedNetwork", as_json: bool) -> None:
    connection = network.connection
    if as_json:
        answer = {"state": "running", "home": str(network.home), "pid": os.getpid(), **connection}
        typer.echo(json.dumps(answer))
        return
    Console(stderr=True).print(BANNER.format(count=len(connection["organisations"])), style="yellow")
    text = f"Network {connection['network_id'][:16]}…, channel {connection['channel']}"
    Console().print(text, soft_wrap=True, highlight=False)
    table = Table()
    table.add_column("organisation")
    table.add_column("gateway")
    for entry in connection["organisations"]:
        table.add_row(entry["name"], entry["gateway"])
    Console().print(table)
    Console().print(f"Connection file: {network.home / CONNECTION}. Ctrl-C stops the network.", soft_wrap=True)


def _show(found: "Status") -> None:
    console = Console()
    if found.state == "absent":
        text = f"There is no network in {found.home}. Make one with `tallystick network up --home {found.home}`."
        console.print(text, soft_wrap=True, highlight=False)
        return
    if found.state == "stopped":
        text = f"The network in {found.home} is stopped. Start it with `tallystick network up --home {found.home}`."
        console.print(text, soft_wrap=True, highlight=False)
    else:
        text = f"Network in {found.home}, process {found.pid}, channel {found.channel}"
        console.print(text, soft_wrap=True, highlight=False)
        table = Table()
        for column in ("organisation", "gateway", "height", ""):
            table.add_column(column)
        for peer in found.peers:
            height = "-" if peer.height is None else str(peer.height)
            table.add_row(peer.organisation, peer.address, height, peer.error or "answers")
        console.print(table)
        if not found.peers:
            console.print(
                "It is just starting, or its connection.json cannot be read; the next start writes that anew."
            )
    for line in found.expiring:
        console.print(line, style="yellow", soft_wrap=True)


def _say(values: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(values))
    else:
        Console().print(text, soft_wrap=True, highlight=False)


def _refuse(text: str, as_json: bool) -> NoReturn:
    _end(REFUSED, text, as_json)


def _end(code: int, text: str, as_json: bool) -> NoReturn:
    """End the command with a sentence on standard error (as JSON too, on standard output)."""
    if as_json:
        typer.echo(json.dumps({"error": {"code": code, "message": text}}))
    else:
        typer.echo(text, err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
