"""Endorsement rules of single keys (Fabric's state-based endorsement), as a contract writes them.

    tx.set_state_validation_parameter(key, all_of("BankMSP", "WarehouseMSP", any_of("CoreMSP", "LogisticsMSP")))

A rule is made of MSP ids (each stands for "a peer of this organisation") and other rules. Equal rules give equal
bytes; `all_of` over MSP ids alone gives the bytes that Fabric's own `statebased` packages write.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fabric_protos.common import policies_pb2
from fabric_protos.msp import msp_principal_pb2


@dataclass(frozen=True, slots=True)
class SignedBy:
    """One endorsement by a peer of the organisation `msp_id`."""

    msp_id: str

    def envelope(self) -> bytes:
        """The rule as a serialised SignaturePolicyEnvelope."""
        return _envelope(self)


@dataclass(frozen=True, slots=True)
class OutOf:
    """At least `count` of `rules` hold."""

    count: int
    rules: tuple["Rule", ...]

    def envelope(self) -> bytes:
        """The rule as a serialised SignaturePolicyEnvelope."""
        return _envelope(self)


Rule = SignedBy | OutOf


def signed_by(msp_id: str) -> SignedBy:
    """One endorsement by a peer of the organisation."""
    if not msp_id:
        raise ValueError("the MSP id of an endorsement rule is empty")
    return SignedBy(msp_id)


def out_of(count: int, *rules: str | Rule) -> OutOf:
    """At least `count` of the rules; a text is an MSP id."""
    if not 1 <= count <= len(rules):
        raise ValueError(f"{count} of {len(rules)} rules can never be meant")
    return OutOf(count, tuple(signed_by(rule) if isinstance(rule, str) else rule for rule in rules))


def all_of(*rules: str | Rule) -> OutOf:
    """Every one of the rules."""
    return out_of(len(rules), *rules)


def any_of(*rules: str | Rule) -> OutOf:
    """At least one of the rules."""
    return out_of(1, *rules)


def _envelope(rule: Rule) -> bytes:
    msp_ids = sorted(_msp_ids(rule))
    envelope = policies_pb2.SignaturePolicyEnvelope(version=0, rule=_signature_policy(rule, msp_ids))
    for msp_id in msp_ids:
        role = msp_principal_pb2.MSPRole(msp_identifier=msp_id, role=msp_principal_pb2.MSPRole.PEER)
        envelope.identities.add(
            principal_classification=msp_principal_pb2.MSPPrincipal.ROLE,
            principal=role.SerializeToString(deterministic=True),
        )
    return envelope.SerializeToString(deterministic=True)


def _msp_ids(rule: Rule) -> set[str]:
    if isinstance(rule, SignedBy):
        return {rule.msp_id}
    return {msp_id for part in rule.rules for msp_id in _msp_ids(part)}


def _signature_policy(rule: Rule, msp_ids: Sequence[str]) -> policies_pb2.SignaturePolicy:
    if isinstance(rule, SignedBy):
        return policies_pb2.SignaturePolicy(signed_by=msp_ids.index(rule.msp_id))
    parts = [_signature_policy(part, msp_ids) for part in rule.rules]
    return policies_pb2.SignaturePolicy(n_out_of=policies_pb2.SignaturePolicy.NOutOf(n=rule.count, rules=parts))
