"""One transaction from TRANSACTION to COMPLETED, whatever the contract does."""

import decimal
import logging
import threading
from collections.abc import Callable

import pytest
from fabric_protos.peer import chaincode_shim_pb2 as shim
from hypothesis import given, settings
from hypothesis import strategies as st

from chaincode.shim.errors import ContractError, PeerError, StreamLost
from chaincode.shim.execute import MESSAGE_BYTES_MAX, execute
from chaincode.shim.stub import DEFAULT_LIMITS, ChaincodeMessage, Exchange, Limits, PeerSettings, Transaction
from chaincode.shim.testing.exchange import Script, StateExchange, error, response, transaction

M = ChaincodeMessage


class Program:
    """A chaincode that runs one function."""

    def __init__(self, function: Callable[[Transaction], object]) -> None:
        self._function = function

    def invoke(self, tx: Transaction, /) -> bytes:
        return self._function(tx)  # type: ignore[return-value]


def run(
    function: Callable[[Transaction], object], exchange: Exchange | None = None, limits: Limits = DEFAULT_LIMITS
) -> M:
    return execute(Program(function), transaction("f"), exchange or StateExchange(), msp_id="Org1MSP", limits=limits)


def fail(failure: BaseException) -> Callable[[Transaction], bytes]:
    def function(tx: Transaction) -> bytes:
        tx.put_state("k", b"v")
        tx.set_event("e", b"v")
        raise failure

    return function


def test_success_is_200_with_payload_event_and_one_batch() -> None:
    exchange = StateExchange()

    def function(tx: Transaction) -> bytes:
        tx.put_state("k", b"v")
        tx.set_event("voucher.issued", b"{}")
        tx.get_state("other")
        return tx.peer_msp_id.encode()

    message = transaction("f")
    done = execute(Program(function), message, exchange, msp_id="Org1MSP")
    assert (response(done).status, response(done).payload) == (200, b"Org1MSP")
    assert (done.txid, done.channel_id) == (message.txid, message.channel_id)
    assert (done.chaincode_event.event_name, done.chaincode_event.payload) == ("voucher.issued", b"{}")
    assert exchange.requests == ["GET_STATE", "WRITE_BATCH_STATE"]


def test_no_event_leaves_the_field_out() -> None:
    assert not run(lambda tx: b"").HasField("chaincode_event")


@pytest.mark.parametrize(
    ("status", "answered"),
    [(400, 400), (409, 409), (499, 499), (500, 500), (599, 599), (200, 500), (0, 500), (600, 500)],
)
def test_a_refusal_keeps_its_status_and_message_inside_the_range(status: int, answered: int) -> None:
    exchange = StateExchange()
    done = run(fail(ContractError("CONFLICT busy: later", status)), exchange)
    assert (response(done).status, response(done).message) == (answered, "CONFLICT busy: later")
    assert bool(response(done).payload) == (answered >= 500)
    assert not done.HasField("chaincode_event")
    assert exchange.requests == []


@pytest.mark.parametrize(
    "failure",
    [ZeroDivisionError("secret"), SystemExit(3), MemoryError(), RecursionError(), GeneratorExit(), AssertionError()],
)
def test_an_unexpected_exception_is_500_with_its_type_only(failure: BaseException) -> None:
    done = run(fail(failure))
    name = type(failure).__name__
    assert (response(done).status, response(done).message) == (500, f"INTERNAL unexpected: {name}")
    assert response(done).payload
    assert not done.HasField("chaincode_event")


