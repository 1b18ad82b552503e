"""The system chaincodes: `qscc` (blocks and transactions), `cscc` (configuration) and the door to `_lifecycle`.

Texts and the order of checks: core/scc/qscc/query.go, core/scc/cscc/configure.go and core/chaincode/lifecycle/scc.go of
Fabric v3.1.5. `lscc` has been legacy since Fabric 2.0 and is refused by name; `escc` and `vscc` are no chaincodes here.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fabric_protos.common import common_pb2, configtx_pb2, ledger_pb2
from fabric_protos.peer import proposal_response_pb2, query_pb2, transaction_pb2

from network.embedded import lifecycle
from network.embedded.access import AccessError
from network.embedded.acl import AccessControl
from network.embedded.ledger import LedgerReader
from network.embedded.lifecyclescc import Lifecycle
from network.embedded.policy import SignedData
from network.embedded.simulator import SimulationError

Response = proposal_response_pb2.Response

VERSION: Final = "syscc"
NAMES: Final = frozenset({"qscc", "cscc", "lscc", lifecycle.NAMESPACE})
WITHOUT_SIMULATOR: Final = frozenset({"qscc", "cscc"})

_LAST_BLOCK = 2**64 - 1


class _Refusal(Exception):
    """An error answer, status 500."""


@dataclass(frozen=True, slots=True)
class SystemCall:
    """One call of a system chaincode.

    `outermost` is the chaincode named in the signed proposal's payload, `signed` the proposal and its signature,
    `msp_id` the organisation of the peer that was asked, `state` the simulator (None for a call without channel).
    """

    args: Sequence[bytes]
    outermost: str
    signed: SignedData
    channel: str
    msp_id: str
    state: lifecycle.LifecycleState | None


class SystemChaincodes:
    """The system chaincodes of one channel, for every peer of the network."""

    def __init__(
        self,
        channel: str,
        ledger: LedgerReader,
        access: AccessControl,
        definitions: Lifecycle,
        packages: Callable[[str], Sequence[lifecycle.InstalledPackage]],
    ) -> None:
        self._channel = channel
        self._ledger = ledger
        self._access = access
        self._definitions = definitions
        self._packages = packages

    def invoke(self, name: str, call: SystemCall) -> Response:
        """Answer a call of system chaincode `name`; errors are responses of status 500 (404: not defined)."""
        run = {"qscc": self._qscc, "cscc": self._cscc, lifecycle.NAMESPACE: self._lifecycle}.get(name)
        try:
            if run is None:
                raise _Refusal(f"embedded network: {name} is not supported")
            return Response(status=200, payload=run(call))
        except lifecycle.NotDefined as error:
            return Response(status=404, message=str(error))
        except _Refusal as error:
            return Response(status=500, message=str(error))

    # --- qscc ---

    def _qscc(self, call: SystemCall) -> bytes:
        if len(call.args) < 2:
            raise _Refusal(f"Incorrect number of arguments, {len(call.args)}")
        function, channel = _text(call.args[0]), _text(call.args[1])
        if call.outermost != "qscc":
            raise _Refusal(
                "Rejecting invoke of QSCC from another chaincode because of potential for deadlocks, "
                f"original invocation for '{call.outermost}'"
            )
        if function != "GetChainInfo" and len(call.args) < 3:
            raise _Refusal(f"missing 3rd argument for {function}")
        if channel != self._channel:
            raise _Refusal(f"Invalid chain ID, {channel}")
        try:
            self._access.check(f"qscc/{function}", call.signed, channel, call.msp_id)
        except AccessError as error:
            raise _Refusal(f"access denied for [{function}][{channel}]: [{error}]") from error
        if function == "GetChainInfo":
            return self._chain_info()
        argument = call.args[2]
        if function == "GetBlockByNumber":
            return self._block_by_number(argument)
        if function == "GetBlockByHash":
            return self._block_by_hash(argument)
        if function == "GetTransactionByID":
            return self._transaction(_text(argument))
        return self._block_by_transaction(_text(argument))

    def _chain_info(self) -> bytes:
        with self._ledger.snapshot() as snapshot:
            height, current, _ = snapshot.tip()
            row = snapshot.block_row(height - 1)
        previous = common_pb2.BlockHeader.FromString(row[1]).previous_hash if row is not None else b""
        return ledger_pb2.BlockchainInfo(
            height=height, currentBlockHash=current, previousBlockHash=previous
        ).SerializeToString()

    def _block_by_number(self, argument: bytes) -> bytes:
        text = _text(argument)
        if not (text.isascii() and text.isdigit()):
            raise _Refusal(
                f"Failed to parse block number with error strconv.ParseUint: parsing {_quoted(text)}: invalid syntax"
            )
        # Only the digits that can matter are converted: Python refuses to read a very long number.
        significant = text.lstrip("0") or "0"
        if len(significant) > 20 or int(significant) > _LAST_BLOCK:
            raise _Refusal(
                f"Failed to parse block number with error strconv.ParseUint: parsing {_quoted(text)}: "
                "value out of range"
            )
        number = int(significant)
        height = self._ledger.height
        wanted = height - 1 if number == _LAST_BLOCK else number
        block = self._ledger.block(wanted) if wanted < height else None
        if block is None:
            raise _Refusal(f"Failed to get block number {number}, error no such block number [{number}] in index")
        return block

    def _block_by_hash(self, block_hash: bytes) -> bytes:
        block = self._ledger.block_by_hash(block_hash)
        if block is None:
            raise _Refusal(
                f"Failed to get block hash {_text(block_hash)}, error no such block hash [{block_hash.hex()}] in index"
            )
        return block

    def _transaction(self, transaction_id: str) -> bytes:
        found = self._ledger.transaction(transaction_id)
        if found is None:
            raise _Refusal(
                f"Failed to get transaction with id {transaction_id}, "
                f"error no such transaction ID [{transaction_id}] in index"
            )
        envelope = common_pb2.Envelope.FromString(found.envelope)
        return transaction_pb2.ProcessedTransaction(
            transactionEnvelope=envelope, validationCode=found.code
        ).SerializeToString()

    def _block_by_transaction(self, transaction_id: str) -> bytes:
        block = self._ledger.block_by_transaction(transaction_id)
        if block is None:
            raise _Refusal(
                f"Failed to get block for txID {transaction_id}, "
                f"error no such transaction ID [{transaction_id}] in index"
            )
        return block

    # --- cscc ---

    def _cscc(self, call: SystemCall) -> bytes:
        if not call.args:
            raise _Refusal(f"Incorrect number of arguments, {len(call.args)}")
        function = _text(call.args[0])
        if function not in ("GetChannels", "JoinBySnapshotStatus") and len(call.args) < 2:
            raise _Refusal(f"Incorrect number of arguments, {len(call.args)}")
        if call.outermost != "cscc":
            raise _Refusal(
                f"Rejecting invoke of CSCC from another chaincode, original invocation for '{call.outermost}'"
            )
        if function == "GetChannels":
            self._allow_cscc(call, function, "")
            channels = [query_pb2.ChannelInfo(channel_id=self._channel)]
            return query_pb2.ChannelQueryResponse(channels=channels).SerializeToString()
        if function in ("GetConfigBlock", "GetChannelConfig"):
            return self._configuration(call, function, _text(call.args[1]))
        if function in ("JoinChain", "JoinChainBySnapshot", "JoinBySnapshotStatus"):
            self._allow_cscc(call, function, "")
            raise _Refusal("embedded network: joining channels is not supported")
        raise _Refusal(f"Requested function {function} not found.")

    def _allow_cscc(self, call: SystemCall, function: str, channel: str) -> None:
        try:
            self._access.check(f"cscc/{function}", call.signed, channel, call.msp_id)
        except AccessError as error:
            about = f"[{function}][{channel}]" if channel else f"[{function}]"
            raise _Refusal(f"access denied for {about}: {error}") from error

    def _configuration(self, call: SystemCall, function: str, channel: str) -> bytes:
        if not channel and function == "GetChannelConfig":
            raise _Refusal("empty channel name provided")
        self._allow_cscc(call, function, channel)
        if channel != self._channel:
            raise _Refusal(f"{'Unknown' if function == 'GetConfigBlock' else 'unknown'} channel ID, {channel}")
        # The channel's configuration never changes here, so block 0 is the last configuration block.
        block = self._ledger.block(0)
        if block is None:
            raise _Refusal("no such block number [0] in index")
        if function == "GetConfigBlock":
            return block
        envelope = common_pb2.Envelope.FromString(common_pb2.Block.FromString(block).data.data[0])
        payload = common_pb2.Payload.FromString(envelope.payload)
        config = configtx_pb2.ConfigEnvelope.FromString(payload.data).config
        return config.SerializeToString(deterministic=True)

    # --- _lifecycle ---

    def _lifecycle(self, call: SystemCall) -> bytes:
        if not call.args:
            raise _Refusal("lifecycle scc must be invoked with arguments")
        if len(call.args) != 2:
            raise _Refusal(f"lifecycle scc operations require exactly two arguments but received {len(call.args)}")
        function = _text(call.args[0])
        try:
            self._access.check(f"{lifecycle.NAMESPACE}/{function}", call.signed, call.channel, call.msp_id)
        except AccessError as error:
            raise _Refusal(f"Failed to authorize invocation due to failed ACL check: {error}") from error
        packages = self._packages(call.msp_id)
        try:
            return self._definitions.invoke(function, call.args[1], call.state, call.msp_id, packages)
        except lifecycle.NotDefined:
            raise
        except (lifecycle.LifecycleError, SimulationError) as error:
            if str(error) == lifecycle.NO_PACKAGES:
                raise _Refusal(lifecycle.NO_PACKAGES) from error
            raise _Refusal(f"failed to invoke backing implementation of '{function}': {error}") from error


def _text(argument: bytes) -> str:
    """An argument as text; what is not UTF-8 is replaced, because an answer's message must be."""
    return argument.decode(errors="replace")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
