"""The calls of a transaction: what goes to the peer, what is kept, what is refused before the peer sees it."""

import threading
from collections.abc import Callable

import pytest
from fabric_protos.ledger.queryresult.kv_query_result_pb2 import KV, KeyModification
from fabric_protos.peer import chaincode_shim_pb2 as shim
from fabric_protos.peer.chaincode_pb2 import ChaincodeSpec
from fabric_protos.peer.proposal_response_pb2 import Response as PeerResponse

from chaincode.shim import keys
from chaincode.shim.errors import (
    CallRefused,
    DeadlineExceeded,
    KeyRefused,
    PeerError,
    RangeLimitExceeded,
    StreamLost,
    StubError,
    ValueRefused,
    WriteRefused,
)
from chaincode.shim.policy import all_of
from chaincode.shim.stub import (
    DEFAULT_LIMITS,
    STOCK_PEER,
    ChaincodeMessage,
    Exchange,
    HistoryEntry,
    Limits,
    Mode,
    PeerSettings,
    Transaction,
)
from chaincode.shim.testing.exchange import Script, StateExchange, error, transaction

M = ChaincodeMessage
W = shim.WriteRecord


def open_transaction(
    exchange: Exchange,
    settings: PeerSettings = STOCK_PEER,
    limits: Limits = DEFAULT_LIMITS,
    deadline: float | None = None,
) -> Transaction:
    return Transaction(
        transaction("f"), exchange, msp_id="Org1MSP", settings=settings, limits=limits, deadline=deadline
    )


def rows(count: int, first: int = 0, *, more: bool = False) -> shim.QueryResponse:
    results = [
        shim.QueryResultBytes(resultBytes=KV(key=f"k{number}", value=b"v").SerializeToString())
        for number in range(first, first + count)
    ]
    return shim.QueryResponse(results=results, has_more=more, id="q1")


def test_reads_go_to_the_peer_and_empty_means_absent() -> None:
    script = Script((M.GET_STATE, b"value"), (M.GET_STATE, b""), (M.GET_PRIVATE_DATA_HASH, b"hash"))
    tx = open_transaction(script)
    assert (tx.get_state("k"), tx.get_state("other")) == (b"value", None)
    assert tx.get_private_data_hash("c", "k") == b"hash"
    script.finish()
    asked = shim.GetState.FromString(script.requests[2].payload)
    assert (asked.collection, asked.key) == ("c", "k")
    assert {(request.txid, request.channel_id) for request in script.requests} == {(tx.transaction_id, "channel")}


def test_several_keys_are_one_message_in_order() -> None:
    script = Script((M.GET_STATE_MULTIPLE, shim.GetStateMultipleResult(values=[b"1", b"", b"3"])))
    assert open_transaction(script).get_multiple_states(["a", "b", "c"]) == [b"1", None, b"3"]


def test_several_keys_are_cut_at_the_peers_size() -> None:
    two = shim.GetStateMultipleResult(values=[b"1", b"2"])
    script = Script((M.GET_STATE_MULTIPLE, two), (M.GET_STATE_MULTIPLE, two))
    tx = open_transaction(script, PeerSettings(max_size_get_multiple_keys=2))
    assert tx.get_multiple_private_data("c", list("abcd")) == [b"1", b"2"] * 2


@pytest.mark.parametrize("names", [["a"], []])
def test_one_key_or_none_needs_no_batch(names: list[str]) -> None:
    script = Script(*[(M.GET_STATE, b"v")] * len(names))
    assert open_transaction(script).get_multiple_states(names) == [b"v"] * len(names)
    script.finish()


def test_a_peer_without_batches_is_asked_one_by_one() -> None:
    script = Script(*[(M.GET_STATE, b"v")] * 3)
    tx = open_transaction(script, PeerSettings(use_get_multiple_keys=False))
    assert tx.get_multiple_states(list("abc")) == [b"v"] * 3


@pytest.mark.parametrize("values", [[], [b"1"], [b"1", b"2", b"3"]])
def test_another_number_of_values_than_keys_is_a_peer_error(values: list[bytes]) -> None:
    script = Script((M.GET_STATE_MULTIPLE, shim.GetStateMultipleResult(values=values)))
    with pytest.raises(PeerError, match="another number"):
        open_transaction(script).get_multiple_states(["a", "b"])


