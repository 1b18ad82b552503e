"""Streams of events for asyncio: asynchronous iterators that are asynchronous context managers, and their requests.

A stream is opened by `async with` or by the first event asked for. It ends quietly when it is closed (by itself or
with its gateway) or when the peer ends it with success, and with EventError otherwise. It is not reopened behind the
reader's back: open a new one from the checkpoint. Waiting for an event may be cancelled (`asyncio.timeout`) without
losing any.
"""

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import grpc

from tallystick.fabric import _wire
from tallystick.fabric._core import BlockEventsRequestCore, ChaincodeEventsRequestCore, Settings, event_error
from tallystick.fabric.block import Block, BlockAndPrivateData, ChaincodeEvent, FilteredBlock
from tallystick.fabric.errors import FabricError
from tallystick.fabric.events import (
    LIVE_BACKLOG_MAX,
    Read,
    block_and_private_data_of,
    block_of,
    chaincode_events_of,
    fell_behind,
    filtered_block_of,
)

__all__ = [
    "BlockAndPrivateDataEventsRequest",
    "BlockEventsRequest",
    "ChaincodeEventsRequest",
    "Events",
    "FilteredBlockEventsRequest",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Source(Protocol[T_co]):
    """An opened stream."""

    async def next(self) -> T_co:
        """The next event. Raises StopAsyncIteration at the end, EventError."""

    def close(self) -> None:
        """End it."""


class Events(Generic[T]):
    """A stream of events: iterate it, close it (or use it in an `async with` block) to give the peer's slot back.

    `close` may be called from another task; a waiting reader then stops.
    """

    def __init__(self, open_source: Callable[[], Awaitable[_Source[T]]]) -> None:
        self._open_source = open_source
        self._source: _Source[T] | None = None
        self._closed = False
        self._opening = asyncio.Lock()

    async def _opened(self) -> _Source[T] | None:
        if self._source is None and not self._closed:
            async with self._opening:
                if self._source is None and not self._closed:
                    self._source = await self._open_source()
                    if self._closed:  # while it was being opened
                        self._source.close()
        return self._source

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        source = await self._opened()
        if source is None or self._closed:
            raise StopAsyncIteration
        return await source.next()

    async def close(self) -> None:
        """End the stream and release what it holds here and on the peer. Closing twice is fine."""
        self._closed = True
        if self._source is not None:
            self._source.close()

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Stream(Generic[T]):
    """A stream of its own."""

    def __init__(self, settings: Settings, call: Any, read: Read[T]) -> None:
        self._settings = settings
        self._call = call
        self._read = read
        self._ready: list[T] = []
        self._open = True
        self._pending: asyncio.Task[Any] | None = None
        # Also gives the peer's slot back when the reader just drops the stream: gRPC's own tasks would keep the call.
        self._release = weakref.finalize(self, _release, call, asyncio.get_running_loop(), settings.edge)
        self._release.atexit = False

    async def next(self) -> T:
        while self._open:
            ready = self._ready
            if ready:
                return ready.pop()
            try:
                message = await self._message()
                batch = None if message is None else self._read(message)
            except grpc.RpcError as error:
                was_open = self._open
                self.close()
                if was_open:
                    raise event_error(error, self._settings) from error
            except FabricError:
                self.close()
                raise
            else:
                if batch is None:
                    self.close()
                else:
                    self._ready = batch[::-1]
        raise StopAsyncIteration

    async def _message(self) -> bytes | None:
        # gRPC cancels the whole call when the task that awaits `read` is cancelled; a reader that only stops waiting
        # (a timeout) must be able to go on, so the read is a task of its own.
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._call.read())
        try:
            message = await asyncio.shield(self._pending)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._open or not self._pending.done() or (task is not None and task.cancelling()):
                raise
            return None  # closed from another task
        except grpc.RpcError:
            self._pending = None
            raise
        self._pending = None
        return message if isinstance(message, bytes) else None  # gRPC marks the end with an object of its own

    def close(self) -> None:
        """End it."""
        if self._open:
            self._open = False
            self._call.cancel()
            self._release()
        if self._pending is not None and not self._pending.done():
            self._pending.add_done_callback(_seen)


def _release(call: Any, loop: asyncio.AbstractEventLoop, edge: Any) -> None:
    edge.stream_ended()
    with suppress(RuntimeError):  # the loop is closed, and its streams with it
        loop.call_soon_threadsafe(call.cancel)


