"""Streams of chaincode events: requests, delivery, ends, sharing."""

import asyncio
import gc
import logging
import threading
from typing import Any

import grpc
import pytest
from tallystick import aio, fabric
from tallystick.fabric import ChaincodeEvent, EventError, Hash, InMemoryCheckpointer, Position, Timeouts, signers
from tallystick.fabric._edge import STREAMS_WARNED
from tallystick.testing import END, Endorsed, Refusal, StubGateway

from .conftest import eventually
from .material import identity, private_key
from .sides import Side

FIRST = ChaincodeEvent(1, "tx1", "trade", "voucher.issued", b"one")
SECOND = ChaincodeEvent(1, "tx2", "trade", "voucher.issued", b"two")
THIRD = ChaincodeEvent(2, "tx3", "trade", "voucher.paid", b"three")


def _asked(stub: StubGateway, network: Any, **options: Any) -> Any:
    stub.chaincode_events.answer([END])
    with network.chaincode_events("trade", **options) as events:
        assert list(events) == []
    return stub.chaincode_events.requests[-1]


def test_starts_with_the_next_commit_by_default(stub: StubGateway, network: Any) -> None:
    request = _asked(stub, network)
    assert (request.channel, request.chaincode, request.start_block) == ("scf", "trade", None)
    assert (request.after_transaction_id, request.identity) == ("", identity())


@pytest.mark.parametrize("block", [-1, 2**64])
def test_refuses_impossible_start_blocks(network: Any, block: int) -> None:
    with pytest.raises(ValueError, match="block number"):
        network.chaincode_events_request("trade", start_block=block)


@pytest.mark.parametrize("block", [0, 418, 2**53 + 1, 2**64 - 1])
def test_starts_with_the_given_block(stub: StubGateway, network: Any, block: int) -> None:
    assert _asked(stub, network, start_block=block).start_block == block


def test_an_empty_checkpoint_leaves_the_start_block(stub: StubGateway, network: Any) -> None:
    request = _asked(stub, network, start_block=418, checkpoint=InMemoryCheckpointer())
    assert (request.start_block, request.after_transaction_id) == (418, "")


def test_an_empty_checkpoint_without_start_block_is_the_default(stub: StubGateway, network: Any) -> None:
    assert _asked(stub, network, checkpoint=InMemoryCheckpointer()).start_block is None


def test_a_checkpointed_block_wins_over_the_start_block(stub: StubGateway, network: Any) -> None:
    checkpoint = InMemoryCheckpointer()
    checkpoint.checkpoint_block(1)
    request = _asked(stub, network, start_block=418, checkpoint=checkpoint)
    assert (request.start_block, request.after_transaction_id) == (2, "")


def test_a_checkpointed_transaction_wins_over_the_start_block(stub: StubGateway, network: Any) -> None:
    checkpoint = InMemoryCheckpointer()
    checkpoint.checkpoint_transaction(1, "tx1")
    request = _asked(stub, network, start_block=418, checkpoint=checkpoint)
    assert (request.start_block, request.after_transaction_id) == (1, "tx1")


def test_a_checkpointed_event_wins_over_the_start_block(stub: StubGateway, network: Any) -> None:
    checkpoint = InMemoryCheckpointer()
    checkpoint.checkpoint_chaincode_event(THIRD)
    request = _asked(stub, network, start_block=418, checkpoint=checkpoint)
    assert (request.start_block, request.after_transaction_id) == (2, "tx3")


def test_a_checkpoint_in_block_zero_counts(stub: StubGateway, network: Any) -> None:
    request = _asked(stub, network, start_block=418, checkpoint=InMemoryCheckpointer(Position(0, "tx0")))
    assert (request.start_block, request.after_transaction_id) == (0, "tx0")


def test_the_signed_bytes_are_the_request(side: Side, stub: StubGateway) -> None:
    digests: list[bytes] = []
    gateway = side.connect(stub, signer=lambda digest: digests.append(digest) or b"signed")
    request = _asked(stub, gateway.network("scf"), start_block=0)
    assert digests == [Hash.SHA256.digest(request.request)]
    assert request.signature == b"signed"


def test_streams_have_no_deadline_by_default(stub: StubGateway, network: Any) -> None:
    assert _asked(stub, network, start_block=0).timeout is None


def test_deadline_of_one_stream(stub: StubGateway, network: Any) -> None:
    assert _asked(stub, network, timeout=33).timeout == pytest.approx(33, abs=3)