def test_writes_wait_for_the_flush_and_the_last_one_of_a_key_wins() -> None:
    script = Script((M.WRITE_BATCH_STATE, b""))
    tx = open_transaction(script)
    tx.put_state("a", b"1")
    tx.put_state("a", b"2")
    tx.put_private_data("c", "a", b"secret")
    tx.set_state_validation_parameter("a", all_of("AMSP"))
    tx.delete_state("b")
    tx.purge_private_data("c", "b")
    assert script.requests == []
    tx.flush()
    batch = shim.WriteBatchState.FromString(script.requests[0].payload)
    assert [(record.type, record.collection, record.key, record.value) for record in batch.rec] == [
        (W.PUT_STATE, "", "a", b"2"),
        (W.PUT_STATE, "c", "a", b"secret"),
        (W.PUT_STATE_METADATA, "", "a", b""),
        (W.DEL_STATE, "", "b", b""),
        (W.PURGE_PRIVATE_DATA, "c", "b", b""),
    ]
    assert batch.rec[2].metadata == shim.StateMetadata(metakey="VALIDATION_PARAMETER", value=all_of("AMSP").envelope())


def test_a_batch_is_cut_at_the_peers_size() -> None:
    script = Script((M.WRITE_BATCH_STATE, b""), (M.WRITE_BATCH_STATE, b""))
    tx = open_transaction(script, PeerSettings(max_size_write_batch=2))
    for name in "abc":
        tx.put_state(name, b"1")
    tx.flush()
    assert [len(shim.WriteBatchState.FromString(request.payload).rec) for request in script.requests] == [2, 1]


def test_a_peer_without_batches_gets_single_writes_at_the_flush() -> None:
    script = Script((M.PUT_STATE, b""), (M.PUT_STATE_METADATA, b""), (M.DEL_STATE, b""), (M.PURGE_PRIVATE_DATA, b""))
    tx = open_transaction(script, PeerSettings(use_write_batch=False))
    tx.put_state("a", b"1")
    tx.set_private_data_validation_parameter("c", "a", b"")
    tx.delete_private_data("c", "b")
    tx.purge_private_data("c", "d")
    tx.flush()
    put = shim.PutState.FromString(script.requests[0].payload)
    rule = shim.PutStateMetadata.FromString(script.requests[1].payload)
    purged = shim.PurgePrivateState.FromString(script.requests[3].payload)
    assert (put.key, put.value) == ("a", b"1")
    assert (rule.collection, rule.key, rule.metadata.metakey) == ("c", "a", "VALIDATION_PARAMETER")
    assert (purged.collection, purged.key) == ("c", "d")


def test_no_writes_need_no_message() -> None:
    open_transaction(Script()).flush()


def test_the_rule_of_a_key_is_read_from_its_metadata() -> None:
    entries = [
        shim.StateMetadata(metakey="OTHER", value=b"x"),
        shim.StateMetadata(metakey="VALIDATION_PARAMETER", value=b"r"),
    ]
    script = Script((M.GET_STATE_METADATA, shim.StateMetadataResult(entries=entries)), (M.GET_STATE_METADATA, b""))
    tx = open_transaction(script)
    assert tx.get_state_validation_parameter("a") == b"r"
    assert tx.get_private_data_validation_parameter("c", "a") is None


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda tx: tx.get_state(""), KeyRefused),
        (lambda tx: tx.get_multiple_states(["a", "\ud800"]), KeyRefused),
        (lambda tx: tx.put_state("", b"v"), KeyRefused),
        (lambda tx: tx.put_state("\x00k", b"v"), KeyRefused),
        (lambda tx: tx.delete_state("\x00k"), KeyRefused),
        (lambda tx: tx.set_state_validation_parameter("", b""), KeyRefused),
        (lambda tx: tx.get_state_validation_parameter(""), KeyRefused),
        (lambda tx: tx.get_history_for_key(""), KeyRefused),
        (lambda tx: tx.get_state_by_range("\x00", ""), KeyRefused),
        (lambda tx: tx.put_state("k", b""), ValueRefused),
        (lambda tx: tx.put_private_data("c", "k", b""), ValueRefused),
        (lambda tx: tx.put_state("k", bytes(64 * 1024 + 1)), ValueRefused),
        (lambda tx: tx.put_private_data("", "k", b"v"), ValueRefused),
        (lambda tx: tx.get_private_data("", "k"), ValueRefused),
        (lambda tx: tx.set_event("", b"v"), ValueRefused),
        (lambda tx: tx.get_state_by_range_with_pagination("", "", 0), RangeLimitExceeded),
    ],
)
def test_what_the_stub_refuses_never_reaches_the_peer(
    call: Callable[[Transaction], object], refusal: type[StubError]
) -> None:
    tx = open_transaction(Script())
    with pytest.raises(refusal):
        call(tx)
    tx.flush()


