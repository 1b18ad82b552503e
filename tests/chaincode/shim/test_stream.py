"""The state machine of one stream: handshake, transactions, answers, and its end at any moment."""

from itertools import islice

import pytest
from fabric_protos.peer.chaincode_pb2 import ChaincodeAdditionalParams, ChaincodeID
from hypothesis import given
from hypothesis import strategies as st

from chaincode.shim.errors import CallRefused, StreamLost
from chaincode.shim.stream import (
    REGISTERED_SECONDS_MAX,
    ChaincodeStream,
    Close,
    Deliver,
    Phase,
    Run,
    Send,
    peer_settings,
)
from chaincode.shim.stub import ChaincodeMessage, PeerSettings
from chaincode.shim.testing.fuzz import messages

M = ChaincodeMessage
STOCK = ChaincodeAdditionalParams(
    use_write_batch=True, max_size_write_batch=1000, use_get_multiple_keys=True, max_size_get_multiple_keys=1000
).SerializeToString()


def ready(payload: bytes = STOCK) -> ChaincodeStream[str]:
    stream = ChaincodeStream[str]("basic:abc", opened_at=0.0)
    assert stream.feed(M(type=M.REGISTERED)) == []
    assert stream.feed(M(type=M.READY, payload=payload)) == []
    return stream


def of(kind: int, txid: str = "t", channel_id: str = "c") -> M:
    return M(type=kind, txid=txid, channel_id=channel_id)


def test_the_chaincode_speaks_first_and_names_its_package() -> None:
    message = ChaincodeStream[str]("basic:abc", opened_at=0.0).register()
    assert message.type == M.REGISTER
    assert ChaincodeID.FromString(message.payload).name == "basic:abc"


def test_the_handshake_ends_ready_with_what_the_peer_offers() -> None:
    stream = ready()
    assert (stream.phase, stream.settings) == (Phase.READY, PeerSettings(True, 1000, True, 1000))


@pytest.mark.parametrize("payload", [b"", ChaincodeAdditionalParams(max_size_write_batch=5).SerializeToString()])
def test_an_older_peer_offers_nothing(payload: bytes) -> None:
    settings = ready(payload).settings
    assert (settings.use_write_batch, settings.use_get_multiple_keys) == (False, False)


def test_small_batches_are_raised_to_a_hundred() -> None:
    said = ChaincodeAdditionalParams(use_write_batch=True, max_size_write_batch=7)
    assert peer_settings(said.SerializeToString()).max_size_write_batch == 100


@pytest.mark.parametrize("kind", [M.READY, M.TRANSACTION, M.RESPONSE, M.ERROR, M.UNDEFINED, M.REGISTER])
def test_anything_but_registered_first_ends_the_stream(kind: int) -> None:
    (action,) = ChaincodeStream[str]("p", opened_at=0.0).feed(of(kind))
    assert isinstance(action, Close)


@pytest.mark.parametrize("kind", [M.REGISTERED, M.TRANSACTION, M.RESPONSE, M.ERROR])
def test_anything_but_ready_second_ends_the_stream(kind: int) -> None:
    stream = ChaincodeStream[str]("p", opened_at=0.0)
    stream.feed(of(M.REGISTERED))
    (action,) = stream.feed(of(kind))
    assert isinstance(action, Close)


def test_an_unreadable_ready_ends_the_stream() -> None:
    stream = ChaincodeStream[str]("p", opened_at=0.0)
    stream.feed(of(M.REGISTERED))
    assert stream.feed(M(type=M.READY, payload=b"\xff\xff")) == [Close("unreadable READY")]


def test_silence_after_register_means_a_wrong_package_id() -> None:
    stream = ChaincodeStream[str]("p", opened_at=10.0)
    assert stream.check(10.0 + REGISTERED_SECONDS_MAX - 0.1) is None
    assert isinstance(stream.check(10.0 + REGISTERED_SECONDS_MAX), Close)
    stream.feed(of(M.REGISTERED))
    assert stream.check(1000.0) is None


