"""The Fabric Gateway client, synchronous. `tallystick.aio` has the same names for asyncio.

Its job is the protocol between a client and a peer's Gateway service, for any contract on any Fabric network from 2.4
on. It imports nothing of contracts or networks, and only `_wire.py` imports Fabric's messages.
"""

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
from tallystick.fabric.channel import Channel, channel
from tallystick.fabric.checkpoint import (
    Checkpointer,
    FileCheckpointer,
    HookCheckpointer,
    InMemoryCheckpointer,
    Position,
)
from tallystick.fabric.commit import Commit, CommitTracker, SubmittedTransaction
from tallystick.fabric.contract import Contract
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
from tallystick.fabric.events import (
    BlockAndPrivateDataEventsRequest,
    BlockEventsRequest,
    ChaincodeEventsRequest,
    Events,
    FilteredBlockEventsRequest,
)
from tallystick.fabric.gateway import Gateway, connect
from tallystick.fabric.hashing import Hash
from tallystick.fabric.identity import Identity
from tallystick.fabric.network import Network
from tallystick.fabric.proposal import Proposal
from tallystick.fabric.signer import Signer
from tallystick.fabric.status import Status, ValidationCode
from tallystick.fabric.transaction import Transaction

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