def test_the_largest_value_passes_and_the_limit_is_a_setting() -> None:
    open_transaction(Script()).put_state("k", bytes(64 * 1024))
    with pytest.raises(ValueRefused, match="10 bytes"):
        open_transaction(Script(), limits=Limits(value_bytes=10)).put_state("k", bytes(11))


def test_composite_keys_are_keys() -> None:
    tx = open_transaction(Script((M.GET_STATE, b"v")))
    key = tx.create_composite_key("voucher", ["V-1"])
    assert tx.get_state(key) == b"v"
    assert tx.split_composite_key(key) == ("voucher", ["V-1"])


def test_a_range_is_fetched_in_batches_and_closed_by_the_peer_at_its_end() -> None:
    script = Script((M.GET_STATE_BY_RANGE, rows(2, more=True)), (M.QUERY_STATE_NEXT, rows(1, 2)))
    with open_transaction(script).get_state_by_range("", "z") as found:
        assert [key for key, _ in found] == ["k0", "k1", "k2"]
    script.finish()
    asked = shim.GetStateByRange.FromString(script.requests[0].payload)
    assert (asked.startKey, asked.endKey, asked.metadata) == ("\x01", "z", b"")


def test_a_range_left_early_is_closed_at_the_peer() -> None:
    script = Script((M.GET_STATE_BY_RANGE, rows(2, more=True)), (M.QUERY_STATE_CLOSE, b""))
    with open_transaction(script).get_state_by_partial_composite_key("voucher", ["A"]) as found:
        assert next(iter(found)) == ("k0", b"v")
    script.finish()
    assert shim.QueryStateClose.FromString(script.requests[1].payload).id == "q1"


def test_a_range_is_closed_when_the_contract_fails_inside() -> None:
    script = Script((M.GET_STATE_BY_RANGE, rows(2, more=True)), (M.QUERY_STATE_CLOSE, b""))
    with pytest.raises(ZeroDivisionError), open_transaction(script).get_state_by_range("", ""):
        raise ZeroDivisionError
    script.finish()


def test_a_range_beyond_its_limit_raises_and_never_just_ends() -> None:
    exchange = StateExchange({("", f"k{number:04}"): b"v" for number in range(250)})
    tx = open_transaction(exchange)
    with tx.get_state_by_range("", "", limit=250) as found:
        assert len(list(found)) == 250
    assert exchange.requests == ["GET_STATE_BY_RANGE", "QUERY_STATE_NEXT", "QUERY_STATE_NEXT"]
    with pytest.raises(RangeLimitExceeded, match="249"), tx.get_state_by_range("", "", limit=249) as found:
        list(found)
    small = open_transaction(exchange, limits=Limits(range_rows=10))
    with pytest.raises(RangeLimitExceeded, match="than 10 rows"), small.get_state_by_range("", "", limit=100) as found:
        list(found)


def test_a_range_is_read_once_and_only_inside_its_block() -> None:
    script = Script((M.GET_STATE_BY_RANGE, rows(1)))
    found = open_transaction(script).get_state_by_range("", "")
    with pytest.raises(CallRefused, match="with"):
        next(iter(found))
    with found:
        pass
    with pytest.raises(CallRefused, match="once"), found:
        pass


