"""The peer side of the chaincode stream: every request, its batches, and what is refused with which text."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from fabric_protos.ledger.queryresult import kv_query_result_pb2
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2
from google.protobuf.message import Message

from network.embedded.handler import (
    Access,
    HandlerError,
    TransactionContext,
    UnknownMessage,
    parse_name,
    refused,
)
from network.embedded.simulator import Simulator
from tests.network.embedded.ground import LEDGER, Ground

M = chaincode_shim_pb2.ChaincodeMessage
WIRE = "unmarshal failed: proto: cannot parse invalid wire-format data"
PRIVATE = "_implicit_org_CoreMSP"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("home"), (LEDGER,))
    made.define()
    assert made.submit(made.propose("ledger", "fill", "row", "250")) == [0]
    assert made.submit(made.propose("ledger", "put", "key", "one")) == [0]
    assert made.submit(made.propose("ledger", "put", "key", "two")) == [0]
    assert made.submit(made.propose("ledger", "delete", "key")) == [0]
    assert made.submit(made.propose("ledger", "guard", "row0001", "BankMSP")) == [0]
    secret = made.propose("ledger", "secret", PRIVATE, "hidden", transient={"value": b"plain"})
    assert made.submit(secret, ("core", "warehouse", "bank")) == [0]
    yield made
    made.close()


@dataclass
class Talk:
    """One transaction's end of the stream."""

    context: TransactionContext
    simulator: Simulator

    def raw(self, kind: int, payload: bytes = b"") -> M:
        answer = self.context.handle(M(type=kind, payload=payload, txid="T", channel_id="scf"))
        assert (answer.txid, answer.channel_id) == ("T", "scf")
        return answer

    def ask(self, kind: int, request: Message) -> bytes:
        answer = self.raw(kind, request.SerializeToString())
        assert answer.type == M.RESPONSE, answer.payload
        return answer.payload

    def error(self, kind: int, request: Message | bytes = b"") -> str:
        payload = request if isinstance(request, bytes) else request.SerializeToString()
        answer = self.raw(kind, payload)
        assert answer.type == M.ERROR
        return answer.payload.decode()


@pytest.fixture
def open_talk(ground: Ground) -> Iterator[Callable[..., Talk]]:
    with ground.ledger.snapshot() as snapshot:

        def make(msp_id: str = "CoreMSP", **extra: object) -> Talk:
            simulator = Simulator(snapshot, msp_id, "T")
            context = TransactionContext(
                simulator,
                "ledger",
                channel_id="scf",
                transaction_id="T",
                **extra,  # type: ignore[arg-type]
            )
            return Talk(context, simulator)

        yield make


Make = Callable[..., Talk]


# --- reads ---


def test_get_state_answers_the_committed_value_and_nothing_when_absent(open_talk: Make) -> None:
    talk = open_talk()
    assert talk.ask(M.GET_STATE, chaincode_shim_pb2.GetState(key="row0007")) == b"7"
    assert talk.ask(M.GET_STATE, chaincode_shim_pb2.GetState(key="none")) == b""
    talk.ask(M.PUT_STATE, chaincode_shim_pb2.PutState(key="row0007", value=b"new"))
    assert talk.ask(M.GET_STATE, chaincode_shim_pb2.GetState(key="row0007")) == b"7"


def test_get_state_multiple_keeps_the_order(open_talk: Make) -> None:
    payload = open_talk().ask(
        M.GET_STATE_MULTIPLE, chaincode_shim_pb2.GetStateMultiple(keys=["row0002", "none", "row0001"])
    )
    assert list(chaincode_shim_pb2.GetStateMultipleResult.FromString(payload).values) == [b"2", b"", b"1"]


def test_private_reads(open_talk: Make) -> None:
    talk = open_talk()
    assert talk.ask(M.GET_STATE, chaincode_shim_pb2.GetState(key="hidden", collection=PRIVATE)) == b"plain"
    request = chaincode_shim_pb2.GetStateMultiple(keys=["hidden", "none"], collection=PRIVATE)
    payload = talk.ask(M.GET_STATE_MULTIPLE, request)
    assert list(chaincode_shim_pb2.GetStateMultipleResult.FromString(payload).values) == [b"plain", b""]
    digest = talk.ask(M.GET_PRIVATE_DATA_HASH, chaincode_shim_pb2.GetState(key="hidden", collection=PRIVATE))
    assert len(digest) == 32
    other = open_talk("BankMSP")
    assert other.ask(M.GET_PRIVATE_DATA_HASH, chaincode_shim_pb2.GetState(key="hidden", collection=PRIVATE)) == digest
    text = other.error(M.GET_STATE, chaincode_shim_pb2.GetState(key="hidden", collection=PRIVATE))
    assert text.startswith(
        "GET_STATE failed: transaction ID: T: private data matching public hash version is not available."
    )


