"""The chaincode's side of one stream with a peer, without any input or output of its own.

Fed with what the peer sends, it answers with what to do: run a transaction, hand an answer to who waits for it, send,
close. Whoever owns the connection does these things and is the only writer on it; several peers may be connected to
one process, each with a stream of its own, and the same transaction id may run on all of them.

Source of the protocol: Fabric 3.1.5 `core/chaincode/handler.go` and fabric-chaincode-go 2.3.0 `shim/handler.go`.
"""

import logging
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeVar

from fabric_protos.peer import chaincode_pb2
from google.protobuf.message import DecodeError

from chaincode.shim.errors import CallRefused, StreamLost
from chaincode.shim.stub import ChaincodeMessage, PeerSettings

logger = logging.getLogger(__name__)

REGISTERED_SECONDS_MAX: Final = 5.0
"""A peer that does not know the package id answers nothing at all, so silence this long means: wrong id."""

# fabric-chaincode-go raises smaller sizes to this; doing otherwise would send other messages to the same peer.
_BATCH_SIZE_MIN = 100

_Waiter = TypeVar("_Waiter")


class Phase(Enum):
    """Where the stream stands."""

    CREATED = "created"
    ESTABLISHED = "established"
    READY = "ready"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Run:
    """Run this transaction and send its COMPLETED message, then call `finish`."""

    message: ChaincodeMessage
    settings: PeerSettings


@dataclass(frozen=True, slots=True)
class Deliver(Generic[_Waiter]):
    """Give the answer to who waits for it; None means that the stream is lost."""

    waiter: _Waiter
    message: ChaincodeMessage | None


@dataclass(frozen=True, slots=True)
class Send:
    """Send this message."""

    message: ChaincodeMessage


@dataclass(frozen=True, slots=True)
class Close:
    """End the stream; the reason is for the log."""

    reason: str


class ChaincodeStream(Generic[_Waiter]):
    """State of one stream. Not thread-safe: its owner calls it under one lock.

    A waiter is whatever the owner registers with a request and gets back with its answer.
    """

    def __init__(
        self, package_id: str, *, opened_at: float, registered_seconds: float = REGISTERED_SECONDS_MAX
    ) -> None:
        self.package_id = package_id
        self.phase = Phase.CREATED
        self.settings = PeerSettings(use_write_batch=False, use_get_multiple_keys=False)
        """What the peer said in READY; all off until then."""
        self.registered_until = opened_at + registered_seconds
        """When the patience with a silent peer ends, on the clock of `opened_at`."""
        self._running: set[tuple[str, str]] = set()
        self._waiting: dict[tuple[str, str], _Waiter] = {}

    @property
    def running(self) -> int:
        """Transactions that run at the moment."""
        return len(self._running)

    def register(self) -> ChaincodeMessage:
        """The first message, which the chaincode sends before the peer says anything."""
        payload = chaincode_pb2.ChaincodeID(name=self.package_id).SerializeToString()
        return ChaincodeMessage(type=ChaincodeMessage.REGISTER, payload=payload)

    def check(self, now: float) -> Close | None:
        """Close when the peer has not said REGISTERED in time; `now` on the clock of `opened_at`."""
        if self.phase is Phase.CREATED and now >= self.registered_until:
            return Close(f"the peer did not register {self.package_id}: is this its package id?")
        return None

    def feed(self, message: ChaincodeMessage) -> list[Run | Deliver[_Waiter] | Send | Close]:
        """What to do about a message of the peer, in order."""
        if self.phase is Phase.CLOSED:
            return []
        if message.type == ChaincodeMessage.KEEPALIVE:
            return [Send(message)]
        if self.phase is not Phase.READY:
            return self._handshake(message)
        match message.type:
            case ChaincodeMessage.TRANSACTION | ChaincodeMessage.INIT:
                return self._run(message)
            case ChaincodeMessage.RESPONSE | ChaincodeMessage.ERROR:
                return self._answer(message)
            case _:
                logger.warning("message of type %d ignored", message.type)
                return []

    def request(self, message: ChaincodeMessage, waiter: _Waiter) -> Send:
        """Register who waits for the answer to a request of a running transaction; send the result.

        Raises StreamLost when the stream is closed, and CallRefused when the transaction has a request under way: the
        peer would drop the second one without an answer, and the transaction would hang.
        """
        if self.phase is Phase.CLOSED:
            raise StreamLost("the stream to the peer has ended")
        place = (message.channel_id, message.txid)
        if place in self._waiting:
            raise CallRefused("another request of this transaction is still running")
        self._waiting[place] = waiter
        return Send(message)

    def finish(self, completed: ChaincodeMessage) -> Send | None:
        """The transaction has ended: send its COMPLETED message; None when the stream has ended too."""
        place = (completed.channel_id, completed.txid)
        self._running.discard(place)
        self._waiting.pop(place, None)
        return None if self.phase is Phase.CLOSED else Send(completed)

    def close(self) -> list[Deliver[_Waiter]]:
        """The stream has ended: everybody who waits is to be told."""
        self.phase = Phase.CLOSED
        lost = [Deliver(waiter, None) for waiter in self._waiting.values()]
        self._waiting.clear()
        self._running.clear()
        return lost

    def _handshake(self, message: ChaincodeMessage) -> list[Run | Deliver[_Waiter] | Send | Close]:
        if self.phase is Phase.CREATED and message.type == ChaincodeMessage.REGISTERED:
            self.phase = Phase.ESTABLISHED
            return []
        if self.phase is Phase.ESTABLISHED and message.type == ChaincodeMessage.READY:
            try:
                self.settings = peer_settings(message.payload)
            except DecodeError:
                return [Close("unreadable READY")]
            self.phase = Phase.READY
            return []
        return [Close(f"message of type {message.type} while {self.phase.value}")]

    def _run(self, message: ChaincodeMessage) -> list[Run | Deliver[_Waiter] | Send | Close]:
        place = (message.channel_id, message.txid)
        if place in self._running:
            logger.warning("transaction %s came twice: the second is ignored", message.txid)
            return []
        self._running.add(place)
        return [Run(message, self.settings)]

    def _answer(self, message: ChaincodeMessage) -> list[Run | Deliver[_Waiter] | Send | Close]:
        waiter = self._waiting.pop((message.channel_id, message.txid), None)
        if waiter is None:
            logger.warning("answer for transaction %s, which asked nothing", message.txid)
            return []
        return [Deliver(waiter, message)]


def peer_settings(payload: bytes) -> PeerSettings:
    """What READY says about batches. Empty (a peer before 3.1) means none. Raises DecodeError when unreadable."""
    said = chaincode_pb2.ChaincodeAdditionalParams.FromString(payload)
    return PeerSettings(
        use_write_batch=said.use_write_batch,
        max_size_write_batch=max(said.max_size_write_batch, _BATCH_SIZE_MIN),
        use_get_multiple_keys=said.use_get_multiple_keys,
        max_size_get_multiple_keys=max(said.max_size_get_multiple_keys, _BATCH_SIZE_MIN),
    )