def test_a_list_goes_on_after_a_key() -> None:
    exchange = StateExchange({("", keys.composite("t", [name])): b"v" for name in "abc"})
    tx = open_transaction(exchange)
    with tx.get_state_by_partial_composite_key("t", after=keys.composite("t", ["a"])) as found:
        assert [keys.split(key)[1] for key, _ in found] == [["b"], ["c"]]


def test_a_page_ends_with_the_bookmark_of_the_next() -> None:
    tx = open_transaction(StateExchange({("", name): b"v" for name in "abcde"}))
    page = tx.get_state_by_range_with_pagination("", "", 2)
    assert ([key for key, _ in page.rows], page.bookmark) == (["a", "b"], "c")
    page = tx.get_state_by_range_with_pagination("", "", 3, page.bookmark)
    assert ([key for key, _ in page.rows], page.bookmark) == (["c", "d", "e"], "")


@pytest.mark.parametrize(
    "read",
    [
        lambda tx: tx.get_state_by_range_with_pagination("", "", 2),
        lambda tx: tx.get_state_by_partial_composite_key_with_pagination("t", [], 2),
        lambda tx: tx.get_private_data_by_range("c", "", ""),
        lambda tx: tx.get_private_data_by_partial_composite_key("c", "t"),
    ],
)
def test_an_unprotected_read_and_a_write_exclude_each_other(read: Callable[[Transaction], object]) -> None:
    tx = open_transaction(StateExchange())
    read(tx)
    with pytest.raises(WriteRefused, match="after"):
        tx.put_state("k", b"v")
    tx = open_transaction(StateExchange())
    tx.delete_state("k")
    with pytest.raises(WriteRefused, match="after a write"):
        read(tx)


def test_history_is_newest_first_and_for_queries_only() -> None:
    changes = [KeyModification(tx_id="t2", is_delete=True), KeyModification(tx_id="t1", value=b"v")]
    changes[1].timestamp.seconds = 7
    results = [shim.QueryResultBytes(resultBytes=change.SerializeToString()) for change in changes]
    tx = open_transaction(Script((M.GET_HISTORY_FOR_KEY, shim.QueryResponse(results=results))))
    tx.mode = Mode.QUERY
    with tx.get_history_for_key("k") as found:
        assert list(found) == [HistoryEntry("t2", None, (0, 0), True), HistoryEntry("t1", b"v", (7, 0), False)]  # type: ignore[arg-type]
    tx.mode = Mode.SUBMIT
    with pytest.raises(CallRefused, match="query"):
        tx.get_history_for_key("k")


def test_a_query_refuses_writes_and_events() -> None:
    tx = open_transaction(Script())
    tx.mode = Mode.QUERY
    calls: list[Callable[[], object]] = [
        lambda: tx.put_state("k", b"v"),
        lambda: tx.delete_state("k"),
        lambda: tx.set_state_validation_parameter("k", b""),
        lambda: tx.purge_private_data("c", "k"),
        lambda: tx.set_event("e", b""),
    ]
    for write in calls:
        with pytest.raises(WriteRefused):
            write()
    tx.flush()
    assert tx.event is None


def test_the_last_event_wins() -> None:
    tx = open_transaction(Script())
    tx.set_event("first", b"1")
    tx.set_event("second", b"2")
    assert tx.event is not None
    assert (tx.event.event_name, tx.event.payload) == ("second", b"2")


def test_a_called_chaincodes_refusal_is_its_response() -> None:
    refused = PeerResponse(status=409, message="CONFLICT busy: later")
    completed = M(type=M.COMPLETED, payload=refused.SerializeToString())
    script = Script(
        (M.INVOKE_CHAINCODE, completed.SerializeToString()), (M.INVOKE_CHAINCODE, completed.SerializeToString())
    )
    tx = open_transaction(script)
    assert tx.invoke_chaincode("account", [b"account:post", b"{}"]) == (409, "CONFLICT busy: later", b"")
    tx.invoke_chaincode("account", [], "other")
    specs = [ChaincodeSpec.FromString(request.payload) for request in script.requests]
    assert [spec.chaincode_id.name for spec in specs] == ["account", "account/other"]
    assert list(specs[0].input.args) == [b"account:post", b"{}"]


