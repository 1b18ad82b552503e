"""A network: one channel, its contracts and its events."""

from typing import TypeVar

from tallystick.fabric._core import (
    BlockEventsRequestCore,
    Settings,
    new_block_events_payload,
    new_status_request,
)
from tallystick.fabric._wire import chaincode_events_request
from tallystick.fabric.block import Block, BlockAndPrivateData, ChaincodeEvent, ChainInfo, FilteredBlock
from tallystick.fabric.checkpoint import Checkpointer, check_network
from tallystick.fabric.commit import Commit
from tallystick.fabric.contract import Contract
from tallystick.fabric.events import (
    BlockAndPrivateDataEventsRequest,
    BlockEventsRequest,
    ChaincodeEventsRequest,
    Events,
    FilteredBlockEventsRequest,
    LiveSources,
)

R = TypeVar("R", bound=BlockEventsRequestCore)

LEDGER_CHAINCODE = "qscc"
"""The system chaincode of every peer that answers questions about blocks."""


def start_of(start_block: int | None, checkpoint: Checkpointer | None) -> tuple[int | None, str]:
    """Where a stream starts: block (None: the next committed) and the transaction after which.

    A set checkpoint wins.
    """
    if checkpoint is None:
        return start_block, ""
    block = checkpoint.block_number
    return (start_block if block is None else block), checkpoint.transaction_id or ""


class Requests:
    """What networks of both interfaces share: the name, and unsigned requests as bytes."""

    def __init__(self, settings: Settings, name: str, network_id: str | None) -> None:
        self._settings = settings
        self.name = name
        self._network_id = network_id

    def _check(self, checkpoint: Checkpointer | None) -> None:
        """Compare a checkpoint with the network's id as far as it is known; needs no call."""
        if checkpoint is not None and self._network_id is not None:
            check_network(checkpoint, self._network_id)
            if checkpoint.network_id is None:
                checkpoint.bind(self._network_id)

    def _chaincode_events_bytes(
        self, chaincode: str, start_block: int | None, checkpoint: Checkpointer | None
    ) -> bytes:
        self._check(checkpoint)
        block, transaction_id = start_of(start_block, checkpoint)
        return chaincode_events_request(self.name, chaincode, self._settings.creator, block, transaction_id)

    def _block_events_bytes(self, start_block: int | None, checkpoint: Checkpointer | None) -> bytes:
        self._check(checkpoint)
        return new_block_events_payload(self._settings, self.name, start_of(start_block, checkpoint)[0])


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

    def chain_info(self, *, timeout: float | None = None) -> ChainInfo:
        """Height and hashes of the peer's ledger. Raises EvaluateError."""
        answer = self.contract(LEDGER_CHAINCODE).evaluate("GetChainInfo", self.name, timeout=timeout)
        return ChainInfo.from_bytes(answer)

    def block(self, number: int, *, timeout: float | None = None) -> Block:
        """A block that is already on the ledger. Raises EvaluateError."""
        answer = self.contract(LEDGER_CHAINCODE).evaluate("GetBlockByNumber", self.name, str(number), timeout=timeout)
        return Block.from_bytes(answer)

    def network_id(self) -> str:
        """Header hash of block 0 in lower-case hex: tells this network from any other.

        Asked once. Raises EvaluateError.
        """
        if self._network_id is None:
            self._network_id = self.block(0).hash.hex()
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
        self._identify(checkpoint)
        request = self.chaincode_events_request(chaincode, start_block=start_block, checkpoint=checkpoint)
        if start_of(start_block, checkpoint) == (None, "") and timeout is None:
            return self._live.listen((self.name, chaincode), request.events)
        return request.events(timeout=timeout)

    def block_events(
        self, *, start_block: int | None = None, checkpoint: Checkpointer | None = None, timeout: float | None = None
    ) -> Events[Block]:
        """Whole blocks, valid and invalid transactions alike. Start and errors as for chaincode events."""
        self._identify(checkpoint)
        return self.block_events_request(start_block=start_block, checkpoint=checkpoint).events(timeout=timeout)

    def filtered_block_events(
        self, *, start_block: int | None = None, checkpoint: Checkpointer | None = None, timeout: float | None = None
    ) -> Events[FilteredBlock]:
        """Ids, verdicts and event names of each block. Start and errors as for chaincode events."""
        self._identify(checkpoint)
        request = self.filtered_block_events_request(start_block=start_block, checkpoint=checkpoint)
        return request.events(timeout=timeout)

    def block_and_private_data_events(
        self, *, start_block: int | None = None, checkpoint: Checkpointer | None = None, timeout: float | None = None
    ) -> Events[BlockAndPrivateData]:
        """Blocks with the private data that the peer's organisation holds. Start and errors as for chaincode events."""
        self._identify(checkpoint)
        request = self.block_and_private_data_events_request(start_block=start_block, checkpoint=checkpoint)
        return request.events(timeout=timeout)

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

    def _identify(self, checkpoint: Checkpointer | None) -> None:
        if checkpoint is not None:
            self.network_id()
