"""The gateway of one peer: Evaluate, Endorse, Submit and CommitStatus with Fabric's own codes, texts and details.

Source: internal/pkg/gateway/{evaluate,endorse,submit,commitstatus,apiutils,registry}.go of Fabric v3.1.5;
embedded-network.md A.1 and A.2 list the checks in their order. Evaluate and Endorse are plain functions: one call is
one job in the thread pool and runs all its simulations there, because handing them to other threads costs more than
they do."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2

from network.channel.consensus import quorum
from network.embedded.access import AccessError, check_readers
from network.embedded.chain import Chain
from network.embedded.endorser import EndorserError
from network.embedded.layout import Layouts, Peer, Peers
from network.embedded.orderer import ALREADY_EXISTS, SERVICE_UNAVAILABLE, SUCCESS, Orderer
from network.embedded.plan import PlanError
from network.embedded.policy import PolicyManager, SignedData
from network.embedded.rpc import Detail, RpcError, Unreadable, read

_ABORTED: Final = grpc.StatusCode.ABORTED
_FAILED_PRECONDITION: Final = grpc.StatusCode.FAILED_PRECONDITION
_INVALID_ARGUMENT: Final = grpc.StatusCode.INVALID_ARGUMENT
_UNAVAILABLE: Final = grpc.StatusCode.UNAVAILABLE
_UNKNOWN: Final = grpc.StatusCode.UNKNOWN
# gRPC for Go writes an error that crossed the wire like this; every peer but the local one is remote (A.2).
_REMOTE: Final = "rpc error: code = Unknown desc = "
_SEE_DETAILS: Final = ", see attached details for more info"

Response = proposal_response_pb2.ProposalResponse
Interest = proposal_response_pb2.ChaincodeInterest
ChaincodeCall = proposal_response_pb2.ChaincodeCall
# Simulates and endorses as one peer on one read snapshot, or raises EndorserError.
Process = Callable[[Peer, bytes, Any], Response]
# The layouts that satisfy an interest's policies, the preferred organisation's first, or PlanError.
Plan = Callable[[Interest, Any, str | None], Sequence[Mapping[str, int]]]


@dataclass(frozen=True, slots=True)
class Endorsers:
    """What simulates and endorses, shared by the gateways of all organisations; every process that does it has one."""

    channel: str
    peers: Peers
    snapshot: Callable[[], AbstractContextManager[Any]]
    process: Process
    plan: Plan


@dataclass(frozen=True, slots=True)
class Network:
    """What the gateways of all organisations need beyond endorsers. `orderers` have their addresses for error
    details."""

    chain: Chain
    policies: PolicyManager
    orderer: Orderer
    orderers: Sequence[Peer]


@dataclass(frozen=True, slots=True)
class _Proposal:
    """The parts of a proposal that the gateway looks at. Names are empty where the client left them out."""

    header: common_pb2.Header
    channel: str
    transaction_id: str
    payload: proposal_pb2.ChaincodeProposalPayload
    spec: chaincode_pb2.ChaincodeInvocationSpec

    @property
    def chaincode(self) -> str:
        return self.spec.chaincode_spec.chaincode_id.name

    @property
    def is_transient(self) -> bool:
        """Whether data is attached that must reach chosen organisations only."""
        return bool(self.payload.TransientMap)


@dataclass(slots=True)
class Call:
    """One Evaluate or Endorse while it runs: which peer simulates since when, and whether anybody still waits."""

    is_first: bool = True
    is_abandoned: bool = False
    transaction_id: str = ""
    peer: Peer | None = None
    asked_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """One endorser's answer as the gateway sees it (A.2)."""

    code: grpc.StatusCode
    message: str
    is_final: bool


