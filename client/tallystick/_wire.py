"""The peer's side of Fabric's messages, for `testing.py`: the only module of this package that imports
`fabric_protos`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fabric_protos.common import common_pb2, ledger_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    chaincode_pb2,
    events_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)


@dataclass(frozen=True, slots=True)
class Call:
    """An `EvaluateRequest` or `EndorseRequest`, read down to the arguments."""

    transaction_id: str
    channel: str
    chaincode: str
    arguments: tuple[bytes, ...]
    transient: dict[str, bytes]
    organizations: tuple[str, ...]
    creator: bytes
    nonce: bytes
    signature: bytes
    proposal: bytes


def read_call(data: bytes) -> Call:
    """Read an `EvaluateRequest` or `EndorseRequest`: their fields have the same numbers and types."""
    request = gateway_pb2.EvaluateRequest.FromString(data)
    signed = request.proposed_transaction
    proposal = proposal_pb2.Proposal.FromString(signed.proposal_bytes)
    header = common_pb2.Header.FromString(proposal.header)
    channel_header = common_pb2.ChannelHeader.FromString(header.channel_header)
    signature_header = common_pb2.SignatureHeader.FromString(header.signature_header)
    payload = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
    spec = chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input).chaincode_spec
    return Call(
        transaction_id=request.transaction_id,
        channel=channel_header.channel_id,
        chaincode=spec.chaincode_id.name,
        arguments=tuple(spec.input.args),
        transient=dict(payload.TransientMap),
        organizations=tuple(request.target_organizations),
        creator=signature_header.creator,
        nonce=signature_header.nonce,
        signature=signed.signature,
        proposal=signed.proposal_bytes,
    )


def evaluate_response(result: bytes) -> bytes:
    """`EvaluateResponse` with the contract's answer."""
    response = _response(200, result)
    serialised: bytes = gateway_pb2.EvaluateResponse(result=response).SerializeToString()
    return serialised


def _response(status: int, payload: bytes) -> Any:
    """`protos.Response`."""
    return proposal_response_pb2.Response(status=status, payload=payload)


def endorse_response(call: Call, result: bytes, event: tuple[str, bytes] | None, channel: str) -> bytes:
    """`EndorseResponse` as a peer assembles it from one endorsement (gateway/submit.go `prepareTransaction`)."""
    proposal = proposal_pb2.Proposal.FromString(call.proposal)
    header = common_pb2.Header.FromString(proposal.header)
    if channel != call.channel:
        channel_header = common_pb2.ChannelHeader.FromString(header.channel_header)
        channel_header.channel_id = channel
        header.channel_header = channel_header.SerializeToString()
    payload = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
    payload.ClearField("TransientMap")
    events = b""
    if event is not None:
        events = chaincode_event_pb2.ChaincodeEvent(
            chaincode_id=call.chaincode, tx_id=call.transaction_id, event_name=event[0], payload=event[1]
        ).SerializeToString()
    action = proposal_pb2.ChaincodeAction(
        response=_response(200, result),
        events=events,
        chaincode_id=chaincode_pb2.ChaincodeID(name=call.chaincode),
    )
    response = proposal_response_pb2.ProposalResponsePayload(
        proposal_hash=hashlib.sha256(call.proposal).digest(), extension=action.SerializeToString()
    )
    action_payload = transaction_pb2.ChaincodeActionPayload(
        chaincode_proposal_payload=payload.SerializeToString(),
        action=transaction_pb2.ChaincodeEndorsedAction(proposal_response_payload=response.SerializeToString()),
    )
    transaction = transaction_pb2.Transaction(
        actions=[
            transaction_pb2.TransactionAction(
                header=header.signature_header, payload=action_payload.SerializeToString()
            )
        ]
    )
    envelope = common_pb2.Envelope(
        payload=common_pb2.Payload(header=header, data=transaction.SerializeToString()).SerializeToString()
    )
    serialised: bytes = gateway_pb2.EndorseResponse(prepared_transaction=envelope).SerializeToString()
    return serialised


def read_submit(data: bytes) -> tuple[str, str, bytes, bytes]:
    """Transaction id, channel, payload and signature of a `SubmitRequest`."""
    request = gateway_pb2.SubmitRequest.FromString(data)
    envelope = request.prepared_transaction
    return request.transaction_id, request.channel_id, envelope.payload, envelope.signature


def read_status_request(data: bytes) -> tuple[str, str, bytes, bytes, bytes]:
    """Transaction id, channel, identity, request and signature of a `SignedCommitStatusRequest`."""
    signed = gateway_pb2.SignedCommitStatusRequest.FromString(data)
    request = gateway_pb2.CommitStatusRequest.FromString(signed.request)
    return request.transaction_id, request.channel_id, request.identity, signed.request, signed.signature


def commit_status_response(code: int, block_number: int) -> bytes:
    """`CommitStatusResponse`."""
    serialised: bytes = gateway_pb2.CommitStatusResponse(result=code, block_number=block_number).SerializeToString()
    return serialised


def _position(position: Any) -> int | None:
    return position.specified.number if position.HasField("specified") else None


def read_events_request(data: bytes) -> tuple[str, str, int | None, str, bytes, bytes, bytes]:
    """Channel, chaincode, start block, after which transaction, identity, request, signature (chaincode events)."""
    signed = gateway_pb2.SignedChaincodeEventsRequest.FromString(data)
    request = gateway_pb2.ChaincodeEventsRequest.FromString(signed.request)
    return (
        request.channel_id,
        request.chaincode_id,
        _position(request.start_position),
        request.after_transaction_id,
        request.identity,
        signed.request,
        signed.signature,
    )


