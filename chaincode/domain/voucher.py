"""Vouchers: irrevocable promises to pay, as ranges of units that are split and handed on until they are paid.

A voucher is the range ``[start, end]`` of minor units of its root, so its amount is the length of the range and a
double spend would be an overlap. A split voucher is closed; its parts are new records.
"""

import base64
import hashlib
from datetime import date
from typing import Final

import msgspec
from msgspec.structs import replace

from chaincode.domain.calendar import YearDays, roll
from chaincode.domain.error import DomainError
from chaincode.domain.invoice import InvoiceUse
from chaincode.domain.money import amount
from chaincode.domain.quota import SliceUse
from chaincode.domain.record import Record, Trace, check_other_person, check_state

STATES: Final = (
    "draft",
    "submitted",
    "returned",
    "approved",
    "issued",
    "signed_off",
    "refused",
    "held",
    "transferring",
    "pledged",
    "financed",
    "paid",
    "overdue",
    "defaulted",
    "cancelled",
    "split",
)

MATURED: Final = "matured"
"""Derived, never stored: a live voucher whose payment date has come."""

LIVE: Final = ("signed_off", "held", "transferring", "pledged", "financed")
"""States of a leaf that is owed and not yet due or settled."""

REST: Final = "-R"
"""The rest of a split is named like the part with this ending; ids from outside never end in -P, -Q or -R."""


class Letter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payment commitment letter: digests of the unsigned bytes and of the signed file."""

    unsigned_digest: str
    signed_digest: str


class Voucher(Record, frozen=True, kw_only=True):
    """One voucher or part of one; ``to_member_id`` is set while a transfer waits for approval or for the receiver."""

    voucher_id: str
    number: str
    state: str
    issuer_id: str
    receiver_id: str
    holder_id: str
    to_member_id: str | None
    root_id: str
    parent_id: str | None
    start: int
    end: int
    amount_minor: int
    currency: str
    due_date: date
    payment_date: date
    contract_reference: str
    invoices: tuple[InvoiceUse, ...]
    evidence: tuple[str, ...]
    slices: tuple[SliceUse, ...]
    recourse: bool
    letter: Letter | None
    registered_by: str
    submitted_by: str | None
    approved_by: str | None
    transferred_by: str | None
    disputed_by: str | None
    paid_on: date | None
    penalty_minor: int
    changed: Trace

    @property
    def is_disputed(self) -> bool:
        """Whether a party disputes it; ``disputed_by`` is that member."""
        return self.disputed_by is not None

    def state_on(self, today: date) -> str:
        """The state that people see on a date: the stored one, or ``matured``."""
        return MATURED if self.state in LIVE and self.payment_date <= today else self.state


class Draft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an issuer writes into a voucher before it is submitted."""

    number: str
    receiver_id: str
    amount_minor: int
    currency: str
    due_date: date
    contract_reference: str
    invoices: tuple[InvoiceUse, ...]
    evidence: tuple[str, ...]


def check_draft(draft: Draft, issuer_id: str) -> None:
    """Refuse a draft that contradicts itself. Raises ``receiver_is_issuer``, then ``invoice_repeated``."""
    if draft.receiver_id == issuer_id:
        raise DomainError("receiver_is_issuer")
    named: list[str] = []
    for use in draft.invoices:
        if use.invoice_id in named:
            raise DomainError("invoice_repeated", id=use.invoice_id)
        named.append(use.invoice_id)


def payment_date(due_date: date, today: date, tenor_days_max: int, year_days: YearDays) -> date:
    """The business day on which a promise is paid.

    Raises ``due_date_passed``, ``calendar_year_missing``, then ``tenor_too_long``.
    """
    if due_date <= today:
        raise DomainError("due_date_passed", date=due_date.isoformat(), today=today.isoformat())
    rolled = roll(due_date, year_days)
    length = rolled.toordinal() - today.toordinal()
    if length > tenor_days_max:
        raise DomainError("tenor_too_long", days=length, limit=tenor_days_max)
    return rolled


def check_backing(draft: Draft, invoice_required: bool) -> None:
    """Refuse invoices that do not add up to the voucher. Raises ``INVALID invoice_sum_differs``."""
    backed = sum(use.amount_minor for use in draft.invoices)
    if backed != draft.amount_minor and (draft.invoices or invoice_required):
        raise DomainError("invoice_sum_differs", sum=backed, amount=draft.amount_minor)


