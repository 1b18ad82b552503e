"""Chaincode events: one answer per block that holds a match, from storage, at the reader's own pace (G.1, G.3).

Source: internal/pkg/gateway/chaincodeevents.go and internal/pkg/gateway/event of Fabric v3.1.5. Unlike upstream the
wait for the next block ends with the client's call, so that an abandoned stream keeps no slot."""

from collections.abc import AsyncIterator, Callable
from typing import Final

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import chaincode_event_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2

from network.embedded.access import AccessError, check_readers
from network.embedded.block import TRANSACTIONS_FILTER
from network.embedded.chain import BlockStore, Chain
from network.embedded.policy import PolicyManager, SignedData
from network.embedded.rpc import RpcError, Unreadable, read

_VALID: Final = transaction_pb2.TxValidationCode.VALID
# Upstream prints the Go type of the position.
_GO_POSITION: Final = {"newest": "*orderer.SeekPosition_Newest", "oldest": "*orderer.SeekPosition_Oldest"}


class ChaincodeEvents:
    """Serves gateway.Gateway/ChaincodeEvents for the channel."""

    def __init__(self, channel: str, chain: Chain, ledger: BlockStore, policies: PolicyManager) -> None:
        self._channel = channel
        self._chain = chain
        self._ledger = ledger
        self._policies = policies

    def stream(
        self, signed: gateway_pb2.SignedChaincodeEventsRequest
    ) -> AsyncIterator[gateway_pb2.ChaincodeEventsResponse]:
        """Check the request and answer an endless iterator of responses.

        Raises `RpcError`: INVALID_ARGUMENT for a missing or unreadable request or another kind of start position,
        PERMISSION_DENIED for who is not a reader of the channel."""
        if not signed.request:
            raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "a chaincode events request is required")
        try:
            request = read(gateway_pb2.ChaincodeEventsRequest, signed.request)
        except Unreadable as error:
            raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, f"invalid chaincode events request: {error}") from error
        try:
            check_readers(
                self._policies,
                self._channel,
                request.channel_id,
                SignedData(message=signed.request, identity_bytes=request.identity, signature=signed.signature),
            )
        except AccessError as error:
            raise RpcError(grpc.StatusCode.PERMISSION_DENIED, str(error)) from error
        return self._follow(self._start(request), _matcher(request))

    def _start(self, request: gateway_pb2.ChaincodeEventsRequest) -> int:
        """The block of a known `after_transaction_id`, else the position asked for, else the next block."""
        if request.after_transaction_id:
            known = self._ledger.transaction(request.after_transaction_id)
            if known is not None:
                return int(known.block)
        return start_block(request.start_position, self._chain.height)

    async def _follow(
        self, number: int, matches: Callable[[chaincode_event_pb2.ChaincodeEvent], bool]
    ) -> AsyncIterator[gateway_pb2.ChaincodeEventsResponse]:
        while True:
            await self._chain.reached(number)
            events = [event for event in await self._chain.view(number, events_of) if matches(event)]
            if events:
                yield gateway_pb2.ChaincodeEventsResponse(block_number=number, events=events)
            number += 1


def start_block(position: ab_pb2.SeekPosition, height: int) -> int:
    """The first block of an event stream: a given number, or the height for next-commit and for nothing at all."""
    kind = position.WhichOneof("Type")
    if kind == "specified":
        return position.specified.number
    if kind in (None, "next_commit"):
        return height
    raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, f"invalid start position type: {_GO_POSITION[kind]}")


def events_of(block_bytes: bytes) -> tuple[chaincode_event_pb2.ChaincodeEvent, ...]:
    """The complete events of a block's VALID endorser transactions, in block order."""
    block = common_pb2.Block.FromString(block_bytes)
    codes = block.metadata.metadata[TRANSACTIONS_FILTER]
    found = []
    for index, envelope in enumerate(block.data.data):
        if index < len(codes) and codes[index] == _VALID:
            found.extend(_events_in(envelope))
    return tuple(found)


def transaction_events(actions: transaction_pb2.Transaction) -> list[chaincode_event_pb2.ChaincodeEvent]:
    """The event of each action of a transaction, unnamed ones included. Raises DecodeError on unreadable bytes."""
    found = []
    for action in actions.actions:
        payload = transaction_pb2.ChaincodeActionPayload.FromString(action.payload)
        response = proposal_response_pb2.ProposalResponsePayload.FromString(payload.action.proposal_response_payload)
        result = proposal_pb2.ChaincodeAction.FromString(response.extension)
        found.append(chaincode_event_pb2.ChaincodeEvent.FromString(result.events))
    return found


def _events_in(envelope: bytes) -> list[chaincode_event_pb2.ChaincodeEvent]:
    payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(envelope).payload)
    header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
    if header.type != common_pb2.HeaderType.ENDORSER_TRANSACTION:
        return []
    events = transaction_events(transaction_pb2.Transaction.FromString(payload.data))
    return [event for event in events if event.chaincode_id and event.event_name and event.tx_id]


def _matcher(request: gateway_pb2.ChaincodeEventsRequest) -> Callable[[chaincode_event_pb2.ChaincodeEvent], bool]:
    """Events of the chaincode; with a checkpoint only those after that transaction's own event.

    The skip looks at events only, of any chaincode: a checkpoint that never occurs delivers nothing, as upstream."""
    chaincode, after = request.chaincode_id, request.after_transaction_id
    passed = not after

    def matches(event: chaincode_event_pb2.ChaincodeEvent) -> bool:
        nonlocal passed
        if passed:
            return event.chaincode_id == chaincode
        passed = event.tx_id == after
        return False

    return matches
