"""Members: founding of the network, registration by invitation, review, real name."""

from datetime import date
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from chaincode.contract.page import HISTORY_MAX, Listing, records
from chaincode.contract.registry import TRADE
from chaincode.contract.step import Step, read, write
from chaincode.domain import calendar, certificate, invitation, member, policy
from chaincode.domain.account import OpenPosting
from chaincode.domain.business_date import CURRENT, BusinessDate
from chaincode.domain.calendar import Calendar, CalendarDays
from chaincode.domain.certificate import Certificate, Use
from chaincode.domain.error import DomainError
from chaincode.domain.member import LoginBatch, Member, Profile
from chaincode.domain.policy import CurrencyPolicy, DatePolicy, PolicyValue
from chaincode.domain.record import Digest, Input, MemberId, Name, NewId, Reason, UserId
from chaincode.domain.role import ADMIN, BANK_MSP, PRESENTER, SERVICE, organisation_member
from chaincode.ledger import business_date as business_dates
from chaincode.ledger import certificate as certificates
from chaincode.ledger import member as members
from chaincode.ledger.business_date import BUSINESS_DATES
from chaincode.ledger.calendar import CALENDARS, year_days
from chaincode.ledger.certificate import CERTIFICATES
from chaincode.ledger.invitation import INVITATIONS
from chaincode.ledger.member import CREDIT_CODES, LOGIN_BATCHES, MEMBERS
from chaincode.ledger.policy import POLICIES
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract

CODE_FIELD: Final = "invitation_code"
"""Field of the transient map that carries the invitation code; it never reaches the ledger."""

MsgMspId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{1,32}MSP$", description="MSP id of an organisation")]
RoleList = Annotated[tuple[str, ...], Meta(max_length=12, description="Roles")]
CreditCode = Annotated[str, Meta(min_length=18, max_length=18, description="Unified social credit code")]


class FoundingOrganisation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the organisations that keep the ledger."""

    member_id: MemberId
    msp_id: MsgMspId
    company_name: Name
    credit_code: CreditCode
    user_id: UserId


class FoundingPerson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A first person of a founding organisation, by the fingerprint of its key."""

    fingerprint: Digest
    member_id: MemberId
    user_id: UserId
    roles: RoleList
    use: Use


class FoundingCalendar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A first calendar year."""

    year: Annotated[int, Meta(ge=2000, le=2999, description="Year")]
    days: CalendarDays


class FoundMember(Input, frozen=True, kw_only=True):
    """Argument of ``member:found``."""

    organisations: Annotated[tuple[FoundingOrganisation, ...], Meta(min_length=1, max_length=16)]
    people: Annotated[tuple[FoundingPerson, ...], Meta(max_length=200)]
    policies: Annotated[tuple[PolicyValue, ...], Meta(max_length=32)]
    calendars: Annotated[tuple[FoundingCalendar, ...], Meta(min_length=1, max_length=5)]
    first_date: date
    simulated_days: bool


class RegisterMember(Input, frozen=True, kw_only=True):
    """Argument of ``member:register``; the invitation code comes in the transient field ``invitation_code``."""

    member_id: MemberId
    user_id: UserId
    kind: member.CompanyKind
    company_name: Name
    credit_code: CreditCode
    profile_digest: Digest


class ChangeMember(Input, frozen=True, kw_only=True):
    """Argument of ``member:change``."""

    member_id: MemberId
    kind: member.CompanyKind
    company_name: Name
    credit_code: CreditCode
    profile_digest: Digest


class ApproveMember(Input, frozen=True, kw_only=True):
    """Argument of ``member:approve``."""

    member_id: MemberId
    roles: RoleList


class ReasonedMember(Input, frozen=True, kw_only=True):
    """Argument of a step that names a member and says why."""

    member_id: MemberId
    reason: Reason


class NamedMember(Input, frozen=True, kw_only=True):
    """Argument of a step that names a member."""

    member_id: MemberId


class ListMember(Input, frozen=True, kw_only=True):
    """Argument of ``member:propose_listing``."""

    member_id: MemberId
    kind: member.ListKind
    reason: Reason
    expires_on: date


class RecordLogins(Input, frozen=True, kw_only=True):
    """Argument of ``member:record_logins``: how many, and the SHA-256 of their canonical records."""

    batch_id: NewId
    count: Annotated[int, Meta(ge=1, le=100_000, description="Log-ins in the batch")]
    digest: Digest


class RealNameMember(Input, frozen=True, kw_only=True):
    """Argument of ``member:real_name``; member, person, roles and use come from the certificate."""

    company_name: Name
    credit_code: CreditCode


class GetMember(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``member:get``."""

    member_id: MemberId


class MemberPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of members by id."""

    items: tuple[Member, ...]
    next: str | None


class MemberVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One recorded version of a member."""

    transaction_id: str
    recorded_at: str
    member: Member


class MemberHistory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Versions of a member, newest first."""

    items: tuple[MemberVersion, ...]


class MemberContract(Contract, name="member"):
    """Transactions of the word member."""

    @write("member:found", TRADE, roles=(ADMIN,), event="member.founded", to_state="real_named", is_founding=True)
    def found(self, step: Step, input: FoundMember) -> None:
        """Found the network: its organisations, first people, policies, calendars and business date.

        Who: an admin of one of the organisations, once.
        Must hold: network_founded, organisation_invalid, credit_code_invalid, company_name_invalid, role_unknown,
        member_not_found, policy_name_unknown, policy_value_invalid, policy_missing, calendar_day_invalid,
        calendar_year_missing, date_not_next.
        Changes: members real_named, certificates bound, policies and calendars recorded, business date set, accounts
        opened.
        Event: member.founded.
        """
        if BUSINESS_DATES.find(step.store, CURRENT) is not None:
            raise DomainError("network_founded")
        _check_founding(input)
        step.dated = BusinessDate(
            date=input.first_date,
            previous_date=None,
            simulated_days=input.simulated_days,
            lag_days_max=next(value.lag_days_max for value in input.policies if isinstance(value, DatePolicy)),
        )
        _found_organisations(step, input)
        for value in input.policies:
            found = policy.found(value, policy.name_of(value), input.first_date)
            POLICIES.save(step.store, found, found.name)
            step.change("policy", found.name, "policy.recorded", found)
        for year in input.calendars:
            recorded = Calendar(year=year.year, state="recorded", days=year.days, proposal=None)
            CALENDARS.save(step.store, recorded, str(year.year))
            step.change("calendar", str(year.year), "calendar.recorded", recorded)
        business_dates.save(step.store, step.dated)
        step.change("business_date", CURRENT, "business_date.set", step.dated)
        if calendar.roll(input.first_date, year_days(step.store)) != input.first_date:
            following = calendar.roll(input.first_date, year_days(step.store))
            raise DomainError("date_not_next", next=following.isoformat(), date=input.first_date.isoformat())

    @write(
        "member:register",
        TRADE,
        roles=(SERVICE,),
        event="member.registered",
        to_state="registered",
        private=(CODE_FIELD,),
    )
    def register(self, step: Step, input: RegisterMember) -> None:
        """Register a company with an invitation code.

        Who: the service certificate of the organisation that invited.
        Must hold: credit_code_invalid, company_name_invalid, invitation_code_missing, member_exists,
        invitation_not_found, not_sponsor, state_wrong, invitation_expired, credit_code_registered.
        Changes: the member is registered, the invitation used.
        Event: member.registered, invitation.used.
        """
        profile = member.check_profile(_profile(input))
        code = step.tx.transient.get(CODE_FIELD, b"").decode("ascii", "replace")
        if not code:
            raise DomainError("invitation_code_missing", field=CODE_FIELD)
        MEMBERS.check_new(step.store, input.member_id)
        invited = INVITATIONS.load(step.store, invitation.id_of(code))
        if invited.sponsor != step.actor.msp_id:
            raise DomainError("not_sponsor", member=invited.inviter_id, organisation=invited.sponsor)
        used = invitation.use(invited, input.member_id, step.today, step.trace())
        _take_credit_code(step, profile.credit_code)
        registered = member.register(
            input.member_id, input.user_id, profile, step.actor.msp_id, invited.invitation_id, step.trace()
        )
        _save(step, registered, "member.registered")
        INVITATIONS.save(step.store, used, used.invitation_id)
        step.change("invitation", used.invitation_id, "invitation.used", used)

    @write(
        "member:change",
        TRADE,
        roles=(SERVICE,),
        event="member.changed",
        from_states=("returned",),
        to_state="registered",
    )
    def change(self, step: Step, input: ChangeMember) -> None:
        """Correct a registration that was returned.

        Who: the service certificate of the sponsor organisation.
        Must hold: credit_code_invalid, company_name_invalid, member_not_found, not_sponsor, state_wrong,
        credit_code_registered.
        Changes: the member has the new profile and is registered again.
        Event: member.changed.
        """
        profile = member.check_profile(_profile(input))
        known = MEMBERS.load(step.store, input.member_id)
        _check_sponsor(step, known)
        changed = member.change(known, profile, step.trace())
        if profile.credit_code != known.credit_code:
            _take_credit_code(step, profile.credit_code)
            CREDIT_CODES.drop(step.store, known.credit_code)
        _save(step, changed, "member.changed")

    @write(
        "member:approve",
        TRADE,
        roles=(ADMIN,),
        event="member.approved",
        from_states=("registered",),
        to_state="approved",
    )
    def approve(self, step: Step, input: ApproveMember) -> None:
        """Approve a registration and grant the roles that the member's people may hold.

        Who: an admin of any organisation.
        Must hold: role_unknown, member_not_found, state_wrong.
        Changes: the member is approved and has its roles.
        Event: member.approved.
        """
        roles = member.check_roles(input.roles)
        known = MEMBERS.load(step.store, input.member_id)
        _save(step, member.approve(known, roles, step.trace()), "member.approved")

    @write(
        "member:send_back",
        TRADE,
        roles=(ADMIN,),
        event="member.returned",
        from_states=("registered",),
        to_state="returned",
    )
    def send_back(self, step: Step, input: ReasonedMember) -> None:
        """Return a registration with a reason.

        Who: an admin of any organisation.
        Must hold: member_not_found, state_wrong.
        Changes: the member is returned.
        Event: member.returned.
        """
        known = MEMBERS.load(step.store, input.member_id)
        _save(step, member.send_back(known, step.trace(input.reason)), "member.returned")

    @write(
        "member:real_name",
        TRADE,
        roles=(PRESENTER,),
        event="member.presented",
        from_states=("approved",),
        to_state="presented",
    )
    def real_name(self, step: Step, input: RealNameMember) -> None:
        """State company name and credit code under the first certificate, which is presented by this.

        Who: the owner of a certificate of the sponsor's authority with the attributes member_id, user_id, roles and
        use.
        Must hold: certificate_exists, member_not_found, company_differs (person), company_differs (organisation),
        role_unknown, role_not_granted, state_wrong, company_differs (company name), company_differs (credit code).
        Changes: the member is presented, its certificate too.
        Event: member.presented, certificate.presented.
        """
        CERTIFICATES.check_new(step.store, step.tx.creator.public_key_fingerprint)
        known = MEMBERS.load(step.store, step.actor.member_id)
        if step.actor.user_id != known.user_id:
            raise DomainError("company_differs", what="person", member=known.member_id)
        shown = present(step, known)
        named = member.real_name(known, input.company_name, input.credit_code, step.trace())
        _save(step, named, "member.presented")
        certificates.create(step.store, shown)
        step.change("certificate", shown.fingerprint, "certificate.presented", shown)

    @write(
        "member:grant_roles",
        TRADE,
        roles=(ADMIN,),
        event="member.roles_granted",
        from_states=("approved", "presented", "real_named"),
    )
    def grant_roles(self, step: Step, input: ApproveMember) -> None:
        """Set the roles that a member's people may hold; certificates that are bound keep theirs.

        Who: an admin of any organisation.
        Must hold: role_unknown, member_not_found, state_wrong.
        Changes: the roles of the member.
        Event: member.roles_granted.
        """
        roles = member.check_roles(input.roles)
        known = MEMBERS.load(step.store, input.member_id)
        _save(step, member.grant_roles(known, roles, step.trace()), "member.roles_granted")

    @write(
        "member:suspend",
        TRADE,
        roles=(ADMIN,),
        event="member.suspended",
        from_states=("real_named",),
        to_state="suspended",
    )
    def suspend(self, step: Step, input: ReasonedMember) -> None:
        """Stop a member; its history stays readable.

        Who: an admin of any organisation.
        Must hold: member_not_found, state_wrong.
        Changes: the member is suspended and its people cannot act.
        Event: member.suspended.
        """
        known = MEMBERS.load(step.store, input.member_id)
        _save(step, member.suspend(known, step.trace(input.reason)), "member.suspended")

    @write(
        "member:resume",
        TRADE,
        roles=(ADMIN,),
        event="member.resumed",
        from_states=("suspended",),
        to_state="real_named",
    )
    def resume(self, step: Step, input: ReasonedMember) -> None:
        """Let a suspended member act again.

        Who: another admin than the one who suspended it.
        Must hold: member_not_found, state_wrong, same_person.
        Changes: the member is real-named again.
        Event: member.resumed.
        """
        known = MEMBERS.load(step.store, input.member_id)
        _save(step, member.resume(known, step.trace(input.reason)), "member.resumed")

    @write("member:allow_issuance", TRADE, roles=("final_officer",), event="member.issuance_allowed", moves_value=True)
    def allow_issuance(self, step: Step, input: ReasonedMember) -> None:
        """Let a member issue again after it paid what was overdue.

        Who: final officer of the clearing bank.
        Must hold: member_not_found, bank_identity_required, issuance_not_stopped.
        Changes: the member may issue.
        Event: member.issuance_allowed.
        """
        known = MEMBERS.load(step.store, input.member_id)
        if step.actor.msp_id != BANK_MSP:
            raise DomainError("bank_identity_required")
        _save(step, member.allow_issuance(known, step.trace(input.reason)), "member.issuance_allowed")

    @write("member:propose_listing", TRADE, roles=(ADMIN,), event="member.listing_proposed")
    def propose_listing(self, step: Step, input: ListMember) -> None:
        """Propose to put a member on the white or black list, or to take it off (kind none).

        Who: an admin of any organisation.
        Must hold: member_not_found, expiry_passed.
        Changes: the member has a proposed entry; the list in force stays.
        Event: member.listing_proposed.
        """
        known = MEMBERS.load(step.store, input.member_id)
        entry = member.Listing(kind=input.kind, reason=input.reason, expires_on=input.expires_on)
        proposed = member.propose_listing(known, entry, step.actor.msp_id, step.today, step.trace(input.reason))
        _save(step, proposed, "member.listing_proposed")

    @write("member:approve_listing", TRADE, roles=(ADMIN,), event="member.listed")
    def approve_listing(self, step: Step, input: NamedMember) -> None:
        """Put the proposed entry of the white or black list in force.

        Who: an admin of another organisation than the proposer's.
        Must hold: member_not_found, proposal_missing, same_person, same_organisation.
        Changes: the member's list entry; a blacklisted member can do nothing but repay.
        Event: member.listed.
        """
        known = MEMBERS.load(step.store, input.member_id)
        _save(step, member.approve_listing(known, step.actor.msp_id, step.trace()), "member.listed")

    @write("member:record_logins", TRADE, roles=(SERVICE,), event="login_batch.recorded")
    def record_logins(self, step: Step, input: RecordLogins) -> None:
        """Record a batch of certificate log-ins by count and digest; who logged in stays off the ledger.

        Who: the service certificate of the organisation whose web app saw them.
        Must hold: login_batch_exists.
        Changes: the batch is recorded.
        Event: login_batch.recorded.
        """
        LOGIN_BATCHES.check_new(step.store, input.batch_id)
        batch = LoginBatch(
            batch_id=input.batch_id,
            count=input.count,
            digest=input.digest,
            state="recorded",
            changed=step.trace(),
        )
        LOGIN_BATCHES.save(step.store, batch, batch.batch_id)
        step.change("login_batch", batch.batch_id, "login_batch.recorded", batch)

    @read("member:get")
    def get(self, store: Store, input: GetMember) -> Member:
        """One member.

        Who: everybody on the channel.
        Must hold: member_not_found.
        Changes: nothing.
        Event: none.
        """
        return MEMBERS.load(store, input.member_id)

    @read("member:list")
    def list(self, store: Store, input: Listing) -> MemberPage:
        """Members by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(MEMBERS, store, [], input)
        return MemberPage(items=items, next=following)

    @read("member:history")
    def history(self, store: Store, input: GetMember) -> MemberHistory:
        """Versions of a member, newest first.

        Who: everybody on the channel.
        Must hold: member_not_found.
        Changes: nothing.
        Event: none.
        """
        MEMBERS.load(store, input.member_id)
        entries = store.history(store.key("member", [input.member_id]), HISTORY_MAX)
        return MemberHistory(
            items=tuple(
                MemberVersion(
                    transaction_id=entry.transaction_id,
                    recorded_at=entry.recorded_at,
                    member=MEMBERS.decode(entry.value),
                )
                for entry in entries
            )
        )


