"""Choosing endorsers: every minimal combination, for the policies that the upstream and our own chaincodes use."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fabric_protos.common import policies_pb2
from fabric_protos.peer import proposal_response_pb2

from chaincode.shim.policy import OutOf, all_of, any_of, signed_by
from network import topology as topologies
from network.channel import config, policy
from network.embedded.lifecycle import NAMESPACE, Definition, definition
from network.embedded.msp import MspManager
from network.embedded.plan import PlanError, Planner
from network.embedded.policy import PolicyManager
from network.identity import identities
from network.topology import ChaincodeSpec, Collection, Rule, Topology

ORGANISATIONS = ("core", "warehouse", "logistics", "bank")
Call = proposal_response_pb2.ChaincodeCall
Layout = Mapping[str, int]


class Case:
    """A channel's planner and definitions made from topology entries."""

    def __init__(self, home: Path, topology: Topology) -> None:
        self.topology = topology
        identities.establish(home, topology)
        configuration = config.parse(config.genesis_block(topology, home))
        msps = MspManager.from_config(configuration)
        peers = {
            organisation.msp_id: [
                identities.load_node(home, organisation, node).serialized for node in organisation.peers
            ]
            for organisation in topology.organisations
        }
        self.make = lambda seed=1: Planner(topology.channel, PolicyManager(configuration, msps), msps, peers, seed)
        self.definitions: dict[str, Definition] = {}
        for spec in topology.chaincodes:
            from fabric_protos.peer import collection_pb2

            package = collection_pb2.CollectionConfigPackage.FromString(policy.collections(spec, topology))
            self.definitions[spec.name] = Definition(
                spec.name,
                spec.version,
                1,
                policy.endorsement(spec, topology),
                {entry.static_collection_config.name: entry.static_collection_config for entry in package.config},
            )

    def definition(self, name: str) -> Definition | None:
        return definition(lambda *_: None, name) if name == NAMESPACE else self.definitions.get(name)

    def layouts(
        self,
        *calls: Call,
        first: str | None = None,
        runs: Callable[[str, str], bool] = lambda *_: True,
        seed: int = 1,
    ) -> list[Layout]:
        interest = proposal_response_pb2.ChaincodeInterest(chaincodes=calls)
        return self.make(seed).layouts(interest, self.definition, first, runs)

    def found(self, *calls: Call, **extra: object) -> set[str]:
        """The combinations as text: `bank+core`, with a number where more than one peer is needed."""
        names = {organisation.msp_id: organisation.name for organisation in self.topology.organisations}
        return {
            "+".join(sorted(names[msp_id] + (f"*{count}" if count > 1 else "") for msp_id, count in layout.items()))
            for layout in self.layouts(*calls, **extra)  # type: ignore[arg-type]
        }

    def refusal(self, *calls: Call, **extra: object) -> str:
        with pytest.raises(PlanError) as caught:
            self.layouts(*calls, **extra)  # type: ignore[arg-type]
        return str(caught.value)


def some(*names: str, members: Sequence[str] = ("core", "bank"), endorsement: Rule | None = None) -> Collection:
    return Collection(names[0], Rule(1, tuple(members)), maximum_peer_count=1, endorsement=endorsement)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    any_one = Rule(1, ORGANISATIONS)
    chaincodes = (
        ChaincodeSpec(
            "trade",
            "1",
            program="a:b",
            collections=(
                some("shared"),
                some("banked", endorsement=Rule(1, ("bank",))),
                some("stored", members=("warehouse",), endorsement=Rule(1, ("warehouse",))),
            ),
        ),
        ChaincodeSpec("account", "1", Rule(2, ("bank", Rule(1, ("core", "warehouse", "logistics")))), program="a:b"),
        ChaincodeSpec("single", "1", any_one, program="a:b", collections=(some("both"),)),
        ChaincodeSpec("twice", "1", Rule(2, ("core", "core")), program="a:b"),
    )
    yield Case(tmp_path_factory.mktemp("home"), replace(topologies.load(), chaincodes=chaincodes))


def key(rule: OutOf) -> policies_pb2.SignaturePolicyEnvelope:
    return policies_pb2.SignaturePolicyEnvelope.FromString(rule.envelope())


MAJORITY = {"core+logistics+warehouse", "bank+core+warehouse", "bank+core+logistics", "bank+logistics+warehouse"}
BANK_AND_ONE = {"bank+core", "bank+warehouse", "bank+logistics"}


def test_majority_of_four_is_any_three(case: Case) -> None:
    assert case.found(Call(name="trade")) == MAJORITY


def test_bank_and_one_other(case: Case) -> None:
    assert case.found(Call(name="account")) == BANK_AND_ONE


def test_a_call_between_them_needs_both(case: Case) -> None:
    expected = {each for each in MAJORITY if "bank" in each}
    assert case.found(Call(name="trade"), Call(name="account")) == expected


def test_the_lifecycle_has_its_own_policy(case: Case) -> None:
    assert case.found(Call(name=NAMESPACE)) == MAJORITY


def test_layouts_with_the_first_endorser_come_first(case: Case) -> None:
    for first in ("CoreMSP", "WarehouseMSP", "LogisticsMSP", "BankMSP"):
        layouts = case.layouts(Call(name="trade"), first=first)
        assert [first in layout for layout in layouts] == [True, True, True, False]


def test_order_among_equals_is_random_and_repeatable(case: Case) -> None:
    orders = {tuple(tuple(each) for each in case.layouts(Call(name="trade"), seed=seed)) for seed in range(20)}
    assert len(orders) > 5
    assert case.layouts(Call(name="trade"), seed=3) == case.layouts(Call(name="trade"), seed=3)


# --- key policies ---


