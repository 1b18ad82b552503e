"""CPU of the Gateway client per evaluate and submit, beside the official Node client in the same run.

    scripts/bench client [--calls N] [--json FILE] [--soak N] [--streams N]

A stub gateway runs in a process of its own, each client in one of its own: synchronous with 16 threads, asyncio with
64 tasks, Node with 64 promises. Counted is the client's own CPU time (user and system, warm-up left out) per call; a
submit is three gRPC calls. The order is repeated `--rounds` times and the median taken, because the machine is rarely
idle. Aim: at most 0.35 of the Node client's CPU. `--soak N` makes N evaluate calls (up to a million) on each Python
side and records the memory along the way; `--streams N` opens, reads and cancels N event streams. Memory must stay
flat in both.
"""

import argparse
import asyncio
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tallystick import aio, fabric
from tallystick.testing import StubGateway

ROOT = Path(__file__).resolve().parent.parent
NODE_CLIENT = ROOT / "tests" / "node" / "client"
CONCURRENCY = {"sync": 16, "asyncio": 64, "node": 64}
AIM = 0.35
ARGUMENT = "x" * 200
OPERATIONS = ("evaluate", "submit")
GROWTH_MB_MAX = 4.0
"""What memory may grow from the second tenth of a load to its end; allocators take a while to settle."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit status 1 if memory grew or, with --enforce, the aim was missed."""
    options = _options().parse_args(argv)
    if options.role == "stub":
        return _serve()
    if options.role is not None:
        print(json.dumps(_measure_here(options)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        _write_identity(Path(folder))
        report = _measure(options, Path(folder))
    _show(report)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    missed = options.enforce and report["within_aim"] is False
    return 1 if missed or not report["memory_flat"] else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench client", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--calls", type=int, default=5_000, help="calls per operation, client and round (5000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each client is measured (3)")
    parser.add_argument("--soak", type=int, default=0, help="calls to make while watching memory (0: none)")
    parser.add_argument("--streams", type=int, default=0, help="event streams to open and cancel (0: none)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--enforce", action="store_true", help="exit 1 when the aim is missed")
    parser.add_argument("--role", choices=("stub", "sync", "asyncio"), help=argparse.SUPPRESS)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser


# ---- the run


def _measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    stub = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.client", "--role", "stub"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        target = stub.stdout.readline().strip() if stub.stdout else ""
        clients = ["sync", "asyncio"] + (["node"] if _node() else [])
        rounds = [
            {client: _client(client, target, folder, options) for client in clients} for _ in range(options.rounds)
        ]
        memory = {
            (client, load): _client(client, target, folder, options, load=load)["memory"]
            for load in ("soak", "streams")
            for client in ("sync", "asyncio")
            if getattr(options, load)
        }
    finally:
        stub.terminate()
        stub.wait(10)
    return _report(clients, rounds, memory)


def _node() -> str | None:
    return shutil.which("node") if (NODE_CLIENT / "node_modules" / "@hyperledger" / "fabric-gateway").is_dir() else None


def _client(client: str, target: str, folder: Path, options: argparse.Namespace, *, load: str = "") -> dict[str, Any]:
    warmup = max(200, options.calls // 10)
    if client == "node":
        numbers = [str(options.calls), str(CONCURRENCY["node"]), str(warmup)]
        identity = [str(folder / "certificate.pem"), str(folder / "key.pem")]
        command = [str(_node()), "--no-warnings", "bench.mjs", target, "Org1MSP", *identity, *numbers]
        output = subprocess.run(command, cwd=NODE_CLIENT, check=True, capture_output=True, text=True).stdout
    else:
        command = [sys.executable, "-m", "benchmarks.client", "--role", client, "--target", target]
        command += ["--folder", str(folder), "--calls", str(options.calls)]
        command += [f"--{load}", str(getattr(options, load))] if load else []
        output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, Any] = json.loads(output)
    return figures


def _report(
    clients: list[str], rounds: list[dict[str, Any]], memory: dict[tuple[str, str], list[tuple[int, float]]]
) -> dict[str, Any]:
    figures = {
        client: {
            operation: {
                name: round(statistics.median(turn[client][operation][name] for turn in rounds), 4)
                for name in ("cpu_ms", "rate", "rss_mb")
            }
            for operation in OPERATIONS
        }
        for client in clients
    }
    ratios = {
        client: {
            operation: round(figures[client][operation]["cpu_ms"] / figures["node"][operation]["cpu_ms"], 3)
            for operation in OPERATIONS
        }
        for client in clients
        if "node" in clients and client != "node"
    }
    return {
        "concurrency": CONCURRENCY,
        "figures": figures,
        "ratio_to_node": ratios,
        "aim": AIM,
        "within_aim": all(value <= AIM for row in ratios.values() for value in row.values()) if ratios else None,
        "memory_mb": {f"{client} {load}": points for (client, load), points in memory.items()},
        "memory_flat": all(points[-1][1] - points[2][1] <= GROWTH_MB_MAX for points in memory.values()),
    }


def _show(report: dict[str, Any]) -> None:
    print(f"{'client':<10}{'operation':<11}{'CPU ms':>9}{'calls/s':>9}{'RSS MB':>9}{'x Node':>9}")
    for client, operations in report["figures"].items():
        for operation, row in operations.items():
            ratio = report["ratio_to_node"].get(client, {}).get(operation, "")
            numbers = f"{row['cpu_ms']:>9.3f}{row['rate']:>9.0f}{row['rss_mb']:>9.1f}{ratio:>9}"
            print(f"{client:<10}{operation:<11}{numbers}")
    if not report["ratio_to_node"]:
        print("Node client not measured: it needs node and `npm ci` in tests/node/client")
    for name, points in report["memory_mb"].items():
        print(f"memory of {name} in MB after so many: " + ", ".join(f"{count}: {rss:.1f}" for count, rss in points))


# ---- the processes


def _write_identity(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pkcs8 = serialization.PrivateFormat.PKCS8
    encoding = serialization.Encoding.PEM
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, pkcs8, serialization.NoEncryption()))
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(encoding))