def test_metadata_is_read_by_name(open_talk: Make) -> None:
    payload = open_talk().ask(M.GET_STATE_METADATA, chaincode_shim_pb2.GetStateMetadata(key="row0001"))
    entries = chaincode_shim_pb2.StateMetadataResult.FromString(payload).entries
    assert [entry.metakey for entry in entries] == ["VALIDATION_PARAMETER"]
    payload = open_talk().ask(M.GET_STATE_METADATA, chaincode_shim_pb2.GetStateMetadata(key="row0002"))
    assert payload == b""


def test_private_metadata_round_trip_is_accepted(open_talk: Make) -> None:
    talk = open_talk()
    entry = chaincode_shim_pb2.StateMetadata(metakey="VALIDATION_PARAMETER", value=b"policy")
    request = chaincode_shim_pb2.PutStateMetadata(key="hidden", collection=PRIVATE, metadata=entry)
    assert talk.ask(M.PUT_STATE_METADATA, request) == b""
    read = chaincode_shim_pb2.GetStateMetadata(key="hidden", collection=PRIVATE)
    assert talk.ask(M.GET_STATE_METADATA, read) == b""


# --- queries ---


def rows_of(payload: bytes) -> tuple[chaincode_shim_pb2.QueryResponse, list[tuple[str, str, bytes]]]:
    response = chaincode_shim_pb2.QueryResponse.FromString(payload)
    found = [kv_query_result_pb2.KV.FromString(row.resultBytes) for row in response.results]
    return response, [(row.namespace, row.key, row.value) for row in found]


def test_a_range_comes_in_batches_of_100(open_talk: Make) -> None:
    talk = open_talk()
    payload = talk.ask(M.GET_STATE_BY_RANGE, chaincode_shim_pb2.GetStateByRange(startKey="row", endKey="rox"))
    sizes, keys = [], []
    while True:
        response, rows = rows_of(payload)
        sizes.append((len(rows), response.has_more))
        keys.extend(key for _, key, _ in rows)
        if not response.has_more:
            break
        payload = talk.ask(M.QUERY_STATE_NEXT, chaincode_shim_pb2.QueryStateNext(id=response.id))
    assert sizes == [(100, True), (100, True), (50, False)]
    assert keys == [f"row{number:04d}" for number in range(250)]
    text = talk.error(M.QUERY_STATE_NEXT, chaincode_shim_pb2.QueryStateNext(id=response.id))
    assert text == "QUERY_STATE_NEXT failed: transaction ID: T: query iterator not found"


def test_exactly_100_rows_are_one_batch(open_talk: Make) -> None:
    request = chaincode_shim_pb2.GetStateByRange(startKey="row", endKey="row0100")
    response, rows = rows_of(open_talk().ask(M.GET_STATE_BY_RANGE, request))
    assert (len(rows), response.has_more) == (100, False)


def test_a_closed_range_is_gone_and_closing_twice_is_no_error(open_talk: Make) -> None:
    talk = open_talk()
    payload = talk.ask(M.GET_STATE_BY_RANGE, chaincode_shim_pb2.GetStateByRange(startKey="row", endKey="rox"))
    query_id = chaincode_shim_pb2.QueryResponse.FromString(payload).id
    for _ in range(2):
        answer = talk.ask(M.QUERY_STATE_CLOSE, chaincode_shim_pb2.QueryStateClose(id=query_id))
        response = chaincode_shim_pb2.QueryResponse.FromString(answer)
        assert (response.id, response.has_more) == (query_id, False)
    assert "query iterator not found" in talk.error(M.QUERY_STATE_NEXT, chaincode_shim_pb2.QueryStateNext(id=query_id))


def test_a_page_is_one_answer_with_count_and_bookmark(open_talk: Make) -> None:
    talk = open_talk()

    def page(size: int, bookmark: str = "") -> tuple[list[str], int, str, bool]:
        metadata = chaincode_shim_pb2.QueryMetadata(pageSize=size, bookmark=bookmark).SerializeToString()
        request = chaincode_shim_pb2.GetStateByRange(startKey="row", endKey="rox", metadata=metadata)
        response, rows = rows_of(talk.ask(M.GET_STATE_BY_RANGE, request))
        about = chaincode_shim_pb2.QueryResponseMetadata.FromString(response.metadata)
        return [key for _, key, _ in rows], about.fetched_records_count, about.bookmark, response.has_more

    keys, count, bookmark, has_more = page(120)
    assert (len(keys), count, bookmark, has_more) == (120, 120, "row0120", False)
    keys, count, bookmark, _ = page(200, bookmark)
    assert (keys[0], count, bookmark) == ("row0120", 130, "")
    text = talk.error(M.PUT_STATE, chaincode_shim_pb2.PutState(key="k", value=b"v"))
    assert text == (
        "PUT_STATE failed: transaction ID: T: txid [T]: unsuppored transaction. "
        "Transaction has already performed a paginated query. Writes are not allowed"
    )


