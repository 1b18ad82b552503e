"""Interruptions, refused connections, deadlines, limits, and that nothing leaks."""

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from tallystick import aio, fabric
from tallystick.fabric import (
    CommitStatusError,
    EndorseError,
    EvaluateError,
    EventError,
    Retry,
    SubmitError,
    Timeouts,
    signers,
)
from tallystick.fabric.channel import IN_FLIGHT_MAX
from tallystick.testing import WAIT, Endorsed, StubGateway

from .conftest import eventually
from .material import identity, private_key
from .sides import Side

SHORT = Timeouts(evaluate=0.3, endorse=0.3, submit=0.3, commit_status=0.3)
STREAMS_IN_CI = 1_500
"""Opened and cancelled here; `scripts/bench client --streams 10000` does more."""


@pytest.mark.parametrize(
    ("stage", "kind"),
    [
        ("evaluate", EvaluateError),
        ("endorse", EndorseError),
        ("submit", SubmitError),
        ("commit_status", CommitStatusError),
    ],
)
def test_deadline_of_each_stage(side: Side, stub: StubGateway, stage: str, kind: type[Exception]) -> None:
    getattr(stub, stage).answer(WAIT)
    contract = side.connect(stub, timeouts=SHORT).network("scf").contract("trade")
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        contract.evaluate("get") if stage == "evaluate" else contract.submit("issue")
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
    assert time.monotonic() - started < 3
    if stage in ("submit", "commit_status"):
        assert caught.value.outcome_unknown  # type: ignore[attr-defined]


def test_a_refused_connection_is_unavailable(side: Side, stub: StubGateway) -> None:
    stub.stop()
    contract = side.connect(stub).network("scf").contract("trade")
    with pytest.raises(EvaluateError) as evaluated:
        contract.evaluate("get")
    with pytest.raises(EndorseError) as endorsed:
        contract.submit("issue")
    assert {evaluated.value.code, endorsed.value.code} == {grpc.StatusCode.UNAVAILABLE}
    assert evaluated.value.retryable
    assert endorsed.value.retryable


def test_a_refused_connection_is_an_event_error(side: Side, stub: StubGateway) -> None:
    network = side.connect(stub).network("scf")
    stub.stop()
    with network.block_events(start_block=0) as events, pytest.raises(EventError) as caught:
        next(events)
    assert (caught.value.code, caught.value.retryable) == (grpc.StatusCode.UNAVAILABLE, True)


def test_a_restarted_server_is_found_again(side: Side) -> None:
    with StubGateway() as first:
        network = side.connect(first).network("scf")
        network.contract("trade").submit("issue")
        events = network.block_events(start_block=1)
        assert next(events).number == 1
        first.stop()
        with pytest.raises(EventError) as caught:
            next(events)
        assert caught.value.retryable
    retry = Retry(attempts=60, delay=0.1, delay_max=0.2)
    with StubGateway(port=first.port) as second:
        second.evaluate.answer(b"back")
        assert network.contract("trade").evaluate("get", retry=retry, timeout=20) == b"back"
        network.contract("trade").submit("issue")
        with network.block_events(start_block=1) as again:
            assert next(again).number == 1


