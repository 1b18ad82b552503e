"""The endorser of every peer: checks a signed proposal, simulates it, and signs what came out with the peer's own key.

Order, texts and the form of the answer are those of core/endorser/endorser.go of Fabric v3.1.5; embedded-network.md
A.3 and B.1 to B.6. Everything is synchronous and safe to call from many threads.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final, Protocol

from fabric_protos.common import policies_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    chaincode_pb2,
    proposal_pb2,
    proposal_response_pb2,
)
from google.protobuf.message import DecodeError

from network.embedded import lifecycle, proposal, syscc
from network.embedded.access import AccessError
from network.embedded.acl import CHAINCODE_TO_CHAINCODE, PROPOSE, AccessControl
from network.embedded.handler import (
    OPEN,
    Access,
    ChaincodeMessage,
    HandlerError,
    TransactionContext,
    parse_name,
)
from network.embedded.host import Host
from network.embedded.ledger import LedgerReader, Snapshot
from network.embedded.lifecycle import SOURCES, WIRE_FORMAT, Definition
from network.embedded.lifecyclescc import Lifecycle
from network.embedded.msp import IdentityError, MspManager
from network.embedded.policy import PolicyError, PolicyManager
from network.embedded.proposal import FilterError, Proposal, ProposalError
from network.embedded.serializer import approved_package
from network.embedded.simulator import SimulationError, SimulationResult, Simulator
from network.embedded.store import LedgerError
from network.embedded.stream import ExecutionError

ProposalResponse = proposal_response_pb2.ProposalResponse
Response = proposal_response_pb2.Response

# The key that marks a chaincode as initialised (core/chaincode/chaincode_support.go).
INITIALIZED_KEY: Final = "\x00\U0010ffffinitialized"
VALIDATION_PARAMETER: Final = "VALIDATION_PARAMETER"
ERROR_THRESHOLD: Final = 400
ERROR: Final = 500

# One Endorse asks several peers with the same bytes; larger proposals are read again rather than kept.
_PROPOSALS_KEPT = 64
_PROPOSAL_BYTES_KEPT = 64 * 1024


class EndorserError(Exception):
    """A proposal refused before its simulation; the text is Fabric's.

    `response` is what Fabric returns beside the error, None when an auth filter refused it. A gateway tells the two
    apart for its own peer; to a remote caller gRPC shows the error alone (A.2).
    """

    def __init__(self, text: str, response: ProposalResponse | None = None) -> None:
        super().__init__(text)
        self.response = response

    @property
    def has_response(self) -> bool:
        """Whether a proposal response came with the error."""
        return self.response is not None


class EndorsingPeer(Protocol):
    """The peer that is asked: its node name, organisation, identity and key (an unsigned digest in, DER out)."""

    @property
    def name(self) -> str: ...
    @property
    def msp_id(self) -> str: ...
    @property
    def serialized(self) -> bytes: ...
    @property
    def signer(self) -> Callable[[bytes], bytes]: ...


@dataclass(frozen=True, slots=True)
class _Runnable:
    """A chaincode that a peer can run: its committed definition and the package id it was approved with."""

    definition: Definition
    package_id: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A simulation that came to an answer."""

    response: Response
    event: bytes
    result: SimulationResult | None


