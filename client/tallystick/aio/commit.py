"""The third stage: how a transaction ended."""

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tallystick.fabric._core import CommitCore, Settings, StatusRequest
from tallystick.fabric.block import FilteredBlock
from tallystick.fabric.commit import Outcomes, lost_track, no_verdict
from tallystick.fabric.errors import FabricError
from tallystick.fabric.status import Status

if TYPE_CHECKING:
    from tallystick.aio.events import Events
    from tallystick.aio.network import Network
    from tallystick.aio.transaction import Transaction

__all__ = ["Commit", "CommitTracker", "SubmittedTransaction"]


class Commit(CommitCore):
    """The question how a transaction ended. Made by `gateway.commit` from bytes, or `network.commit` from an id."""

    __slots__ = ()

    async def status(self, *, timeout: float | None = None) -> Status:
        """Wait until the transaction is committed and return the verdict; an invalid transaction is a value, no error.

        Raises CommitStatusError (DEADLINE_EXCEEDED: not committed yet, or never submitted), SigningError.
        """
        status: Status = await self._settings.edge.run(self._outcome(timeout))
        return status


class SubmittedTransaction(Commit):
    """A transaction that was accepted for ordering: the contract's answer, and the question how it ended."""

    __slots__ = ("result",)

    def __init__(self, settings: Settings, request: StatusRequest, result: bytes) -> None:
        super().__init__(settings, request)
        self.result = result


class CommitTracker:
    """Learns the outcome of many transactions from one stream of filtered blocks instead of one waiting call each.

    Two calls per submit instead of three, and no slot of the peer per waiting transaction. Use it in an `async with`
    block, opened *before* the transactions it shall follow are submitted; opening asks for the height and raises
    EvaluateError. When its stream ends, waiting callers get CommitStatusError, and the next call opens it again where
    it stopped.
    """

    def __init__(self, network: "Network") -> None:
        self._network = network
        self._outcomes = Outcomes()
        self._changed = asyncio.Condition()
        self._starting = asyncio.Lock()
        self._stream: Events[FilteredBlock] | None = None
        self._task: asyncio.Task[None] | None = None
        self._error: FabricError | None = None
        self._closed = False

    async def submit(self, transaction: "Transaction", *, timeout: float | None = None) -> Status:
        """Submit an endorsed transaction and wait for its verdict. Raises SubmitError, CommitStatusError."""
        await self._ensure()
        await transaction.submit()
        return await self.status(transaction.transaction_id, timeout=timeout)

    async def status(self, transaction_id: str, *, timeout: float | None = None) -> Status:
        """The verdict on a transaction that was submitted after this tracker was opened. Raises CommitStatusError."""
        await self._ensure()
        seconds = self._network._settings.timeouts.commit_status if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds), self._changed:
                while (status := self._outcomes.get(transaction_id)) is None:
                    if self._stream is None:
                        raise lost_track(self._error, transaction_id)
                    await self._changed.wait()
                return status
        except TimeoutError as error:
            raise no_verdict(transaction_id) from error

    async def close(self) -> None:
        """End the stream; waiting callers get CommitStatusError."""
        self._closed = True
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()
        if self._task is not None:
            await self._task
        async with self._changed:
            self._changed.notify_all()

    async def __aenter__(self) -> Self:
        await self._ensure()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ensure(self) -> None:
        async with self._starting:
            if self._stream is not None or self._closed:
                return
            if self._outcomes.next_block is None:
                self._outcomes.next_block = (await self._network.chain_info()).height
            stream = self._network.filtered_block_events(start_block=self._outcomes.next_block)
            await stream.__aenter__()
            self._stream = stream
            self._task = asyncio.create_task(self._follow(stream), name="tallystick-commits")

    async def _follow(self, stream: "Events[FilteredBlock]") -> None:
        end: FabricError | None = None
        try:
            async for block in stream:
                async with self._changed:
                    if self._outcomes.learn(block):
                        self._changed.notify_all()
        except FabricError as error:
            end = error
        async with self._changed:
            if self._stream is stream:
                self._stream, self._error = None, end
            self._changed.notify_all()
