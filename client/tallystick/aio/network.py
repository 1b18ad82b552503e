"""A network: one channel, its contracts and its events."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tallystick.aio.commit import Commit
from tallystick.aio.contract import Contract
from tallystick.aio.events import (
    BlockAndPrivateDataEventsRequest,
    BlockEventsRequest,
    ChaincodeEventsRequest,
    Events,
    FilteredBlockEventsRequest,
    LiveSources,
    open_stream,
)
from tallystick.fabric import _wire
from tallystick.fabric._core import BlockEventsRequestCore, Settings, new_status_request
from tallystick.fabric.block import Block, BlockAndPrivateData, ChaincodeEvent, ChainInfo, FilteredBlock
from tallystick.fabric.checkpoint import Checkpointer
from tallystick.fabric.events import (
    Read,
    block_and_private_data_of,
    block_of,
    chaincode_events_of,
    filtered_block_of,
)
from tallystick.fabric.network import LEDGER_CHAINCODE, Requests, start_of

T = TypeVar("T")
R = TypeVar("R", bound=BlockEventsRequestCore)


class Network(Requests):
    """A channel as this gateway sees it; `name` is the channel's."""

    def __init__(self, settings: Settings, name: str, network_id: str | None, live: LiveSources) -> None:
        super().__init__(settings, name, network_id)
        self._live = live

    def contract(self, chaincode: str, name: str | None = None) -> Contract:
        """A contract of a chaincode: the default one, or the one of that name. No call is made."""
        return Contract(self._settings, self.name, chaincode, name)

    def commit(self, transaction_id: str) -> Commit:
        """The question how a transaction ended of which only the id is known, for example after an unknown outcome."""
        return Commit(self._settings, new_status_request(self._settings, self.name, transaction_id))

    async def chain_info(self, *, timeout: float | None = None) -> ChainInfo:
        """Height and hashes of the peer's ledger. Raises EvaluateError."""
        answer = await self.contract(LEDGER_CHAINCODE).evaluate("GetChainInfo", self.name, timeout=timeout)
        return ChainInfo.from_bytes(answer)

    async def block(self, number: int, *, timeout: float | None = None) -> Block:
        """A block that is already on the ledger. Raises EvaluateError."""
        answer = await self.contract(LEDGER_CHAINCODE).evaluate(
            "GetBlockByNumber", self.name, str(number), timeout=timeout
        )
        return Block.from_bytes(answer)

    async def network_id(self) -> str:
        """Header hash of block 0 in lower-case hex: tells this network from any other.

        Asked once. Raises EvaluateError.
        """
        if self._network_id is None:
            self._network_id = (await self.block(0)).hash.hex()
        return self._network_id

    def chaincode_events(
        self,
        chaincode: str,
        *,
        start_block: int | None = None,
        checkpoint: Checkpointer | None = None,
        timeout: float | None = None,
    ) -> Events[ChaincodeEvent]:
        """The events of one chaincode in valid transactions.

        From the checkpoint if it holds a position, else from start_block, else live: from the next block on. Live
        listeners of one gateway share one stream. With a checkpoint the network's id is asked for first (once).
        Raises CheckpointError for a checkpoint of another network, EvaluateError, and EventError while reading.
        """

        async def open_source() -> Any:
            await self._identify(checkpoint)
            request = self.chaincode_events_request(chaincode, start_block=start_block, checkpoint=checkpoint)

            def opened() -> Awaitable[Any]:
                return open_stream(request, _wire.CHAINCODE_EVENTS, chaincode_events_of, timeout)

            if start_of(start_block, checkpoint) == (None, "") and timeout is None:
                return await self._live.listen((self.name, chaincode), opened)
            return await opened()

        return Events(open_source)

    def block_events(
        self, *, start_block: int | None = None, checkpoint: Checkpointer | None = None, timeout: float | None = None
    ) -> Events[Block]:
        """Whole blocks, valid and invalid transactions alike. Start and errors as for chaincode events."""
        make = self.block_events_request
        return self._blocks(make, _wire.DELIVER, block_of, start_block, checkpoint, timeout)

    def filtered_block_events(
        self, *, start_block: int | None = None, checkpoint: Checkpointer | None = None, timeout: float | None = None
    ) -> Events[FilteredBlock]:
        """Ids, verdicts and event names of each block. Start and errors as for chaincode events."""
        make = self.filtered_block_events_request
        return self._blocks(make, _wire.DELIVER_FILTERED, filtered_block_of, start_block, checkpoint, timeout)

    def block_and_private_data_events(
        self, *, start_block: int | None = None, checkpoint: Checkpointer | None = None, timeout: float | None = None
    ) -> Events[BlockAndPrivateData]:
        """Blocks with the private data that the peer's organisation holds. Start and errors as for chaincode events."""
        make = self.block_and_private_data_events_request
        return self._blocks(make, _wire.DELIVER_PRIVATE, block_and_private_data_of, start_block, checkpoint, timeout)

    def _blocks(
        self,
        make: Callable[..., BlockEventsRequestCore],
        method: str,
        read: Read[T],
        start_block: int | None,
        checkpoint: Checkpointer | None,
        timeout: float | None,
    ) -> Events[T]:
        # The network's id has to be asked for before the request is made, and only when the stream is opened.
        async def open_source() -> Any:
            await self._identify(checkpoint)
            return await open_stream(make(start_block=start_block, checkpoint=checkpoint), method, read, timeout)

        return Events(open_source)

    def chaincode_events_request(
        self, chaincode: str, *, start_block: int | None = None, checkpoint: Checkpointer | None = None
    ) -> ChaincodeEventsRequest:
        """A request for chaincode events to be signed elsewhere. No call is made.

        So the checkpoint is compared with the network's id only if that is known already.
        """
        request = self._chaincode_events_bytes(chaincode, start_block, checkpoint)
        return ChaincodeEventsRequest(self._settings, self.name, chaincode, request, b"")

    def block_events_request(
        self, *, start_block: int | None = None, checkpoint: Checkpointer | None = None
    ) -> BlockEventsRequest:
        """A request for blocks to be signed elsewhere. No call is made."""
        return self._block_request(BlockEventsRequest, start_block, checkpoint)

    def filtered_block_events_request(
        self, *, start_block: int | None = None, checkpoint: Checkpointer | None = None
    ) -> FilteredBlockEventsRequest:
        """A request for filtered blocks to be signed elsewhere. No call is made."""
        return self._block_request(FilteredBlockEventsRequest, start_block, checkpoint)

    def block_and_private_data_events_request(
        self, *, start_block: int | None = None, checkpoint: Checkpointer | None = None
    ) -> BlockAndPrivateDataEventsRequest:
        """A request for blocks with private data to be signed elsewhere. No call is made."""
        return self._block_request(BlockAndPrivateDataEventsRequest, start_block, checkpoint)

    def _block_request(self, kind: type[R], start: int | None, point: Checkpointer | None) -> R:
        return kind(self._settings, self.name, self._block_events_bytes(start, point), b"")

    async def _identify(self, checkpoint: Checkpointer | None) -> None:
        if checkpoint is not None:
            await self.network_id()
