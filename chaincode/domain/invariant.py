"""What is true of the whole state after every transaction, as functions from records to violations.

Each function takes all records of the words it names and answers sentences, none when all is well. They run in tests
and in reconciliation, never in a transaction.
"""

from collections.abc import Sequence

from chaincode.domain.account import Balance, Credit, Hold, SettlementPage
from chaincode.domain.bank_entry import BankEntry, Suspense
from chaincode.domain.invoice import Invoice
from chaincode.domain.lien import Lien
from chaincode.domain.quota import Quota, Slice
from chaincode.domain.voucher import Voucher

_BEFORE_ACCEPTANCE = ("draft", "submitted", "returned", "approved", "issued", "refused", "cancelled")


def voucher_units(vouchers: Sequence[Voucher]) -> list[str]:
    """The leaves of every accepted root are disjoint and cover it exactly; amount is length."""
    found: list[str] = []
    leaves: dict[str, list[Voucher]] = {}
    for voucher in vouchers:
        if voucher.amount_minor != voucher.end - voucher.start + 1 or voucher.amount_minor < 1:
            found.append(f"{voucher.voucher_id}: the amount is not the length of the range")
        if voucher.state != "split":
            leaves.setdefault(voucher.root_id, []).append(voucher)
    for voucher in vouchers:
        if voucher.parent_id is not None or voucher.state in _BEFORE_ACCEPTANCE:
            continue
        place = 1
        for leaf in sorted(leaves.get(voucher.root_id, []), key=lambda leaf: leaf.start):
            if leaf.start != place:
                found.append(f"{leaf.voucher_id}: begins at {leaf.start}, expected {place}")
            place = leaf.end + 1
        if place != voucher.end + 1:
            found.append(f"{voucher.root_id}: the leaves end at {place - 1}, the root at {voucher.end}")
    return found


def money(
    balances: Sequence[Balance],
    credits: Sequence[Credit],
    holds: Sequence[Hold],
    pages: Sequence[SettlementPage],
    entries: Sequence[BankEntry],
    suspenses: Sequence[Suspense],
) -> list[str]:
    """Per currency: settled + live holds + open credits + open suspense = booked credits - booked debits."""
    currencies = {balance.account_id: balance.currency for balance in balances}
    paid: dict[str, int] = {}
    for page in pages:
        paid[page.hold_id] = paid.get(page.hold_id, 0) + page.amount_minor
    sums: dict[str, int] = {}

    def add(currency: str, amount_minor: int) -> None:
        sums[currency] = sums.get(currency, 0) + amount_minor

    for balance in balances:
        add(balance.currency, balance.settled_minor)
    for credit in credits:
        add(currencies[credit.account_id], credit.amount_minor if credit.state == "open" else 0)
    for hold in holds:
        used = paid.get(hold.hold_id, 0) if hold.kind == "settlement" else 0
        add(currencies[hold.account_id], hold.amount_minor - used if hold.state == "held" else 0)
    for suspense in suspenses:
        add(suspense.currency, 0 if suspense.state == "resolved" else suspense.signed_minor)
    for entry in entries:
        add(entry.currency, -entry.signed_minor)
    return [
        f"{currency}: the ledger differs from the bank by {sums[currency]}"
        for currency in sorted(sums)
        if sums[currency]
    ]


def nothing_negative(balances: Sequence[Balance], slices: Sequence[Slice], invoices: Sequence[Invoice]) -> list[str]:
    """No balance, limit or use is below zero."""
    found = [balance.account_id for balance in balances if balance.settled_minor < 0]
    found += [f"{piece.quota_id}/{piece.number}" for piece in slices if piece.used_minor < 0 or piece.limit_minor < 0]
    found += [paper.invoice_id for paper in invoices if paper.used_minor < 0 or paper.reduced_minor < 0]
    return [f"{identifier}: an amount is negative" for identifier in found]


def quota(quotas: Sequence[Quota], slices: Sequence[Slice]) -> list[str]:
    """No slice is used beyond its limit, and the limits of a granted quota sum to it."""
    found = [
        f"{piece.quota_id}/{piece.number}: used beyond its limit"
        for piece in slices
        if piece.used_minor > piece.limit_minor
    ]
    for granted in quotas:
        limits = [piece.limit_minor for piece in slices if piece.quota_id == granted.quota_id]
        if limits and sum(limits) != granted.limit_minor:
            found.append(f"{granted.quota_id}: the slices sum to {sum(limits)}")
    return found


def invoice_use(invoices: Sequence[Invoice], vouchers: Sequence[Voucher], liens: Sequence[Lien]) -> list[str]:
    """What vouchers use of an invoice is what the invoice says, and an invoice that is used has its lien."""
    used: dict[str, int] = {}
    for voucher in vouchers:
        if voucher.state not in ("refused", "cancelled"):
            for use in voucher.invoices:
                used[use.invoice_id] = used.get(use.invoice_id, 0) + use.amount_minor
    taken = [lien.claim_id for lien in liens if lien.claim_word == "invoice" and lien.state == "taken"]
    found: list[str] = []
    for paper in invoices:
        if paper.used_minor != used.get(paper.invoice_id, 0):
            found.append(f"{paper.invoice_id}: vouchers use {used.get(paper.invoice_id, 0)} of it")
        if (paper.used_minor > 0) is not (paper.invoice_id in taken):
            found.append(f"{paper.invoice_id}: use and lien contradict each other")
    return found
