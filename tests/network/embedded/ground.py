"""A channel to test endorsement on: real identities, configuration and commit, no servers."""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from fabric_protos.peer.lifecycle import lifecycle_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from tallystick.fabric.block import data_hash

from network import topology as topologies
from network.channel import config, policy
from network.embedded.committer import Committer
from network.embedded.endorser import Endorser
from network.embedded.host import Host, package_id
from network.embedded.ledger import Ledger
from network.embedded.msp import MspManager
from network.embedded.policy import PolicyManager
from network.identity import identities
from network.identity.identities import PersonIdentity
from network.topology import ChaincodeSpec, Collection, Rule, Topology

LEDGER = ChaincodeSpec(
    name="ledger",
    version="1.0",
    program="tests.network.embedded.programs:ledger",
    collections=(
        Collection(
            "shared", Rule(1, ("core", "bank")), maximum_peer_count=1, member_only_read=True, member_only_write=True
        ),
        Collection("open", Rule(1, ("core", "bank")), maximum_peer_count=1),
        Collection("banked", Rule(1, ("core", "bank")), maximum_peer_count=1, endorsement=Rule(1, ("bank",))),
    ),
)
OTHER = ChaincodeSpec(
    name="other",
    version="2.0",
    endorsement=Rule(2, ("bank", Rule(1, ("core", "warehouse", "logistics")))),
    program="tests.network.embedded.programs:other",
)
MSP_IDS = ("CoreMSP", "WarehouseMSP", "LogisticsMSP", "BankMSP")


@dataclass(frozen=True, slots=True)
class PeerOf:
    """One peer as the endorser sees it."""

    name: str
    msp_id: str
    serialized: bytes
    signer: identities.Signer


class Ground:
    """One channel. `chaincodes` are installed at every organisation; `define` puts them on the ledger."""

    def __init__(self, home: Path, chaincodes: Sequence[ChaincodeSpec] = (LEDGER, OTHER), **host: object) -> None:
        shipped = topologies.load()
        self.topology: Topology = replace(shipped, chaincodes=tuple(chaincodes))
        self.home = home
        identities.establish(home, self.topology)
        self.genesis = config.genesis_block(self.topology, home)
        configuration = config.parse(self.genesis)
        self.msps = MspManager.from_config(configuration)
        self.policies = PolicyManager(configuration, self.msps)
        self.ledger = Ledger.create(home / "ledger.db", self.genesis, MSP_IDS)
        self.committer = Committer(self.ledger, self.policies, self.msps)
        self.host = Host(self.topology.chaincodes, self.topology.organisations, **host)  # type: ignore[arg-type]
        self.now_ns = time.time_ns()
        self.endorser = Endorser(
            self.topology.channel,
            self.ledger,
            self.host,
            self.msps,
            self.policies,
            MSP_IDS,
            time_window_seconds=60,
            clock=lambda: self.now_ns,
        )
        self.peers: dict[str, PeerOf] = {}
        for organisation in self.topology.organisations:
            node = identities.load_node(home, organisation, organisation.peers[0])
            self.peers[organisation.name] = PeerOf(
                organisation.peers[0].name, node.msp_id, node.serialized, node.signer
            )

    def close(self) -> None:
        self.host.close()
        self.committer.close()
        self.ledger.close()

    @property
    def channel(self) -> str:
        return self.topology.channel

    def person(self, organisation: str, name: str = "user") -> PersonIdentity:
        return identities.load_person(self.home, self.topology.organisation(organisation), name)

    # --- proposals ---

    def parts(
        self,
        chaincode: str,
        args: Sequence[bytes | str],
        person: PersonIdentity,
        *,
        transient: Mapping[str, bytes] | None = None,
        channel: str | None = None,
    ) -> "Parts":
        arguments = [each.encode() if isinstance(each, str) else each for each in args]
        nonce = secrets.token_bytes(24)
        return Parts(
            channel=self.channel if channel is None else channel,
            transaction_id=sha256(nonce + person.serialized).hexdigest(),
            timestamp_ns=self.now_ns,
            nonce=nonce,
            chaincode=chaincode,
            spec=chaincode_pb2.ChaincodeInvocationSpec(
                chaincode_spec=chaincode_pb2.ChaincodeSpec(
                    chaincode_id=chaincode_pb2.ChaincodeID(name=chaincode),
                    input=chaincode_pb2.ChaincodeInput(args=arguments),
                )
            ),
            transient=dict(transient or {}),
            person=person,
        )

    def propose(self, chaincode: str, *args: bytes | str, by: str = "core", **extra: object) -> "Parts":
        return self.parts(chaincode, args, self.person(by), **extra)  # type: ignore[arg-type]

    def endorse(self, parts: "Parts", at: str = "core") -> proposal_response_pb2.ProposalResponse:
        return self.endorser.process(self.peers[at], parts.signed())

    # --- commit ---

    def envelope(self, parts: "Parts", responses: Sequence[proposal_response_pb2.ProposalResponse]) -> bytes:
        payload = proposal_pb2.ChaincodeProposalPayload(input=parts.spec.SerializeToString())
        action = transaction_pb2.ChaincodeActionPayload(
            chaincode_proposal_payload=payload.SerializeToString(),
            action=transaction_pb2.ChaincodeEndorsedAction(
                proposal_response_payload=responses[0].payload,
                endorsements=[response.endorsement for response in responses],
            ),
        )
        header = parts.header()
        transaction = transaction_pb2.Transaction(
            actions=[
                transaction_pb2.TransactionAction(header=header.signature_header, payload=action.SerializeToString())
            ]
        )
        data = common_pb2.Payload(header=header, data=transaction.SerializeToString()).SerializeToString()
        return common_pb2.Envelope(
            payload=data, signature=parts.person.signer(sha256(data).digest())
        ).SerializeToString()

    def commit(self, *envelopes: bytes) -> list[int]:
        header = common_pb2.BlockHeader(
            number=self.ledger.height, previous_hash=self.ledger.tip_hash, data_hash=data_hash(envelopes)
        )
        block = common_pb2.Block(header=header, data=common_pb2.BlockData(data=envelopes))
        committed = self.ledger.writer.call(self.committer.commit, block).result()
        return [code for _, code in committed.transactions]

    def submit(self, parts: "Parts", at: Sequence[str] = ("core", "warehouse", "bank")) -> list[int]:
        responses = [self.endorse(parts, peer) for peer in at]
        for response in responses:
            assert response.response.status == 200, response.response.message
        return self.commit(self.envelope(parts, responses))

    # --- lifecycle ---

    def lifecycle(
        self, function: str, message: Message, *, by: str = "core", at: str | None = None, name: str = "admin"
    ) -> proposal_response_pb2.ProposalResponse:
        parts = self.parts("_lifecycle", (function, message.SerializeToString()), self.person(by, name))
        return self.endorse(parts, at or by)

    def approve(self, organisation: str, message: Message) -> list[int]:
        arguments = ("ApproveChaincodeDefinitionForMyOrg", message.SerializeToString())
        return self.submit(self.parts("_lifecycle", arguments, self.person(organisation, "admin")), (organisation,))

    def definition_args(self, spec: ChaincodeSpec, sequence: int = 1) -> dict[str, object]:
        return {
            "sequence": sequence,
            "name": spec.name,
            "version": spec.version,
            "validation_parameter": policy.endorsement(spec, self.topology),
            "collections": policy.collections(spec, self.topology),
        }

    def approval(self, spec: ChaincodeSpec, sequence: int = 1, package: str | None = None) -> Message:
        args = self.definition_args(spec, sequence)
        message = lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs(
            sequence=sequence,
            name=spec.name,
            version=spec.version,
            validation_parameter=args["validation_parameter"],  # type: ignore[arg-type]
            source=lifecycle_pb2.ChaincodeSource(
                local_package=lifecycle_pb2.ChaincodeSource.Local(
                    package_id=package_id(spec) if package is None else package
                )
            ),
        )
        message.collections.ParseFromString(args["collections"])  # type: ignore[arg-type]
        return message

    def commitment(self, spec: ChaincodeSpec, sequence: int = 1) -> lifecycle_pb2.CommitChaincodeDefinitionArgs:
        args = self.definition_args(spec, sequence)
        message = lifecycle_pb2.CommitChaincodeDefinitionArgs(
            sequence=sequence,
            name=spec.name,
            version=spec.version,
            validation_parameter=args["validation_parameter"],  # type: ignore[arg-type]
        )
        if args["collections"]:
            message.collections.ParseFromString(args["collections"])  # type: ignore[arg-type]
        return message

    def define(self, *specs: ChaincodeSpec) -> None:
        """Approve in one block and commit in another, as transactions."""
        for spec in specs or self.topology.chaincodes:
            for organisation in self.peers:
                assert self.approve(organisation, self.approval(spec)) == [0]
            arguments = ("CommitChaincodeDefinition", self.commitment(spec).SerializeToString())
            parts = self.parts("_lifecycle", arguments, self.person("core", "admin"))
            assert self.submit(parts, list(self.peers)) == [0]


