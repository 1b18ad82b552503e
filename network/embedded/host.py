"""Runs chaincode for the peers: programs in this process, or services behind a stream.

A program runs in a thread of its own pool, never in the caller's, so that a contract that does not return cannot keep a
peer from answering (E.1). A Python thread cannot be stopped: after the time-out its transaction's context is closed,
the thread is counted as lost until it returns, and when all are lost new calls are refused.
"""

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from chaincode.shim.execute import execute
from chaincode.shim.stub import DEFAULT_LIMITS, Limits
from network.embedded.handler import ChaincodeMessage, TransactionContext
from network.embedded.lifecycle import InstalledPackage
from network.embedded.program import Program, load
from network.embedded.stream import TIMED_OUT, ChaincodeStream, ExecutionError, Tls
from network.topology import ChaincodeSpec, Organisation

logger = logging.getLogger(__name__)

EXECUTE_SECONDS = 30.0  # chaincode.executetimeout of the sample configuration
THREADS = 64
NO_THREAD: Final = "error sending: embedded network: no chaincode thread is free, {lost} have not returned in time"


def package_label(spec: ChaincodeSpec) -> str:
    """The label of a chaincode's package."""
    return f"{spec.name}_{spec.version}"


def package_id(spec: ChaincodeSpec) -> str:
    """The package id under which a chaincode of the topology is approved, `label:hash` as Fabric writes it.

    A service must register with exactly this text. It depends on the name, the version and, for a program, on where
    it is found; not on addresses, so a network on other ports has the same definitions.
    """
    source = "\n".join((spec.name, spec.version, spec.program or "service"))
    return f"{package_label(spec)}:{hashlib.sha256(source.encode()).hexdigest()}"


class _Job:
    """One call for a worker, and the mail box its outcome comes back in."""

    __slots__ = ("done", "run")

    def __init__(self, run: Callable[[], ChaincodeMessage]) -> None:
        self.run = run
        self.done: queue.SimpleQueue[ChaincodeMessage | BaseException] = queue.SimpleQueue()


