"""A ledger in memory for the tests of contracts: the network's own simulator, validator and commit, without signatures.

Identities and channel configuration are real ones, made once per process; what is left out is cryptography: every
signature counts as good, and a creator may hold any certificate. Thousands of transactions a second.
"""

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fabric_protos.common import common_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    chaincode_pb2,
    chaincode_shim_pb2,
    collection_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)
from fabric_protos.peer.lifecycle import lifecycle_pb2
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from tallystick.fabric.block import data_hash

from chaincode.shim.execute import execute
from chaincode.shim.stub import Exchange, Transaction
from network import topology as topology_module
from network.channel import config as channel_config
from network.channel import policy as channel_policy
from network.embedded import lifecycle
from network.embedded.committer import Committer
from network.embedded.handler import TransactionContext
from network.embedded.ledger import Ledger
from network.embedded.msp import Identity, IdentityError, MspManager
from network.embedded.policy import PolicyManager
from network.embedded.rwset import RwSetBuilder
from network.embedded.serializer import from_request
from network.embedded.simulator import SimulationError, Simulator
from network.embedded.store import LedgerError
from network.identity import identities
from network.topology import Topology

ChaincodeMessage = chaincode_shim_pb2.ChaincodeMessage
START = datetime(2026, 1, 1, tzinfo=UTC)  # the proposals' time unless a test sets another


class Program(Protocol):
    """A chaincode as the shim builds it (chaincode.shim.contract.Chaincode)."""

    name: str
    version: str

    def invoke(self, tx: Transaction, /) -> bytes: ...


class Execute(Protocol):
    """How one transaction is run: `execute.execute` of the shim, or what tests put in its place (`testing.twice`)."""

    def __call__(
        self, chaincode: Program, message: ChaincodeMessage, exchange: Exchange, /, *, msp_id: str
    ) -> ChaincodeMessage: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a transaction.

    `status`, `message`, `payload` are the chaincode's response. `code` is the validation code (0 is VALID), None when
    nothing was ordered: a query, or a status from 400. `event` is the event as committed blocks show it; `rwset` and
    `private` are the TxReadWriteSet and TxPvtReadWriteSet bytes.
    """

    status: int
    message: str
    payload: bytes
    code: int | None = None
    reason: str = ""
    event: chaincode_event_pb2.ChaincodeEvent | None = None
    transaction_id: str = ""
    rwset: bytes = b""
    private: bytes | None = None

    @property
    def is_valid(self) -> bool:
        """Whether it was committed as VALID."""
        return self.code == transaction_pb2.TxValidationCode.VALID


@dataclass(frozen=True, slots=True)
class Prepared:
    """A simulated transaction that may go into a block."""

    outcome: Outcome
    envelope: bytes
    private: tuple[tuple[str, bytes], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Ground:
    """The parts of a channel that all ledgers of a process share."""

    topology: Topology
    genesis: bytes
    msps: "UnsignedMsps"
    policies: PolicyManager
    peers: Mapping[str, bytes]


class UnsignedMsps(MspManager):
    """Identities as on the network, but any signature is good and a creator's certificate need not be issued by us."""

    def __init__(self, msps: Sequence[Any]) -> None:
        super().__init__(msps)
        self._seen: dict[bytes, Identity] = {}

    def identity(self, serialized: bytes) -> Identity:
        """The identity; one that no organisation issued counts as a client of the organisation it names."""
        known = self._seen.get(serialized)
        if known is None:
            try:
                known = super().identity(serialized)
            except IdentityError:
                known = _open_identity(serialized)
            self._seen[serialized] = known
        return known

    def verify(self, identity: Identity, message: bytes, signature: bytes) -> bool:
        """Always true: there are no signatures here."""
        return True


def _open_identity(serialized: bytes) -> Identity:
    try:
        message = identities_pb2.SerializedIdentity.FromString(serialized)
        certificate = x509.load_pem_x509_certificate(message.id_bytes)
    except (DecodeError, ValueError) as error:
        raise IdentityError(f"the creator is no serialised X.509 identity: {error}") from error
    return Identity(
        msp_id=message.mspid,
        certificate=certificate,
        certificate_hash=sha256(certificate.public_bytes(Encoding.DER)).digest(),
        expires_at=certificate.not_valid_after_utc,
        roles=frozenset({"member", "client"}),
        organizational_units=("client",),
        certifiers=b"",
        public_key=certificate.public_key(),  # type: ignore[arg-type]  # never used: nothing is verified
    )


