"""The third stage: how a transaction ended."""

import threading
import time
from collections import OrderedDict
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc

from tallystick.fabric._core import CommitCore, Settings, StatusRequest
from tallystick.fabric.block import FilteredBlock
from tallystick.fabric.errors import CommitStatusError, FabricError, GatewayError
from tallystick.fabric.status import Status

if TYPE_CHECKING:
    from tallystick.fabric.events import Events
    from tallystick.fabric.network import Network
    from tallystick.fabric.transaction import Transaction

__all__ = ["Commit", "CommitTracker", "SubmittedTransaction"]

OUTCOMES_KEPT = 10_000
"""Outcomes that a tracker remembers for those who ask late."""


class Commit(CommitCore):
    """The question how a transaction ended. Made by `gateway.commit` from bytes, or `network.commit` from an id."""

    __slots__ = ()

    def status(self, *, timeout: float | None = None) -> Status:
        """Wait until the transaction is committed and return the verdict; an invalid transaction is a value, no error.

        Raises CommitStatusError (DEADLINE_EXCEEDED: not committed yet, or never submitted), SigningError.
        """
        status: Status = self._settings.edge.run(self._outcome(timeout))
        return status


class SubmittedTransaction(Commit):
    """A transaction that was accepted for ordering: the contract's answer, and the question how it ended."""

    __slots__ = ("result",)

    def __init__(self, settings: Settings, request: StatusRequest, result: bytes) -> None:
        super().__init__(settings, request)
        self.result = result


class Outcomes:
    """The verdicts of the latest transactions of a channel, oldest forgotten first. Not thread-safe by itself."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Status] = OrderedDict()
        self.next_block: int | None = None

    def learn(self, block: FilteredBlock) -> list[Status]:
        """Take a block in; returns the verdicts that are new.

        A repeated id keeps its first verdict, as on the ledger.
        """
        new = [
            Status(transaction.validation_code, transaction.transaction_id, block.number)
            for transaction in block.transactions
            if transaction.transaction_id not in self._known
        ]
        for status in new:
            self._known[status.transaction_id] = status
        while len(self._known) > OUTCOMES_KEPT:
            self._known.popitem(last=False)
        self.next_block = block.number + 1
        return new

    def get(self, transaction_id: str) -> Status | None:
        """The verdict, or None when it is not known (yet, or any more)."""
        return self._known.get(transaction_id)


def lost_track(error: FabricError | None, transaction_id: str) -> CommitStatusError:
    """The error of a wait for a verdict when the stream of blocks has ended."""
    code = error.code if isinstance(error, GatewayError) else grpc.StatusCode.UNAVAILABLE
    return CommitStatusError(code, f"the stream of blocks ended: {error or 'closed'}", (), transaction_id)


def no_verdict(transaction_id: str) -> CommitStatusError:
    """The error of a wait that took too long."""
    return CommitStatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "not committed in time", (), transaction_id)


class CommitTracker:
    """Learns the outcome of many transactions from one stream of filtered blocks instead of one waiting call each.

    Two calls per submit instead of three, and no slot of the peer per waiting transaction. Use it in a `with` block,
    opened *before* the transactions it shall follow are submitted; opening asks for the height and raises
    EvaluateError. A thread of its own reads the stream. When that ends, waiting callers get CommitStatusError, and
    the next call opens it again where it stopped.
    """

    def __init__(self, network: "Network") -> None:
        self._network = network
        self._outcomes = Outcomes()
        self._changed = threading.Condition()
        self._stream: Events[FilteredBlock] | None = None
        self._error: FabricError | None = None
        self._closed = False
        self._start(network.chain_info().height)

    def submit(self, transaction: "Transaction", *, timeout: float | None = None) -> Status:
        """Submit an endorsed transaction and wait for its verdict. Raises SubmitError, CommitStatusError."""
        self._ensure()
        transaction.submit()
        return self.status(transaction.transaction_id, timeout=timeout)

    def status(self, transaction_id: str, *, timeout: float | None = None) -> Status:
        """The verdict on a transaction that was submitted after this tracker was opened. Raises CommitStatusError."""
        self._ensure()
        seconds = self._network._settings.timeouts.commit_status if timeout is None else timeout
        end = time.monotonic() + seconds
        with self._changed:
            while (status := self._outcomes.get(transaction_id)) is None:
                if self._stream is None:
                    raise lost_track(self._error, transaction_id)
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    raise no_verdict(transaction_id)
            return status

    def close(self) -> None:
        """End the stream; waiting callers get CommitStatusError."""
        with self._changed:
            self._closed = True
            stream, self._stream = self._stream, None
            self._changed.notify_all()
        if stream is not None:
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ensure(self) -> None:
        with self._changed:
            if self._stream is None and not self._closed:
                self._start(self._outcomes.next_block)

    def _start(self, start_block: int | None) -> None:
        if self._outcomes.next_block is None:
            self._outcomes.next_block = start_block
        stream = self._stream = self._network.filtered_block_events(start_block=start_block)
        threading.Thread(target=self._follow, args=(stream,), daemon=True, name="tallystick-commits").start()

    def _follow(self, stream: "Events[FilteredBlock]") -> None:
        end: FabricError | None = None
        try:
            for block in stream:
                with self._changed:
                    if self._outcomes.learn(block):
                        self._changed.notify_all()
        except FabricError as error:
            end = error
        with self._changed:
            if self._stream is stream:
                self._stream, self._error = None, end
            self._changed.notify_all()