def register(voucher_id: str, draft: Draft, paid_on: date, trace: Trace) -> Voucher:
    """A draft voucher of the acting member; the draft has been checked."""
    return Voucher(
        voucher_id=voucher_id,
        number=draft.number,
        state="draft",
        issuer_id=trace.member_id,
        receiver_id=draft.receiver_id,
        holder_id=trace.member_id,
        to_member_id=None,
        root_id=voucher_id,
        parent_id=None,
        start=1,
        end=amount(draft.amount_minor),
        amount_minor=draft.amount_minor,
        currency=draft.currency,
        due_date=draft.due_date,
        payment_date=paid_on,
        contract_reference=draft.contract_reference,
        invoices=draft.invoices,
        evidence=draft.evidence,
        slices=(),
        recourse=False,
        letter=None,
        registered_by=trace.user_id,
        submitted_by=None,
        approved_by=None,
        transferred_by=None,
        disputed_by=None,
        paid_on=None,
        penalty_minor=0,
        changed=trace,
    )


def check_change(voucher: Voucher, trace: Trace) -> None:
    """Refuse a change by others or after submission. Raises ``not_issuer``, then ``state_wrong``."""
    check_issuer(voucher, trace)
    check_state(voucher.voucher_id, voucher.state, "change", ("draft", "returned"))


def change(voucher: Voucher, draft: Draft, paid_on: date, trace: Trace) -> Voucher:
    """Write a draft or returned voucher anew; the draft has been checked."""
    return replace(register(voucher.voucher_id, draft, paid_on, trace), registered_by=voucher.registered_by)


def submit(voucher: Voucher, trace: Trace) -> Voucher:
    """Hand a draft or returned voucher to the reviewer. Raises ``not_issuer``, then ``state_wrong``."""
    check_issuer(voucher, trace)
    check_state(voucher.voucher_id, voucher.state, "submit", ("draft", "returned"))
    return replace(voucher, state="submitted", submitted_by=trace.user_id, changed=trace)


def send_back(voucher: Voucher, trace: Trace) -> Voucher:
    """Return a submitted voucher with a reason. Raises ``not_issuer``, ``state_wrong``, then ``same_person``."""
    _check_review(voucher, "send_back", trace)
    return replace(voucher, state="returned", changed=trace)


def approve(voucher: Voucher, trace: Trace) -> Voucher:
    """Pass the review of a submitted voucher. Raises ``not_issuer``, ``state_wrong``, then ``same_person``."""
    _check_review(voucher, "approve", trace)
    return replace(voucher, state="approved", approved_by=trace.user_id, changed=trace)


def _check_review(voucher: Voucher, verb: str, trace: Trace) -> None:
    check_issuer(voucher, trace)
    check_state(voucher.voucher_id, voucher.state, verb, ("submitted",))
    check_other_person(trace.user_id, voucher.registered_by, voucher.submitted_by)


def issue(voucher: Voucher, letter: Letter, trace: Trace) -> Voucher:
    """Issue an approved voucher under its letter.

    Raises ``not_issuer``, ``state_wrong``, then ``same_person``: whoever registered, submitted or approved it.
    """
    check_issuer(voucher, trace)
    check_state(voucher.voucher_id, voucher.state, "issue", ("approved",))
    check_other_person(trace.user_id, voucher.registered_by, voucher.submitted_by, voucher.approved_by)
    return replace(voucher, state="issued", letter=letter, changed=trace)


def take_slices(voucher: Voucher, slices: tuple[SliceUse, ...], quota_required: bool) -> Voucher:
    """Note the slices that an issue takes. Raises ``slice_repeated``, then ``quota_required``."""
    named: list[tuple[str, int]] = []
    for use in slices:
        if (use.quota_id, use.slice) in named:
            raise DomainError("slice_repeated", slice=use.slice, id=use.quota_id)
        named.append((use.quota_id, use.slice))
    taken = sum(use.amount_minor for use in slices)
    if taken != voucher.amount_minor and (slices or quota_required):
        raise DomainError("quota_required", sum=taken, amount=voucher.amount_minor)
    return replace(voucher, slices=slices)


def sign_off(voucher: Voucher, today: date, trace: Trace) -> Voucher:
    """Accept an issued voucher or a transfer; the acting member becomes the holder.

    Raises ``not_receiver``, ``state_wrong``, ``voucher_disputed``, then ``voucher_matured``.
    """
    check_receiver(voucher, trace)
    check_state(voucher.voucher_id, voucher.state, "sign_off", ("issued", "transferring"))
    check_undisputed(voucher)
    check_open(voucher, today)
    return replace(voucher, state="signed_off", holder_id=trace.member_id, to_member_id=None, changed=trace)


def refuse(voucher: Voucher, trace: Trace) -> Voucher:
    """Refuse an issued voucher, which closes it, or a transfer, which stays with its holder.

    Raises ``not_receiver``, then ``state_wrong``.
    """
    check_receiver(voucher, trace)
    check_state(voucher.voucher_id, voucher.state, "refuse", ("issued", "transferring"))
    if voucher.state == "issued":
        return replace(voucher, state="refused", changed=trace)
    return _give_up_transfer(voucher, trace)


