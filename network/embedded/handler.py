"""The peer side of the chaincode stream: one transaction's requests, answered on its simulator.

The same `TransactionContext` serves a chaincode in this process (the shim's exchange calls `handle`) and one behind
gRPC (stream.py). Message types, batches and texts are those of core/chaincode/handler.go and
query_response_generator.go.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from fabric_protos.ledger.queryresult import kv_query_result_pb2
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2
from google.protobuf.message import DecodeError, Message

from network.embedded.lifecycle import WIRE_FORMAT
from network.embedded.simulator import SimulationError

ChaincodeMessage = chaincode_shim_pb2.ChaincodeMessage

BATCH_ROWS = 100  # rows of one query answer (QueryResponseGenerator.MaxResultLimit)
TOTAL_ROWS = 100_000  # rows of one query in all (ledger.state.totalQueryLimit of the sample configuration)

M = TypeVar("M", bound=Message)


class HandlerError(Exception):
    """A request that is answered ERROR; the text is Fabric's cause, without the outer `TYPE failed: ...`."""


class UnknownMessage(Exception):
    """A message type that no transaction may send; it ends the stream."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the creator of the proposal may do with one private data collection."""

    read: bool
    write: bool


OPEN = Access(read=True, write=True)


class TransactionState(Protocol):
    """What the handler needs of a simulator (network.embedded.simulator.Simulator has it)."""

    def get_state(self, namespace: str, key: str) -> bytes | None: ...
    def get_state_multiple(self, namespace: str, keys: Sequence[str]) -> list[bytes | None]: ...
    def set_state(self, namespace: str, key: str, value: bytes) -> None: ...
    def delete_state(self, namespace: str, key: str) -> None: ...
    def get_metadata(self, namespace: str, key: str) -> Mapping[str, bytes]: ...
    def set_metadata(self, namespace: str, key: str, metadata: Mapping[str, bytes]) -> None: ...
    def range(self, namespace: str, start: str, end: str) -> Iterator[tuple[str, bytes]]: ...
    def range_page(
        self, namespace: str, start: str, end: str, page_size: int, bookmark: str
    ) -> tuple[list[tuple[str, bytes]], str]: ...
    def history(self, namespace: str, key: str) -> Iterator[kv_query_result_pb2.KeyModification]: ...
    def get_private(self, namespace: str, collection: str, key: str) -> bytes | None: ...
    def get_private_hash(self, namespace: str, collection: str, key: str) -> bytes | None: ...
    def set_private(self, namespace: str, collection: str, key: str, value: bytes) -> None: ...
    def delete_private(self, namespace: str, collection: str, key: str) -> None: ...
    def purge_private(self, namespace: str, collection: str, key: str) -> None: ...
    def private_range(self, namespace: str, collection: str, start: str, end: str) -> Iterator[tuple[str, bytes]]: ...
    def get_private_metadata(self, namespace: str, collection: str, key: str) -> Mapping[str, bytes]: ...
    def set_private_metadata(
        self, namespace: str, collection: str, key: str, metadata: Mapping[str, bytes]
    ) -> None: ...


class _Query:
    """An open iterator, the row that was fetched too many, and how many rows were taken in all."""

    __slots__ = ("kept", "rows", "taken")

    def __init__(self, rows: Iterator[bytes]) -> None:
        self.rows = rows
        self.kept: list[bytes] = []
        self.taken = 0

    def batch(self) -> tuple[list[bytes], bool]:
        """Up to 100 rows and whether more follow: the 101st is fetched to know, and kept for the next batch."""
        rows, self.kept = self.kept, []
        while self.taken < TOTAL_ROWS:
            row = next(self.rows, None)
            if row is None:
                break
            self.taken += 1
            if len(rows) == BATCH_ROWS:
                self.kept = [row]
                return rows, True
            rows.append(row)
        return rows, False


