"""The client on the embedded network: what the tables of the specification say, both interfaces, real signatures."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from tallystick import fabric
from tallystick.fabric import (
    CheckpointError,
    CommitStatusError,
    EndorseError,
    EvaluateError,
    EventError,
    FileCheckpointer,
    Hash,
    Identity,
    InMemoryCheckpointer,
    Position,
    Retry,
    ValidationCode,
    signers,
)
from tallystick.fabric.hfc import Client

from network.embedded.network import EmbeddedNetwork
from network.identity.authority import Authority
from network.identity.enrolment import authority_folder
from tests.network.embedded.conftest import small_topology

from .conftest import eventually
from .sides import Side

STREAMS = 600
"""More than the peer's slots (500), opened and closed: the peer must still answer afterwards."""
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNetwork]:
    """A network of this module's own; the bank's peer demands client certificates."""
    home = tmp_path_factory.mktemp("client") / "home"
    with EmbeddedNetwork.running(home, small_topology(), mutual_tls=["bank"]) as network:
        yield network


class Place:
    """One organisation of the network: where its peer is and who its people are."""

    def __init__(self, network: EmbeddedNetwork, name: str) -> None:
        (entry,) = (each for each in network.connection["organisations"] if each["name"] == name)
        self.home: Path = network.home
        self.name = name
        self.msp_id: str = entry["msp_id"]
        self.target: str = entry["gateway"]
        self.tls_ca = (self.home / entry["tls_ca_file"]).read_bytes()

    def person(self, name: str) -> tuple[Identity, fabric.Signer]:
        """Identity and signer of someone in the home."""
        folder = self.home / "identities" / self.name / name
        identity = Identity.x509(self.msp_id, (folder / "certificate.pem").read_bytes())
        return identity, signers.from_pem((folder / "private_key.pem").read_bytes())

    def newcomer(self, key: Any) -> Identity:
        """An identity for a key, by the organisation's own authority."""
        authority = Authority.load(authority_folder(self.home, self.name))
        return Identity.x509(self.msp_id, authority.issue(key.public_key(), "newcomer", ou="client"))


@pytest.fixture
def core(running: EmbeddedNetwork) -> Place:
    """The core enterprise."""
    return Place(running, "core")


@pytest.fixture
def channel(side: Side, core: Place) -> Any:
    """A channel to the core enterprise's peer."""
    return side.channel(core.target, tls_ca=core.tls_ca)


@pytest.fixture
def network(side: Side, core: Place, channel: Any) -> Any:
    """The channel as a user of the core enterprise sees it."""
    return side.connect(channel, *core.person("user")).network("scf")


@pytest.fixture
def contract(network: Any) -> Any:
    """The tests' own contract."""
    return network.contract("basic")


def test_submit_then_evaluate(contract: Any) -> None:
    assert contract.submit("put", "key", "value") == b"value"
    assert contract.evaluate("get", "key") == b"value"


def test_stage_by_stage(network: Any, contract: Any) -> None:
    transaction = contract.new_proposal("put", "stages", "1").endorse()
    assert transaction.result == b"1"
    status = transaction.submit().status()
    assert status.successful
    assert network.commit(transaction.transaction_id).status() == status
    block = network.block(status.block_number)
    found = [each for each in block.transactions if each.transaction_id == transaction.transaction_id]
    assert [(each.function, each.successful) for each in found] == [("put", True)]
    assert len(found[0].endorsers) == 3
    assert [write.key for write in found[0].writes["basic"]] == ["stages"]


def test_the_network_id_is_in_connection_json(running: EmbeddedNetwork, network: Any) -> None:
    assert network.network_id() == running.connection["network_id"]