class _Workers:
    """Threads that run programs; made when needed, kept, the most recently used first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._condition = threading.Condition()
        self._idle: list[queue.SimpleQueue[_Job | None]] = []
        self._count = 0
        self._lost = 0
        self._is_closed = False

    def run(self, call: Callable[[], ChaincodeMessage], deadline: float) -> ChaincodeMessage:
        """Run a call and return its result. Raises ExecutionError past the deadline or when no thread is left."""
        job = _Job(call)
        self._take(deadline).put(job)
        try:
            outcome = job.done.get(timeout=max(deadline - time.monotonic(), 0.0))
        except queue.Empty as error:
            with self._condition:
                self._lost += 1
            threading.Thread(target=self._recover, args=(job,), name="lost chaincode thread", daemon=True).start()
            logger.warning("a chaincode thread has not returned in time, %d of %d lost", self._lost, self._limit)
            raise ExecutionError(TIMED_OUT) from error
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def close(self) -> None:
        """Let idle threads end; busy ones end with their call."""
        with self._condition:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    def _recover(self, job: _Job) -> None:
        job.done.get()
        with self._condition:
            self._lost -= 1

    def _take(self, deadline: float) -> "queue.SimpleQueue[_Job | None]":
        with self._condition:
            while not self._idle:
                if self._count < self._limit:
                    self._count += 1
                    inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
                    name = f"chaincode {self._count}"
                    threading.Thread(target=self._work, args=(inbox,), name=name, daemon=True).start()
                    return inbox
                if self._lost >= self._limit:
                    raise ExecutionError(NO_THREAD.format(lost=self._lost))
                if not self._condition.wait(timeout=max(deadline - time.monotonic(), 0.0)):
                    raise ExecutionError(TIMED_OUT)
            return self._idle.pop()

    def _work(self, inbox: "queue.SimpleQueue[_Job | None]") -> None:
        while (job := inbox.get()) is not None:
            outcome: ChaincodeMessage | BaseException
            try:
                outcome = job.run()
            except BaseException as error:
                # The caller raises it; the thread stays usable.
                outcome = error
            # Free before the answer is seen, so that the caller's next call finds this thread.
            with self._condition:
                if self._is_closed:
                    inbox.put(None)
                else:
                    self._idle.append(inbox)
                    self._condition.notify()
            job.done.put(outcome)


class Host:
    """The chaincodes of one channel, for every peer of the network.

    `tls` maps an organisation's name to the TLS settings towards its chaincode services (absent: no TLS). With
    `threads` 0 programs run in the caller's thread, which costs less than handing them over; then the caller has to
    bound the time. Safe to call from many threads. Raises ProgramError when a program cannot be loaded.
    """

    def __init__(
        self,
        chaincodes: Sequence[ChaincodeSpec],
        organisations: Sequence[Organisation],
        *,
        timeout_seconds: float = EXECUTE_SECONDS,
        threads: int = THREADS,
        tls: Mapping[str, Tls] | None = None,
        dial_seconds: float = 3.0,
        start_seconds: float = 300.0,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        # The shim's own deadline stays below ours, so that a contract that notices it answers by itself.
        seconds = min(DEFAULT_LIMITS.seconds, timeout_seconds * 5 / 6)
        self._limits: Limits = replace(DEFAULT_LIMITS, seconds=seconds)
        self._workers = _Workers(threads) if threads else None
        self._inside = threading.local()
        self._lock = threading.Lock()
        self._running: set[tuple[str, str, str, str]] = set()
        self._programs: dict[tuple[str, str], Program] = {}
        self._streams: dict[tuple[str, str], ChaincodeStream] = {}
        self._packages: dict[str, tuple[InstalledPackage, ...]] = {}
        for organisation in organisations:
            installed: list[InstalledPackage] = []
            for spec in chaincodes:
                identifier = package_id(spec)
                if spec.program is not None:
                    owner = f"{organisation.msp_id}-{spec.name}"
                    self._programs[organisation.msp_id, identifier] = load(spec.program, owner)
                elif spec.services and organisation.name in spec.services:
                    for peer in organisation.peers:
                        self._streams[peer.name, identifier] = ChaincodeStream(
                            spec.services[organisation.name],
                            identifier,
                            tls=(tls or {}).get(organisation.name),
                            dial_seconds=dial_seconds,
                            start_seconds=start_seconds,
                        )
                else:
                    continue
                installed.append(InstalledPackage(identifier, package_label(spec)))
            self._packages[organisation.msp_id] = tuple(installed)

    def packages(self, msp_id: str) -> tuple[InstalledPackage, ...]:
        """What the peers of an organisation can run, in the order of the topology."""
        return self._packages.get(msp_id, ())

    def start(self) -> None:
        """Begin to dial the chaincode services, so that the first user does not wait for it."""
        for stream in self._streams.values():
            stream.start()

    def close(self) -> None:
        """Close all streams and let the threads end."""
        for stream in self._streams.values():
            stream.close()
        if self._workers is not None:
            self._workers.close()

    def invoke(
        self, peer: str, msp_id: str, package: str, message: ChaincodeMessage, context: TransactionContext
    ) -> ChaincodeMessage:
        """Run one TRANSACTION or INIT on the peer called `peer` and return the chaincode's COMPLETED or ERROR.

        `package` is the package id of the definition; requests are answered by `context`, which the caller closes.
        Raises ExecutionError with Fabric's text when no answer can be had.
        """
        outer: float | None = getattr(self._inside, "deadline", None)
        deadline = time.monotonic() + self._timeout_seconds
        deadline = deadline if outer is None else min(deadline, outer)
        stream = self._streams.get((peer, package))
        if stream is not None:
            return stream.execute(message, context, deadline)
        program = self._programs.get((msp_id, package))
        if program is None:
            raise ExecutionError(f"could not launch chaincode {package}: chaincode is not installed")
        key = (peer, package, message.channel_id, message.txid)
        with self._lock:
            if key in self._running:
                raise ExecutionError(f"error sending: txid: {message.txid}({message.channel_id}) exists")
            self._running.add(key)
        try:
            return self._run(program, message, context, msp_id, deadline, is_inside=outer is not None)
        finally:
            with self._lock:
                self._running.discard(key)

    def _run(
        self,
        program: Program,
        message: ChaincodeMessage,
        context: TransactionContext,
        msp_id: str,
        deadline: float,
        *,
        is_inside: bool,
    ) -> ChaincodeMessage:
        def run() -> ChaincodeMessage:
            self._inside.deadline = deadline
            try:
                return execute(program, message, context.handle, msp_id=msp_id, limits=self._limits)
            finally:
                self._inside.deadline = deadline if is_inside else None

        # A chaincode called by another runs in its caller's thread, whose deadline is the earlier one anyway.
        return run() if is_inside or self._workers is None else self._workers.run(run, deadline)
