"""Fabric's messages, built and read: the only module of this package that imports `fabric_protos`.

Everything here is a function of bytes and plain values. Bytes that are signed are made once and never serialised again.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabric_protos.common import common_pb2, ledger_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    chaincode_pb2,
    events_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)
from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from tallystick.fabric.errors import DecodeError

_ENDORSER_TRANSACTION: int = common_pb2.ENDORSER_TRANSACTION
_DELIVER_SEEK_INFO: int = common_pb2.DELIVER_SEEK_INFO
# Peers ignore the language; the official Node client sends this one, and equal bytes make it an independent test.
_LANGUAGE: int = chaincode_pb2.ChaincodeSpec.NODE
_FOREVER = 2**64 - 1
_BLOCK_NUMBER_MAX = 2**64 - 1
_TRANSACTION_ID = re.compile("[0-9a-f]{64}")

EVALUATE = "/gateway.Gateway/Evaluate"
ENDORSE = "/gateway.Gateway/Endorse"
SUBMIT = "/gateway.Gateway/Submit"
COMMIT_STATUS = "/gateway.Gateway/CommitStatus"
CHAINCODE_EVENTS = "/gateway.Gateway/ChaincodeEvents"
DELIVER = "/protos.Deliver/Deliver"
DELIVER_FILTERED = "/protos.Deliver/DeliverFiltered"
DELIVER_PRIVATE = "/protos.Deliver/DeliverWithPrivateData"


# ---- identities and proposals


def serialized_identity(msp_id: str, credentials: bytes) -> bytes:
    """`SerializedIdentity`: what stands in every creator field."""
    serialised: bytes = identities_pb2.SerializedIdentity(mspid=msp_id, id_bytes=credentials).SerializeToString()
    return serialised


def read_identity(data: bytes) -> tuple[str, bytes]:
    """MSP id and credentials of a `SerializedIdentity`; ("", b"") for unreadable bytes."""
    try:
        message = identities_pb2.SerializedIdentity.FromString(data)
    except ProtobufDecodeError:
        return "", b""
    return message.mspid, message.id_bytes


def proposal(
    *,
    channel: str,
    chaincode: str,
    arguments: Sequence[bytes],
    transient: Mapping[str, bytes],
    creator: bytes,
    nonce: bytes,
    transaction_id: str,
    seconds: int,
    nanos: int,
) -> bytes:
    """`peer.Proposal`: the bytes that the client signs and every endorser sees."""
    chaincode_id = chaincode_pb2.ChaincodeID(name=chaincode)
    channel_header = common_pb2.ChannelHeader(
        type=_ENDORSER_TRANSACTION,
        tx_id=transaction_id,
        timestamp=Timestamp(seconds=seconds, nanos=nanos),
        channel_id=channel,
        extension=proposal_pb2.ChaincodeHeaderExtension(chaincode_id=chaincode_id).SerializeToString(),
    )
    invocation = chaincode_pb2.ChaincodeInvocationSpec(
        chaincode_spec=chaincode_pb2.ChaincodeSpec(
            type=_LANGUAGE, chaincode_id=chaincode_id, input=chaincode_pb2.ChaincodeInput(args=arguments)
        )
    )
    header = common_pb2.Header(
        channel_header=channel_header.SerializeToString(),
        signature_header=common_pb2.SignatureHeader(creator=creator, nonce=nonce).SerializeToString(),
    )
    payload = proposal_pb2.ChaincodeProposalPayload(input=invocation.SerializeToString(), TransientMap=transient)
    serialised: bytes = proposal_pb2.Proposal(
        header=header.SerializeToString(), payload=payload.SerializeToString()
    ).SerializeToString()
    return serialised


@dataclass(frozen=True, slots=True)
class ProposedTransaction:
    """What a `gateway.ProposedTransaction` holds."""

    transaction_id: str
    channel: str
    proposal: bytes
    signature: bytes
    endorsing_organizations: tuple[str, ...]


def proposed_transaction(transaction_id: str, proposal: bytes, signature: bytes, organizations: Sequence[str]) -> bytes:
    """`gateway.ProposedTransaction`: what a proposal is stored and passed on as."""
    serialised: bytes = gateway_pb2.ProposedTransaction(
        transaction_id=transaction_id,
        proposal=proposal_pb2.SignedProposal(proposal_bytes=proposal, signature=signature),
        endorsing_organizations=organizations,
    ).SerializeToString()
    return serialised


def read_proposed_transaction(data: bytes) -> ProposedTransaction:
    """Raises DecodeError unless the bytes hold a proposal of a transaction with a channel and a transaction id."""
    what = "a proposed transaction"
    message = _parse(gateway_pb2.ProposedTransaction, data, what)
    proposal_bytes = message.proposal.proposal_bytes
    proposal = _parse(proposal_pb2.Proposal, proposal_bytes, what)
    channel_header = _channel_header(_parse(common_pb2.Header, proposal.header, what), what)
    _check_invocation(proposal.payload, channel_header.extension, what)
    if channel_header.type != _ENDORSER_TRANSACTION or channel_header.tx_id != message.transaction_id:
        raise DecodeError(f"not {what}: the header is of another kind or names another transaction")
    return ProposedTransaction(
        message.transaction_id,
        channel_header.channel_id,
        proposal_bytes,
        message.proposal.signature,
        tuple(message.endorsing_organizations),
    )


def _check_invocation(payload: bytes, extension: bytes, what: str) -> None:
    """An endorsed transaction has the same outer shape; only a proposal's payload invokes the chaincode of its
    header.
    """
    named = _parse(proposal_pb2.ChaincodeHeaderExtension, extension, what).chaincode_id.name
    invocation = _parse(proposal_pb2.ChaincodeProposalPayload, payload, what).input
    spec = _parse(chaincode_pb2.ChaincodeInvocationSpec, invocation, what).chaincode_spec
    if not named or spec.chaincode_id.name != named:
        raise DecodeError(f"not {what}: it does not invoke the chaincode that its header names")


def call_request(
    channel: str, transaction_id: str, proposal: bytes, signature: bytes, organizations: Sequence[str]
) -> bytes:
    """`EvaluateRequest` or `EndorseRequest`: their fields have the same numbers and types."""
    serialised: bytes = gateway_pb2.EvaluateRequest(
        transaction_id=transaction_id,
        channel_id=channel,
        proposed_transaction=proposal_pb2.SignedProposal(proposal_bytes=proposal, signature=signature),
        target_organizations=organizations,
    ).SerializeToString()
    return serialised


def evaluate_result(response: bytes) -> bytes:
    """The contract's answer in an `EvaluateResponse`."""
    result: bytes = _parse(gateway_pb2.EvaluateResponse, response, "an evaluate response", empty=True).result.payload
    return result


