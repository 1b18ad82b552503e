"""Judging policies: signature policies, ImplicitMeta, and application policies, exactly as Fabric evaluates them.

Evaluation of "n out of" is greedy: rules in order, each identity consumed once, no going back; a set that could satisfy
the policy in another order fails, as it does on a real peer. Source: common/cauthdsl, common/policies,
core/policy/application.go of Fabric v3.1.5; embedded-network.md D.4."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fabric_protos.common import configtx_pb2, policies_pb2
from fabric_protos.msp import msp_principal_pb2
from fabric_protos.peer import policy_pb2
from google.protobuf.message import DecodeError

from network.embedded.msp import Identity, IdentityError, MspManager

# Why the identities do not satisfy the policy, or None when they do.
_Judge = Callable[[Sequence[Identity]], str | None]
# Consumes identities: marks those it used in the second list, and says whether the rule holds.
_Rule = Callable[[Sequence[Identity], list[bool]], bool]

_POLICIES_CACHED: Final = 4_096
_ROOT: Final = "Channel"
_NOT_SATISFIED: Final = "signature set did not satisfy policy"


class PolicyError(Exception):
    """A policy is not satisfied, does not exist or cannot be read; the text is Fabric's."""


@dataclass(frozen=True, slots=True)
class SignedData:
    """A message, who is said to have signed it (SerializedIdentity bytes), and the signature."""

    message: bytes
    identity_bytes: bytes
    signature: bytes


class Policy:
    """A policy that signatures or identities can be held against."""

    __slots__ = ("_judge", "_msps")

    def __init__(self, msps: MspManager, judge: _Judge) -> None:
        self._msps = msps
        self._judge = judge

    def evaluate(self, signed: Sequence[SignedData]) -> None:
        """Raise PolicyError unless the valid signatures among these satisfy the policy."""
        reason = self._judge(valid_identities(self._msps, signed))
        if reason is not None:
            raise PolicyError(reason)

    def evaluate_identities(self, identities: Sequence[Identity]) -> bool:
        """Whether signatures of exactly these, in this order, would satisfy the policy."""
        return self._judge(identities) is None


def valid_identities(msps: MspManager, signed: Sequence[SignedData]) -> list[Identity]:
    """The identities with a valid signature, each once, in order.

    Unknown and invalid identities are dropped first, then repeated ones, then bad signatures: repeating one signature a
    thousand times costs one verification."""
    seen: set[tuple[str, bytes]] = set()
    found: list[Identity] = []
    for entry in signed:
        try:
            identity = msps.identity(entry.identity_bytes)
        except IdentityError:
            continue
        key = identity.msp_id, identity.certificate_hash
        if key in seen or not msps.verify(identity, entry.message, entry.signature):
            continue
        seen.add(key)
        found.append(identity)
    return found


class PolicyManager:
    """The policies of a channel configuration, found by path, and the policies of chaincodes and keys."""

    def __init__(self, config: configtx_pb2.Config, msps: MspManager) -> None:
        """Raises PolicyError when a policy of the configuration cannot be read."""
        self._msps = msps
        self._judges = _group_judges(_ROOT, config.channel_group, msps)
        # Approvals and writes bring the same few policies again and again; compiling one costs 20 µs.
        self._signature = lru_cache(_POLICIES_CACHED)(self._read_signature_policy)
        self._application = lru_cache(_POLICIES_CACHED)(self._read_application_policy)

    def has(self, path: str) -> bool:
        """Whether the configuration has a policy at this path."""
        return _relative(path) in self._judges

    def policy(self, path: str) -> Policy:
        """The policy at a path like `/Channel/Application/Writers`; one that nothing satisfies when there is none."""
        relative = _relative(path)
        judge = self._judges.get(relative)
        return Policy(self._msps, judge or _rejecting(f"no such policy: '{relative}'"))

    def signature_policy(self, data: bytes) -> Policy:
        """The policy of SignaturePolicyEnvelope bytes, such as a key's; one that nothing satisfies when unreadable."""
        return self._signature(bytes(data))

    def application_policy(self, data: bytes) -> Policy:
        """The policy of ApplicationPolicy bytes, such as a chaincode's; one that nothing satisfies when unreadable."""
        return self._application(bytes(data))

    def _read_signature_policy(self, data: bytes) -> Policy:
        try:
            return Policy(self._msps, _signature_judge(_envelope(data), self._msps))
        except PolicyError as error:
            return Policy(self._msps, _rejecting(str(error)))

    def _read_application_policy(self, data: bytes) -> Policy:
        try:
            message = policy_pb2.ApplicationPolicy.FromString(data)
        except DecodeError as error:
            return Policy(self._msps, _rejecting(f"failed to unmarshal ApplicationPolicy bytes: {error}"))
        kind = message.WhichOneof("Type")
        if kind == "signature_policy":
            try:
                return Policy(self._msps, _signature_judge(message.signature_policy, self._msps))
            except PolicyError as error:
                return Policy(self._msps, _rejecting(f"could not create evaluator for signature policy: {error}"))
        if kind == "channel_config_policy_reference":
            reference = message.channel_config_policy_reference
            if self.has(reference):
                return self.policy(reference)
            reason = f"failed to retrieve policy for reference {reference}"
            return Policy(self._msps, _rejecting(f"could not create evaluator for channel reference policy: {reason}"))
        return Policy(self._msps, _rejecting("unsupported policy type <nil>"))


