"""Fabric's own programs accept our MSP folders and our first block, order with them, and sign blocks we can judge."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import grpc
import pytest
from fabric_protos.common import common_pb2, ledger_pb2
from fabric_protos.orderer import ab_pb2_grpc
from tallystick.fabric.block import header_der

from network import topology as topologies
from network.channel import config
from network.embedded.msp import MspManager
from network.embedded.policy import PolicyError, PolicyManager, SignedData
from network.identity.enrolment import Enrolment, enrol, revoke
from network.identity.identities import PersonIdentity, establish, load_node, load_person
from network.topology import Topology
from tests.network.channel import programs
from tests.network.embedded import identity_cases
from tests.network.embedded.identity_cases import Case

pytestmark = [
    pytest.mark.fabric,
    pytest.mark.skipif(programs.missing() is not None, reason=f"Fabric's programs: {programs.missing()}"),
]


CHANNELS = "/participation/v1/channels"


def _broadcast(home: Path, topology: Topology, person: PersonIdentity) -> None:
    """Send one signed envelope to every orderer; what is in it is for peers to judge, and they will refuse it."""
    head = programs.header(person, common_pb2.ENDORSER_TRANSACTION, topology.channel)
    payload = common_pb2.Payload(header=head, data=b"no transaction").SerializeToString()
    envelope = common_pb2.Envelope(payload=payload, signature=person.signer(sha256(payload).digest()))
    for organisation, node in topology.orderers():
        with programs.grpc_channel(home, organisation, node) as connection:
            answer = next(iter(ab_pb2_grpc.AtomicBroadcastStub(connection).Broadcast(iter([envelope]), timeout=20)))
        assert answer.status in (common_pb2.SUCCESS, common_pb2.SERVICE_UNAVAILABLE), answer
        assert answer.status == common_pb2.SUCCESS or "request already" in answer.info, answer


def _signatures(block: common_pb2.Block, consenters: dict[int, bytes]) -> list[SignedData]:
    """The consenters' signatures of a block, with the bytes they are over."""
    metadata = common_pb2.Metadata.FromString(block.metadata.metadata[common_pb2.SIGNATURES])
    der = header_der(block.header.number, block.header.previous_hash, block.header.data_hash)
    return [
        SignedData(
            metadata.value + entry.identifier_header + der,
            consenters[common_pb2.IdentifierHeader.FromString(entry.identifier_header).identifier],
            entry.signature,
        )
        for entry in metadata.signatures
    ]


@dataclass(frozen=True)
class Running:
    """Four orderers and one peer of `core`, all joined to the channel."""

    topology: Topology
    home: Path
    genesis: bytes
    peer: programs.Process
    connection: grpc.Channel
    joined: list[dict[str, object]]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    work = tmp_path_factory.mktemp("fabric")
    topology = topologies.load(port_base=0, kind="fabric")
    home = work / "home"
    establish(home, topology)
    core = topology.organisations[0]
    revoke(home, core.name, (enrol(home, core.name, Enrolment("gone")) / "certificate.pem").read_bytes())
    genesis = config.genesis_block(topology, home)
    admin = load_person(home, core, "admin")
    with ExitStack() as stack:
        joined = []
        for organisation, node, process in programs.all_orderers(stack, home, work, topology):
            status, body = programs.rest(home, organisation, node, "POST", CHANNELS, genesis)
            assert status == 201, (body, process.log_tail())
            joined.append(json.loads(body))
        peer = stack.enter_context(programs.peer(home, work, core, core.peers[0]))
        connection = stack.enter_context(programs.grpc_channel(home, core, core.peers[0]))

        def channels() -> object:
            return programs.answers(lambda: programs.system_call(connection, admin, "", "cscc", b"GetChannels"))

        programs.poll(30, channels, peer)
        answer = programs.system_call(connection, admin, "", "cscc", b"JoinChain", genesis)
        assert answer.status == 200, (answer, peer.log_tail())
        yield Running(topology, home, genesis, peer, connection, joined)


def test_all_orderers_take_the_first_block_as_consenters(running: Running) -> None:
    found = [(entry["name"], entry["consensusRelation"], entry["status"]) for entry in running.joined]
    assert found == [("scf", "consenter", "active")] * 4


def test_blocks_are_signed_by_the_consenters_our_policy_asks_for(running: Running) -> None:
    topology, home = running.topology, running.home
    core = topology.organisations[0]
    user = load_person(home, core, "user")
    _broadcast(home, topology, user)

    def height_two() -> bool | None:
        answer = programs.system_call(running.connection, user, "scf", "qscc", b"GetChainInfo", b"scf")
        return True if ledger_pb2.BlockchainInfo.FromString(answer.payload).height == 2 else None

    # The peer took the block from the orderers and found three of the four pinned consenters on it.
    programs.poll(60, height_two, running.peer)
    status, body = programs.rest(home, core, core.orderers[0], "GET", f"{CHANNELS}/scf/blocks/1")
    assert status == 200
    configuration = config.parse(running.genesis)
    policies = PolicyManager(configuration, MspManager.from_config(configuration))
    validation = policies.policy("/Channel/Orderer/BlockValidation")
    nodes = enumerate(topology.orderers(), start=1)
    consenters = {number: load_node(home, organisation, node).serialized for number, (organisation, node) in nodes}
    signed = _signatures(common_pb2.Block.FromString(body), consenters)
    assert len(signed) >= 3
    validation.evaluate(signed)
    with pytest.raises(PolicyError, match="signature set did not satisfy policy"):
        validation.evaluate(signed[:2])


def test_the_peer_reads_our_revocation_list(running: Running) -> None:
    core = running.topology.organisations[0]
    gone, user = (load_person(running.home, core, name) for name in ("gone", "user"))
    with pytest.raises(grpc.RpcError, match=r"access denied: channel \[scf\] creator org \[CoreMSP\]"):
        programs.system_call(running.connection, gone, "scf", "qscc", b"GetChainInfo", b"scf")
    assert programs.system_call(running.connection, user, "scf", "qscc", b"GetChainInfo", b"scf").status == 200


def test_the_peer_gives_the_verdicts_of_our_table(running: Running) -> None:
    def verdict(case: Case) -> Literal["accepted", "malformed", "refused"] | str:
        person = PersonIdentity("", b"", case.serialized, case.sign)
        try:
            answer = programs.system_call(
                running.connection, person, "scf", "qscc", b"GetChainInfo", b"scf", signs_message=True
            )
        except grpc.RpcError as error:
            text = str(error)
            if "access denied: channel [scf] creator org unknown, creator is malformed" in text:
                return "malformed"
            return "refused" if "access denied: channel [scf] creator org [CoreMSP]" in text else text
        return "accepted" if answer.status == 200 else answer.message

    table = identity_cases.cases(running.home, running.topology)
    assert {case.name: verdict(case) for case in table} == {case.name: case.verdict for case in table}