class _Scope:
    """What the contexts of one simulation share: one lock around the simulator, and whether it still exists."""

    __slots__ = ("alive", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.alive = True


class TransactionContext:
    """The requests of one chaincode in one transaction, answered one at a time.

    `access(namespace, collection)` answers what the proposal's creator may do with a collection and raises
    HandlerError or SimulationError for an unknown one (None: everything is open). `invoke(context, spec)` runs another
    chaincode on the same simulator and answers its message (None: there are no other chaincodes). `parent` is the
    context of the calling chaincode. Safe to call from several threads.
    """

    def __init__(
        self,
        simulator: TransactionState | None,
        namespace: str,
        *,
        channel_id: str,
        transaction_id: str,
        access: Callable[[str, str], Access] | None = None,
        invoke: "Callable[[TransactionContext, chaincode_pb2.ChaincodeSpec], ChaincodeMessage] | None" = None,
        parent: "TransactionContext | None" = None,
        is_init: bool = False,
    ) -> None:
        self.simulator = simulator
        self.namespace = namespace
        self.channel_id = channel_id
        self.transaction_id = transaction_id
        self.is_init = is_init
        self._access = access
        self._invoke = invoke
        self._scope: _Scope = parent._scope if parent is not None else _Scope()
        self._is_root = parent is None
        self._closed = False
        self._permissions: dict[str, Access] = {}
        self._queries: dict[str, _Query] = {}
        self._query_ids = itertools.count(1)

    def close(self) -> None:
        """End the context: iterators are closed and every later request is answered `no ledger context`.

        Closing the outermost context of a simulation ends those of the chaincodes it called too; it waits for the
        request that is being answered, so the simulator is free afterwards.
        """
        with self._scope.lock:
            self._closed = True
            if self._is_root:
                self._scope.alive = False
            self._queries.clear()

    def handle(self, message: ChaincodeMessage) -> ChaincodeMessage:
        """Answer one request with RESPONSE or ERROR. Raises UnknownMessage for a type that is no request."""
        try:
            payload = (
                self._call(message) if message.type == ChaincodeMessage.INVOKE_CHAINCODE else self._request(message)
            )
        except (HandlerError, SimulationError) as error:
            text = f"{type_name(message.type)} failed: transaction ID: {message.txid}: {error}"
            return self._answer(message, ChaincodeMessage.ERROR, text.encode())
        return self._answer(message, ChaincodeMessage.RESPONSE, payload)

    def _request(self, message: ChaincodeMessage) -> bytes:
        run = _REQUESTS.get(message.type)
        if run is None:
            raise UnknownMessage(unknown_message(message))
        with self._scope.lock:
            if self._closed or not self._scope.alive or self.simulator is None:
                raise HandlerError("no ledger context")
            return run(self, self.simulator, message.payload)

    @staticmethod
    def _answer(message: ChaincodeMessage, kind: int, payload: bytes) -> ChaincodeMessage:
        return ChaincodeMessage(type=kind, payload=payload, txid=message.txid, channel_id=message.channel_id)

    def permission(self, collection: str) -> Access:
        """What the creator may do with a collection, looked up once per context."""
        if self.is_init:
            raise HandlerError("private data APIs are not allowed in chaincode Init()")
        found = self._permissions.get(collection)
        if found is None:
            found = self._access(self.namespace, collection) if self._access is not None else OPEN
            self._permissions[collection] = found
        return found

    def _readable(self, collection: str) -> None:
        if not self.permission(collection).read:
            raise HandlerError(self._denied("read", collection))

    def _writable(self, collection: str) -> None:
        if not self.permission(collection).write:
            raise HandlerError(self._denied("write", collection))

    def _denied(self, what: str, collection: str) -> str:
        return (
            f"tx creator does not have {what} access permission on privatedata in "
            f"chaincodeName:{self.namespace} collectionName: {collection}"
        )

    # --- reads ---

    def _get_state(self, state: TransactionState, payload: bytes) -> bytes:
        request = _parse(chaincode_shim_pb2.GetState, payload)
        if request.collection:
            self._readable(request.collection)
            return state.get_private(self.namespace, request.collection, request.key) or b""
        return state.get_state(self.namespace, request.key) or b""

    def _get_state_multiple(self, state: TransactionState, payload: bytes) -> bytes:
        request = _parse(chaincode_shim_pb2.GetStateMultiple, payload)
        if request.collection:
            self._readable(request.collection)
            values = [state.get_private(self.namespace, request.collection, key) for key in request.keys]
        else:
            values = state.get_state_multiple(self.namespace, request.keys)
        result = chaincode_shim_pb2.GetStateMultipleResult(values=[value or b"" for value in values])
        return result.SerializeToString()

    def _get_private_hash(self, state: TransactionState, payload: bytes) -> bytes:
        request = _parse(chaincode_shim_pb2.GetState, payload)
        if self.is_init:
            raise HandlerError("private data APIs are not allowed in chaincode Init()")
        return state.get_private_hash(self.namespace, request.collection, request.key) or b""

    def _get_metadata(self, state: TransactionState, payload: bytes) -> bytes:
        request = _parse(chaincode_shim_pb2.GetStateMetadata, payload)
        if request.collection:
            self._readable(request.collection)
            metadata = state.get_private_metadata(self.namespace, request.collection, request.key)
        else:
            metadata = state.get_metadata(self.namespace, request.key)
        entries = [chaincode_shim_pb2.StateMetadata(metakey=name, value=metadata[name]) for name in sorted(metadata)]
        return chaincode_shim_pb2.StateMetadataResult(entries=entries).SerializeToString()

    # --- queries ---

    def _range(self, state: TransactionState, payload: bytes) -> bytes:
        request = _parse(chaincode_shim_pb2.GetStateByRange, payload)
        page = _parse(chaincode_shim_pb2.QueryMetadata, request.metadata)
        if request.collection:
            self._readable(request.collection)
            rows = state.private_range(self.namespace, request.collection, request.startKey, request.endKey)
            return self._open(self._key_values(rows))
        if page.pageSize or page.bookmark:
            return self._page(state, request, page)
        return self._open(self._key_values(state.range(self.namespace, request.startKey, request.endKey)))

    def _page(
        self,
        state: TransactionState,
        request: chaincode_shim_pb2.GetStateByRange,
        page: chaincode_shim_pb2.QueryMetadata,
    ) -> bytes:
        size = page.pageSize if 0 < page.pageSize < TOTAL_ROWS else TOTAL_ROWS
        found, bookmark = state.range_page(self.namespace, request.startKey, request.endKey, size, page.bookmark)
        metadata = chaincode_shim_pb2.QueryResponseMetadata(fetched_records_count=len(found), bookmark=bookmark)
        return _query_response(
            list(self._key_values(iter(found))), False, self._next_id(), metadata.SerializeToString()
        )

    def _key_values(self, rows: Iterator[tuple[str, bytes]]) -> Iterator[bytes]:
        for key, value in rows:
            yield kv_query_result_pb2.KV(namespace=self.namespace, key=key, value=value).SerializeToString()

    def _rich_query(self, _state: TransactionState, payload: bytes) -> bytes:
        request = _parse(chaincode_shim_pb2.GetQueryResult, payload)
        page = _parse(chaincode_shim_pb2.QueryMetadata, request.metadata)
        if request.collection:
            self._readable(request.collection)
        elif page.pageSize or page.bookmark:
            raise HandlerError("ExecuteQueryWithMetadata not supported for leveldb")
        raise HandlerError("ExecuteQuery not supported for leveldb")

    def _history(self, state: TransactionState, payload: bytes) -> bytes:
        request = _parse(chaincode_shim_pb2.GetHistoryForKey, payload)
        rows = state.history(self.namespace, request.key)
        return self._open(row.SerializeToString() for row in rows)

    def _next_id(self) -> str:
        return f"{self.transaction_id}-{next(self._query_ids)}"

    def _open(self, rows: Iterator[bytes]) -> bytes:
        query_id = self._next_id()
        self._queries[query_id] = _Query(rows)
        return self._batch(query_id)

    def _batch(self, query_id: str) -> bytes:
        try:
            rows, has_more = self._queries[query_id].batch()
        except SimulationError:
            del self._queries[query_id]
            raise
        if not has_more:
            del self._queries[query_id]
        return _query_response(rows, has_more, query_id)

    def _next(self, _state: TransactionState, payload: bytes) -> bytes:
        query_id = _parse(chaincode_shim_pb2.QueryStateNext, payload).id
        if query_id not in self._queries:
            raise HandlerError("query iterator not found")
        return self._batch(query_id)

    def _close_query(self, _state: TransactionState, payload: bytes) -> bytes:
        query_id = _parse(chaincode_shim_pb2.QueryStateClose, payload).id
        self._queries.pop(query_id, None)
        return _query_response([], False, query_id)

    # --- writes ---

    def _put_state(self, state: TransactionState, payload: bytes) -> bytes:
        request = _parse(chaincode_shim_pb2.PutState, payload)
        self._put(state, request.collection, request.key, request.value)
        return b""

    def _put(self, state: TransactionState, collection: str, key: str, value: bytes) -> None:
        if collection:
            self._writable(collection)
            state.set_private(self.namespace, collection, key, value)
        else:
            state.set_state(self.namespace, key, value)

    def _delete_state(self, state: TransactionState, payload: bytes) -> bytes:
        request = _parse(chaincode_shim_pb2.DelState, payload)
        self._delete(state, request.collection, request.key)
        return b""

    def _delete(self, state: TransactionState, collection: str, key: str) -> None:
        if collection:
            self._writable(collection)
            state.delete_private(self.namespace, collection, key)
        else:
            state.delete_state(self.namespace, key)

    def _purge_state(self, state: TransactionState, payload: bytes) -> bytes:
        request = _parse(chaincode_shim_pb2.DelState, payload)
        self._purge(state, request.collection, request.key)
        return b""

    def _purge(self, state: TransactionState, collection: str, key: str) -> None:
        if not collection:
            raise HandlerError("only applicable for private data")
        self._writable(collection)
        state.purge_private(self.namespace, collection, key)

    def _put_metadata(self, state: TransactionState, payload: bytes) -> bytes:
        request = _parse(chaincode_shim_pb2.PutStateMetadata, payload)
        if not request.HasField("metadata"):
            # Fabric dereferences a nil pointer here, recovers and answers this.
            raise HandlerError("panic during execution")
        self._set_metadata(state, request.collection, request.key, request.metadata)
        return b""

    def _set_metadata(
        self, state: TransactionState, collection: str, key: str, metadata: chaincode_shim_pb2.StateMetadata
    ) -> None:
        if collection:
            self._writable(collection)
            state.set_private_metadata(self.namespace, collection, key, {metadata.metakey: metadata.value})
        else:
            state.set_metadata(self.namespace, key, {metadata.metakey: metadata.value})

    def _write_batch(self, state: TransactionState, payload: bytes) -> bytes:
        record = chaincode_shim_pb2.WriteRecord
        for each in _parse(chaincode_shim_pb2.WriteBatchState, payload).rec:
            if each.type == record.PUT_STATE:
                self._put(state, each.collection, each.key, each.value)
            elif each.type == record.DEL_STATE:
                self._delete(state, each.collection, each.key)
            elif each.type == record.PURGE_PRIVATE_DATA:
                self._purge(state, each.collection, each.key)
            elif each.type == record.PUT_STATE_METADATA:
                self._set_metadata(state, each.collection, each.key, each.metadata)
            else:
                raise HandlerError("unknown operation type")
        return b""

    # --- chaincode to chaincode ---

    def _call(self, message: ChaincodeMessage) -> bytes:
        """Run another chaincode. Not under the lock: the callee's own requests take it."""
        with self._scope.lock:
            dead = self._closed or not self._scope.alive
        if dead:
            raise HandlerError("could not get valid transaction")
        spec = _parse(chaincode_pb2.ChaincodeSpec, message.payload)
        if not spec.HasField("chaincode_id"):
            raise HandlerError("panic during execution")
        if self._invoke is None:
            raise HandlerError(f"execute failed: invalid invocation: chaincode {spec.chaincode_id.name} not found")
        return self._invoke(self, spec).SerializeToString()


def type_name(kind: int) -> str:
    """A message type as Go prints it: its name, or the number when it has none."""
    try:
        return ChaincodeMessage.Type.Name(kind)
    except ValueError:
        return str(kind)


def is_request(kind: int) -> bool:
    """Whether a message of this type is a request that a transaction may send to the peer."""
    return kind in _REQUESTS or kind == ChaincodeMessage.INVOKE_CHAINCODE


def unknown_message(message: ChaincodeMessage) -> str:
    """Fabric's words for a message that ends the stream."""
    return (
        f"[{message.txid}] Fabric side handler cannot handle message ({type_name(message.type)}) while in ready state"
    )


def refused(message: ChaincodeMessage) -> ChaincodeMessage:
    """The answer to a request whose transaction is not, or no longer, open."""
    cause = (
        "could not get valid transaction" if message.type == ChaincodeMessage.INVOKE_CHAINCODE else "no ledger context"
    )
    text = f"{type_name(message.type)} failed: transaction ID: {message.txid}: {cause}"
    return ChaincodeMessage(
        type=ChaincodeMessage.ERROR, payload=text.encode(), txid=message.txid, channel_id=message.channel_id
    )


def parse_name(name: str) -> tuple[str, str]:
    """Name and channel of `name[:version][/channel]`; the channel is empty when not given."""
    instance, _, channel = name.partition("/")
    return instance.partition(":")[0], channel


def _parse(kind: type[M], payload: bytes) -> M:
    try:
        return kind.FromString(payload)
    except DecodeError as error:
        raise HandlerError(f"unmarshal failed: {WIRE_FORMAT}") from error


def _query_response(rows: list[bytes], has_more: bool, query_id: str, metadata: bytes = b"") -> bytes:
    results = [chaincode_shim_pb2.QueryResultBytes(resultBytes=row) for row in rows]
    return chaincode_shim_pb2.QueryResponse(
        results=results, has_more=has_more, id=query_id, metadata=metadata
    ).SerializeToString()


_Request = Callable[[TransactionContext, TransactionState, bytes], bytes]


_REQUESTS: Mapping[int, _Request] = {
    ChaincodeMessage.GET_STATE: TransactionContext._get_state,
    ChaincodeMessage.GET_STATE_MULTIPLE: TransactionContext._get_state_multiple,
    ChaincodeMessage.GET_STATE_BY_RANGE: TransactionContext._range,
    ChaincodeMessage.GET_QUERY_RESULT: TransactionContext._rich_query,
    ChaincodeMessage.GET_HISTORY_FOR_KEY: TransactionContext._history,
    ChaincodeMessage.QUERY_STATE_NEXT: TransactionContext._next,
    ChaincodeMessage.QUERY_STATE_CLOSE: TransactionContext._close_query,
    ChaincodeMessage.GET_PRIVATE_DATA_HASH: TransactionContext._get_private_hash,
    ChaincodeMessage.GET_STATE_METADATA: TransactionContext._get_metadata,
    ChaincodeMessage.PUT_STATE: TransactionContext._put_state,
    ChaincodeMessage.DEL_STATE: TransactionContext._delete_state,
    ChaincodeMessage.PURGE_PRIVATE_DATA: TransactionContext._purge_state,
    ChaincodeMessage.PUT_STATE_METADATA: TransactionContext._put_metadata,
    ChaincodeMessage.WRITE_BATCH_STATE: TransactionContext._write_batch,
}