def test_deadline_of_the_gateways_streams(side: Side, stub: StubGateway) -> None:
    network = side.connect(stub, timeouts=Timeouts(events=50)).network("scf")
    assert _asked(stub, network, start_block=0).timeout == pytest.approx(50, abs=3)


def test_delivers_events_in_order(stub: StubGateway, network: Any) -> None:
    stub.chaincode_events.answer([(FIRST, SECOND), THIRD, END])
    with network.chaincode_events("trade", start_block=0) as events:
        assert list(events) == [FIRST, SECOND, THIRD]


def test_delivers_large_block_numbers(stub: StubGateway, network: Any) -> None:
    event = ChaincodeEvent(2**64 - 1, "tx", "trade", "e", b"")
    stub.chaincode_events.answer([event, END])
    with network.chaincode_events("trade", start_block=0) as events:
        assert list(events) == [event]


def test_a_refusal_is_an_event_error(stub: StubGateway, network: Any) -> None:
    stub.chaincode_events.answer(Refusal(grpc.StatusCode.PERMISSION_DENIED, "no reader"))
    with (
        network.chaincode_events("trade", start_block=0) as events,
        pytest.raises(EventError, match="no reader") as caught,
    ):
        next(events)
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_an_interruption_is_an_event_error_after_the_events_before_it(stub: StubGateway, network: Any) -> None:
    stub.chaincode_events.answer([FIRST, Refusal(grpc.StatusCode.UNAVAILABLE, "shutting down")])
    with network.chaincode_events("trade", start_block=0) as events:
        assert next(events) == FIRST
        with pytest.raises(EventError, match="shutting down") as caught:
            next(events)
        assert caught.value.retryable
        with pytest.raises(StopIteration):
            next(events)


def test_the_deadline_of_a_stream_is_an_event_error(network: Any) -> None:
    with network.chaincode_events("trade", start_block=0, timeout=0.2) as events, pytest.raises(EventError) as caught:
        next(events)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_closing_cancels_on_the_server(stub: StubGateway, network: Any) -> None:
    stub.chaincode_events.answer([FIRST])
    events = network.chaincode_events("trade", start_block=0)
    assert next(events) == FIRST
    assert stub.open_streams == 1
    events.close()
    events.close()
    assert eventually(lambda: stub.open_streams == 0)
    assert list(events) == []


def test_leaving_the_block_cancels_on_the_server(stub: StubGateway, network: Any) -> None:
    stub.chaincode_events.answer([FIRST])
    with network.chaincode_events("trade", start_block=0) as events:
        assert next(events) == FIRST
    assert eventually(lambda: stub.open_streams == 0)


def test_leaving_the_block_by_an_exception_cancels_on_the_server(stub: StubGateway, network: Any) -> None:
    stub.chaincode_events.answer([FIRST])
    with pytest.raises(KeyError), network.chaincode_events("trade", start_block=0) as events:
        raise KeyError(next(events))
    assert eventually(lambda: stub.open_streams == 0)


def test_a_dropped_stream_is_released(stub: StubGateway, network: Any) -> None:
    stub.chaincode_events.answer([FIRST])
    events = network.chaincode_events("trade", start_block=0)
    assert next(events) == FIRST
    del events

    def released() -> bool:
        gc.collect()
        network.chain_info()  # lets the asyncio side run its loop
        return stub.open_streams == 0

    assert eventually(released)


def test_events_left_unread_are_not_delivered_after_closing(stub: StubGateway, network: Any) -> None:
    stub.chaincode_events.answer([(FIRST, SECOND)])
    events = network.chaincode_events("trade", start_block=0)
    assert next(events) == FIRST
    events.close()
    assert list(events) == []


def test_live_listeners_share_one_stream(stub: StubGateway, network: Any) -> None:
    stub.endorse.answer(Endorsed(b"", "voucher.issued", b"1"))
    with network.chaincode_events("trade") as first, network.chaincode_events("trade") as second:
        assert eventually(lambda: stub.open_streams == 1 and bool(network.chain_info()))
        network.contract("trade").submit("issue")
        assert next(first) == next(second)
        first.close()
        network.contract("trade").submit("issue")
        assert next(second).block_number == 2
        assert stub.open_streams == 1
    assert len(stub.chaincode_events.requests) == 1
    assert eventually(lambda: stub.open_streams == 0)


def test_live_listeners_of_other_chaincodes_do_not(stub: StubGateway, network: Any) -> None:
    with network.chaincode_events("trade"), network.chaincode_events("account"):
        assert eventually(lambda: stub.open_streams == 2 and bool(network.chain_info()))