def test_rich_queries_are_not_for_this_state_database(open_talk: Make) -> None:
    talk = open_talk()
    page = chaincode_shim_pb2.QueryMetadata(pageSize=5).SerializeToString()
    assert talk.error(M.GET_QUERY_RESULT, chaincode_shim_pb2.GetQueryResult(query="{}")) == (
        "GET_QUERY_RESULT failed: transaction ID: T: ExecuteQuery not supported for leveldb"
    )
    assert talk.error(M.GET_QUERY_RESULT, chaincode_shim_pb2.GetQueryResult(query="{}", metadata=page)) == (
        "GET_QUERY_RESULT failed: transaction ID: T: ExecuteQueryWithMetadata not supported for leveldb"
    )


def test_history_is_newest_first(open_talk: Make) -> None:
    payload = open_talk().ask(M.GET_HISTORY_FOR_KEY, chaincode_shim_pb2.GetHistoryForKey(key="key"))
    response = chaincode_shim_pb2.QueryResponse.FromString(payload)
    found = [kv_query_result_pb2.KeyModification.FromString(row.resultBytes) for row in response.results]
    assert [(row.value, row.is_delete) for row in found] == [(b"", True), (b"two", False), (b"one", False)]
    assert all(len(row.tx_id) == 64 and row.timestamp.seconds for row in found)


def test_private_range(open_talk: Make) -> None:
    talk = open_talk()
    request = chaincode_shim_pb2.GetStateByRange(startKey="", endKey="", collection=PRIVATE)
    assert rows_of(talk.ask(M.GET_STATE_BY_RANGE, request))[1] == [("ledger", "hidden", b"plain")]
    assert "queries on pvt data. Writes are not allowed" in talk.error(
        M.PUT_STATE, chaincode_shim_pb2.PutState(key="k", value=b"v")
    )


# --- writes ---


def test_a_write_batch_is_applied_in_order(open_talk: Make) -> None:
    record = chaincode_shim_pb2.WriteRecord
    entry = chaincode_shim_pb2.StateMetadata(metakey="VALIDATION_PARAMETER", value=b"policy")
    batch = chaincode_shim_pb2.WriteBatchState(
        rec=[
            record(type=record.PUT_STATE, key="a", value=b"1"),
            record(type=record.PUT_STATE, key="a", value=b"2"),
            record(type=record.DEL_STATE, key="b"),
            record(type=record.PUT_STATE_METADATA, key="a", metadata=entry),
            record(type=record.PUT_STATE, key="p", value=b"3", collection=PRIVATE),
            record(type=record.PURGE_PRIVATE_DATA, key="q", collection=PRIVATE),
        ]
    )
    by_batch, one_by_one = open_talk(), open_talk()
    assert by_batch.ask(M.WRITE_BATCH_STATE, batch) == b""
    one_by_one.ask(M.PUT_STATE, chaincode_shim_pb2.PutState(key="a", value=b"2"))
    one_by_one.ask(M.DEL_STATE, chaincode_shim_pb2.DelState(key="b"))
    one_by_one.ask(M.PUT_STATE_METADATA, chaincode_shim_pb2.PutStateMetadata(key="a", metadata=entry))
    one_by_one.ask(M.PUT_STATE, chaincode_shim_pb2.PutState(key="p", value=b"3", collection=PRIVATE))
    one_by_one.ask(M.PURGE_PRIVATE_DATA, chaincode_shim_pb2.DelState(key="q", collection=PRIVATE))
    first, second = by_batch.simulator.result(), one_by_one.simulator.result()
    assert (first.public, first.private) == (second.public, second.private)


def test_private_delete(open_talk: Make) -> None:
    deleted, emptied = open_talk(), open_talk()
    deleted.ask(M.DEL_STATE, chaincode_shim_pb2.DelState(key="hidden", collection=PRIVATE))
    emptied.ask(M.PUT_STATE, chaincode_shim_pb2.PutState(key="hidden", collection=PRIVATE))
    assert deleted.simulator.result() == emptied.simulator.result()


