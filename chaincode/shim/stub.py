"""The transaction as a contract sees it: Fabric's stub calls, synchronous, over one injected exchange of messages.

The same stub runs behind the stream to a peer, in the embedded network and in tests; only `exchange` differs. Reads
go to the peer at once; writes are kept and sent together after the contract has returned, because Fabric answers no
read from them anyway. What a peer refuses about a write therefore shows only then.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, NamedTuple, Self, TypeVar

from fabric_protos.ledger.queryresult import kv_query_result_pb2
from fabric_protos.peer import chaincode_event_pb2, chaincode_pb2, chaincode_shim_pb2, proposal_response_pb2
from google.protobuf.message import DecodeError, Message

from chaincode.shim import keys
from chaincode.shim.context import Context, Creator, Timestamp
from chaincode.shim.errors import (
    CallRefused,
    DeadlineExceeded,
    PeerError,
    RangeLimitExceeded,
    StreamLost,
    ValueRefused,
    WriteRefused,
)
from chaincode.shim.policy import Rule

ChaincodeMessage = chaincode_shim_pb2.ChaincodeMessage
Exchange = Callable[[ChaincodeMessage], ChaincodeMessage]
"""One request to the peer and its answer. Raises StreamLost when no answer can come any more."""

VALIDATION_PARAMETER: Final = "VALIDATION_PARAMETER"
"""Fabric's name of the metadata entry that holds a key's endorsement rule."""

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """What the peer says in READY about batches; a peer before 3.1 says nothing, which means all off."""

    use_write_batch: bool = True
    max_size_write_batch: int = 1000
    use_get_multiple_keys: bool = True
    max_size_get_multiple_keys: int = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that the shim sets itself; the same on all organisations, else they disagree about a transaction."""

    value_bytes: int = 64 * 1024
    """Largest value of a key: one of some megabytes makes reading its neighbours slow on a LevelDB peer."""
    range_rows: int = 5000
    """Rows that one range read may return; the peer cuts at a limit of its own (100 000, changeable) without a sign."""
    argument_bytes: int = 1024 * 1024
    """Largest single argument of a transaction."""
    seconds: float = 25.0
    """Time for one transaction; below the peer's 30 s so that the client gets an answer instead of a retry."""


STOCK_PEER: Final = PeerSettings()
"""What a peer of Fabric 3.1 with its shipped configuration says."""

DEFAULT_LIMITS: Final = Limits()


class Mode(Enum):
    """What the transaction function declared: `@submit`, `@query`, or nothing (a program without our decorators)."""

    ANY = "any"
    SUBMIT = "submit"
    QUERY = "query"


class Response(NamedTuple):
    """The answer of a called chaincode; below 400 is success."""

    status: int
    message: str
    payload: bytes


class HistoryEntry(NamedTuple):
    """One committed change of a key; `value` is None when it was a delete."""

    transaction_id: str
    value: bytes | None
    timestamp: Timestamp
    is_delete: bool


class Page(NamedTuple):
    """One page of a paginated range; `bookmark` is the next key, empty at the end."""

    rows: list[tuple[str, bytes]]
    bookmark: str


