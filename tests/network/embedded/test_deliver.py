"""Block delivery over gRPC: one row for each line of G.2, and the three shapes of a block."""

from typing import Any

import pytest
from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import transaction_pb2

from network.embedded.network import EmbeddedNetwork
from tests.network.embedded.wire import Client, blocks_from

Status = common_pb2.Status
Code = transaction_pb2.TxValidationCode
OLDEST = ab_pb2.SeekPosition(oldest=ab_pb2.SeekOldest())
NEWEST = ab_pb2.SeekPosition(newest=ab_pb2.SeekNewest())
NEXT = ab_pb2.SeekPosition(next_commit=ab_pb2.SeekNextCommit())


def at(number: int) -> ab_pb2.SeekPosition:
    """The position of one block."""
    return ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=number))


def delivered(client: Client, *seeks: common_pb2.Envelope, method: str = "Deliver") -> list[Any]:
    """Everything one stream answers: block numbers, then the status, for each seek."""
    answers = getattr(client.deliver, method)(iter(seeks), timeout=10)
    return [
        answer.status if answer.WhichOneof("Type") == "status" else answer.block.header.number for answer in answers
    ]


# -- refusals, in upstream's order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [pytest.param(b"\xff", id="unreadable"), pytest.param(b"", id="no-header")])
def test_an_unreadable_envelope_is_a_bad_request(core: Client, payload: bytes) -> None:
    assert delivered(core, common_pb2.Envelope(payload=payload)) == [Status.BAD_REQUEST]


@pytest.mark.parametrize(
    "timestamp", [pytest.param(None, id="none"), pytest.param(-90.0, id="early"), pytest.param(90.0, id="late")]
)
def test_a_timestamp_inside_the_window_is_needed(core: Client, timestamp: float | None) -> None:
    assert delivered(core, core.seek(blocks_from(0, 0), timestamp=timestamp)) == [Status.BAD_REQUEST]


def test_an_unknown_channel_is_not_found(core: Client) -> None:
    assert delivered(core, core.seek(blocks_from(0, 0), channel="other")) == [Status.NOT_FOUND]


def test_an_unreadable_seek_is_a_bad_request(core: Client) -> None:
    assert delivered(core, core.seek(b"\xff")) == [Status.BAD_REQUEST]


def test_a_bad_signature_is_forbidden(core: Client) -> None:
    assert delivered(core, core.seek(blocks_from(0, 0), signature=b"wrong")) == [Status.FORBIDDEN]


def test_access_is_tested_before_start_and_stop(core: Client) -> None:
    assert delivered(core, core.seek(ab_pb2.SeekInfo(), signature=b"wrong")) == [Status.FORBIDDEN]


@pytest.mark.parametrize(
    "seek",
    [
        pytest.param(ab_pb2.SeekInfo(stop=at(0)), id="start"),
        pytest.param(ab_pb2.SeekInfo(start=at(0)), id="stop"),
    ],
)
def test_a_missing_position_is_a_bad_request(core: Client, seek: ab_pb2.SeekInfo) -> None:
    assert delivered(core, core.seek(seek)) == [Status.BAD_REQUEST]


def test_start_after_stop_is_a_bad_request(core: Client) -> None:
    assert delivered(core, core.seek(blocks_from(2, 1))) == [Status.BAD_REQUEST]


def test_start_beyond_the_height_is_not_found_even_after_stop(core: Client) -> None:
    assert delivered(core, core.seek(blocks_from(100_000, 1))) == [Status.NOT_FOUND]


def test_an_empty_start_position_is_not_found(core: Client) -> None:
    seek = ab_pb2.SeekInfo(start=ab_pb2.SeekPosition(), stop=at(0))
    assert delivered(core, core.seek(seek)) == [Status.NOT_FOUND]


def test_fail_if_not_ready_past_the_tip_is_not_found(core: Client, network: EmbeddedNetwork) -> None:
    tip = network.ledger.height - 1
    seek = blocks_from(tip, tip + 5, behavior=ab_pb2.SeekInfo.FAIL_IF_NOT_READY)
    assert delivered(core, core.seek(seek)) == [tip, Status.NOT_FOUND]


# -- positions ---------------------------------------------------------------------------------------------------------


def test_a_range_is_delivered_in_order_and_ends_with_success(core: Client) -> None:
    assert delivered(core, core.seek(blocks_from(0, 2))) == [0, 1, 2, Status.SUCCESS]


def test_the_stream_takes_another_seek_after_success(core: Client) -> None:
    seeks = core.seek(blocks_from(1, 1)), core.seek(blocks_from(0, 0))
    assert delivered(core, *seeks) == [1, Status.SUCCESS, 0, Status.SUCCESS]


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        pytest.param(OLDEST, at(1), [0, 1], id="oldest"),
        pytest.param(at(1), OLDEST, [1], id="stop-oldest-is-the-start"),
        pytest.param(OLDEST, NEXT, [0], id="stop-next-commit-acts-as-0"),
        pytest.param(OLDEST, ab_pb2.SeekPosition(), [0], id="empty-stop-acts-as-0"),
    ],
)
def test_named_positions(
    core: Client, start: ab_pb2.SeekPosition, stop: ab_pb2.SeekPosition, expected: list[int]
) -> None:
    assert delivered(core, core.seek(ab_pb2.SeekInfo(start=start, stop=stop))) == [*expected, Status.SUCCESS]


