"""Invoices and credit notes: what backs vouchers, used cumulatively up to its amount.

The id is derived from supplier, code and number, so that the same paper has one record. Buyer, date and amount are its
content.
"""

import base64
import hashlib
from datetime import date
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.record import Amount, Id, Record, Trace

STATES: Final = ("registered",)

Kind = Literal["invoice", "credit"]


class Invoice(Record, frozen=True, kw_only=True):
    """One invoice or credit note. ``used_minor`` backs vouchers, ``reduced_minor`` was taken off by credit notes."""

    invoice_id: str
    kind: Kind
    state: str
    supplier_id: str
    buyer_id: str
    supplier_code: str
    invoice_code: str
    invoice_number: str
    invoice_date: date
    amount_minor: int
    currency: str
    reduces_id: str | None
    digest: str
    used_minor: int
    reduced_minor: int
    changed: Trace

    @property
    def free_minor(self) -> int:
        """What may still back vouchers; below 0 when a credit note came after the use."""
        return self.amount_minor - self.reduced_minor - self.used_minor


class InvoiceUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of an invoice that backs a voucher."""

    invoice_id: Id
    amount_minor: Amount


def id_of(kind: Kind, supplier_code: str, invoice_code: str, invoice_number: str) -> str:
    """``I-`` and 26 base32 characters of the SHA-256 over kind, supplier's credit code, invoice code and number."""
    text = "\n".join((kind, supplier_code, invoice_code, invoice_number))
    return "I-" + base64.b32encode(hashlib.sha256(text.encode()).digest()).decode("ascii")[:26]


def check_same(known: Invoice, other: Invoice) -> None:
    """Refuse other content under the same id. Raises ``CONFLICT invoice_differs``."""
    for what in ("buyer_id", "invoice_date", "amount_minor", "currency", "reduces_id", "digest"):
        if getattr(known, what) != getattr(other, what):
            raise DomainError("invoice_differs", id=known.invoice_id, what=what)


def check_parties(invoice: Invoice, supplier_id: str, buyer_id: str) -> None:
    """Refuse an invoice between other companies, and a credit note. Raises ``CONFLICT invoice_parties_differ``."""
    if (invoice.kind, invoice.supplier_id, invoice.buyer_id) != ("invoice", supplier_id, buyer_id):
        raise DomainError("invoice_parties_differ", id=invoice.invoice_id)


def use(invoice: Invoice, amount_minor: int, currency: str, trace: Trace) -> Invoice:
    """Let an invoice back a further amount. Raises ``currency_differs``, then ``invoice_used_up``."""
    if invoice.currency != currency:
        raise DomainError("currency_differs", id=invoice.invoice_id, currency=invoice.currency)
    if amount_minor > invoice.free_minor:
        raise DomainError("invoice_used_up", id=invoice.invoice_id, free=invoice.free_minor, needed=amount_minor)
    return replace(invoice, used_minor=invoice.used_minor + amount_minor, changed=trace)


def check_covered(invoice: Invoice) -> None:
    """Refuse an invoice whose use exceeds what credit notes left of it. Raises ``CONFLICT invoice_used_up``."""
    if invoice.free_minor < 0:
        raise DomainError("invoice_used_up", id=invoice.invoice_id, free=0, needed=-invoice.free_minor)


def give_back(invoice: Invoice, amount_minor: int, trace: Trace) -> Invoice:
    """Free the part that backed a voucher which was refused or cancelled."""
    return replace(invoice, used_minor=invoice.used_minor - amount_minor, changed=trace)


def reduce(invoice: Invoice, credit: Invoice, trace: Trace) -> Invoice:
    """Take a credit note off an invoice, down to 0 at most, even below what is used already.

    Raises ``invoice_parties_differ``, ``currency_differs``, then ``credit_too_large``.
    """
    check_parties(invoice, credit.supplier_id, credit.buyer_id)
    if invoice.currency != credit.currency:
        raise DomainError("currency_differs", id=invoice.invoice_id, currency=invoice.currency)
    left = invoice.amount_minor - invoice.reduced_minor
    if credit.amount_minor > left:
        raise DomainError("credit_too_large", id=invoice.invoice_id, free=left)
    return replace(invoice, reduced_minor=invoice.reduced_minor + credit.amount_minor, changed=trace)
