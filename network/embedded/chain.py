"""The committed chain as readers see it: its height, its blocks, and waiting for what is not there yet.

Everything here runs on the network's event loop. Nobody is told of a block before its SQLite COMMIT
(embedded-network.md H), and no reader has a queue of its own: streams ask for the next number when they are ready for
it (G.3)."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from fabric_protos.peer import transaction_pb2

# Commit statuses are asked right after the commit; older ones are found in the index.
_RECENT_TRANSACTIONS: Final = 20_000
# Live streams all ask for the newest blocks; a block is rarely over a few hundred kB.
_RECENT_VIEWS: Final = 64
_Code: Final = transaction_pb2.TxValidationCode
# Verdicts reached after the look for repetitions: the transaction is the first with its id. Any other verdict may be
# that of a later envelope which only claims the id; then the index, which keeps the first, has the answer.
_SURE: Final = frozenset(
    {_Code.VALID, _Code.ENDORSEMENT_POLICY_FAILURE, _Code.MVCC_READ_CONFLICT, _Code.PHANTOM_READ_CONFLICT}
)

P = ParamSpec("P")
T = TypeVar("T")


class BlockStore(Protocol):
    """What the chain reads from the ledger."""

    @property
    def height(self) -> int: ...
    def block(self, number: int) -> bytes | None: ...
    def transaction(self, transaction_id: str) -> Any: ...


class Committed(Protocol):
    """A block that is on disk."""

    @property
    def number(self) -> int: ...
    @property
    def block_bytes(self) -> bytes: ...
    @property
    def transactions(self) -> Sequence[tuple[str, int]]: ...


@dataclass(frozen=True, slots=True)
class Commit:
    """Where a transaction landed: its block and its validation code (0 is VALID)."""

    block_number: int
    code: int


class Chain:
    """The one channel's committed blocks, shared by commit status, events and block delivery."""

    def __init__(self, ledger: BlockStore, readers: Executor) -> None:
        self._ledger = ledger
        self._readers = readers
        self.height = ledger.height
        self._grown = asyncio.Event()
        self._recent: OrderedDict[str, Commit] = OrderedDict()
        self._expected: set[str] = set()
        self._waiting: dict[str, set[asyncio.Future[Commit]]] = {}
        self._views: OrderedDict[tuple[int, object], Any] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many transaction ids somebody waits for."""
        return len(self._waiting)

    def expect(self, transaction_id: str) -> None:
        """Note that a transaction is on its way into a block, so that nobody has to look for it on the disk."""
        self._expected.add(transaction_id)

    def arrived(self, transaction_id: str) -> None:
        """Note that an expected transaction is in a block, whatever became of it."""
        self._expected.discard(transaction_id)

    def publish(self, committed: Committed) -> None:
        """Make a block known that has just been committed, and wake everybody who waits for it."""
        self.height = committed.number + 1
        self._keep((committed.number, bytes), committed.block_bytes)
        for transaction_id, code in committed.transactions:
            commit = Commit(committed.number, code)
            if code in _SURE:
                self._recent[transaction_id] = commit
            for waiter in self._waiting.pop(transaction_id, ()):
                if not waiter.done():
                    waiter.set_result(commit)
        while len(self._recent) > _RECENT_TRANSACTIONS:
            self._recent.popitem(last=False)
        self._grown.set()
        self._grown = asyncio.Event()

    async def reached(self, number: int) -> None:
        """Return as soon as block `number` is committed."""
        while self.height <= number:
            await self._grown.wait()

    async def block(self, number: int) -> bytes:
        """The committed block's bytes with filled metadata; `number` must be below the height."""
        return await self.view(number, bytes)

    async def view(self, number: int, make: Callable[[bytes], T]) -> T:
        """What `make` makes of a block's bytes, computed off the loop and kept while the block is among the newest."""
        found: T | None = self._views.get((number, make))
        if found is not None:
            return found
        raw: bytes | None = self._views.get((number, bytes))
        if raw is not None and make is bytes:
            return raw  # type: ignore[return-value]  # `make` is bytes, so T is bytes
        made = await asyncio.get_running_loop().run_in_executor(self._readers, self._make, number, raw, make)
        if number >= self.height - _RECENT_VIEWS:
            self._keep((number, make), made)
        return made

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that reads the ledger, off the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, partial(function, *args, **kwargs))

    async def commit_of(self, transaction_id: str) -> Commit:
        """The first commit of this id: at once when it is stored, otherwise when it is committed.

        An id that nobody submits is waited for until the caller is cancelled."""
        recent = self._recent.get(transaction_id)
        if recent is not None:
            return recent
        # The waiter stands before the index is read, so that no commit in between is missed. For an expected
        # transaction it is not read at all, unless the verdict leaves open whose it is.
        waiter: asyncio.Future[Commit] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(transaction_id, set()).add(waiter)
        try:
            commit = await waiter if transaction_id in self._expected else self._stored(transaction_id) or await waiter
            return commit if commit.code in _SURE else self._stored(transaction_id) or commit
        finally:
            waiters = self._waiting.get(transaction_id)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiting[transaction_id]

    def _stored(self, transaction_id: str) -> Commit | None:
        found = self._ledger.transaction(transaction_id)
        return None if found is None else Commit(found.block, found.code)

    def _make(self, number: int, raw: bytes | None, make: Callable[[bytes], T]) -> T:
        if raw is None:
            raw = self._ledger.block(number)
        if raw is None:
            raise LookupError(f"block {number} is not on the ledger although its height says so")
        return make(raw)

    def _keep(self, key: tuple[int, object], made: object) -> None:
        self._views[key] = made
        while len(self._views) > _RECENT_VIEWS:
            self._views.popitem(last=False)