# ---- endorsed transactions


@dataclass(frozen=True, slots=True)
class PreparedTransaction:
    """What a `gateway.PreparedTransaction` holds. `payload` is what is signed."""

    transaction_id: str
    channel: str
    payload: bytes
    signature: bytes
    result: bytes


def prepared_of_endorsement(response: bytes) -> tuple[bytes, bytes]:
    """Payload and signature of the envelope in an `EndorseResponse`."""
    envelope = _parse(gateway_pb2.EndorseResponse, response, "an endorse response").prepared_transaction
    return envelope.payload, envelope.signature


def prepared_transaction(transaction_id: str, payload: bytes, signature: bytes) -> bytes:
    """`gateway.PreparedTransaction`: what an endorsed transaction is stored and passed on as."""
    serialised: bytes = gateway_pb2.PreparedTransaction(
        transaction_id=transaction_id, envelope=common_pb2.Envelope(payload=payload, signature=signature)
    ).SerializeToString()
    return serialised


def read_prepared_transaction(data: bytes) -> PreparedTransaction:
    """Raises DecodeError unless the bytes hold an endorsed transaction with a result."""
    message = _parse(gateway_pb2.PreparedTransaction, data, "a prepared transaction")
    if not message.transaction_id:
        raise DecodeError("not a prepared transaction: it has no transaction id")
    return read_envelope(message.envelope.payload, message.envelope.signature, message.transaction_id)


