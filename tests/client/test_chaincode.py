"""Every kind of request a chaincode makes of its peer, as a client sees it, on the embedded network and a real one."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tallystick import fabric
from tallystick.fabric import CommitError, Contract, EndorseError, EvaluateError, Network, ValidationCode

from chaincode.shim.policy import all_of

from . import networks
from .networks import Place

MAJORITY = ["CoreMSP", "BankMSP", "WarehouseMSP"]


@pytest.fixture
def network(running: networks.Network) -> Iterator[Network]:
    """The channel as a user of the core enterprise sees it."""
    core = Place(running, "core")
    with fabric.channel(core.target, tls_ca=core.tls_ca) as channel:
        with fabric.connect(channel, *core.person("user")) as gateway:
            yield gateway.network("scf")


@pytest.fixture
def storing(network: Network) -> Contract:
    """The chaincode under test."""
    return network.contract("storing")


def answer(contract: Contract, name: str, *arguments: str) -> Any:
    """What a query answers, read."""
    return json.loads(contract.evaluate(name, *arguments))


def keys(prefix: str, count: int, start: int = 0) -> list[str]:
    return [f"{prefix}{number:04d}" for number in range(start, count)]


def test_two_hundred_writes_are_one_transaction_with_its_last_event(network: Network, storing: Contract) -> None:
    height = network.chain_info().height
    transaction = storing.new_proposal("fill", "batch", "200").endorse()
    block = network.block(transaction.submit().status().block_number)
    (found,) = (each for each in block.transactions if each.transaction_id == transaction.transaction_id)
    assert [write.key for write in found.writes["storing"]] == keys("batch", 200)
    assert answer(storing, "several", json.dumps(["batch0199", "batch0200", "batch0000"])) == ["199", None, "0"]
    with network.chaincode_events("storing", start_block=height) as events:
        event = next(events)
    assert (event.name, event.payload, event.transaction_id) == ("filled", b"200", transaction.transaction_id)


def test_a_range_longer_than_one_message(storing: Contract) -> None:
    storing.submit("fill", "range", "250")
    assert answer(storing, "span", "range", "range~") == keys("range", 250)
    assert answer(storing, "span", "range0010", "range0013") == keys("range", 13, 10)
    first, bookmark = answer(storing, "page", "range", "range~", "120", "")
    assert (first, bookmark) == (keys("range", 120), "range0120")
    second, bookmark = answer(storing, "page", "range", "range~", "200", bookmark)
    assert (second, bookmark) == (keys("range", 250, 120), "")


def test_composite_keys_stand_apart_from_plain_ones(storing: Contract) -> None:
    for attributes in (["b", "2"], ["a", "1"], ["a", "\N{GRINNING FACE}"], ["a", "\uff5e"], ["ab"]):
        assert json.loads(storing.submit("index", json.dumps(attributes))) == ["index", attributes]
    assert answer(storing, "indexed", '["a"]') == [["a", "1"], ["a", "\uff5e"], ["a", "\N{GRINNING FACE}"]]
    assert answer(storing, "indexed", "[]") == [
        ["a", "1"],
        ["a", "\uff5e"],
        ["a", "\N{GRINNING FACE}"],
        ["ab"],
        ["b", "2"],
    ]
    assert not [key for key in answer(storing, "span", "", "") if "\0" in key]


def test_a_delete_is_read_after_the_commit_and_stays_in_the_history(storing: Contract) -> None:
    storing.submit("fill", "gone", "2")
    assert storing.submit("clear", "gone", "2") == b"1"
    assert answer(storing, "span", "gone", "gone~") == []
    storing.submit("change", "gone0001", "back")
    assert answer(storing, "history", "gone0001") == ["back", "", "1"]


def test_a_key_with_a_policy_of_its_own(storing: Contract) -> None:
    storing.submit("guard", "guarded", '["CoreMSP", "BankMSP"]')
    assert storing.evaluate("guarded", "guarded") == all_of("CoreMSP", "BankMSP").envelope()
    with pytest.raises(CommitError) as caught:
        storing.submit("change", "guarded", "no", endorsing_organizations=["CoreMSP", "WarehouseMSP", "LogisticsMSP"])
    assert caught.value.code is ValidationCode.ENDORSEMENT_POLICY_FAILURE
    assert storing.submit("change", "guarded", "yes") == b"yes"


def test_too_few_endorsements_are_a_policy_failure(storing: Contract) -> None:
    with pytest.raises(CommitError) as caught:
        storing.submit("change", "alone", "1", endorsing_organizations=["CoreMSP"])
    assert caught.value.code is ValidationCode.ENDORSEMENT_POLICY_FAILURE
    assert answer(storing, "several", '["alone"]') == [None]


@pytest.mark.parametrize("collection", ["shared", "_implicit_org_CoreMSP"])
def test_a_private_value_is_kept_by_its_members_and_purged(storing: Contract, collection: str) -> None:
    private = {"transient": {"value": b"secret"}, "endorsing_organizations": MAJORITY}
    digest = hashlib.sha256(b"secret").hexdigest()
    for key in ("one", "two"):
        storing.submit("keep", collection, key, **private)  # type: ignore[arg-type]
    assert answer(storing, "kept", collection, "one") == ["secret", digest]
    assert answer(storing, "kept_span", collection, "", "") == ["one", "two"]
    storing.submit("purge", collection, "one", endorsing_organizations=MAJORITY)
    assert answer(storing, "kept", collection, "one") == [None, None]
    assert answer(storing, "kept_span", collection, "", "") == ["two"]


def test_a_private_value_stays_away_from_the_others(running: networks.Network, storing: Contract) -> None:
    storing.submit("keep", "shared", "hidden", transient={"value": b"secret"}, endorsing_organizations=MAJORITY)
    warehouse = Place(running, "warehouse")
    with fabric.channel(warehouse.target, tls_ca=warehouse.tls_ca) as channel:
        with fabric.connect(channel, *warehouse.person("user")) as gateway:
            other = gateway.network("scf").contract("storing")
            with pytest.raises(EvaluateError) as caught:
                other.evaluate("kept", "shared", "hidden", endorsing_organizations=["WarehouseMSP"])
    assert caught.value.code is grpc.StatusCode.UNKNOWN
    assert "tx creator does not have read access permission on privatedata" in str(caught.value)


def test_an_unknown_collection_is_refused(storing: Contract) -> None:
    with pytest.raises(EvaluateError, match=r"nowhere.* could not be found"):
        storing.evaluate("kept", "nowhere", "key")


def test_one_chaincode_calls_another(network: Network, storing: Contract) -> None:
    assert storing.submit("call", "basic", "put", "across", "value") == b"value"
    assert network.contract("basic").evaluate("get", "across") == b"value"
    assert answer(storing, "several", '["called-across"]') == ["value"]


def test_a_called_chaincodes_refusal_is_passed_on(storing: Contract) -> None:
    with pytest.raises(EndorseError) as caught:
        storing.submit("call", "basic", "unknown", "key", "value")
    assert caught.value.contract_answer is not None


def test_a_chaincode_knows_its_transaction(storing: Contract) -> None:
    proposal = storing.new_proposal("about")
    assert json.loads(proposal.evaluate()) == ["CoreMSP", "scf", proposal.transaction_id, "storing"]


def test_messages_larger_than_grpcs_own_limit_pass_in_both_directions(storing: Contract) -> None:
    count, size = 100, 60_000
    storing.submit("swell", "large", str(count), str(size))
    assert answer(storing, "several", json.dumps(keys("large", count))) == ["v" * size] * count