def test_what_fabric_refuses_about_writes(open_talk: Make) -> None:
    talk = open_talk()
    unknown = chaincode_shim_pb2.WriteBatchState(rec=[chaincode_shim_pb2.WriteRecord(key="k")])
    assert talk.error(M.WRITE_BATCH_STATE, unknown) == (
        "WRITE_BATCH_STATE failed: transaction ID: T: unknown operation type"
    )
    assert talk.error(M.PURGE_PRIVATE_DATA, chaincode_shim_pb2.DelState(key="k")) == (
        "PURGE_PRIVATE_DATA failed: transaction ID: T: only applicable for private data"
    )
    assert talk.error(M.PUT_STATE_METADATA, chaincode_shim_pb2.PutStateMetadata(key="k")) == (
        "PUT_STATE_METADATA failed: transaction ID: T: panic during execution"
    )


REQUESTS = [
    "PUT_STATE",
    "DEL_STATE",
    "GET_STATE",
    "GET_STATE_MULTIPLE",
    "GET_STATE_BY_RANGE",
    "GET_QUERY_RESULT",
    "GET_HISTORY_FOR_KEY",
    "QUERY_STATE_NEXT",
    "QUERY_STATE_CLOSE",
    "GET_PRIVATE_DATA_HASH",
    "GET_STATE_METADATA",
    "PUT_STATE_METADATA",
    "PURGE_PRIVATE_DATA",
    "WRITE_BATCH_STATE",
    "INVOKE_CHAINCODE",
]


@pytest.mark.parametrize("name", REQUESTS)
def test_every_request_is_known_and_refuses_unreadable_bytes(open_talk: Make, name: str) -> None:
    kind = M.Type.Value(name)
    assert open_talk().error(kind, b"\xff\xff") == f"{name} failed: transaction ID: T: {WIRE}"


@pytest.mark.parametrize("name", REQUESTS)
def test_every_request_after_the_end_has_no_ledger_context(open_talk: Make, name: str) -> None:
    talk = open_talk()
    talk.context.close()
    cause = "could not get valid transaction" if name == "INVOKE_CHAINCODE" else "no ledger context"
    text = f"{name} failed: transaction ID: T: {cause}"
    assert talk.error(M.Type.Value(name)) == text
    assert refused(M(type=M.Type.Value(name), txid="T")).payload.decode() == text


@pytest.mark.parametrize("name", ["REGISTER", "READY", "TRANSACTION", "RESPONSE", "COMPLETED", "KEEPALIVE"])
def test_what_is_no_request_is_refused(open_talk: Make, name: str) -> None:
    with pytest.raises(UnknownMessage, match=rf"cannot handle message \({name}\) while in ready state"):
        open_talk().raw(M.Type.Value(name))


# --- collections ---

SECRET = "shared"
READS: list[tuple[int, Message]] = [
    (M.GET_STATE, chaincode_shim_pb2.GetState(key="k", collection=SECRET)),
    (M.GET_STATE_MULTIPLE, chaincode_shim_pb2.GetStateMultiple(keys=["k"], collection=SECRET)),
    (M.GET_STATE_BY_RANGE, chaincode_shim_pb2.GetStateByRange(collection=SECRET)),
    (M.GET_QUERY_RESULT, chaincode_shim_pb2.GetQueryResult(query="{}", collection=SECRET)),
    (M.GET_STATE_METADATA, chaincode_shim_pb2.GetStateMetadata(key="k", collection=SECRET)),
]
WRITES: list[tuple[int, Message]] = [
    (M.PUT_STATE, chaincode_shim_pb2.PutState(key="k", value=b"v", collection=SECRET)),
    (M.DEL_STATE, chaincode_shim_pb2.DelState(key="k", collection=SECRET)),
    (M.PURGE_PRIVATE_DATA, chaincode_shim_pb2.DelState(key="k", collection=SECRET)),
    (
        M.PUT_STATE_METADATA,
        chaincode_shim_pb2.PutStateMetadata(
            key="k", collection=SECRET, metadata=chaincode_shim_pb2.StateMetadata(metakey="m")
        ),
    ),
]


@pytest.mark.parametrize(("kind", "request_"), READS)
def test_reads_need_read_access(open_talk: Make, kind: int, request_: Message) -> None:
    talk = open_talk(access=lambda *_: Access(read=False, write=True))
    assert talk.error(kind, request_).endswith(
        "tx creator does not have read access permission on privatedata in chaincodeName:ledger collectionName: shared"
    )


@pytest.mark.parametrize(("kind", "request_"), WRITES)
def test_writes_need_write_access(open_talk: Make, kind: int, request_: Message) -> None:
    talk = open_talk(access=lambda *_: Access(read=True, write=False))
    assert talk.error(kind, request_).endswith(
        "tx creator does not have write access permission on privatedata in chaincodeName:ledger collectionName: shared"
    )


