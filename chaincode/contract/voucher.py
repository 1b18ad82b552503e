"""Vouchers: registered and issued by three people of the issuer, accepted, split and handed on by their holders."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import HISTORY_MAX, Listing
from chaincode.contract.registry import TRADE
from chaincode.contract.step import RowNote, Step, read, write
from chaincode.domain import account, invoice, lien, quota, voucher
from chaincode.domain.account import Folds, FreePosting, Payee, TransferPosting
from chaincode.domain.error import DomainError
from chaincode.domain.invoice import InvoiceUse
from chaincode.domain.policy import CurrencyPolicy, SettlementPolicy, VoucherPolicy
from chaincode.domain.quota import SLICES_PER_ISSUE_MAX, SliceUse
from chaincode.domain.record import Amount, Currency, Digest, Id, Input, Label, MemberId, NewId, Reason
from chaincode.domain.voucher import Draft, Letter, Voucher
from chaincode.ledger import business_date as business_dates
from chaincode.ledger import invoice as invoices
from chaincode.ledger import lien as liens
from chaincode.ledger import quota as quotas
from chaincode.ledger import voucher as vouchers
from chaincode.ledger.calendar import year_days
from chaincode.ledger.invoice import INVOICES
from chaincode.ledger.lien import LIENS
from chaincode.ledger.member import MEMBERS
from chaincode.ledger.quota import QUOTAS
from chaincode.ledger.store import Store
from chaincode.ledger.voucher import PARTIES, VOUCHERS
from chaincode.shim.contract import Contract

ROWS_MAX = 50
"""Rows of one batch: the size of the Excel template."""

TRACE_MAX = 100
"""Ancestors that a history answers; a longer chain goes on from the last one."""

InvoiceUses = Annotated[tuple[InvoiceUse, ...], Meta(max_length=20, description="Invoices behind the voucher")]
Evidence = Annotated[tuple[Digest, ...], Meta(max_length=20, description="Digests of attached files")]
SliceUses = Annotated[tuple[SliceUse, ...], Meta(max_length=SLICES_PER_ISSUE_MAX, description="Slices of quotas")]


class RegisterVoucher(Input, frozen=True, kw_only=True):
    """Argument of ``voucher:register``; without a currency the network's default is taken."""

    voucher_id: NewId
    number: Label
    receiver_id: MemberId
    amount_minor: Amount
    due_date: date
    contract_reference: Label
    invoices: InvoiceUses = ()
    evidence: Evidence = ()
    currency: Currency | None = None


class VoucherRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of a batch, as in ``voucher:register``."""

    voucher_id: NewId
    number: Label
    receiver_id: MemberId
    amount_minor: Amount
    due_date: date
    contract_reference: Label
    invoices: InvoiceUses = ()
    evidence: Evidence = ()
    currency: Currency | None = None


class RegisterVoucherBatch(Input, frozen=True, kw_only=True):
    """Argument of ``voucher:register_batch``."""

    rows: Annotated[tuple[VoucherRow, ...], Meta(min_length=1, max_length=ROWS_MAX)]


class ChangeVoucher(Input, frozen=True, kw_only=True):
    """Argument of ``voucher:change``: the whole draft anew."""

    voucher_id: Id
    number: Label
    receiver_id: MemberId
    amount_minor: Amount
    due_date: date
    contract_reference: Label
    invoices: InvoiceUses = ()
    evidence: Evidence = ()
    currency: Currency | None = None


class NamedVoucher(Input, frozen=True, kw_only=True):
    """Argument of a step that names a voucher."""

    voucher_id: Id


class ReasonedVoucher(Input, frozen=True, kw_only=True):
    """Argument of a step that names a voucher and says why."""

    voucher_id: Id
    reason: Reason


class IssueVoucher(Input, frozen=True, kw_only=True):
    """Argument of ``voucher:issue``: the digests of the letter and the slices of quotas that are used."""

    voucher_id: Id
    unsigned_digest: Digest
    signed_digest: Digest
    slices: SliceUses = ()


class PayPenalty(Input, frozen=True, kw_only=True):
    """Argument of ``voucher:pay_penalty``: the voucher and the issuer's credits to fold first."""

    voucher_id: Id
    folds: Folds = ()


