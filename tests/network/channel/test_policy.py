"""Endorsement and collection policies built from the topology's expressions."""

from dataclasses import replace

from fabric_protos.common import policies_pb2
from fabric_protos.msp import msp_principal_pb2
from fabric_protos.peer import collection_pb2, policy_pb2

from network import topology as topologies
from network.channel import policy
from network.topology import Collection, Rule

TOPOLOGY = topologies.load()


def _text(envelope: policies_pb2.SignaturePolicyEnvelope) -> str:
    """A policy as text: 2(BankMSP.PEER 1(CoreMSP.PEER …))."""
    names = []
    for principal in envelope.identities:
        assert principal.principal_classification == msp_principal_pb2.MSPPrincipal.ROLE
        role = msp_principal_pb2.MSPRole.FromString(principal.principal)
        names.append(f"{role.msp_identifier}.{msp_principal_pb2.MSPRole.MSPRoleType.Name(role.role)}")

    def write(rule: policies_pb2.SignaturePolicy) -> str:
        if rule.WhichOneof("Type") == "signed_by":
            return names[rule.signed_by]
        return f"{rule.n_out_of.n}({' '.join(map(write, rule.n_out_of.rules))})"

    return write(envelope.rule)


def test_without_an_expression_the_channels_majority_holds() -> None:
    built = policy_pb2.ApplicationPolicy.FromString(policy.endorsement(TOPOLOGY.chaincode("trade"), TOPOLOGY))
    assert built.channel_config_policy_reference == "/Channel/Application/Endorsement"


def test_account_is_the_bank_and_one_other() -> None:
    data = policy.endorsement(TOPOLOGY.chaincode("account"), TOPOLOGY)
    built = policy_pb2.ApplicationPolicy.FromString(data).signature_policy
    assert _text(built) == "2(BankMSP.PEER 1(CoreMSP.PEER LogisticsMSP.PEER WarehouseMSP.PEER))"
    # All approvals of a definition must carry equal bytes.
    assert policy.endorsement(TOPOLOGY.chaincode("account"), TOPOLOGY) == data


def test_an_organisation_named_twice_is_one_principal_in_two_places() -> None:
    rule = Rule(1, (Rule(2, ("warehouse", "core")), Rule(2, ("core", "bank"))))
    built = policy.signature_policy(rule, TOPOLOGY, "peer")
    roles = [msp_principal_pb2.MSPRole.FromString(principal.principal) for principal in built.identities]
    assert [role.msp_identifier for role in roles] == ["WarehouseMSP", "CoreMSP", "BankMSP"]
    assert _text(built) == "1(2(WarehouseMSP.PEER CoreMSP.PEER) 2(CoreMSP.PEER BankMSP.PEER))"


def test_collections_as_the_lifecycle_takes_them() -> None:
    both = Collection("shared", Rule(1, ("core", "bank")), 1, 2, 3, True, True)
    own = Collection("own", Rule(1, ("bank",)), endorsement=Rule(1, ("bank",)))
    spec = replace(TOPOLOGY.chaincode("trade"), collections=(both, own))
    package = collection_pb2.CollectionConfigPackage.FromString(policy.collections(spec, TOPOLOGY))
    shared, second = (entry.static_collection_config for entry in package.config)
    assert _text(shared.member_orgs_policy.signature_policy) == "1(CoreMSP.MEMBER BankMSP.MEMBER)"
    assert (shared.name, shared.required_peer_count, shared.maximum_peer_count, shared.block_to_live) == (
        "shared",
        1,
        2,
        3,
    )
    assert (shared.member_only_read, shared.member_only_write) == (True, True)
    assert not shared.HasField("endorsement_policy")
    assert _text(second.endorsement_policy.signature_policy) == "1(BankMSP.PEER)"
    assert policy.collections(TOPOLOGY.chaincode("trade"), TOPOLOGY) == b""
