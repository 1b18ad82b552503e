"""Block delivery: protos.Deliver (blocks, filtered blocks, blocks with private data) and the orderer's own Deliver.

Source: common/deliver/{deliver,acl}.go, common/ledger/blockledger/fileledger/impl.go and core/peer/deliverevents.go of
Fabric v3.1.5; the order of the checks there decides which status a request with several faults gets (G.2)."""

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import events_pb2, transaction_pb2
from google.protobuf.message import DecodeError

from network.embedded.access import AccessError, check_readers
from network.embedded.block import TRANSACTIONS_FILTER, as_ordered
from network.embedded.chain import Chain
from network.embedded.events import transaction_events
from network.embedded.ledger import Ledger
from network.embedded.lifecycle import collection_config, definition
from network.embedded.msp import IdentityError, MspManager
from network.embedded.policy import PolicyError, PolicyManager, SignedData
from network.embedded.rpc import field, varint

_LOG = logging.getLogger(__name__)

SUCCESS: Final = common_pb2.Status.SUCCESS
BAD_REQUEST: Final = common_pb2.Status.BAD_REQUEST
FORBIDDEN: Final = common_pb2.Status.FORBIDDEN
NOT_FOUND: Final = common_pb2.Status.NOT_FOUND

# Field numbers of protos.DeliverResponse; orderer.DeliverResponse has the same first two.
_STATUS_TAG: Final = b"\x08"
_BLOCK: Final = 2
_FILTERED_BLOCK: Final = 3
_BLOCK_AND_PRIVATE_DATA: Final = 4


class Sender(Protocol):
    """Turns one block into the bytes of one DeliverResponse."""

    async def __call__(self, number: int, headers_only: bool, session: "Session") -> bytes: ...


@dataclass(frozen=True, slots=True)
class Session:
    """One accepted seek: what to send and in whose name it was asked."""

    start: int
    stop: int
    fail_if_not_ready: bool
    headers_only: bool
    reader: SignedData
    expires_at: datetime | None


