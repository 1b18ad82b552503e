"""Building policies: signature policies over roles and identities, ImplicitMeta, and endorsement from the topology.

`n_out_of` keeps the written order of rules and of principals, because Fabric's evaluation is greedy and depends on it
(embedded-network.md D.4), and because four approvals of a chaincode need equal bytes."""

from collections.abc import Sequence
from typing import Final

from fabric_protos.common import policies_pb2
from fabric_protos.msp import identities_pb2, msp_principal_pb2
from fabric_protos.peer import collection_pb2, policy_pb2

from network.topology import ChaincodeSpec, Collection, Rule, Topology

ENDORSEMENT: Final = "/Channel/Application/Endorsement"
_ROLES: Final = {
    "member": msp_principal_pb2.MSPRole.MEMBER,
    "admin": msp_principal_pb2.MSPRole.ADMIN,
    "client": msp_principal_pb2.MSPRole.CLIENT,
    "peer": msp_principal_pb2.MSPRole.PEER,
    "orderer": msp_principal_pb2.MSPRole.ORDERER,
}
_META_RULES: Final = {
    "ANY": policies_pb2.ImplicitMetaPolicy.ANY,
    "ALL": policies_pb2.ImplicitMetaPolicy.ALL,
    "MAJORITY": policies_pb2.ImplicitMetaPolicy.MAJORITY,
}


def role(msp_id: str, name: str) -> msp_principal_pb2.MSPPrincipal:
    """The principal `<msp_id>.<name>`; name is member, admin, client, peer or orderer."""
    value = msp_principal_pb2.MSPRole(msp_identifier=msp_id, role=_ROLES[name])
    return msp_principal_pb2.MSPPrincipal(
        principal_classification=msp_principal_pb2.MSPPrincipal.ROLE, principal=value.SerializeToString()
    )


def identity(msp_id: str, certificate: bytes) -> msp_principal_pb2.MSPPrincipal:
    """The principal that only the holder of this certificate (PEM) satisfies."""
    value = identities_pb2.SerializedIdentity(mspid=msp_id, id_bytes=certificate)
    return msp_principal_pb2.MSPPrincipal(
        principal_classification=msp_principal_pb2.MSPPrincipal.IDENTITY, principal=value.SerializeToString()
    )


def n_out_of(n: int, principals: Sequence[msp_principal_pb2.MSPPrincipal]) -> policies_pb2.SignaturePolicyEnvelope:
    """n of the principals must sign, each its own signature; rules in the given order."""
    rules = [policies_pb2.SignaturePolicy(signed_by=index) for index in range(len(principals))]
    return policies_pb2.SignaturePolicyEnvelope(rule=_n_out_of(n, rules), identities=principals)


def any_role(msp_id: str, *names: str) -> policies_pb2.SignaturePolicyEnvelope:
    """Somebody of the organisation with one of the roles: configtxgen's `OR('X.admin', 'X.peer', …)`."""
    return n_out_of(1, [role(msp_id, name) for name in names])


def implicit_meta(rule: str, sub_policy: str) -> policies_pb2.ImplicitMetaPolicy:
    """ANY, ALL or MAJORITY of the policies of that name one level below."""
    return policies_pb2.ImplicitMetaPolicy(rule=_META_RULES[rule], sub_policy=sub_policy)


def signature_policy(rule: Rule, topology: Topology, role_name: str) -> policies_pb2.SignaturePolicyEnvelope:
    """A topology's expression over organisations as a signature policy over one role of each.

    Principals stand in order of first mention, once each."""
    names = rule.organisations()
    index = {name: place for place, name in enumerate(names)}

    def build(part: Rule | str) -> policies_pb2.SignaturePolicy:
        if isinstance(part, str):
            return policies_pb2.SignaturePolicy(signed_by=index[part])
        return _n_out_of(part.required, [build(inner) for inner in part.parts])

    principals = [role(topology.organisation(name).msp_id, role_name) for name in names]
    return policies_pb2.SignaturePolicyEnvelope(rule=build(rule), identities=principals)


def endorsement(spec: ChaincodeSpec, topology: Topology) -> bytes:
    """A chaincode's endorsement policy as ApplicationPolicy bytes, the `validation_parameter` of its definition.

    Without an expression of its own it refers to the channel's default, MAJORITY of the organisations."""
    return _application_policy(spec.endorsement, topology, ENDORSEMENT).SerializeToString()


def collections(spec: ChaincodeSpec, topology: Topology) -> bytes:
    """A chaincode's named collections as CollectionConfigPackage bytes; empty without any."""
    configs = [
        collection_pb2.CollectionConfig(static_collection_config=_collection(entry, topology))
        for entry in spec.collections
    ]
    return collection_pb2.CollectionConfigPackage(config=configs).SerializeToString()


def _collection(entry: Collection, topology: Topology) -> collection_pb2.StaticCollectionConfig:
    members = signature_policy(entry.members, topology, "member")
    config = collection_pb2.StaticCollectionConfig(
        name=entry.name,
        member_orgs_policy=collection_pb2.CollectionPolicyConfig(signature_policy=members),
        required_peer_count=entry.required_peer_count,
        maximum_peer_count=entry.maximum_peer_count,
        block_to_live=entry.block_to_live,
        member_only_read=entry.member_only_read,
        member_only_write=entry.member_only_write,
    )
    if entry.endorsement is not None:
        config.endorsement_policy.CopyFrom(_application_policy(entry.endorsement, topology, ENDORSEMENT))
    return config


def _application_policy(rule: Rule | None, topology: Topology, default: str) -> policy_pb2.ApplicationPolicy:
    if rule is None:
        return policy_pb2.ApplicationPolicy(channel_config_policy_reference=default)
    return policy_pb2.ApplicationPolicy(signature_policy=signature_policy(rule, topology, "peer"))


def _n_out_of(n: int, rules: Sequence[policies_pb2.SignaturePolicy]) -> policies_pb2.SignaturePolicy:
    return policies_pb2.SignaturePolicy(n_out_of=policies_pb2.SignaturePolicy.NOutOf(n=n, rules=rules))
