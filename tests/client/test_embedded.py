"""The client on the embedded network and on a real one: what the tables of the specification say, both interfaces."""

import asyncio
import json
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
    InMemoryCheckpointer,
    Position,
    Retry,
    SubmitError,
    ValidationCode,
    signers,
)
from tallystick.fabric.hfc import Client

from .conftest import eventually
from .networks import Network, Place
from .sides import Side

STREAMS = 600
"""More than the peer's slots (500), opened and closed: the peer must still answer afterwards."""
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture
def core(running: Network) -> Place:
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


def endorsed(contract: Any, *call: str) -> Any:
    """The transaction, proposed again while the peers stand at different heights: on a real network one may lag."""
    for _ in range(20):
        try:
            return contract.new_proposal(*call).endorse()
        except EndorseError as error:
            if not error.mismatch:
                raise
    raise AssertionError("the peers do not come to one height")


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


def test_the_network_id_is_in_connection_json(running: Network, network: Any) -> None:
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


def test_offline_signing_of_every_object(side: Side, channel: Any, core: Place) -> None:
    identity, sign = core.person("user")
    gateway = side.connect(channel, identity, signer=None)
    network = gateway.network("scf")
    proposal = network.contract("basic").new_proposal("emit", "offline", "1")
    asked = gateway.proposal(proposal.bytes, sign(proposal.digest))
    assert asked.evaluate() == b"1"
    transaction = asked.endorse()
    submitted = gateway.transaction(transaction.bytes, sign(transaction.digest)).submit()
    status = gateway.commit(submitted.bytes, sign(submitted.digest)).status()
    assert status.successful
    start = status.block_number
    request = network.chaincode_events_request("basic", start_block=start)
    with gateway.chaincode_events_request(request.bytes, sign(request.digest)).events() as events:
        assert next(events).transaction_id == proposal.transaction_id
    for name in ("block_events_request", "filtered_block_events_request", "block_and_private_data_events_request"):
        request = getattr(network, name)(start_block=start)
        with getattr(gateway, name)(request.bytes, sign(request.digest)).events() as events:
            first = next(events)
        assert getattr(first, "block", first).number == start


def test_a_signature_made_for_something_else_is_refused(side: Side, channel: Any, core: Place) -> None:
    identity, sign = core.person("user")
    gateway = side.connect(channel, identity, signer=None)
    contract = gateway.network("scf").contract("basic")
    proposal, other = (contract.new_proposal("who") for _ in range(2))
    with pytest.raises(EvaluateError, match="access denied"):
        gateway.proposal(proposal.bytes, sign(other.digest)).evaluate()


def test_three_kinds_of_blocks_tell_the_same(network: Any, contract: Any) -> None:
    start = network.chain_info().height
    transaction = contract.new_proposal("emit", "kinds", "payload").endorse()
    status = transaction.submit().status()
    with network.block_events(start_block=start) as events:
        full = next(events)
    with network.filtered_block_events(start_block=start) as events:
        filtered = next(events)
    with network.block_and_private_data_events(start_block=start) as events:
        with_private = next(events)
    assert full.number == filtered.number == with_private.block.number == status.block_number
    assert with_private.block == full
    for block in (full, filtered):
        (found,) = block.transactions
        assert (found.transaction_id, found.successful) == (transaction.transaction_id, True)


def test_block_events_resume_from_a_checkpoint(network: Any, contract: Any) -> None:
    start = network.chain_info().height
    for number in range(2):
        contract.submit("put", "resumed", str(number))
    checkpoint = InMemoryCheckpointer()
    seen = []
    for _ in range(2):
        with network.block_events(start_block=start, checkpoint=checkpoint) as events:
            block = next(events)
            seen.append(block.number)
            checkpoint.checkpoint_block(block.number)
    assert seen == [start, start + 1]