@lru_cache(maxsize=4)
def _ground(path: Path | None) -> _Ground:
    """Keys, certificates and block 0 of a topology; made once, since they cost more than a thousand transactions."""
    topology = topology_module.load(path)
    with tempfile.TemporaryDirectory(prefix="tallystick-memory-") as folder:
        home = Path(folder)
        identities.establish(home, topology)
        genesis = channel_config.genesis_block(topology, home)
        peers = {
            organisation.msp_id: identities.load_node(home, organisation, organisation.peers[0]).serialized
            for organisation in topology.organisations
            if organisation.peers
        }
    config = channel_config.parse(genesis)
    msps = UnsignedMsps.from_config(config)
    return _Ground(topology, genesis, msps, PolicyManager(config, msps), peers)


class MemoryLedger:
    """A channel in memory on which chaincodes run; every `submit` is a block of its own, `block` makes larger ones.

    `policies` (ApplicationPolicy bytes) and `collections` (CollectionConfigPackage bytes) by chaincode name; without
    them a chaincode of the topology has the topology's, any other the channel's default. `execute` runs each call,
    those that chaincodes make to each other included. Not for several threads.
    """

    def __init__(
        self,
        chaincodes: Sequence[Program],
        *,
        topology: Path | None = None,
        policies: Mapping[str, bytes] | None = None,
        collections: Mapping[str, bytes] | None = None,
        execute: Execute = execute,
    ) -> None:
        self._ground = _ground(topology)
        self._execute = execute
        self._programs = {chaincode.name: chaincode for chaincode in chaincodes}
        self.msp_ids = tuple(self._ground.peers)
        self.channel = self._ground.topology.channel
        self.ledger = Ledger.create(None, self._ground.genesis, self.msp_ids)
        self._committer = Committer(self.ledger, self._ground.policies, self._ground.msps)
        self._nonces = itertools.count(1)
        self.now = START
        self._define(policies or {}, collections or {})

    def close(self) -> None:
        """End it."""
        self._committer.close()
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- transactions --------------------------------------------------------------------------------------------

    def submit(
        self,
        chaincode: str,
        function: str,
        args: Sequence[bytes | str] = (),
        *,
        creator: bytes,
        transient: Mapping[str, bytes] | None = None,
        timestamp: datetime | None = None,
        peers: Sequence[str] | None = None,
    ) -> Outcome:
        """Simulate on the peers and, when the chaincode agrees (status below 400), commit alone in a block.

        `peers` are the MSP ids that endorse, all by default; the first one's private view is simulated on, and the
        others are taken to agree.
        """
        prepared = self.prepare(
            chaincode, function, args, creator=creator, transient=transient, timestamp=timestamp, peers=peers
        )
        if prepared.outcome.status >= 400:
            return prepared.outcome
        return self.block([prepared])[0]

    def evaluate(
        self,
        chaincode: str,
        function: str,
        args: Sequence[bytes | str] = (),
        *,
        creator: bytes,
        transient: Mapping[str, bytes] | None = None,
        timestamp: datetime | None = None,
        peer: str | None = None,
    ) -> Outcome:
        """Only simulate, on one peer."""
        return self.prepare(
            chaincode,
            function,
            args,
            creator=creator,
            transient=transient,
            timestamp=timestamp,
            peers=None if peer is None else (peer,),
        ).outcome

    def prepare(
        self,
        chaincode: str,
        function: str,
        args: Sequence[bytes | str] = (),
        *,
        creator: bytes,
        transient: Mapping[str, bytes] | None = None,
        timestamp: datetime | None = None,
        peers: Sequence[str] | None = None,
    ) -> Prepared:
        """Simulate without committing; several prepared ones can race in one `block`."""
        endorsers = tuple(self.msp_ids if peers is None else peers)
        call = _Call(
            self.channel,
            chaincode,
            [function.encode(), *(each.encode() if isinstance(each, str) else each for each in args)],
            creator,
            dict(transient or {}),
            timestamp or self.now,
            next(self._nonces).to_bytes(24, "big"),
        )
        with self.ledger.snapshot() as snapshot:
            simulator = Simulator(snapshot, endorsers[0], call.transaction_id)
            answer = self._run(simulator, call, endorsers[0], chaincode, call.input, None)
            result = simulator.result()
        response = proposal_response_pb2.Response.FromString(answer.payload)
        event = answer.chaincode_event if answer.HasField("chaincode_event") and response.status < 400 else None
        if event is not None:
            event.chaincode_id, event.tx_id = chaincode, call.transaction_id
        outcome = Outcome(
            response.status,
            response.message,
            response.payload,
            event=event,
            transaction_id=call.transaction_id,
            rwset=result.public,
            private=result.private,
        )
        envelope = call.envelope(
            response, event, result.public, self._version(chaincode), [self._ground.peers[name] for name in endorsers]
        )
        plain = () if result.private is None else tuple((name, result.private) for name in endorsers[:1])
        return Prepared(outcome, envelope, plain)

    def block(self, prepared: Sequence[Prepared]) -> list[Outcome]:
        """Commit simulated transactions in one block, in this order, and answer what became of each."""
        for each in prepared:
            for msp_id, data in each.private:
                self.ledger.keep_transient(each.outcome.transaction_id, msp_id, data).result()
        codes = self._commit([each.envelope for each in prepared])
        return [
            Outcome(
                each.outcome.status,
                each.outcome.message,
                each.outcome.payload,
                code,
                reason,
                each.outcome.event,
                each.outcome.transaction_id,
                each.outcome.rwset,
                each.outcome.private,
            )
            for each, (code, reason) in zip(prepared, codes, strict=True)
        ]

    def get_state(self, chaincode: str, key: str) -> bytes | None:
        """The committed value of a key."""
        return self.ledger.current.get_state(chaincode, key)

    # --- inside --------------------------------------------------------------------------------------------------

    def _commit(self, envelopes: Sequence[bytes]) -> list[tuple[int, str]]:
        header = common_pb2.BlockHeader(
            number=self.ledger.height, previous_hash=self.ledger.tip_hash, data_hash=data_hash(envelopes)
        )
        block = common_pb2.Block(header=header, data=common_pb2.BlockData(data=envelopes))
        committed = self._committer.commit(block)
        return [(code, reason) for (_, code), reason in zip(committed.transactions, committed.reasons, strict=True)]

    def _run(
        self,
        simulator: Simulator,
        call: "_Call",
        msp_id: str,
        name: str,
        arguments: chaincode_pb2.ChaincodeInput,
        parent: TransactionContext | None,
    ) -> ChaincodeMessage:
        """Run one chaincode on the simulator; chaincodes that it calls run on the same one."""
        program = self._programs.get(name)
        if program is None or not lifecycle.sequence(simulator.get_state, name):
            raise SimulationError(f"chaincode {name} is not defined on this ledger")

        def invoke(context: TransactionContext, spec: chaincode_pb2.ChaincodeSpec) -> ChaincodeMessage:
            answer = self._run(simulator, call, msp_id, spec.chaincode_id.name.split("/")[0], spec.input, context)
            answer.ClearField("chaincode_event")  # only the outermost chaincode's event counts
            return answer

        context = TransactionContext(
            simulator,
            name,
            channel_id=self.channel,
            transaction_id=call.transaction_id,
            invoke=invoke,
            parent=parent,
        )
        message = ChaincodeMessage(
            type=ChaincodeMessage.TRANSACTION,
            payload=arguments.SerializeToString(),
            txid=call.transaction_id,
            channel_id=self.channel,
            proposal=call.signed_proposal,
        )
        try:
            return self._execute(program, message, context.handle, msp_id=msp_id)
        finally:
            context.close()

    def _version(self, chaincode: str) -> str:
        return self._programs[chaincode].version

    def _define(self, policies: Mapping[str, bytes], collections: Mapping[str, bytes]) -> None:
        """Put the definitions on the ledger in block 1, as a commit of `_lifecycle` would leave them."""
        specs = {spec.name: spec for spec in self._ground.topology.chaincodes}
        builder = RwSetBuilder()
        for name, program in self._programs.items():
            spec = specs.get(name)
            default = channel_policy.endorsement(spec, self._ground.topology) if spec is not None else DEFAULT_POLICY
            package = channel_policy.collections(spec, self._ground.topology) if spec is not None else b""
            write_definition(
                builder, name, program.version, policies.get(name, default), collections.get(name, package)
            )
        public, _ = builder.build()
        call = _Call(
            self.channel,
            lifecycle.NAMESPACE,
            [b"CommitChaincodeDefinition"],
            self._ground.peers[self.msp_ids[0]],
            {},
            self.now,
            next(self._nonces).to_bytes(24, "big"),
        )
        response = proposal_response_pb2.Response(status=200)
        envelope = call.envelope(response, None, public, "syscc", list(self._ground.peers.values()))
        [(code, reason)] = self._commit([envelope])
        if code:
            raise LedgerError(f"the chaincodes could not be defined: {reason}")