def _seen(task: asyncio.Task[Any]) -> None:
    """Look at the outcome of a read that nobody waits for, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()


class _LiveSource:
    """One shared stream and those who listen to it."""

    def __init__(self, stream: _Stream[ChaincodeEvent]) -> None:
        self.stream = stream
        self.listeners: list[asyncio.Queue[ChaincodeEvent | FabricError | None]] = []
        self.task: asyncio.Task[None] | None = None


class LiveSources:
    """The live chaincode streams of one gateway: one per channel and chaincode, shared by all who listen to it.

    A peer keeps a chaincode event stream that nobody reads any more until that chaincode's next event, so opening one
    per listener would use up its slots.
    """

    def __init__(self) -> None:
        self._sources: dict[tuple[str, str], _LiveSource] = {}
        self._opening = asyncio.Lock()

    async def listen(
        self, key: tuple[str, str], open_stream: Callable[[], Awaitable[_Stream[ChaincodeEvent]]]
    ) -> "_Listener":
        """A listener of the shared stream, which is opened if there is none yet."""
        async with self._opening:
            source = self._sources.get(key)
            if source is None:
                source = self._sources[key] = _LiveSource(await open_stream())
                source.task = asyncio.create_task(self._pump(key, source), name="tallystick-events")
            queue: asyncio.Queue[ChaincodeEvent | FabricError | None] = asyncio.Queue()
            source.listeners.append(queue)
        return _Listener(self, key, source, queue)

    def leave(self, key: tuple[str, str], source: _LiveSource, queue: asyncio.Queue[Any]) -> None:
        """The listener is closed or gone; with the last one the stream ends."""
        queue.put_nowait(None)
        if queue in source.listeners:
            source.listeners.remove(queue)
        if not source.listeners:
            if self._sources.get(key) is source:
                del self._sources[key]
            source.stream.close()

    async def _pump(self, key: tuple[str, str], source: _LiveSource) -> None:
        end: FabricError | None = None
        try:
            while True:
                event = await source.stream.next()
                source.listeners = [queue for queue in source.listeners if _put(queue, event)]
        except StopAsyncIteration:
            pass
        except FabricError as error:
            end = error
        finally:
            if self._sources.get(key) is source:
                del self._sources[key]
            for queue in source.listeners:
                queue.put_nowait(end)
            source.stream.close()


def _put(queue: asyncio.Queue[ChaincodeEvent | FabricError | None], event: ChaincodeEvent) -> bool:
    behind = queue.qsize() >= LIVE_BACKLOG_MAX
    queue.put_nowait(fell_behind() if behind else event)
    return not behind


class _Listener:
    """One reader of a shared stream."""

    def __init__(
        self, sources: LiveSources, key: tuple[str, str], source: _LiveSource, queue: asyncio.Queue[Any]
    ) -> None:
        self._queue = queue
        self._open = True
        self._leave = weakref.finalize(self, sources.leave, key, source, queue)
        self._leave.atexit = False

    async def next(self) -> ChaincodeEvent:
        item = await self._queue.get() if self._open else None
        if isinstance(item, ChaincodeEvent) and self._open:
            return item
        self.close()
        if isinstance(item, FabricError):
            raise item
        raise StopAsyncIteration

    def close(self) -> None:
        """End it."""
        self._open = False
        self._leave()


class ChaincodeEventsRequest(ChaincodeEventsRequestCore):
    """A request for the events of one chaincode, to be opened here or signed elsewhere first."""

    def events(self, *, timeout: float | None = None) -> Events[ChaincodeEvent]:
        """The stream. Raises SigningError when opened, EventError while reading."""
        return Events(lambda: open_stream(self, _wire.CHAINCODE_EVENTS, chaincode_events_of, timeout))


class BlockEventsRequest(BlockEventsRequestCore):
    """A request for blocks, to be opened here or signed elsewhere first."""

    def events(self, *, timeout: float | None = None) -> Events[Block]:
        """The stream. Raises SigningError when opened, EventError while reading."""
        return Events(lambda: open_stream(self, _wire.DELIVER, block_of, timeout))


class FilteredBlockEventsRequest(BlockEventsRequestCore):
    """A request for filtered blocks, to be opened here or signed elsewhere first."""

    def events(self, *, timeout: float | None = None) -> Events[FilteredBlock]:
        """The stream. Raises SigningError when opened, EventError while reading."""
        return Events(lambda: open_stream(self, _wire.DELIVER_FILTERED, filtered_block_of, timeout))


class BlockAndPrivateDataEventsRequest(BlockEventsRequestCore):
    """A request for blocks with the private data that the peer's organisation holds."""

    def events(self, *, timeout: float | None = None) -> Events[BlockAndPrivateData]:
        """The stream. Raises SigningError when opened, EventError while reading."""
        return Events(lambda: open_stream(self, _wire.DELIVER_PRIVATE, block_and_private_data_of, timeout))


async def open_stream(
    request: ChaincodeEventsRequestCore | BlockEventsRequestCore, method: str, read: Read[T], timeout: float | None
) -> _Stream[T]:
    """Sign the request and open its stream."""
    settings = request._settings
    data = await settings.edge.run(request._opening())
    seconds = settings.timeouts.events if timeout is None else timeout
    try:
        call = settings.edge.stream(method, data, seconds)
    except grpc.RpcError as error:
        raise event_error(error, settings) from error
    stream = _Stream(settings, call, read)
    settings.edge.streams.add(stream)
    return stream
