"""Streams of events: iterators that are context managers, and the requests that open them.

A stream ends quietly when it is closed (by itself or with its gateway) or when the peer ends it with success, and with
EventError otherwise. It is not reopened behind the reader's back: open a new one from the checkpoint.
"""

import queue
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from tallystick.fabric import _wire
from tallystick.fabric._core import (
    BlockEventsRequestCore,
    ChaincodeEventsRequestCore,
    Settings,
    event_error,
)
from tallystick.fabric.block import Block, BlockAndPrivateData, ChaincodeEvent, FilteredBlock
from tallystick.fabric.errors import EventError, FabricError

__all__ = [
    "BlockAndPrivateDataEventsRequest",
    "BlockEventsRequest",
    "ChaincodeEventsRequest",
    "Events",
    "FilteredBlockEventsRequest",
]

T = TypeVar("T")
LIVE_BACKLOG_MAX = 10_000
"""Events that one live listener may fall behind the stream it shares before it is ended with an error."""


class Events(ABC, Generic[T]):
    """A stream of events: iterate it, close it (or use it in a `with` block) to give the peer's slot back.

    `close` may be called from another thread; a waiting reader then stops.
    """

    def __iter__(self) -> Iterator[T]:
        return self

    @abstractmethod
    def __next__(self) -> T: ...

    @abstractmethod
    def close(self) -> None:
        """End the stream and release what it holds here and on the peer. Closing twice is fine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def chaincode_events_of(message: bytes) -> list[ChaincodeEvent]:
    """The events of one message of a chaincode event stream, all of one block."""
    number, events = _wire.chaincode_events(message)
    return [ChaincodeEvent(number, *event) for event in events]


def block_of(message: bytes) -> list[Block] | None:
    """The block of one Deliver message; None at a successful end. Raises EventError for any other status."""
    value = _deliver(message, "block")
    return None if value is None else [Block._from_message(value, value.SerializeToString())]


def filtered_block_of(message: bytes) -> list[FilteredBlock] | None:
    """The filtered block of one Deliver message; None at a successful end. Raises EventError for any other status."""
    value = _deliver(message, "filtered_block")
    return None if value is None else [FilteredBlock._from_message(value)]


def block_and_private_data_of(message: bytes) -> list[BlockAndPrivateData] | None:
    """Block and private data of one Deliver message;

    None at a successful end. Raises EventError for any other status.
    """
    value = _deliver(message, "block_and_private_data")
    return None if value is None else [BlockAndPrivateData._from_message(value)]


def _deliver(message: bytes, wanted: str) -> Any:
    kind, value = _wire.deliver_response(message)
    if kind == wanted:
        return value
    if kind != "status":
        raise EventError(grpc.StatusCode.INTERNAL, f"the peer sent {kind or 'nothing'} in a stream of {wanted}")
    if value != 200:
        raise EventError.from_deliver_status(value, _wire.deliver_status_name(value))
    return None


Read = Callable[[bytes], list[T] | None]
"""Reads one message of a stream; None: the peer has ended the stream with success."""


class _Stream(Events[T]):
    """A stream of its own."""

    def __init__(self, settings: Settings, call: Any, read: Read[T]) -> None:
        self._settings = settings
        self._call = call
        self._read = read
        self._ready: list[T] = []
        self._open = True
        # Also gives the peer's slot back when the reader just drops the stream.
        self._release = weakref.finalize(self, _release, call, settings.edge)
        self._release.atexit = False

    def __next__(self) -> T:
        while self._open:
            ready = self._ready
            if ready:
                return ready.pop()
            try:
                batch = self._read(next(self._call))
            except grpc.RpcError as error:
                self._fail(error)
            except (StopIteration, FabricError):
                self.close()
                raise
            else:
                if batch is None:
                    self.close()
                else:
                    self._ready = batch[::-1]
        raise StopIteration

    def _fail(self, error: grpc.RpcError) -> None:
        """End with an error, unless this side has closed the stream: then the peer only reports the cancellation."""
        was_open = self._open
        self.close()
        if was_open:
            raise event_error(error, self._settings) from error

    def close(self) -> None:
        self._open = False
        self._release()


def _release(call: Any, edge: Any) -> None:
    call.cancel()
    edge.stream_ended()


class _Inbox:
    """The events that one live listener has not read yet."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[ChaincodeEvent | FabricError | None] = queue.SimpleQueue()

    def put(self, event: ChaincodeEvent) -> bool:
        """Pass an event on; False when the reader is too far behind and is given up."""
        if self.queue.qsize() < LIVE_BACKLOG_MAX:
            self.queue.put(event)
            return True
        self.queue.put(fell_behind())
        return False


def fell_behind() -> EventError:
    """The end of a live listener that does not read."""
    text = f"the listener fell {LIVE_BACKLOG_MAX} events behind: read faster, or from a start block with a checkpoint"
    return EventError(grpc.StatusCode.RESOURCE_EXHAUSTED, text)


