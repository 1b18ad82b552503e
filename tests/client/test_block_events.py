"""Streams of blocks, filtered blocks, and blocks with private data."""

from typing import Any

import grpc
import pytest
from fabric_protos.common.common_pb2 import BlockHeader, ChannelHeader, Header, Payload, SignatureHeader
from fabric_protos.ledger.rwset.kvrwset.kv_rwset_pb2 import KVRWSet, KVWrite
from fabric_protos.ledger.rwset.rwset_pb2 import CollectionPvtReadWriteSet, NsPvtReadWriteSet, TxPvtReadWriteSet
from fabric_protos.orderer.ab_pb2 import SeekInfo
from fabric_protos.peer.events_pb2 import BlockAndPrivateData as BlockAndPrivateDataMessage
from tallystick.fabric import EventError, Hash, InMemoryCheckpointer, Position, Timeouts, ValidationCode, Write
from tallystick.testing import END, Endorsed, Refusal, StubGateway

from .conftest import eventually
from .material import identity
from .sides import Side

SCRIPTS = {
    "block_events": "deliver",
    "filtered_block_events": "deliver_filtered",
    "block_and_private_data_events": "deliver_private",
}
KIND = {"block_events": "block", "filtered_block_events": "filtered_block"}


@pytest.fixture(params=SCRIPTS)
def kind(request: pytest.FixtureRequest) -> str:
    """The three streams of blocks."""
    return str(request.param)


def _asked(stub: StubGateway, network: Any, kind: str, **options: Any) -> Any:
    script = getattr(stub, SCRIPTS[kind])
    script.answer([END])
    with getattr(network, kind)(**options) as events:
        assert list(events) == []
    return script.requests[-1]


def _number(item: Any) -> int:
    number: int = item.block.number if hasattr(item, "block") else item.number
    return number


def test_starts_with_the_next_commit_by_default(stub: StubGateway, network: Any, kind: str) -> None:
    request = _asked(stub, network, kind)
    assert (request.channel, request.start_block, request.identity) == ("scf", None, identity())


@pytest.mark.parametrize("block", [-1, 2**64])
def test_refuses_impossible_start_blocks(network: Any, kind: str, block: int) -> None:
    with pytest.raises(ValueError, match="block number"):
        getattr(network, f"{kind}_request")(start_block=block)


@pytest.mark.parametrize("block", [0, 418, 2**64 - 1])
def test_starts_with_the_given_block(stub: StubGateway, network: Any, kind: str, block: int) -> None:
    assert _asked(stub, network, kind, start_block=block).start_block == block


def test_runs_without_end(stub: StubGateway, network: Any, kind: str) -> None:
    assert _asked(stub, network, kind).stop_block == 2**64 - 1


def test_an_empty_checkpoint_leaves_the_start_block(stub: StubGateway, network: Any, kind: str) -> None:
    assert _asked(stub, network, kind, start_block=418, checkpoint=InMemoryCheckpointer()).start_block == 418


def test_an_empty_checkpoint_without_start_block_is_the_default(stub: StubGateway, network: Any, kind: str) -> None:
    assert _asked(stub, network, kind, checkpoint=InMemoryCheckpointer()).start_block is None


def test_a_checkpointed_block_wins_over_the_start_block(stub: StubGateway, network: Any, kind: str) -> None:
    checkpoint = InMemoryCheckpointer()
    checkpoint.checkpoint_block(6)
    assert _asked(stub, network, kind, start_block=418, checkpoint=checkpoint).start_block == 7


def test_a_checkpoint_in_block_zero_counts(stub: StubGateway, network: Any, kind: str) -> None:
    checkpoint = InMemoryCheckpointer(Position(0, "tx"))
    assert _asked(stub, network, kind, start_block=418, checkpoint=checkpoint).start_block == 0


