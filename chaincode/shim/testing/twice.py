"""Runs every transaction again in other processes, which must do exactly the same.

    with Twice({"trade": "chaincode.contract.trade:chaincode"}) as twice:
        completed = twice.execute(chaincode, message, exchange, msp_id="CoreMSP")

The first run is here and talks to the real exchange. Each further process has another hash seed, time zone and locale
(and another Python, if one is named); it gets the byte-identical TRANSACTION and the recorded answers, and its
requests in order, its response and its event must be equal byte for byte. `execute` has the signature of
`execute.execute`, so a test ledger takes it in its place. The processes stay alive: one round trip each, all at once.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Any, Final, Self, cast

import msgspec

from chaincode.shim.errors import StreamLost
from chaincode.shim.execute import Program, execute
from chaincode.shim.stub import DEFAULT_LIMITS, STOCK_PEER, ChaincodeMessage, Exchange, Limits, PeerSettings


@dataclass(frozen=True, slots=True)
class Variant:
    """How one further process differs from this one."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable


VARIANTS: Final = (
    Variant("seed 1", {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"}),
    Variant("seed 2", {"PYTHONHASHSEED": "2", "TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "PYTHONOPTIMIZE": "1"}),
)
"""Two hash seeds order a set of two texts alike half the time: where sets are the question, name more (`seeds`)."""


def seeds(count: int) -> tuple[Variant, ...]:
    """That many variants that differ by hash seed alone."""
    return tuple(Variant(f"seed {seed}", {"PYTHONHASHSEED": str(seed)}) for seed in range(1, count + 1))


class Disagreement(AssertionError):
    """A further process did something else; the text names the variant and the first difference."""


class _Job(msgspec.Struct, frozen=True):
    """One transaction to repeat: the message, and every request with its answer (None: the stream was lost)."""

    program: str
    message: bytes
    msp_id: str
    settings: PeerSettings
    limits: Limits
    trace: list[tuple[bytes, bytes | None]]


class _Outcome(msgspec.Struct, frozen=True):
    """What a process did: its COMPLETED message and its requests up to the first that differed."""

    completed: bytes
    requests: list[bytes]


class Twice:
    """The further processes and the comparison; a context manager.

    `programs` maps the name of a chaincode to the `module:attribute` where the processes find it.
    """

    def __init__(self, programs: Mapping[str, str], variants: Sequence[Variant] = VARIANTS) -> None:
        self._programs = dict(programs)
        self._variants = variants
        self._workers: list[_Worker] = []
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self.count = 0
        """Transactions compared so far."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._workers = [stack.enter_context(_Worker(variant)) for variant in self._variants]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def execute(
        self,
        chaincode: Program,
        message: ChaincodeMessage,
        exchange: Exchange,
        *,
        msp_id: str,
        settings: PeerSettings = STOCK_PEER,
        limits: Limits = DEFAULT_LIMITS,
        started_at: float | None = None,
    ) -> ChaincodeMessage:
        """Run the transaction here, then in every process; raises Disagreement at the first difference.

        A chaincode whose name is not among the programs runs here only. Where the exchange runs a called chaincode
        through `execute` too, that one is compared by itself, and its disagreement is raised as it was found.
        """
        trace: list[tuple[bytes, bytes | None]] = []
        of_called: Disagreement | None = None

        def recorded(request: ChaincodeMessage) -> ChaincodeMessage:
            nonlocal of_called
            data = request.SerializeToString()
            try:
                reply = exchange(request)
            except StreamLost:
                trace.append((data, None))
                raise
            except Disagreement as disagreement:
                # The caller answers it like any exception, with its type only: it must not get lost there.
                of_called = disagreement
                raise
            trace.append((data, reply.SerializeToString()))
            return reply

        completed = execute(
            chaincode,
            message,
            recorded,
            msp_id=msp_id,
            settings=settings,
            limits=limits,
            started_at=started_at,
        )
        if of_called is not None:
            raise of_called
        program = self._programs.get(getattr(chaincode, "name", ""))
        if program is not None:
            job = _Job(program, message.SerializeToString(), msp_id, settings, limits, trace)
            self._compare(job, completed)
        return completed

    def _compare(self, job: _Job, completed: ChaincodeMessage) -> None:
        with self._lock:
            for worker in self._workers:
                worker.send(job)
            outcomes = [(worker.variant, worker.receive()) for worker in self._workers]
            self.count += 1
        expected = completed.SerializeToString()
        for variant, outcome in outcomes:
            requests = [request for request, _ in job.trace]
            for place in range(max(len(requests), len(outcome.requests))):
                here, there = requests[place : place + 1], outcome.requests[place : place + 1]
                if here != there:
                    raise Disagreement(f"{variant.name}: request {place} {_difference(here, there)}")
            if outcome.completed != expected:
                raise Disagreement(f"{variant.name}: answer {_difference([expected], [outcome.completed])}")


class _Worker:
    """One further process, kept alive between transactions."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self._errors = tempfile.TemporaryFile()
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [variant.python, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**environment, **variant.environment},
        )
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._input.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
        self._errors.close()

    def send(self, job: _Job) -> None:
        try:
            _write(self._input, job)
        except BrokenPipeError as error:
            raise self._broken() from error

    def receive(self) -> _Outcome:
        outcome: _Outcome | None = _read(self._output, _Outcome)
        if outcome is None:
            raise self._broken()
        return outcome

    def _broken(self) -> RuntimeError:
        self._errors.seek(0)
        return RuntimeError(
            f"the process {self.variant.name} ended: {self._errors.read()[-2000:].decode(errors='replace')}"
        )


def _difference(here: Sequence[bytes], there: Sequence[bytes]) -> str:
    """Both messages, none or one each, a little before the first byte in which their payloads differ and after it."""
    messages = [ChaincodeMessage.FromString(found[0]) if found else None for found in (here, there)]
    payloads = [b"" if message is None else message.payload for message in messages]
    start = next((place for place, pair in enumerate(zip(*payloads, strict=False)) if pair[0] != pair[1]), 0)
    texts = ["nothing" if message is None else _text(message, max(0, start - 60)) for message in messages]
    return f"from byte {start}: {texts[0]} here, {texts[1]} there"


def _text(message: ChaincodeMessage, start: int) -> str:
    event = f" event {message.chaincode_event}" if message.HasField("chaincode_event") else ""
    return f"{ChaincodeMessage.Type.Name(message.type)} {message.payload[start : start + 200]!r}{event}"


def _write(stream: IO[bytes], value: _Job | _Outcome) -> None:
    data = msgspec.msgpack.encode(value)
    stream.write(len(data).to_bytes(4, "big") + data)
    stream.flush()


def _read(stream: IO[bytes], kind: type[Any]) -> Any:
    """The next value, or None at the end."""
    size = stream.read(4)
    if len(size) < 4:
        return None
    data = stream.read(int.from_bytes(size, "big"))
    return msgspec.msgpack.decode(data, type=kind)


def _repeat(job: _Job, program: Program) -> _Outcome:
    requests: list[bytes] = []

    def replay(request: ChaincodeMessage) -> ChaincodeMessage:
        requests.append(request.SerializeToString())
        place = len(requests) - 1
        if place >= len(job.trace) or job.trace[place][0] != requests[place]:
            raise StreamLost("the request differs")
        answer = job.trace[place][1]
        if answer is None:
            raise StreamLost("as in the first run")
        return ChaincodeMessage.FromString(answer)

    message = ChaincodeMessage.FromString(job.message)
    completed = execute(program, message, replay, msp_id=job.msp_id, settings=job.settings, limits=job.limits)
    return _Outcome(completed.SerializeToString(), requests)


def main() -> None:
    """The further process: repeats jobs from standard input until it ends."""
    jobs, outcomes = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # A stray print of a contract must not get between the frames.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    programs: dict[str, Program] = {}
    while (job := _read(jobs, _Job)) is not None:
        if job.program not in programs:
            module, _, attribute = job.program.partition(":")
            programs[job.program] = getattr(importlib.import_module(module), attribute)
        _write(outcomes, _repeat(job, programs[job.program]))


if __name__ == "__main__":
    main()
