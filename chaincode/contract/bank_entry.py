"""Bank entries: how money comes in. Only the bank records them."""

from datetime import date

import msgspec

from chaincode.contract.page import Listing, records
from chaincode.contract.posting import Book
from chaincode.contract.registry import ACCOUNT
from chaincode.contract.step import Step, read, write
from chaincode.domain import account, bank_entry
from chaincode.domain.account import AccountId
from chaincode.domain.bank_entry import BankEntry, Direction, Resolution, Suspense, SuspenseReason
from chaincode.domain.error import DomainError
from chaincode.domain.record import Amount, Currency, Id, Input, Label, Reason
from chaincode.domain.role import BANK_MSP
from chaincode.ledger.account import BALANCES
from chaincode.ledger.bank_entry import BANK_ENTRIES, SUSPENSES
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract


class RecordBankEntry(Input, frozen=True, kw_only=True):
    """Argument of ``bank_entry:record``: either the account that is credited or the reason why none is known."""

    entry_id: Id
    control_account: Label
    currency: Currency
    amount_minor: Amount
    direction: Direction
    booking_date: date
    value_date: date
    servicer_reference: Label
    account_id: AccountId | None = None
    suspense_reason: SuspenseReason | None = None


class GetBankEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``bank_entry:get`` and ``suspense:get``."""

    entry_id: Id


class NamedSuspense(Input, frozen=True, kw_only=True):
    """Argument of ``suspense:assign`` and ``suspense:approve``."""

    entry_id: Id


class ProposeSuspense(Input, frozen=True, kw_only=True):
    """Argument of ``suspense:propose``: how a case ends, with the account to credit or the entry to set off."""

    entry_id: Id
    resolution: Resolution
    reason: Reason
    account_id: AccountId | None = None
    counter_entry_id: Id | None = None


class BankEntryPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of bank entries by id."""

    items: tuple[BankEntry, ...]
    next: str | None


class SuspensePage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of entries without a match by entry id."""

    items: tuple[Suspense, ...]
    next: str | None


class BankEntryContract(Contract, name="bank_entry"):
    """Transactions of the word bank_entry."""

    @write(
        "bank_entry:record",
        ACCOUNT,
        roles=("treasury",),
        event="bank_entry.recorded",
        moves_value=True,
        to_state="matched",
    )
    def record(self, step: Step, input: RecordBankEntry) -> None:
        """Record a booked entry of the control account: a credit goes to its account or, without a match, into
        suspense.

        Who: treasury of the bank.
        Must hold: posting_invalid, bank_entry_exists, account_not_found, bank_identity_required, currency_differs.
        Changes: the entry is matched and the account credited, or the entry is suspended.
        Event: bank_entry.recorded, credit.booked or suspense.opened.
        """
        if (input.account_id is None) is (input.suspense_reason is None):
            raise DomainError("posting_invalid", rule="name an account or a suspense reason")
        if input.account_id is not None and input.direction == "D":
            raise DomainError("posting_invalid", rule="a debit without an instruction goes into suspense")
        BANK_ENTRIES.check_new(step.store, input.entry_id)
        credited = None if input.account_id is None else BALANCES.load(step.store, input.account_id)
        if step.actor.msp_id != BANK_MSP:
            raise DomainError("bank_identity_required")
        if credited is not None and credited.currency != input.currency:
            raise DomainError("currency_differs", id=credited.account_id, currency=credited.currency)
        entry = _entry(step, input)
        BANK_ENTRIES.save(step.store, entry, entry.entry_id)
        step.change("bank_entry", entry.entry_id, "bank_entry.recorded", entry)
        if credited is not None:
            book = Book(store=step.store, transaction_id=step.tx.transaction_id, business_date=step.today)
            book.credit(credited.account_id, entry.amount_minor, entry.entry_id, entry.entry_id)
            step.changes.update(book.changes)
        elif input.suspense_reason is not None:
            _suspend(step, entry, input.suspense_reason)

    @read("bank_entry:get")
    def get(self, store: Store, input: GetBankEntry) -> BankEntry:
        """One bank entry.

        Who: everybody on the channel.
        Must hold: bank_entry_not_found.
        Changes: nothing.
        Event: none.
        """
        return BANK_ENTRIES.load(store, input.entry_id)

    @read("bank_entry:list")
    def list(self, store: Store, input: Listing) -> BankEntryPage:
        """Bank entries by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(BANK_ENTRIES, store, [], input)
        return BankEntryPage(items=items, next=following)