class Transaction:
    """One running transaction: what it knows, and the calls on the ledger.

    Belongs to the thread that runs the contract and ends with it. Methods carry the names of Fabric's stub in
    snake_case. Reads see the committed state only, never this transaction's own writes. Every call can raise
    PeerError, DeadlineExceeded and StreamLost.
    """

    def __init__(
        self,
        message: ChaincodeMessage,
        exchange: Exchange,
        *,
        msp_id: str,
        settings: PeerSettings = STOCK_PEER,
        limits: Limits = DEFAULT_LIMITS,
        deadline: float | None = None,
    ) -> None:
        self._context = Context(message)
        self._exchange = exchange
        self._settings = settings
        self._deadline = deadline
        self._owner = threading.get_ident()
        self._in_flight = False
        self._closed = False
        self._lost: DeadlineExceeded | StreamLost | None = None
        self._writes: dict[tuple[str, str, bool], chaincode_shim_pb2.WriteRecord] = {}
        self._event: chaincode_event_pb2.ChaincodeEvent | None = None
        self._unprotected_read = False
        self.limits = limits
        """The shim's own bounds in force."""
        self.mode = Mode.ANY
        """What the running transaction function declared; set by the dispatch."""
        self.peer_msp_id = msp_id
        """The organisation of the peer that runs this transaction: differs per endorser, so never write it."""

    # -- what the proposal says ---------------------------------------------------------------------------------------

    @property
    def transaction_id(self) -> str:
        """The transaction's id: SHA-256 of nonce and creator, hex; unique on the channel."""
        return self._context.transaction_id

    @property
    def channel_id(self) -> str:
        """The channel's name."""
        return self._context.channel_id

    @property
    def args(self) -> tuple[bytes, ...]:
        """All arguments; the first is the function's name."""
        return self._context.args

    @property
    def transient(self) -> Mapping[str, bytes]:
        """The proposal's transient values: reach every endorser, never the ledger."""
        return self._context.transient

    @property
    def decorations(self) -> Mapping[str, bytes]:
        """What the peer's decorators added; usually empty."""
        return self._context.decorations

    @property
    def creator(self) -> Creator:
        """Who signed the proposal; the same for a called chaincode."""
        return self._context.creator

    @property
    def timestamp(self) -> Timestamp:
        """The client's time in the proposal."""
        return self._context.timestamp

    @property
    def outermost_chaincode(self) -> str:
        """The chaincode that the client named; in a called chaincode this is not its own name."""
        return self._context.outermost_chaincode

    @property
    def binding(self) -> bytes:
        """SHA-256 of nonce, creator and epoch."""
        return self._context.binding

    # -- state --------------------------------------------------------------------------------------------------------

    def get_state(self, key: str) -> bytes | None:
        """The committed value of a key, or None when there is none."""
        return self._get("", key)

    def get_multiple_states(self, state_keys: Sequence[str]) -> list[bytes | None]:
        """The committed values of several keys in their order, None for each absent one, in one message.

        A 3.1.5 peer hides errors of its database here (all keys look absent); a decision that hangs on a key being
        absent reads it with `get_state`.
        """
        return self._get_multiple("", state_keys)

    def put_state(self, key: str, value: bytes) -> None:
        """Write a value at the end of the transaction; the last write of a key wins."""
        self._put("", key, value)

    def delete_state(self, key: str) -> None:
        """Delete a key at the end of the transaction; an absent key is no error."""
        self._write("", key, chaincode_shim_pb2.WriteRecord.DEL_STATE)

    def get_state_by_range(self, start: str, end: str, *, limit: int | None = None) -> "Rows[tuple[str, bytes]]":
        """Plain keys from `start` (included) to `end` (excluded) in code point order; empty bounds are open.

        Opened by `with`. A row beyond `limit` (default and most: the shim's row limit) raises RangeLimitExceeded;
        stop iterating to take only the first rows.
        """
        return self._range("", *keys.plain_range(start, end), limit)

    def get_state_by_partial_composite_key(
        self, object_type: str, attributes: Sequence[str] = (), *, after: str | None = None, limit: int | None = None
    ) -> "Rows[tuple[str, bytes]]":
        """Composite keys that begin with these parts; with `after`, those beyond that whole composite key only."""
        return self._range("", *keys.prefix_range(object_type, attributes, after=after), limit)

    def get_state_by_range_with_pagination(self, start: str, end: str, page_size: int, bookmark: str = "") -> Page:
        """One page of plain keys; not protected against phantoms, so no write may share the transaction."""
        return self._page(*keys.plain_range(start, end), page_size, bookmark)

    def get_state_by_partial_composite_key_with_pagination(
        self, object_type: str, attributes: Sequence[str], page_size: int, bookmark: str = ""
    ) -> Page:
        """One page of composite keys; not protected against phantoms, so no write may share the transaction."""
        return self._page(*keys.prefix_range(object_type, attributes), page_size, bookmark)

    def get_history_for_key(self, key: str, *, limit: int | None = None) -> "Rows[HistoryEntry]":
        """All committed changes of a key, newest first, deletes included; refused in `@submit` functions.

        History is not part of the read set, so a decision made from it could not be validated.
        """
        keys.check(key)
        if self.mode is Mode.SUBMIT:
            raise CallRefused("history is not protected by validation: read it in a query")
        request = chaincode_shim_pb2.GetHistoryForKey(key=key)
        return Rows(self, ChaincodeMessage.GET_HISTORY_FOR_KEY, request, _history_entry, self._row_limit(limit))

    def set_state_validation_parameter(self, key: str, rule: Rule | bytes) -> None:
        """Set the endorsement rule of a key: a rule of `policy`, a SignaturePolicyEnvelope, or b"" for none.

        On a key that does not exist after the transaction Fabric takes this as valid and keeps nothing.
        """
        self._write_metadata("", key, rule)

    def get_state_validation_parameter(self, key: str) -> bytes | None:
        """The committed endorsement rule of a key as SignaturePolicyEnvelope bytes, or None."""
        return self._get_metadata("", key)

    # -- private data -------------------------------------------------------------------------------------------------

    def get_private_data(self, collection: str, key: str) -> bytes | None:
        """The committed private value, or None.

        On an *implicit* collection Fabric does not ask who the client is: compare `creator.msp_id` with `peer_msp_id`.
        """
        return self._get(_collection(collection), key)

    def get_multiple_private_data(self, collection: str, state_keys: Sequence[str]) -> list[bytes | None]:
        """As `get_multiple_states`, in a collection."""
        return self._get_multiple(_collection(collection), state_keys)

    def get_private_data_hash(self, collection: str, key: str) -> bytes | None:
        """SHA-256 of the private value, which every peer of the channel holds, or None."""
        keys.check(key)
        request = chaincode_shim_pb2.GetState(collection=_collection(collection), key=key)
        return self.request(ChaincodeMessage.GET_PRIVATE_DATA_HASH, request) or None

    def put_private_data(self, collection: str, key: str, value: bytes) -> None:
        """Write a private value at the end of the transaction."""
        self._put(_collection(collection), key, value)

    def delete_private_data(self, collection: str, key: str) -> None:
        """Delete a private value; its history stays on the members' peers."""
        self._write(_collection(collection), key, chaincode_shim_pb2.WriteRecord.DEL_STATE)

    def purge_private_data(self, collection: str, key: str) -> None:
        """Delete a private value and everything the members' peers ever kept of it."""
        self._write(_collection(collection), key, chaincode_shim_pb2.WriteRecord.PURGE_PRIVATE_DATA)

    def get_private_data_by_range(
        self, collection: str, start: str, end: str, *, limit: int | None = None
    ) -> "Rows[tuple[str, bytes]]":
        """As `get_state_by_range`, in a collection; not protected, so no write may share the transaction."""
        self._begin_unprotected_read()
        return self._range(_collection(collection), *keys.plain_range(start, end), limit)

    def get_private_data_by_partial_composite_key(
        self, collection: str, object_type: str, attributes: Sequence[str] = (), *, limit: int | None = None
    ) -> "Rows[tuple[str, bytes]]":
        """As `get_state_by_partial_composite_key`, in a collection; no write may share the transaction."""
        self._begin_unprotected_read()
        return self._range(_collection(collection), *keys.prefix_range(object_type, attributes), limit)

    def set_private_data_validation_parameter(self, collection: str, key: str, rule: Rule | bytes) -> None:
        """As `set_state_validation_parameter`, in a collection."""
        self._write_metadata(_collection(collection), key, rule)

    def get_private_data_validation_parameter(self, collection: str, key: str) -> bytes | None:
        """As `get_state_validation_parameter`, in a collection."""
        return self._get_metadata(_collection(collection), key)

    # -- composite keys, other chaincodes, event ----------------------------------------------------------------------

    def create_composite_key(self, object_type: str, attributes: Sequence[str] = ()) -> str:
        """The composite key of a type and its attributes."""
        return keys.composite(object_type, attributes)

    def split_composite_key(self, key: str) -> tuple[str, list[str]]:
        """The type and the attributes of a composite key."""
        return keys.split(key)

    def invoke_chaincode(self, name: str, args: Sequence[bytes], channel: str = "") -> Response:
        """Call another chaincode in this transaction; on another channel it can only read.

        Its refusal comes back as a Response, whatever the status; that it could not run at all raises PeerError. Its
        writes and reads join this transaction, its event is dropped. It does not see the writes made here so far.
        """
        target = f"{name}/{channel}" if channel else name
        spec = chaincode_pb2.ChaincodeSpec(
            chaincode_id=chaincode_pb2.ChaincodeID(name=target), input=chaincode_pb2.ChaincodeInput(args=args)
        )
        payload = self.request(ChaincodeMessage.INVOKE_CHAINCODE, spec)
        try:
            completed = ChaincodeMessage.FromString(payload)
            response = proposal_response_pb2.Response.FromString(completed.payload)
        except DecodeError as error:
            raise PeerError(f"unreadable answer of chaincode {name}") from error
        if completed.type != ChaincodeMessage.COMPLETED:
            raise PeerError(_text(completed.payload) or f"chaincode {name} did not complete")
        return Response(response.status, response.message, response.payload)

    def set_event(self, name: str, payload: bytes) -> None:
        """Set the transaction's one event; as in Fabric the last call wins, and a failed transaction has none."""
        self._check_call()
        if self.mode is Mode.QUERY:
            raise WriteRefused("a query sets no event")
        if not name:
            raise ValueRefused("the name of an event is empty")
        self._event = chaincode_event_pb2.ChaincodeEvent(event_name=name, payload=payload)

    # -- for the runner of the transaction ----------------------------------------------------------------------------

    @property
    def event(self) -> chaincode_event_pb2.ChaincodeEvent | None:
        """The event set so far."""
        return self._event

    def request(self, kind: int, body: Message) -> bytes:
        """Send one request and return the payload of its answer.

        Raises PeerError when the answer is ERROR or no answer, CallRefused in another thread, while another request
        runs or after the end, DeadlineExceeded and StreamLost: these two again on every later call.
        """
        self._check_call()
        message = ChaincodeMessage(
            type=kind, payload=body.SerializeToString(), txid=self.transaction_id, channel_id=self.channel_id
        )
        self._in_flight = True
        try:
            answer = self._exchange(message)
        except StreamLost as error:
            self._lost = error
            raise
        finally:
            self._in_flight = False
        if answer.type == ChaincodeMessage.RESPONSE:
            return answer.payload
        if answer.type == ChaincodeMessage.ERROR:
            raise PeerError(_text(answer.payload) or "the peer gave no reason")
        raise PeerError("the peer answered with a message that is no answer")

    def flush(self) -> None:
        """Send all writes kept so far: in batches where the peer takes them, else one by one in the order made."""
        records = list(self._writes.values())
        self._writes.clear()
        if not self._settings.use_write_batch:
            for record in records:
                self.request(*_single(record))
            return
        size = max(self._settings.max_size_write_batch, 1)
        for first in range(0, len(records), size):
            batch = chaincode_shim_pb2.WriteBatchState(rec=records[first : first + size])
            self.request(ChaincodeMessage.WRITE_BATCH_STATE, batch)

    def close(self) -> None:
        """End the transaction: every later call raises CallRefused."""
        self._closed = True

    def check_alive(self) -> None:
        """Raise again what ended the transaction, even if the contract swallowed it; raise when time is up."""
        if self._lost is not None:
            raise self._lost
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._lost = DeadlineExceeded("the transaction passed its deadline")
            raise self._lost

    # -- inside -------------------------------------------------------------------------------------------------------

    def _check_call(self) -> None:
        if threading.get_ident() != self._owner:
            raise CallRefused("only the thread that runs the contract may use its transaction")
        if self._closed:
            raise CallRefused("the transaction has ended")
        if self._in_flight:
            raise CallRefused("another request of this transaction is still running")
        self.check_alive()

    def _get(self, collection: str, key: str) -> bytes | None:
        keys.check(key)
        request = chaincode_shim_pb2.GetState(collection=collection, key=key)
        return self.request(ChaincodeMessage.GET_STATE, request) or None

    def _get_multiple(self, collection: str, state_keys: Sequence[str]) -> list[bytes | None]:
        for key in state_keys:
            keys.check(key)
        if len(state_keys) == 1 or not self._settings.use_get_multiple_keys:
            return [self._get(collection, key) for key in state_keys]
        size = max(self._settings.max_size_get_multiple_keys, 1)
        values: list[bytes | None] = []
        for first in range(0, len(state_keys), size):
            chunk = state_keys[first : first + size]
            request = chaincode_shim_pb2.GetStateMultiple(collection=collection, keys=chunk)
            payload = self.request(ChaincodeMessage.GET_STATE_MULTIPLE, request)
            answer = _parse(chaincode_shim_pb2.GetStateMultipleResult(), payload).values
            if len(answer) != len(chunk):
                raise PeerError("the peer answered with another number of values than keys")
            values.extend(value or None for value in answer)
        return values

    def _get_metadata(self, collection: str, key: str) -> bytes | None:
        keys.check(key)
        request = chaincode_shim_pb2.GetStateMetadata(collection=collection, key=key)
        payload = self.request(ChaincodeMessage.GET_STATE_METADATA, request)
        for entry in _parse(chaincode_shim_pb2.StateMetadataResult(), payload).entries:
            if entry.metakey == VALIDATION_PARAMETER:
                return entry.value or None
        return None

    def _put(self, collection: str, key: str, value: bytes) -> None:
        if not value:
            raise ValueRefused("an empty value would delete the key: delete it in so many words")
        if len(value) > self.limits.value_bytes:
            raise ValueRefused(f"the value is larger than {self.limits.value_bytes} bytes")
        self._write(collection, key, chaincode_shim_pb2.WriteRecord.PUT_STATE, value)

    def _write(self, collection: str, key: str, kind: int, value: bytes = b"") -> None:
        self._check_write(key)
        self._writes[collection, key, False] = chaincode_shim_pb2.WriteRecord(
            key=key, value=value, collection=collection, type=kind
        )

    def _write_metadata(self, collection: str, key: str, rule: Rule | bytes) -> None:
        self._check_write(key)
        self._writes[collection, key, True] = chaincode_shim_pb2.WriteRecord(
            key=key,
            collection=collection,
            metadata=chaincode_shim_pb2.StateMetadata(
                metakey=VALIDATION_PARAMETER, value=rule if isinstance(rule, bytes) else rule.envelope()
            ),
            type=chaincode_shim_pb2.WriteRecord.PUT_STATE_METADATA,
        )

    def _check_write(self, key: str) -> None:
        self._check_call()
        if self.mode is Mode.QUERY:
            raise WriteRefused("a query writes nothing")
        if self._unprotected_read:
            raise WriteRefused("no write after a paginated or private range read: it is not protected by validation")
        keys.check(key)

    def _begin_unprotected_read(self) -> None:
        if self._writes:
            raise WriteRefused("no paginated or private range read after a write: it is not protected by validation")
        self._unprotected_read = True

    def _row_limit(self, limit: int | None) -> int:
        return self.limits.range_rows if limit is None else min(limit, self.limits.range_rows)

    def _range(self, collection: str, start: str, end: str, limit: int | None) -> "Rows[tuple[str, bytes]]":
        request = chaincode_shim_pb2.GetStateByRange(startKey=start, endKey=end, collection=collection)
        return Rows(self, ChaincodeMessage.GET_STATE_BY_RANGE, request, _key_value, self._row_limit(limit))

    def _page(self, start: str, end: str, page_size: int, bookmark: str) -> Page:
        if not 1 <= page_size <= self.limits.range_rows:
            raise RangeLimitExceeded(f"a page has 1 to {self.limits.range_rows} rows")
        self._begin_unprotected_read()
        metadata = chaincode_shim_pb2.QueryMetadata(pageSize=page_size, bookmark=bookmark)
        request = chaincode_shim_pb2.GetStateByRange(startKey=start, endKey=end, metadata=metadata.SerializeToString())
        payload = self.request(ChaincodeMessage.GET_STATE_BY_RANGE, request)
        answer = _parse(chaincode_shim_pb2.QueryResponse(), payload)
        following = _parse(chaincode_shim_pb2.QueryResponseMetadata(), answer.metadata)
        return Page([_key_value(result.resultBytes) for result in answer.results], following.bookmark)