class TransferVoucher(Input, frozen=True, kw_only=True):
    """Argument of ``voucher:transfer``; the part's fields only when less than the whole is transferred.

    The rest of a split gets the id of the part with the ending -R.
    """

    voucher_id: Id
    to_member_id: MemberId
    amount_minor: Amount
    recourse: bool
    part_id: NewId | None = None
    part_number: Label | None = None
    rest_number: Label | None = None


class GetVoucher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``voucher:get`` and ``voucher:history``."""

    voucher_id: Id


class VoucherAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A voucher and the state that people see on the business date (``matured`` is derived)."""

    voucher: Voucher
    state: str


class ListVouchers(Listing, frozen=True, kw_only=True):
    """Argument of ``voucher:list``."""

    member_id: MemberId


class VoucherPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of vouchers to which a member is a party, by root and first unit."""

    items: tuple[VoucherAnswer, ...]
    next: str | None


class VoucherVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One recorded version of a voucher."""

    transaction_id: str
    recorded_at: str
    voucher: Voucher


class VoucherHistory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Versions of a voucher, newest first, and its chain of parents up to the root."""

    items: tuple[VoucherVersion, ...]
    chain: tuple[Voucher, ...]


class VoucherContract(Contract, name="voucher"):
    """Transactions of the word voucher."""

    @write(
        "voucher:register", TRADE, roles=("operator",), event="voucher.registered", action="register", to_state="draft"
    )
    def register(self, step: Step, input: RegisterVoucher) -> None:
        """Register a draft voucher over invoices to a real-named receiver.

        Who: operator of the issuer.
        Must hold: receiver_is_issuer, invoice_repeated, voucher_exists, member_not_found, invoice_not_found,
        invoice_parties_differ, member_not_real_named, currency_unknown, due_date_passed, calendar_year_missing,
        tenor_too_long, invoice_sum_differs, currency_differs, invoice_used_up, lien_exists.
        Changes: the voucher is a draft; its invoices are used and bound to vouchers.
        Event: voucher.registered, invoice.used, lien.taken.
        """
        _register(step, input)

    @write(
        "voucher:register_batch",
        TRADE,
        roles=("operator",),
        event="voucher.registered",
        action="register",
        to_state="draft",
    )
    def register_batch(self, step: Step, input: RegisterVoucherBatch) -> None:
        """Register up to 50 draft vouchers; a row that is refused writes nothing and says why.

        Who: operator of the issuer.
        Must hold: nothing more; each row as in voucher:register, its refusal is the row's answer.
        Changes: as voucher:register for each row that is taken.
        Event: voucher.registered, invoice.used, lien.taken for each row that is taken.
        """
        for row in input.rows:
            mark, changes = step.store.mark(), dict(step.changes)
            try:
                _register(step, row)
            except DomainError as refusal:
                step.store.undo(mark)
                step.changes = changes
                step.rows.append(RowNote(id=row.voucher_id, reason=refusal.reason, sentence=refusal.sentence))
            else:
                step.rows.append(RowNote(id=row.voucher_id, reason="", sentence=""))

    @write(
        "voucher:change",
        TRADE,
        roles=("operator",),
        event="voucher.changed",
        action="register",
        from_states=("draft", "returned"),
        to_state="draft",
    )
    def change(self, step: Step, input: ChangeVoucher) -> None:
        """Write a draft or returned voucher anew.

        Who: operator of the issuer.
        Must hold: receiver_is_issuer, invoice_repeated, voucher_not_found, member_not_found, invoice_not_found,
        not_issuer, invoice_parties_differ, state_wrong, member_not_real_named, currency_unknown, due_date_passed,
        calendar_year_missing, tenor_too_long, invoice_sum_differs, currency_differs, invoice_used_up, lien_exists.
        Changes: the voucher is a draft with the new content; the invoices of the old content are given back.
        Event: voucher.changed, invoice.given_back, invoice.used, lien.freed, lien.taken.
        """
        draft = _draft(step, input)
        voucher.check_draft(draft, step.actor.member_id)
        known = VOUCHERS.load(step.store, input.voucher_id)
        _load_named(step, draft)
        voucher.check_issuer(known, step.trace())
        _check_parties(step, draft)
        voucher.check_change(known, step.trace())
        paid_on = _check_terms(step, draft)
        changed = voucher.change(known, draft, paid_on, step.trace())
        step.change("voucher", changed.voucher_id, "voucher.changed", changed)
        _give_back_invoices(step, known)
        _use_invoices(step, changed)
        vouchers.save(step.store, changed)
        vouchers.add_party(step.store, changed.receiver_id, changed)

    @write(
        "voucher:submit",
        TRADE,
        roles=("operator",),
        event="voucher.submitted",
        action="register",
        from_states=("draft", "returned"),
        to_state="submitted",
    )
    def submit(self, step: Step, input: NamedVoucher) -> None:
        """Hand a voucher to the reviewer.

        Who: operator of the issuer.
        Must hold: voucher_not_found, not_issuer, state_wrong.
        Changes: the voucher is submitted.
        Event: voucher.submitted.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        _save(step, voucher.submit(known, step.trace()), "voucher.submitted")

    @write(
        "voucher:send_back",
        TRADE,
        roles=("reviewer",),
        event="voucher.returned",
        action="register",
        from_states=("submitted",),
        to_state="returned",
    )
    def send_back(self, step: Step, input: ReasonedVoucher) -> None:
        """Return a submitted voucher with a reason.

        Who: reviewer of the issuer, who neither registered nor submitted it.
        Must hold: voucher_not_found, not_issuer, state_wrong, same_person.
        Changes: the voucher is returned.
        Event: voucher.returned.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        _save(step, voucher.send_back(known, step.trace(input.reason)), "voucher.returned")

    @write(
        "voucher:approve",
        TRADE,
        roles=("reviewer",),
        event="voucher.approved",
        action="register",
        from_states=("submitted",),
        to_state="approved",
    )
    def approve(self, step: Step, input: NamedVoucher) -> None:
        """Pass the review of a submitted voucher.

        Who: reviewer of the issuer, who neither registered nor submitted it.
        Must hold: voucher_not_found, not_issuer, state_wrong, same_person.
        Changes: the voucher is approved.
        Event: voucher.approved.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        _save(step, voucher.approve(known, step.trace()), "voucher.approved")

    @write(
        "voucher:issue",
        TRADE,
        roles=("approver",),
        event="voucher.issued",
        action="issue",
        moves_value=True,
        from_states=("approved",),
        to_state="issued",
    )
    def issue(self, step: Step, input: IssueVoucher) -> None:
        """Issue an approved voucher under its signed letter, within the named slices of quotas.

        Who: approver of the issuer, who did none of the earlier steps.
        Must hold: voucher_not_found, quota_not_found, not_issuer, not_owner (quota), state_wrong (voucher),
        same_person, issuance_stopped, voucher_matured, slice_repeated, quota_required, state_wrong (quota),
        quota_expired, currency_differs, quota_exceeded, invoice_used_up.
        Changes: the voucher is issued with the digests of its letter; the slices are taken.
        Event: voucher.issued.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        granted = {use.quota_id: QUOTAS.load(step.store, use.quota_id) for use in input.slices}
        letter = Letter(unsigned_digest=input.unsigned_digest, signed_digest=input.signed_digest)
        voucher.check_issuer(known, step.trace())
        for limit in granted.values():
            quota.check_issuer(limit, known.issuer_id)
        issued = voucher.issue(known, letter, step.trace())
        if MEMBERS.load(step.store, known.issuer_id).issuance_stopped:
            raise DomainError("issuance_stopped", member=known.issuer_id)
        voucher.check_open(issued, step.today)
        issued = voucher.take_slices(issued, input.slices, step.policy("voucher", VoucherPolicy).quota_required)
        for limit in granted.values():
            quota.check_usable(limit, issued.currency, step.today)
        for use in input.slices:
            piece = quotas.load_slice(step.store, use.quota_id, use.slice)
            quotas.save_slice(step.store, quota.take(piece, use.amount_minor))
        for backing in issued.invoices:
            invoice.check_covered(INVOICES.load(step.store, backing.invoice_id))
        _save(step, issued, "voucher.issued")

    @write(
        "voucher:sign_off",
        TRADE,
        roles=("operator", "approver"),
        event="voucher.signed_off",
        action="sign_off",
        moves_value=True,
        from_states=("issued", "transferring"),
        to_state="signed_off",
    )
    def sign_off(self, step: Step, input: NamedVoucher) -> None:
        """Accept a voucher that was issued or transferred to the own member.

        Who: operator or approver of the receiver.
        Must hold: voucher_not_found, not_receiver, state_wrong, voucher_disputed, voucher_matured.
        Changes: the voucher is signed off and held by the receiver.
        Event: voucher.signed_off.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        accepted = voucher.sign_off(known, step.today, step.trace())
        _save(step, accepted, "voucher.signed_off")
        if known.state == "issued":
            vouchers.add_leaf(step.store, accepted)

    @write(
        "voucher:refuse",
        TRADE,
        roles=("operator", "approver"),
        event="voucher.refused",
        action="sign_off",
        moves_value=True,
        from_states=("issued", "transferring"),
        to_state="refused",
    )
    def refuse(self, step: Step, input: ReasonedVoucher) -> None:
        """Refuse a voucher that was issued or transferred to the own member.

        Who: operator or approver of the receiver.
        Must hold: voucher_not_found, not_receiver, state_wrong.
        Changes: an issued voucher is refused, its invoices and slices are given back; a transfer ends, the voucher is
        signed off and stays with its holder.
        Event: voucher.refused, invoice.given_back, lien.freed.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        refused = voucher.refuse(known, step.trace(input.reason))
        _save(step, refused, "voucher.refused")
        if refused.state == "refused":
            _give_back(step, refused)

    @write(
        "voucher:cancel",
        TRADE,
        roles=("approver",),
        event="voucher.cancelled",
        action="repay",
        moves_value=True,
        from_states=("draft", "submitted", "returned", "approved", "issued"),
        to_state="cancelled",
    )
    def cancel(self, step: Step, input: ReasonedVoucher) -> None:
        """Take back a voucher that nobody has accepted.

        Who: approver of the issuer.
        Must hold: voucher_not_found, not_issuer, state_wrong.
        Changes: the voucher is cancelled, its invoices and slices are given back.
        Event: voucher.cancelled, invoice.given_back, lien.freed.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        cancelled = voucher.cancel(known, step.trace(input.reason))
        _save(step, cancelled, "voucher.cancelled")
        _give_back(step, cancelled)

    @write(
        "voucher:transfer",
        TRADE,
        roles=("operator",),
        event="voucher.transferred",
        action="transfer",
        moves_value=True,
        from_states=("signed_off",),
        to_state="held",
    )
    def transfer(self, step: Step, input: TransferVoucher) -> None:
        """Apply for the transfer of a voucher or of a part of it, which then is split.

        Who: operator of the holder.
        Must hold: voucher_not_found, member_not_found, not_holder, state_wrong, voucher_disputed, receiver_is_holder,
        member_not_real_named, voucher_matured, amount_above_voucher, part_superfluous, part_missing, voucher_exists.
        Changes: the voucher or the part is held for the receiver; a split voucher is closed and the rest stays signed
        off.
        Event: voucher.transferred, voucher.split, voucher.parted.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        receiver = MEMBERS.load(step.store, input.to_member_id)
        trace = step.trace()
        voucher.check_transfer(known, input.to_member_id, trace)
        receiver.check_real_named()
        voucher.check_open(known, step.today)
        if input.amount_minor > known.amount_minor:
            raise DomainError("amount_above_voucher", amount=input.amount_minor, limit=known.amount_minor)
        whole = input.amount_minor == known.amount_minor
        if whole and (input.part_id or input.part_number or input.rest_number):
            raise DomainError("part_superfluous")
        if whole:
            _save(step, voucher.transfer(known, input.to_member_id, input.recourse, trace), "voucher.transferred")
            return
        if input.part_id is None or input.part_number is None or input.rest_number is None:
            raise DomainError("part_missing")
        VOUCHERS.check_new(step.store, input.part_id)
        closed, part, rest = voucher.split(
            known, input.amount_minor, input.part_id, input.part_number, input.rest_number, trace
        )
        part = voucher.transfer(part, input.to_member_id, input.recourse, trace)
        vouchers.replace_leaf(step.store, closed, (part, rest))
        step.change("voucher", part.voucher_id, "voucher.transferred", part)
        step.change("voucher", closed.voucher_id, "voucher.split", closed)
        step.change("voucher", rest.voucher_id, "voucher.parted", rest)

    @write(
        "voucher:approve_transfer",
        TRADE,
        roles=("approver",),
        event="voucher.transfer_approved",
        action="transfer",
        moves_value=True,
        from_states=("held",),
        to_state="transferring",
    )
    def approve_transfer(self, step: Step, input: NamedVoucher) -> None:
        """Offer a held transfer to its receiver.

        Who: approver of the holder, another person than the one who applied.
        Must hold: voucher_not_found, not_holder, state_wrong, same_person, voucher_disputed, voucher_matured.
        Changes: the voucher is transferring; the receiver becomes a party.
        Event: voucher.transfer_approved.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        offered = voucher.approve_transfer(known, step.today, step.trace())
        _save(step, offered, "voucher.transfer_approved")
        if offered.to_member_id is not None:
            vouchers.add_party(step.store, offered.to_member_id, offered)

    @write(
        "voucher:recall",
        TRADE,
        roles=("operator", "approver"),
        event="voucher.recalled",
        action="transfer",
        moves_value=True,
        from_states=("held", "transferring"),
        to_state="signed_off",
    )
    def recall(self, step: Step, input: ReasonedVoucher) -> None:
        """Take back a transfer that is held or offered.

        Who: operator or approver of the holder.
        Must hold: voucher_not_found, not_holder, state_wrong.
        Changes: the voucher is signed off again.
        Event: voucher.recalled.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        _save(step, voucher.recall(known, step.trace(input.reason)), "voucher.recalled")

    @write(
        "voucher:default",
        TRADE,
        roles=("approver",),
        event="voucher.defaulted",
        action="repay",
        moves_value=True,
        from_states=("overdue",),
        to_state="defaulted",
    )
    def default(self, step: Step, input: ReasonedVoucher) -> None:
        """Declare an overdue voucher defaulted, once the days of grace are over.

        Who: approver of the holder.
        Must hold: voucher_not_found, not_holder, state_wrong, grace_running.
        Changes: the voucher is defaulted; what is owed stays owed.
        Event: voucher.defaulted.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        grace = step.policy("settlement", SettlementPolicy).grace_days
        declared = voucher.declare_default(known, step.today, grace, step.trace(input.reason))
        _save(step, declared, "voucher.defaulted")

    @write(
        "voucher:dispute",
        TRADE,
        roles=("approver",),
        event="voucher.disputed",
        action="sign_off",
        moves_value=True,
        from_states=voucher.LIVE,
    )
    def dispute(self, step: Step, input: ReasonedVoucher) -> None:
        """Dispute a live voucher; it cannot move, and its payment is held.

        Who: approver of the issuer or of the holder.
        Must hold: voucher_not_found, not_party, state_wrong, voucher_disputed, voucher_matured.
        Changes: the voucher is disputed.
        Event: voucher.disputed.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        _save(step, voucher.dispute(known, step.today, step.trace(input.reason)), "voucher.disputed")

    @write(
        "voucher:end_dispute",
        TRADE,
        roles=("approver",),
        event="voucher.dispute_ended",
        action="repay",
        moves_value=True,
        from_states=(*voucher.LIVE, "paid", "overdue", "defaulted"),
    )
    def end_dispute(self, step: Step, input: ReasonedVoucher) -> None:
        """End a dispute; a payment that was held for it goes to the holder.

        Who: approver of the member that began it.
        Must hold: voucher_not_found, not_owner, state_wrong.
        Changes: the voucher is no longer disputed; its legal hold is released.
        Event: voucher.dispute_ended, hold.freed, credit.booked.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        ended = voucher.end_dispute(known, step.trace(input.reason))
        _save(step, ended, "voucher.dispute_ended")
        if ended.state == "paid":
            account_id = account.id_of(ended.holder_id, ended.currency)
            step.post(FreePosting(account_id=account_id, hold_id=ended.voucher_id))

    @write(
        "voucher:pay_penalty",
        TRADE,
        roles=("approver",),
        event="voucher.penalty_paid",
        action="repay",
        moves_value=True,
        from_states=("paid",),
        to_state="paid",
    )
    def pay_penalty(self, step: Step, input: PayPenalty) -> None:
        """Pay the penalty interest that a late payment left.

        Who: approver of the issuer.
        Must hold: voucher_not_found, not_issuer, state_wrong, penalty_none, funds_insufficient.
        Changes: the penalty is paid to the holder.
        Event: voucher.penalty_paid, account.debited, account.folded, credit.folded, credit.booked.
        """
        known = VOUCHERS.load(step.store, input.voucher_id)
        paid, amount_minor = voucher.pay_penalty(known, step.trace())
        _save(step, paid, "voucher.penalty_paid")
        payee = Payee(
            account_id=account.id_of(paid.holder_id, paid.currency),
            amount_minor=amount_minor,
            reference=paid.voucher_id,
        )
        step.post(
            TransferPosting(
                account_id=account.id_of(paid.issuer_id, paid.currency),
                payees=(payee,),
                source=paid.voucher_id,
                folds=input.folds,
            )
        )

    @read("voucher:get")
    def get(self, store: Store, input: GetVoucher) -> VoucherAnswer:
        """One voucher with the state that people see today.

        Who: everybody on the channel.
        Must hold: voucher_not_found.
        Changes: nothing.
        Event: none.
        """
        return _answer(VOUCHERS.load(store, input.voucher_id), business_dates.current(store).date)

    @read("voucher:list")
    def list(self, store: Store, input: ListVouchers) -> VoucherPage:
        """Vouchers to which a member is a party, by root; of a split root its open and settled leaves.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        return _list(store, input, business_dates.current(store).date)

    @read("voucher:history")
    def history(self, store: Store, input: GetVoucher) -> VoucherHistory:
        """Versions of a voucher, newest first, and its parents up to the root.

        Who: everybody on the channel.
        Must hold: voucher_not_found.
        Changes: nothing.
        Event: none.
        """
        known = VOUCHERS.load(store, input.voucher_id)
        versions = [
            VoucherVersion(
                transaction_id=entry.transaction_id, recorded_at=entry.recorded_at, voucher=VOUCHERS.decode(entry.value)
            )
            for entry in store.history(store.key("voucher", [input.voucher_id]), HISTORY_MAX)
        ]
        chain: tuple[Voucher, ...] = ()
        while known.parent_id is not None and len(chain) < TRACE_MAX:
            known = VOUCHERS.load(store, known.parent_id)
            chain = (*chain, known)
        return VoucherHistory(items=tuple(versions), chain=chain)


def _save(step: Step, record: Voucher, event: str) -> None:
    vouchers.save(step.store, record)
    step.change("voucher", record.voucher_id, event, record)


def _register(step: Step, input: RegisterVoucher | VoucherRow) -> None:
    draft = _draft(step, input)
    voucher.check_draft(draft, step.actor.member_id)
    VOUCHERS.check_new(step.store, input.voucher_id)
    _load_named(step, draft)
    _check_parties(step, draft)
    paid_on = _check_terms(step, draft)
    registered = voucher.register(input.voucher_id, draft, paid_on, step.trace())
    step.change("voucher", registered.voucher_id, "voucher.registered", registered)
    _use_invoices(step, registered)
    vouchers.create(step.store, registered)


def _draft(step: Step, input: RegisterVoucher | VoucherRow | ChangeVoucher) -> Draft:
    return Draft(
        number=input.number,
        receiver_id=input.receiver_id,
        amount_minor=input.amount_minor,
        currency=input.currency or step.policy("currency", CurrencyPolicy).default,
        due_date=input.due_date,
        contract_reference=input.contract_reference,
        invoices=input.invoices,
        evidence=input.evidence,
    )


def _load_named(step: Step, draft: Draft) -> None:
    """Refuse names that are not there. Raises ``member_not_found``, then ``invoice_not_found``."""
    MEMBERS.load(step.store, draft.receiver_id)
    for use in draft.invoices:
        INVOICES.load(step.store, use.invoice_id)


def _check_parties(step: Step, draft: Draft) -> None:
    """Refuse invoices that the receiver did not write to the acting member. Raises ``invoice_parties_differ``."""
    for use in draft.invoices:
        paper = INVOICES.load(step.store, use.invoice_id)
        invoice.check_parties(paper, draft.receiver_id, step.actor.member_id)


def _check_terms(step: Step, draft: Draft) -> date:
    """The payment date of a draft whose receiver, currency, tenor and backing are in order."""
    MEMBERS.load(step.store, draft.receiver_id).check_real_named()
    if draft.currency not in step.policy("currency", CurrencyPolicy).exponents:
        raise DomainError("currency_unknown", currency=draft.currency)
    rules = step.policy("voucher", VoucherPolicy)
    paid_on = voucher.payment_date(draft.due_date, step.today, rules.tenor_days_max, year_days(step.store))
    voucher.check_backing(draft, rules.invoice_required)
    return paid_on


def _use_invoices(step: Step, record: Voucher) -> None:
    """Use the invoices of a voucher and bind each to vouchers.

    Raises ``currency_differs``, ``invoice_used_up``, then ``lien_exists`` for an invoice that secures something else.
    """
    for use in record.invoices:
        paper = INVOICES.load(step.store, use.invoice_id)
        used = invoice.use(paper, use.amount_minor, record.currency, step.trace())
        known = LIENS.find(step.store, "invoice", use.invoice_id)
        if known is None or known.state != "taken" or known.secured_word != "voucher":
            taken = lien.take(known, "invoice", use.invoice_id, "voucher", record.voucher_id, step.trace())
            liens.save(step.store, taken)
            step.change("lien", f"invoice/{use.invoice_id}", "lien.taken", taken)
        invoices.save(step.store, used)
        step.change("invoice", used.invoice_id, "invoice.used", used)


def _give_back_invoices(step: Step, record: Voucher) -> None:
    """Give back what a voucher used of its invoices; an invoice that backs nothing any more is free."""
    for use in record.invoices:
        freed = invoice.give_back(INVOICES.load(step.store, use.invoice_id), use.amount_minor, step.trace())
        invoices.save(step.store, freed)
        step.change("invoice", freed.invoice_id, "invoice.given_back", freed)
        if freed.used_minor == 0:
            known = lien.free(LIENS.load(step.store, "invoice", use.invoice_id), step.trace())
            liens.save(step.store, known)
            step.change("lien", f"invoice/{use.invoice_id}", "lien.freed", known)


def _give_back(step: Step, record: Voucher) -> None:
    """Give back invoices and slices of a voucher that ended before it was accepted."""
    _give_back_invoices(step, record)
    for use in record.slices:
        piece = quotas.load_slice(step.store, use.quota_id, use.slice)
        quotas.save_slice(step.store, quota.give_back(piece, use.amount_minor))


def _answer(record: Voucher, today: date) -> VoucherAnswer:
    return VoucherAnswer(voucher=record, state=record.state_on(today))


def _list(store: Store, input: ListVouchers, today: date) -> VoucherPage:
    """Walk the roots of a member, and the leaves of those that were split.

    The cursor names the root and, inside a split root, the last leaf.
    """
    found: tuple[tuple[str, VoucherAnswer], ...] = ()
    parts = input.after.split("/") if input.after else []
    start = [input.member_id, parts[0]] if parts else None
    roots = [row[1] for row in PARTIES.rows(store, [input.member_id], start, input.limit + 1)]
    if len(parts) == 3:
        roots = [parts[0], *roots]
    for root_id in roots:
        root = VOUCHERS.load(store, root_id)
        if root.state != "split":
            found = (*found, (root_id, _answer(root, today)))
        else:
            after = parts[1:] if len(parts) == 3 and root_id == parts[0] else None
            found = (*found, *_leaves(store, root, input, after, today))
        if len(found) > input.limit:
            break
    items = found[: input.limit]
    return VoucherPage(
        items=tuple(answer for _, answer in items), next=items[-1][0] if len(found) > input.limit else None
    )


def _leaves(
    store: Store, root: Voucher, input: ListVouchers, after: Sequence[str] | None, today: date
) -> tuple[tuple[str, VoucherAnswer], ...]:
    """Leaves of a split root that concern the member, with their cursors."""
    prefix = [root.issuer_id, root.currency, root.payment_date.isoformat(), root.root_id]
    start = None if after is None else [*prefix, *after]
    found: tuple[tuple[str, VoucherAnswer], ...] = ()
    while len(found) <= input.limit:
        rows = vouchers.DUE.rows(store, prefix, start, input.limit + 1)
        for row in rows:
            leaf = VOUCHERS.load(store, row[-1])
            if input.member_id in (leaf.issuer_id, leaf.holder_id, leaf.to_member_id):
                found = (*found, ("/".join(row[3:]), _answer(leaf, today)))
        if len(rows) <= input.limit:
            break
        start = rows[-1]
    return found