def read_envelope(payload: bytes, signature: bytes, transaction_id: str) -> PreparedTransaction:
    """The parts of an endorsed transaction's envelope. Raises DecodeError when it is not one or has another id."""
    what = "an endorsed transaction"
    message = _parse(common_pb2.Payload, payload, what)
    channel_header = _channel_header(message.header, what)
    if channel_header.type != _ENDORSER_TRANSACTION or channel_header.tx_id != transaction_id:
        raise DecodeError(f"not {what}: the header is of another kind or names another transaction")
    for action in _parse(transaction_pb2.Transaction, message.data, what).actions:
        endorsed = _parse(transaction_pb2.ChaincodeActionPayload, action.payload, what).action
        response = _parse(proposal_response_pb2.ProposalResponsePayload, endorsed.proposal_response_payload, what)
        chaincode_action = _parse(proposal_pb2.ChaincodeAction, response.extension, what)
        if chaincode_action.HasField("response"):
            result = chaincode_action.response.payload
            return PreparedTransaction(transaction_id, channel_header.channel_id, payload, signature, result)
    raise DecodeError(f"not {what}: it holds no chaincode response")


def submit_request(channel: str, transaction_id: str, payload: bytes, signature: bytes) -> bytes:
    """`SubmitRequest`."""
    serialised: bytes = gateway_pb2.SubmitRequest(
        transaction_id=transaction_id,
        channel_id=channel,
        prepared_transaction=common_pb2.Envelope(payload=payload, signature=signature),
    ).SerializeToString()
    return serialised


# ---- commit status


def commit_status_request(channel: str, transaction_id: str, identity: bytes) -> bytes:
    """`CommitStatusRequest`: what is signed."""
    serialised: bytes = gateway_pb2.CommitStatusRequest(
        transaction_id=transaction_id, channel_id=channel, identity=identity
    ).SerializeToString()
    return serialised


def signed_request(request: bytes, signature: bytes) -> bytes:
    """`SignedCommitStatusRequest` or `SignedChaincodeEventsRequest`: the same two fields."""
    serialised: bytes = gateway_pb2.SignedCommitStatusRequest(request=request, signature=signature).SerializeToString()
    return serialised


def read_signed_commit_status_request(data: bytes) -> tuple[str, str, bytes, bytes]:
    """Transaction id, channel, request and signature. Raises DecodeError."""
    what = "a signed commit status request"
    message = _parse(gateway_pb2.SignedCommitStatusRequest, data, what)
    request = _parse(gateway_pb2.CommitStatusRequest, message.request, what)
    if not (_TRANSACTION_ID.fullmatch(request.transaction_id) and request.channel_id and request.identity):
        raise DecodeError(f"not {what}: transaction id, channel or identity is missing")
    return request.transaction_id, request.channel_id, message.request, message.signature


def commit_status(response: bytes) -> tuple[int, int]:
    """Validation code and block number of a `CommitStatusResponse`."""
    message = _parse(gateway_pb2.CommitStatusResponse, response, "a commit status response", empty=True)
    return message.result, message.block_number


# ---- requests for events


def _seek_start(start_block: int | None) -> Any:
    if start_block is None:
        return ab_pb2.SeekPosition(next_commit=ab_pb2.SeekNextCommit())
    if not 0 <= start_block <= _BLOCK_NUMBER_MAX:
        raise ValueError(f"a block number is 0 to 2**64 - 1, not {start_block}")
    return ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=start_block))


def chaincode_events_request(
    channel: str, chaincode: str, identity: bytes, start_block: int | None, after_transaction_id: str
) -> bytes:
    """`ChaincodeEventsRequest`: what is signed. start_block None: the next block that is committed."""
    serialised: bytes = gateway_pb2.ChaincodeEventsRequest(
        channel_id=channel,
        chaincode_id=chaincode,
        identity=identity,
        start_position=_seek_start(start_block),
        after_transaction_id=after_transaction_id,
    ).SerializeToString()
    return serialised


