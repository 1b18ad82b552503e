"""Accounts: the one writing call of ``trade``, and what the bank and members do directly."""

from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, records
from chaincode.contract.posting import Book
from chaincode.contract.registry import ACCOUNT
from chaincode.contract.step import PostAnswer, Step, called, read, write
from chaincode.domain import account
from chaincode.domain.account import FOLDS_MAX, AccountId, Balance, Credit, CreditId, Hold, OpenPosting, Posting
from chaincode.domain.error import DomainError
from chaincode.domain.record import Currency, Id, Input, MemberId, UserId
from chaincode.domain.role import BANK_MSP
from chaincode.ledger import account as accounts
from chaincode.ledger.account import BALANCES, CREDITS, HOLDS
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract, Transaction

POSTINGS_MAX = 250
"""Postings of one call."""


class PostActor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The acting person as ``trade`` found it."""

    member_id: MemberId
    user_id: UserId
    msp_id: str


class PostAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``account:post``; it has no request id of its own, the calling step has one."""

    business_date: date
    actor: PostActor
    postings: Annotated[tuple[Posting, ...], Meta(min_length=1, max_length=POSTINGS_MAX)]


class OpenAccount(Input, frozen=True, kw_only=True):
    """Argument of ``account:open``: an account that the member has, and the further currency."""

    known_account_id: AccountId
    currency: Currency


class FoldAccount(Input, frozen=True, kw_only=True):
    """Argument of ``account:fold``."""

    account_id: AccountId
    credit_ids: Annotated[tuple[CreditId, ...], Meta(min_length=1, max_length=FOLDS_MAX)]


class GetAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``account:get``."""

    account_id: AccountId


class AccountPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of accounts by id."""

    items: tuple[Balance, ...]
    next: str | None


class GetCredit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``credit:get``."""

    account_id: AccountId
    credit_id: CreditId


class ListCredits(Listing, frozen=True, kw_only=True):
    """Argument of ``credit:list``."""

    account_id: AccountId


class CreditPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of an account's credits, open and folded, by id."""

    items: tuple[Credit, ...]
    next: str | None


class GetHold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``hold:get``."""

    account_id: AccountId
    hold_id: Id


class ListHolds(Listing, frozen=True, kw_only=True):
    """Argument of ``hold:list``."""

    account_id: AccountId


class HoldPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of an account's holds by id."""

    items: tuple[Hold, ...]
    next: str | None


class AccountContract(Contract, name="account"):
    """Transactions of the word account."""

    @called("account:post", event="account.posted")
    def post(self, tx: Transaction, input: PostAccount) -> PostAnswer:
        """Carry out postings: the one writing call that a step of ``trade`` makes, when it is saved.

        Who: nobody directly; the chaincode trade, as part of a step whose proposal names it.
        Must hold: direct_call_refused, account_not_found, credit_not_found, hold_not_found, hold_exists,
        settlement_page_exists, state_wrong, credit_repeated, currency_differs, account_frozen, funds_insufficient.
        Changes: accounts, credits, holds and settlement pages as the postings say.
        Event: none of its own; the calling step carries the changes.
        """
        if tx.outermost_chaincode != "trade":
            raise DomainError("direct_call_refused", outermost="trade")
        store = Store(tx)
        book = Book(store=store, transaction_id=tx.transaction_id, business_date=input.business_date)
        book.carry_out(input.postings)
        store.flush()
        return PostAnswer(
            changes=tuple(
                {"word": word, "id": identifier, "event": event, "record": record}
                for (word, identifier), (event, record) in book.changes.items()
            )
        )

    @write("account:open", ACCOUNT, roles=("treasury",), event="account.opened", to_state="opened")
    def open(self, step: Step, input: OpenAccount) -> None:
        """Open an account in a further currency for a member that has one already.

        Who: treasury of the bank.
        Must hold: account_not_found, account_exists, bank_identity_required.
        Changes: the account is opened.
        Event: account.opened.
        """
        member_id = BALANCES.load(step.store, input.known_account_id).member_id
        identifier = account.id_of(member_id, input.currency)
        BALANCES.check_new(step.store, identifier)
        if step.actor.msp_id != BANK_MSP:
            raise DomainError("bank_identity_required")
        book = Book(store=step.store, transaction_id=step.tx.transaction_id, business_date=step.today)
        book.carry_out((OpenPosting(member_id=member_id, currency=input.currency),))
        step.changes.update(book.changes)

    @write(
        "account:fold", ACCOUNT, roles=("treasury", "operator", "approver"), event="account.folded", moves_value=True
    )
    def fold(self, step: Step, input: FoldAccount) -> None:
        """Fold named open credits into the settled balance, so that they can be spent.

        Who: treasury of the bank for every account; operator or approver of the account's member.
        Must hold: account_not_found, credit_not_found, not_owner, credit_repeated, state_wrong.
        Changes: the balance grows, the credits are folded.
        Event: credit.folded, account.folded.
        """
        known = BALANCES.load(step.store, input.account_id)
        for identifier in input.credit_ids:
            accounts.load_credit(step.store, input.account_id, identifier)
        is_bank = step.actor.msp_id == BANK_MSP and "treasury" in step.actor.roles
        if not is_bank and known.member_id != step.actor.member_id:
            raise DomainError("not_owner", id=known.account_id, member=step.actor.member_id)
        book = Book(store=step.store, transaction_id=step.tx.transaction_id, business_date=step.today)
        book.fold(input.account_id, input.credit_ids)
        step.changes.update(book.changes)

    @read("account:get")
    def get(self, store: Store, input: GetAccount) -> Balance:
        """One account; what is available besides are its open credits (``credit:list``).

        Who: everybody on the channel.
        Must hold: account_not_found.
        Changes: nothing.
        Event: none.
        """
        return BALANCES.load(store, input.account_id)

    @read("account:list")
    def list(self, store: Store, input: Listing) -> AccountPage:
        """Accounts by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(BALANCES, store, [], input)
        return AccountPage(items=items, next=following)


class CreditContract(Contract, name="credit"):
    """Transactions of the word credit."""

    @read("credit:get")
    def get(self, store: Store, input: GetCredit) -> Credit:
        """One credit.

        Who: everybody on the channel.
        Must hold: credit_not_found.
        Changes: nothing.
        Event: none.
        """
        return accounts.load_credit(store, input.account_id, input.credit_id)

    @read("credit:list")
    def list(self, store: Store, input: ListCredits) -> CreditPage:
        """Credits of an account, open and folded, by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(CREDITS, store, [input.account_id], input)
        return CreditPage(items=items, next=following)


class HoldContract(Contract, name="hold"):
    """Transactions of the word hold."""

    @read("hold:get")
    def get(self, store: Store, input: GetHold) -> Hold:
        """One hold.

        Who: everybody on the channel.
        Must hold: hold_not_found.
        Changes: nothing.
        Event: none.
        """
        return HOLDS.load(store, input.account_id, input.hold_id)

    @read("hold:list")
    def list(self, store: Store, input: ListHolds) -> HoldPage:
        """Holds of an account by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(HOLDS, store, [input.account_id], input)
        return HoldPage(items=items, next=following)
