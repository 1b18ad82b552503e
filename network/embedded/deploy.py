"""Puts chaincode definitions on the ledger by the transactions a consortium would send: approvals, then a commit.

Runs before the ports open, in the name of each organisation's admin. What is already defined as the topology says is
left alone, so an interrupted first start is completed by the next one, and a changed definition becomes the next
sequence."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fabric_protos.common import common_pb2
from fabric_protos.peer import (
    chaincode_pb2,
    collection_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)
from fabric_protos.peer.lifecycle import lifecycle_pb2
from google.protobuf.message import Message
from tallystick.fabric.hashing import Hash
from tallystick.fabric.signer import Signer

from network.embedded.layout import Peer
from network.embedded.lifecycle import NAMESPACE, Definition

_NONCE_BYTES: Final = 24
_ENDORSEMENT_PLUGIN: Final = "escc"
_VALIDATION_PLUGIN: Final = "vscc"
_APPROVE: Final = "ApproveChaincodeDefinitionForMyOrg"
_COMMIT: Final = "CommitChaincodeDefinition"
# The peer's refusal of an approval that an interrupted start left behind; then only the commit is missing.
_APPROVED_BEFORE: Final = "with unchanged content"
_VALID: Final = transaction_pb2.TxValidationCode.VALID


class DeployError(Exception):
    """A chaincode could not be defined; the text names it and says what refused it."""


@dataclass(frozen=True, slots=True)
class Admin:
    """The one who acts for an organisation, and the peer that endorses for it."""

    serialized: bytes
    sign: Signer
    peer: Peer


@dataclass(frozen=True, slots=True)
class Wanted:
    """A definition as the topology describes it: `policy` is ApplicationPolicy bytes, `collections` a package's bytes,
    `packages` the package id per MSP id."""

    name: str
    version: str
    policy: bytes
    collections: bytes
    packages: Mapping[str, str]

    def is_met_by(self, found: Definition | None) -> bool:
        """Whether the ledger already says the same."""
        if found is None:
            return False
        package = collection_pb2.CollectionConfigPackage.FromString(self.collections)
        wanted = {config.static_collection_config.name: config.static_collection_config for config in package.config}
        return (found.version, found.validation_parameter, dict(found.collections)) == (
            self.version,
            self.policy,
            wanted,
        )


# Simulates and endorses a signed proposal as one peer.
Process = Callable[[Peer, bytes], proposal_response_pb2.ProposalResponse]
# Puts envelopes in one block and answers their validation codes in order.
Commit = Callable[[Sequence[bytes]], Sequence[int]]


def deploy(
    channel: str,
    wanted: Mapping[str, tuple[Wanted, int]],
    admins: Sequence[Admin],
    process: Process,
    commit: Commit,
) -> None:
    """Approve every wanted definition for every organisation in one block and commit them all in the next.

    `wanted` maps each name to its definition and the sequence it becomes. Raises `DeployError`."""
    if not wanted:
        return
    approvals = []
    for entry in wanted.values():
        for admin in admins:
            try:
                approvals.append(
                    _transaction(channel, admin, [admin.peer], _APPROVE, _approval(*entry, admin), process)
                )
            except DeployError as error:
                if not str(error).endswith(_APPROVED_BEFORE):
                    raise
    if approvals:
        _require_valid(commit(approvals), "an approval")
    peers = [admin.peer for admin in admins]
    commits = [
        _transaction(channel, admins[0], peers, _COMMIT, _commitment(*entry), process) for entry in wanted.values()
    ]
    _require_valid(commit(commits), "a commit of a definition")


def _approval(wanted: Wanted, sequence: int, admin: Admin) -> Message:
    local = lifecycle_pb2.ChaincodeSource.Local(package_id=wanted.packages[admin.peer.msp_id])
    return lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs(
        sequence=sequence,
        name=wanted.name,
        version=wanted.version,
        endorsement_plugin=_ENDORSEMENT_PLUGIN,
        validation_plugin=_VALIDATION_PLUGIN,
        validation_parameter=wanted.policy,
        collections=collection_pb2.CollectionConfigPackage.FromString(wanted.collections),
        source=lifecycle_pb2.ChaincodeSource(local_package=local),
    )


def _commitment(wanted: Wanted, sequence: int) -> Message:
    return lifecycle_pb2.CommitChaincodeDefinitionArgs(
        sequence=sequence,
        name=wanted.name,
        version=wanted.version,
        endorsement_plugin=_ENDORSEMENT_PLUGIN,
        validation_plugin=_VALIDATION_PLUGIN,
        validation_parameter=wanted.policy,
        collections=collection_pb2.CollectionConfigPackage.FromString(wanted.collections),
    )


def _transaction(
    channel: str, admin: Admin, peers: Sequence[Peer], function: str, argument: Message, process: Process
) -> bytes:
    """Propose a lifecycle call, collect the endorsements and sign the envelope."""
    header, payload = _proposal(channel, admin.serialized, [function.encode(), argument.SerializeToString()])
    proposal = proposal_pb2.Proposal(header=header.SerializeToString(), payload=payload).SerializeToString()
    signed = proposal_pb2.SignedProposal(
        proposal_bytes=proposal, signature=admin.sign(Hash.SHA256.digest(proposal))
    ).SerializeToString()
    responses = [process(peer, signed) for peer in peers]
    for peer, response in zip(peers, responses, strict=True):
        if response.response.status != 200:
            raise DeployError(f"{function}: {peer.name} answered {response.response.message}")
    action = transaction_pb2.ChaincodeActionPayload(
        chaincode_proposal_payload=payload,
        action=transaction_pb2.ChaincodeEndorsedAction(
            proposal_response_payload=responses[0].payload,
            endorsements=[response.endorsement for response in responses],
        ),
    )
    transaction = transaction_pb2.Transaction(
        actions=[transaction_pb2.TransactionAction(header=header.signature_header, payload=action.SerializeToString())]
    )
    signed_payload = common_pb2.Payload(header=header, data=transaction.SerializeToString()).SerializeToString()
    return common_pb2.Envelope(
        payload=signed_payload, signature=admin.sign(Hash.SHA256.digest(signed_payload))
    ).SerializeToString()


def _proposal(channel: str, creator: bytes, arguments: Sequence[bytes]) -> tuple[common_pb2.Header, bytes]:
    """Header and payload of a proposal to `_lifecycle`."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    chaincode = chaincode_pb2.ChaincodeID(name=NAMESPACE)
    channel_header = common_pb2.ChannelHeader(
        type=common_pb2.HeaderType.ENDORSER_TRANSACTION,
        tx_id=Hash.SHA256.digest(nonce + creator).hex(),
        channel_id=channel,
        extension=proposal_pb2.ChaincodeHeaderExtension(chaincode_id=chaincode).SerializeToString(),
    )
    channel_header.timestamp.FromNanoseconds(time.time_ns())
    header = common_pb2.Header(
        channel_header=channel_header.SerializeToString(),
        signature_header=common_pb2.SignatureHeader(creator=creator, nonce=nonce).SerializeToString(),
    )
    spec = chaincode_pb2.ChaincodeInvocationSpec(
        chaincode_spec=chaincode_pb2.ChaincodeSpec(
            chaincode_id=chaincode, input=chaincode_pb2.ChaincodeInput(args=arguments)
        )
    )
    return header, proposal_pb2.ChaincodeProposalPayload(input=spec.SerializeToString()).SerializeToString()


def _require_valid(codes: Sequence[int], what: str) -> None:
    for code in codes:
        if code != _VALID:
            raise DeployError(f"{what} was committed as {transaction_pb2.TxValidationCode.Name(code)}")