def test_a_stop_during_a_call_is_unavailable(side: Side, stub: StubGateway) -> None:
    stub.evaluate.answer(WAIT)
    contract = side.connect(stub, timeouts=Timeouts(evaluate=20)).network("scf").contract("trade")
    stopper = threading.Thread(target=lambda: eventually(lambda: bool(stub.evaluate.requests)) and stub.stop())
    stopper.start()
    with pytest.raises(EvaluateError) as caught:
        contract.evaluate("get")
    stopper.join()
    assert caught.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def test_calls_in_flight_are_bounded(stub: StubGateway) -> None:
    """Two hundred calls wait; one more finds no slot in time, and says that it was not sent."""
    with StubGateway(workers=8) as busy, busy.channel() as channel, ThreadPoolExecutor(IN_FLIGHT_MAX) as pool:
        busy.evaluate.answer(WAIT)
        signer = signers.from_key(private_key())
        contract = fabric.connect(channel, identity(), signer).network("scf").contract("trade")
        waiting = [pool.submit(_outcome, contract, 4.0) for _ in range(IN_FLIGHT_MAX)]
        assert eventually(lambda: not channel.slots.acquire(blocking=False) or bool(channel.slots.release()), 10)
        with pytest.raises(EvaluateError, match="no free slot") as caught:
            contract.evaluate("get", timeout=0.05)
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        transaction_id = "ab" * 32
        error = SubmitError(grpc.StatusCode.DEADLINE_EXCEEDED, "no free slot", (), transaction_id)
        error.not_sent = True
        assert not error.outcome_unknown
        busy.stop()
        assert {future.result() for future in waiting} <= {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN"}
    assert stub.evaluate.requests == []


def _outcome(contract: Any, timeout: float) -> str:
    try:
        contract.evaluate("get", timeout=timeout)
    except EvaluateError as error:
        return error.code.name
    return "answered"


def test_calls_in_flight_are_bounded_with_asyncio(stub: StubGateway) -> None:
    async def scenario() -> None:
        signer = signers.from_key(private_key())
        async with stub.aio_channel() as channel, aio.connect(channel, identity(), signer) as gateway:
            contract = gateway.network("scf").contract("trade")
            for _ in range(IN_FLIGHT_MAX):
                await channel.slots.acquire()
            with pytest.raises(EvaluateError, match="no free slot"):
                await contract.evaluate("get", timeout=0.05)
            with pytest.raises(EndorseError, match="no free slot"):
                await contract.submit("issue", timeout=0.05)
            channel.slots.release()
            assert await contract.evaluate("get", timeout=5) == b""

    with asyncio.Runner() as runner:
        runner.run(scenario())
    assert not stub.endorse.requests


def test_a_submit_without_a_slot_has_a_known_outcome(stub: StubGateway) -> None:
    signer = signers.from_key(private_key())
    with stub.channel() as channel, ExitStack() as held, fabric.connect(channel, identity(), signer) as gateway:
        transaction = gateway.network("scf").contract("trade").new_proposal("issue").endorse()
        for _ in range(IN_FLIGHT_MAX):
            channel.slots.acquire()
            held.callback(channel.slots.release)
        with pytest.raises(SubmitError) as caught:
            transaction.submit(timeout=0.05)
        assert caught.value.not_sent
        assert not caught.value.outcome_unknown


def test_cancelling_a_task_cancels_the_call(stub: StubGateway) -> None:
    stub.evaluate.answer(WAIT)

    async def scenario() -> None:
        signer = signers.from_key(private_key())
        async with stub.aio_channel() as channel, aio.connect(channel, identity(), signer) as gateway:
            contract = gateway.network("scf").contract("trade")
            task = asyncio.create_task(contract.evaluate("get", timeout=30))
            while not stub.evaluate.requests:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            stub.evaluate.answer(b"next")
            assert await contract.evaluate("get") == b"next"

    with asyncio.Runner() as runner:
        runner.run(scenario())


def test_threads_share_a_gateway(stub: StubGateway) -> None:
    stub.evaluate.answer(lambda request: request.arguments[1])
    signer = signers.from_key(private_key())
    with stub.channel() as channel, fabric.connect(channel, identity(), signer) as gateway:
        contract = gateway.network("scf").contract("trade")
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda number: contract.evaluate("get", str(number)), range(200)))
    assert answers == [str(number).encode() for number in range(200)]


def test_opened_and_cancelled_streams_leak_nothing(side: Side, stub: StubGateway) -> None:
    stub.endorse.answer(Endorsed(b"", "e", b""))
    channel = side.channel(stub.target, insecure=True)
    gateway = side.connect(channel)
    network = gateway.network("scf")
    network.contract("trade").submit("issue")
    kinds = (
        lambda: network.chaincode_events("trade", start_block=0),
        lambda: network.block_events(start_block=0),
        lambda: network.filtered_block_events(start_block=0),
    )
    for number in range(30):
        _read_one(kinds[number % 3])
    threads, objects = threading.active_count(), _ours()
    for number in range(STREAMS_IN_CI // 2):
        _read_one(kinds[number % 3])
    assert eventually(lambda: stub.open_streams == 0)
    assert channel.open_streams == 0
    assert len(gateway._settings.edge.streams) == 0
    # The stub's pool may still have been growing.
    assert threading.active_count() <= threads + 64
    assert _ours() <= objects + 10
    assert network.contract("trade").evaluate("get") == b""


def _read_one(opened: Any) -> None:
    with opened() as events:
        next(events)


def _ours() -> int:
    gc.collect()
    modules = ("tallystick.fabric.events", "tallystick.aio.events")
    return sum(getattr(type(item), "__module__", None) in modules for item in gc.get_objects())


def test_live_streams_that_are_opened_and_closed_leak_nothing(side: Side, stub: StubGateway) -> None:
    channel = side.channel(stub.target, insecure=True)
    network = side.connect(channel).network("scf")
    for _ in range(100):
        with network.chaincode_events("trade"):
            pass
    assert eventually(lambda: bool(network.chain_info()) and stub.open_streams == 0)
    assert channel.open_streams == 0
    assert eventually(lambda: not [name for name in _thread_names() if name == "tallystick-events"])


def _thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]
