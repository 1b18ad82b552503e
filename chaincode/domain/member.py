"""A member: a company, sole trader or founding organisation, from registration to real name, with its standing."""

from datetime import date
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from chaincode.domain import company_name, credit_code
from chaincode.domain.error import DomainError
from chaincode.domain.record import Proposal, Record, Trace, check_state
from chaincode.domain.role import ROLES

STATES: Final = ("registered", "returned", "approved", "presented", "real_named", "suspended")

Kind = Literal["organisation", "company", "sole_trader"]
CompanyKind = Literal["company", "sole_trader"]
ListKind = Literal["white", "black", "none"]


class Listing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of the white or black list; ``kind`` none takes a member off the list."""

    kind: ListKind
    reason: str
    expires_on: date


class Grade(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The credit grade in force, copied from the rating so that each step reads one record."""

    grade: str
    rating_id: str
    valid_until: date


class Member(Record, frozen=True, kw_only=True):
    """One member. ``roles`` are those that its people may hold; ``user_id`` is the first person."""

    member_id: str
    kind: Kind
    state: str
    company_name: str
    credit_code: str
    sponsor: str
    user_id: str
    roles: tuple[str, ...]
    invitation_id: str | None
    profile_digest: str
    listing: Listing | None
    listing_proposal: Proposal[Listing] | None
    grade: Grade | None
    issuance_stopped: bool
    changed: Trace

    def is_blacklisted(self, today: date) -> bool:
        """Whether a black list entry is in force on a day."""
        return self.listing is not None and self.listing.kind == "black" and today <= self.listing.expires_on

    def check_real_named(self) -> None:
        """Refuse a counterparty that is not real-named. Raises ``CONFLICT member_not_real_named``."""
        if self.state != "real_named":
            raise DomainError("member_not_real_named", id=self.member_id, state=self.state)


class LoginBatch(Record, frozen=True, kw_only=True):
    """A batch of certificate log-ins, known by count and digest only."""

    batch_id: str
    count: int
    digest: str
    state: str
    changed: Trace


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a company states when it registers. ``profile_digest`` covers what stays off the ledger."""

    kind: CompanyKind
    company_name: str
    credit_code: str
    profile_digest: str


def check_roles(roles: tuple[str, ...]) -> tuple[str, ...]:
    """The roles in the order of the specification, once each. Raises ``INVALID role_unknown``."""
    for role in roles:
        if role not in ROLES:
            raise DomainError("role_unknown", role=role)
    return tuple(role for role in ROLES if role in roles)


def check_profile(profile: Profile) -> Profile:
    """The profile with its company name in the one spelling.

    Raises ``INVALID credit_code_invalid``, then ``INVALID company_name_invalid``.
    """
    credit_code.check(profile.credit_code)
    return replace(profile, company_name=company_name.normalise(profile.company_name))


def found(
    member_id: str, name: str, code: str, sponsor: str, user_id: str, roles: tuple[str, ...], trace: Trace
) -> Member:
    """A founding organisation: real-named from the start."""
    return Member(
        member_id=member_id,
        kind="organisation",
        state="real_named",
        company_name=company_name.normalise(name),
        credit_code=credit_code.check(code),
        sponsor=sponsor,
        user_id=user_id,
        roles=check_roles(roles),
        invitation_id=None,
        profile_digest="",
        listing=None,
        listing_proposal=None,
        grade=None,
        issuance_stopped=False,
        changed=trace,
    )


def register(member_id: str, user_id: str, profile: Profile, sponsor: str, invitation_id: str, trace: Trace) -> Member:
    """A registered company that waits for review; the profile has been checked."""
    return Member(
        member_id=member_id,
        kind=profile.kind,
        state="registered",
        company_name=profile.company_name,
        credit_code=profile.credit_code,
        sponsor=sponsor,
        user_id=user_id,
        roles=(),
        invitation_id=invitation_id,
        profile_digest=profile.profile_digest,
        listing=None,
        listing_proposal=None,
        grade=None,
        issuance_stopped=False,
        changed=trace,
    )


def change(member: Member, profile: Profile, trace: Trace) -> Member:
    """Correct a returned registration, which is then reviewed again. Raises ``state_wrong``."""
    check_state(member.member_id, member.state, "change", ("returned",))
    return replace(
        member,
        state="registered",
        kind=profile.kind,
        company_name=profile.company_name,
        credit_code=profile.credit_code,
        profile_digest=profile.profile_digest,
        changed=trace,
    )


def approve(member: Member, roles: tuple[str, ...], trace: Trace) -> Member:
    """Accept a registration and grant the roles that its people may hold. Raises ``state_wrong``."""
    check_state(member.member_id, member.state, "approve", ("registered",))
    return replace(member, state="approved", roles=roles, changed=trace)


def send_back(member: Member, trace: Trace) -> Member:
    """Return a registration with a reason. Raises ``state_wrong``."""
    check_state(member.member_id, member.state, "send_back", ("registered",))
    return replace(member, state="returned", changed=trace)


def real_name(member: Member, name: str, code: str, trace: Trace) -> Member:
    """State name and credit code again, under the certificate; they must be those of the registration.

    Raises ``state_wrong``, then ``company_differs``.
    """
    check_state(member.member_id, member.state, "real_name", ("approved",))
    if company_name.normalise(name) != member.company_name:
        raise DomainError("company_differs", what="company name", member=member.member_id)
    if code != member.credit_code:
        raise DomainError("company_differs", what="credit code", member=member.member_id)
    return replace(member, state="presented", changed=trace)


def confirm_name(member: Member, trace: Trace) -> Member:
    """Make a presented member real-named: its certificate has been bound."""
    return replace(member, state="real_named", changed=trace) if member.state == "presented" else member


def grant_roles(member: Member, roles: tuple[str, ...], trace: Trace) -> Member:
    """Set the roles that the member's people may hold. Raises ``state_wrong``."""
    check_state(member.member_id, member.state, "grant_roles", ("approved", "presented", "real_named"))
    return replace(member, roles=roles, changed=trace)


