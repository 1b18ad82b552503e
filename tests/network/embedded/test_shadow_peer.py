"""A real peer follows the embedded network: Fabric's own code must give every code and every COMMIT_HASH that we give.

The chain holds what every rule of validation and commit is about (`scenes`), what nobody would endorse, a throw of
random read-write sets (`dice`), the demo's story, and a race through the gateway while the peer follows."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
from fabric_protos.common import common_pb2
from fabric_protos.peer import proposal_response_pb2
from fabric_protos.peer.lifecycle import lifecycle_pb2

from network.channel import policy
from network.embedded.deploy import Admin, Wanted, deploy
from network.embedded.host import package_id
from network.embedded.network import EmbeddedNetwork
from network.founding import found
from network.identity.identities import PersonIdentity, load_person
from network.topology import Rule, load
from scripts.stage import Stage
from scripts.story import tell
from tests.network.channel import programs
from tests.network.conftest import Established
from tests.network.embedded import scenes
from tests.network.embedded.dice import Dice
from tests.network.embedded.shadow import Author, Code, Reader, ShadowPeer, Tx, first_peer, joined, verdict
from tests.network.embedded.transactions import Channel, Draft
from tests.network.embedded.wire import Client

needs_programs = [
    pytest.mark.fabric,
    pytest.mark.skipif(programs.missing() is not None, reason=f"Fabric's programs: {programs.missing()}"),
]

_DICE_BLOCKS, _DICE_SIZE, _SEED = 20, 20, 3
_RACERS = 6


@dataclass(frozen=True)
class Played:
    """The running network with all blocks, and what each of them was: its name, and the codes it had to get."""

    network: EmbeddedNetwork
    expected: dict[int, tuple[str, tuple[str, ...]]]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """A network whose ledger holds all scenes before it starts."""
    home = tmp_path_factory.mktemp("shadow") / "home"
    shipped = load(None, 0)
    network = EmbeddedNetwork.prepare(home, replace(shipped, chaincodes=(*shipped.chaincodes, *scenes.CHAINCODES)))
    expected = dict(_play(network, home))
    network.start()
    try:
        yield Played(network, expected)
    finally:
        network.stop()


def _play(network: EmbeddedNetwork, home: Path) -> Iterator[tuple[int, tuple[str, tuple[str, ...]]]]:
    author = Author(network)
    for name, blocks in scenes.SCENES.items():
        for transactions in blocks:
            yield network.ledger.height, (name, tuple(Code.Name(each.expected) for each in transactions))
            author.block(transactions)
    genesis = network.ledger.block(0)
    assert genesis is not None
    channel = Channel(Established(network.topology, home, genesis))
    for name, draft, code in scenes.malformed(channel):
        yield network.ledger.height, (name, (Code.Name(code),))
        network.commit_now([draft.envelope()])
    yield from _upgrade(network, author, channel)
    dice = Dice(channel, _SEED)
    for _ in range(_DICE_BLOCKS):
        network.commit_now(dice.block(network.ledger, _DICE_SIZE))


def _upgrade(
    network: EmbeddedNetwork, author: Author, channel: Channel
) -> Iterator[tuple[int, tuple[str, tuple[str, ...]]]]:
    """Chaincode `both` gets another policy: the bank alone. What was endorsed before has read the old definition."""
    topology = network.topology
    spec = replace(topology.chaincode("both"), endorsement=Rule(1, ("bank",)))
    before = Tx([["put", "upgraded", "1"]], chaincode="both", at=("CoreMSP", "BankMSP"))
    same_block, next_block = author.envelope(before), author.envelope(before)

    def by_the_bank() -> bytes:
        return Draft(channel, scenes.kv("upgraded", "both"), chaincode="both", endorsers=("BankMSP",)).envelope()

    beside = iter(([], [by_the_bank(), same_block]))

    def commit(envelopes: Sequence[bytes]) -> list[int]:
        """Approvals first, then the commit, here with two others in its block."""
        return network.commit_now([*envelopes, *next(beside)])[: len(envelopes)]

    packages = {each.msp_id: package_id(spec) for each in topology.organisations}
    wanted = Wanted(spec.name, spec.version, policy.endorsement(spec, topology), b"", packages)
    admins = []
    for organisation in topology.organisations:
        person = load_person(network.home, organisation, "admin")
        admins.append(Admin(person.serialized, person.signer, first_peer(organisation)))
    height = network.ledger.height
    deploy(topology.channel, {"both": (wanted, 2)}, admins, network.process, commit)
    network.commit_now([by_the_bank(), next_block])
    yield height, ("approvals", ("VALID",) * 4)
    # In the block of the commit the old policy judges still.
    yield height + 1, ("upgrade", ("VALID", "ENDORSEMENT_POLICY_FAILURE", "MVCC_READ_CONFLICT"))
    yield height + 2, ("after the upgrade", ("VALID", "MVCC_READ_CONFLICT"))


@pytest.fixture(scope="module")
def shadow(played: Played, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShadowPeer]:
    """A real peer that has joined; while it follows, the story is told and a race is run."""
    network = played.network
    with joined(network, tmp_path_factory.mktemp("peer") / "work") as peer:
        found(network.home, network.topology, network.connection, simulated_days=True)
        with Stage(network.home) as stage:
            tell(stage, lambda _: None)
        _race(network.home)
        yield peer


def _race(home: Path) -> None:
    """Several transactions endorsed on the same state, so that one of them wins however they are cut into blocks."""
    client = Client(home, "core")
    steps = json.dumps([["get", "race"], ["put", "race", "won"]])
    proposals = [client.propose(steps, chaincode="script") for _ in range(_RACERS)]
    envelopes = [client.sign_envelope(client.endorse(proposal)) for proposal in proposals]
    for proposal, envelope in zip(proposals, envelopes, strict=True):
        client.submit(envelope, proposal.transaction_id)
    codes = [client.status(proposal.transaction_id)[0] for proposal in proposals]
    client.close()
    assert sorted(codes) == [Code.VALID] + [Code.MVCC_READ_CONFLICT] * (_RACERS - 1)


@dataclass(frozen=True)
class Asked:
    """Our peer of the core enterprise and the real one, asked by the same person."""

    person: PersonIdentity
    our: grpc.Channel
    their: grpc.Channel

    def both(
        self, chaincode: str, *arguments: bytes
    ) -> tuple[proposal_response_pb2.Response, proposal_response_pb2.Response]:
        """What they answer to one question to a system chaincode."""
        ours, theirs = (
            programs.system_call(each, self.person, "scf", chaincode, *arguments) for each in (self.our, self.their)
        )
        return ours, theirs


@pytest.fixture(scope="module")
def asked(played: Played, shadow: ShadowPeer) -> Iterator[Asked]:
    core = played.network.topology.organisations[0]
    with programs.grpc_channel(played.network.home, core, core.peers[0]) as connection:
        yield Asked(load_person(played.network.home, core, "user"), connection, shadow.connection)


def _blocks(played: Played) -> list[common_pb2.Block]:
    reader = Reader(played.network.home)
    blocks = reader.blocks(0, played.network.ledger.height - 1)
    reader.close()
    return blocks


def test_every_scene_gets_the_codes_it_is_about(played: Played) -> None:
    given = {block.header.number: verdict(block).codes for block in _blocks(played)}
    wrong = {
        name: (given[number], codes) for number, (name, codes) in played.expected.items() if given[number] != codes
    }
    assert wrong == {}


class TestWithARealPeer:
    """What the real peer wrote and answers."""

    pytestmark = needs_programs

    def test_it_gives_every_transaction_our_code_and_every_block_our_commit_hash(
        self, played: Played, shadow: ShadowPeer
    ) -> None:
        ours = _blocks(played)
        theirs = shadow.reader.blocks(0, len(ours) - 1)
        different = [
            (verdict(our), verdict(their), played.expected.get(our.header.number))
            for our, their in zip(ours, theirs, strict=True)
            if verdict(our) != verdict(their)
        ]
        assert different == [], shadow.process.log_tail()
        # The rest of the metadata and the data, too.
        assert [our.header.number for our, their in zip(ours, theirs, strict=True) if our != their] == []
        assert sum(len(block.data.data) for block in ours) > len(ours) > len(played.expected) + _DICE_BLOCKS

    def test_it_finds_the_same_transactions(self, played: Played, asked: Asked) -> None:
        ids = {each for block in _blocks(played) for each in _transaction_ids(block)} | {"", "no such transaction"}
        different = {}
        for transaction_id in sorted(ids):
            for function in (b"GetTransactionByID", b"GetBlockByTxID"):
                ours, theirs = asked.both("qscc", function, b"scf", transaction_id.encode())
                if (ours.status, ours.message, ours.payload) != (theirs.status, theirs.message, theirs.payload):
                    different[(function, transaction_id)] = (ours, theirs)
        assert different == {}

    def test_it_reads_the_same_definitions(self, played: Played, asked: Asked) -> None:
        for chaincode in played.network.topology.chaincodes:
            argument = lifecycle_pb2.QueryChaincodeDefinitionArgs(name=chaincode.name).SerializeToString()
            ours, theirs = asked.both("_lifecycle", b"QueryChaincodeDefinition", argument)
            kind = lifecycle_pb2.QueryChaincodeDefinitionResult
            assert (ours.status, kind.FromString(ours.payload)) == (200, kind.FromString(theirs.payload))


def _transaction_ids(block: common_pb2.Block) -> Iterator[str]:
    for data in block.data.data:
        payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(data).payload)
        yield common_pb2.ChannelHeader.FromString(payload.header.channel_header).tx_id
