"""Chaincode events over gRPC: G.1, and what is left behind by clients that leave, G.3."""

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from fabric_protos.gateway import gateway_pb2
from fabric_protos.orderer import ab_pb2

from network.embedded.network import EmbeddedNetwork
from tests.network.embedded.wire import Client, Failure, failure

Code = grpc.StatusCode


def emitted(client: Client, *names: str, chaincode: str = "basic") -> list[tuple[str, int]]:
    """Emit events one after the other; answers transaction id and block of each."""
    placed = []
    for name in names:
        transaction_id, code, block = client.transact("emit", name, f"payload of {name}", chaincode=chaincode)
        assert code == 0
        placed.append((transaction_id, block))
    return placed


def first(stream: Any, count: int) -> list[str]:
    """The names of the next events of a stream, which is then left."""
    names: list[str] = []
    for response in stream:
        names.extend(event.event_name for event in response.events)
        if len(names) >= count:
            break
    stream.cancel()
    return names


def failed(stream: Any) -> Failure:
    """How a stream failed at its first answer."""
    with pytest.raises(grpc.RpcError) as raised:
        next(iter(stream))
    return failure(raised.value)


def position(number: int) -> ab_pb2.SeekPosition:
    """The position of one block."""
    return ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=number))


def test_a_request_is_needed(core: Client) -> None:
    stream = core.gateway.ChaincodeEvents(gateway_pb2.SignedChaincodeEventsRequest(), timeout=5)
    assert failed(stream) == Failure(Code.INVALID_ARGUMENT, "a chaincode events request is required", ())


def test_a_readable_request_is_needed(core: Client) -> None:
    stream = core.gateway.ChaincodeEvents(gateway_pb2.SignedChaincodeEventsRequest(request=b"\xff"), timeout=5)
    text = "invalid chaincode events request: proto: cannot parse invalid wire-format data"
    assert failed(stream) == Failure(Code.INVALID_ARGUMENT, text, ())


def test_who_may_not_read_is_refused(core: Client) -> None:
    request = gateway_pb2.ChaincodeEventsRequest(
        channel_id="scf", chaincode_id="basic", identity=core.person.serialized
    ).SerializeToString()
    signed = gateway_pb2.SignedChaincodeEventsRequest(request=request, signature=b"wrong")
    found = failed(core.gateway.ChaincodeEvents(signed, timeout=5))
    assert found.code is Code.PERMISSION_DENIED
    assert found.message.startswith("Failed evaluating policy on signed data during check policy on channel [scf]")


def test_an_unknown_channel_is_refused_by_the_access_check(core: Client) -> None:
    found = failed(core.events(channel_id="other"))
    assert found == Failure(Code.PERMISSION_DENIED, "Failed to get policy manager for channel [other]", ())


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (ab_pb2.SeekPosition(oldest=ab_pb2.SeekOldest()), "*orderer.SeekPosition_Oldest"),
        (ab_pb2.SeekPosition(newest=ab_pb2.SeekNewest()), "*orderer.SeekPosition_Newest"),
    ],
)
def test_other_start_positions_are_refused(core: Client, start: ab_pb2.SeekPosition, name: str) -> None:
    found = failed(core.events(start_position=start))
    assert found == Failure(Code.INVALID_ARGUMENT, f"invalid start position type: {name}", ())


def test_a_specified_block_replays_from_there(core: Client) -> None:
    placed = emitted(core, "replayed-1", "replayed-2", "replayed-3")
    stream = core.events(start_position=position(placed[1][1]))
    assert first(stream, 2) == ["replayed-2", "replayed-3"]


def test_an_answer_holds_one_block(core: Client) -> None:
    ((transaction_id, block),) = emitted(core, "one-block")
    stream = core.events(start_position=position(block))
    response = next(iter(stream))
    stream.cancel()
    (event,) = response.events
    assert response.block_number == block
    assert (event.chaincode_id, event.tx_id, event.event_name) == ("basic", transaction_id, "one-block")
    assert event.payload == b"payload of one-block"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="default"),
        pytest.param({"start_position": ab_pb2.SeekPosition(next_commit=ab_pb2.SeekNextCommit())}, id="next-commit"),
    ],
)
def test_a_live_stream_begins_with_the_next_block(
    core: Client, network: EmbeddedNetwork, fields: dict[str, Any]
) -> None:
    emitted(core, "before")
    stream = core.events(**fields)
    until(lambda: open_slots(network, "core") == 1)
    emitted(core, "after")
    assert first(stream, 1) == ["after"]


