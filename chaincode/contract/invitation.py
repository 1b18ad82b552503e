"""Invitations: how a company comes in."""

from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, records
from chaincode.contract.registry import TRADE
from chaincode.contract.step import Step, read, write
from chaincode.domain import invitation
from chaincode.domain.invitation import Invitation
from chaincode.domain.record import Input, Reason
from chaincode.domain.role import ADMIN
from chaincode.ledger.invitation import INVITATIONS
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract

InvitationId = Annotated[str, Meta(pattern=r"^N-[A-Z2-7]{26}$", description="Hash of an invitation code")]


class CreateInvitation(Input, frozen=True, kw_only=True):
    """Argument of ``invitation:create``; the id is made of the code's hash, the code itself stays with the inviter."""

    invitation_id: InvitationId
    expires_on: date


class WithdrawInvitation(Input, frozen=True, kw_only=True):
    """Argument of ``invitation:withdraw``."""

    invitation_id: InvitationId
    reason: Reason


class GetInvitation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``invitation:get``."""

    invitation_id: InvitationId


class InvitationPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of invitations by id."""

    items: tuple[Invitation, ...]
    next: str | None


class InvitationContract(Contract, name="invitation"):
    """Transactions of the word invitation."""

    @write(
        "invitation:create",
        TRADE,
        roles=("operator", "reviewer", "approver", ADMIN),
        event="invitation.created",
        to_state="open",
    )
    def create(self, step: Step, input: CreateInvitation) -> None:
        """Invite a company by the hash of a single-use code.

        Who: operator, reviewer or approver of a member, or an admin.
        Must hold: invitation_exists, expiry_passed.
        Changes: the invitation is open.
        Event: invitation.created.
        """
        INVITATIONS.check_new(step.store, input.invitation_id)
        created = invitation.create(input.invitation_id, step.actor.msp_id, input.expires_on, step.today, step.trace())
        _save(step, created, "invitation.created")

    @write(
        "invitation:withdraw",
        TRADE,
        roles=("operator", "reviewer", "approver", ADMIN),
        event="invitation.withdrawn",
        from_states=("open",),
        to_state="withdrawn",
    )
    def withdraw(self, step: Step, input: WithdrawInvitation) -> None:
        """Withdraw an open invitation of the own member.

        Who: operator, reviewer or approver of the inviting member, or an admin of the inviting organisation.
        Must hold: invitation_not_found, not_owner, state_wrong.
        Changes: the invitation is withdrawn.
        Event: invitation.withdrawn.
        """
        known = INVITATIONS.load(step.store, input.invitation_id)
        _save(step, invitation.withdraw(known, step.trace(input.reason)), "invitation.withdrawn")

    @read("invitation:get")
    def get(self, store: Store, input: GetInvitation) -> Invitation:
        """One invitation.

        Who: everybody on the channel.
        Must hold: invitation_not_found.
        Changes: nothing.
        Event: none.
        """
        return INVITATIONS.load(store, input.invitation_id)

    @read("invitation:list")
    def list(self, store: Store, input: Listing) -> InvitationPage:
        """Invitations by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(INVITATIONS, store, [], input)
        return InvitationPage(items=items, next=following)


def _save(step: Step, record: Invitation, event: str) -> None:
    INVITATIONS.save(step.store, record, record.invitation_id)
    step.change("invitation", record.invitation_id, event, record)
