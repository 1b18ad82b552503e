"""Rules of keys: Fabric's bytes."""

import pytest
from fabric_protos.common.policies_pb2 import SignaturePolicyEnvelope
from fabric_protos.msp.msp_principal_pb2 import MSPPrincipal, MSPRole

from chaincode.shim.policy import all_of, any_of, out_of, signed_by


def members(envelope: SignaturePolicyEnvelope) -> list[tuple[str, int]]:
    roles = [MSPRole.FromString(identity.principal) for identity in envelope.identities]
    assert all(identity.principal_classification == MSPPrincipal.ROLE for identity in envelope.identities)
    return [(role.msp_identifier, role.role) for role in roles]


def test_all_of_organisations_gives_the_bytes_of_fabrics_own_helper() -> None:
    # What statebased.KeyEndorsementPolicy writes for AddOrgs(RoleTypePeer, "AMSP", "BMSP"): version 0 left out,
    # rule 2 of (signed_by 0, signed_by 1), principals sorted, role PEER = 3.
    principal_a = bytes.fromhex("0a04414d53501003")
    principal_b = bytes.fromhex("0a04424d53501003")
    rule = bytes.fromhex("120c 120a 0802 1202 0800 1202 0801")
    identities = b"".join(b"\x1a\x0a\x12\x08" + principal for principal in (principal_a, principal_b))
    assert all_of("AMSP", "BMSP").envelope() == rule + identities


def test_a_nested_rule() -> None:
    rule = all_of("BankMSP", "WarehouseMSP", any_of("CoreMSP", "LogisticsMSP"))
    envelope = SignaturePolicyEnvelope.FromString(rule.envelope())
    peer = MSPRole.PEER
    assert members(envelope) == [("BankMSP", peer), ("CoreMSP", peer), ("LogisticsMSP", peer), ("WarehouseMSP", peer)]
    outer = envelope.rule.n_out_of
    assert (outer.n, [part.signed_by for part in outer.rules[:2]]) == (3, [0, 3])
    assert (outer.rules[2].n_out_of.n, [part.signed_by for part in outer.rules[2].n_out_of.rules]) == (1, [1, 2])


def test_one_organisation_twice_is_one_principal() -> None:
    envelope = SignaturePolicyEnvelope.FromString(out_of(2, "AMSP", "BMSP", all_of("AMSP", "BMSP")).envelope())
    assert [name for name, _ in members(envelope)] == ["AMSP", "BMSP"]


def test_signed_by_stands_alone() -> None:
    envelope = SignaturePolicyEnvelope.FromString(signed_by("AMSP").envelope())
    assert envelope.rule.WhichOneof("Type") == "signed_by"


@pytest.mark.parametrize("count", [0, 3, -1])
def test_an_impossible_count_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="can never be meant"):
        out_of(count, "AMSP", "BMSP")


def test_an_empty_organisation_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        all_of("AMSP", "")