@dataclass(slots=True)
class Parts:
    """A proposal before it is signed; tests change what they want to see refused."""

    channel: str
    transaction_id: str
    timestamp_ns: int | None
    nonce: bytes
    chaincode: str | None
    spec: chaincode_pb2.ChaincodeInvocationSpec
    transient: dict[str, bytes]
    person: PersonIdentity
    kind: int = common_pb2.ENDORSER_TRANSACTION
    epoch: int = 0

    def header(self) -> common_pb2.Header:
        extension = proposal_pb2.ChaincodeHeaderExtension()
        if self.chaincode is not None:
            extension.chaincode_id.name = self.chaincode
        channel_header = common_pb2.ChannelHeader(
            type=self.kind,
            channel_id=self.channel,
            tx_id=self.transaction_id,
            epoch=self.epoch,
            extension=extension.SerializeToString(),
        )
        if self.timestamp_ns is not None:
            seconds, nanos = divmod(self.timestamp_ns, 10**9)
            channel_header.timestamp.CopyFrom(Timestamp(seconds=seconds, nanos=nanos))
        return common_pb2.Header(
            channel_header=channel_header.SerializeToString(),
            signature_header=common_pb2.SignatureHeader(
                creator=self.person.serialized, nonce=self.nonce
            ).SerializeToString(),
        )

    def proposal(self) -> bytes:
        payload = proposal_pb2.ChaincodeProposalPayload(
            input=self.spec.SerializeToString(), TransientMap=self.transient
        )
        return proposal_pb2.Proposal(
            header=self.header().SerializeToString(), payload=payload.SerializeToString()
        ).SerializeToString()

    def signed(self, signature: bytes | None = None) -> bytes:
        data = self.proposal()
        made = self.person.signer(sha256(data).digest()) if signature is None else signature
        return proposal_pb2.SignedProposal(proposal_bytes=data, signature=made).SerializeToString()