def stop_issuance(member: Member, trace: Trace) -> Member:
    """Stop a member that failed to pay in full from issuing."""
    return replace(member, issuance_stopped=True, changed=trace)


def allow_issuance(member: Member, trace: Trace) -> Member:
    """Let a member issue again. Raises ``CONFLICT issuance_not_stopped``."""
    if not member.issuance_stopped:
        raise DomainError("issuance_not_stopped", member=member.member_id)
    return replace(member, issuance_stopped=False, changed=trace)


def rate(member: Member, grade: Grade, trace: Trace) -> Member:
    """Copy the grade in force into the member."""
    return replace(member, grade=grade, changed=trace)


def suspend(member: Member, trace: Trace) -> Member:
    """Stop a member; its history stays readable. Raises ``state_wrong``."""
    check_state(member.member_id, member.state, "suspend", ("real_named",))
    return replace(member, state="suspended", changed=trace)


def resume(member: Member, trace: Trace) -> Member:
    """Let a suspended member act again, by another person. Raises ``state_wrong``, then ``same_person``."""
    check_state(member.member_id, member.state, "resume", ("suspended",))
    if member.changed.user_id == trace.user_id:
        raise DomainError("same_person", user=trace.user_id)
    return replace(member, state="real_named", changed=trace)


def propose_listing(member: Member, listing: Listing, msp_id: str, today: date, trace: Trace) -> Member:
    """Propose an entry of the white or black list. Raises ``expiry_passed``."""
    if listing.expires_on <= today:
        raise DomainError("expiry_passed", date=listing.expires_on.isoformat(), today=today.isoformat())
    proposal = Proposal(value=listing, from_date=today, user_id=trace.user_id, msp_id=msp_id)
    return replace(member, listing_proposal=proposal, changed=trace)


def approve_listing(member: Member, msp_id: str, trace: Trace) -> Member:
    """Put the proposed entry in force. Raises ``proposal_missing``, ``same_person``, then ``same_organisation``."""
    if member.listing_proposal is None:
        raise DomainError("proposal_missing", id=member.member_id)
    member.listing_proposal.check_other(trace.user_id, msp_id)
    listing = member.listing_proposal.value
    return replace(member, listing=None if listing.kind == "none" else listing, listing_proposal=None, changed=trace)
