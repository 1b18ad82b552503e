"""The synchronous edge: carries out what the core asks for, and opens streams. No rule of the protocol is here."""

import inspect
import logging
import time
import weakref
from typing import Any, TypeVar

import grpc

from tallystick.fabric._core import Call, NotSent, Pause, Sign, Steps
from tallystick.fabric.channel import Channel
from tallystick.fabric.errors import FabricError, SigningError
from tallystick.fabric.signer import Signer

T = TypeVar("T")

STREAMS_WARNED = 50
"""Open event streams of one channel from which on a warning is logged: each holds one of the peer's slots."""
_log = logging.getLogger("tallystick.fabric")


class Edge:
    """One gateway's way out: its channel and its signer."""

    def __init__(self, channel: Channel, signer: Signer | None) -> None:
        self._channel = channel
        self._signer = signer
        self.closed = False
        self.streams: weakref.WeakSet[Any] = weakref.WeakSet()

    def run(self, steps: Steps[T]) -> T:
        """Carry the steps out and return their result."""
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._perform(step)
                except (grpc.RpcError, FabricError) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _perform(self, step: Sign | Call | Pause) -> bytes | None:
        match step:
            case Call():
                return self._call(step)
            case Sign():
                return self._sign(step.digest)
            case Pause():
                time.sleep(step.seconds)
        return None

    def _sign(self, digest: bytes) -> bytes:
        if self._signer is None:
            raise SigningError(NO_SIGNER)
        try:
            signature = self._signer(digest)
        except FabricError:
            raise
        except Exception as error:
            raise SigningError(f"the signer failed: {str(error) or type(error).__name__}") from error
        if inspect.isawaitable(signature):
            if inspect.iscoroutine(signature):
                signature.close()
            raise SigningError("awaitable signers are for tallystick.aio")
        return checked_signature(signature)

    def _call(self, call: Call) -> bytes:
        refuse_closed(self.closed)
        channel = self._channel
        timeout = call.timeout
        if not channel.slots.acquire(blocking=False):
            waited = time.monotonic()
            if not channel.slots.acquire(timeout=timeout):
                raise NotSent(grpc.StatusCode.DEADLINE_EXCEEDED, NO_SLOT)
            timeout -= time.monotonic() - waited
        try:
            return channel.unary(call.method)(call.request, timeout)
        except ValueError as error:
            raise NotSent(grpc.StatusCode.CANCELLED, CLOSED) from error
        finally:
            channel.slots.release()

    def stream(self, method: str, request: bytes, timeout: float | None) -> Any:
        """Open a server stream; iterating the answer gives the messages' bytes, `cancel` ends it."""
        refuse_closed(self.closed)
        try:
            call = self._channel.stream(method)(request, timeout)
        except ValueError as error:
            raise NotSent(grpc.StatusCode.CANCELLED, CLOSED) from error
        count_stream(self._channel)
        return call

    def stream_ended(self) -> None:
        """A stream that was opened here has ended."""
        with self._channel.lock:
            self._channel.open_streams -= 1


NO_SIGNER = (
    "there is no signer: sign the digest elsewhere and load the object with its signature, or connect with a signer"
)
NO_SLOT = "no free slot for the call in time: too many calls of this channel are under way"
CLOSED = "the channel is closed"


def refuse_closed(closed: bool) -> None:
    """Raise NotSent for a gateway that is closed: nothing would end a stream that it opened now."""
    if closed:
        raise NotSent(grpc.StatusCode.CANCELLED, "the gateway is closed")


def checked_signature(signature: object) -> bytes:
    """A signer's answer. Raises SigningError when it is no signature."""
    if not isinstance(signature, bytes) or not signature:
        raise SigningError("the signer returned no signature")
    return signature


def count_stream(channel: Any) -> None:
    """Count a stream that was opened, and warn once when they become many."""
    with channel.lock:
        channel.open_streams += 1
        count = channel.open_streams
    if count == STREAMS_WARNED:
        _log.warning(
            "%d event streams are open on one channel; each holds a slot of the peer until it is closed", count
        )