def read_signed_chaincode_events_request(data: bytes) -> tuple[str, str, bytes, bytes]:
    """Channel, chaincode, request and signature. Raises DecodeError."""
    what = "a signed chaincode events request"
    message = _parse(gateway_pb2.SignedChaincodeEventsRequest, data, what)
    request = _parse(gateway_pb2.ChaincodeEventsRequest, message.request, what)
    if not (request.channel_id and request.chaincode_id and request.identity and request.HasField("start_position")):
        raise DecodeError(f"not {what}: channel, chaincode, identity or start is missing")
    return request.channel_id, request.chaincode_id, message.request, message.signature


def block_events_payload(
    *, channel: str, creator: bytes, start_block: int | None, tls_certificate_hash: bytes, seconds: int, nanos: int
) -> bytes:
    """Payload of the Deliver envelope (`DELIVER_SEEK_INFO`): what is signed. Runs until it is cancelled."""
    channel_header = common_pb2.ChannelHeader(
        type=_DELIVER_SEEK_INFO,
        timestamp=Timestamp(seconds=seconds, nanos=nanos),
        channel_id=channel,
        tls_cert_hash=tls_certificate_hash,
    )
    stop = ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=_FOREVER))
    serialised: bytes = common_pb2.Payload(
        header=common_pb2.Header(
            channel_header=channel_header.SerializeToString(),
            signature_header=common_pb2.SignatureHeader(creator=creator).SerializeToString(),
        ),
        data=ab_pb2.SeekInfo(start=_seek_start(start_block), stop=stop).SerializeToString(),
    ).SerializeToString()
    return serialised


def envelope(payload: bytes, signature: bytes) -> bytes:
    """`common.Envelope`."""
    serialised: bytes = common_pb2.Envelope(payload=payload, signature=signature).SerializeToString()
    return serialised


def read_block_events_envelope(data: bytes) -> tuple[str, bytes, bytes]:
    """Channel, payload and signature. Raises DecodeError unless the envelope asks for blocks."""
    what = "a block events request"
    message = _parse(common_pb2.Envelope, data, what)
    channel_header = _channel_header(_parse(common_pb2.Payload, message.payload, what).header, what)
    if channel_header.type != _DELIVER_SEEK_INFO:
        raise DecodeError(f"not {what}: the header is of another kind")
    return channel_header.channel_id, message.payload, message.signature


# ---- answers of event streams


def chaincode_events(response: bytes) -> tuple[int, list[tuple[str, str, str, bytes]]]:
    """Block number, and (transaction id, chaincode, event name, payload) per event, of a `ChaincodeEventsResponse`."""
    message = _parse(gateway_pb2.ChaincodeEventsResponse, response, "a chaincode events response", empty=True)
    events = [(event.tx_id, event.chaincode_id, event.event_name, event.payload) for event in message.events]
    return message.block_number, events


def deliver_response(response: bytes) -> tuple[str, Any]:
    """Kind (`status`, `block`, `filtered_block`, `block_and_private_data`, "") and message of a `DeliverResponse`."""
    message = _parse(events_pb2.DeliverResponse, response, "a deliver response", empty=True)
    kind = message.WhichOneof("Type") or ""
    return kind, getattr(message, kind) if kind else None


def deliver_status_name(status: int) -> str:
    """Name of a `common.Status`, for example NOT_FOUND."""
    name: str = common_pb2.Status.Name(status) if status in common_pb2.Status.values() else str(status)
    return name


# ---- error details


def error_detail(data: bytes) -> tuple[str, str, str]:
    """Address, MSP id and message of a `gateway.ErrorDetail`."""
    message = _parse(gateway_pb2.ErrorDetail, data, "an error detail", empty=True)
    return message.address, message.msp_id, message.message


