"""Many verdicts from one stream of filtered blocks."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from tallystick import aio, fabric
from tallystick.fabric import (
    CommitStatusError,
    FilteredBlock,
    FilteredTransaction,
    SubmitError,
    ValidationCode,
    signers,
)
from tallystick.fabric.commit import OUTCOMES_KEPT, Outcomes
from tallystick.testing import Refusal, StubGateway

from .conftest import eventually
from .material import identity, private_key
from .sides import Side


def _endorsed(network: Any) -> Any:
    return network.contract("trade").new_proposal("issue").endorse()


def test_gives_the_verdict_without_asking(side: Side, stub: StubGateway, network: Any) -> None:
    tracker = side.tracker(network)
    statuses = [tracker.submit(_endorsed(network)) for _ in range(3)]
    assert [status.block_number for status in statuses] == [1, 2, 3]
    assert all(status.successful for status in statuses)
    assert (len(stub.deliver_filtered.requests), len(stub.commit_status.requests)) == (1, 0)


def test_an_invalid_transaction_is_a_value(side: Side, stub: StubGateway, network: Any) -> None:
    tracker = side.tracker(network)
    stub.code = ValidationCode.MVCC_READ_CONFLICT
    assert tracker.submit(_endorsed(network)).code is ValidationCode.MVCC_READ_CONFLICT


def test_sees_everything_from_its_opening_on(side: Side, stub: StubGateway, network: Any) -> None:
    network.contract("trade").submit("before")
    tracker = side.tracker(network)
    submitted = network.contract("trade").submit_async("issue")
    assert tracker.status(submitted.transaction_id).block_number == 2
    assert stub.deliver_filtered.requests[0].start_block == 2


def test_a_wait_ends_in_time(side: Side, network: Any) -> None:
    tracker = side.tracker(network)
    with pytest.raises(CommitStatusError, match="in time") as caught:
        tracker.status("ab" * 32, timeout=0.1)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.transaction_id == "ab" * 32


def test_a_refused_submit_is_a_submit_error(side: Side, stub: StubGateway, network: Any) -> None:
    stub.submit.answer(Refusal(grpc.StatusCode.ABORTED, "refused"))
    with pytest.raises(SubmitError, match="refused"):
        side.tracker(network).submit(_endorsed(network))


def test_the_end_of_the_stream_is_told_and_mended(side: Side, stub: StubGateway, network: Any) -> None:
    stub.deliver_filtered.answer([Refusal(grpc.StatusCode.UNAVAILABLE, "peer restarts")])
    tracker = side.tracker(network)
    with pytest.raises(CommitStatusError, match="peer restarts") as caught:
        tracker.status("ab" * 32, timeout=5)
    assert caught.value.outcome_unknown
    stub.deliver_filtered.answer()
    submitted = network.contract("trade").submit_async("issue")
    stub.deliver_filtered.answer(None)
    assert tracker.status(submitted.transaction_id, timeout=5).block_number == 1


def test_goes_on_where_the_stream_stopped(side: Side, stub: StubGateway, network: Any) -> None:
    block = FilteredBlock("scf", 4, (FilteredTransaction("ab" * 32, 3, ValidationCode.VALID, ()),))
    stub.deliver_filtered.answer([block, Refusal(grpc.StatusCode.UNAVAILABLE, "gone")], [block])
    tracker = side.tracker(network)
    assert tracker.status("ab" * 32, timeout=5).block_number == 4
    for _ in range(2):
        with pytest.raises(CommitStatusError):
            tracker.status("cd" * 32, timeout=0.5)
    assert eventually(lambda: len(stub.deliver_filtered.requests) == 2)
    assert stub.deliver_filtered.requests[1].start_block == 5


def test_closing_ends_its_stream(side: Side, stub: StubGateway, network: Any) -> None:
    tracker = side.tracker(network)
    tracker.submit(_endorsed(network))
    assert stub.open_streams == 1
    tracker.close()
    tracker.close()
    assert eventually(lambda: stub.open_streams == 0)
    with pytest.raises(CommitStatusError):
        tracker.status("ab" * 32, timeout=1)


def test_many_threads_share_a_tracker(stub: StubGateway) -> None:
    signer = signers.from_key(private_key())
    with stub.channel() as channel, fabric.connect(channel, identity(), signer) as gateway:
        network = gateway.network("scf")
        with fabric.CommitTracker(network) as tracker, ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: tracker.submit(_endorsed(network), timeout=20), range(60)))
    assert sorted(status.block_number for status in statuses) == list(range(1, 61))
    assert not stub.commit_status.requests


def test_many_tasks_share_a_tracker(stub: StubGateway) -> None:
    async def scenario() -> list[fabric.Status]:
        signer = signers.from_key(private_key())
        async with stub.aio_channel() as channel, aio.connect(channel, identity(), signer) as gateway:
            network = gateway.network("scf")
            async with aio.CommitTracker(network) as tracker:

                async def one() -> fabric.Status:
                    transaction = await network.contract("trade").new_proposal("issue").endorse()
                    return await tracker.submit(transaction, timeout=20)

                return await asyncio.gather(*(one() for _ in range(60)))

    with asyncio.Runner() as runner:
        statuses = runner.run(scenario())
    assert sorted(status.block_number for status in statuses) == list(range(1, 61))


def _block(number: int, *ids: str) -> FilteredBlock:
    transactions = (FilteredTransaction(name, 3, ValidationCode.VALID, ()) for name in ids)
    return FilteredBlock("scf", number, tuple(transactions))


def test_the_first_verdict_on_an_id_counts() -> None:
    outcomes = Outcomes()
    assert [status.transaction_id for status in outcomes.learn(_block(1, "a", "b"))] == ["a", "b"]
    assert outcomes.learn(_block(2, "a")) == []
    found = outcomes.get("a")
    assert found is not None
    assert found.block_number == 1
    assert outcomes.next_block == 3


def test_old_verdicts_are_forgotten() -> None:
    outcomes = Outcomes()
    for number in range(OUTCOMES_KEPT + 10):
        outcomes.learn(_block(number, f"tx{number}"))
    assert outcomes.get("tx9") is None
    assert outcomes.get("tx10") is not None