def test_the_log_holds_the_place_but_never_the_values(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        run(fail(ValueError("private terms")))
    assert "ValueError" in caplog.text
    assert "in function" in caplog.text
    assert "private terms" not in caplog.text


@pytest.mark.parametrize("answer", [None, "text", 1, object()])
def test_an_answer_that_is_no_bytes_is_500(answer: object) -> None:
    done = run(lambda tx: answer)
    assert response(done).status == (200 if answer is None else 500)


def test_a_message_that_protobuf_cannot_write_still_answers() -> None:
    done = run(fail(ContractError("bad \ud800 text")))
    assert (response(done).status, response(done).message) == (400, "bad ? text")


def test_a_long_message_is_cut_between_characters() -> None:
    done = run(fail(ContractError("a" + "钢" * 9999)))
    assert 0 <= MESSAGE_BYTES_MAX - len(response(done).message.encode()) < 3


def test_a_peer_error_at_a_read_is_500_with_the_peers_text() -> None:
    done = run(lambda tx: tx.get_state("k"), lambda request: error(request, "GET_STATE failed: no ledger context"))
    assert response(done).status == 500
    assert response(done).message == "INTERNAL peer_error: GET_STATE failed: no ledger context"


def test_a_peer_error_at_the_flush_fails_the_transaction() -> None:
    def function(tx: Transaction) -> bytes:
        tx.put_state("k", b"v")
        tx.set_event("e", b"v")
        return b"done"

    done = run(function, lambda request: error(request, "Writes are not allowed"))
    assert response(done).status == 500
    assert "Writes are not allowed" in response(done).message
    assert not done.HasField("chaincode_event")


def test_a_contract_may_catch_a_peer_error_and_go_on() -> None:
    def function(tx: Transaction) -> bytes:
        with pytest.raises(PeerError):
            tx.get_private_data("c", "k")
        tx.put_state("k", b"v")
        return b"went on"

    def exchange(request: M) -> M:
        if request.type == M.GET_STATE:
            return error(request, "not available")
        return M(type=M.RESPONSE)

    assert response(run(function, exchange)).payload == b"went on"


def swallow(tx: Transaction) -> bytes:
    """What a contract must never do; the lint refuses it."""
    try:
        tx.get_state("k")
    except BaseException:
        return b"as if nothing had been"
    return b""


def test_a_deadline_cannot_be_swallowed() -> None:
    done = run(swallow, limits=Limits(seconds=-1))
    assert (response(done).status, response(done).message[:26]) == (500, "INTERNAL deadline_exceeded")


def test_a_lost_stream_cannot_be_swallowed() -> None:
    done = run(swallow, Script((M.GET_STATE, StreamLost("gone"))))
    assert "INTERNAL stream_lost" in response(done).message


def test_time_in_the_queue_counts() -> None:
    program = Program(lambda tx: b"")
    done = execute(program, transaction("f"), StateExchange(), msp_id="Org1MSP", started_at=-1e9)
    assert "deadline_exceeded" in response(done).message


def test_the_stubs_refusal_says_why() -> None:
    done = run(lambda tx: tx.put_state("k", b""))
    assert response(done).message.startswith("INTERNAL stub_refused: an empty value")


@pytest.mark.parametrize("damage", ["proposal", "payload"])
def test_a_damaged_transaction_is_answered(damage: str) -> None:
    message = transaction("f")
    if damage == "proposal":
        message.proposal.proposal_bytes = b"\xff\xff"
    else:
        message.payload = b"\xff\xff"
    done = execute(Program(lambda tx: b""), message, StateExchange(), msp_id="Org1MSP")
    assert response(done).message.startswith("INTERNAL proposal_malformed")
    assert done.txid == message.txid


def test_init_runs_like_a_transaction() -> None:
    message = transaction("f")
    message.type = M.INIT
    assert response(execute(Program(lambda tx: b"ok"), message, StateExchange(), msp_id="m")).payload == b"ok"


def test_decimal_arithmetic_is_the_same_in_every_thread_and_leaks_nowhere() -> None:
    def function(tx: Transaction) -> bytes:
        before = str(decimal.Decimal(1) / decimal.Decimal(3))
        decimal.getcontext().prec = 5
        return before.encode()

    answers: list[bytes] = []

    def work() -> None:
        decimal.getcontext().prec = 3
        answers.extend(response(run(function)).payload for _ in range(2))
        answers.append(str(decimal.Decimal(1) / decimal.Decimal(3)).encode())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert answers == [b"0." + b"3" * 28] * 2 + [b"0.333"]


def test_a_transaction_is_of_no_use_after_its_end() -> None:
    kept: list[Transaction] = []
    run(lambda tx: kept.append(tx) or b"")  # type: ignore[func-returns-value]
    exchange_again = kept[0]
    with pytest.raises(Exception, match="ended"):
        exchange_again.get_state("k")


def test_a_keyboard_interrupt_is_the_operators() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(fail(KeyboardInterrupt()))


def test_messages_per_transaction_do_not_grow_with_the_keys() -> None:
    exchange = StateExchange()

    def transfer(tx: Transaction) -> bytes:
        names = [f"k{number}" for number in range(200)]
        tx.get_multiple_states(names)
        for name in names:
            tx.put_state(name, b"v")
        return b""

    run(transfer, exchange)
    assert exchange.requests == ["GET_STATE_MULTIPLE", "WRITE_BATCH_STATE"]


def test_an_old_peer_is_served_without_batches() -> None:
    exchange = Script((M.GET_STATE, b""), (M.GET_STATE, b""), (M.PUT_STATE, b""))

    def function(tx: Transaction) -> bytes:
        tx.get_multiple_states(["a", "b"])
        tx.put_state("a", b"v")
        return b"ok"

    done = execute(Program(function), transaction("f"), exchange, msp_id="m", settings=PeerSettings(False, 0, False, 0))
    assert response(done).payload == b"ok"
    exchange.finish()


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(sorted(M.Type.values())), st.binary(max_size=12)), max_size=12))
def test_whatever_the_peer_answers_the_transaction_completes(answers: list[tuple[int, bytes]]) -> None:
    left = iter(answers)

    def exchange(request: M) -> M:
        kind, payload = next(left, (M.ERROR, b""))
        return M(type=kind, payload=payload)

    def function(tx: Transaction) -> bytes:
        tx.get_state("a")
        tx.get_multiple_states(["a", "b"])
        with tx.get_state_by_range("", "") as found:
            for _ in found:
                pass
        tx.get_state_validation_parameter("a")
        tx.invoke_chaincode("other", [b"f"])
        tx.put_state("a", b"v")
        return b"ok"

    assert response(run(function, exchange)).status in (200, 500)


@given(st.binary(max_size=80), st.sampled_from([M.TRANSACTION, M.INIT, M.READY, M.KEEPALIVE]))
def test_whatever_message_comes_it_is_answered(payload: bytes, kind: int) -> None:
    message = M(type=kind, payload=payload, txid="t", channel_id="c")
    message.proposal.proposal_bytes = payload
    done = execute(Program(lambda tx: b""), message, StateExchange(), msp_id="m")
    assert (response(done).status in (200, 500), done.txid, done.channel_id) == (True, "t", "c")


def test_the_batch_keeps_the_order_in_which_keys_were_first_written() -> None:
    exchange = StateExchange()

    def function(tx: Transaction) -> bytes:
        for name in ("c", "a", "b", "a"):
            tx.put_state(name, b"v")
        return b""

    run(function, exchange)
    assert [record.key for record in exchange.writes] == ["c", "a", "b"]
    assert all(record.type == shim.WriteRecord.PUT_STATE for record in exchange.writes)