def test_request_is_a_signed_seek(stub: StubGateway, network: Any, kind: str) -> None:
    payload = Payload.FromString(_asked(stub, network, kind, start_block=5).payload)
    header = ChannelHeader.FromString(payload.header.channel_header)
    assert (header.type, header.epoch, header.tls_cert_hash) == (5, 0, b"")
    assert header.timestamp.seconds > 0
    assert SignatureHeader.FromString(payload.header.signature_header).creator == identity().serialized
    seek = SeekInfo.FromString(payload.data)
    assert (seek.start.specified.number, seek.stop.specified.number, seek.behavior) == (5, 2**64 - 1, 0)
    assert isinstance(payload.header, Header)


def test_the_signed_bytes_are_the_payload(side: Side, stub: StubGateway, kind: str) -> None:
    digests: list[bytes] = []
    gateway = side.connect(stub, signer=lambda digest: digests.append(digest) or b"signed")
    request = _asked(stub, gateway.network("scf"), kind)
    assert (digests, request.signature) == ([Hash.SHA256.digest(request.payload)], b"signed")


def test_carries_the_tls_certificate_hash(side: Side, stub: StubGateway, kind: str) -> None:
    gateway = side.connect(stub, tls_certificate_hash=b"hash of the certificate")
    request = _asked(stub, gateway.network("scf"), kind)
    assert request.tls_certificate_hash == b"hash of the certificate"


def test_deadlines(side: Side, stub: StubGateway, kind: str) -> None:
    network = side.connect(stub, timeouts=Timeouts(events=50)).network("scf")
    assert _asked(stub, network, kind).timeout == pytest.approx(50, abs=3)
    assert _asked(stub, network, kind, timeout=30).timeout == pytest.approx(30, abs=3)
    assert _asked(stub, side.connect(stub).network("scf"), kind).timeout is None


def test_a_refusal_is_an_event_error(stub: StubGateway, network: Any, kind: str) -> None:
    getattr(stub, SCRIPTS[kind]).answer(Refusal(grpc.StatusCode.ABORTED, "no"))
    with getattr(network, kind)() as events, pytest.raises(EventError, match="no") as caught:
        next(events)
    assert caught.value.code is grpc.StatusCode.ABORTED


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (400, grpc.StatusCode.INVALID_ARGUMENT, "TLS certificate hash"),
        (403, grpc.StatusCode.PERMISSION_DENIED, "may not read"),
        (404, grpc.StatusCode.NOT_FOUND, "start block"),
        (503, grpc.StatusCode.UNAVAILABLE, "ledger"),
        (500, grpc.StatusCode.UNKNOWN, None),
    ],
)
def test_a_deliver_status_is_an_event_error(
    stub: StubGateway, network: Any, kind: str, status: int, code: grpc.StatusCode, word: str | None
) -> None:
    getattr(stub, SCRIPTS[kind]).answer([status])
    with getattr(network, kind)() as events, pytest.raises(EventError, match=str(status)) as caught:
        next(events)
    assert (caught.value.deliver_status, caught.value.code) == (status, code)
    assert (word or "") in (caught.value.hint or "")


def test_the_status_of_success_ends_the_stream(stub: StubGateway, network: Any, kind: str) -> None:
    getattr(stub, SCRIPTS[kind]).answer([200])
    with getattr(network, kind)() as events:
        assert list(events) == []
    assert eventually(lambda: stub.open_streams == 0)


def test_a_message_of_another_kind_is_an_event_error(stub: StubGateway, network: Any, kind: str) -> None:
    other = ("filtered_block", b"") if kind == "block_events" else ("block", b"")
    getattr(stub, SCRIPTS[kind]).answer([other])
    with getattr(network, kind)() as events, pytest.raises(EventError, match="stream of"):
        next(events)


def test_delivers_blocks_in_order(stub: StubGateway, network: Any, kind: str) -> None:
    network.contract("trade").submit("issue")
    network.contract("trade").submit("issue")
    with getattr(network, kind)(start_block=0) as events:
        assert [_number(next(events)) for _ in range(3)] == [0, 1, 2]