def test_a_key_policy_alone_decides_when_the_namespaces_is_disregarded(case: Case) -> None:
    rule = all_of(signed_by("BankMSP"), signed_by("WarehouseMSP"))
    call = Call(name="trade", key_policies=[key(rule)], disregard_namespace_policy=True)
    assert case.found(call) == {"bank+warehouse"}


def test_a_key_policy_is_joined_to_the_namespaces(case: Case) -> None:
    rule = all_of(signed_by("BankMSP"), signed_by("WarehouseMSP"))
    call = Call(name="trade", key_policies=[key(rule)])
    assert case.found(call) == {"bank+core+warehouse", "bank+logistics+warehouse"}


def test_pledge_policy_bank_and_warehouse_and_one_of_two(case: Case) -> None:
    rule = all_of(
        signed_by("BankMSP"),
        signed_by("WarehouseMSP"),
        any_of(signed_by("CoreMSP"), signed_by("LogisticsMSP")),
    )
    call = Call(name="trade", key_policies=[key(rule)], disregard_namespace_policy=True)
    assert case.found(call) == {"bank+core+warehouse", "bank+logistics+warehouse"}


def test_several_keys_need_all_their_policies(case: Case) -> None:
    rules = [key(all_of(signed_by(msp_id))) for msp_id in ("CoreMSP", "LogisticsMSP", "CoreMSP")]
    call = Call(name="trade", key_policies=rules, disregard_namespace_policy=True)
    assert case.found(call) == {"core+logistics"}


# --- collections ---


def test_a_collection_without_a_policy_has_the_chaincodes(case: Case) -> None:
    call = Call(name="trade", collection_names=["shared"], no_private_reads=True)
    assert case.found(call) == MAJORITY


def test_a_collections_own_policy_stands_in_for_the_chaincodes(case: Case) -> None:
    call = Call(name="trade", collection_names=["banked"], no_private_reads=True)
    assert case.found(call) == {"bank"}
    assert case.found(Call(name="trade"), call) == {each for each in MAJORITY if "bank" in each}


def test_an_implicit_collection_needs_its_owner_and_the_chaincode(case: Case) -> None:
    call = Call(name="single", collection_names=["_implicit_org_LogisticsMSP"], no_private_reads=True)
    assert case.found(call) == {"logistics"}
    assert case.found(Call(name="account"), call) == {"bank+logistics"}


def test_private_reads_leave_only_members(case: Case) -> None:
    call = Call(name="single", collection_names=["both"])
    assert case.found(call) == {"core", "bank"}
    assert case.found(Call(name="account"), call) == {"bank+core"}
    assert case.refusal(Call(name="trade"), Call(name="trade", collection_names=["shared"])) == (
        "no peer combination can satisfy the endorsement policy"
    )


def test_several_collections_leave_their_common_members(case: Case) -> None:
    calls = (Call(name="single", collection_names=["both"]), Call(name="trade", collection_names=["stored"]))
    assert case.refusal(*calls) == "no peer combination can satisfy the endorsement policy"


# --- refusals ---


def test_texts_of_what_cannot_be_planned(case: Case) -> None:
    assert case.refusal(Call(name="none")) == "No metadata was found for chaincode none in channel scf"
    assert case.refusal(Call(name="trade", collection_names=["what"])) == (
        "collection what doesn't exist in collection config for chaincode trade"
    )
    assert case.refusal(Call(name="trade", disregard_namespace_policy=True)) == (
        "requested to disregard chaincode trade's policy but key and collection policies are missing, either disable "
        "DisregardNamespacePolicy or specify at least one key policy or at least one collection policy"
    )
    assert case.refusal() == "no principal sets remained after filtering"


def test_two_signatures_of_an_organisation_with_one_peer(case: Case) -> None:
    assert case.refusal(Call(name="twice")) == "no peer combination can satisfy the endorsement policy"


def test_organisations_without_the_chaincode_are_left_out(case: Case) -> None:
    def runs(msp_id: str, name: str) -> bool:
        return not (msp_id == "CoreMSP" and name == "trade")

    assert case.found(Call(name="trade"), runs=runs) == {"bank+logistics+warehouse"}
    assert case.refusal(Call(name="trade"), runs=lambda msp_id, _: msp_id in ("CoreMSP", "BankMSP")) == (
        "required chaincodes are not installed on sufficient peers"
    )


# --- the topology of the upstream scenarios: three organisations with 2, 2 and 1 peers ---


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Case:
    shipped = topologies.load()
    made = []
    for organisation, number, peers in zip(shipped.organisations, (1, 2, 3), (2, 2, 1), strict=False):
        node = organisation.peers[0]
        nodes = tuple(replace(node, name=f"peer{index}.org{number}") for index in range(peers))
        made.append(replace(organisation, name=f"org{number}", msp_id=f"Org{number}MSP", peers=nodes))
    # The fourth organisation stays as one that only orders.
    made.append(replace(shipped.organisations[3], peers=()))
    chaincodes = (
        ChaincodeSpec("basic", "1", program="a:b"),
        ChaincodeSpec("two", "1", Rule(2, ("org1", "org2")), program="a:b"),
        ChaincodeSpec("double", "1", Rule(2, ("org1", "org1")), program="a:b"),
    )
    topology = replace(shipped, organisations=tuple(made), chaincodes=chaincodes)
    return Case(tmp_path_factory.mktemp("upstream"), topology)


def test_upstream_combinations_take_one_peer_of_each_organisation(upstream: Case) -> None:
    assert upstream.found(Call(name="two")) == {"org1+org2"}
    for layout in upstream.layouts(Call(name="basic")):
        assert set(layout.values()) == {1}


def test_two_signatures_of_an_organisation_with_two_peers(upstream: Case) -> None:
    assert upstream.found(Call(name="double")) == {"org1*2"}