@pytest.mark.parametrize(
    "reply",
    [
        M(type=M.ERROR, payload=b"no ledger context"),
        M(type=M.RESPONSE, payload=M(type=M.ERROR, payload=b"no ledger context").SerializeToString()),
        M(type=M.RESPONSE, payload=b"\xff\xff"),
        M(type=M.RESPONSE),
    ],
)
def test_a_called_chaincode_that_could_not_run_is_a_peer_error(reply: M) -> None:
    with pytest.raises(PeerError):
        open_transaction(Script((M.INVOKE_CHAINCODE, reply))).invoke_chaincode("account", [])


def test_an_error_of_the_peer_is_raised_always() -> None:
    tx = open_transaction(lambda request: error(request, "GET_STATE failed"))
    with pytest.raises(PeerError, match="GET_STATE failed"):
        tx.get_state("k")
    tx.put_state("k", b"v")
    with pytest.raises(PeerError):
        tx.flush()


@pytest.mark.parametrize("kind", [M.TRANSACTION, M.KEEPALIVE, M.COMPLETED, M.UNDEFINED])
def test_an_answer_that_is_none_is_a_peer_error(kind: int) -> None:
    with pytest.raises(PeerError, match="no answer"):
        open_transaction(lambda _: M(type=kind)).get_state("k")


def test_unreadable_answers_are_peer_errors() -> None:
    tx = open_transaction(lambda request: M(type=M.RESPONSE, payload=b"\xff\xff"))
    calls: list[Callable[[], object]] = [
        lambda: tx.get_multiple_states(["a", "b"]),
        lambda: tx.get_state_validation_parameter("a"),
        lambda: tx.get_state_by_range_with_pagination("", "", 1),
        lambda: tx.get_history_for_key("a").__enter__(),
    ]
    for call in calls:
        with pytest.raises(PeerError, match="unreadable"):
            call()


def test_another_thread_may_not_use_the_transaction() -> None:
    tx = open_transaction(Script())
    refusals: list[Exception] = []

    def run() -> None:
        calls: list[Callable[[], object]] = [
            lambda: tx.get_state("k"),
            lambda: tx.put_state("k", b"v"),
            lambda: tx.set_event("e", b""),
        ]
        for call in calls:
            try:
                call()
            except CallRefused as refusal:
                refusals.append(refusal)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert len(refusals) == 3


def test_one_request_is_in_flight_at_a_time() -> None:
    tx: Transaction

    def exchange(request: M) -> M:
        with pytest.raises(CallRefused, match="still running"):
            tx.get_state("nested")
        return M(type=M.RESPONSE, payload=b"v")

    tx = open_transaction(exchange)
    assert tx.get_state("k") == b"v"
    assert tx.get_state("k") == b"v"


def test_a_finished_transaction_answers_nothing() -> None:
    tx = open_transaction(Script())
    tx.close()
    calls: list[Callable[[], object]] = [
        lambda: tx.get_state("k"),
        lambda: tx.put_state("k", b"v"),
        lambda: tx.set_event("e", b""),
    ]
    for call in calls:
        with pytest.raises(CallRefused, match="ended"):
            call()


def test_the_deadline_is_checked_at_every_call_and_cannot_be_swallowed() -> None:
    tx = open_transaction(Script(), deadline=0.0)
    calls: list[Callable[[], object]] = [lambda: tx.get_state("k"), lambda: tx.put_state("k", b"v"), tx.check_alive]
    for call in calls:
        with pytest.raises(DeadlineExceeded):
            call()
    assert not issubclass(DeadlineExceeded, Exception)


def test_a_lost_stream_stays_lost() -> None:
    script = Script((M.GET_STATE, StreamLost("gone")))
    tx = open_transaction(script)
    for _ in range(2):
        with pytest.raises(StreamLost):
            tx.get_state("k")
    with pytest.raises(StreamLost):
        tx.check_alive()
    assert not issubclass(StreamLost, Exception)