class EndorsingGateway:
    """Evaluate and Endorse of `local`'s gateway: its organisation is asked first, its address stands in details."""

    def __init__(self, local: Peer, endorsers: Endorsers) -> None:
        self._local = local
        self._endorsers = endorsers

    # -- evaluate ------------------------------------------------------------------------------------------------------

    def evaluate(self, request: gateway_pb2.EvaluateRequest, call: Call) -> gateway_pb2.EvaluateResponse:
        """Run a query on one peer and answer its response; the other peers are tried when a peer itself fails.

        Raises `RpcError`: INVALID_ARGUMENT, UNAVAILABLE, FAILED_PRECONDITION, ABORTED, or UNKNOWN for the chaincode's
        own error."""
        signed = request.proposed_transaction
        try:
            proposal = _read_named(signed.proposal_bytes)
        except Unreadable as error:
            raise RpcError(_INVALID_ARGUMENT, f"failed to unpack transaction proposal: {error}") from error
        if proposal.channel != self._endorsers.channel:
            raise RpcError(_UNAVAILABLE, _no_config(proposal.channel))
        call.transaction_id = proposal.transaction_id
        details: list[Detail] = []
        code = _UNAVAILABLE
        with self._endorsers.snapshot() as snapshot:
            for peer in self._evaluators(proposal, list(request.target_organizations), snapshot):
                if call.is_abandoned:
                    raise RpcError(grpc.StatusCode.CANCELLED, "context canceled")
                outcome = self._ask(peer, signed.SerializeToString(), snapshot, call)
                if isinstance(outcome, Response):
                    return gateway_pb2.EvaluateResponse(result=_result(outcome))
                code = outcome.code
                details.append(peer.failed(outcome.message))
                if outcome.is_final:
                    raise RpcError(code, f"evaluate call to endorser returned error: {outcome.message}", details)
        raise RpcError(code, f"failed to evaluate transaction{_SEE_DETAILS}", details)

    def _evaluators(self, proposal: _Proposal, targets: list[str], snapshot: Any) -> list[Peer]:
        """The peers to try in turn, the local organisation's first. Never empty."""
        protected = proposal.is_transient and not targets
        if protected:
            targets = [self._local.msp_id]
        found = self._endorsers.peers.by_organisation(proposal.chaincode, self._local, snapshot)
        ordered = sorted(targets or found, key=lambda msp_id: msp_id != self._local.msp_id)
        peers = [peer for msp_id in dict.fromkeys(ordered) for peer in found.get(msp_id, ())]
        if not peers:
            missing = f"no peers available to evaluate chaincode {proposal.chaincode} in channel {proposal.channel}"
            if protected:
                missing = (
                    "no endorsers found in the gateway's organization; retry specifying target organization(s) to "
                    f"protect transient data: {missing}"
                )
            raise RpcError(_FAILED_PRECONDITION, missing)
        return peers

    # -- endorse -------------------------------------------------------------------------------------------------------

    def endorse(self, request: gateway_pb2.EndorseRequest, call: Call) -> gateway_pb2.EndorseResponse:
        """Collect the endorsements that the policies ask for and answer the transaction for the client to sign.

        All simulations run on one read snapshot. Raises `RpcError`: INVALID_ARGUMENT, UNAVAILABLE (organisation without
        peer), FAILED_PRECONDITION (no plan), ABORTED with one detail per failure."""
        signed = request.proposed_transaction
        if not signed.proposal_bytes:
            raise RpcError(_INVALID_ARGUMENT, "the proposed transaction must contain a signed proposal")
        try:
            proposal = _read_proposal(signed.proposal_bytes)
        except Unreadable as error:
            raise RpcError(_INVALID_ARGUMENT, str(error)) from error
        call.transaction_id = proposal.transaction_id
        raw = signed.SerializeToString()
        with self._endorsers.snapshot() as snapshot:
            if request.endorsing_organizations:
                layouts = self._layout_of(proposal, list(request.endorsing_organizations), snapshot)
            else:
                layouts = self._layouts_from_first(proposal, raw, snapshot, call)
            call.is_first = False
            while not layouts.complete and not call.is_abandoned:
                peers = layouts.next_peers()
                if not peers:
                    break
                layouts.abandon(
                    [peer.msp_id for peer in peers if not self._endorse_by(peer, layouts, raw, snapshot, call)]
                )
        if not layouts.complete:
            raise RpcError(
                _ABORTED, f"failed to collect enough transaction endorsements{_SEE_DETAILS}", layouts.details
            )
        return gateway_pb2.EndorseResponse(prepared_transaction=_transaction(proposal, layouts))

    def _layout_of(self, proposal: _Proposal, organisations: Sequence[str], snapshot: Any) -> Layouts:
        """One layout: a peer of each organisation that the client named."""
        found = self._endorsers.peers.by_organisation(proposal.chaincode, self._local, snapshot)
        missing = [msp_id for msp_id in organisations if msp_id not in found]
        if proposal.channel != self._endorsers.channel:
            missing = list(organisations)
        if missing:
            raise RpcError(_UNAVAILABLE, f"failed to find any endorsing peers for org(s): {', '.join(missing)}")
        return Layouts([dict.fromkeys(organisations, 1)], found)

    def _layouts_from_first(self, proposal: _Proposal, raw: bytes, snapshot: Any, call: Call) -> Layouts:
        """Endorse on one peer first, then plan the others from what the simulation touched."""
        default = Interest(chaincodes=[ChaincodeCall(name=proposal.chaincode)])
        found = self._endorsers.peers.by_organisation(proposal.chaincode, self._local, snapshot)
        if proposal.channel == self._endorsers.channel and self._local.msp_id in found:
            start = Layouts([{self._local.msp_id: 1}], found)
        elif proposal.is_transient:
            raise RpcError(
                _FAILED_PRECONDITION,
                "no endorsers found in the gateway's organization; retry specifying endorsing organization(s) to "
                "protect transient data",
            )
        else:
            start = self._planned(proposal, default, snapshot, None)
        first, response = self._first_endorsement(start, raw, snapshot, call)
        interest = response.interest if response.interest.chaincodes else default
        layouts = self._protected_plan(proposal, interest, snapshot, first)
        response.response.payload = b""
        layouts.add(first, response)
        return layouts

    def _first_endorsement(self, start: Layouts, raw: bytes, snapshot: Any, call: Call) -> tuple[Peer, Response]:
        """The first peer of the organisation that endorses; every failure, the chaincode's too, tries the next one."""
        details = []
        peer: Peer | None = start.next_peers()[0]
        while peer is not None:
            outcome = self._ask(peer, raw, snapshot, call)
            if isinstance(outcome, Response):
                return peer, outcome
            details.append(peer.failed(outcome.message))
            peer = start.next_in_organisation(peer)
        raise RpcError(_ABORTED, f"failed to endorse transaction{_SEE_DETAILS}", details)

    def _protected_plan(self, proposal: _Proposal, interest: Interest, snapshot: Any, first: Peer) -> Layouts:
        """The plan for an interest; transient data may only go to organisations that own the collections."""
        guarded = Interest()
        guarded.CopyFrom(interest)
        protected: list[str] = []
        if proposal.is_transient:
            for call in guarded.chaincodes:
                if call.no_private_reads:
                    call.no_private_reads = False
                    protected.extend(call.collection_names)
        try:
            return self._planned(proposal, guarded, snapshot, first.msp_id)
        except RpcError:
            if not protected:
                raise
        # The caution may be the reason: without it there either is a plan, or the reason is another one.
        self._planned(proposal, interest, snapshot, first.msp_id)
        raise RpcError(
            _FAILED_PRECONDITION,
            "requires endorsement from organisation(s) that are not in the distribution policy of the private data "
            f"collection(s): [{' '.join(protected)}]; retry specifying trusted endorsing organizations to protect "
            "transient data",
        )

    def _planned(
        self,
        proposal: _Proposal,
        interest: Interest,
        snapshot: Any,
        preferred: str | None,
    ) -> Layouts:
        try:
            if proposal.channel != self._endorsers.channel:
                raise PlanError(
                    f"No metadata was found for chaincode {proposal.chaincode} in channel {proposal.channel}"
                )
            layouts = self._endorsers.plan(interest, snapshot, preferred)
        except PlanError as error:
            raise RpcError(
                _FAILED_PRECONDITION,
                f"no combination of peers can be derived which satisfy the endorsement policy: {error}",
            ) from error
        return Layouts(layouts, self._endorsers.peers.by_organisation(proposal.chaincode, self._local, snapshot))

    def _endorse_by(self, peer: Peer | None, layouts: Layouts, raw: bytes, snapshot: Any, call: Call) -> bool:
        """Get an endorsement from a peer or, when it fails, from the next of its organisation."""
        while peer is not None:
            outcome = self._ask(peer, raw, snapshot, call)
            if not isinstance(outcome, Response):
                layouts.details.append(peer.failed(outcome.message))
            else:
                outcome.response.payload = b""
                if layouts.add(peer, outcome):
                    return True
            peer = layouts.next_in_organisation(peer)
        return False

    def overrun(self, call: Call, what: str, reason: str) -> RpcError:
        """The answer to a call whose simulation does not come back: its peer failed, and its thread cannot go on."""
        text = f"error in simulation: failed to execute transaction {call.transaction_id}: {reason}"
        return RpcError(
            _ABORTED, f"failed to {what} transaction{_SEE_DETAILS}", [(call.peer or self._local).failed(text)]
        )

    def _ask(self, peer: Peer, raw: bytes, snapshot: Any, call: Call) -> Response | _Verdict:
        """Let a peer process the proposal and classify its answer."""
        call.peer, call.asked_at = peer, time.monotonic()
        try:
            response = self._endorsers.process(peer, raw, snapshot)
        except EndorserError as error:
            if peer != self._local:
                return _Verdict(_UNAVAILABLE, f"{_REMOTE}{error}", is_final=False)
            if error.has_response:
                return _Verdict(_FAILED_PRECONDITION, str(error), is_final=True)
            return _Verdict(_UNAVAILABLE, str(error), is_final=False)
        status = response.response.status
        if 200 <= status < 400:
            return response
        if status == 500 and not response.payload:
            return _Verdict(_ABORTED, response.response.message, is_final=False)
        return _Verdict(_UNKNOWN, f"chaincode response {status}, {response.response.message}", is_final=True)