def _relative(path: str) -> str:
    """A path as the root group keeps it: without `/Channel/`; foreign absolute paths stay whole and match nothing."""
    return path.removeprefix(f"/{_ROOT}/")


def _rejecting(reason: str) -> _Judge:
    return lambda _: reason


def _group_judges(path: str, group: configtx_pb2.ConfigGroup, msps: MspManager) -> dict[str, _Judge]:
    """The judges of a group and of all groups below it, by path relative to the group."""
    inner = {name: _group_judges(f"{path}/{name}", entry, msps) for name, entry in group.groups.items()}
    judges: dict[str, _Judge] = {}
    for name, entry in group.policies.items():
        try:
            judges[name] = _config_judge(entry.policy, inner, msps)
        except PolicyError as error:
            raise PolicyError(f"policy {name} at path {path} did not compile: {error}") from error
    for group_name, entries in inner.items():
        judges |= {f"{group_name}/{name}": judge for name, judge in entries.items()}
    return judges


def _config_judge(policy: policies_pb2.Policy, inner: dict[str, dict[str, _Judge]], msps: MspManager) -> _Judge:
    if policy.type == policies_pb2.Policy.IMPLICIT_META:
        try:
            return _meta_judge(policies_pb2.ImplicitMetaPolicy.FromString(policy.value), inner)
        except DecodeError as error:
            raise PolicyError(f"Error unmarshalling to ImplicitMetaPolicy: {error}") from error
    if policy.type == policies_pb2.Policy.SIGNATURE:
        return _signature_judge(_envelope(policy.value), msps)
    raise PolicyError(f"unknown policy type: {policy.type}")


def _meta_judge(meta: policies_pb2.ImplicitMetaPolicy, inner: dict[str, dict[str, _Judge]]) -> _Judge:
    """ANY, ALL or MAJORITY of the groups directly below; a group without the policy counts and never agrees."""
    name = meta.sub_policy
    judges = [entries.get(name) or _rejecting(f"no such policy: '{name}'") for entries in inner.values()]
    rules = policies_pb2.ImplicitMetaPolicy
    wanted = {rules.ANY: 1, rules.ALL: len(judges), rules.MAJORITY: len(judges) // 2 + 1}.get(meta.rule, 0)
    threshold = wanted if judges else 0

    def judge(identities: Sequence[Identity]) -> str | None:
        satisfied = 0
        for inner_judge in judges:
            if satisfied >= threshold:
                break
            satisfied += inner_judge(identities) is None
        if satisfied >= threshold:
            return None
        return (
            f"implicit policy evaluation failed - {satisfied} sub-policies were satisfied, but this policy requires "
            f"{threshold} of the '{name}' sub-policies to be satisfied"
        )

    return judge


def _envelope(data: bytes) -> policies_pb2.SignaturePolicyEnvelope:
    try:
        envelope = policies_pb2.SignaturePolicyEnvelope.FromString(data)
    except DecodeError as error:
        raise PolicyError(f"Error unmarshalling to SignaturePolicy: {error}") from error
    if envelope.version != 0:
        raise PolicyError(f"This evaluator only understands messages of version 0, but version was {envelope.version}")
    return envelope


def _signature_judge(envelope: policies_pb2.SignaturePolicyEnvelope, msps: MspManager) -> _Judge:
    if not envelope.HasField("rule"):
        raise PolicyError("Empty policy element")
    rule = _compile(envelope.rule, envelope.identities, msps)
    return lambda identities: None if rule(identities, [False] * len(identities)) else _NOT_SATISFIED


def _compile(
    policy: policies_pb2.SignaturePolicy, principals: Sequence[msp_principal_pb2.MSPPrincipal], msps: MspManager
) -> _Rule:
    kind = policy.WhichOneof("Type")
    if kind == "n_out_of":
        return _n_out_of(policy.n_out_of.n, [_compile(rule, principals, msps) for rule in policy.n_out_of.rules])
    if kind == "signed_by":
        if not 0 <= policy.signed_by < len(principals):
            raise PolicyError(
                f"identity index out of range, requested {policy.signed_by}, but identities length is {len(principals)}"
            )
        return _signed_by(msps, principals[policy.signed_by])
    raise PolicyError("Unknown type: <nil>:<nil>")


def _n_out_of(n: int, rules: Sequence[_Rule]) -> _Rule:
    """At least n of the rules, tried in order; what a failed rule had taken is given back, all rules are tried."""

    def holds(identities: Sequence[Identity], used: list[bool]) -> bool:
        verified = 0
        for rule in rules:
            attempt = used.copy()
            if rule(identities, attempt):
                verified += 1
                used[:] = attempt
        return verified >= n

    return holds


def _signed_by(msps: MspManager, principal: msp_principal_pb2.MSPPrincipal) -> _Rule:
    """The first identity not yet used that satisfies the principal; it is used up."""
    test = msps.test(principal)

    def holds(identities: Sequence[Identity], used: list[bool]) -> bool:
        for index, identity in enumerate(identities):
            if not used[index] and test(identity):
                used[index] = True
                return True
        return False

    return holds
