"""The committed chain: waiting for blocks and for transactions, and whose verdict an id has."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from fabric_protos.peer import transaction_pb2

from network.embedded.chain import Chain, Commit

Code = transaction_pb2.TxValidationCode


@dataclass(frozen=True)
class Stored:
    """Where the index says a transaction lies."""

    block: int
    code: int


@dataclass
class Store:
    """A ledger of blocks that are just bytes, and an index; `reads` counts how often either was asked."""

    height: int = 1
    index: dict[str, Stored] = field(default_factory=dict)
    reads: list[object] = field(default_factory=list)

    def block(self, number: int) -> bytes | None:
        self.reads.append(number)
        return b"block %d" % number if number < self.height else None

    def transaction(self, transaction_id: str) -> Stored | None:
        self.reads.append(transaction_id)
        return self.index.get(transaction_id)


@dataclass(frozen=True)
class Block:
    """A block as the committer hands it over."""

    number: int
    transactions: list[tuple[str, int]]
    block_bytes: bytes = b"new"


@pytest.fixture
def readers() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine."""
    with asyncio.Runner() as runner:
        runner.run(work())


async def begun(work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """A task that has come to its first wait."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


def test_a_stored_transaction_answers_at_once(readers: Executor) -> None:
    async def work() -> None:
        store = Store(index={"old": Stored(0, Code.VALID)})
        assert await Chain(store, readers).commit_of("old") == Commit(0, Code.VALID)

    run(work)


def test_a_recent_transaction_is_answered_without_the_disk(readers: Executor) -> None:
    async def work() -> None:
        store = Store()
        chain = Chain(store, readers)
        chain.publish(Block(1, [("new", Code.MVCC_READ_CONFLICT)]))
        assert await chain.commit_of("new") == Commit(1, Code.MVCC_READ_CONFLICT)
        assert store.reads == []

    run(work)


def test_an_expected_transaction_is_waited_for_without_the_disk(readers: Executor) -> None:
    async def work() -> None:
        store = Store()
        chain = Chain(store, readers)
        chain.expect("coming")
        waiting = await begun(chain.commit_of("coming"))
        chain.publish(Block(1, [("coming", Code.VALID)]))
        assert await waiting == Commit(1, Code.VALID)
        assert store.reads == []
        assert chain.waiting == 0

    run(work)


@pytest.mark.parametrize("verdict", [Code.DUPLICATE_TXID, Code.BAD_PROPOSAL_TXID, Code.BAD_CREATOR_SIGNATURE])
def test_who_only_claims_an_id_does_not_answer_for_it(readers: Executor, verdict: int) -> None:
    """The first transaction with the id is stored; a later envelope under the same id is in the new block."""

    async def work() -> None:
        store = Store(index={"claimed": Stored(0, Code.VALID)})
        chain = Chain(store, readers)
        chain.expect("claimed")
        waiting = await begun(chain.commit_of("claimed"))
        chain.arrived("claimed")
        chain.publish(Block(1, [("claimed", verdict)]))
        assert await waiting == Commit(0, Code.VALID)
        assert await chain.commit_of("claimed") == Commit(0, Code.VALID)

    run(work)


def test_who_leaves_waits_no_longer(readers: Executor) -> None:
    async def work() -> None:
        chain = Chain(Store(), readers)
        waiting = await begun(chain.commit_of("never"))
        assert chain.waiting == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        assert chain.waiting == 0

    run(work)


def test_a_block_is_waited_for_by_many_and_read_once(readers: Executor) -> None:
    async def work() -> None:
        store = Store()
        chain = Chain(store, readers)
        waiting = [await begun(chain.reached(1)) for _ in range(3)]
        waiting[0].cancel()
        chain.publish(Block(1, []))
        await asyncio.gather(*waiting[1:])
        assert [await chain.view(1, len) for _ in range(3)] == [3, 3, 3]
        assert store.reads == []

    run(work)


def test_an_old_block_is_read_from_the_ledger(readers: Executor) -> None:
    async def work() -> None:
        store = Store(height=200)
        chain = Chain(store, readers)
        assert await chain.block(7) == await chain.block(7) == b"block 7"
        assert store.reads == [7, 7]

    run(work)
