"""The fuzzer repeats itself for a seed, and nothing it makes upsets the shim."""

from itertools import islice

from chaincode.shim.execute import execute
from chaincode.shim.stub import ChaincodeMessage
from chaincode.shim.testing.exchange import StateExchange, response, transaction
from chaincode.shim.testing.fuzz import damaged, messages

from .programs.wavering import chaincode


def test_the_same_seed_gives_the_same_noise() -> None:
    assert list(islice(damaged(b"data", 7), 50)) == list(islice(damaged(b"data", 7), 50))
    assert list(islice(messages(7), 50)) == list(islice(messages(7), 50))
    assert list(islice(messages(7), 50)) != list(islice(messages(8), 50))


def test_damaged_transactions_are_always_answered() -> None:
    whole = transaction("honest", "k", transient={"a": b"b"}).SerializeToString()
    for data in islice(damaged(whole, 1), 3000):
        try:
            message = ChaincodeMessage.FromString(data)
        except Exception:
            continue
        done = execute(chaincode, message, StateExchange(), msp_id="CoreMSP")
        assert response(done).status in (200, 400, 500)


def test_senseless_messages_are_always_answered() -> None:
    for message in islice(messages(2), 2000):
        done = execute(chaincode, message, StateExchange(), msp_id="CoreMSP")
        assert (response(done).status in (200, 400, 500), done.txid) == (True, message.txid)
