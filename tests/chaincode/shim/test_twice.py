"""A transaction repeated in other processes must do exactly the same."""

from collections.abc import Iterator

import pytest

from chaincode.shim.errors import StreamLost
from chaincode.shim.stub import ChaincodeMessage
from chaincode.shim.testing.exchange import Script, StateExchange, response, transaction
from chaincode.shim.testing.twice import Disagreement, Twice, seeds

from .programs.wavering import chaincode

PROGRAM = f"{__package__}.programs.wavering:chaincode"


@pytest.fixture(scope="module")
def twice() -> Iterator[Twice]:
    with Twice({"wavering": PROGRAM}) as running:
        yield running


def test_an_honest_transaction_agrees_and_its_answer_is_the_first_runs(twice: Twice) -> None:
    exchange = StateExchange({("", f"k{number}"): b"v" for number in range(150)})
    for number in range(3):
        done = twice.execute(chaincode, transaction("honest", f"n{number}"), exchange, msp_id="CoreMSP")
        assert (response(done).payload, done.chaincode_event.payload) == (b"CoreMSP", f"n{number}".encode())
    assert [record.key for record in exchange.writes] == ["n0", "n1", "n2"]


@pytest.mark.parametrize(
    "function", ["set_order", "read_order", "hashed", "event_order", "zone", "environment", "refused"]
)
def test_a_transaction_that_wavers_is_found(twice: Twice, function: str) -> None:
    with pytest.raises(Disagreement, match=r"seed \d: (request \d+|answer) from byte"):
        twice.execute(chaincode, transaction(function), StateExchange(), msp_id="CoreMSP")


def test_the_text_shows_the_place_that_differs(twice: Twice) -> None:
    with pytest.raises(Disagreement, match=r"seed 1: answer from byte \d+: .*xx\d{7}' here, .*xx\d{7}' there"):
        twice.execute(chaincode, transaction("late"), StateExchange(), msp_id="CoreMSP")


def test_a_called_transaction_that_wavers_is_told_as_it_was_found(twice: Twice) -> None:
    called = transaction("hashed")

    def exchange(request: ChaincodeMessage) -> ChaincodeMessage:
        return twice.execute(chaincode, called, StateExchange(), msp_id="CoreMSP")

    before = twice.count
    with pytest.raises(Disagreement, match=r"seed \d: answer") as found:
        twice.execute(chaincode, transaction("calls"), exchange, msp_id="CoreMSP")
    assert "nothing" not in str(found.value), "the caller is not blamed"
    assert twice.count == before + 1


def test_the_processes_go_on_after_a_disagreement(twice: Twice) -> None:
    before = twice.count
    with pytest.raises(Disagreement):
        twice.execute(chaincode, transaction("hashed"), StateExchange(), msp_id="CoreMSP")
    twice.execute(chaincode, transaction("honest", "k"), StateExchange(), msp_id="CoreMSP")
    assert twice.count == before + 2


def test_a_lost_stream_is_repeated_as_one(twice: Twice) -> None:
    script = Script((ChaincodeMessage.GET_STATE_MULTIPLE, StreamLost("gone")))
    done = twice.execute(chaincode, transaction("honest", "k"), script, msp_id="CoreMSP")
    assert "stream_lost" in response(done).message


def test_a_chaincode_without_a_program_runs_here_only() -> None:
    with Twice({}) as running:
        done = running.execute(chaincode, transaction("hashed"), StateExchange(), msp_id="CoreMSP")
    assert (response(done).status, running.count) == (200, 0)


def test_a_process_that_ends_says_so() -> None:
    with Twice({"wavering": PROGRAM}, seeds(2)) as running, pytest.raises(RuntimeError, match="process seed 2 ended"):
        running.execute(chaincode, transaction("crash"), StateExchange(), msp_id="CoreMSP")
