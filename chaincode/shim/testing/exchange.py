"""Exchanges without a peer, and the TRANSACTION messages to run on them.

`Script` expects exact requests, for the shim's own tests. `StateExchange` answers reads from a fixed state with a
peer's message shapes and collects the writes, for trying a contract out; it knows none of Fabric's rules about
transactions (versions, policies, phantoms): those are the embedded network's. `Recorder` keeps what went by.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fabric_protos.common import common_pb2
from fabric_protos.ledger.queryresult import kv_query_result_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2, proposal_pb2, proposal_response_pb2
from google.protobuf.message import Message

from chaincode.shim.context import Timestamp
from chaincode.shim.stub import ChaincodeMessage, Exchange

BATCH_ROWS: Final = 100
"""Rows of a range that a peer sends in one message."""


def transaction(
    function: str,
    *args: bytes | str,
    creator: bytes = b"",
    chaincode: str = "basic",
    channel_id: str = "channel",
    transient: Mapping[str, bytes] | None = None,
    timestamp: Timestamp = Timestamp(1_700_000_000, 0),  # noqa: B008 - an immutable value
    nonce: bytes = b"nonce",
    epoch: int = 0,
) -> ChaincodeMessage:
    """A TRANSACTION message as a peer sends it, the signature left empty; `creator` is a SerializedIdentity."""
    creator = creator or identities_pb2.SerializedIdentity(mspid="Org1MSP").SerializeToString()
    arguments = [function.encode(), *(arg.encode() if isinstance(arg, str) else arg for arg in args)]
    transaction_id = hashlib.sha256(nonce + creator).hexdigest()
    extension = proposal_pb2.ChaincodeHeaderExtension(chaincode_id=chaincode_pb2.ChaincodeID(name=chaincode))
    channel_header = common_pb2.ChannelHeader(
        type=common_pb2.ENDORSER_TRANSACTION,
        channel_id=channel_id,
        tx_id=transaction_id,
        epoch=epoch,
        extension=extension.SerializeToString(),
    )
    channel_header.timestamp.seconds, channel_header.timestamp.nanos = timestamp
    header = common_pb2.Header(
        channel_header=channel_header.SerializeToString(),
        signature_header=common_pb2.SignatureHeader(creator=creator, nonce=nonce).SerializeToString(),
    )
    payload = proposal_pb2.ChaincodeProposalPayload(TransientMap=transient or {})
    proposal = proposal_pb2.Proposal(
        header=header.SerializeToString(), payload=payload.SerializeToString(deterministic=True)
    )
    message = ChaincodeMessage(
        type=ChaincodeMessage.TRANSACTION,
        txid=transaction_id,
        channel_id=channel_id,
        payload=chaincode_pb2.ChaincodeInput(args=arguments).SerializeToString(),
    )
    message.proposal.proposal_bytes = proposal.SerializeToString()
    return message


def response(completed: ChaincodeMessage) -> proposal_response_pb2.Response:
    """The response inside a COMPLETED message; raises AssertionError for any other message."""
    if completed.type != ChaincodeMessage.COMPLETED:
        raise AssertionError(f"not COMPLETED but {ChaincodeMessage.Type.Name(completed.type)}")
    return proposal_response_pb2.Response.FromString(completed.payload)


def answer(request: ChaincodeMessage, payload: bytes | Message = b"") -> ChaincodeMessage:
    """The RESPONSE to a request."""
    data = payload if isinstance(payload, bytes) else payload.SerializeToString()
    return ChaincodeMessage(
        type=ChaincodeMessage.RESPONSE, payload=data, txid=request.txid, channel_id=request.channel_id
    )


def error(request: ChaincodeMessage, text: str) -> ChaincodeMessage:
    """The ERROR to a request."""
    return ChaincodeMessage(
        type=ChaincodeMessage.ERROR, payload=text.encode(), txid=request.txid, channel_id=request.channel_id
    )


class Script:
    """An exchange that expects these requests in this order: pairs of message type and answer.

    An answer is a payload (bytes or message), an exception to raise, or a whole ChaincodeMessage. `requests` holds
    what came. Raises AssertionError for a request out of order.
    """

    def __init__(self, *steps: tuple[int, bytes | Message | BaseException]) -> None:
        self._steps = list(steps)
        self.requests: list[ChaincodeMessage] = []

    def __call__(self, request: ChaincodeMessage) -> ChaincodeMessage:
        self.requests.append(request)
        name = ChaincodeMessage.Type.Name(request.type)
        if not self._steps:
            raise AssertionError(f"no {name} expected any more")
        kind, reply = self._steps.pop(0)
        if kind != request.type:
            raise AssertionError(f"{ChaincodeMessage.Type.Name(kind)} expected, not {name}")
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, ChaincodeMessage):
            return reply
        return answer(request, reply)

    def finish(self) -> None:
        """Raise AssertionError when steps are left."""
        if self._steps:
            raise AssertionError(f"{len(self._steps)} steps of the script were never asked for")


class Recorder:
    """An exchange that passes requests on to another and keeps every request and answer."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.trace: list[tuple[ChaincodeMessage, ChaincodeMessage]] = []

    def __call__(self, request: ChaincodeMessage) -> ChaincodeMessage:
        reply = self._exchange(request)
        self.trace.append((request, reply))
        return reply


