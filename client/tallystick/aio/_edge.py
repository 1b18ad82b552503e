"""The asyncio edge: carries out what the core asks for, and opens streams. No rule of the protocol is here."""

import asyncio
import inspect
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from tallystick.aio.channel import Channel
from tallystick.fabric._core import Call, NotSent, Pause, Sign, Steps
from tallystick.fabric._edge import CLOSED, NO_SIGNER, NO_SLOT, checked_signature, count_stream, refuse_closed
from tallystick.fabric.errors import FabricError, SigningError

T = TypeVar("T")

Signer = Callable[[bytes], bytes | Awaitable[bytes]]
"""As in `tallystick.fabric`; here it may also be awaitable (a remote key service, an HSM)."""


class Edge:
    """One gateway's way out: its channel and its signer."""

    def __init__(self, channel: Channel, signer: Signer | None) -> None:
        self._channel = channel
        self._signer = signer
        self.closed = False
        self.streams: weakref.WeakSet[Any] = weakref.WeakSet()

    async def run(self, steps: Steps[T]) -> T:
        """Carry the steps out and return their result."""
        try:
            step = next(steps)
            while True:
                try:
                    answer = await self._perform(step)
                except (grpc.RpcError, FabricError) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _perform(self, step: Sign | Call | Pause) -> bytes | None:
        match step:
            case Call():
                return await self._call(step)
            case Sign():
                return await self._sign(step.digest)
            case Pause():
                await asyncio.sleep(step.seconds)
        return None

    async def _sign(self, digest: bytes) -> bytes:
        if self._signer is None:
            raise SigningError(NO_SIGNER)
        try:
            signature = self._signer(digest)
            if inspect.isawaitable(signature):
                signature = await signature
        except FabricError:
            raise
        except Exception as error:
            raise SigningError(f"the signer failed: {str(error) or type(error).__name__}") from error
        return checked_signature(signature)

    async def _call(self, call: Call) -> bytes:
        refuse_closed(self.closed)
        slots, timeout = self._channel.slots, call.timeout
        if slots.locked():
            loop = asyncio.get_running_loop()
            started = loop.time()
            try:
                async with asyncio.timeout(timeout):
                    await slots.acquire()
            except TimeoutError as error:
                raise NotSent(grpc.StatusCode.DEADLINE_EXCEEDED, NO_SLOT) from error
            timeout -= loop.time() - started
        else:
            await slots.acquire()
        try:
            return await self._channel.unary(call.method)(call.request, timeout=timeout)
        except grpc.aio.UsageError as error:
            raise NotSent(grpc.StatusCode.CANCELLED, CLOSED) from error
        finally:
            slots.release()

    def stream(self, method: str, request: bytes, timeout: float | None) -> Any:
        """Open a server stream; `read` of the answer gives the messages' bytes, `cancel` ends it."""
        refuse_closed(self.closed)
        try:
            call = self._channel.stream(method)(request, timeout=timeout)
        except grpc.aio.UsageError as error:
            raise NotSent(grpc.StatusCode.CANCELLED, CLOSED) from error
        count_stream(self._channel)
        return call

    def stream_ended(self) -> None:
        """A stream that was opened here has ended."""
        with self._channel.lock:
            self._channel.open_streams -= 1