def test_a_transaction_is_run_and_its_answer_sent() -> None:
    stream = ready()
    message = of(M.TRANSACTION)
    assert stream.feed(message) == [Run(message, stream.settings)]
    assert stream.running == 1
    done = of(M.COMPLETED)
    assert stream.finish(done) == Send(done)
    assert stream.running == 0
    assert len(stream.feed(message)) == 1


def test_the_same_transaction_twice_at_once_runs_once() -> None:
    stream = ready()
    stream.feed(of(M.TRANSACTION))
    assert stream.feed(of(M.TRANSACTION)) == []
    assert len(stream.feed(of(M.TRANSACTION, channel_id="other"))) == 1


def test_answers_reach_who_asked() -> None:
    stream = ready()
    for txid in ("a", "b"):
        stream.feed(of(M.TRANSACTION, txid))
        assert stream.request(of(M.GET_STATE, txid), f"waiter {txid}") == Send(of(M.GET_STATE, txid))
    assert stream.feed(of(M.ERROR, "b")) == [Deliver("waiter b", of(M.ERROR, "b"))]
    assert stream.feed(of(M.RESPONSE, "a")) == [Deliver("waiter a", of(M.RESPONSE, "a"))]
    stream.request(of(M.GET_STATE, "a"), "again")


def test_an_answer_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    stream = ready()
    assert stream.feed(of(M.RESPONSE, "unknown")) == []
    assert "unknown" in caplog.text


def test_an_answer_after_the_end_of_its_transaction_is_logged() -> None:
    stream = ready()
    stream.feed(of(M.TRANSACTION))
    stream.request(of(M.GET_STATE), "waiter")
    stream.finish(of(M.COMPLETED))
    assert stream.feed(of(M.RESPONSE)) == []


def test_a_second_request_at_once_is_refused() -> None:
    stream = ready()
    stream.feed(of(M.TRANSACTION))
    stream.request(of(M.GET_STATE), "first")
    with pytest.raises(CallRefused):
        stream.request(of(M.GET_STATE), "second")


def test_keepalive_is_echoed_in_every_phase() -> None:
    stream = ChaincodeStream[str]("p", opened_at=0.0)
    for _ in range(2):
        assert stream.feed(M(type=M.KEEPALIVE)) == [Send(M(type=M.KEEPALIVE))]
        stream = ready()


@pytest.mark.parametrize("kind", [M.UNDEFINED, M.REGISTER, M.READY, M.COMPLETED, M.GET_STATE, 99])
def test_an_unknown_message_is_logged_and_the_stream_goes_on(kind: int, caplog: pytest.LogCaptureFixture) -> None:
    stream = ready()
    assert stream.feed(of(kind)) == []
    assert f"type {kind}" in caplog.text
    assert len(stream.feed(of(M.TRANSACTION))) == 1


def test_the_end_of_the_stream_releases_everybody() -> None:
    stream = ready()
    for txid in ("a", "b", "c"):
        stream.feed(of(M.TRANSACTION, txid))
    stream.request(of(M.GET_STATE, "a"), "waiter a")
    stream.request(of(M.GET_STATE, "b"), "waiter b")
    assert stream.close() == [Deliver("waiter a", None), Deliver("waiter b", None)]
    assert stream.close() == []
    with pytest.raises(StreamLost):
        stream.request(of(M.GET_STATE, "c"), "waiter c")
    assert stream.finish(of(M.COMPLETED, "c")) is None
    assert stream.feed(of(M.TRANSACTION, "d")) == []


@given(st.integers(0, 10_000), st.booleans())
def test_no_sequence_of_messages_upsets_the_stream(seed: int, shaken: bool) -> None:
    stream = ready() if shaken else ChaincodeStream[str]("p", opened_at=0.0)
    for message in islice(messages(seed), 30):
        for action in stream.feed(message):
            if isinstance(action, Run):
                stream.request(of(M.GET_STATE, action.message.txid, action.message.channel_id), "waiter")
            elif isinstance(action, Close):
                stream.close()
    stream.close()
    assert stream.running == 0