def cancel(voucher: Voucher, trace: Trace) -> Voucher:
    """Take back a voucher that nobody has accepted. Raises ``not_issuer``, then ``state_wrong``."""
    check_issuer(voucher, trace)
    allowed = ("draft", "submitted", "returned", "approved", "issued")
    check_state(voucher.voucher_id, voucher.state, "cancel", allowed)
    return replace(voucher, state="cancelled", changed=trace)


def check_transfer(voucher: Voucher, to_member_id: str, trace: Trace) -> None:
    """Refuse a transfer that may not be.

    Raises ``not_holder``, ``state_wrong``, ``voucher_disputed``, then ``receiver_is_holder``.
    """
    check_holder(voucher, trace)
    check_state(voucher.voucher_id, voucher.state, "transfer", ("signed_off",))
    check_undisputed(voucher)
    if to_member_id == voucher.holder_id:
        raise DomainError("receiver_is_holder", member=to_member_id)


def transfer(voucher: Voucher, to_member_id: str, recourse: bool, trace: Trace) -> Voucher:
    """Apply for the transfer of a whole voucher; it is held until a colleague approves."""
    return replace(
        voucher,
        state="held",
        to_member_id=to_member_id,
        recourse=recourse,
        transferred_by=trace.user_id,
        changed=trace,
    )


def split(
    voucher: Voucher, amount_minor: int, part_id: str, part_number: str, rest_number: str, trace: Trace
) -> tuple[Voucher, Voucher, Voucher]:
    """Close a voucher and make two of it: the closed one, the part of the wanted amount, and the rest.

    The part takes the first units. Raises ``INVALID amount_above_voucher`` unless 0 < amount < whole.
    """
    if not 0 < amount_minor < voucher.amount_minor:
        raise DomainError("amount_above_voucher", amount=amount_minor, limit=voucher.amount_minor)
    cut = voucher.start + amount_minor - 1
    closed = replace(voucher, state="split", changed=trace)
    common = replace(
        voucher, parent_id=voucher.voucher_id, invoices=(), evidence=(), slices=(), letter=None, changed=trace
    )
    part = replace(common, voucher_id=part_id, number=part_number, end=cut, amount_minor=amount_minor)
    rest = replace(
        common,
        voucher_id=part_id + REST,
        number=rest_number,
        start=cut + 1,
        amount_minor=voucher.amount_minor - amount_minor,
    )
    return closed, part, rest


def approve_transfer(voucher: Voucher, today: date, trace: Trace) -> Voucher:
    """Offer a held transfer to its receiver, by another person of the holder.

    Raises ``not_holder``, ``state_wrong``, ``same_person``, ``voucher_disputed``, then ``voucher_matured``.
    """
    check_holder(voucher, trace)
    check_state(voucher.voucher_id, voucher.state, "approve_transfer", ("held",))
    check_other_person(trace.user_id, voucher.transferred_by)
    check_undisputed(voucher)
    check_open(voucher, today)
    return replace(voucher, state="transferring", changed=trace)


def recall(voucher: Voucher, trace: Trace) -> Voucher:
    """Take back a transfer that is held or offered. Raises ``not_holder``, then ``state_wrong``."""
    check_holder(voucher, trace)
    check_state(voucher.voucher_id, voucher.state, "recall", ("held", "transferring"))
    return _give_up_transfer(voucher, trace)


def _give_up_transfer(voucher: Voucher, trace: Trace) -> Voucher:
    return replace(voucher, state="signed_off", to_member_id=None, transferred_by=None, recourse=False, changed=trace)


def check_issuer(voucher: Voucher, trace: Trace) -> None:
    """Refuse people of another company than the issuer. Raises ``FORBIDDEN not_issuer``."""
    if voucher.issuer_id != trace.member_id:
        raise DomainError("not_issuer", id=voucher.voucher_id, member=trace.member_id)


def check_holder(voucher: Voucher, trace: Trace) -> None:
    """Refuse people of another company than the holder. Raises ``FORBIDDEN not_holder``."""
    if voucher.holder_id != trace.member_id:
        raise DomainError("not_holder", id=voucher.voucher_id, member=trace.member_id)


def check_receiver(voucher: Voucher, trace: Trace) -> None:
    """Refuse people of another company than the one it is offered to. Raises ``FORBIDDEN not_receiver``."""
    receiver_id = voucher.to_member_id if voucher.to_member_id else voucher.receiver_id
    if receiver_id != trace.member_id:
        raise DomainError("not_receiver", id=voucher.voucher_id, member=trace.member_id)


def pay(voucher: Voucher, penalty_minor: int, today: date, trace: Trace) -> Voucher:
    """A leaf that its settlement run pays; a late one is still owed its penalty."""
    return replace(voucher, state="paid", paid_on=today, penalty_minor=penalty_minor, to_member_id=None, changed=trace)