# ---- blocks


@dataclass(frozen=True, slots=True)
class BlockParts:
    """A block as its three sections, with the transactions filter split out (empty when no peer has filled it)."""

    number: int
    previous_hash: bytes
    data_hash: bytes
    envelopes: tuple[bytes, ...]
    codes: bytes


def parse_block(data: bytes) -> Any:
    """`common.Block`. Raises DecodeError."""
    block = _parse(common_pb2.Block, data, "a block")
    if not block.HasField("header"):
        raise DecodeError("not a block: it has no header")
    return block


def block_parts(block: Any) -> BlockParts:
    """The sections of a `common.Block`."""
    metadata = block.metadata.metadata
    filter_index = common_pb2.TRANSACTIONS_FILTER
    return BlockParts(
        block.header.number,
        block.header.previous_hash,
        block.header.data_hash,
        tuple(block.data.data),
        metadata[filter_index] if len(metadata) > filter_index else b"",
    )


@dataclass(frozen=True, slots=True)
class EnvelopeParts:
    """What a block reader wants of one envelope; fields that it lacks are empty."""

    type: int
    channel: str
    transaction_id: str
    seconds: int
    nanos: int
    creator: bytes
    signature: bytes
    chaincode: str
    arguments: tuple[bytes, ...]
    status: int
    result: bytes
    event: tuple[str, str, str, bytes] | None
    read_write_set: bytes
    endorsers: tuple[bytes, ...]


def envelope_parts(data: bytes) -> EnvelopeParts:
    """Read one envelope of a block. Raises DecodeError; blocks may hold envelopes that peers found unreadable."""
    what = "a transaction envelope"
    message = _parse(common_pb2.Envelope, data, what)
    payload = _parse(common_pb2.Payload, message.payload, what)
    channel_header = _parse(common_pb2.ChannelHeader, payload.header.channel_header, what)
    signature_header = _parse(common_pb2.SignatureHeader, payload.header.signature_header, what, empty=True)
    action = _action(payload.data, what) if channel_header.type == _ENDORSER_TRANSACTION else None
    return EnvelopeParts(
        type=channel_header.type,
        channel=channel_header.channel_id,
        transaction_id=channel_header.tx_id,
        seconds=channel_header.timestamp.seconds,
        nanos=channel_header.timestamp.nanos,
        creator=signature_header.creator,
        signature=message.signature,
        chaincode=action.chaincode if action else "",
        arguments=action.arguments if action else (),
        status=action.status if action else 0,
        result=action.result if action else b"",
        event=action.event if action else None,
        read_write_set=action.read_write_set if action else b"",
        endorsers=action.endorsers if action else (),
    )


@dataclass(frozen=True, slots=True)
class _Action:
    chaincode: str
    arguments: tuple[bytes, ...]
    status: int
    result: bytes
    event: tuple[str, str, str, bytes] | None
    read_write_set: bytes
    endorsers: tuple[bytes, ...]


def _action(data: bytes, what: str) -> _Action | None:
    actions = _parse(transaction_pb2.Transaction, data, what).actions
    if not actions:
        return None
    payload = _parse(transaction_pb2.ChaincodeActionPayload, actions[0].payload, what)
    proposal_payload = _parse(
        proposal_pb2.ChaincodeProposalPayload, payload.chaincode_proposal_payload, what, empty=True
    )
    invocation = _parse(chaincode_pb2.ChaincodeInvocationSpec, proposal_payload.input, what, empty=True)
    response = _parse(proposal_response_pb2.ProposalResponsePayload, payload.action.proposal_response_payload, what)
    action = _parse(proposal_pb2.ChaincodeAction, response.extension, what, empty=True)
    return _Action(
        chaincode=action.chaincode_id.name or invocation.chaincode_spec.chaincode_id.name,
        arguments=tuple(invocation.chaincode_spec.input.args),
        status=action.response.status,
        result=action.response.payload,
        event=_event(action.events, what) if action.events else None,
        read_write_set=action.results,
        endorsers=tuple(endorsement.endorser for endorsement in payload.action.endorsements),
    )


