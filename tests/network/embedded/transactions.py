"""Signed transactions for the tests of the ledger: real identities, and every part of an envelope can be spoilt."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    chaincode_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)
from tallystick.fabric.block import data_hash

from network.channel import config as channel_config
from network.embedded.committer import CommittedBlock, Committer
from network.embedded.ledger import Ledger
from network.embedded.memory import DEFAULT_POLICY, write_definition
from network.embedded.msp import MspManager
from network.embedded.policy import PolicyManager
from network.embedded.rwset import RwSetBuilder
from network.identity import identities
from tests.network.conftest import Established

MAJORITY = ("CoreMSP", "WarehouseMSP", "LogisticsMSP")
ALL = (*MAJORITY, "BankMSP")
Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Signatory:
    """Somebody who signs: SerializedIdentity bytes and a function from message to signature."""

    serialized: bytes
    sign: Sign


class Channel:
    """Identities and configuration of a home."""

    def __init__(self, established: Established) -> None:
        self.topology, home, self.genesis = established
        config = channel_config.parse(self.genesis)
        self.msps = MspManager.from_config(config)
        self.policies = PolicyManager(config, self.msps)
        self.peers = {
            each.msp_id: _signatory(identities.load_node(home, each, each.peers[0]))
            for each in self.topology.organisations
        }
        self.admins = {
            each.msp_id: _signatory(identities.load_person(home, each, "admin")) for each in self.topology.organisations
        }


def _signatory(loaded: Any) -> Signatory:
    return Signatory(loaded.serialized, lambda message: loaded.signer(sha256(message).digest()))


_nonces = itertools.count(1)


@dataclass
class Draft:
    """A transaction before it is an envelope. Change a field to spoil that part; the rest stays consistent."""

    channel: Channel
    results: bytes
    chaincode: str = "trade"
    endorsers: Sequence[str] = MAJORITY
    creator: Signatory | None = None
    header_type: int = common_pb2.HeaderType.ENDORSER_TRANSACTION
    channel_id: str = "scf"
    epoch: int = 0
    nonce: bytes | None = None
    creator_bytes: bytes | None = None
    transaction_id: str | None = None
    extension: bytes | None = None
    actions: int = 1
    action_header: bytes | None = None
    proposal_hash: bytes | None = None
    action_bytes: bytes | None = None
    response_bytes: bytes | None = None
    version: str = "1"
    named: str | None = None
    event: chaincode_event_pb2.ChaincodeEvent | None = None
    spoil_signature: Callable[[bytes], bytes] = field(default=lambda signature: signature)
    spoil_endorsement: Callable[[bytes], bytes] = field(default=lambda signature: signature)

    def __post_init__(self) -> None:
        self.nonce = next(_nonces).to_bytes(24, "big") if self.nonce is None else self.nonce
        self.creator = self.creator or self.channel.admins["CoreMSP"]
        self.creator_bytes = self.creator.serialized if self.creator_bytes is None else self.creator_bytes
        if self.transaction_id is None:
            self.transaction_id = sha256(self.nonce + self.creator_bytes).hexdigest()

    def envelope(self) -> bytes:
        """The serialised envelope."""
        header = self._header()
        payload = common_pb2.Payload(header=header, data=self._transaction(header)).SerializeToString()
        assert self.creator is not None
        signature = self.spoil_signature(self.creator.sign(payload))
        return common_pb2.Envelope(payload=payload, signature=signature).SerializeToString()

    def _header(self) -> common_pb2.Header:
        name = chaincode_pb2.ChaincodeID(name=self.chaincode)
        extension = proposal_pb2.ChaincodeHeaderExtension(chaincode_id=name).SerializeToString()
        channel_header = common_pb2.ChannelHeader(
            type=self.header_type,
            channel_id=self.channel_id,
            tx_id=self.transaction_id,
            epoch=self.epoch,
            extension=extension if self.extension is None else self.extension,
        )
        channel_header.timestamp.seconds = 1_767_225_600
        signature_header = common_pb2.SignatureHeader(creator=self.creator_bytes, nonce=self.nonce)
        return common_pb2.Header(
            channel_header=channel_header.SerializeToString(), signature_header=signature_header.SerializeToString()
        )

    def _transaction(self, header: common_pb2.Header) -> bytes:
        action_header = header.signature_header if self.action_header is None else self.action_header
        spec = b"invocation"
        proposal_hash = sha256(header.channel_header + action_header + spec).digest()
        named = self.chaincode if self.named is None else self.named
        action = proposal_pb2.ChaincodeAction(
            results=self.results,
            response=proposal_response_pb2.Response(status=200),
            chaincode_id=chaincode_pb2.ChaincodeID(name=named, version=self.version),
            events=b"" if self.event is None else self.event.SerializeToString(),
        ).SerializeToString()
        response = proposal_response_pb2.ProposalResponsePayload(
            proposal_hash=proposal_hash if self.proposal_hash is None else self.proposal_hash,
            extension=action if self.action_bytes is None else self.action_bytes,
        ).SerializeToString()
        response = response if self.response_bytes is None else self.response_bytes
        payload = transaction_pb2.ChaincodeActionPayload(
            chaincode_proposal_payload=spec,
            action=transaction_pb2.ChaincodeEndorsedAction(
                proposal_response_payload=response,
                endorsements=[self._endorse(each, response) for each in self.endorsers],
            ),
        ).SerializeToString()
        each = transaction_pb2.TransactionAction(header=action_header, payload=payload)
        return transaction_pb2.Transaction(actions=[each] * self.actions).SerializeToString()

    def _endorse(self, msp_id: str, response: bytes) -> proposal_response_pb2.Endorsement:
        peer = self.channel.peers[msp_id]
        signature = self.spoil_endorsement(peer.sign(response + peer.serialized))
        return proposal_response_pb2.Endorsement(endorser=peer.serialized, signature=signature)


class Chain:
    """A ledger with its committer, on which tests commit drafts."""

    def __init__(
        self,
        channel: Channel,
        path: Path | None,
        policies: Mapping[str, bytes] | None = None,
        collections: Mapping[str, bytes] | None = None,
    ) -> None:
        self.channel = channel
        self.ledger = Ledger.create(path, channel.genesis, ALL)
        self.committer = Committer(self.ledger, channel.policies, channel.msps)
        builder = RwSetBuilder()
        for name in ("trade", "account"):
            policy = (policies or {}).get(name, DEFAULT_POLICY)
            write_definition(builder, name, "1", policy, (collections or {}).get(name, b""))
        assert self.commit([self.draft(builder, chaincode="_lifecycle")]) == [0]

    def draft(self, content: RwSetBuilder | bytes, **changes: Any) -> Draft:
        """A transaction with this read-write set; when it has private writes they are kept as endorsement would."""
        results, private = (content, None) if isinstance(content, bytes) else content.build()
        made = Draft(self.channel, results, **changes)
        if private is not None and made.transaction_id:
            self.ledger.keep_transient(made.transaction_id, "CoreMSP", private).result()
        return made

    def block(self, envelopes: Sequence[bytes]) -> common_pb2.Block:
        """The next block with these envelopes, as an orderer would cut it (without its signatures)."""
        header = common_pb2.BlockHeader(
            number=self.ledger.height, previous_hash=self.ledger.tip_hash, data_hash=data_hash(envelopes)
        )
        return common_pb2.Block(header=header, data=common_pb2.BlockData(data=envelopes))

    def commit_block(self, drafts: Sequence[Draft | bytes]) -> CommittedBlock:
        """Commit a block of these transactions."""
        block = self.block([each if isinstance(each, bytes) else each.envelope() for each in drafts])
        return self.ledger.writer.call(self.committer.commit, block).result()

    def commit(self, drafts: Sequence[Draft | bytes]) -> list[int]:
        """Commit a block and answer the validation codes."""
        return [code for _, code in self.commit_block(drafts).transactions]

    def put(self, of: str = "trade", /, **values: bytes) -> int:
        """Commit blind writes of these keys of namespace `of`; answers the version they have."""
        builder = RwSetBuilder()
        for key, value in values.items():
            builder.write(of, key, value)
        assert self.commit([self.draft(builder)]) == [0]
        return (self.ledger.height - 1) << 20

    def close(self) -> None:
        """Close ledger and committer."""
        self.committer.close()
        self.ledger.close()
