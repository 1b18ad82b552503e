"""Settlement runs: on the payment date every leaf of an issuer is paid, in pages that never touch a shared key.

Plan pages fix who is paid how much; the issuer is debited once; short funds are shared exactly by largest remainder
without sorting on the ledger: the caller names the cut in the order, and only the right cut makes the shares sum to the
total. Source: bank side specification, section 1.
"""

import hashlib
from collections.abc import Sequence
from datetime import date
from typing import Final

import msgspec
from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.record import AmountOrZero, Id, Record, Trace, check_state
from chaincode.domain.voucher import Voucher

STATES: Final = ("open", "planned", "funded", "shared", "sealed", "closed")
PAGE_STATES: Final = ("planned", "shared", "paid")

LEAVES_MAX: Final = 250
"""Leaves of one page: keeps its write set under 1 MB."""

PAGES_MAX: Final = 2_000
"""Pages of one run: half a million leaves, and as many records as one step may read."""

OWED: Final = ("signed_off", "held", "transferring", "pledged", "financed", "overdue", "defaulted")
"""States of a leaf that still has to be paid."""

_encode = msgspec.json.Encoder(order="sorted").encode


class Cut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place in the order (remainder descending, root and start ascending): leaves before it get one unit more."""

    remainder: AmountOrZero
    root_id: Id
    start: AmountOrZero


class Settlement(Record, frozen=True, kw_only=True):
    """One run for an issuer, currency and payment date; weights and total are set when it is funded."""

    run_id: str
    state: str
    issuer_id: str
    currency: str
    payment_date: date
    pages: int
    weight_minor: int
    total_minor: int
    cut: Cut | None
    changed: Trace


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A leaf's place in the index: its root and first unit."""

    root_id: str
    start: int


class PlanPage(Record, frozen=True, kw_only=True):
    """One page of a run: where it and the next begin (None: first, last), and the digest of who is owed what."""

    run_id: str
    page: int
    state: str
    begin: Place | None
    next_begin: Place | None
    count: int
    weight_minor: int
    digest: str
    share_minor: int
    cut: Cut | None


def open_run(run_id: str, issuer_id: str, currency: str, payment_date: date, today: date, trace: Trace) -> Settlement:
    """A new run for a payment date that has come. Raises ``CONFLICT settlement_not_due``."""
    if payment_date > today:
        raise DomainError("settlement_not_due", date=payment_date.isoformat(), today=today.isoformat())
    return Settlement(
        run_id=run_id,
        state="open",
        issuer_id=issuer_id,
        currency=currency,
        payment_date=payment_date,
        pages=0,
        weight_minor=0,
        total_minor=0,
        cut=None,
        changed=trace,
    )


def weight_of(leaf: Voucher) -> int:
    """What a leaf is still owed."""
    return leaf.amount_minor if leaf.state in OWED else 0


def digest_of(leaves: Sequence[Voucher]) -> str:
    """Digest of (leaf, payee, weight, whether it is disputed) in their order."""
    rows = [[leaf.voucher_id, leaf.holder_id, weight_of(leaf), leaf.is_disputed] for leaf in leaves]
    return hashlib.sha256(_encode(rows)).hexdigest()


def plan(run_id: str, page: int, begin: Place | None, next_begin: Place | None, leaves: Sequence[Voucher]) -> PlanPage:
    """A page over these leaves."""
    return PlanPage(
        run_id=run_id,
        page=page,
        state="planned",
        begin=begin,
        next_begin=next_begin,
        count=len(leaves),
        weight_minor=sum(weight_of(leaf) for leaf in leaves),
        digest=digest_of(leaves),
        share_minor=0,
        cut=None,
    )


def plan_again(page: PlanPage, leaves: Sequence[Voucher]) -> PlanPage:
    """An unpaid page over its leaves as they are now: payees may have changed, weights cannot."""
    return replace(page, digest=digest_of(leaves))


