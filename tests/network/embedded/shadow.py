"""A real peer that joins the embedded network, and transactions made by hand for it to judge.

The peer takes the network's first block, pulls all others from the network's ordering service and judges them with
Fabric's own code: what it writes into a block's metadata is the measure for what we write."""

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.peer import proposal_pb2, proposal_response_pb2, transaction_pb2

from network.embedded.block import COMMIT_HASH, TRANSACTIONS_FILTER
from network.embedded.layout import Peer
from network.embedded.network import EmbeddedNetwork
from network.identity import identities
from network.topology import Node, Organisation
from tests.network.channel import programs
from tests.network.embedded import wire
from tests.network.embedded.transactions import MAJORITY

_JOIN_SECONDS = 30
_BLOCK_SECONDS = 60

Endorsements = list[proposal_response_pb2.Endorsement]
Code = transaction_pb2.TxValidationCode


@dataclass(frozen=True)
class Verdict:
    """What a peer wrote into one block: a code per transaction, and the hash of all state written so far."""

    number: int
    codes: tuple[str, ...]
    commit_hash: bytes


def verdict(block: common_pb2.Block) -> Verdict:
    """The verdict that stands in a block's metadata."""
    slots = block.metadata.metadata
    digest = common_pb2.Metadata.FromString(slots[COMMIT_HASH]).value if len(slots) > COMMIT_HASH else b""
    codes = tuple(Code.Name(code) for code in slots[TRANSACTIONS_FILTER])
    return Verdict(block.header.number, codes, digest)


@dataclass(frozen=True)
class Tx:
    """A transaction to be: the steps of `fixtures.script`, who endorses, and what is spoilt after endorsement.

    `again` names an earlier transaction whose very bytes are put in the block once more; `label` gives it the name."""

    steps: Sequence[Sequence[Any]] = ()
    expected: int = Code.VALID
    chaincode: str = "script"
    at: Sequence[str] = MAJORITY
    by: str = "core"
    spoil_signature: Callable[[bytes], bytes] = bytes
    spoil_endorsements: Callable[[Endorsements], Endorsements] = list
    label: str = ""
    again: str = ""


def first_peer(organisation: Organisation) -> Peer:
    """The organisation's first peer, as the embedded network is told which one is asked."""
    node = organisation.peers[0]
    return Peer(msp_id=organisation.msp_id, name=node.name, address=node.advertised)


class Author:
    """Makes transactions of a network that is prepared and not started, and puts them in blocks of their own."""

    def __init__(self, network: EmbeddedNetwork) -> None:
        self._network = network
        self._envelopes: dict[str, bytes] = {}
        topology = network.topology
        self._people = {
            each.name: wire.load_person(network.home, each.name, each.msp_id, "user") for each in topology.organisations
        }
        self._peers = {each.msp_id: first_peer(each) for each in topology.organisations}

    def block(self, transactions: Sequence[Tx]) -> list[str]:
        """Simulate these on the latest state, put them in one block, and answer the names of their codes."""
        codes = self._network.commit_now([self.envelope(each) for each in transactions])
        return [Code.Name(code) for code in codes]

    def envelope(self, tx: Tx) -> bytes:
        """The serialised envelope of a transaction."""
        made = self._envelopes[tx.again] if tx.again else self._make(tx)
        if tx.label:
            self._envelopes[tx.label] = made
        return made

    def _make(self, tx: Tx) -> bytes:
        person = self._people[tx.by]
        parts = wire.Parts(creator=person.serialized, args=[json.dumps(tx.steps).encode()], chaincode=tx.chaincode)
        _, data = wire.build(parts)
        signed = proposal_pb2.SignedProposal(proposal_bytes=data, signature=person.sign(data)).SerializeToString()
        responses = [self._network.process(self._peers[msp_id], signed) for msp_id in tx.at]
        for response in responses:
            assert response.response.status == 200, response.response.message
        proposal = proposal_pb2.Proposal.FromString(data)
        header = common_pb2.Header.FromString(proposal.header)
        action = transaction_pb2.ChaincodeActionPayload(
            chaincode_proposal_payload=proposal.payload,
            action=transaction_pb2.ChaincodeEndorsedAction(
                proposal_response_payload=responses[0].payload,
                endorsements=tx.spoil_endorsements([response.endorsement for response in responses]),
            ),
        )
        actions = [
            transaction_pb2.TransactionAction(header=header.signature_header, payload=action.SerializeToString())
        ]
        payload = common_pb2.Payload(
            header=header, data=transaction_pb2.Transaction(actions=actions).SerializeToString()
        )
        message = payload.SerializeToString()
        signature = tx.spoil_signature(person.sign(message))
        return common_pb2.Envelope(payload=message, signature=signature).SerializeToString()


class Reader:
    """Reads whole blocks from a peer's deliver service, ours or a real one, as a user of the core enterprise."""

    def __init__(self, home: Path, address: str | None = None) -> None:
        self._client = wire.Client(home, "core")
        if address is not None:
            self._client.close()
            self._client.address = address
            ca = (home / self._client.entry["tls_ca_file"]).read_bytes()
            self._client.connect(grpc.ssl_channel_credentials(ca))

    def blocks(self, start: int, stop: int) -> list[common_pb2.Block]:
        """Blocks `start` to `stop` inclusive; those that are not there yet are waited for."""
        seek = self._client.seek(wire.blocks_from(start, stop))
        found = []
        for answer in self._client.deliver.Deliver(iter([seek]), timeout=_BLOCK_SECONDS):
            if answer.WhichOneof("Type") == "status":
                assert answer.status == common_pb2.SUCCESS, answer
                break
            found.append(answer.block)
        return found

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@dataclass(frozen=True)
class ShadowPeer:
    """A real peer of the core enterprise that has joined the channel."""

    process: programs.Process
    reader: Reader
    connection: grpc.Channel


@contextmanager
def joined(network: EmbeddedNetwork, work: Path) -> Iterator[ShadowPeer]:
    """Start a real peer beside the running network, with the identity of core's peer, and let it join."""
    core = network.topology.organisations[0]
    genesis = network.ledger.block(0)
    assert genesis is not None
    admin = identities.load_person(network.home, core, "admin")
    node = _on_free_ports(core.peers[0])
    with ExitStack() as stack:
        process = stack.enter_context(programs.peer(network.home, work, core, node))
        connection = stack.enter_context(programs.grpc_channel(network.home, core, node))

        def channels() -> object:
            return programs.answers(lambda: programs.system_call(connection, admin, "", "cscc", b"GetChannels"))

        programs.poll(_JOIN_SECONDS, channels, process)
        answer = programs.system_call(connection, admin, "", "cscc", b"JoinChain", genesis)
        assert answer.status == 200, (answer, process.log_tail())
        reader = Reader(network.home, node.address)
        stack.callback(reader.close)
        yield ShadowPeer(process, reader, connection)


def _on_free_ports(node: Node) -> Node:
    """The same peer on other ports: the network holds its own."""
    with ExitStack() as held:
        ports = []
        for _ in range(3):
            listener = held.enter_context(socket.socket())
            listener.bind((node.host, 0))
            ports.append(listener.getsockname()[1])
    address, chaincode, operations = ports
    return replace(
        node,
        port=address,
        advertised=f"{node.host}:{address}",
        chaincode_port=chaincode,
        operations_port=operations,
    )
