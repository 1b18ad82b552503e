"""Who acts: from the creator's certificate to its record, member, roles, standing. Never an argument."""

from datetime import date
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from chaincode.domain.certificate import Certificate
from chaincode.domain.error import DomainError
from chaincode.domain.member import Member
from chaincode.domain.policy import PermissionPolicy
from chaincode.domain.record import Trace
from chaincode.domain.role import ADMIN, PRESENTER, SERVICE, ascii_upper, organisation_member
from chaincode.shim.contract import Transaction

REPAY: Final = "repay"
"""The one action that stays open to a blacklisted member."""

_TAG_LENGTH: Final = 16
"""Hex digits of the fingerprint that name an admin or service certificate without a record."""


class Standing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member may do today: its state, black list, grade in force, and the actions that the grade allows."""

    member_id: str
    company_name: str
    state: str
    is_blacklisted: bool
    grade: str
    actions: tuple[str, ...]
    payment_transactions: tuple[str, ...]


class Actor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The acting person; ``use`` is empty for a certificate without a record."""

    member_id: str
    user_id: str
    msp_id: str
    roles: tuple[str, ...]
    use: str = ""
    company_name: str = ""

    def trace(self, business_date: date, reason: str) -> Trace:
        """Who and when, for the record that this person changes."""
        return Trace(member_id=self.member_id, user_id=self.user_id, business_date=business_date, reason=reason)


class Registry(Protocol):
    """Where certificates and standing are read: the own state in ``trade``, a call of ``trade`` in ``account``."""

    def certificate(self, fingerprint: str) -> Certificate | None:
        """The record of a key, or None."""

    def standing(self, member_id: str, today: date) -> Standing:
        """What a member may do today."""


def standing_of(member: Member, permission: PermissionPolicy, today: date) -> Standing:
    """What a member may do on a day; without a fresh grade the cautious row holds."""
    fresh = member.grade is not None and today <= member.grade.valid_until
    grade = member.grade.grade if member.grade is not None and fresh else permission.cautious
    return Standing(
        member_id=member.member_id,
        company_name=member.company_name,
        state=member.state,
        is_blacklisted=member.is_blacklisted(today),
        grade=grade,
        actions=permission.grades.get(grade, ()),
        payment_transactions=permission.payment_transactions,
    )


def identify(tx: Transaction, registry: Registry, roles: tuple[str, ...]) -> Actor:
    """The acting person of a transaction that is open to these roles.

    Raises ``certificate_incomplete`` for a presented certificate without its attributes, ``certificate_unknown``,
    ``certificate_not_bound``, then ``certificate_differs`` when certificate and record contradict each other.
    """
    creator = tx.creator
    attributes = creator.attributes
    if roles == (PRESENTER,):
        for name in ("member_id", "user_id", "roles", "use"):
            if not attributes.get(name):
                raise DomainError("certificate_incomplete", attribute=name)
        return Actor(
            member_id=attributes["member_id"], user_id=attributes["user_id"], msp_id=creator.msp_id, roles=(PRESENTER,)
        )
    record = registry.certificate(creator.public_key_fingerprint)
    if record is not None:
        return _from_record(tx, record)
    tag = ascii_upper(creator.public_key_fingerprint[:_TAG_LENGTH])
    member_id = organisation_member(creator.msp_id)
    if ADMIN in creator.organizational_units:
        return Actor(member_id=member_id, user_id=f"U-ADMIN-{tag}", msp_id=creator.msp_id, roles=(ADMIN,))
    if attributes.get("roles") == SERVICE:
        return Actor(member_id=member_id, user_id=f"U-SERVICE-{tag}", msp_id=creator.msp_id, roles=(SERVICE,))
    raise DomainError("certificate_unknown")


def _from_record(tx: Transaction, record: Certificate) -> Actor:
    """The person of a record; attributes of the certificate can only narrow roles and use."""
    if record.state != "bound":
        raise DomainError("certificate_not_bound", state=record.state)
    attributes = tx.creator.attributes
    if tx.creator.msp_id != record.msp_id:
        raise DomainError("certificate_differs", what="organisations")
    if attributes.get("member_id", record.member_id) != record.member_id:
        raise DomainError("certificate_differs", what="members")
    if attributes.get("user_id", record.user_id) != record.user_id:
        raise DomainError("certificate_differs", what="people")
    roles = record.roles
    if "roles" in attributes:
        named = attributes["roles"].split(",")
        roles = tuple(role for role in roles if role in named)
    use = "work" if attributes.get("use") == "work" else record.use
    return Actor(member_id=record.member_id, user_id=record.user_id, msp_id=record.msp_id, roles=roles, use=use)


def permit(
    actor: Actor,
    registry: Registry,
    today: date,
    transaction: str,
    roles: tuple[str, ...],
    action: str | None,
    moves_value: bool,
) -> Actor:
    """The person with its company's name, unless person, key or member may not take this step.

    Raises ``role_missing``, ``member_not_active``, ``payment_certificate_required``, ``blacklisted``, then
    ``grade_too_low``. Admins, service and presented certificates have no standing of a member.
    """
    if not any(role in roles for role in actor.roles):
        raise DomainError("role_missing", roles=" or ".join(roles))
    if not actor.use:
        return actor
    standing = registry.standing(actor.member_id, today)
    if standing.state != "real_named":
        raise DomainError("member_not_active", member=actor.member_id, state=standing.state)
    if (moves_value or transaction in standing.payment_transactions) and actor.use != "payment":
        raise DomainError("payment_certificate_required")
    if standing.is_blacklisted and action != REPAY:
        raise DomainError("blacklisted", member=actor.member_id)
    if action is not None and action not in standing.actions:
        raise DomainError("grade_too_low", grade=standing.grade, action=action)
    return replace(actor, company_name=standing.company_name)