def test_the_contracts_own_error_on_both_paths(contract: Any) -> None:
    with pytest.raises(EvaluateError) as evaluated:
        contract.evaluate("get", "nothing here")
    with pytest.raises(EndorseError) as endorsed:
        contract.submit("refuse", "CONFLICT because: of this")
    answers = [evaluated.value.contract_answer, endorsed.value.contract_answer]
    assert [(answer.status, answer.message) for answer in answers if answer] == [
        (404, "NOT_FOUND no_such_key: nothing here"),
        (409, "CONFLICT because: of this"),
    ]
    assert endorsed.value.details[0].msp_id == "CoreMSP"


def test_a_contract_that_is_not_deterministic(contract: Any) -> None:
    with pytest.raises(EndorseError) as caught:
        contract.submit("disagree", retry=Retry(attempts=1, on_conflict=1, delay=0.0))
    assert caught.value.mismatch
    assert "deterministic" in (caught.value.hint or "")


def test_unknown_chaincode_and_channel(side: Side, channel: Any, core: Place, network: Any) -> None:
    with pytest.raises(EvaluateError) as chaincode:
        network.contract("nowhere").evaluate("get")
    assert (chaincode.value.code, bool(chaincode.value.hint)) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    elsewhere = side.connect(channel, *core.person("user")).network("nowhere")
    with pytest.raises(EvaluateError) as unknown:
        elsewhere.contract("basic").evaluate("get", "key")
    assert (unknown.value.code, bool(unknown.value.hint)) == (grpc.StatusCode.UNAVAILABLE, True)
    with elsewhere.block_events(start_block=0) as events, pytest.raises(EventError) as stream:
        next(events)
    assert stream.value.deliver_status == 404


def test_transient_data_and_endorsing_organizations(contract: Any) -> None:
    transient = {"value": b"secret"}
    assert contract.evaluate("transient", "value", transient=transient) == b"secret"
    contract.submit(
        "keep_private",
        "shared",
        "terms",
        transient=transient,
        endorsing_organizations=["CoreMSP", "BankMSP", "WarehouseMSP"],
    )
    assert contract.evaluate("get_private", "shared", "terms") == b"secret"
    assert contract.evaluate("who", endorsing_organizations=["BankMSP"]) == b"BankMSP"


