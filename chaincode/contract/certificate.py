"""Certificates: presenting, binding, stopping. A certificate acts for its member only once it is bound."""

import msgspec

from chaincode.contract.member import present
from chaincode.contract.page import Listing, indexed
from chaincode.contract.registry import TRADE, CertificateAnswer, TradeRegistry
from chaincode.contract.step import Step, read, write
from chaincode.domain import certificate, member
from chaincode.domain.account import OpenPosting
from chaincode.domain.certificate import Certificate
from chaincode.domain.policy import CurrencyPolicy
from chaincode.domain.record import Digest, Input, MemberId, Reason, check_state
from chaincode.domain.role import ADMIN, PRESENTER
from chaincode.ledger import business_date as business_dates
from chaincode.ledger import certificate as certificates
from chaincode.ledger import member as members
from chaincode.ledger.certificate import CERTIFICATES, MEMBER_CERTIFICATES
from chaincode.ledger.member import MEMBERS
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract


class PresentCertificate(Input, frozen=True, kw_only=True):
    """Argument of ``certificate:present``; everything else comes from the certificate."""


class BindCertificate(Input, frozen=True, kw_only=True):
    """Argument of ``certificate:bind``."""

    fingerprint: Digest


class ReasonedCertificate(Input, frozen=True, kw_only=True):
    """Argument of a step that names a certificate and says why."""

    fingerprint: Digest
    reason: Reason


class GetCertificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``certificate:get``."""

    fingerprint: Digest


class ListCertificates(Listing, frozen=True, kw_only=True):
    """Argument of ``certificate:list``."""

    member_id: MemberId


class CertificatePage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of a member's certificates by fingerprint."""

    items: tuple[Certificate, ...]
    next: str | None


class CertificateContract(Contract, name="certificate"):
    """Transactions of the word certificate."""

    @write("certificate:present", TRADE, roles=(PRESENTER,), event="certificate.presented", to_state="presented")
    def present(self, step: Step, input: PresentCertificate) -> None:
        """Present a further or re-issued certificate of a real-named member, signed with its own key.

        Who: the owner of a certificate of the sponsor's authority with the attributes member_id, user_id, roles and
        use.
        Must hold: certificate_exists, member_not_found, company_differs (organisation), role_unknown, role_not_granted,
        state_wrong.
        Changes: the certificate is presented.
        Event: certificate.presented.
        """
        CERTIFICATES.check_new(step.store, step.tx.creator.public_key_fingerprint)
        known = MEMBERS.load(step.store, step.actor.member_id)
        shown = present(step, known)
        check_state(known.member_id, known.state, "present", ("presented", "real_named"))
        certificates.create(step.store, shown)
        step.change("certificate", shown.fingerprint, "certificate.presented", shown)

    @write(
        "certificate:bind",
        TRADE,
        roles=(ADMIN,),
        event="certificate.bound",
        from_states=("presented",),
        to_state="bound",
    )
    def bind(self, step: Step, input: BindCertificate) -> None:
        """Bind a presented certificate; the first one makes the member real-named and opens its account.

        Who: an admin of another organisation than the one that issued the certificate.
        Must hold: certificate_not_found, same_organisation, state_wrong.
        Changes: the certificate is bound; a presented member is real-named and has an account in the default currency.
        Event: certificate.bound, member.real_named, account.opened.
        """
        known = CERTIFICATES.load(step.store, input.fingerprint)
        bound = certificate.bind(known, step.actor.msp_id, step.trace())
        _save(step, bound, "certificate.bound")
        owner = MEMBERS.load(step.store, bound.member_id)
        if owner.state == "presented":
            named = member.confirm_name(owner, step.trace())
            members.save(step.store, named)
            step.change("member", named.member_id, "member.real_named", named)
            currency = step.policy("currency", CurrencyPolicy).default
            step.post(OpenPosting(member_id=named.member_id, currency=currency))

    @write(
        "certificate:suspend",
        TRADE,
        roles=(ADMIN,),
        event="certificate.suspended",
        from_states=("bound",),
        to_state="suspended",
    )
    def suspend(self, step: Step, input: ReasonedCertificate) -> None:
        """Stop a certificate at once.

        Who: an admin of any organisation.
        Must hold: certificate_not_found, state_wrong.
        Changes: the certificate is suspended and cannot act.
        Event: certificate.suspended.
        """
        known = CERTIFICATES.load(step.store, input.fingerprint)
        _save(step, certificate.suspend(known, step.trace(input.reason)), "certificate.suspended")

    @write(
        "certificate:resume",
        TRADE,
        roles=(ADMIN,),
        event="certificate.resumed",
        from_states=("suspended",),
        to_state="bound",
    )
    def resume(self, step: Step, input: ReasonedCertificate) -> None:
        """Let a suspended certificate act again.

        Who: another admin than the one who suspended it.
        Must hold: certificate_not_found, state_wrong, same_person.
        Changes: the certificate is bound again.
        Event: certificate.resumed.
        """
        known = CERTIFICATES.load(step.store, input.fingerprint)
        _save(step, certificate.resume(known, step.trace(input.reason)), "certificate.resumed")

    @write(
        "certificate:revoke",
        TRADE,
        roles=(ADMIN,),
        event="certificate.revoked",
        from_states=("presented", "bound", "suspended"),
        to_state="revoked",
    )
    def revoke(self, step: Step, input: ReasonedCertificate) -> None:
        """End a certificate for good; a revoked key never acts again.

        Who: an admin of any organisation.
        Must hold: certificate_not_found, state_wrong.
        Changes: the certificate is revoked.
        Event: certificate.revoked.
        """
        known = CERTIFICATES.load(step.store, input.fingerprint)
        _save(step, certificate.revoke(known, step.trace(input.reason)), "certificate.revoked")

    @read("certificate:get")
    def get(self, store: Store, input: GetCertificate) -> CertificateAnswer:
        """One certificate with the standing of its member; empty for an unknown key.

        Who: everybody on the channel; ``account`` reads caller and standing here.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        known = CERTIFICATES.find(store, input.fingerprint)
        if known is None:
            return CertificateAnswer(certificate=None, standing=None)
        today = business_dates.current(store).date
        return CertificateAnswer(certificate=known, standing=TradeRegistry(store).standing(known.member_id, today))

    @read("certificate:list")
    def list(self, store: Store, input: ListCertificates) -> CertificatePage:
        """Certificates of a member by fingerprint.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = indexed(MEMBER_CERTIFICATES, CERTIFICATES, store, [input.member_id], input)
        return CertificatePage(items=items, next=following)


def _save(step: Step, record: Certificate, event: str) -> None:
    certificates.save(step.store, record)
    step.change("certificate", record.fingerprint, event, record)