@pytest.mark.parametrize(("kind", "request_"), READS + WRITES)
def test_private_data_is_closed_to_an_init(open_talk: Make, kind: int, request_: Message) -> None:
    text = open_talk(is_init=True).error(kind, request_)
    assert text.endswith("private data APIs are not allowed in chaincode Init()")


def test_access_is_looked_up_once_per_collection(open_talk: Make) -> None:
    asked = []

    def access(namespace: str, collection: str) -> Access:
        asked.append((namespace, collection))
        return Access(read=True, write=True)

    talk = open_talk(access=access)
    for _ in range(3):
        talk.ask(M.GET_STATE, chaincode_shim_pb2.GetState(key="hidden", collection=PRIVATE))
    assert asked == [("ledger", PRIVATE)]


# --- chaincode to chaincode ---


def test_a_call_shares_the_simulator_and_returns_the_whole_message(open_talk: Make) -> None:
    seen: list[TransactionContext] = []

    def invoke(context: TransactionContext, spec: chaincode_pb2.ChaincodeSpec) -> M:
        inner = TransactionContext(
            context.simulator, spec.chaincode_id.name, channel_id="scf", transaction_id="T", parent=context
        )
        seen.append(inner)
        request = chaincode_shim_pb2.PutState(key="k", value=b"v").SerializeToString()
        inner.handle(M(type=M.PUT_STATE, payload=request, txid="T", channel_id="scf"))
        return M(type=M.COMPLETED, payload=b"inner")

    talk = open_talk(invoke=invoke)
    spec = chaincode_pb2.ChaincodeSpec(chaincode_id=chaincode_pb2.ChaincodeID(name="other"))
    assert M.FromString(talk.ask(M.INVOKE_CHAINCODE, spec)).payload == b"inner"
    talk.context.close()
    late = seen[0].handle(M(type=M.GET_STATE, txid="T", channel_id="scf"))
    assert late.payload == b"GET_STATE failed: transaction ID: T: no ledger context"
    assert "other" in [namespace for namespace, _ in talk.simulator.result().touched]


def test_ending_a_called_chaincode_leaves_its_caller_open(open_talk: Make) -> None:
    talk = open_talk()
    inner = TransactionContext(talk.simulator, "other", channel_id="scf", transaction_id="T", parent=talk.context)
    inner.close()
    assert talk.ask(M.GET_STATE, chaincode_shim_pb2.GetState(key="row0001")) == b"1"


def test_a_refused_call_is_an_error(open_talk: Make) -> None:
    def invoke(_context: TransactionContext, _spec: chaincode_pb2.ChaincodeSpec) -> M:
        raise HandlerError("execute failed: because")

    spec = chaincode_pb2.ChaincodeSpec(chaincode_id=chaincode_pb2.ChaincodeID(name="other"))
    text = open_talk(invoke=invoke).error(M.INVOKE_CHAINCODE, spec)
    assert text == "INVOKE_CHAINCODE failed: transaction ID: T: execute failed: because"
    nameless = open_talk(invoke=invoke).error(M.INVOKE_CHAINCODE, chaincode_pb2.ChaincodeSpec())
    assert nameless == "INVOKE_CHAINCODE failed: transaction ID: T: panic during execution"


def test_closing_waits_for_the_request_that_is_being_answered(open_talk: Make) -> None:
    """A simulator must be free when its transaction has timed out: the snapshot is given back then."""
    entered, leave = threading.Event(), threading.Event()

    def access(_namespace: str, _collection: str) -> Access:
        entered.set()
        assert leave.wait(5)
        return Access(read=True, write=True)

    talk = open_talk(access=access)
    request = chaincode_shim_pb2.GetState(key="hidden", collection=PRIVATE)
    asking = threading.Thread(target=talk.ask, args=(M.GET_STATE, request))
    asking.start()
    assert entered.wait(5)
    closing = threading.Thread(target=talk.context.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    leave.set()
    closing.join(5)
    asking.join(5)
    assert not closing.is_alive() and not asking.is_alive()


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("cc", ("cc", "")),
        ("cc:1.0", ("cc", "")),
        ("cc/scf", ("cc", "scf")),
        ("cc:1.0/scf", ("cc", "scf")),
        ("cc/a/b", ("cc", "a/b")),
        ("", ("", "")),
    ],
)
def test_names_of_called_chaincodes(name: str, parsed: tuple[str, str]) -> None:
    assert parse_name(name) == parsed