class Rows(Generic[_Row]):
    """The rows of a range: opened by `with`, then iterated once.

    Leaving the block closes the range at the peer if rows are left there. Fetches 100 rows at a time.
    """

    def __init__(
        self, transaction: Transaction, kind: int, request: Message, row: Callable[[bytes], _Row], limit: int
    ) -> None:
        self._transaction = transaction
        self._kind = kind
        self._request = request
        self._row = row
        self._limit = limit
        self._answer: chaincode_shim_pb2.QueryResponse | None = None

    def __enter__(self) -> Self:
        if self._answer is not None:
            raise CallRefused("a range is read once")
        self._fetch(self._kind, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        answer = self._answer
        if answer is not None and answer.has_more:
            self._answer = chaincode_shim_pb2.QueryResponse()
            self._transaction.request(
                ChaincodeMessage.QUERY_STATE_CLOSE, chaincode_shim_pb2.QueryStateClose(id=answer.id)
            )

    def __iter__(self) -> Iterator[_Row]:
        count = 0
        while True:
            answer = self._answer
            if answer is None:
                raise CallRefused("a range is opened by `with` before it is read")
            for result in answer.results:
                count += 1
                if count > self._limit:
                    raise RangeLimitExceeded(f"the range holds more than {self._limit} rows")
                yield self._row(result.resultBytes)
            if not answer.has_more:
                return
            self._fetch(ChaincodeMessage.QUERY_STATE_NEXT, chaincode_shim_pb2.QueryStateNext(id=answer.id))

    def _fetch(self, kind: int, request: Message) -> None:
        self._answer = _parse(chaincode_shim_pb2.QueryResponse(), self._transaction.request(kind, request))


_Message = TypeVar("_Message", bound=Message)


def _parse(message: _Message, payload: bytes) -> _Message:
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise PeerError("the peer's answer is unreadable") from error
    return message


def _key_value(data: bytes) -> tuple[str, bytes]:
    row = _parse(kv_query_result_pb2.KV(), data)
    return row.key, row.value


def _history_entry(data: bytes) -> HistoryEntry:
    row = _parse(kv_query_result_pb2.KeyModification(), data)
    timestamp = Timestamp(row.timestamp.seconds, row.timestamp.nanos)
    return HistoryEntry(row.tx_id, None if row.is_delete else row.value, timestamp, row.is_delete)


def _collection(name: str) -> str:
    if not name:
        raise ValueRefused("the name of a collection is empty: the value would become public")
    return name


def _text(payload: bytes) -> str:
    return payload.decode("utf-8", "replace")


def _single(record: chaincode_shim_pb2.WriteRecord) -> tuple[int, Message]:
    """The request that a peer without batches understands for one write."""
    record_type = chaincode_shim_pb2.WriteRecord
    place = {"key": record.key, "collection": record.collection}
    if record.type == record_type.PUT_STATE:
        return ChaincodeMessage.PUT_STATE, chaincode_shim_pb2.PutState(value=record.value, **place)
    if record.type == record_type.DEL_STATE:
        return ChaincodeMessage.DEL_STATE, chaincode_shim_pb2.DelState(**place)
    if record.type == record_type.PURGE_PRIVATE_DATA:
        return ChaincodeMessage.PURGE_PRIVATE_DATA, chaincode_shim_pb2.PurgePrivateState(**place)
    return ChaincodeMessage.PUT_STATE_METADATA, chaincode_shim_pb2.PutStateMetadata(metadata=record.metadata, **place)