def present(step: Step, known: Member) -> Certificate:
    """The creator's certificate as presented for a member.

    Raises ``company_differs`` for another sponsor, ``role_unknown``, ``role_not_granted``, then ``input_malformed`` for
    an unknown use.
    """
    attributes = step.tx.creator.attributes
    if step.actor.msp_id != known.sponsor:
        raise DomainError("company_differs", what="organisation", member=known.member_id)
    roles = member.check_roles(tuple(attributes["roles"].split(",")))
    for role in roles:
        if role not in known.roles:
            raise DomainError("role_not_granted", role=role, member=known.member_id)
    use: Use = "payment" if attributes["use"] == "payment" else "work"
    return certificate.present(
        step.tx.creator.public_key_fingerprint,
        known.member_id,
        step.actor.user_id,
        roles,
        use,
        step.actor.msp_id,
        step.trace(),
    )


def _profile(input: RegisterMember | ChangeMember) -> Profile:
    return Profile(
        kind=input.kind,
        company_name=input.company_name,
        credit_code=input.credit_code,
        profile_digest=input.profile_digest,
    )


def _take_credit_code(step: Step, code: str) -> None:
    if CREDIT_CODES.has(step.store, code):
        raise DomainError("credit_code_registered", code=code)
    CREDIT_CODES.put(step.store, code)