class Endorser:
    """Processes proposals for all peers of one channel.

    `msp_ids` are the application organisations in the order of the configuration; `clock` answers nanoseconds since
    1970.
    """

    def __init__(
        self,
        channel: str,
        ledger: LedgerReader,
        host: Host,
        msps: MspManager,
        policies: PolicyManager,
        msp_ids: Sequence[str],
        *,
        time_window_seconds: float,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.channel = channel
        self.ledger = ledger
        self.host = host
        self.msps = msps
        self.policies = policies
        self.access = AccessControl(channel, policies, msps)
        definitions = Lifecycle(channel, msp_ids, self._is_identity)
        self.system = syscc.SystemChaincodes(channel, ledger, self.access, definitions, host.packages)
        self._time_window_seconds = time_window_seconds
        self._clock = clock
        self._lock = Lock()
        self._proposals: OrderedDict[bytes, Proposal] = OrderedDict()
        self._runnable: dict[tuple[str, str, int, bytes], _Runnable] = {}

    def process(
        self, peer: EndorsingPeer, signed_proposal: bytes, snapshot: Snapshot | None = None
    ) -> ProposalResponse:
        """Answer a serialised SignedProposal as `peer`, reading from `snapshot` (None: the latest state).

        Raises EndorserError for what Fabric answers with an error. Failures of the simulation and of the chaincode
        are responses: see table B.6.
        """
        found = self._read(signed_proposal)
        if found.channel and found.channel != self.channel:
            return _failed(f"channel '{found.channel}' not found")
        if snapshot is not None:
            return self._process(peer, found, snapshot)
        with self.ledger.snapshot() as own:
            return self._process(peer, found, own)

    def runs(self, msp_id: str, name: str, snapshot: Snapshot) -> bool:
        """Whether the peers of an organisation can run a chaincode: defined, approved by it and installed."""
        if name in syscc.NAMES:
            return True
        try:
            self.runnable(msp_id, name, lifecycle.sequence(snapshot.get_state, name), snapshot)
        except (ExecutionError, lifecycle.LifecycleError):
            return False
        return True

    def runnable(self, msp_id: str, name: str, sequence: int, snapshot: Snapshot) -> _Runnable:
        """The definition and package with which an organisation runs a chaincode at its committed sequence.

        Raises ExecutionError with Fabric's reason (endorsement_info.go). Reads nothing into the transaction.
        """
        if sequence == 0:
            raise ExecutionError(f"chaincode {name} not found")

        def hash_of(namespace: str, collection: str, key: str) -> bytes | None:
            row = snapshot.hashed(namespace, collection, hashlib.sha256(key.encode()).digest())
            return None if row is None else row.value_hash

        # The package can be approved anew at the same sequence, so its hash is part of the key.
        source = lifecycle.field_key(f"{name}#{sequence}", "PackageID", SOURCES)
        chosen = hash_of(lifecycle.NAMESPACE, lifecycle.implicit_collection(msp_id), source)
        key = (msp_id, name, sequence, chosen or b"")
        found = self._runnable.get(key)
        if found is not None:
            return found
        definition = lifecycle.definition(snapshot.get_state, name)
        if definition is None:
            raise ExecutionError(f"chaincode {name} not found")
        package_ids = [package.package_id for package in self.host.packages(msp_id)]
        is_approved, package_id = approved_package(definition, hash_of, msp_id, package_ids)
        if not is_approved:
            raise ExecutionError(
                f"chaincode definition for '{name}' at sequence {sequence} on channel '{self.channel}' "
                "has not yet been approved by this org"
            )
        if package_id is None:
            raise ExecutionError(f"chaincode definition for '{name}' exists, but chaincode is not installed")
        found = self._runnable[key] = _Runnable(definition, package_id)
        return found

    def _is_identity(self, serialized: bytes) -> bool:
        try:
            self.msps.identity(serialized)
        except IdentityError:
            return False
        return True

    # --- before the simulation ---

    def _read(self, signed_proposal: bytes) -> Proposal:
        """The proposal taken apart, filters passed; read once for all peers that are asked with the same bytes."""
        now = self._clock()
        with self._lock:
            kept = self._proposals.get(signed_proposal)
        try:
            if kept is not None:
                proposal.check_expiry(kept.expires_at_ns, now)
                proposal.check_window(kept.timestamp_ns, now, self._time_window_seconds)
                return kept
            try:
                message = proposal_pb2.SignedProposal.FromString(signed_proposal)
            except DecodeError as error:
                raise FilterError(f"error unmarshalling SignedProposal: {WIRE_FORMAT}") from error
            found = proposal.read(message, now, self._time_window_seconds)
        except FilterError as error:
            raise EndorserError(str(error)) from error
        except ProposalError as error:
            raise EndorserError(str(error), _failed(str(error))) from error
        if len(signed_proposal) <= _PROPOSAL_BYTES_KEPT:
            with self._lock:
                self._proposals[signed_proposal] = found
                if len(self._proposals) > _PROPOSALS_KEPT:
                    self._proposals.popitem(last=False)
        return found

    def _process(self, peer: EndorsingPeer, found: Proposal, snapshot: Snapshot) -> ProposalResponse:
        try:
            self._check(peer, found, snapshot)
        except (ProposalError, AccessError) as error:
            raise EndorserError(str(error), _failed(str(error))) from error
        execution = _Execution(self, peer, found, snapshot)
        try:
            return self._respond(peer, found, execution)
        except ExecutionError as error:
            return _failed(str(error))
        except LedgerError as error:
            # A peer whose disk is full or damaged says so, and the gateway tries the next one.
            return _failed(f"error in simulation: {error}")

    def _check(self, peer: EndorsingPeer, found: Proposal, snapshot: Snapshot) -> None:
        """`preProcess`: validity, uniqueness, and the right to propose.

        What depends on the proposal and the channel alone is checked once for all peers of a call.
        """
        try:
            if not found.channel or "validate" not in found.passed:
                proposal.validate(found, self.msps, peer.msp_id)
        except ProposalError as error:
            raise ProposalError(f"error validating proposal: {error}") from error
        if not found.channel:
            return
        found.passed.add("validate")
        if snapshot.entry(found.transaction_id) is not None:
            raise ProposalError(
                f"duplicate transaction found [{found.transaction_id}]. Creator [{found.creator.hex()}]"
            )
        if found.chaincode not in syscc.NAMES:
            self.allow(PROPOSE, peer, found)

    def allow(self, resource: str, peer: EndorsingPeer, found: Proposal) -> None:
        """Raise AccessError unless the proposal's creator may use a resource of the channel."""
        if resource not in found.passed:
            self.access.check(resource, found.signed, found.channel, peer.msp_id)
            found.passed.add(resource)

    # --- after the simulation ---

    def _respond(self, peer: EndorsingPeer, found: Proposal, execution: "_Execution") -> ProposalResponse:
        version = execution.version()
        try:
            outcome = execution.run()
        except (ExecutionError, SimulationError) as error:
            raise ExecutionError(f"error in simulation: {error}") from error
        response, result = outcome.response, outcome.result
        if result is not None and result.private is not None:
            self.ledger.keep_transient(found.transaction_id, peer.msp_id, result.private).result()
        interest = None if result is None else build_interest(result)
        if not found.channel and response.status < ERROR:
            return ProposalResponse(response=response)
        if ERROR_THRESHOLD <= response.status < ERROR:
            return ProposalResponse(response=response)
        payload = _payload(found, outcome, version)
        if response.status >= ERROR:
            return ProposalResponse(response=response, payload=payload, interest=interest)
        signature = peer.signer(hashlib.sha256(payload + peer.serialized).digest())
        return ProposalResponse(
            version=1,
            response=response,
            payload=payload,
            endorsement=proposal_response_pb2.Endorsement(endorser=peer.serialized, signature=signature),
            interest=interest,
        )


class _Execution:
    """One proposal on one peer: runs its chaincode, and those that it calls, on one simulator."""

    def __init__(self, endorser: Endorser, peer: EndorsingPeer, found: Proposal, snapshot: Snapshot) -> None:
        self._endorser = endorser
        self._peer = peer
        self._proposal = found
        self._snapshot = snapshot
        has_simulator = bool(found.channel) and found.chaincode not in syscc.WITHOUT_SIMULATOR
        self._simulator = Simulator(snapshot, peer.msp_id, found.transaction_id) if has_simulator else None
        self._found: dict[str, _Runnable] = {}

    def version(self) -> str:
        """The version that goes into the answer. Raises ExecutionError when the peer cannot run the chaincode."""
        name = self._proposal.chaincode
        if name in syscc.NAMES:
            return syscc.VERSION
        try:
            return self._runnable(name).definition.version
        except ExecutionError as error:
            raise ExecutionError(
                f"make sure the chaincode {name} has been successfully defined on channel "
                f"{self._proposal.channel} and try again: {error}"
            ) from error

    def run(self) -> _Outcome:
        """Execute the proposal. Raises ExecutionError with the host's text, SimulationError for an unusable result."""
        transaction_id, name = self._proposal.transaction_id, self._proposal.chaincode
        try:
            message = self._invoke(name, self._proposal.input, None)
        except ExecutionError as error:
            raise ExecutionError(f"failed to execute transaction {transaction_id}: {error}") from error
        if message.type == ChaincodeMessage.ERROR:
            text = message.payload.decode(errors="replace")
            raise ExecutionError(f"transaction returned with failure: {text}")
        if message.type != ChaincodeMessage.COMPLETED:
            raise ExecutionError(f"unexpected response type {message.type} for transaction {transaction_id}")
        try:
            response = Response.FromString(message.payload)
        except DecodeError as error:
            raise ExecutionError(
                f"failed to unmarshal response for transaction {transaction_id}: {WIRE_FORMAT}"
            ) from error
        event = b""
        if message.HasField("chaincode_event") and response.status < ERROR_THRESHOLD:
            event = chaincode_event_pb2.ChaincodeEvent(
                chaincode_id=name,
                tx_id=transaction_id,
                event_name=message.chaincode_event.event_name,
                payload=message.chaincode_event.payload,
            ).SerializeToString()
        return _Outcome(response, event, None if self._simulator is None else self._simulator.result())

    def _runnable(self, name: str) -> _Runnable:
        """The chaincode as this peer runs it; the committed sequence becomes part of the transaction's reads."""
        found = self._found.get(name)
        if found is not None:
            return found
        if self._simulator is None:
            raise ExecutionError(f"could not get channel config for channel '{self._proposal.channel}'")
        try:
            sequence = lifecycle.sequence(self._simulator.get_state, name)
            if sequence == 0:
                # Fabric asks the legacy lifecycle then, and that read counts too.
                self._simulator.get_state("lscc", name)
            found = self._endorser.runnable(self._peer.msp_id, name, sequence, self._snapshot)
        except (SimulationError, lifecycle.LifecycleError) as error:
            raise ExecutionError(
                f"could not get current sequence for chaincode '{name}' on channel '{self._proposal.channel}': {error}"
            ) from error
        self._found[name] = found
        return found

    def _invoke(
        self, name: str, arguments: chaincode_pb2.ChaincodeInput, parent: TransactionContext | None
    ) -> ChaincodeMessage:
        if name in syscc.NAMES:
            return self._invoke_system(name, arguments)
        try:
            runnable = self._runnable(name)
        except ExecutionError as error:
            raise ExecutionError(
                f"invalid invocation: [channel {self._proposal.channel}] failed to get chaincode container info "
                f"for {name}: {error}"
            ) from error
        is_init = self._is_init(name, arguments.is_init, runnable.definition)
        proposal_ = self._proposal
        message = ChaincodeMessage(
            type=ChaincodeMessage.INIT if is_init else ChaincodeMessage.TRANSACTION,
            # Decorations are the peer's to give, so a client's are dropped; there are no decorators here.
            payload=chaincode_pb2.ChaincodeInput(args=arguments.args, is_init=is_init).SerializeToString(),
            txid=proposal_.transaction_id,
            channel_id=proposal_.channel,
            proposal=proposal_.message,
        )
        context = TransactionContext(
            self._simulator,
            name,
            channel_id=proposal_.channel,
            transaction_id=proposal_.transaction_id,
            access=self._access,
            invoke=self._call,
            parent=parent,
            is_init=is_init,
        )
        try:
            return self._endorser.host.invoke(self._peer.name, self._peer.msp_id, runnable.package_id, message, context)
        finally:
            context.close()

    def _is_init(self, name: str, asked: bool, definition: Definition) -> bool:
        """Whether this call is the chaincode's initialisation (CheckInvocation); raises when it must or may not be."""
        is_needed = False
        if definition.init_required and self._simulator is not None:
            is_needed = self._simulator.get_state(name, INITIALIZED_KEY) != definition.version.encode()
        if asked:
            if not definition.init_required:
                raise ExecutionError(
                    f"invalid invocation: chaincode '{name}' does not require initialization but called as init"
                )
            if not is_needed or self._simulator is None:
                raise ExecutionError(
                    f"invalid invocation: chaincode '{name}' is already initialized but called as init"
                )
            self._simulator.set_state(name, INITIALIZED_KEY, definition.version.encode())
        elif is_needed:
            raise ExecutionError(
                f"invalid invocation: chaincode '{name}' has not been initialized for this version, "
                "must call as init first"
            )
        return asked

    def _invoke_system(self, name: str, arguments: chaincode_pb2.ChaincodeInput) -> ChaincodeMessage:
        call = syscc.SystemCall(
            args=list(arguments.args),
            outermost=self._proposal.outermost,
            signed=self._proposal.signed,
            channel=self._proposal.channel,
            msp_id=self._peer.msp_id,
            state=self._simulator,
        )
        response = self._endorser.system.invoke(name, call)
        return ChaincodeMessage(
            type=ChaincodeMessage.COMPLETED,
            payload=response.SerializeToString(),
            txid=self._proposal.transaction_id,
            channel_id=self._proposal.channel,
        )

    def _call(self, context: TransactionContext, spec: chaincode_pb2.ChaincodeSpec) -> ChaincodeMessage:
        """Chaincode to chaincode: on this channel with the same simulator; there is no other channel to read from."""
        name, channel = parse_name(spec.chaincode_id.name)
        channel = channel or context.channel_id
        try:
            if name not in syscc.NAMES:
                if channel != self._proposal.channel:
                    raise AccessError(f"Failed to get policy manager for channel [{channel}]")
                self._endorser.allow(CHAINCODE_TO_CHAINCODE, self._peer, self._proposal)
        except AccessError as error:
            raise HandlerError(str(error)) from error
        if channel != self._proposal.channel:
            raise HandlerError(f"failed to find ledger for channel: {channel}")
        try:
            return self._invoke(name, spec.input, context)
        except ExecutionError as error:
            raise HandlerError(f"execute failed: {error}") from error

    def _access(self, namespace: str, collection: str) -> Access:
        """What the proposal's creator may do with a collection; the lookup reads the chaincode's definition."""
        if self._simulator is None:
            raise HandlerError("no ledger context")
        definition = lifecycle.definition(self._simulator.get_state, namespace)
        config = None if definition is None else lifecycle.collection_config(definition, collection)
        if config is None:
            raise HandlerError(f"collection {self._proposal.channel}/{namespace}/{collection} could not be found")
        if not config.member_only_read and not config.member_only_write:
            return OPEN
        members = config.member_orgs_policy.signature_policy.SerializeToString()
        try:
            self._endorser.policies.signature_policy(members).evaluate([self._proposal.signed])
        except PolicyError:
            return Access(read=not config.member_only_read, write=not config.member_only_write)
        return OPEN


def build_interest(result: SimulationResult) -> proposal_response_pb2.ChaincodeInterest:
    """Which policies the endorsers of a simulation must satisfy (`buildChaincodeInterest`).

    One call per namespace, one more per collection; system chaincodes are left out. Sorted, so that it does not differ
    from peer to peer.
    """
    required: dict[str, dict[str, bool]] = {}
    key_policies: dict[str, list[bytes]] = {}
    for (namespace, collection, _), metadata in result.written_metadata.items():
        needed = required.setdefault(namespace, {"": False})
        policy = metadata.get(VALIDATION_PARAMETER)
        if policy is None:
            needed[collection] = True
        else:
            key_policies.setdefault(namespace, []).append(policy)
    for namespace, _ in result.touched:
        # Only read: the chaincode's own policy is asked for nevertheless.
        required.setdefault(namespace, {"": True})
    for namespace, collection in result.private_reads:
        required.setdefault(namespace, {})[collection] = True
    interest = proposal_response_pb2.ChaincodeInterest()
    for namespace in sorted(required.keys() - syscc.NAMES):
        for collection in sorted(required[namespace]):
            call = _interest_call(result, namespace, collection, required[namespace], key_policies)
            if call is not None:
                interest.chaincodes.append(call)
    return interest


def _interest_call(
    result: SimulationResult,
    namespace: str,
    collection: str,
    required: Mapping[str, bool],
    key_policies: Mapping[str, Sequence[bytes]],
) -> proposal_response_pb2.ChaincodeCall | None:
    if collection:
        return proposal_response_pb2.ChaincodeCall(
            name=namespace,
            collection_names=[collection],
            no_private_reads=(namespace, collection) not in result.private_reads,
        )
    policies = key_policies.get(namespace, ())
    if not policies and not required[""]:
        return None
    envelopes = []
    for data in policies:
        try:
            envelopes.append(policies_pb2.SignaturePolicyEnvelope.FromString(data))
        except DecodeError as error:
            # The chaincode stored something that is no policy; nobody can endorse writes to that key.
            raise ExecutionError(f"error in simulation: error unmarshalling SignaturePolicy: {WIRE_FORMAT}") from error
    return proposal_response_pb2.ChaincodeCall(
        name=namespace, key_policies=envelopes, disregard_namespace_policy=bool(policies) and not required[""]
    )


def _payload(found: Proposal, outcome: _Outcome, version: str) -> bytes:
    """The ProposalResponsePayload: what all endorsers must agree on."""
    action = proposal_pb2.ChaincodeAction(
        results=b"" if outcome.result is None else outcome.result.public,
        events=outcome.event,
        response=outcome.response,
        chaincode_id=chaincode_pb2.ChaincodeID(name=found.chaincode, version=version),
    )
    return proposal_response_pb2.ProposalResponsePayload(
        proposal_hash=found.proposal_hash, extension=action.SerializeToString()
    ).SerializeToString()


def _failed(text: str) -> ProposalResponse:
    """The answer to a failure of the peer's own: status 500 and no payload."""
    return ProposalResponse(response=Response(status=ERROR, message=text))