class Gateway(EndorsingGateway):
    """The whole gateway service of a peer: with Submit and CommitStatus, which belong to the process that orders."""

    def __init__(self, local: Peer, endorsers: Endorsers, network: Network) -> None:
        super().__init__(local, endorsers)
        self._network = network

    async def submit(self, request: gateway_pb2.SubmitRequest) -> gateway_pb2.SubmitResponse:
        """Hand a signed transaction to the ordering service; success means accepted and stored, not committed.

        Raises `RpcError`: INVALID_ARGUMENT, FAILED_PRECONDITION (unknown channel), UNAVAILABLE with the refusal of as
        many orderers as it takes to know that a quorum is out of reach."""
        if not request.HasField("prepared_transaction"):
            raise RpcError(_INVALID_ARGUMENT, "a prepared transaction is required")
        if not request.prepared_transaction.signature:
            raise RpcError(_INVALID_ARGUMENT, "prepared transaction must be signed")
        if request.channel_id != self._endorsers.channel:
            raise RpcError(_FAILED_PRECONDITION, _no_config(request.channel_id))
        orderers = self._network.orderers
        if not orderers:
            raise RpcError(_UNAVAILABLE, "no orderer nodes available")
        answer = await self._network.orderer.broadcast(request.prepared_transaction)
        already_there = answer.status == SERVICE_UNAVAILABLE and answer.info == ALREADY_EXISTS
        if answer.status == SUCCESS or already_there:
            return gateway_pb2.SubmitResponse()
        text = (
            f"received unsuccessful response from orderer: status={common_pb2.Status.Name(answer.status)}, "
            f"info={answer.info}"
        )
        # Upstream stops listening at the failure that makes the quorum impossible.
        heard = len(orderers) - quorum(len(orderers)) + 1
        raise RpcError(
            _UNAVAILABLE,
            "insufficient number of orderers could successfully process transaction to satisfy quorum requirement",
            [orderer.failed(text) for orderer in orderers[:heard]],
        )

    async def commit_status(self, signed: gateway_pb2.SignedCommitStatusRequest) -> gateway_pb2.CommitStatusResponse:
        """The validation code of a transaction, waiting until it is committed or the caller gives up.

        Raises `RpcError`: INVALID_ARGUMENT, PERMISSION_DENIED."""
        if not signed.request:
            raise RpcError(_INVALID_ARGUMENT, "a commit status request is required")
        try:
            request = read(gateway_pb2.CommitStatusRequest, signed.request)
        except Unreadable as error:
            raise RpcError(_INVALID_ARGUMENT, f"invalid status request: {error}") from error
        if not request.identity:
            raise RpcError(_INVALID_ARGUMENT, "no identity provided")
        if not request.channel_id:
            raise RpcError(_INVALID_ARGUMENT, "no channel ID provided")
        if not request.transaction_id:
            raise RpcError(_INVALID_ARGUMENT, "transaction ID should not be empty")
        reader = SignedData(message=signed.request, identity_bytes=request.identity, signature=signed.signature)
        try:
            check_readers(self._network.policies, self._endorsers.channel, request.channel_id, reader)
        except AccessError as error:
            raise RpcError(grpc.StatusCode.PERMISSION_DENIED, str(error)) from error
        commit = await self._network.chain.commit_of(request.transaction_id)
        return gateway_pb2.CommitStatusResponse(result=commit.code, block_number=commit.block_number)


