"""The second process for simulations as the serving process sees it: when it is used, and what happens when it fails.

Nothing depends on it. A call that it does not answer, because it died, was asked too much or hangs, is simulated in
this process as if it had never been sent: simulations have no effects, and what they leave (private write sets) is kept
when their answer arrives. It is started at the first crowd, so that a network at rest is one process, and again when
it dies. Time-outs are judged here alone (embedded-network.md E.1): when a simulation over there takes long, new calls
stay here, and after `STALL_SECONDS` those behind it come back, and itself too."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final, cast

import grpc
import msgspec

from network.embedded.endorsing import Endorsing
from network.embedded.rpc import Detail, RpcError
from network.embedded.simulation_child import READY, Answer, Request, frame, frames
from network.embedded.store import LedgerError

_LOG = logging.getLogger(__name__)

# One simulation at a time costs no other one anything; the next has a core of its own over there.
_HERE_AT_ONCE: Final = 1
# Some twenty ordinary calls: something long is running, and who comes now does not wait behind it.
_SLOW_SECONDS: Final = 0.1
# The largest batch of rows ends before that.
STALL_SECONDS: Final = 3.0
# A contract that does not return has had its time-out here long before; the process cannot be used any more.
_HUNG_SECONDS: Final = 40.0
_RESTART_SECONDS: Final = 1.0
_RESTART_SECONDS_MAX: Final = 60.0

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

Keep = Callable[[str, str, bytes], "Future[None]"]


class NotAnswered(Exception):
    """The process has not answered the call: simulate it here."""


class SimulationProcess(asyncio.Protocol):
    """Hands calls to the process and takes its answers. Every method is called on the event loop.

    `keep` stores a private write set (`Ledger.keep_transient`)."""

    def __init__(self, home: Path, endorsing: Endorsing, keep: Keep) -> None:
        self._home = home
        self._endorsing = endorsing
        self._keep = keep
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._received = bytearray()
        self._decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
        self._number = READY
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._heard_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._restart: asyncio.TimerHandle | None = None
        self._pause = _RESTART_SECONDS
        self._is_wanted = False
        self._is_closed = False
        self.is_ready = False
        self.is_stalled = False
        self.answered = 0

    @property
    def pid(self) -> int | None:
        """The process's number, None while there is none."""
        return None if self._process is None else self._process.pid

    def takes(self, busy: int) -> bool:
        """Whether the next call is for the process, when `busy` are simulated here. The first crowd starts it."""
        if busy < _HERE_AT_ONCE or self._is_closed:
            return False
        if not self._is_wanted:
            self.start()
        return self.is_ready and not self.is_stalled and not (self._waiting and self._silence > _SLOW_SECONDS)

    @property
    def _silence(self) -> float:
        """Seconds since its last answer, or since the first call that it has not answered."""
        return asyncio.get_running_loop().time() - self._heard_at

    def start(self) -> None:
        """Start the process; calls go there as soon as it says that it is ready."""
        self._is_wanted = True
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "network.embedded.simulation_child"]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*command, str(self._home), str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Programs are found where this process finds them.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except OSError as error:
            ours.close()
            _LOG.warning("no second process for simulations: %s", error)
            self._start_later()
            return
        finally:
            theirs.close()
        loop = asyncio.get_running_loop()
        self._connecting = loop.create_task(loop.create_connection(lambda: self, sock=ours))

    async def stop(self) -> None:
        """End the process; calls that it still has are not answered."""
        self._is_closed = True
        for timer in (self._watch, self._restart):
            if timer is not None:
                timer.cancel()
        if self._process is not None:
            await self._connecting
            self._process.kill()
            self._process.wait()
        if self._transport is not None:
            self._transport.close()
        self._give_back()

    async def run(self, method: str, peer: str, data: bytes) -> bytes:
        """The answer to a request that came to a peer's gateway. Raises the gateway's RpcError, or `NotAnswered`."""
        if self._transport is None:
            raise NotAnswered
        loop = asyncio.get_running_loop()
        self._number += 1
        number = self._number
        waiter: asyncio.Future[Answer] = loop.create_future()
        self._waiting[number] = waiter
        if len(self._waiting) == 1:
            self._heard_at = loop.time()
        if self._watch is None:
            self._watch = loop.call_later(STALL_SECONDS, self._look)
        stopped = tuple(self._endorsing.peers.stopped)
        self._transport.write(frame(Request(number, method, peer, self._endorsing.defined_at, stopped, data)))
        answer = await waiter
        try:
            for each in answer.transient:
                await asyncio.wrap_future(self._keep(each.transaction_id, each.msp_id, each.private))
        except LedgerError as error:
            raise NotAnswered from error
        if answer.failure is not None:
            details = [Detail(address, msp_id, text) for address, msp_id, text in answer.failure.details]
            raise RpcError(_CODES[answer.failure.code], answer.failure.message, details)
        if answer.data is None:
            raise NotAnswered
        return answer.data

    # -- the socket ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.WriteTransport, transport)
        self._received.clear()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._received += data
        self._heard_at = asyncio.get_running_loop().time()
        for each in frames(self._received):
            answer = self._decoder.decode(each)
            if answer.number == READY:
                self.is_ready = True
                self._pause = _RESTART_SECONDS
                continue
            waiter = self._waiting.pop(answer.number, None)
            if waiter is not None and not waiter.done():
                self.answered += 1
                waiter.set_result(answer)
        if self.is_stalled and not self._waiting:
            self._forget_silence()

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop: the process has ended."""
        self._transport = None
        self.is_ready = False
        self._give_back()
        self._forget_silence()
        if self._process is not None and not self._is_closed:
            self._process.kill()
            _LOG.warning("the second process for simulations has ended (%s)", self._process.wait())
            self._start_later()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _start_later(self) -> None:
        self._process = None
        self._restart = asyncio.get_running_loop().call_later(self._pause, self.start)
        self._pause = min(2 * self._pause, _RESTART_SECONDS_MAX)

    def _forget_silence(self) -> None:
        """Judge the next calls anew: a timer set for a stalled process is far too late for them."""
        self.is_stalled = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _look(self) -> None:
        """Give the calls back when the process has been silent for too long; end it when it stays silent."""
        self._watch = None
        if not self._waiting:
            return
        silence = self._silence
        if silence >= _HUNG_SECONDS and self._process is not None:
            self._process.kill()
            return
        if silence >= STALL_SECONDS:
            self.is_stalled = True
            self._fail()
        rest = (_HUNG_SECONDS if self.is_stalled else STALL_SECONDS) - silence
        self._watch = asyncio.get_running_loop().call_later(rest, self._look)

    def _fail(self) -> None:
        """Nobody waits any more; the numbers stay, because the answers may still come."""
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(NotAnswered())

    def _give_back(self) -> None:
        self._fail()
        self._waiting.clear()