def test_a_shared_stream_is_opened_again_after_its_last_listener(stub: StubGateway, network: Any) -> None:
    for _ in range(2):
        with network.chaincode_events("trade"):
            assert eventually(lambda: stub.open_streams == 1 and bool(network.chain_info()))
        assert eventually(lambda: stub.open_streams == 0 and bool(network.chain_info()))
    assert len(stub.chaincode_events.requests) == 2


def test_the_end_of_a_shared_stream_reaches_every_listener(stub: StubGateway, network: Any) -> None:
    stub.chaincode_events.answer([FIRST, Refusal(grpc.StatusCode.UNAVAILABLE, "gone")], [END])
    with network.chaincode_events("trade") as first:
        # The pump may have ended already when the second one asks; then that one has a stream of its own.
        assert next(first) == FIRST
        with pytest.raises(EventError, match="gone"):
            next(first)
    with network.chaincode_events("trade") as again:
        assert list(again) == []


def test_closing_the_gateway_stops_live_listeners(gateway: Any, stub: StubGateway) -> None:
    network = gateway.network("scf")
    events = network.chaincode_events("trade")
    with events:
        assert eventually(lambda: stub.open_streams == 1 and bool(network.chain_info()))
        gateway.close()
        assert list(events) == []


def test_close_from_another_thread_stops_a_waiting_reader(stub: StubGateway) -> None:
    signer = signers.from_key(private_key())
    with stub.channel() as channel, fabric.connect(channel, identity(), signer) as gateway:
        for start in (0, None):
            events = gateway.network("scf").chaincode_events("trade", start_block=start)
            read: list[list[ChaincodeEvent]] = []
            reader = threading.Thread(target=lambda events=events, read=read: read.append(list(events)))
            reader.start()
            assert eventually(lambda: stub.open_streams == 1)
            events.close()
            reader.join(5)
            assert read == [[]]
            assert eventually(lambda: stub.open_streams == 0)


def test_a_timeout_of_the_reader_loses_no_event(stub: StubGateway) -> None:
    stub.endorse.answer(Endorsed(b"", "e", b""))

    async def scenario() -> None:
        signer = signers.from_key(private_key())
        async with stub.aio_channel() as channel, aio.connect(channel, identity(), signer) as gateway:
            network = gateway.network("scf")
            for start in (0, None):
                async with network.chaincode_events("trade", start_block=start) as events:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.1):
                            await anext(events)
                    if start == 0 or stub.open_streams:
                        await network.contract("trade").submit("issue")
                        async with asyncio.timeout(5):
                            assert (await anext(events)).name == "e"
                        break

    with asyncio.Runner() as runner:
        runner.run(scenario())


def test_close_from_another_task_stops_a_waiting_reader(stub: StubGateway) -> None:
    async def scenario() -> None:
        signer = signers.from_key(private_key())
        async with stub.aio_channel() as channel, aio.connect(channel, identity(), signer) as gateway:
            for start in (0, None):
                events = gateway.network("scf").chaincode_events("trade", start_block=start)

                async def read(events: aio.Events[ChaincodeEvent] = events) -> list[ChaincodeEvent]:
                    return [event async for event in events]

                reader = asyncio.create_task(read())
                while not stub.open_streams:
                    await asyncio.sleep(0.005)
                await events.close()
                async with asyncio.timeout(5):
                    assert await reader == []
                    while stub.open_streams:
                        await asyncio.sleep(0.005)

    with asyncio.Runner() as runner:
        runner.run(scenario())


def test_a_stream_that_is_closed_while_it_opens_is_not_left_behind(stub: StubGateway) -> None:
    async def scenario() -> None:
        asked, released = asyncio.Event(), asyncio.Event()

        async def sign(digest: bytes) -> bytes:
            asked.set()
            await released.wait()
            return b"signature"

        async with stub.aio_channel() as channel, aio.connect(channel, identity(), sign) as gateway:
            events = gateway.network("scf").block_events(start_block=0)
            reader = asyncio.create_task(anext(events, None))
            await asked.wait()
            await events.close()
            released.set()
            assert await reader is None
            assert channel.open_streams == 0

    with asyncio.Runner() as runner:
        runner.run(scenario())


def test_many_open_streams_are_warned_of_once(
    stub: StubGateway, network: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="tallystick.fabric"):
        streams = [network.chaincode_events("trade", start_block=0) for _ in range(STREAMS_WARNED + 2)]
        for stream in streams:
            stream.__enter__()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert str(STREAMS_WARNED) in caplog.text
        for stream in streams:
            stream.close()