def _no_config(channel: str) -> str:
    return f"failed to get config for channel [{channel}]: could not get last config for channel {channel}"


def _read_proposal(data: bytes) -> _Proposal:
    proposal = read(proposal_pb2.Proposal, data, "Proposal")
    header = read(common_pb2.Header, proposal.header, "Header")
    channel_header = read(common_pb2.ChannelHeader, header.channel_header, "ChannelHeader")
    payload = read(proposal_pb2.ChaincodeProposalPayload, proposal.payload, "ChaincodeProposalPayload")
    spec = read(chaincode_pb2.ChaincodeInvocationSpec, payload.input, "ChaincodeInvocationSpec")
    return _Proposal(header, channel_header.channel_id, channel_header.tx_id, payload, spec)


def _read_named(data: bytes) -> _Proposal:
    """A proposal that names its channel and its chaincode, as Evaluate asks for."""
    if not data:
        raise Unreadable("a signed proposal is required")
    proposal = _read_proposal(data)
    if not proposal.channel:
        raise Unreadable("no channel id provided")
    spec, where = proposal.spec, f"channel id [{proposal.channel}]"
    if not spec.HasField("chaincode_spec"):
        raise Unreadable(f"no chaincode spec is provided, {where}")
    if not spec.chaincode_spec.HasField("chaincode_id"):
        raise Unreadable(f"no chaincode id is provided, {where}")
    if not proposal.chaincode:
        raise Unreadable(f"no chaincode name is provided, {where}")
    return proposal