class _Refused(Exception):
    """The seek ends with this status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Delivery:
    """Answers seek requests of one service. `send` decides the shape of a block."""

    def __init__(
        self,
        channel: str,
        chain: Chain,
        policies: PolicyManager,
        msps: MspManager,
        time_window: timedelta,
        send: Sender,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._channel = channel
        self._chain = chain
        self._policies = policies
        self._msps = msps
        self._time_window = time_window
        self._send = send
        self._clock = clock

    async def serve(self, requests: AsyncIterator[bytes], tls_binding: bytes | None = None) -> AsyncIterator[bytes]:
        """Answer each seek envelope in turn; anything but SUCCESS ends the stream.

        `tls_binding` is the SHA-256 of the client's certificate (DER) under mutual TLS, otherwise None."""
        async for request in requests:
            try:
                session = self._open(request, tls_binding)
                async for answer in self._blocks(session):
                    yield answer
                status = SUCCESS
            except _Refused as refused:
                _LOG.info("deliver refused with %s: %s", common_pb2.Status.Name(refused.status), refused)
                status = refused.status
            yield _STATUS_TAG + varint(status)
            if status != SUCCESS:
                return

    def _open(self, request: bytes, tls_binding: bytes | None) -> Session:
        """Check a seek envelope in upstream's order and work out the first and the last block."""
        try:
            envelope = common_pb2.Envelope.FromString(request)
            payload = common_pb2.Payload.FromString(envelope.payload)
            header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
            creator = common_pb2.SignatureHeader.FromString(payload.header.signature_header).creator
        except DecodeError as error:
            raise _Refused(BAD_REQUEST, f"unreadable envelope: {error}") from error
        if not payload.HasField("header"):
            raise _Refused(BAD_REQUEST, "envelope has no header")
        self._check_header(header, tls_binding)
        if header.channel_id != self._channel:
            raise _Refused(NOT_FOUND, f"channel {header.channel_id} not found")
        try:
            seek = ab_pb2.SeekInfo.FromString(payload.data)
        except DecodeError as error:
            raise _Refused(BAD_REQUEST, f"malformed seekInfo payload: {error}") from error
        reader = SignedData(message=envelope.payload, identity_bytes=creator, signature=envelope.signature)
        expires_at = self._admit(reader)
        if not seek.HasField("start") or not seek.HasField("stop"):
            raise _Refused(BAD_REQUEST, "seekInfo message with missing start or stop")
        start, stop = self._range(seek)
        return Session(
            start=start,
            stop=stop,
            fail_if_not_ready=seek.behavior == ab_pb2.SeekInfo.FAIL_IF_NOT_READY,
            headers_only=seek.content_type == ab_pb2.SeekInfo.HEADER_WITH_SIG,
            reader=reader,
            expires_at=expires_at,
        )

    def _check_header(self, header: common_pb2.ChannelHeader, tls_binding: bytes | None) -> None:
        if not header.HasField("timestamp"):
            raise _Refused(BAD_REQUEST, "channel header in envelope must contain timestamp")
        sent = header.timestamp.seconds + header.timestamp.nanos / 1e9
        if abs(self._clock().timestamp() - sent) > self._time_window.total_seconds():
            raise _Refused(BAD_REQUEST, "envelope timestamp is outside the time window")
        if tls_binding is not None and header.tls_cert_hash != tls_binding:
            raise _Refused(BAD_REQUEST, "claimed TLS cert hash does not match the client's certificate")

    def _admit(self, reader: SignedData) -> datetime | None:
        """Let a reader of the channel in; answers when the session's identity expires."""
        try:
            expires_at = self._msps.identity(reader.identity_bytes).expires_at
        except IdentityError:
            expires_at = None
        self._check_expiry(expires_at)
        try:
            check_readers(self._policies, self._channel, self._channel, reader)
        except AccessError as error:
            raise _Refused(FORBIDDEN, str(error)) from error
        return expires_at

    def _check_expiry(self, expires_at: datetime | None) -> None:
        if expires_at is not None and self._clock() > expires_at:
            raise _Refused(FORBIDDEN, f"deliver client identity expired at {expires_at:%Y-%m-%dT%H:%M:%SZ}")

    def _range(self, seek: ab_pb2.SeekInfo) -> tuple[int, int]:
        """First and last block. Beyond the height is tested before the order of the two (G.2)."""
        height = self._chain.height
        start = _position(seek.start, height)
        if start is None or start > height:
            raise _Refused(NOT_FOUND, "no such start position")
        kind = seek.stop.WhichOneof("Type")
        if kind == "oldest":
            return start, start
        if kind == "newest":
            return start, start if seek.start == seek.stop else height - 1
        # Next-commit and an empty position as stop are not handled upstream and act as 0.
        stop = seek.stop.specified.number if kind == "specified" else 0
        if kind == "specified" and stop < start:
            raise _Refused(BAD_REQUEST, f"start number {start} greater than stop number {stop}")
        return start, stop

    async def _blocks(self, session: Session) -> AsyncIterator[bytes]:
        number = session.start
        while True:
            if session.fail_if_not_ready and number >= self._chain.height:
                raise _Refused(NOT_FOUND, f"block {number} not found")
            await self._chain.reached(number)
            self._check_expiry(session.expires_at)
            yield await self._send(number, session.headers_only, session)
            if number == session.stop:
                return
            number += 1


def full_blocks(chain: Chain) -> Sender:
    """Blocks with filled metadata, as protos.Deliver/Deliver sends them."""

    async def send(number: int, headers_only: bool, session: Session) -> bytes:
        return field(_BLOCK, await chain.view(number, without_data if headers_only else bytes))

    return send


def ordered_blocks(chain: Chain) -> Sender:
    """Blocks as an orderer holds them, for orderer.AtomicBroadcast/Deliver: the peer's metadata slots are empty."""

    async def send(number: int, headers_only: bool, session: Session) -> bytes:
        made = await chain.view(number, as_ordered)
        return field(_BLOCK, without_data(made) if headers_only else made)

    return send


def filtered_blocks(chain: Chain) -> Sender:
    """Ids, codes and event names only, for protos.Deliver/DeliverFiltered."""

    async def send(number: int, headers_only: bool, session: Session) -> bytes:
        return field(_FILTERED_BLOCK, await chain.view(number, filtered))

    return send


