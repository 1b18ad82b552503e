"""The embedded network under voucher transfers: throughput, latency, CPU, memory, disk, and the cost on a large ledger.

    scripts/bench network [--seconds N] [--clients 1,10,100] [--keys N] [--json FILE]

The network runs in a process of its own, all clients in one asyncio process beside it, so both share the machine.
Each client owns a voucher and passes one fen of it on, again and again, endorsed by three of the four organisations
and waited for until it is committed; a transfer splits the voucher, so a step reads and writes many records. For the
cost on a large ledger the same is measured on a second network whose state was filled with `--keys` more vouchers while
it was down (nobody could verify that ledger, and nobody does); both run side by side and take turns, so that the ratio
does not depend on what else the machine is doing.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tallystick import aio
from tallystick.fabric import Identity, signers

from network.home import LEDGER
from scripts.stage import CORE_PEOPLE, Company, Person, Stage, issue, join, ulid

QUOTA = 1_600_000_000
START_SECONDS = 60.0
ROUNDS = 5
ROUND_SECONDS = 3.0
ROWS_AT_ONCE = 50_000
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Load:
    """What one number of clients came to. Times in milliseconds; CPU in milliseconds per transaction."""

    clients: int
    transactions: int
    failed: int
    per_second: float
    p50_ms: float
    p99_ms: float
    network_cpu_ms: float
    client_cpu_ms: float
    network_mib: float


class Running:
    """A network in a process of its own, with as many vouchers as there may be clients."""

    def __init__(self, home: Path, process: "subprocess.Popen[bytes]") -> None:
        self.home = home
        self.process = process

    @property
    def processes(self) -> list[Path]:
        """Where the kernel tells about the network's process and the one for simulations, if there is one."""
        own = Path(f"/proc/{self.process.pid}")
        children = " ".join(path.read_text() for path in own.glob("task/*/children"))
        return [own, *(Path("/proc") / number for number in children.split())]

    @property
    def cpu_seconds(self) -> float:
        """User and system time the network has used."""
        ticks = 0
        for process in self.processes:
            fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS

    @property
    def memory_mib(self) -> float:
        """Resident memory of the network; what its processes share is counted in each."""
        lines = [line for process in self.processes for line in (process / "status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    @property
    def disk_bytes(self) -> int:
        """Size of the ledger's files."""
        return sum(path.stat().st_size for path in self.home.glob(f"{LEDGER}*"))


@contextmanager
def running(home: Path) -> Iterator[Running]:
    """Start the network of a home and wait until it answers; stop it at the end."""
    command = [sys.executable, "-m", "tallystick", "network"]
    started = time.monotonic()
    process = subprocess.Popen(
        [*command, "up", "--simulated-days", "--home", str(home), "--port-base", "0", "--json"], stdout=subprocess.PIPE
    )
    try:
        if process.stdout is None or not process.stdout.readline():
            raise SystemExit("The network did not start.")
        if time.monotonic() - started > START_SECONDS:
            raise SystemExit("The network took too long to start.")
        yield Running(home, process)
    finally:
        process.terminate()
        process.wait()


@dataclass(slots=True)
class Client:
    """One client: a holder's contract, the voucher it passes on and to whom."""

    contract: aio.Contract
    voucher_id: str
    to_member_id: str

    async def transfer(self) -> None:
        """Pass one fen on; the rest of the split is the next voucher."""
        part_id = f"V-{ulid()}"
        step = {
            "request_id": ulid(),
            "voucher_id": self.voucher_id,
            "to_member_id": self.to_member_id,
            "amount_minor": 1,
            "recourse": False,
            "part_id": part_id,
            "part_number": "PART",
            "rest_number": "REST",
        }
        await self.contract.submit("voucher:transfer", json.dumps(step))
        self.voucher_id = f"{part_id}-R"


@dataclass(frozen=True, slots=True)
class Scene:
    """A founded network with a voucher for each client, given out to holders of four organisations."""

    holders: tuple[Company, ...]
    names: tuple[tuple[str, str], ...]
    vouchers: tuple[tuple[int, str], ...]


def prepare(home: Path, clients: int) -> Scene:
    """Let four suppliers join and give each its share of `clients` vouchers."""
    with Stage(home) as stage:
        sponsors = ("core", "warehouse", "logistics", "bank")
        holders = tuple(join(stage, sponsor, f"Holder{number} Limited") for number, sponsor in enumerate(sponsors))
        core = {role: stage.person("core", name) for role, name in CORE_PEOPLE.items()}
        today = date.fromisoformat(core["operator"].read("business_date:get")["date"])
        vouchers = []
        for number in range(clients):
            if number % 8 == 0:
                quota_id = _quota(stage.person("bank", "user"), stage.person("bank", "colleague"), today)
            holder = number % len(holders)
            voucher_id = issue(core, holders[holder], quota_id, today)
            holders[holder].operator.do("voucher:sign_off", voucher_id=voucher_id)
            vouchers.append((holder, voucher_id))
    names = tuple(
        (sponsor, holder.operator.name.split("/")[1]) for sponsor, holder in zip(sponsors, holders, strict=True)
    )
    return Scene(holders, names, tuple(vouchers))


def _quota(proposer: Person, approver: Person, today: date) -> str:
    """One more quota of the bank for the core enterprise."""
    quota_id = f"Q-{ulid()}"
    until = today.replace(month=12, day=31).isoformat()
    proposer.do(
        "quota:propose", quota_id=quota_id, issuer_id="M-CORE", currency="CNY", limit_minor=QUOTA,
        valid_from=today.isoformat(), valid_until=until,
    )  # fmt: skip
    approver.do("quota:approve", quota_id=quota_id)
    return quota_id


class Drivers:
    """The asyncio clients of one network; kept open over several rounds."""

    def __init__(self, network: Running, scene: Scene) -> None:
        self._network = network
        connection = json.loads((network.home / "connection.json").read_text())
        organisations = {each["name"]: each for each in connection["organisations"]}
        self._channels = {
            name: aio.channel(each["gateway"], tls_ca=(network.home / each["tls_ca_file"]).read_bytes())
            for name, each in organisations.items()
        }
        contracts = []
        for organisation, name in scene.names:
            folder = network.home / "identities" / organisation / name
            certificate = (folder / "certificate.pem").read_bytes()
            identity = Identity.x509(organisations[organisation]["msp_id"], certificate)
            signer = signers.from_pem((folder / "private_key.pem").read_bytes())
            gateway = aio.connect(self._channels[organisation], identity, signer)
            contracts.append(gateway.network(connection["channel"]).contract("trade"))
        others = [holder.member_id for holder in scene.holders]
        self.clients = [
            Client(contracts[holder], voucher_id, others[(holder + 1) % len(others)])
            for holder, voucher_id in scene.vouchers
        ]

    async def load(self, clients: int, seconds: float) -> Load:
        """Let the first `clients` of them transfer for so long."""
        latencies: list[float] = []
        failures: list[str] = []
        network_cpu, client_cpu = self._network.cpu_seconds, time.process_time()
        started = time.perf_counter()

        async def drive(client: Client) -> None:
            while time.perf_counter() - started < seconds:
                begun = time.perf_counter()
                try:
                    await client.transfer()
                    latencies.append(time.perf_counter() - begun)
                except aio.FabricError as error:
                    failures.append(str(error))
                    return

        await asyncio.gather(*map(drive, self.clients[:clients]))
        elapsed = time.perf_counter() - started
        if failures:
            print(f"failed: {failures[0]}", file=sys.stderr)
        done = max(1, len(latencies))
        percentiles = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [0.0] * 99
        return Load(
            clients=clients,
            transactions=len(latencies),
            failed=len(failures),
            per_second=round(len(latencies) / elapsed, 1),
            p50_ms=round(percentiles[49] * 1000, 1),
            p99_ms=round(percentiles[98] * 1000, 1),
            network_cpu_ms=round((self._network.cpu_seconds - network_cpu) * 1000 / done, 2),
            client_cpu_ms=round((time.process_time() - client_cpu) * 1000 / done, 2),
            network_mib=round(self._network.memory_mib, 1),
        )

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            await channel.close()


def fill(ledger: Path, keys: int) -> None:
    """Write `keys` more vouchers, copies of a real one, straight into the state of a stopped network."""
    with sqlite3.connect(ledger) as database:
        rows = database.execute(
            "SELECT namespace, key, value, metadata, version FROM state WHERE namespace = 'trade'"
        ).fetchall()
        models = [row for row in rows if row[1].startswith(b"\0voucher\0")]
        namespace, key, value, metadata, version = models[0]
        own_id = key.split(b"\0")[2]
        for first in range(0, keys, ROWS_AT_ONCE):
            copies = []
            for number in range(first, min(first + ROWS_AT_ONCE, keys)):
                other_id = b"V-%026d" % number
                copies.append(
                    (namespace, key.replace(own_id, other_id), value.replace(own_id, other_id), metadata, version)
                )
            database.executemany("INSERT INTO state VALUES(?, ?, ?, ?, ?)", copies)


async def measure(network: Running, scene: Scene, clients: Sequence[int], seconds: float) -> list[Load]:
    """Each number of clients in turn, after a second to get warm."""
    drivers = Drivers(network, scene)
    await drivers.load(min(10, len(drivers.clients)), 1.0)
    loads = [await drivers.load(number, seconds) for number in clients]
    await drivers.close()
    return loads


async def compare(pairs: Sequence[tuple[Running, Scene]]) -> list[float]:
    """Ratios of the network's CPU per transaction, second network to first, round by round in turn."""
    drivers = [Drivers(network, scene) for network, scene in pairs]
    ratios = []
    for _ in range(ROUNDS + 1):
        first, second = [await each.load(4, ROUND_SECONDS) for each in drivers]
        ratios.append(round(second.network_cpu_ms / first.network_cpu_ms, 3))
    for each in drivers:
        await each.close()
    # The first round warms caches up.
    return ratios[1:]


def main() -> int:
    """Measure and print; the figures also go to a file when one is named."""
    options = parser().parse_args()
    clients = [int(number) for number in options.clients.split(",")]
    with tempfile.TemporaryDirectory(prefix="tallystick-bench-") as folder:
        report: dict[str, Any] = {"machine": {"cpus": os.cpu_count(), "python": sys.version.split()[0]}}
        home = Path(folder) / "small"
        started = time.perf_counter()
        with running(home) as network:
            report["start_seconds"] = round(time.perf_counter() - started, 2)
            report["idle_mib"] = round(network.memory_mib, 1)
            scene = prepare(home, max(*clients, 4))
            before = network.disk_bytes
            loads = asyncio.run(measure(network, scene, clients, options.seconds))
            report["loads"] = [asdict(load) for load in loads]
            done = sum(load.transactions for load in loads)
            report["disk_bytes_per_transaction"] = round((network.disk_bytes - before) / max(1, done))
            if options.keys:
                report["large"] = large(network, scene, Path(folder) / "large", options.keys)
    show(report)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    return 0


def large(small: Running, scene: Scene, home: Path, keys: int) -> dict[str, Any]:
    """The ratio of costs between a second network with `keys` more vouchers and the small one, in the same minutes."""
    with running(home):
        other = prepare(home, 4)
    fill(home / LEDGER, keys)
    with running(home) as network:
        ratios = asyncio.run(compare([(small, scene_of_fresh(small)), (network, other)]))
        return {
            "keys": keys,
            "cpu_ratios": ratios,
            "cpu_ratio_median": statistics.median(ratios),
            "network_mib": round(network.memory_mib, 1),
            "disk_mib": round(network.disk_bytes / 1_048_576),
        }


def scene_of_fresh(network: Running) -> Scene:
    """New vouchers on the small network: the first ones were passed on by clients that are gone."""
    return prepare(network.home, 4)


def show(report: dict[str, Any]) -> None:
    """Print the figures as tables."""
    console = Console()
    table = Table(title="Voucher transfers, endorsed by 3 of 4 organisations")
    for column in Load.__dataclass_fields__:
        table.add_column(column.replace("_", " "), justify="right")
    for load in report["loads"]:
        table.add_row(*(str(value) for value in load.values()))
    console.print(table)
    for name, value in report.items():
        if name != "loads":
            console.print(f"{name.replace('_', ' ')}: {value}")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="scripts/bench network", description="Measure the embedded network.")
    made.add_argument("--seconds", type=float, default=10.0, help="how long each number of clients works")
    made.add_argument("--clients", default="1,10,100", help="numbers of clients")
    made.add_argument("--keys", type=int, default=1_000_000, help="vouchers of the large ledger; 0 leaves it out")
    made.add_argument("--json", help="file for the figures")
    return made


if __name__ == "__main__":
    sys.exit(main())
