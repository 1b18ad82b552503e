"""Threads of simulations: how many work at once, what becomes of one that does not come back, and of clients that
leave."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from network.embedded.gateway import Call
from network.embedded.simulations import Overrun, Simulations


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine."""
    with asyncio.Runner() as runner:
        runner.run(work())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, five seconds at most."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def test_results_and_errors_come_back() -> None:
    async def work() -> None:
        simulations = Simulations(1, seconds=5)
        assert await simulations.run(lambda: 7, Call()) == 7
        with pytest.raises(ZeroDivisionError):
            await simulations.run(lambda: 1 // 0, Call())
        assert await simulations.run(threading.get_ident, Call()) != threading.get_ident()
        simulations.close()

    run(work)


def test_no_more_work_at_once_than_allowed() -> None:
    async def work() -> None:
        simulations = Simulations(2, seconds=5)
        go, lock = threading.Event(), threading.Lock()
        at_work: list[int] = [0, 0]

        def job() -> None:
            with lock:
                at_work[0] += 1
                at_work[1] = max(at_work)
            go.wait(5)
            with lock:
                at_work[0] -= 1

        jobs = [asyncio.create_task(simulations.run(job, Call())) for _ in range(6)]
        await until(lambda: at_work[0] == 2)
        go.set()
        await asyncio.gather(*jobs)
        assert at_work == [0, 2]
        simulations.close()

    run(work)


def test_a_job_that_does_not_come_back_gives_its_place_away() -> None:
    async def work() -> None:
        simulations = Simulations(1, seconds=0.05)
        go = threading.Event()
        with pytest.raises(Overrun, match=r"^error sending: timeout expired while executing transaction$"):
            await simulations.run(lambda: go.wait(5), Call())
        assert simulations.lost == 1
        assert await simulations.run(lambda: "next", Call()) == "next"
        go.set()
        await until(lambda: simulations.lost == 0)
        simulations.close()

    run(work)


def test_the_time_counts_from_the_last_peer_that_was_asked() -> None:
    async def work() -> None:
        simulations = Simulations(1, seconds=0.2)
        call = Call()

        def job() -> str:
            for _ in range(4):
                call.asked_at = time.monotonic()
                threading.Event().wait(0.1)
            return "done"

        assert await simulations.run(job, call) == "done"
        simulations.close()

    run(work)


def test_new_work_is_refused_when_too_many_are_lost() -> None:
    async def work() -> None:
        simulations = Simulations(1, seconds=0.02, lost_max=2)
        go = threading.Event()
        for _ in range(2):
            with pytest.raises(Overrun):
                await simulations.run(lambda: go.wait(5), Call())
        with pytest.raises(Overrun, match="no chaincode thread is free, 2 have not returned in time"):
            await simulations.run(lambda: "refused", Call())
        go.set()
        await until(lambda: simulations.lost == 0)
        assert await simulations.run(lambda: "again", Call()) == "again"
        simulations.close()

    run(work)


def test_a_client_that_leaves_does_not_free_the_thread_it_used() -> None:
    async def work() -> None:
        simulations = Simulations(1, seconds=5)
        go, begun = threading.Event(), threading.Event()

        def job() -> None:
            begun.set()
            go.wait(5)

        task = asyncio.create_task(simulations.run(job, Call()))
        await until(begun.is_set)
        task.cancel()
        waiting = asyncio.create_task(simulations.run(lambda: "after", Call()))
        await asyncio.sleep(0)
        assert not waiting.done()
        go.set()
        assert await waiting == "after"
        simulations.close()

    run(work)
