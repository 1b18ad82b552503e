"""The Fabric Gateway client for asyncio: the names of `tallystick.fabric`, with `await`, `async with` and `async for`.

Both interfaces are edges of one core; what is pure (identities, blocks, errors, checkpointers) is the same object in
both. It imports nothing of contracts or networks.
"""

from tallystick.aio._edge import Signer
from tallystick.aio.channel import Channel, channel
from tallystick.aio.commit import Commit, CommitTracker, SubmittedTransaction
from tallystick.aio.contract import Contract
from tallystick.aio.events import (
    BlockAndPrivateDataEventsRequest,
    BlockEventsRequest,
    ChaincodeEventsRequest,
    Events,
    FilteredBlockEventsRequest,
)
from tallystick.aio.gateway import Gateway, connect
from tallystick.aio.network import Network
from tallystick.aio.proposal import Proposal
from tallystick.aio.transaction import Transaction
from tallystick.fabric import signer as signers
from tallystick.fabric._core import Timeouts
from tallystick.fabric._retry import Retry
from tallystick.fabric.block import (
    Block,
    BlockAndPrivateData,
    BlockTransaction,
    ChaincodeEvent,
    ChainInfo,
    FilteredBlock,
    FilteredTransaction,
    PrivateWrites,
    Write,
)
from tallystick.fabric.checkpoint import (
    Checkpointer,
    FileCheckpointer,
    HookCheckpointer,
    InMemoryCheckpointer,
    Position,
)
from tallystick.fabric.errors import (
    CheckpointError,
    CommitError,
    CommitStatusError,
    ContractAnswer,
    DecodeError,
    EndorseError,
    ErrorDetail,
    EvaluateError,
    EventError,
    FabricError,
    GatewayError,
    IdentityError,
    SigningError,
    SubmitError,
)
from tallystick.fabric.hashing import Hash
from tallystick.fabric.identity import Identity
from tallystick.fabric.status import Status, ValidationCode

__all__ = [
    "Block",
    "BlockAndPrivateData",
    "BlockAndPrivateDataEventsRequest",
    "BlockEventsRequest",
    "BlockTransaction",
    "ChainInfo",
    "ChaincodeEvent",
    "ChaincodeEventsRequest",
    "Channel",
    "CheckpointError",
    "Checkpointer",
    "Commit",
    "CommitError",
    "CommitStatusError",
    "CommitTracker",
    "Contract",
    "ContractAnswer",
    "DecodeError",
    "EndorseError",
    "ErrorDetail",
    "EvaluateError",
    "EventError",
    "Events",
    "FabricError",
    "FileCheckpointer",
    "FilteredBlock",
    "FilteredBlockEventsRequest",
    "FilteredTransaction",
    "Gateway",
    "GatewayError",
    "Hash",
    "HookCheckpointer",
    "Identity",
    "IdentityError",
    "InMemoryCheckpointer",
    "Network",
    "Position",
    "PrivateWrites",
    "Proposal",
    "Retry",
    "Signer",
    "SigningError",
    "Status",
    "SubmitError",
    "SubmittedTransaction",
    "Timeouts",
    "Transaction",
    "ValidationCode",
    "Write",
    "channel",
    "connect",
    "signers",
]
