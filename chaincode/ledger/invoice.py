"""Invoices and credit notes under (``invoice``, id); (``member_invoice``, member, id) lists both parties' papers."""

from typing import Final

from chaincode.domain.invoice import Invoice
from chaincode.ledger.repository import Index, Repository
from chaincode.ledger.store import Store

INVOICES: Final = Repository("invoice", Invoice, "invoice_not_found", "invoice_differs")
MEMBER_INVOICES: Final = Index("member_invoice")


def create(store: Store, invoice: Invoice) -> None:
    """Stage a new invoice with its index keys."""
    save(store, invoice)
    MEMBER_INVOICES.put(store, invoice.supplier_id, invoice.invoice_id)
    MEMBER_INVOICES.put(store, invoice.buyer_id, invoice.invoice_id)


def save(store: Store, invoice: Invoice) -> None:
    """Stage an invoice."""
    INVOICES.save(store, invoice, invoice.invoice_id)