def test_newest_is_the_tip(core: Client, network: EmbeddedNetwork) -> None:
    tip = network.ledger.height - 1
    assert delivered(core, core.seek(ab_pb2.SeekInfo(start=NEWEST, stop=NEWEST))) == [tip, Status.SUCCESS]
    assert delivered(core, core.seek(ab_pb2.SeekInfo(start=at(tip - 1), stop=NEWEST))) == [tip - 1, tip, Status.SUCCESS]


@pytest.mark.parametrize("position", [pytest.param(NEXT, id="next-commit"), pytest.param(None, id="height")])
def test_the_next_block_is_waited_for(
    core: Client, network: EmbeddedNetwork, position: ab_pb2.SeekPosition | None
) -> None:
    height = network.ledger.height
    seek = ab_pb2.SeekInfo(start=position or at(height), stop=at(height))
    answers = core.deliver.Deliver(iter([core.seek(seek)]), timeout=10)
    _, _, number = core.transact("put", "next", "1")
    assert number == height
    assert [next(answers).block.header.number, next(answers).status] == [height, Status.SUCCESS]


# -- shapes ------------------------------------------------------------------------------------------------------------


def block_at(client: Client, number: int, method: str = "Deliver", **fields: Any) -> Any:
    """One block as a method delivers it."""
    seek = client.seek(blocks_from(number, number, **fields))
    return next(iter(getattr(client.deliver, method)(iter([seek]), timeout=10)))


def test_a_peers_block_has_filled_metadata(core: Client) -> None:
    _, _, number = core.transact("put", "filled", "1")
    block = block_at(core, number).block
    assert block.metadata.metadata[2] == bytes([Code.VALID])
    assert len(common_pb2.Metadata.FromString(block.metadata.metadata[4]).value) == 32


def test_header_with_signatures_leaves_the_data_out(core: Client) -> None:
    content = {"content_type": ab_pb2.SeekInfo.HEADER_WITH_SIG}
    block = block_at(core, 1, **content).block
    assert not block.HasField("data")
    assert block.metadata.metadata[0]
    assert len(block_at(core, 0, **content).block.data.data) == 1


def test_a_filtered_block_names_transactions_codes_and_events(core: Client) -> None:
    events = [core.propose("emit", "filtered", "payload"), core.propose("increment", "filtered")]
    events.append(core.propose("increment", "filtered"))
    envelopes = [core.sign_envelope(core.endorse(proposal)) for proposal in events]
    for envelope in envelopes:
        core.submit(envelope)
    placed = [core.status(proposal.transaction_id) for proposal in events]
    found = {}
    for number in {number for _, number in placed}:
        block = block_at(core, number, "DeliverFiltered").filtered_block
        assert (block.channel_id, block.number) == ("scf", number)
        found |= {entry.txid: entry for entry in block.filtered_transactions}
    entries = [found[proposal.transaction_id] for proposal in events]
    assert [entry.tx_validation_code for entry in entries] == [Code.VALID, Code.VALID, Code.MVCC_READ_CONFLICT]
    assert [entry.type for entry in entries] == [common_pb2.HeaderType.ENDORSER_TRANSACTION] * 3
    (action,) = entries[0].transaction_actions.chaincode_actions
    event = action.chaincode_event
    assert (event.chaincode_id, event.event_name, event.payload) == ("basic", "filtered", b"")
    assert event.tx_id == events[0].transaction_id
    assert all(entry.WhichOneof("Data") == "transaction_actions" for entry in entries)


def test_private_data_reaches_the_organisation_that_holds_it(core: Client, bank: Client) -> None:
    proposal = core.propose("keep_private", "_implicit_org_CoreMSP", "delivered", transient={"value": b"for core only"})
    core.submit(core.sign_envelope(core.endorse(proposal)))
    code, number = core.status(proposal.transaction_id)
    assert code == Code.VALID
    answer = block_at(core, number, "DeliverWithPrivateData").block_and_private_data
    assert answer.block.header.number == number
    assert [write.value for write in writes(answer.private_data_map[0])] == [b"for core only"]
    assert not block_at(bank, number, "DeliverWithPrivateData").block_and_private_data.private_data_map


def test_member_only_collections_are_kept_from_other_readers(network: EmbeddedNetwork, core: Client) -> None:
    proposal = core.propose("keep_private", "shared", "members", transient={"value": b"core and bank"})
    core.submit(core.sign_envelope(core.endorse(proposal, ["CoreMSP", "BankMSP", "LogisticsMSP"])))
    code, number = core.status(proposal.transaction_id)
    assert code == Code.VALID
    answer = block_at(core, number, "DeliverWithPrivateData").block_and_private_data
    assert [write.value for write in writes(answer.private_data_map[0])] == [b"core and bank"]
    # The logistics user asks at the core enterprise's port, which holds the data.
    stranger = Client(network.home, "core")
    stranger.person = Client(network.home, "logistics").person
    try:
        answer = block_at(stranger, number, "DeliverWithPrivateData").block_and_private_data
    finally:
        stranger.close()
    assert not answer.private_data_map


def writes(write_set: rwset_pb2.TxPvtReadWriteSet) -> list[kv_rwset_pb2.KVWrite]:
    """The only collection's writes."""
    data = write_set.ns_pvt_rwset[0].collection_pvt_rwset[0].rwset
    return list(kv_rwset_pb2.KVRWSet.FromString(data).writes)