def fall_overdue(voucher: Voucher, trace: Trace) -> Voucher:
    """A leaf that its settlement run cannot pay; one that defaulted stays so."""
    state = "defaulted" if voucher.state == "defaulted" else "overdue"
    return replace(voucher, state=state, to_member_id=None, changed=trace)


def pay_in_part(
    voucher: Voucher, paid_minor: int, penalty_minor: int, today: date, trace: Trace
) -> tuple[Voucher, Voucher, Voucher]:
    """A leaf that is paid in part: the closed one, its paid units, and the overdue rest."""
    closed = replace(voucher, state="split", to_member_id=None, changed=trace)
    cut = voucher.start + paid_minor - 1
    common = replace(
        fall_overdue(voucher, trace), parent_id=voucher.voucher_id, invoices=(), evidence=(), slices=(), letter=None
    )
    paid = replace(common, voucher_id=settled_id(voucher, "P"), end=cut, amount_minor=paid_minor)
    rest = replace(
        common, voucher_id=settled_id(voucher, "Q"), start=cut + 1, amount_minor=voucher.amount_minor - paid_minor
    )
    return closed, pay(paid, penalty_minor, today, trace), rest


def settled_id(voucher: Voucher, ending: str) -> str:
    """Id of a part that settlement makes, from the leaf's; ids from outside never end in -P or -Q."""
    digest = hashlib.sha256(f"settled\n{voucher.voucher_id}".encode()).digest()
    return f"V-{base64.b32encode(digest).decode('ascii')[:26]}-{ending}"


def declare_default(voucher: Voucher, today: date, grace_days: int, trace: Trace) -> Voucher:
    """Declare an overdue voucher defaulted, once the days of grace are over.

    Raises ``not_holder``, ``state_wrong``, then ``grace_running``.
    """
    check_holder(voucher, trace)
    check_state(voucher.voucher_id, voucher.state, "default", ("overdue",))
    late = today.toordinal() - voucher.payment_date.toordinal()
    if late <= grace_days:
        raise DomainError("grace_running", id=voucher.voucher_id, days=late, limit=grace_days)
    return replace(voucher, state="defaulted", changed=trace)


def dispute(voucher: Voucher, today: date, trace: Trace) -> Voucher:
    """Dispute a live voucher, by its issuer or holder; until it ends the voucher cannot move.

    Raises ``not_party``, ``state_wrong``, ``voucher_disputed``, then ``voucher_matured``.
    """
    if trace.member_id not in (voucher.issuer_id, voucher.holder_id):
        raise DomainError("not_party", id=voucher.voucher_id, member=trace.member_id)
    check_state(voucher.voucher_id, voucher.state, "dispute", LIVE)
    check_undisputed(voucher)
    check_open(voucher, today)
    return replace(voucher, disputed_by=trace.member_id, changed=trace)


def end_dispute(voucher: Voucher, trace: Trace) -> Voucher:
    """End a dispute, by the member that began it. Raises ``not_owner``, then ``state_wrong``."""
    if voucher.disputed_by != trace.member_id:
        raise DomainError("not_owner", id=voucher.voucher_id, member=trace.member_id)
    check_state(voucher.voucher_id, voucher.state, "end_dispute", (*LIVE, "paid", "overdue", "defaulted"))
    return replace(voucher, disputed_by=None, changed=trace)


def pay_penalty(voucher: Voucher, trace: Trace) -> tuple[Voucher, int]:
    """Pay the penalty that a late payment left; answers the voucher and the amount.

    Raises ``not_issuer``, ``state_wrong``, then ``penalty_none``.
    """
    check_issuer(voucher, trace)
    check_state(voucher.voucher_id, voucher.state, "pay_penalty", ("paid",))
    if not voucher.penalty_minor:
        raise DomainError("penalty_none", id=voucher.voucher_id)
    return replace(voucher, penalty_minor=0, changed=trace), voucher.penalty_minor


def restore(voucher: Voucher, trace: Trace) -> Voucher:
    """A settled root whose slices have been given back."""
    return replace(voucher, slices=(), changed=trace)


def check_undisputed(voucher: Voucher) -> None:
    """Refuse a disputed voucher. Raises ``CONFLICT voucher_disputed``."""
    if voucher.disputed_by is not None:
        raise DomainError("voucher_disputed", id=voucher.voucher_id, member=voucher.disputed_by)


def check_open(voucher: Voucher, today: date) -> None:
    """Refuse a voucher whose payment date has come. Raises ``CONFLICT voucher_matured``."""
    if voucher.payment_date <= today:
        raise DomainError("voucher_matured", id=voucher.voucher_id, date=voucher.payment_date.isoformat())
