"""Invoices and credit notes: registered by a party, used by vouchers."""

from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, indexed
from chaincode.contract.registry import TRADE
from chaincode.contract.step import Step, read, write
from chaincode.domain import invoice
from chaincode.domain.error import DomainError
from chaincode.domain.invoice import Invoice, Kind
from chaincode.domain.policy import CurrencyPolicy
from chaincode.domain.record import Amount, Currency, Digest, Id, Input, MemberId
from chaincode.ledger import invoice as invoices
from chaincode.ledger.invoice import INVOICES, MEMBER_INVOICES
from chaincode.ledger.member import MEMBERS
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract

PaperText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,40}$", description="Code or number of an invoice")]


class RegisterInvoice(Input, frozen=True, kw_only=True):
    """Argument of ``invoice:register``; without a currency the network's default is taken."""

    kind: Kind
    supplier_id: MemberId
    buyer_id: MemberId
    invoice_code: PaperText
    invoice_number: PaperText
    invoice_date: date
    amount_minor: Amount
    digest: Digest
    currency: Currency | None = None
    reduces_id: Id | None = None


class GetInvoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``invoice:get``."""

    invoice_id: Id


class ListInvoices(Listing, frozen=True, kw_only=True):
    """Argument of ``invoice:list``."""

    member_id: MemberId


class InvoicePage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of a member's invoices by id."""

    items: tuple[Invoice, ...]
    next: str | None


class InvoiceContract(Contract, name="invoice"):
    """Transactions of the word invoice."""

    @write("invoice:register", TRADE, roles=("operator",), event="invoice.registered", to_state="registered")
    def register(self, step: Step, input: RegisterInvoice) -> None:
        """Register an invoice, or a credit note that reduces one; the same paper again changes nothing.

        Who: operator of the supplier or of the buyer.
        Must hold: credit_target_missing, receiver_is_issuer, member_not_found (supplier),
        member_not_found (buyer), invoice_not_found (reduced one), not_owner, invoice_differs, member_not_real_named,
        currency_unknown, invoice_parties_differ, currency_differs, credit_too_large.
        Changes: the invoice is registered; an invoice that a credit note names is reduced.
        Event: invoice.registered, invoice.reduced.
        """
        paper = _paper(step, input)
        reduced = None if paper.reduces_id is None else INVOICES.load(step.store, paper.reduces_id)
        if step.actor.member_id not in (paper.supplier_id, paper.buyer_id):
            raise DomainError("not_owner", id=paper.invoice_id, member=step.actor.member_id)
        known = INVOICES.find(step.store, paper.invoice_id)
        if known is not None:
            invoice.check_same(known, paper)
            return
        for member_id in (paper.supplier_id, paper.buyer_id):
            MEMBERS.load(step.store, member_id).check_real_named()
        if paper.currency not in step.policy("currency", CurrencyPolicy).exponents:
            raise DomainError("currency_unknown", currency=paper.currency)
        lowered = None if reduced is None else invoice.reduce(reduced, paper, step.trace())
        invoices.create(step.store, paper)
        step.change("invoice", paper.invoice_id, "invoice.registered", paper)
        if lowered is not None:
            invoices.save(step.store, lowered)
            step.change("invoice", lowered.invoice_id, "invoice.reduced", lowered)

    @read("invoice:get")
    def get(self, store: Store, input: GetInvoice) -> Invoice:
        """One invoice or credit note.

        Who: everybody on the channel.
        Must hold: invoice_not_found.
        Changes: nothing.
        Event: none.
        """
        return INVOICES.load(store, input.invoice_id)

    @read("invoice:list")
    def list(self, store: Store, input: ListInvoices) -> InvoicePage:
        """Invoices and credit notes of a member, as supplier or buyer, by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = indexed(MEMBER_INVOICES, INVOICES, store, [input.member_id], input)
        return InvoicePage(items=items, next=following)


def _paper(step: Step, input: RegisterInvoice) -> Invoice:
    """The record of the paper, unused."""
    if (input.kind == "credit") != (input.reduces_id is not None):
        raise DomainError("credit_target_missing")
    if input.supplier_id == input.buyer_id:
        raise DomainError("receiver_is_issuer")
    supplier = MEMBERS.load(step.store, input.supplier_id)
    MEMBERS.load(step.store, input.buyer_id)
    return Invoice(
        invoice_id=invoice.id_of(input.kind, supplier.credit_code, input.invoice_code, input.invoice_number),
        kind=input.kind,
        state="registered",
        supplier_id=input.supplier_id,
        buyer_id=input.buyer_id,
        supplier_code=supplier.credit_code,
        invoice_code=input.invoice_code,
        invoice_number=input.invoice_number,
        invoice_date=input.invoice_date,
        amount_minor=input.amount_minor,
        currency=input.currency or step.policy("currency", CurrencyPolicy).default,
        reduces_id=input.reduces_id,
        digest=input.digest,
        used_minor=0,
        reduced_minor=0,
        changed=step.trace(),
    )