@dataclass
class StateExchange:
    """An exchange over a fixed committed state; writes are collected, not applied, as in one simulation.

    Values by (collection, key), collection "" for public state; rules of keys by the same pair; what other chaincodes
    answer by name.
    """

    state: dict[tuple[str, str], bytes] = field(default_factory=dict)
    rules: dict[tuple[str, str], bytes] = field(default_factory=dict)
    chaincodes: dict[str, proposal_response_pb2.Response] = field(default_factory=dict)
    writes: list[chaincode_shim_pb2.WriteRecord] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """The types of the requests that came, in order."""
    _open: dict[str, list[chaincode_shim_pb2.QueryResultBytes]] = field(default_factory=dict)

    def __call__(self, request: ChaincodeMessage) -> ChaincodeMessage:
        name = ChaincodeMessage.Type.Name(request.type)
        self.requests.append(name)
        handle = getattr(self, f"_{name.lower()}", None)
        if handle is None:
            return error(request, f"{name} is not answered here")
        return answer(request, handle(request.payload))

    def apply(self) -> None:
        """Make the collected writes the committed state, as a valid block would."""
        for record in self.writes:
            place = (record.collection, record.key)
            if record.type == chaincode_shim_pb2.WriteRecord.PUT_STATE:
                self.state[place] = record.value
            elif record.type == chaincode_shim_pb2.WriteRecord.PUT_STATE_METADATA:
                self.rules[place] = record.metadata.value
            else:
                self.state.pop(place, None)
                self.rules.pop(place, None)
        self.writes.clear()

    def _get_state(self, payload: bytes) -> bytes:
        request = chaincode_shim_pb2.GetState.FromString(payload)
        return self.state.get((request.collection, request.key), b"")

    def _get_state_multiple(self, payload: bytes) -> Message:
        request = chaincode_shim_pb2.GetStateMultiple.FromString(payload)
        values = [self.state.get((request.collection, key), b"") for key in request.keys]
        return chaincode_shim_pb2.GetStateMultipleResult(values=values)

    def _get_private_data_hash(self, payload: bytes) -> bytes:
        value = self._get_state(payload)
        return hashlib.sha256(value).digest() if value else b""

    def _get_state_metadata(self, payload: bytes) -> Message:
        request = chaincode_shim_pb2.GetStateMetadata.FromString(payload)
        result = chaincode_shim_pb2.StateMetadataResult()
        if rule := self.rules.get((request.collection, request.key)):
            result.entries.add(metakey="VALIDATION_PARAMETER", value=rule)
        return result

    def _write_batch_state(self, payload: bytes) -> bytes:
        self.writes.extend(chaincode_shim_pb2.WriteBatchState.FromString(payload).rec)
        return b""

    def _get_state_by_range(self, payload: bytes) -> Message:
        request = chaincode_shim_pb2.GetStateByRange.FromString(payload)
        paging = chaincode_shim_pb2.QueryMetadata.FromString(request.metadata)
        start = paging.bookmark or request.startKey
        rows = [
            kv_query_result_pb2.KV(namespace="", key=key, value=value)
            for (collection, key), value in sorted(self.state.items())
            if collection == request.collection and start <= key and (not request.endKey or key < request.endKey)
        ]
        if not paging.pageSize:
            return self._first_batch(rows)
        page = rows[: paging.pageSize]
        following = rows[paging.pageSize].key if len(rows) > paging.pageSize else ""
        metadata = chaincode_shim_pb2.QueryResponseMetadata(fetched_records_count=len(page), bookmark=following)
        return chaincode_shim_pb2.QueryResponse(results=_results(page), metadata=metadata.SerializeToString())

    def _first_batch(self, rows: Sequence[Message]) -> Message:
        query_id = str(len(self.requests))
        self._open[query_id] = _results(rows)
        return self._next_batch(query_id)

    def _next_batch(self, query_id: str) -> Message:
        rows = self._open[query_id]
        batch, self._open[query_id] = rows[:BATCH_ROWS], rows[BATCH_ROWS:]
        more = bool(self._open[query_id])
        if not more:
            del self._open[query_id]
        return chaincode_shim_pb2.QueryResponse(results=batch, has_more=more, id=query_id)

    def _query_state_next(self, payload: bytes) -> Message:
        return self._next_batch(chaincode_shim_pb2.QueryStateNext.FromString(payload).id)

    def _query_state_close(self, payload: bytes) -> Message:
        query_id = chaincode_shim_pb2.QueryStateClose.FromString(payload).id
        self._open.pop(query_id, None)
        return chaincode_shim_pb2.QueryResponse(id=query_id)

    def _get_history_for_key(self, payload: bytes) -> Message:
        request = chaincode_shim_pb2.GetHistoryForKey.FromString(payload)
        value = self.state.get(("", request.key))
        rows = [kv_query_result_pb2.KeyModification(tx_id="committed", value=value)] if value else []
        return self._first_batch(rows)

    def _invoke_chaincode(self, payload: bytes) -> Message:
        spec = chaincode_pb2.ChaincodeSpec.FromString(payload)
        called = self.chaincodes[spec.chaincode_id.name]
        return ChaincodeMessage(type=ChaincodeMessage.COMPLETED, payload=called.SerializeToString())


def _results(rows: Sequence[Message]) -> list[chaincode_shim_pb2.QueryResultBytes]:
    return [chaincode_shim_pb2.QueryResultBytes(resultBytes=row.SerializeToString()) for row in rows]
