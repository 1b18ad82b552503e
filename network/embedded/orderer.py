"""The ordering service: what may be ordered, the queue that survives a crash, and when a block is cut.

One service stands for all consenters; there is no consensus to run between keys that one process holds
(embedded-network.md I). The checks are those of orderer/common/{broadcast,msgprocessor} of Fabric v3.1.5 in their
order."""

import asyncio
import contextlib
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from fabric_protos.common import common_pb2

from network.embedded import block
from network.embedded.chain import Chain, Committed
from network.embedded.msp import IdentityError, MspManager
from network.embedded.policy import PolicyError, PolicyManager, SignedData
from network.embedded.rpc import Unreadable, read
from network.embedded.store import LedgerError

_LOG = logging.getLogger(__name__)

SUCCESS: Final = common_pb2.Status.SUCCESS
BAD_REQUEST: Final = common_pb2.Status.BAD_REQUEST
FORBIDDEN: Final = common_pb2.Status.FORBIDDEN
SERVICE_UNAVAILABLE: Final = common_pb2.Status.SERVICE_UNAVAILABLE

ALREADY_EXISTS: Final = "failed to submit request: request already exists"
ALREADY_PROCESSED: Final = "failed to submit request: request already processed"
# So many ordered requests does SmartBFT's pool remember (defaultSizeOfDelElements in its requestpool.go).
PROCESSED_KEPT: Final = 1000
_WRITERS: Final = "/Channel/Writers"
# A full disk is looked at again this often; the waiting block is kept and nothing new is accepted meanwhile.
_RETRY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a broadcast comes to: Fabric's status and, unless it is SUCCESS, why.

    `transaction_id` is the one that an envelope which passed the checks claims; `request_id` is made from its nonce and
    creator, so nobody can claim another's."""

    status: int
    info: str = ""
    transaction_id: str = ""
    request_id: bytes = b""


ACCEPTED: Final = Answer(SUCCESS)


class Batch(Protocol):
    """When a block is full."""

    @property
    def max_message_count(self) -> int: ...
    @property
    def absolute_max_bytes(self) -> int: ...
    @property
    def interval_ms(self) -> int: ...


class Storage(Protocol):
    """What the orderer needs of the ledger: both writes run on the ledger's own thread."""

    @property
    def tip_hash(self) -> bytes: ...
    def add_pending(self, envelopes: list[bytes]) -> "Future[Any]": ...
    def pending(self) -> list[bytes]: ...