def _result(response: Response) -> proposal_response_pb2.Response:
    """The chaincode's response with the endorsed result; a system chaincode without simulator has only its own."""
    answer = response.response
    try:
        action = read(
            proposal_pb2.ChaincodeAction,
            read(proposal_response_pb2.ProposalResponsePayload, response.payload).extension,
        )
    except Unreadable:
        return answer
    if response.payload:
        answer.payload = action.response.payload
    return answer


def _transaction(proposal: _Proposal, layouts: Layouts) -> common_pb2.Envelope:
    """Put header, proposal and endorsements together (C.1). Transient data is left out; the client signs the
    payload."""
    action = transaction_pb2.ChaincodeActionPayload(
        chaincode_proposal_payload=proposal_pb2.ChaincodeProposalPayload(
            input=proposal.payload.input
        ).SerializeToString(),
        action=transaction_pb2.ChaincodeEndorsedAction(
            proposal_response_payload=layouts.payload or b"", endorsements=layouts.endorsements
        ),
    )
    transaction = transaction_pb2.Transaction(
        actions=[
            transaction_pb2.TransactionAction(
                header=proposal.header.signature_header, payload=action.SerializeToString()
            )
        ]
    )
    return common_pb2.Envelope(
        payload=common_pb2.Payload(header=proposal.header, data=transaction.SerializeToString()).SerializeToString()
    )