def _check_sponsor(step: Step, known: Member) -> None:
    if known.sponsor != step.actor.msp_id:
        raise DomainError("not_sponsor", member=known.member_id, organisation=known.sponsor)


def _save(step: Step, record: Member, event: str) -> None:
    members.save(step.store, record)
    step.change("member", record.member_id, event, record)


def _check_founding(input: FoundMember) -> None:
    """Refuse a founding whose parts do not fit each other."""
    known = [organisation.member_id for organisation in input.organisations]
    for organisation in input.organisations:
        expected = organisation_member(organisation.msp_id)
        if organisation.member_id != expected:
            raise DomainError("organisation_invalid", organisation=organisation.msp_id, member=expected)
        member.check_profile(_founding_profile(organisation))
    for person in input.people:
        member.check_roles(person.roles)
        if person.member_id not in known:
            raise DomainError("member_not_found", id=person.member_id)
    names = [policy.check_value(value, policy.TRADE) for value in input.policies]
    for name in policy.FOUNDING:
        if name not in names:
            raise DomainError("policy_missing", name=name)
    for year in input.calendars:
        calendar.check(year.year, year.days)


def _founding_profile(organisation: FoundingOrganisation) -> Profile:
    return Profile(
        kind="company",
        company_name=organisation.company_name,
        credit_code=organisation.credit_code,
        profile_digest="",
    )


def _found_organisations(step: Step, input: FoundMember) -> None:
    currency = next(value.default for value in input.policies if isinstance(value, CurrencyPolicy))
    for organisation in input.organisations:
        roles = tuple(
            role for person in input.people for role in person.roles if person.member_id == organisation.member_id
        )
        founded = member.found(
            organisation.member_id,
            organisation.company_name,
            organisation.credit_code,
            organisation.msp_id,
            organisation.user_id,
            roles,
            step.trace(),
        )
        _save(step, founded, "member.founded")
        CREDIT_CODES.put(step.store, founded.credit_code)
        step.post(OpenPosting(member_id=founded.member_id, currency=currency))
    sponsors = {organisation.member_id: organisation.msp_id for organisation in input.organisations}
    for person in input.people:
        bound = Certificate(
            fingerprint=person.fingerprint,
            state="bound",
            member_id=person.member_id,
            user_id=person.user_id,
            roles=member.check_roles(person.roles),
            use=person.use,
            msp_id=sponsors[person.member_id],
            changed=step.trace(),
        )
        certificates.create(step.store, bound)
        step.change("certificate", bound.fingerprint, "certificate.bound", bound)