def test_waits_for_blocks_to_come(stub: StubGateway, network: Any, kind: str) -> None:
    with getattr(network, kind)(start_block=1) as events:
        network.contract("trade").submit("issue")
        assert _number(next(events)) == 1


def test_closing_cancels_on_the_server(stub: StubGateway, network: Any, kind: str) -> None:
    with getattr(network, kind)(start_block=0) as events:
        next(events)
        assert stub.open_streams == 1
    assert eventually(lambda: stub.open_streams == 0)
    assert list(events) == []


def test_block_holds_what_was_committed(stub: StubGateway, network: Any) -> None:
    stub.endorse.answer(Endorsed(b"result", "voucher.issued", b"event"))
    submitted = network.contract("trade", "voucher").submit_async("issue", "V-1", transient={"price": b"secret"})
    with network.block_events(start_block=0) as events:
        genesis, block = next(events), next(events)
    (transaction,) = block.transactions
    assert block.previous_hash == genesis.hash
    assert (transaction.transaction_id, transaction.channel, transaction.index) == (submitted.transaction_id, "scf", 0)
    assert (transaction.validation_code, transaction.successful) == (ValidationCode.VALID, True)
    assert (transaction.chaincode, transaction.function) == ("trade", "voucher:issue")
    assert (transaction.arguments, transaction.result) == ((b"voucher:issue", b"V-1"), b"result")
    assert transaction.creator == identity()
    assert transaction.event is not None
    assert (transaction.event.name, transaction.event.payload, transaction.event.block_number) == (
        "voucher.issued",
        b"event",
        1,
    )
    assert b"secret" not in block.data
    assert list(block.chaincode_events("trade")) == [transaction.event]
    assert BlockHeader.FromString(block.raw.header.SerializeToString()).number == 1


def test_events_of_invalid_transactions_are_not_delivered(stub: StubGateway, network: Any) -> None:
    stub.code = ValidationCode.MVCC_READ_CONFLICT
    stub.endorse.answer(Endorsed(b"", "voucher.issued", b""))
    network.contract("trade").submit_async("issue")
    with network.block_events(start_block=1) as events:
        block = next(events)
    assert block.transactions[0].event is not None
    assert not block.transactions[0].successful
    assert list(block.chaincode_events("trade")) == []


def test_filtered_block_holds_verdicts_and_event_names(stub: StubGateway, network: Any) -> None:
    stub.endorse.answer(Endorsed(b"", "voucher.issued", b"secret"))
    submitted = network.contract("trade").submit_async("issue")
    with network.filtered_block_events(start_block=1) as events:
        block = next(events)
    (transaction,) = block.transactions
    assert (block.channel, transaction.transaction_id, transaction.type) == ("scf", submitted.transaction_id, 3)
    assert transaction.successful
    assert [(event.name, event.payload) for event in transaction.events] == [("voucher.issued", b"")]


def test_private_writes_are_decoded(stub: StubGateway, network: Any) -> None:
    genesis = network.block(0)
    message = BlockAndPrivateDataMessage()
    message.block.ParseFromString(genesis.data)
    writes = KVRWSet(writes=[KVWrite(key="terms", value=b"42"), KVWrite(key="old", is_delete=True)])
    collection = CollectionPvtReadWriteSet(collection_name="secrets", rwset=writes.SerializeToString())
    namespace = NsPvtReadWriteSet(namespace="trade", collection_pvt_rwset=[collection])
    message.private_data_map[0].CopyFrom(TxPvtReadWriteSet(ns_pvt_rwset=[namespace]))
    stub.deliver_private.answer([("block_and_private_data", message.SerializeToString()), END])
    with network.block_and_private_data_events() as events:
        (item,) = list(events)
    assert item.block == genesis
    (private,) = item.private_writes
    assert (private.index, private.chaincode, private.collection) == (0, "trade", "secrets")
    assert private.writes == (Write("terms", b"42", False), Write("old", b"", True))