def test_private_data_comes_with_its_block(network: Any, contract: Any) -> None:
    height = network.chain_info().height
    contract.submit(
        "keep_private",
        "_implicit_org_CoreMSP",
        "own",
        transient={"value": b"ours"},
        endorsing_organizations=["CoreMSP", "BankMSP", "WarehouseMSP"],
    )
    with network.block_and_private_data_events(start_block=height) as events:
        (writes,) = next(events).private_writes
    assert (writes.collection, [(write.key, write.value) for write in writes.writes]) == (
        "_implicit_org_CoreMSP",
        [("own", b"ours")],
    )


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=["P-256", "P-384"])
def test_ecdsa_keys(side: Side, channel: Any, core: Place, curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    contract = side.connect(channel, core.newcomer(key), signers.from_key(key)).network("scf").contract("basic")
    assert contract.submit("put", "curve", curve.name) == curve.name.encode()


def test_ed25519_keys(side: Side, channel: Any, core: Place) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    contract = side.connect(channel, core.newcomer(key), signers.from_key(key)).network("scf").contract("basic")
    assert contract.submit("put", "curve", "25519") == b"25519"


def test_a_wrong_hash_is_refused_with_a_hint(side: Side, channel: Any, core: Place) -> None:
    gateway = side.connect(channel, *core.person("user"), hash=Hash.SHA384)
    with pytest.raises(EvaluateError) as caught:
        gateway.network("scf").contract("basic").evaluate("who")
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "SHA384" in (caught.value.hint or "")


def test_high_s_is_refused_and_normalise_mends_it(side: Side, channel: Any, core: Place) -> None:
    identity, good = core.person("user")

    def high(digest: bytes) -> bytes:
        r, s = decode_dss_signature(good(digest))
        return encode_dss_signature(r, P256_ORDER - s)

    with pytest.raises(EvaluateError, match="access denied"):
        side.connect(channel, identity, high).network("scf").contract("basic").evaluate("who")
    mended = side.connect(channel, identity, lambda digest: signers.normalise(high(digest)))
    assert mended.network("scf").contract("basic").evaluate("who") == b"CoreMSP"


def test_offline_signing_through_every_stage(side: Side, channel: Any, core: Place) -> None:
    identity, sign = core.person("user")
    gateway = side.connect(channel, identity, signer=None)
    contract = gateway.network("scf").contract("basic")
    proposal = contract.new_proposal("put", "offline", "1")
    transaction = gateway.proposal(proposal.bytes, sign(proposal.digest)).endorse()
    submitted = gateway.transaction(transaction.bytes, sign(transaction.digest)).submit()
    status = gateway.commit(submitted.bytes, sign(submitted.digest)).status()
    assert status.successful
    request = gateway.network("scf").block_events_request(start_block=status.block_number)
    with gateway.block_events_request(request.bytes, sign(request.digest)).events() as events:
        assert next(events).number == status.block_number


def test_the_same_transaction_twice_is_committed_once(contract: Any) -> None:
    transaction = contract.new_proposal("increment", "twice").endorse()
    first = transaction.submit().status()
    again = transaction.submit().status()
    assert again == first
    assert contract.evaluate("get", "twice") in (b"1", b"2")


def test_lost_races_are_won_by_repeating(core: Place) -> None:
    with fabric.channel(core.target, tls_ca=core.tls_ca) as channel:
        with fabric.connect(channel, *core.person("user")) as gateway, ThreadPoolExecutor(6) as pool:
            contract = gateway.network("scf").contract("basic")
            retry = Retry(attempts=2, on_conflict=50, delay=0.01, delay_max=0.2)
            list(pool.map(lambda _: contract.submit("increment", "race", retry=retry), range(12)))
            assert contract.evaluate("get", "race") == b"12"
            transactions = [contract.new_proposal("increment", "race").endorse() for _ in range(2)]
            statuses = [transaction.submit() for transaction in transactions]
            codes = {status.status().code for status in statuses}
    assert codes == {ValidationCode.VALID, ValidationCode.MVCC_READ_CONFLICT}


def test_a_stale_endorsement_loses_the_race(contract: Any) -> None:
    stale = contract.new_proposal("increment", "stale").endorse()
    contract.submit("increment", "stale")
    status = stale.submit().status()
    assert (status.code, status.successful) == (ValidationCode.MVCC_READ_CONFLICT, False)


def test_an_id_that_nobody_submitted_waits_until_the_deadline(network: Any) -> None:
    with pytest.raises(CommitStatusError) as caught:
        network.commit("ab" * 32).status(timeout=0.3)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_chaincode_events_resume_from_a_checkpoint(network: Any, contract: Any, tmp_path: Path, side: Side) -> None:
    start = network.chain_info().height
    for number in range(4):
        contract.submit("emit", f"{side}.{number}", "payload")
    seen = []
    for _ in range(2):
        with FileCheckpointer(tmp_path / "cp") as checkpoint:
            with network.chaincode_events("basic", start_block=start, checkpoint=checkpoint) as events:
                for _ in range(2):
                    event = next(events)
                    seen.append(event.name)
                    checkpoint.checkpoint_chaincode_event(event)
    assert seen == [f"{side}.{number}" for number in range(4)]


def test_a_checkpoint_of_another_network_is_refused(network: Any) -> None:
    checkpoint = InMemoryCheckpointer(Position(7, "ab", "another network"))
    with pytest.raises(CheckpointError):
        network.block_events(checkpoint=checkpoint).__enter__()


def test_the_tracker_knows_every_verdict(side: Side, network: Any, contract: Any) -> None:
    tracker = side.tracker(network)
    transactions = [contract.new_proposal("put", f"tracked-{number}", "1").endorse() for number in range(5)]
    assert all(tracker.submit(transaction, timeout=20).successful for transaction in transactions)


def test_hfcs_tutorial(core: Place, tmp_path: Path) -> None:
    person = core.home / "identities" / core.name / "user"
    (tmp_path / "tls.pem").write_bytes(core.tls_ca)
    user = {"cert": str(person / "certificate.pem"), "private_key": str(person / "private_key.pem")}
    profile = {
        "organizations": {"core": {"mspid": core.msp_id, "peers": ["peer.core"], "users": {"User": user}}},
        "peers": {"peer.core": {"url": f"grpcs://{core.target}", "tlsCACerts": {"path": "tls.pem"}}},
    }
    (tmp_path / "network.json").write_text(json.dumps(profile))

    async def scenario() -> None:
        async with Client(net_profile=tmp_path / "network.json") as client:
            where = {"requestor": client.get_user("core", "User"), "channel_name": "scf"}
            height = (await client.query_info(**where)).height
            call = {**where, "peers": [], "cc_name": "basic"}
            assert await client.chaincode_invoke(**call, args=["hfc", "1"], fcn="put", wait_for_event=True) == "1"
            assert await client.chaincode_query(**call, args=["hfc"], fcn="get") == "1"
            block = await client.query_block(**where, block_number=height)
            (transaction,) = block.transactions
            assert await client.query_block_by_txid(**where, tx_id=transaction.transaction_id) == block
            assert await client.query_block_by_hash(**where, block_hash=block.hash) == block
            found = await client.query_transaction(**where, tx_id=transaction.transaction_id)
            assert (found.function, found.successful) == ("put", True)

    with asyncio.Runner() as runner:
        runner.run(scenario())


def test_mutual_tls_and_the_hash_in_deliver_requests(side: Side, running: EmbeddedNetwork) -> None:
    bank = Place(running, "bank")
    folder = next((bank.home / "organisations" / "bank" / "peers").iterdir()) / "tls"
    options = {
        "tls_ca": bank.tls_ca,
        "client_certificate": (folder / "server.crt").read_bytes(),
        "client_key": (folder / "server.key").read_bytes(),
    }
    channel = side.channel(bank.target, **options)
    network = side.connect(channel, *bank.person("user")).network("scf")
    assert network.contract("basic").evaluate("who") == b"BankMSP"
    with network.block_events(start_block=0) as events:
        assert next(events).number == 0
    without = side.connect(channel, *bank.person("user"), tls_certificate_hash=b"")
    with without.network("scf").block_events(start_block=0) as events, pytest.raises(EventError) as caught:
        next(events)
    assert caught.value.deliver_status == 400


def test_a_stopped_peer_is_unavailable_and_found_again(side: Side, running: EmbeddedNetwork) -> None:
    place = Place(running, "logistics")
    channel = side.channel(place.target, tls_ca=place.tls_ca)
    network = side.connect(channel, *place.person("user")).network("scf")
    events = network.filtered_block_events(start_block=0)
    assert next(events).number == 0
    peer = next(
        node.name
        for organisation in running.topology.organisations
        if organisation.name == "logistics"
        for node in organisation.peers
    )
    running.stop_peer(peer)
    try:
        with pytest.raises(EvaluateError) as caught:
            network.contract("basic").evaluate("who", timeout=5)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(EventError):
            list(events)
    finally:
        running.start_peer(peer)
    retry = Retry(attempts=100, delay=0.05, delay_max=0.2)
    assert network.contract("basic").evaluate("who", retry=retry, timeout=30) == b"LogisticsMSP"


def test_opened_and_cancelled_streams_leave_the_peer_usable(
    side: Side, channel: Any, network: Any, contract: Any
) -> None:
    for number in range(STREAMS):
        opened = network.chaincode_events("basic", start_block=2**40) if number % 2 else network.block_events()
        with opened:
            pass
    assert channel.open_streams == 0
    assert eventually(lambda: contract.evaluate("who") == b"CoreMSP")