class PrivateReads:
    """The private write sets that one organisation holds of a block, as far as a reader may see them."""

    def __init__(self, ledger: Ledger, policies: PolicyManager, msp_id: str) -> None:
        self._ledger = ledger
        self._policies = policies
        self._msp_id = msp_id

    def of(self, number: int, reader: SignedData) -> dict[int, rwset_pb2.TxPvtReadWriteSet]:
        """Transaction index -> write sets; collections with member-only read are left out for non-members."""
        found = {}
        for index, data in self._ledger.private_write_sets(number, self._msp_id).items():
            held = rwset_pb2.TxPvtReadWriteSet.FromString(data)
            seen = rwset_pb2.TxPvtReadWriteSet(data_model=held.data_model)
            for namespace in held.ns_pvt_rwset:
                collections = [
                    entry
                    for entry in namespace.collection_pvt_rwset
                    if self._may_read(namespace.namespace, entry.collection_name, reader)
                ]
                if collections:
                    seen.ns_pvt_rwset.add(namespace=namespace.namespace, collection_pvt_rwset=collections)
            if seen.ns_pvt_rwset:
                found[index] = seen
        return found

    def _may_read(self, namespace: str, collection: str, reader: SignedData) -> bool:
        with self._ledger.snapshot() as snapshot:
            found = definition(snapshot.get_state, namespace)
        config = collection_config(found, collection) if found is not None else None
        if config is None or not config.member_only_read:
            return config is not None
        members = config.member_orgs_policy.signature_policy.SerializeToString()
        try:
            self._policies.signature_policy(members).evaluate([reader])
        except PolicyError:
            return False
        return True


def blocks_with_private_data(chain: Chain, private: PrivateReads) -> Sender:
    """Blocks and the private write sets held by the port's organisation, for protos.Deliver/DeliverWithPrivateData."""

    async def send(number: int, headers_only: bool, session: Session) -> bytes:
        block = await chain.view(number, without_data if headers_only else bytes)
        answer = events_pb2.BlockAndPrivateData()
        for index, write_set in (await chain.read(private.of, number, session.reader)).items():
            answer.private_data_map[index].CopyFrom(write_set)
        # Field 1 is the block; its stored bytes are put in front as they are instead of being parsed for this.
        return field(_BLOCK_AND_PRIVATE_DATA, field(1, block) + answer.SerializeToString())

    return send


def filtered(block_bytes: bytes) -> bytes:
    """Serialise the FilteredBlock of a block: every transaction with its code, events without payload."""
    block = common_pb2.Block.FromString(block_bytes)
    codes = block.metadata.metadata[TRANSACTIONS_FILTER]
    answer = events_pb2.FilteredBlock(number=block.header.number)
    for index, envelope in enumerate(block.data.data):
        try:
            payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(envelope).payload)
            header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
        except DecodeError:
            continue
        if not payload.HasField("header"):
            continue
        answer.channel_id = header.channel_id
        entry = answer.filtered_transactions.add(txid=header.tx_id, type=header.type)
        entry.tx_validation_code = codes[index] if index < len(codes) else transaction_pb2.INVALID_OTHER_REASON
        if header.type == common_pb2.HeaderType.ENDORSER_TRANSACTION:
            entry.transaction_actions.SetInParent()
            _add_events(entry.transaction_actions, payload.data)
    return answer.SerializeToString()


def without_data(block_bytes: bytes) -> bytes:
    """Header and metadata of a block; the configuration block keeps its data (HEADER_WITH_SIG)."""
    block = common_pb2.Block.FromString(block_bytes)
    if block.header.number != 0:  # the embedded network's only configuration block is the genesis block
        block.ClearField("data")
    return block.SerializeToString()


def _add_events(actions: events_pb2.FilteredTransactionActions, data: bytes) -> None:
    """Name the events of a transaction. One whose bytes a client made unreadable is invalid and has none."""
    try:
        events = transaction_events(transaction_pb2.Transaction.FromString(data))
    except DecodeError:
        return
    for event in events:
        if event.chaincode_id:
            action = actions.chaincode_actions.add()
            action.chaincode_event.tx_id = event.tx_id
            action.chaincode_event.chaincode_id = event.chaincode_id
            action.chaincode_event.event_name = event.event_name


def _position(position: ab_pb2.SeekPosition, height: int) -> int | None:
    kind = position.WhichOneof("Type")
    if kind == "oldest":
        return 0
    if kind == "newest":
        return height - 1
    if kind == "next_commit":
        return height
    return position.specified.number if kind == "specified" else None