class Intake:
    """The checks an envelope passes before it is ordered, in Fabric's order (embedded-network.md C.2)."""

    def __init__(
        self,
        channel: str,
        policies: PolicyManager,
        msps: MspManager,
        absolute_max_bytes: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._channel = channel
        self._policies = policies
        self._msps = msps
        self._absolute_max_bytes = absolute_max_bytes
        self._clock = clock

    def check(self, envelope: common_pb2.Envelope) -> Answer:
        """SUCCESS, or the refusal of the first check that fails. The client's signature is verified here, once."""
        try:
            payload, header = _headers(envelope)
        except Unreadable as error:
            return _bad(f"could not determine channel ID: {error}")
        refusal = self._route(header)
        if refusal is not None:
            return refusal
        size = len(envelope.payload) + len(envelope.signature)
        if size > self._absolute_max_bytes:
            return _bad(f"message payload is {size} bytes and exceeds maximum allowed {self._absolute_max_bytes} bytes")
        try:
            signer = read(common_pb2.SignatureHeader, payload.header.signature_header)
        except Unreadable as error:
            return _bad(f"could not convert message to signedData: GetSignatureHeaderFromBytes failed, err {error}")
        refusal = self._authorise(envelope, signer.creator)
        return refusal or Answer(SUCCESS, transaction_id=header.tx_id, request_id=_request_id(signer))

    def _route(self, header: common_pb2.ChannelHeader) -> Answer | None:
        """Channel and kind of message; None when it is a transaction of our channel."""
        if header.channel_id != self._channel:
            return _bad("channel does not exist")
        if header.type == common_pb2.HeaderType.CONFIG_UPDATE:
            return _bad("embedded network: channel config updates are not supported")
        if header.type == common_pb2.HeaderType.CONFIG:
            return _bad("message is of type that cannot be processed directly")
        if header.type == common_pb2.HeaderType.ORDERER_TRANSACTION:
            return _bad("message is of type that is no longer supported")
        if header.type != common_pb2.HeaderType.ENDORSER_TRANSACTION:
            # Fabric orders anything else and lets the peers reject it; here it is refused before it costs a block.
            return _bad(f"embedded network: header type {header.type} is not supported")
        return None

    def _authorise(self, envelope: common_pb2.Envelope, creator: bytes) -> Answer | None:
        """Expiry, then signature and Writers; None when all hold."""
        # An identity that cannot be read makes no statement about expiry; the policy judges it.
        with contextlib.suppress(IdentityError):
            if self._msps.identity(creator).expires_at < self._clock():
                return _bad("broadcast client identity expired")
        try:
            self._policies.policy(_WRITERS).evaluate(
                [SignedData(message=envelope.payload, identity_bytes=creator, signature=envelope.signature)]
            )
        except PolicyError as error:
            return Answer(FORBIDDEN, f"{error}: permission denied")
        return None


@dataclass(slots=True)
class _Waiting:
    """An accepted envelope that is in no block yet; `saved` is done when it would survive a crash."""

    envelope: bytes
    request_id: bytes
    saved: "asyncio.Future[None]"
    transaction_id: str = ""
    since: float = 0.0


class Orderer:
    """Accepts envelopes, keeps them safe, and cuts them into blocks by count, bytes or interval (C.3).

    Runs on the network's event loop. `commit` writes a block on the ledger's thread and answers when it is on disk."""

    def __init__(
        self,
        intake: Intake,
        storage: Storage,
        commit: "Callable[[common_pb2.Block], Future[Committed]]",
        chain: Chain,
        consenters: Sequence[block.Consenter],
        batch: Batch,
    ) -> None:
        self._intake = intake
        self._storage = storage
        self._commit = commit
        self._chain = chain
        self._batch = batch
        self.consenters = tuple(consenters)
        self.failure: str | None = None
        self._unsaved: list[_Waiting] = []
        self._queue: deque[_Waiting] = deque()
        self._queue_bytes = 0
        self._known: dict[bytes, asyncio.Future[None]] = {}
        self._processed: dict[bytes, None] = {}
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._saver: asyncio.Task[None] | None = None
        self._cutter: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take up what was accepted before the last stop or crash, and begin to cut blocks."""
        for envelope in self._storage.pending():
            saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            saved.set_result(None)
            request_id = _stored_request_id(envelope)
            self._known[request_id] = saved
            self._enqueue(_Waiting(envelope, request_id, saved))
        self._cutter = asyncio.create_task(self._cut(), name="orderer")

    async def stop(self) -> None:
        """Stop cutting. What is accepted and not yet in a block stays stored and is ordered at the next start."""
        for task in (self._cutter, self._saver):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def check(self, envelope: common_pb2.Envelope) -> Answer:
        """The checks of `Intake`; plain and thread-safe, so that a caller may run them off the loop."""
        return self._intake.check(envelope)

    async def broadcast(self, envelope: common_pb2.Envelope) -> Answer:
        """Check an envelope and accept it for ordering. SUCCESS is answered only when it would survive a crash."""
        answer = self.check(envelope)
        if answer.status != SUCCESS:
            return answer
        return await self.accept(envelope.SerializeToString(), answer.transaction_id, answer.request_id)

    async def accept(self, envelope: bytes, transaction_id: str = "", request_id: bytes = b"") -> Answer:
        """Accept a checked envelope. The same request again is SERVICE_UNAVAILABLE as upstream, while it is pending
        and for as long as it is remembered; without a `request_id` the envelope's bytes are the request."""
        if self.failure is not None:
            return Answer(SERVICE_UNAVAILABLE, self.failure)
        request_id = request_id or hashlib.sha256(envelope).digest()
        if request_id in self._processed:
            return Answer(SERVICE_UNAVAILABLE, ALREADY_PROCESSED)
        known = self._known.get(request_id)
        if known is not None:
            # The gateway counts this answer as success, so it waits until the first one is safe.
            return Answer(SERVICE_UNAVAILABLE, ALREADY_EXISTS) if await _saved(known) else self._refused()
        waiting = _Waiting(envelope, request_id, asyncio.get_running_loop().create_future(), transaction_id)
        self._known[request_id] = waiting.saved
        self._unsaved.append(waiting)
        if self._saver is None or self._saver.done():
            self._saver = asyncio.create_task(self._save(), name="orderer-intake")
        return ACCEPTED if await _saved(waiting.saved) else self._refused()

    def _refused(self) -> Answer:
        return Answer(SERVICE_UNAVAILABLE, self.failure or "embedded network: the ledger is stopping")

    async def _save(self) -> None:
        """Store accepted envelopes, everything that arrived during one fsync with the next one."""
        while self._unsaved:
            group, self._unsaved = self._unsaved, []
            try:
                await asyncio.wrap_future(self._storage.add_pending([waiting.envelope for waiting in group]))
            except Exception as error:  # any storage failure refuses the group by name; nothing was acknowledged
                _LOG.error("accepted transactions could not be stored: %s", error)
                self.failure = f"embedded network: the ledger cannot be written: {error}"
                for waiting in group:
                    self._known.pop(waiting.request_id, None)
                    _settle(waiting.saved, error)
                self._arrived.set()
                continue
            for waiting in group:
                _settle(waiting.saved, None)
                self._enqueue(waiting)

    def _enqueue(self, waiting: _Waiting) -> None:
        self._chain.expect(waiting.transaction_id)
        waiting.since = asyncio.get_running_loop().time()
        self._queue.append(waiting)
        self._queue_bytes += len(waiting.envelope)
        self._arrived.set()
        if self._is_full():
            self._full.set()

    def _is_full(self) -> bool:
        """Whether the queue holds a whole block."""
        return len(self._queue) >= self._batch.max_message_count or self._queue_bytes >= self._batch.absolute_max_bytes

    async def _cut(self) -> None:
        """Cut block after block: full ones at once, others when their first envelope has waited for the interval."""
        while True:
            await self._arrived.wait()
            oldest = self._queue[0].since if self._queue else 0.0
            rest = oldest + self._batch.interval_ms / 1000 - asyncio.get_running_loop().time()
            if rest > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(rest):
                        await self._full.wait()
            group = self._take()
            if group:
                await self._write(group)
            elif self.failure is not None:
                await self._recover()

    def _take(self) -> list[_Waiting]:
        """The next block's envelopes, as many as count and bytes allow; at least one if any waits."""
        group: list[_Waiting] = []
        size = 0
        while self._queue and len(group) < self._batch.max_message_count:
            size += len(self._queue[0].envelope)
            if group and size > self._batch.absolute_max_bytes:
                break
            group.append(self._queue.popleft())
        self._queue_bytes -= sum(len(waiting.envelope) for waiting in group)
        if not self._is_full():
            self._full.clear()
        if not self._queue and self.failure is None:
            self._arrived.clear()
        return group

    async def _write(self, group: Sequence[_Waiting]) -> None:
        """Build, commit and publish one block, trying again for as long as the disk refuses it."""
        made = block.build(
            self._chain.height,
            self._storage.tip_hash,
            [waiting.envelope for waiting in group],
            self.consenters,
        )
        while True:
            try:
                committed = await asyncio.wrap_future(self._commit(made))
                break
            except Exception as error:  # the chain must not fork or skip, whatever the reason: wait and try again
                text = f"embedded network: block {made.header.number} cannot be written: {error}"
                if self.failure != text:
                    # The disk's refusals are told in a sentence; where anything else came from must be seen.
                    _LOG.error("%s", text, exc_info=None if isinstance(error, LedgerError) else error)
                self.failure = text
                await asyncio.sleep(_RETRY_SECONDS)
        self.failure = None
        for waiting in group:
            self._known.pop(waiting.request_id, None)
            self._processed[waiting.request_id] = None
            self._chain.arrived(waiting.transaction_id)
        while len(self._processed) > PROCESSED_KEPT:
            del self._processed[next(iter(self._processed))]
        self._chain.publish(committed)

    async def _recover(self) -> None:
        """After a refused store, look whether the disk takes writes again."""
        await asyncio.sleep(_RETRY_SECONDS)
        with contextlib.suppress(Exception):
            await asyncio.wrap_future(self._storage.add_pending([]))
            self.failure = None
            if not self._queue:
                self._arrived.clear()


async def _saved(future: "asyncio.Future[None]") -> bool:
    """Wait for the store without letting a client that leaves cancel it for the others."""
    await asyncio.wait([future])
    return not future.cancelled() and future.exception() is None


def _settle(future: "asyncio.Future[None]", error: Exception | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _headers(envelope: common_pb2.Envelope) -> tuple[common_pb2.Payload, common_pb2.ChannelHeader]:
    """Payload and channel header of an envelope. Raises `Unreadable` with upstream's text."""
    payload = read(common_pb2.Payload, envelope.payload, "Payload")
    if not payload.HasField("header"):
        raise Unreadable("header not set")
    if not payload.header.channel_header:
        raise Unreadable("channel header not set")
    try:
        return payload, read(common_pb2.ChannelHeader, payload.header.channel_header, "ChannelHeader")
    except Unreadable as error:
        raise Unreadable(f"error unmarshalling channel header: {error}") from error


def _request_id(signer: common_pb2.SignatureHeader) -> bytes:
    """By what SmartBFT knows a request: what its transaction id must be, however often it was signed."""
    return hashlib.sha256(signer.nonce + signer.creator).digest()


def _stored_request_id(envelope: bytes) -> bytes:
    """The request id of an envelope that was accepted before the last stop."""
    try:
        payload, _ = _headers(read(common_pb2.Envelope, envelope))
        return _request_id(read(common_pb2.SignatureHeader, payload.header.signature_header))
    except Unreadable:
        return hashlib.sha256(envelope).digest()


def _bad(info: str) -> Answer:
    return Answer(BAD_REQUEST, info)
