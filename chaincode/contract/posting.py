"""Carrying out the postings of one call: balances, credits and holds change in memory and are saved once.

The store shows a call its own writes, so several postings on one account add up instead of losing each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from chaincode.domain import account
from chaincode.domain.account import (
    BANK_ACCOUNTS,
    Balance,
    Credit,
    FreePosting,
    Hold,
    HoldPosting,
    OpenPosting,
    Payee,
    Posting,
    SettlementPage,
    SettlePosting,
    TransferPosting,
    UsePosting,
)
from chaincode.domain.error import DomainError
from chaincode.domain.instruction import Instruction
from chaincode.domain.money import total
from chaincode.domain.record import Record, check_state
from chaincode.domain.role import BANK_MSP, organisation_member
from chaincode.domain.settlement import PAGES_MAX
from chaincode.ledger import account as accounts
from chaincode.ledger.account import BALANCES, HOLDS, SETTLEMENT_PAGES
from chaincode.ledger.store import Store


@dataclass(slots=True)
class Book:
    """The accounts that one transaction moves, and what changed."""

    store: Store
    transaction_id: str
    business_date: date
    changes: dict[tuple[str, str], tuple[str, Record]] = field(default_factory=dict)
    credits_made: int = 0

    def carry_out(self, postings: Sequence[Posting]) -> None:
        """Carry out postings in their order; the first refusal ends the transaction."""
        for posting in postings:
            match posting:
                case OpenPosting():
                    self._open(posting)
                case TransferPosting():
                    self._transfer(posting)
                case HoldPosting():
                    self._hold(posting)
                case UsePosting():
                    self._use(posting)
                case FreePosting():
                    self._free(posting)
                case SettlePosting():
                    self._settle(posting)

    def credit(self, account_id: str, amount_minor: int, source: str, reference: str) -> Credit:
        """Credit an account by a new record. Raises ``account_not_found``, then ``account_frozen`` for a closed one."""
        balance = BALANCES.load(self.store, account_id)
        if balance.state == "closed":
            raise DomainError("account_frozen", id=account_id, state=balance.state)
        identifier = account.credit_id(self.transaction_id, self.credits_made)
        self.credits_made += 1
        made = Credit(
            account_id=account_id,
            credit_id=identifier,
            amount_minor=amount_minor,
            source=source,
            reference=reference,
            state="open",
            booked_on=self.business_date,
        )
        accounts.save_credit(self.store, made)
        self._note("credit", f"{account_id}/{identifier}", "credit.booked", made)
        return made

    def move(self, account_id: str, signed_minor: int, reference: str) -> None:
        """Credit a positive amount, debit a negative one. Raises ``account_not_found``, ``funds_insufficient``."""
        if signed_minor > 0:
            self.credit(account_id, signed_minor, reference, reference)
        else:
            balance = account.debit(BALANCES.load(self.store, account_id), -signed_minor)
            self._save_balance(balance, "account.debited")

    def confirm(self, instruction: Instruction) -> None:
        """Use the hold of a booked withdrawal: the amount has left, the fee goes to the bank's fee account."""
        hold = HOLDS.load(self.store, instruction.account_id, instruction.instruction_id)
        used, _ = account.use(hold, instruction.hold_minor)
        self._save_hold(used, "hold.used")
        if instruction.fee_minor:
            fee_account = account.id_of("FEE", instruction.currency)
            self.credit(fee_account, instruction.fee_minor, instruction.instruction_id, instruction.instruction_id)

    def fold(self, account_id: str, credit_ids: Sequence[str]) -> Balance:
        """Fold named credits into the balance and answer it. Raises ``account_not_found``, ``credit_not_found``."""
        balance = BALANCES.load(self.store, account_id)
        if not credit_ids:
            return balance
        found = [accounts.load_credit(self.store, account_id, identifier) for identifier in credit_ids]
        balance, folded = account.fold(balance, found)
        self._save_balance(balance, "account.folded")
        for credit in folded:
            accounts.save_credit(self.store, credit)
            self._note("credit", f"{account_id}/{credit.credit_id}", "credit.folded", credit)
        return balance

    def _open(self, posting: OpenPosting) -> None:
        names = [posting.member_id]
        if posting.member_id == organisation_member(BANK_MSP):
            names.extend(BANK_ACCOUNTS)
        for name in names:
            identifier = account.id_of(name, posting.currency)
            if BALANCES.find(self.store, identifier) is None:
                opened = account.open_account(posting.member_id, posting.currency, identifier)
                self._save_balance(opened, "account.opened")

    def _transfer(self, posting: TransferPosting) -> None:
        balance = self.fold(posting.account_id, posting.folds)
        self._pay(posting.payees, posting.source, balance.currency, debited=posting.account_id)

    def _pay(self, payees: Sequence[Payee], source: str, currency: str, debited: str | None) -> int:
        """Credit the payees, and debit their sum where an account is named; answers the sum."""
        amount_minor = total([payee.amount_minor for payee in payees])
        for payee in payees:
            if BALANCES.load(self.store, payee.account_id).currency != currency:
                raise DomainError("currency_differs", id=payee.account_id, currency=currency)
        if debited is not None:
            balance = account.debit(BALANCES.load(self.store, debited), amount_minor)
            self._save_balance(balance, "account.debited")
        for payee in payees:
            self.credit(payee.account_id, payee.amount_minor, source, payee.reference)
        return amount_minor

    def _hold(self, posting: HoldPosting) -> None:
        HOLDS.check_new(self.store, posting.account_id, posting.hold_id)
        balance = account.debit(self.fold(posting.account_id, posting.folds), posting.amount_minor)
        self._save_balance(balance, "account.debited")
        held = Hold(
            account_id=posting.account_id,
            hold_id=posting.hold_id,
            kind=posting.hold_kind,
            amount_minor=posting.amount_minor,
            reference=posting.reference,
            state="held",
        )
        self._save_hold(held, "hold.held")

    def _use(self, posting: UsePosting) -> None:
        hold = HOLDS.load(self.store, posting.account_id, posting.hold_id)
        used, left = account.use(hold, total([payee.amount_minor for payee in posting.payees]))
        currency = BALANCES.load(self.store, posting.account_id).currency
        self._save_hold(used, "hold.used")
        self._pay(posting.payees, posting.source, currency, debited=None)
        if left:
            self.credit(posting.account_id, left, posting.source, posting.hold_id)

    def _free(self, posting: FreePosting) -> None:
        hold = HOLDS.load(self.store, posting.account_id, posting.hold_id)
        used = self._settled(hold) if hold.kind == "settlement" else 0
        freed = account.free(hold, used)
        self._save_hold(freed, f"hold.{'used' if used else 'freed'}")
        if hold.amount_minor > used:
            self.credit(posting.account_id, hold.amount_minor - used, "release", posting.hold_id)

    def _settle(self, posting: SettlePosting) -> None:
        page_attributes = (posting.run_id, f"{posting.page:06d}")
        if SETTLEMENT_PAGES.find(self.store, *page_attributes) is not None:
            raise DomainError("settlement_page_exists", page=posting.page, id=posting.run_id)
        hold = HOLDS.load(self.store, posting.account_id, posting.hold_id)
        check_state(hold.hold_id, hold.state, "settle", ("held",))
        currency = BALANCES.load(self.store, posting.account_id).currency
        paid = SettlementPage(
            run_id=posting.run_id,
            page=posting.page,
            account_id=posting.account_id,
            hold_id=posting.hold_id,
            amount_minor=total([payee.amount_minor for payee in posting.payees]),
            count=len(posting.payees),
            state="paid",
        )
        SETTLEMENT_PAGES.save(self.store, paid, *page_attributes)
        self._note("settlement_page", f"{posting.run_id}/{posting.page}", "settlement_page.paid", paid)
        for payee in posting.payees:
            self._open_for(payee.account_id, currency)
            if payee.is_disputed:
                self._hold_disputed(payee)
        undisputed = [payee for payee in posting.payees if not payee.is_disputed]
        self._pay(undisputed, posting.run_id, currency, debited=None)

    def _open_for(self, account_id: str, currency: str) -> None:
        """Open the account of a payee that has none in this currency yet."""
        if BALANCES.find(self.store, account_id) is None:
            member_id = account_id.removeprefix("A-").removesuffix(f"-{currency}")
            self._save_balance(account.open_account(member_id, currency, account_id), "account.opened")

    def _hold_disputed(self, payee: Payee) -> None:
        held = Hold(
            account_id=payee.account_id,
            hold_id=payee.reference,
            kind="legal",
            amount_minor=payee.amount_minor,
            reference=payee.reference,
            state="held",
        )
        self._save_hold(held, "hold.held")

    def _settled(self, hold: Hold) -> int:
        """What the paid pages of a settlement hold have used."""
        rows = SETTLEMENT_PAGES.rows(self.store, [hold.hold_id], None, PAGES_MAX + 1)
        return sum(page.amount_minor for _, page in rows)

    def _save_balance(self, balance: Balance, event: str) -> None:
        accounts.save_balance(self.store, balance)
        self._note("account", balance.account_id, event, balance)

    def _save_hold(self, hold: Hold, event: str) -> None:
        accounts.save_hold(self.store, hold)
        self._note("hold", f"{hold.account_id}/{hold.hold_id}", event, hold)

    def _note(self, word: str, identifier: str, event: str, record: Record) -> None:
        self.changes[(word, identifier)] = (event, record)