class _LiveSource:
    """One shared stream and those who listen to it."""

    def __init__(self, stream: Events[ChaincodeEvent]) -> None:
        self.stream = stream
        self.inboxes: list[_Inbox] = []


class LiveSources:
    """The live chaincode streams of one gateway: one per channel and chaincode, shared by all who listen to it.

    A peer keeps a chaincode event stream that nobody reads any more until that chaincode's next event, so opening one
    per listener would use up its slots.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may run while the lock is held
        self._sources: dict[tuple[str, str], _LiveSource] = {}

    def listen(self, key: tuple[str, str], open_stream: Callable[[], Events[ChaincodeEvent]]) -> Events[ChaincodeEvent]:
        """A listener of the shared stream, which is opened if there is none yet."""
        with self._lock:
            source = self._sources.get(key)
            if source is None:
                source = self._sources[key] = _LiveSource(open_stream())
                threading.Thread(target=self._pump, args=(key, source), daemon=True, name="tallystick-events").start()
            inbox = _Inbox()
            source.inboxes.append(inbox)
        return _Listener(self, key, source, inbox)

    def leave(self, key: tuple[str, str], source: _LiveSource, inbox: _Inbox) -> None:
        """The listener is closed or gone; with the last one the stream ends."""
        inbox.queue.put(None)
        with self._lock:
            if inbox in source.inboxes:
                source.inboxes.remove(inbox)
            if source.inboxes:
                return
            if self._sources.get(key) is source:
                del self._sources[key]
        source.stream.close()

    def _pump(self, key: tuple[str, str], source: _LiveSource) -> None:
        end: FabricError | None = None
        try:
            for event in source.stream:
                with self._lock:
                    source.inboxes = [inbox for inbox in source.inboxes if inbox.put(event)]
        except FabricError as error:
            end = error
        with self._lock:
            if self._sources.get(key) is source:
                del self._sources[key]
            for inbox in source.inboxes:
                inbox.queue.put(end)
        source.stream.close()


class _Listener(Events[ChaincodeEvent]):
    """One reader of a shared stream."""

    def __init__(self, sources: LiveSources, key: tuple[str, str], source: _LiveSource, inbox: _Inbox) -> None:
        self._queue = inbox.queue
        self._open = True
        self._leave = weakref.finalize(self, sources.leave, key, source, inbox)
        self._leave.atexit = False

    def __next__(self) -> ChaincodeEvent:
        item = self._queue.get() if self._open else None
        if isinstance(item, ChaincodeEvent) and self._open:
            return item
        self.close()
        if isinstance(item, FabricError):
            raise item
        raise StopIteration

    def close(self) -> None:
        self._open = False
        self._leave()


class ChaincodeEventsRequest(ChaincodeEventsRequestCore):
    """A request for the events of one chaincode, to be opened here or signed elsewhere first."""

    def events(self, *, timeout: float | None = None) -> Events[ChaincodeEvent]:
        """Open the stream. Raises SigningError, and EventError while reading."""
        return _open(self, _wire.CHAINCODE_EVENTS, chaincode_events_of, timeout)


class BlockEventsRequest(BlockEventsRequestCore):
    """A request for blocks, to be opened here or signed elsewhere first."""

    def events(self, *, timeout: float | None = None) -> Events[Block]:
        """Open the stream. Raises SigningError, and EventError while reading."""
        return _open(self, _wire.DELIVER, block_of, timeout)


class FilteredBlockEventsRequest(BlockEventsRequestCore):
    """A request for filtered blocks, to be opened here or signed elsewhere first."""

    def events(self, *, timeout: float | None = None) -> Events[FilteredBlock]:
        """Open the stream. Raises SigningError, and EventError while reading."""
        return _open(self, _wire.DELIVER_FILTERED, filtered_block_of, timeout)


class BlockAndPrivateDataEventsRequest(BlockEventsRequestCore):
    """A request for blocks with the private data that the peer's organisation holds."""

    def events(self, *, timeout: float | None = None) -> Events[BlockAndPrivateData]:
        """Open the stream. Raises SigningError, and EventError while reading."""
        return _open(self, _wire.DELIVER_PRIVATE, block_and_private_data_of, timeout)


def _open(
    request: ChaincodeEventsRequestCore | BlockEventsRequestCore,
    method: str,
    read: Read[T],
    timeout: float | None,
) -> Events[T]:
    settings = request._settings
    data = settings.edge.run(request._opening())
    seconds = settings.timeouts.events if timeout is None else timeout
    try:
        call = settings.edge.stream(method, data, seconds)
    except grpc.RpcError as error:
        raise event_error(error, settings) from error
    stream = _Stream(settings, call, read)
    settings.edge.streams.add(stream)
    return stream
