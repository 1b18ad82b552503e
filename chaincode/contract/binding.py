"""Bindings: a member asks, the bank verifies."""

from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, indexed
from chaincode.contract.registry import ACCOUNT
from chaincode.contract.step import Step, read, write
from chaincode.domain import binding
from chaincode.domain.account import AccountId
from chaincode.domain.binding import Binding
from chaincode.domain.error import DomainError
from chaincode.domain.record import Digest, Id, Input, MemberId, Name, NewId, Reason
from chaincode.domain.role import BANK_MSP
from chaincode.ledger.account import BALANCES
from chaincode.ledger.binding import BINDINGS, MEMBER_BINDINGS
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract

LastFour = Annotated[str, Meta(pattern=r"^[0-9A-Z]{4}$", description="Last four characters of the account number")]


class RequestBinding(Input, frozen=True, kw_only=True):
    """Argument of ``binding:request``; the digest is salted and covers account number and bank code."""

    binding_id: NewId
    account_id: AccountId
    number_digest: Digest
    last_four: LastFour
    holder_name: Name


class NamedBinding(Input, frozen=True, kw_only=True):
    """Argument of ``binding:verify``."""

    binding_id: Id


class ReasonedBinding(Input, frozen=True, kw_only=True):
    """Argument of a step that names a binding and says why."""

    binding_id: Id
    reason: Reason


class GetBinding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``binding:get``."""

    binding_id: Id


class ListBindings(Listing, frozen=True, kw_only=True):
    """Argument of ``binding:list``."""

    member_id: MemberId


class BindingPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of a member's bindings by id."""

    items: tuple[Binding, ...]
    next: str | None


class BindingContract(Contract, name="binding"):
    """Transactions of the word binding."""

    @write("binding:request", ACCOUNT, roles=("operator", "approver"), event="binding.requested", to_state="requested")
    def request(self, step: Step, input: RequestBinding) -> None:
        """Ask the bank to bind a bank account of the same name as the member.

        Who: operator or approver of the account's member.
        Must hold: account_not_found, binding_exists, not_owner, binding_name_differs.
        Changes: the binding is requested.
        Event: binding.requested.
        """
        balance = BALANCES.load(step.store, input.account_id)
        BINDINGS.check_new(step.store, input.binding_id)
        if balance.member_id != step.actor.member_id:
            raise DomainError("not_owner", id=balance.account_id, member=step.actor.member_id)
        requested = binding.request(
            input.binding_id,
            input.account_id,
            input.number_digest,
            input.last_four,
            input.holder_name,
            step.actor.company_name,
            step.trace(),
        )
        MEMBER_BINDINGS.put(step.store, requested.member_id, requested.binding_id)
        _save(step, requested, "binding.requested")

    @write(
        "binding:verify",
        ACCOUNT,
        roles=("treasury",),
        event="binding.verified",
        from_states=("requested",),
        to_state="verified",
    )
    def verify(self, step: Step, input: NamedBinding) -> None:
        """Accept a binding whose number and name the bank found in order.

        Who: treasury of the bank.
        Must hold: binding_not_found, bank_identity_required, state_wrong.
        Changes: the binding is verified.
        Event: binding.verified.
        """
        known = BINDINGS.load(step.store, input.binding_id)
        _check_bank(step)
        _save(step, binding.verify(known, step.trace()), "binding.verified")

    @write(
        "binding:refuse",
        ACCOUNT,
        roles=("treasury",),
        event="binding.refused",
        from_states=("requested",),
        to_state="refused",
    )
    def refuse(self, step: Step, input: ReasonedBinding) -> None:
        """Refuse a binding with a reason.

        Who: treasury of the bank.
        Must hold: binding_not_found, bank_identity_required, state_wrong.
        Changes: the binding is refused.
        Event: binding.refused.
        """
        known = BINDINGS.load(step.store, input.binding_id)
        _check_bank(step)
        _save(step, binding.refuse(known, step.trace(input.reason)), "binding.refused")

    @write(
        "binding:unbind",
        ACCOUNT,
        roles=("operator", "approver", "treasury"),
        event="binding.unbound",
        from_states=("requested", "verified"),
        to_state="unbound",
    )
    def unbind(self, step: Step, input: ReasonedBinding) -> None:
        """End a binding; nothing more is paid to that bank account.

        Who: operator or approver of the member; treasury of the bank.
        Must hold: binding_not_found, not_owner, state_wrong.
        Changes: the binding is unbound.
        Event: binding.unbound.
        """
        known = BINDINGS.load(step.store, input.binding_id)
        is_bank = step.actor.msp_id == BANK_MSP and "treasury" in step.actor.roles
        if not is_bank and known.member_id != step.actor.member_id:
            raise DomainError("not_owner", id=known.binding_id, member=step.actor.member_id)
        _save(step, binding.unbind(known, step.trace(input.reason)), "binding.unbound")

    @read("binding:get")
    def get(self, store: Store, input: GetBinding) -> Binding:
        """One binding.

        Who: everybody on the channel.
        Must hold: binding_not_found.
        Changes: nothing.
        Event: none.
        """
        return BINDINGS.load(store, input.binding_id)

    @read("binding:list")
    def list(self, store: Store, input: ListBindings) -> BindingPage:
        """Bindings of a member by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = indexed(MEMBER_BINDINGS, BINDINGS, store, [input.member_id], input)
        return BindingPage(items=items, next=following)


def _check_bank(step: Step) -> None:
    if step.actor.msp_id != BANK_MSP:
        raise DomainError("bank_identity_required")


def _save(step: Step, record: Binding, event: str) -> None:
    BINDINGS.save(step.store, record, record.binding_id)
    step.change("binding", record.binding_id, event, record)