class SuspenseContract(Contract, name="suspense"):
    """Transactions of the word suspense."""

    @write("suspense:assign", ACCOUNT, roles=("treasury",), event="suspense.assigned", to_state="assigned")
    def assign(self, step: Step, input: NamedSuspense) -> None:
        """Take a case on.

        Who: treasury of the bank.
        Must hold: suspense_not_found, bank_identity_required, state_wrong.
        Changes: the case is assigned to the acting person.
        Event: suspense.assigned.
        """
        known = SUSPENSES.load(step.store, input.entry_id)
        _check_bank(step)
        _save_suspense(step, bank_entry.assign(known, step.trace()), "suspense.assigned")

    @write(
        "suspense:propose",
        ACCOUNT,
        roles=("treasury",),
        event="suspense.proposed",
        moves_value=True,
        from_states=("assigned",),
        to_state="proposed",
    )
    def propose(self, step: Step, input: ProposeSuspense) -> None:
        """Propose how a case ends.

        Who: treasury of the bank.
        Must hold: suspense_not_found, suspense_not_found (counter entry), account_not_found, bank_identity_required,
        resolution_invalid, state_wrong.
        Changes: the case has a proposal.
        Event: suspense.proposed.
        """
        known = SUSPENSES.load(step.store, input.entry_id)
        if input.counter_entry_id is not None:
            SUSPENSES.load(step.store, input.counter_entry_id)
        if input.account_id is not None:
            BALANCES.load(step.store, input.account_id)
        _check_bank(step)
        trace = step.trace(input.reason)
        proposed = bank_entry.propose(known, input.resolution, input.account_id, input.counter_entry_id, trace)
        _save_suspense(step, proposed, "suspense.proposed")

    @write(
        "suspense:approve",
        ACCOUNT,
        roles=("treasury",),
        event="suspense.resolved",
        moves_value=True,
        from_states=("proposed",),
        to_state="resolved",
    )
    def approve(self, step: Step, input: NamedSuspense) -> None:
        """End a case as proposed: credit an account, set off a counter entry, or take it to the bank's funding account.

        Who: treasury of the bank, another person than the proposer.
        Must hold: suspense_not_found, bank_identity_required, state_wrong, same_person, counter_differs,
        currency_differs, funds_insufficient.
        Changes: the case is resolved; its amount is where the proposal says.
        Event: suspense.resolved, credit.booked, account.debited.
        """
        known = SUSPENSES.load(step.store, input.entry_id)
        _check_bank(step)
        resolved = bank_entry.resolve(known, step.trace())
        _save_suspense(step, resolved, "suspense.resolved")
        if resolved.counter_entry_id is not None:
            counter = SUSPENSES.load(step.store, resolved.counter_entry_id)
            _save_suspense(step, bank_entry.set_off(resolved, counter, step.trace()), "suspense.resolved")
            return
        book = Book(store=step.store, transaction_id=step.tx.transaction_id, business_date=step.today)
        target = resolved.account_id or account.id_of("FUNDING", resolved.currency)
        if BALANCES.load(step.store, target).currency != resolved.currency:
            raise DomainError("currency_differs", id=target, currency=resolved.currency)
        book.move(target, resolved.signed_minor, resolved.entry_id)
        step.changes.update(book.changes)

    @read("suspense:get")
    def get(self, store: Store, input: GetBankEntry) -> Suspense:
        """One entry without a match.

        Who: everybody on the channel.
        Must hold: suspense_not_found.
        Changes: nothing.
        Event: none.
        """
        return SUSPENSES.load(store, input.entry_id)

    @read("suspense:list")
    def list(self, store: Store, input: Listing) -> SuspensePage:
        """Entries without a match by entry id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(SUSPENSES, store, [], input)
        return SuspensePage(items=items, next=following)


def _entry(step: Step, input: RecordBankEntry) -> BankEntry:
    return BankEntry(
        entry_id=input.entry_id,
        state="matched" if input.account_id else "suspended",
        control_account=input.control_account,
        currency=input.currency,
        amount_minor=input.amount_minor,
        direction=input.direction,
        booking_date=input.booking_date,
        value_date=input.value_date,
        booked_on=step.today,
        servicer_reference=input.servicer_reference,
        matched_to=input.account_id,
    )


def _suspend(step: Step, entry: BankEntry, reason: SuspenseReason) -> None:
    suspense = Suspense(
        entry_id=entry.entry_id,
        currency=entry.currency,
        signed_minor=entry.signed_minor,
        reason=reason,
        state="new",
        opened_on=step.today,
        assigned_to=None,
        proposed_by=None,
        resolution=None,
        account_id=None,
        counter_entry_id=None,
        changed=step.trace(),
    )
    _save_suspense(step, suspense, "suspense.opened")


def _save_suspense(step: Step, record: Suspense, event: str) -> None:
    SUSPENSES.save(step.store, record, record.entry_id)
    step.change("suspense", record.entry_id, event, record)


def _check_bank(step: Step) -> None:
    if step.actor.msp_id != BANK_MSP:
        raise DomainError("bank_identity_required")
