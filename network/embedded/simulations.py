"""The threads that simulations run in: few work at once, and one that does not come back is replaced.

Programs are Python code under one interpreter lock, so more threads at work make all of them slower. A Python thread
cannot be stopped: after the time-out its place is given to another and it is counted as lost until it returns; when too
many are lost, new work is refused (embedded-network.md E.1)."""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, TypeVar

_LOG = logging.getLogger(__name__)

LOST_MAX: Final = 64

T = TypeVar("T")
_Inbox: TypeAlias = "queue.SimpleQueue[Callable[[], None] | None]"


class Overrun(Exception):
    """A simulation has not returned in time, or no thread is left to run one; the text is the peer's."""


class Progress(Protocol):
    """How far a job is: when its current simulation began (`time.monotonic`)."""

    @property
    def asked_at(self) -> float: ...


class Simulations:
    """Runs jobs off the loop, at most `at_once` at a time. Every method is called on the event loop.

    `seconds` bounds each single simulation of a job."""

    def __init__(self, at_once: int, seconds: float, lost_max: int = LOST_MAX) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._seconds = seconds
        self._lost_max = lost_max
        self._idle: list[_Inbox] = []
        self._is_closed = False
        self.lost = 0
        self.busy = 0

    async def run(self, job: Callable[[], T], progress: Progress) -> T:
        """The job's result. Raises what it raises, or `Overrun`; a caller that leaves does not free the thread.

        `busy` counts the callers."""
        self.busy += 1
        try:
            return await self._run(job, progress)
        finally:
            self.busy -= 1

    async def _run(self, job: Callable[[], T], progress: Progress) -> T:
        if self.lost >= self._lost_max:
            raise Overrun(
                f"error sending: embedded network: no chaincode thread is free, {self.lost} have not returned in time"
            )
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        watch = _Watch(self._seconds, progress, lambda: self._lose(answer))
        inbox = self._idle.pop() if self._idle else _thread()

        def finished(result: T | None, error: BaseException | None) -> None:
            if watch.end():
                self.lost -= 1
            else:
                self._slots.release()
            self._idle.append(inbox)
            if self._is_closed:
                self.close()
            if not answer.done():
                if error is not None:
                    answer.set_exception(error)
                else:
                    answer.set_result(result)  # type: ignore[arg-type]  # without an error it is the job's result

        def work() -> None:
            result, error = None, None
            try:
                result = job()
            except BaseException as raised:  # it belongs to the caller; the thread stays usable
                error = raised
            # After the network has stopped nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finished, result, error)

        inbox.put(work)
        return await answer

    def close(self) -> None:
        """Let the idle threads end; those at work end with their job, or with the process."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().put(None)

    def _lose(self, answer: "asyncio.Future[T]") -> None:
        self.lost += 1
        self._slots.release()
        _LOG.warning("a simulation has not returned in time; %d threads are lost", self.lost)
        if not answer.done():
            answer.set_exception(Overrun("error sending: timeout expired while executing transaction"))


class _Watch:
    """Calls `lose` once when the current simulation of a job has had its time."""

    def __init__(self, seconds: float, progress: Progress, lose: Callable[[], None]) -> None:
        self._seconds = seconds
        self._progress = progress
        self._lose = lose
        self._is_lost = False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def end(self) -> bool:
        """Stop watching; answers whether the job had been given up."""
        self._timer.cancel()
        return self._is_lost

    def _look(self) -> None:
        rest = self._progress.asked_at + self._seconds - time.monotonic()
        if rest > 0:
            self._timer = asyncio.get_running_loop().call_later(rest, self._look)
        else:
            self._is_lost = True
            self._lose()


def _thread() -> _Inbox:
    """A new thread that runs what is put into its inbox. It never keeps the process from ending."""
    inbox: _Inbox = queue.SimpleQueue()

    def serve() -> None:
        while (work := inbox.get()) is not None:
            work()

    threading.Thread(target=serve, name="simulation", daemon=True).start()
    return inbox
