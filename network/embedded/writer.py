"""The one thread that writes the ledger.

Small writes that follow each other in the queue share one SQLite transaction, so a burst of submissions costs one
fsync; a block is a transaction of its own.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

from network.embedded.store import LedgerClosed

P = ParamSpec("P")
T = TypeVar("T")

GROUP_LIMIT = 256  # small writes in one SQLite transaction; bounds how long the first of them waits


class Writer(Protocol):
    """Runs functions that write the ledger, one after the other."""

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run the function in turn; the future has its result when the disk has its writes."""

    def small(self, statements: Callable[[], None]) -> "Future[None]":
        """Run statements of a few rows in turn, in an SQLite transaction shared with their neighbours."""

    def close(self) -> None:
        """Finish what is queued and refuse more."""

    @property
    def here(self) -> bool:
        """Whether the caller runs inside the writer."""


@dataclass(frozen=True, slots=True)
class _Small:
    statements: Callable[[], None]


_Job = Callable[[], Any] | _Small | None  # None ends the thread


class ThreadWriter:
    """Writer on its own thread. `transaction` runs a list of small writes in one SQLite transaction."""

    def __init__(self, transaction: Callable[[Sequence[Callable[[], None]]], None]) -> None:
        self._transaction = transaction
        self._jobs: queue.SimpleQueue[tuple[_Job, Future[Any]]] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def here(self) -> bool:
        """Whether the caller runs on the writer's thread."""
        return threading.get_ident() == self._thread.ident

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Queue a function; functions run in the order of the calls."""
        future: Future[T] = Future()
        self._put(lambda: function(*args, **kwargs), future)
        return future

    def small(self, statements: Callable[[], None]) -> "Future[None]":
        """Queue statements; those that stand next to each other share one SQLite transaction and one fsync."""
        future: Future[None] = Future()
        self._put(_Small(statements), future)
        return future

    def close(self) -> None:
        """Run what is queued, then end the thread."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._jobs.put((None, Future()))
        self._thread.join()

    def _put(self, job: _Job, future: "Future[Any]") -> None:
        with self._guard:
            if self._closed:
                raise LedgerClosed("the ledger is closed: nothing can be written any more")
            self._jobs.put((job, future))

    def _run(self) -> None:
        job, future = self._jobs.get()
        while job is not None:
            if isinstance(job, _Small):
                job, future = self._group(job, future)
            else:
                _settle(job, [future])
                job, future = self._jobs.get()

    def _group(self, first: _Small, future: "Future[Any]") -> "tuple[_Job, Future[Any]]":
        """Run this small write and those right behind it together; returns the job after them."""
        writes, futures = [first.statements], [future]
        following: tuple[_Job, Future[Any]] | None = None
        while len(writes) < GROUP_LIMIT and following is None:
            try:
                job, waiting = self._jobs.get_nowait()
            except queue.Empty:
                break
            if isinstance(job, _Small):
                writes.append(job.statements)
                futures.append(waiting)
            else:
                following = (job, waiting)
        _settle(lambda: self._transaction(writes), futures)
        return following or self._jobs.get()


class DirectWriter:
    """Writer of a ledger in memory: runs at once, in the caller's thread."""

    def __init__(self, transaction: Callable[[Sequence[Callable[[], None]]], None]) -> None:
        self._transaction = transaction

    @property
    def here(self) -> bool:
        """Always: the caller is the writer."""
        return True

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run the function now."""
        future: Future[T] = Future()
        _settle(lambda: function(*args, **kwargs), [future])
        return future

    def small(self, statements: Callable[[], None]) -> "Future[None]":
        """Run the statements now."""
        return self.call(self._transaction, [statements])

    def close(self) -> None:
        """Nothing is queued."""


def _settle(job: Callable[[], Any], futures: "Sequence[Future[Any]]") -> None:
    """Run the job and give every future its result or its exception."""
    waiting = [future for future in futures if future.set_running_or_notify_cancel()]
    try:
        result = job()
    except BaseException as error:  # whatever it is belongs to the caller; the thread goes on
        for future in waiting:
            future.set_exception(error)
    else:
        for future in waiting:
            future.set_result(result)
