"""The network as a whole: first start, restart, interruptions, stopped peers, and verifying a ledger."""

import json
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from fabric_protos.common import common_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import proposal_response_pb2, transaction_pb2

from network.channel import policy
from network.embedded import lifecycle
from network.embedded.deploy import Admin, DeployError, Wanted, deploy
from network.embedded.host import package_id
from network.embedded.layout import Peer
from network.embedded.network import EmbeddedNetwork, NetworkError
from network.embedded.verify import verify
from network.founding import FoundingError, found
from network.home import HomeInUse, running_pid
from network.identity import identities
from network.topology import Topology, load
from tests.chaincode.contract.world import CALENDAR_2026, FIRST_DATE, POLICIES
from tests.network.embedded.conftest import small_topology
from tests.network.embedded.wire import Client, failure

VALID = transaction_pb2.TxValidationCode.VALID


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A home that does not exist yet."""
    return tmp_path / "home"


@pytest.fixture
def used(place: Path) -> Iterator[Path]:
    """A stopped home with a few committed transactions."""
    with EmbeddedNetwork.running(place, small_topology()) as network:
        client = Client(network.home, "core")
        for number in range(3):
            client.transact("put", f"key-{number}", str(number))
        proposal = client.propose(
            "keep_private", "_implicit_org_CoreMSP", "secret", transient={"value": b"private value"}
        )
        client.submit(client.sign_envelope(client.endorse(proposal)))
        client.status(proposal.transaction_id)
        client.close()
    yield place


def definition(network: EmbeddedNetwork, name: str) -> lifecycle.Definition | None:
    """The committed definition of a chaincode."""
    with network.ledger.snapshot() as snapshot:
        return lifecycle.definition(snapshot.get_state, name)


# -- start and stop ----------------------------------------------------------------------------------------------------


def test_the_first_start_defines_the_chaincodes_by_transactions(network: EmbeddedNetwork) -> None:
    """Block 1 holds four approvals for each chaincode, block 2 their commits."""
    blocks = [network.ledger.block(number) for number in (1, 2)]
    assert all(blocks)
    seen = definition(network, "basic")
    assert seen is not None
    assert (seen.version, seen.sequence) == ("1.0", 1)
    assert list(seen.collections) == ["shared"]


def test_a_home_without_network_says_how_to_make_one(place: Path) -> None:
    with pytest.raises(NetworkError, match="tallystick network up"):
        EmbeddedNetwork.prepare(place)


def test_a_restart_keeps_identity_keys_ports_and_ledger(used: Path) -> None:
    before = {path: path.read_bytes() for path in used.rglob("*.pem")} | {
        name: (used / name).read_bytes() for name in ("topology.toml", "connection.json")
    }
    with EmbeddedNetwork.running(used) as network:
        assert {path: (used / path).read_bytes() for path in before} == before
        client = Client(used, "bank")
        assert client.evaluate(client.propose("get", "key-2")).payload == b"2"
        client.close()
        height = network.ledger.height
    with EmbeddedNetwork.running(used) as network:
        assert network.ledger.height == height


def test_a_second_process_is_kept_out(used: Path) -> None:
    with EmbeddedNetwork.running(used):
        assert running_pid(used) == os.getpid()
        with pytest.raises(HomeInUse, match=rf"already running \(process {os.getpid()}\)") as refused:
            EmbeddedNetwork.prepare(used)
        assert "tallystick network down" in str(refused.value)
    assert running_pid(used) is None


def test_connection_json_has_paths_relative_to_the_home(network: EmbeddedNetwork) -> None:
    connection = network.connection
    assert list(connection) == ["network_id", "channel", "chaincodes", "organisations"]
    assert connection["network_id"] == network.ledger.network_id
    assert connection["chaincodes"] == ["basic", "both", "elsewhere"]
    for entry in connection["organisations"]:
        assert list(entry) == ["name", "msp_id", "gateway", "tls_ca_file", "tls_host_override"]
        assert (network.home / entry["tls_ca_file"]).is_file()
        assert entry["tls_host_override"] is None
    for person in ("admin", "user", "service"):
        key = network.home / "identities" / "bank" / person / "private_key.pem"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_raft_topology_is_refused(place: Path) -> None:
    with pytest.raises(NetworkError, match="SmartBFT"):
        EmbeddedNetwork.prepare(place, replace(small_topology(), consensus="etcdraft"))
    assert not (place / "topology.toml").exists()


# -- interruptions and upgrades ----------------------------------------------------------------------------------------


def test_a_start_interrupted_between_approval_and_commit_is_completed(place: Path) -> None:
    topology = small_topology()
    bare = replace(topology, chaincodes=())
    network = EmbeddedNetwork.prepare(place, bare)
    chaincode = topology.chaincode("both")
    try:
        with pytest.raises(InterruptedError):
            interrupted_deploy(network, topology.chaincodes[1].name, topology, package_id(chaincode))
        assert (network.ledger.height, definition(network, "both")) == (2, None)
    finally:
        network.stop()
    topology.save(place / "topology.toml")
    with EmbeddedNetwork.running(place) as again:
        seen = definition(again, "both")
        assert seen is not None
        assert seen.sequence == 1


def test_a_changed_version_becomes_the_next_sequence(used: Path) -> None:
    kept = load(used / "topology.toml")
    newer = replace(kept.chaincodes[0], version="2.0")
    replace(kept, chaincodes=(newer, *kept.chaincodes[1:])).save(used / "topology.toml")
    with EmbeddedNetwork.running(used) as network:
        seen = definition(network, "basic")
        assert seen is not None
        assert (seen.version, seen.sequence) == ("2.0", 2)
        client = Client(used, "core")
        assert client.evaluate(client.propose("get", "key-1")).payload == b"1"
        client.close()
    assert verify(used).difference is None


def test_what_was_accepted_before_a_stop_is_ordered_after_it(place: Path) -> None:
    """The interval is long, so the network stops with the transaction pending."""
    topology = small_topology()
    slow = replace(topology, batch=replace(topology.batch, interval_ms=60_000))
    with EmbeddedNetwork.running(place, slow) as network:
        client = Client(place, "core")
        proposal = client.propose("put", "pending", "1")
        client.submit(client.sign_envelope(client.endorse(proposal)))
        height = network.ledger.height
        client.close()
    replace(slow, batch=topology.batch).save(place / "topology.toml")
    with EmbeddedNetwork.running(place) as network:
        client = Client(place, "core")
        assert client.status(proposal.transaction_id) == (VALID, height)
        client.close()


# -- the product's own chaincodes --------------------------------------------------------------------------------------


def test_the_shipped_chaincodes_are_founded_once_and_answer(place: Path) -> None:
    """Founding touches both chaincodes, so the whole way runs: plan, call between chaincodes, commit, query."""
    founding = {
        "policies": POLICIES,
        "calendars": [{"year": 2026, "days": CALENDAR_2026}],
        "first_date": FIRST_DATE,
        "simulated_days": False,
    }
    with EmbeddedNetwork.running(place, replace(load(None, 0), founding=founding)) as network:
        assert found(place, network.topology, network.connection, simulated_days=True)
        assert not found(place, network.topology, network.connection)
        client = Client(place, "bank")
        answer = client.evaluate(client.propose("business_date:get", "{}", chaincode="trade"))
        assert json.loads(answer.payload)["date"] == FIRST_DATE
        events = client.events("trade", start_position=ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=3)))
        (event,) = next(iter(events)).events
        assert (event.event_name, json.loads(event.payload)["transaction"]) == ("member.founded", "member:found")
        events.cancel()
        client.close()
    assert verify(place).difference is None


def test_a_founding_that_the_contract_refuses_is_named(place: Path) -> None:
    founding = {"policies": [], "calendars": [], "first_date": FIRST_DATE, "simulated_days": True}
    with (
        EmbeddedNetwork.running(place, replace(load(None, 0), founding=founding)) as network,
        pytest.raises(FoundingError, match=r"member:found was refused: INVALID "),
    ):
        found(place, network.topology, network.connection)


# -- stopped peers -----------------------------------------------------------------------------------------------------


def test_three_organisations_go_on_without_the_fourth(network: EmbeddedNetwork, core: Client) -> None:
    network.stop_peer("peer.bank")
    try:
        assert core.transact("put", "without-bank", "1")[1] == VALID
        with pytest.raises(grpc.RpcError) as raised:
            core.endorse(core.propose("put", "needs-bank", "1", chaincode="both"))
        seen = failure(raised.value)
        assert seen.code is grpc.StatusCode.FAILED_PRECONDITION
        assert seen.message == (
            "no combination of peers can be derived which satisfy the endorsement policy: no peer combination can "
            "satisfy the endorsement policy"
        )
        with pytest.raises(grpc.RpcError) as raised:
            core.endorse(core.propose("put", "a", "1"), organisations=["BankMSP"])
        assert failure(raised.value).message == "failed to find any endorsing peers for org(s): BankMSP"
        client = Client(network.home, "bank")
        with pytest.raises(grpc.RpcError) as raised:
            client.evaluate(client.propose("who"), timeout=2)
        assert failure(raised.value).code is grpc.StatusCode.UNAVAILABLE
        client.close()
    finally:
        network.start_peer("peer.bank")
    assert core.transact("put", "with-bank", "1", chaincode="both")[1] == VALID


# -- verify ------------------------------------------------------------------------------------------------------------


def test_a_sound_ledger_verifies_while_the_network_runs(network: EmbeddedNetwork, core: Client) -> None:
    core.transact("put", "verified", "1")
    outcome = verify(network.home)
    assert outcome.difference is None
    assert outcome.height == network.ledger.height


@pytest.mark.parametrize(
    ("statement", "difference"),
    [
        pytest.param(
            "UPDATE state SET value = x'00' WHERE key = CAST('key-1' AS BLOB)",
            "the stored state of basic / key-1 is not what the blocks say",
            id="value",
        ),
        pytest.param(
            "DELETE FROM state WHERE key = CAST('key-1' AS BLOB)",
            "the stored state of basic / key-1 is not what the blocks say",
            id="missing-key",
        ),
        pytest.param(
            "INSERT INTO state VALUES('basic', CAST('made-up' AS BLOB), x'00', NULL, 4294967296)",
            "the stored state of basic / made-up is not what the blocks say",
            id="added-key",
        ),
        pytest.param(
            "UPDATE private SET value = CAST('another value' AS BLOB) WHERE key = CAST('secret' AS BLOB)",
            "the private value of basic / _implicit_org_CoreMSP / secret held by CoreMSP does not have the hash on the",
            id="private-value",
        ),
    ],
)
def test_verify_names_the_first_difference(used: Path, statement: str, difference: str) -> None:
    assert verify(used).difference is None
    change(used, statement)
    seen = verify(used).difference
    assert seen is not None
    assert seen.startswith(difference)


def test_verify_finds_a_changed_validation_code(used: Path) -> None:
    change(used, "UPDATE block SET metadata = replace_code(metadata) WHERE number = 3")
    assert verify(used).difference == "transaction 0 of block 3 is stored with code 11, but its code is 0"


def test_verify_finds_missing_signatures(used: Path) -> None:
    change(used, "UPDATE block SET metadata = drop_signatures(metadata) WHERE number = 4")
    seen = verify(used).difference
    assert seen is not None
    assert seen.startswith("block 4 is not signed by enough consenters: ")


def test_verify_says_when_the_file_cannot_be_read(used: Path) -> None:
    ledger = used / "ledger.sqlite"
    data = bytearray(ledger.read_bytes())
    data[4096:65_536] = os.urandom(65_536 - 4096)
    ledger.write_bytes(data)
    assert verify(used).difference is not None


# -- for the tests above -----------------------------------------------------------------------------------------------


def change(home: Path, statement: str) -> None:
    """Change a stopped ledger behind its back."""
    with sqlite3.connect(home / "ledger.sqlite") as connection:
        connection.create_function("replace_code", 1, replace_code)
        connection.create_function("drop_signatures", 1, drop_signatures)
        connection.execute(statement)
    connection.close()


def replace_code(metadata: bytes) -> bytes:
    """Say that the first transaction lost a race."""
    slots = common_pb2.BlockMetadata.FromString(metadata)
    slots.metadata[2] = b"\x0b" + slots.metadata[2][1:]
    return slots.SerializeToString()


def drop_signatures(metadata: bytes) -> bytes:
    """Leave two of three signatures."""
    slots = common_pb2.BlockMetadata.FromString(metadata)
    signatures = common_pb2.Metadata.FromString(slots.metadata[0])
    del signatures.signatures[2]
    slots.metadata[0] = signatures.SerializeToString()
    return slots.SerializeToString()


def interrupted_deploy(network: EmbeddedNetwork, name: str, topology: Topology, package: str) -> None:
    """Deploy a chaincode and be interrupted before its definition is committed."""
    spec = topology.chaincode(name)
    wanted = Wanted(
        name=name,
        version=spec.version,
        policy=policy.endorsement(spec, topology),
        collections=b"",
        packages={organisation.msp_id: package for organisation in topology.organisations},
    )
    admins = []
    for organisation in topology.organisations:
        admin = identities.load_person(network.home, organisation, "admin")
        node = organisation.peers[0]
        admins.append(Admin(admin.serialized, admin.signer, Peer(organisation.msp_id, node.name, node.advertised)))
    blocks = 0

    def commit(envelopes: Sequence[bytes]) -> Sequence[int]:
        nonlocal blocks
        blocks += 1
        if blocks == 2:
            raise InterruptedError
        return network.commit_now(envelopes)

    deploy(topology.channel, {name: (wanted, 1)}, admins, network.process, commit)


def test_a_refused_definition_says_which_peer_refused(network: EmbeddedNetwork) -> None:
    def refuse(peer: Peer, signed: bytes) -> proposal_response_pb2.ProposalResponse:
        return proposal_response_pb2.ProposalResponse(
            response=proposal_response_pb2.Response(status=500, message="no such organisation")
        )

    admin = Admin(b"somebody", lambda digest: b"signature", Peer("CoreMSP", "peer.core", "here:1"))
    wanted = Wanted("name", "1", b"", b"", {"CoreMSP": "package"})
    with pytest.raises(DeployError, match=r"peer\.core answered no such organisation"):
        deploy("scf", {"name": (wanted, 1)}, [admin], refuse, lambda envelopes: [])