class _Call:
    """One proposal and the bytes made from it."""

    def __init__(
        self,
        channel: str,
        chaincode: str,
        args: Sequence[bytes],
        creator: bytes,
        transient: Mapping[str, bytes],
        timestamp: datetime,
        nonce: bytes,
    ) -> None:
        self.transaction_id = sha256(nonce + creator).hexdigest()
        self.input = chaincode_pb2.ChaincodeInput(args=args)
        self._chaincode = chaincode_pb2.ChaincodeID(name=chaincode)
        seconds = Timestamp()
        seconds.FromDatetime(timestamp)
        extension = proposal_pb2.ChaincodeHeaderExtension(chaincode_id=self._chaincode)
        self._channel_header = common_pb2.ChannelHeader(
            type=common_pb2.HeaderType.ENDORSER_TRANSACTION,
            timestamp=seconds,
            channel_id=channel,
            tx_id=self.transaction_id,
            extension=extension.SerializeToString(),
        ).SerializeToString()
        self._signature_header = common_pb2.SignatureHeader(creator=creator, nonce=nonce).SerializeToString()
        spec = chaincode_pb2.ChaincodeSpec(
            type=chaincode_pb2.ChaincodeSpec.GOLANG, chaincode_id=self._chaincode, input=self.input
        )
        invocation = chaincode_pb2.ChaincodeInvocationSpec(chaincode_spec=spec).SerializeToString()
        header = common_pb2.Header(
            channel_header=self._channel_header, signature_header=self._signature_header
        ).SerializeToString()
        payload = proposal_pb2.ChaincodeProposalPayload(input=invocation, TransientMap=transient)
        proposal = proposal_pb2.Proposal(header=header, payload=payload.SerializeToString())
        self.signed_proposal = proposal_pb2.SignedProposal(proposal_bytes=proposal.SerializeToString())
        self._public_payload = proposal_pb2.ChaincodeProposalPayload(input=invocation).SerializeToString()

    def envelope(
        self,
        response: proposal_response_pb2.Response,
        event: chaincode_event_pb2.ChaincodeEvent | None,
        results: bytes,
        version: str,
        endorsers: Sequence[bytes],
    ) -> bytes:
        """The transaction that these endorsers would have made possible."""
        action = proposal_pb2.ChaincodeAction(
            results=results,
            events=b"" if event is None else event.SerializeToString(),
            response=response,
            chaincode_id=chaincode_pb2.ChaincodeID(name=self._chaincode.name, version=version),
        )
        proposal_hash = sha256(self._channel_header + self._signature_header + self._public_payload).digest()
        answer = proposal_response_pb2.ProposalResponsePayload(
            proposal_hash=proposal_hash, extension=action.SerializeToString()
        )
        payload = transaction_pb2.ChaincodeActionPayload(
            chaincode_proposal_payload=self._public_payload,
            action=transaction_pb2.ChaincodeEndorsedAction(
                proposal_response_payload=answer.SerializeToString(),
                endorsements=[proposal_response_pb2.Endorsement(endorser=each) for each in endorsers],
            ),
        )
        transaction = transaction_pb2.Transaction(
            actions=[
                transaction_pb2.TransactionAction(header=self._signature_header, payload=payload.SerializeToString())
            ]
        )
        whole = common_pb2.Payload(
            header=common_pb2.Header(channel_header=self._channel_header, signature_header=self._signature_header),
            data=transaction.SerializeToString(),
        )
        return common_pb2.Envelope(payload=whole.SerializeToString()).SerializeToString()


DEFAULT_POLICY = lifecycle.reference(lifecycle.ENDORSEMENT_REFERENCE)


def write_definition(builder: RwSetBuilder, name: str, version: str, policy: bytes, package: bytes) -> None:
    """Write a chaincode definition of sequence 1: `policy` is an ApplicationPolicy, `package` its collections."""
    request = lifecycle_pb2.CommitChaincodeDefinitionArgs(
        sequence=1,
        name=name,
        version=version,
        validation_parameter=policy,
        collections=collection_pb2.CollectionConfigPackage.FromString(package),
    )
    definition = from_request(request).definition()
    builder.write(lifecycle.NAMESPACE, lifecycle.metadata_key(name), definition.metadata())
    for field_name, data in definition.fields.items():
        builder.write(lifecycle.NAMESPACE, lifecycle.field_key(name, field_name), data)