def test_a_future_block_is_waited_for(core: Client, network: EmbeddedNetwork) -> None:
    stream = core.events(start_position=position(network.ledger.height + 1))
    emitted(core, "too-early", "in-time")
    assert first(stream, 1) == ["in-time"]


def test_events_of_other_chaincodes_are_left_out(core: Client) -> None:
    ((_, block),) = emitted(core, "other", chaincode="both")
    emitted(core, "mine")
    assert first(core.events(start_position=position(block)), 1) == ["mine"]


def test_events_of_invalid_transactions_are_left_out(core: Client) -> None:
    """Two transactions that read and write one key: the second is invalid, and so is its event."""
    proposals = [core.propose("emit_once", name) for name in ("won", "lost")]
    envelopes = [core.sign_envelope(core.endorse(proposal)) for proposal in proposals]
    for envelope in envelopes:
        core.submit(envelope)
    placed = [core.status(proposal.transaction_id) for proposal in proposals]
    assert [code for code, _ in placed] == [0, 11]
    emitted(core, "end")
    assert first(core.events(start_position=position(placed[0][1])), 2) == ["won", "end"]


def test_a_checkpoint_skips_everything_up_to_its_transaction(core: Client) -> None:
    placed = emitted(core, "skipped", "checkpoint", "delivered")
    stream = core.events(start_position=position(0), after_transaction_id=placed[1][0])
    assert first(stream, 1) == ["delivered"]


def test_an_unknown_checkpoint_starts_at_the_position_and_never_delivers(core: Client) -> None:
    (_, block), _ = emitted(core, "swallowed", "swallowed-too")
    stream = core.events(start_position=position(block), after_transaction_id="00" * 32, timeout=0.5)
    assert failed(stream).code is Code.DEADLINE_EXCEEDED


def test_a_checkpoint_on_a_transaction_without_event_swallows_everything(core: Client) -> None:
    transaction_id, _, _ = core.transact("put", "quiet", "1")
    emitted(core, "unheard")
    assert failed(core.events(after_transaction_id=transaction_id, timeout=0.5)).code is Code.DEADLINE_EXCEEDED


def test_six_hundred_abandoned_streams_leave_the_gateway_free(core: Client, network: EmbeddedNetwork) -> None:
    """More streams than the gateway has slots, none of which ever sees an event."""
    for _ in range(4):
        streams = [core.events(timeout=None) for _ in range(150)]
        until(lambda: open_slots(network, "core") == 150)
        for stream in streams:
            stream.cancel()
        until(lambda: open_slots(network, "core") == 0)
    assert core.evaluate(core.propose("who")).payload == b"CoreMSP"


def test_abandoned_commit_statuses_leave_the_gateway_free(core: Client, network: EmbeddedNetwork) -> None:
    request = core.status_request("11" * 32)
    waiting = [core.gateway.CommitStatus.future(request) for _ in range(50)]
    until(lambda: open_slots(network, "core") == 50)
    for call in waiting:
        call.cancel()
    until(lambda: open_slots(network, "core") == 0)


def test_streams_over_the_limit_are_refused_by_name(core: Client, network: EmbeddedNetwork) -> None:
    streams = [core.events(timeout=None) for _ in range(500)]
    try:
        until(lambda: open_slots(network, "core") == 500)
        text = "too many requests for /gateway.Gateway, exceeding concurrency limit (500)"
        assert failed(core.events()) == Failure(Code.UNKNOWN, text, ())
        with pytest.raises(grpc.RpcError) as raised:
            core.evaluate(core.propose("who"))
        assert failure(raised.value) == Failure(Code.UNKNOWN, text, ())
    finally:
        for stream in streams:
            stream.cancel()
    until(lambda: open_slots(network, "core") == 0)


def open_slots(network: EmbeddedNetwork, organisation: str) -> int:
    """How many calls of the gateway service an organisation's peer has open."""
    return network.servers[f"peer.{organisation}"].limits["gateway.Gateway"].open


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
