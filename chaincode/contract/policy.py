"""Policies, assembled into both chaincodes: each keeps the names that its own rules read."""

from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, records
from chaincode.contract.registry import ACCOUNT, TRADE
from chaincode.contract.step import Step, read, write
from chaincode.domain import policy
from chaincode.domain.error import DomainError
from chaincode.domain.policy import Policy, PolicyValue
from chaincode.domain.record import Input
from chaincode.domain.role import ADMIN
from chaincode.ledger.policy import POLICIES
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract

PolicyName = Annotated[str, Meta(pattern=r"^[a-z_]{1,32}$", description="Name of a policy")]


class ProposePolicy(Input, frozen=True, kw_only=True):
    """Argument of ``policy:propose``; the value carries the name of its policy."""

    value: PolicyValue
    from_date: date


class ApprovePolicy(Input, frozen=True, kw_only=True):
    """Argument of ``policy:approve``."""

    name: PolicyName


class GetPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``policy:get``."""

    name: PolicyName


class PolicyPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of policies by name."""

    items: tuple[Policy, ...]
    next: str | None


class TradePolicyContract(Contract, name="policy"):
    """Transactions of the word policy in the chaincode trade."""

    @write("policy:propose", TRADE, roles=(ADMIN, "treasury"), event="policy.proposed")
    def propose(self, step: Step, input: ProposePolicy) -> None:
        """Propose a value of a policy with its from-date; a later proposal replaces an earlier one.

        Who: an admin of any organisation, or treasury.
        Must hold: policy_name_unknown, policy_value_invalid, policy_from_date_passed.
        Changes: the policy has a proposal; the version in force stays.
        Event: policy.proposed.
        """
        _propose(step, input, policy.TRADE)

    @write("policy:approve", TRADE, roles=(ADMIN, "treasury"), event="policy.approved", to_state="recorded")
    def approve(self, step: Step, input: ApprovePolicy) -> None:
        """Make the proposed value the next version of a policy.

        Who: an admin or treasury of another organisation than the proposer's.
        Must hold: proposal_missing, same_person, same_organisation, policy_from_date_passed.
        Changes: the proposed value is the next version; one that was next and not yet in force is replaced.
        Event: policy.approved.
        """
        _approve(step, input)

    @read("policy:get")
    def get(self, store: Store, input: GetPolicy) -> Policy:
        """One policy.

        Who: everybody on the channel.
        Must hold: policy_missing.
        Changes: nothing.
        Event: none.
        """
        return _get(store, input)

    @read("policy:list")
    def list(self, store: Store, input: Listing) -> PolicyPage:
        """Policies by name.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        return _list(store, input)


class AccountPolicyContract(Contract, name="policy"):
    """Transactions of the word policy in the chaincode account."""

    @write("policy:propose", ACCOUNT, roles=(ADMIN, "treasury"), event="policy.proposed")
    def propose(self, step: Step, input: ProposePolicy) -> None:
        """Propose a value of a policy with its from-date; a later proposal replaces an earlier one.

        Who: an admin of any organisation, or treasury.
        Must hold: policy_name_unknown, policy_value_invalid, policy_from_date_passed.
        Changes: the policy has a proposal; the version in force stays.
        Event: policy.proposed.
        """
        _propose(step, input, policy.ACCOUNT)

    @write("policy:approve", ACCOUNT, roles=(ADMIN, "treasury"), event="policy.approved", to_state="recorded")
    def approve(self, step: Step, input: ApprovePolicy) -> None:
        """Make the proposed value the next version of a policy.

        Who: an admin or treasury of another organisation than the proposer's.
        Must hold: proposal_missing, same_person, same_organisation, policy_from_date_passed.
        Changes: the proposed value is the next version; one that was next and not yet in force is replaced.
        Event: policy.approved.
        """
        _approve(step, input)

    @read("policy:get")
    def get(self, store: Store, input: GetPolicy) -> Policy:
        """One policy.

        Who: everybody on the channel.
        Must hold: policy_missing.
        Changes: nothing.
        Event: none.
        """
        return _get(store, input)

    @read("policy:list")
    def list(self, store: Store, input: Listing) -> PolicyPage:
        """Policies by name.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        return _list(store, input)


def _propose(step: Step, input: ProposePolicy, allowed: tuple[str, ...]) -> None:
    name = policy.check_value(input.value, allowed)
    known = POLICIES.find(step.store, name)
    actor = step.actor
    proposed = policy.propose(known, name, input.value, input.from_date, actor.user_id, actor.msp_id, step.today)
    _save(step, proposed, "policy.proposed")


def _approve(step: Step, input: ApprovePolicy) -> None:
    known = POLICIES.find(step.store, input.name)
    if known is None:
        raise DomainError("proposal_missing", id=input.name)
    _save(step, policy.approve(known, step.actor.user_id, step.actor.msp_id, step.today), "policy.approved")


def _get(store: Store, input: GetPolicy) -> Policy:
    known = POLICIES.find(store, input.name)
    if known is None:
        raise DomainError("policy_missing", name=input.name)
    return known


def _list(store: Store, input: Listing) -> PolicyPage:
    items, following = records(POLICIES, store, [], input)
    return PolicyPage(items=items, next=following)


def _save(step: Step, record: Policy, event: str) -> None:
    POLICIES.save(step.store, record, record.name)
    step.change("policy", record.name, event, record)