def test_events_of_invalid_transactions_are_not_told(network: Any, contract: Any) -> None:
    start = network.chain_info().height
    transactions = [endorsed(contract, "emit_once", f"race-{number}") for number in range(2)]
    submitted = [transaction.submit() for transaction in transactions]
    statuses = [each.status() for each in submitted]
    assert {status.code for status in statuses} == {ValidationCode.VALID, ValidationCode.MVCC_READ_CONFLICT}
    winner = next(status.transaction_id for status in statuses if status.successful)
    contract.submit("emit", "behind", "payload")
    with network.chaincode_events("basic", start_block=start) as events:
        told = [next(events) for _ in range(2)]
    assert [told[0].transaction_id, told[1].name] == [winner, "behind"]


def test_a_fault_of_the_contract_is_told_without_its_text(contract: Any) -> None:
    with pytest.raises(EvaluateError) as evaluated:
        contract.evaluate("crash")
    with pytest.raises(EndorseError) as endorsed:
        contract.submit("crash")
    assert evaluated.value.contract_answer == endorsed.value.contract_answer
    assert evaluated.value.contract_answer is not None
    assert evaluated.value.contract_answer.status == 500
    assert "not meant to be seen" not in str(endorsed.value)


def test_one_organisations_refusal_is_gone_round(contract: Any) -> None:
    assert contract.submit("refuse_in", "LogisticsMSP") == b"done"
    with pytest.raises(EndorseError) as caught:
        contract.submit("refuse_in", "BankMSP", endorsing_organizations=["CoreMSP", "BankMSP", "LogisticsMSP"])
    assert caught.value.code is grpc.StatusCode.ABORTED
    assert [(detail.msp_id, detail.message) for detail in caught.value.details] == [
        ("BankMSP", "chaincode response 400, BankMSP does not want to")
    ]


def test_deadlines_at_the_stages(contract: Any) -> None:
    with pytest.raises(EvaluateError) as evaluated:
        contract.evaluate("wait", "1", timeout=0.2)
    with pytest.raises(EndorseError) as endorsed:
        contract.submit("wait", "1", timeout=0.2)
    assert {evaluated.value.code, endorsed.value.code} == {grpc.StatusCode.DEADLINE_EXCEEDED}


def test_the_same_transaction_twice_is_committed_once(contract: Any, side: Side) -> None:
    """The ordering service recognises it: as good as accepted until its block is cut, then refused by name."""
    transaction = contract.new_proposal("increment", f"twice-{side}").endorse()
    submitted = transaction.submit()
    transaction.submit()
    first = submitted.status()
    with pytest.raises(SubmitError) as caught:
        transaction.submit()
    assert caught.value.outcome_unknown
    assert all("request already processed" in detail.message for detail in caught.value.details)
    assert submitted.status() == first
    assert first.successful
    assert contract.evaluate("get", f"twice-{side}") == b"1"


def test_lost_races_are_won_by_repeating(core: Place) -> None:
    with fabric.channel(core.target, tls_ca=core.tls_ca) as channel:
        with fabric.connect(channel, *core.person("user")) as gateway, ThreadPoolExecutor(6) as pool:
            contract = gateway.network("scf").contract("basic")
            retry = Retry(attempts=2, on_conflict=50, delay=0.01, delay_max=0.2)
            list(pool.map(lambda _: contract.submit("increment", "race", retry=retry), range(12)))
            assert contract.evaluate("get", "race") == b"12"
            transactions = [endorsed(contract, "increment", "race") for _ in range(2)]
            statuses = [transaction.submit() for transaction in transactions]
            codes = {status.status().code for status in statuses}
    assert codes == {ValidationCode.VALID, ValidationCode.MVCC_READ_CONFLICT}


def test_a_stale_endorsement_loses_the_race(contract: Any) -> None:
    stale = endorsed(contract, "increment", "stale")
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


def test_mutual_tls_and_the_hash_in_deliver_requests(side: Side, running: Network) -> None:
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


def test_a_stopped_peer_is_unavailable_and_found_again(side: Side, running: Network) -> None:
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