def check_leaves(page: PlanPage, leaves: Sequence[Voucher]) -> None:
    """Refuse leaves that differ from the planned ones. Raises ``CONFLICT page_changed``."""
    if digest_of(leaves) != page.digest:
        raise DomainError("page_changed", page=page.page, id=page.run_id)


def finish_plan(run: Settlement, pages: int, trace: Trace) -> Settlement:
    """The last page has been planned."""
    return replace(run, state="planned", pages=pages, changed=trace)


def fund(run: Settlement, pages: Sequence[PlanPage], total_minor: int, trace: Trace) -> Settlement:
    """Fix what is paid out: everything, and the run is sealed, or less, and it has to be shared.

    Raises ``state_wrong``, then ``settlement_total_invalid`` for a total above the weights.
    """
    check_state(run.run_id, run.state, "fund", ("planned",))
    weight = sum(page.weight_minor for page in pages)
    if total_minor > weight:
        raise DomainError("settlement_total_invalid", total=total_minor, limit=weight)
    state = "sealed" if total_minor == weight else "funded"
    return replace(run, state=state, weight_minor=weight, total_minor=total_minor, changed=trace)


def remainder_of(run: Settlement, leaf: Voucher) -> int:
    """What rounding down takes from a leaf, as the numerator over the run's weight."""
    return run.total_minor * weight_of(leaf) % run.weight_minor


def share_of(run: Settlement, cut: Cut | None, leaf: Voucher) -> int:
    """What a leaf is paid: its weight, or its share of a short total."""
    weight = weight_of(leaf)
    if run.total_minor == run.weight_minor:
        return weight
    base = run.total_minor * weight // run.weight_minor
    if cut is None or not weight:
        return base
    place = (-remainder_of(run, leaf), leaf.root_id, leaf.start)
    return base + (1 if place < (-cut.remainder, cut.root_id, cut.start) else 0)


def share(
    run: Settlement, page: PlanPage, leaves: Sequence[Voucher], cut: Cut, trace: Trace
) -> tuple[Settlement, PlanPage]:
    """Compute a page's shares with a cut; the first page sets the run's cut, the others have to use the same.

    Raises ``state_wrong``, then ``cut_differs``.
    """
    check_state(run.run_id, run.state, "share", ("funded", "shared"))
    if page.page == 1:
        run = replace(run, state="shared", cut=cut, changed=trace)
    if run.cut != cut:
        raise DomainError("cut_differs", page=page.page, id=run.run_id)
    shares = sum(share_of(run, cut, leaf) for leaf in leaves)
    return run, replace(page, state="shared", share_minor=shares, cut=cut)


def seal(run: Settlement, pages: Sequence[PlanPage], trace: Trace) -> Settlement:
    """Accept the cut: only the right one makes the shares of all pages sum to the total.

    Raises ``state_wrong``, then ``shares_differ``.
    """
    check_state(run.run_id, run.state, "seal", ("shared",))
    shares = sum(page.share_minor for page in pages if page.cut == run.cut)
    if shares != run.total_minor:
        raise DomainError("shares_differ", sum=shares, total=run.total_minor)
    return replace(run, state="sealed", changed=trace)


def pay(page: PlanPage) -> PlanPage:
    """Mark a page as paid. Raises ``CONFLICT page_paid``."""
    if page.state == "paid":
        raise DomainError("page_paid", page=page.page, id=page.run_id)
    return replace(page, state="paid")


def close(run: Settlement, pages: Sequence[PlanPage], trace: Trace) -> Settlement:
    """End a run whose pages are all paid. Raises ``state_wrong``, then ``page_unpaid``."""
    check_state(run.run_id, run.state, "close", ("sealed",))
    for page in pages:
        if page.state != "paid":
            raise DomainError("page_unpaid", page=page.page, id=run.run_id)
    return replace(run, state="closed", changed=trace)