def _serve() -> int:
    with StubGateway(workers=80, record=False) as stub:
        stub.evaluate.answer(b"y" * 200)
        stub.endorse.answer(b"y" * 200)
        print(stub.target, flush=True)
        sys.stdin.read()
    return 0


def _measure_here(options: argparse.Namespace) -> dict[str, Any]:
    folder = Path(options.folder)
    identity = fabric.Identity.x509("Org1MSP", (folder / "certificate.pem").read_bytes())
    signer = fabric.signers.from_pem((folder / "key.pem").read_bytes())
    if options.role == "sync":
        with (
            fabric.channel(options.target, insecure=True) as channel,
            fabric.connect(channel, identity, signer) as gateway,
        ):
            network = gateway.network("scf")
            contract = network.contract("trade", "voucher")

            def stream() -> None:
                with network.block_events(start_block=0) as blocks:
                    next(blocks)

            calls: dict[str, Callable[[], object]] = {
                "evaluate": lambda: contract.evaluate("get", ARGUMENT),
                "submit": lambda: contract.submit("issue", ARGUMENT),
                "streams": stream,
            }
            return _figures(lambda operation, count: _in_threads(calls[operation], count), options)

    async def run() -> dict[str, Any]:
        async with aio.channel(options.target, insecure=True) as channel:
            async with aio.connect(channel, identity, signer) as gateway:
                network = gateway.network("scf")
                contract = network.contract("trade", "voucher")

                async def stream() -> None:
                    async with network.block_events(start_block=0) as blocks:
                        await anext(blocks)

                calls: dict[str, Callable[[], Awaitable[object]]] = {
                    "evaluate": lambda: contract.evaluate("get", ARGUMENT),
                    "submit": lambda: contract.submit("issue", ARGUMENT),
                    "streams": stream,
                }
                return await _figures_async(lambda operation, count: _in_tasks(calls[operation], count), options)

    return asyncio.run(run())


def _in_threads(call: Callable[[], object], count: int) -> None:
    def work(share: int) -> None:
        for _ in range(share):
            call()

    threads = CONCURRENCY["sync"]
    shares = [count // threads + (index < count % threads) for index in range(threads)]
    workers = [threading.Thread(target=work, args=(share,)) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


async def _in_tasks(call: Callable[[], Awaitable[object]], count: int) -> None:
    async def work(share: int) -> None:
        for _ in range(share):
            await call()

    tasks = CONCURRENCY["asyncio"]
    await asyncio.gather(*(work(count // tasks + (index < count % tasks)) for index in range(tasks)))


def _figures(run: Callable[[str, int], None], options: argparse.Namespace) -> dict[str, Any]:
    load = _load(options)
    if load:
        points = [(0, _rss_mb())]
        for index in range(10):
            run(load[0], load[1])
            points.append(((index + 1) * load[1], _rss_mb()))
        return {"memory": points}
    figures = {}
    for operation in OPERATIONS:
        run(operation, max(200, options.calls // 10))
        cpu, start = _cpu_seconds(), time.perf_counter()
        run(operation, options.calls)
        figures[operation] = _row(options.calls, _cpu_seconds() - cpu, time.perf_counter() - start)
    return figures


async def _figures_async(run: Callable[[str, int], Awaitable[None]], options: argparse.Namespace) -> dict[str, Any]:
    load = _load(options)
    if load:
        points = [(0, _rss_mb())]
        for index in range(10):
            await run(load[0], load[1])
            points.append(((index + 1) * load[1], _rss_mb()))
        return {"memory": points}
    figures = {}
    for operation in OPERATIONS:
        await run(operation, max(200, options.calls // 10))
        cpu, start = _cpu_seconds(), time.perf_counter()
        await run(operation, options.calls)
        figures[operation] = _row(options.calls, _cpu_seconds() - cpu, time.perf_counter() - start)
    return figures


def _load(options: argparse.Namespace) -> tuple[str, int] | None:
    """Operation and a tenth of its number, when memory is watched instead of time."""
    if options.soak:
        return "evaluate", max(1, options.soak // 10)
    return ("streams", max(1, options.streams // 10)) if options.streams else None


def _row(calls: int, cpu: float, elapsed: float) -> dict[str, float]:
    return {"calls": calls, "cpu_ms": cpu / calls * 1000, "rate": calls / elapsed, "rss_mb": _rss_mb()}


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    raise SystemExit(main())