def _event(data: bytes, what: str) -> tuple[str, str, str, bytes]:
    event = _parse(chaincode_event_pb2.ChaincodeEvent, data, what)
    return event.tx_id, event.chaincode_id, event.event_name, event.payload


def key_writes(kv_read_write_set: bytes) -> Iterator[tuple[str, bytes, bool]]:
    """(key, value, is_delete) of a `KVRWSet`."""
    for write in _parse(kv_rwset_pb2.KVRWSet, kv_read_write_set, "a read-write set", empty=True).writes:
        yield write.key, write.value, write.is_delete


def private_write_sets(message: Any) -> Iterator[tuple[int, str, str, bytes]]:
    """(index in block, chaincode, collection, `KVRWSet` bytes) of a `BlockAndPrivateData`, in block order."""
    for index in sorted(message.private_data_map):
        for namespace in message.private_data_map[index].ns_pvt_rwset:
            for collection in namespace.collection_pvt_rwset:
                yield index, namespace.namespace, collection.collection_name, collection.rwset


def namespaces(read_write_set: bytes) -> Iterator[tuple[str, bytes]]:
    """(chaincode, `KVRWSet` bytes) of a `TxReadWriteSet`."""
    for namespace in _parse(rwset_pb2.TxReadWriteSet, read_write_set, "a read-write set", empty=True).ns_rwset:
        yield namespace.namespace, namespace.rwset


def filtered_block(message: Any) -> tuple[str, int, list[tuple[str, int, int, list[tuple[str, str, str, bytes]]]]]:
    """Channel, number, and (transaction id, header type, code, events) per transaction of a `FilteredBlock`."""
    transactions = []
    for entry in message.filtered_transactions:
        events = [
            (action.chaincode_event.tx_id, action.chaincode_event.chaincode_id, action.chaincode_event.event_name, b"")
            for action in entry.transaction_actions.chaincode_actions
            if action.HasField("chaincode_event")
        ]
        transactions.append((entry.txid, entry.type, entry.tx_validation_code, events))
    return message.channel_id, message.number, transactions


def parse_filtered_block(data: bytes) -> Any:
    """`protos.FilteredBlock`. Raises DecodeError."""
    return _parse(events_pb2.FilteredBlock, data, "a filtered block")


def chain_info(data: bytes) -> tuple[int, bytes, bytes]:
    """Height, current and previous block hash of a `BlockchainInfo` (qscc GetChainInfo)."""
    message = _parse(ledger_pb2.BlockchainInfo, data, "chain information")
    return message.height, message.currentBlockHash, message.previousBlockHash


def processed_transaction(data: bytes) -> tuple[bytes, int]:
    """Envelope and validation code of a `ProcessedTransaction` (qscc GetTransactionByID)."""
    message = _parse(transaction_pb2.ProcessedTransaction, data, "a processed transaction")
    return message.transactionEnvelope.SerializeToString(), message.validationCode


# ---- shared


def _channel_header(header: Any, what: str) -> Any:
    channel_header = _parse(common_pb2.ChannelHeader, header.channel_header, what)
    if not channel_header.channel_id:
        raise DecodeError(f"not {what}: it names no channel")
    return channel_header


def _parse(message_type: Any, data: bytes, what: str, *, empty: bool = False) -> Any:
    """Parse, or raise DecodeError. Protobuf reads no bytes as an empty message: an error unless that is legitimate."""
    if not data and not empty:
        raise DecodeError(f"not {what}: a part of it is empty")
    try:
        return message_type.FromString(data)
    except (ProtobufDecodeError, TypeError) as error:
        raise DecodeError(f"not {what}: the bytes cannot be read") from error


def detail_messages(details: Iterable[bytes]) -> list[tuple[str, str, str]]:
    """Address, MSP id and message of each serialised `gateway.ErrorDetail`."""
    return [error_detail(detail) for detail in details]