def read_seek(data: bytes) -> tuple[str, int | None, int | None, bytes, bytes, bytes, bytes]:
    """Channel, start block, stop block, creator, TLS certificate hash, payload, signature of a Deliver envelope."""
    envelope = common_pb2.Envelope.FromString(data)
    payload = common_pb2.Payload.FromString(envelope.payload)
    channel_header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
    signature_header = common_pb2.SignatureHeader.FromString(payload.header.signature_header)
    seek = ab_pb2.SeekInfo.FromString(payload.data)
    return (
        channel_header.channel_id,
        _position(seek.start),
        _position(seek.stop),
        signature_header.creator,
        channel_header.tls_cert_hash,
        envelope.payload,
        envelope.signature,
    )


def chaincode_events_response(block_number: int, events: Sequence[tuple[str, str, str, bytes]]) -> bytes:
    """`ChaincodeEventsResponse` of (transaction id, chaincode, name, payload)."""
    serialised: bytes = gateway_pb2.ChaincodeEventsResponse(
        block_number=block_number,
        events=[
            chaincode_event_pb2.ChaincodeEvent(tx_id=tx_id, chaincode_id=chaincode, event_name=name, payload=payload)
            for tx_id, chaincode, name, payload in events
        ],
    ).SerializeToString()
    return serialised


def envelope_event(envelope: bytes) -> tuple[str, str, str, bytes] | None:
    """(transaction id, chaincode, name, payload) of the event in a transaction's envelope."""
    payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(envelope).payload)
    for action in transaction_pb2.Transaction.FromString(payload.data).actions:
        endorsed = transaction_pb2.ChaincodeActionPayload.FromString(action.payload).action
        response = proposal_response_pb2.ProposalResponsePayload.FromString(endorsed.proposal_response_payload)
        chaincode_action = proposal_pb2.ChaincodeAction.FromString(response.extension)
        if chaincode_action.events:
            event = chaincode_event_pb2.ChaincodeEvent.FromString(chaincode_action.events)
            return event.tx_id, event.chaincode_id, event.event_name, event.payload
    return None


def block(number: int, previous_hash: bytes, data_hash: bytes, envelopes: Sequence[bytes], codes: bytes) -> bytes:
    """`common.Block` with a transactions filter."""
    serialised: bytes = common_pb2.Block(
        header=common_pb2.BlockHeader(number=number, previous_hash=previous_hash, data_hash=data_hash),
        data=common_pb2.BlockData(data=envelopes),
        metadata=common_pb2.BlockMetadata(metadata=[b"", b"", codes, b"", b""]),
    ).SerializeToString()
    return serialised


def filtered_block(
    channel: str, number: int, transactions: Sequence[tuple[str, int, int, Sequence[tuple[str, str, str]]]]
) -> bytes:
    """`protos.FilteredBlock` of (transaction id, header type, code, [(transaction id, chaincode, event name)])."""
    message = events_pb2.FilteredBlock(channel_id=channel, number=number)
    for transaction_id, kind, code, events in transactions:
        entry = message.filtered_transactions.add(txid=transaction_id, type=kind, tx_validation_code=code)
        for tx_id, chaincode, name in events:
            entry.transaction_actions.chaincode_actions.add(
                chaincode_event=chaincode_event_pb2.ChaincodeEvent(tx_id=tx_id, chaincode_id=chaincode, event_name=name)
            )
    serialised: bytes = message.SerializeToString()
    return serialised


def deliver_response(kind: str, value: bytes | int) -> bytes:
    """`DeliverResponse` of kind `status` (a number) or of a serialised message (`block`, `filtered_block`, …)."""
    if isinstance(value, int):
        serialised: bytes = events_pb2.DeliverResponse(status=value).SerializeToString()
        return serialised
    types: dict[str, Any] = {
        "block": common_pb2.Block,
        "filtered_block": events_pb2.FilteredBlock,
        "block_and_private_data": events_pb2.BlockAndPrivateData,
    }
    response: bytes = events_pb2.DeliverResponse(**{kind: types[kind].FromString(value)}).SerializeToString()
    return response


def block_and_private_data(block: bytes) -> bytes:
    """`BlockAndPrivateData` without private data."""
    serialised: bytes = events_pb2.BlockAndPrivateData(block=common_pb2.Block.FromString(block)).SerializeToString()
    return serialised


def chain_info(height: int, current_hash: bytes, previous_hash: bytes) -> bytes:
    """`BlockchainInfo`."""
    serialised: bytes = ledger_pb2.BlockchainInfo(
        height=height, currentBlockHash=current_hash, previousBlockHash=previous_hash
    ).SerializeToString()
    return serialised


def processed_transaction(envelope: bytes, code: int) -> bytes:
    """`ProcessedTransaction`."""
    serialised: bytes = transaction_pb2.ProcessedTransaction(
        transactionEnvelope=common_pb2.Envelope.FromString(envelope), validationCode=code
    ).SerializeToString()
    return serialised


def error_detail(address: str, msp_id: str, message: str) -> bytes:
    """`gateway.ErrorDetail`."""
    serialised: bytes = gateway_pb2.ErrorDetail(address=address, msp_id=msp_id, message=message).SerializeToString()
    return serialised
