"""Accounts: what the bank owes each member, as a settled balance, open credits and holds.

Only ``settled_minor`` can be debited. Every credit is a record of its own, so credits never meet each other nor a
debit;
a spending step names the credits that it folds into the balance first. Source: bank side specification, section 1.
"""

from datetime import date
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.money import total
from chaincode.domain.record import Amount, Currency, Id, MemberId, Record, check_state

STATES: Final = ("opened", "frozen", "closed")
CREDIT_STATES: Final = ("open", "folded")
HOLD_STATES: Final = ("held", "used", "released")

FOLDS_MAX: Final = 200
"""Credits that one step may fold: each is a read and a write."""

PAYEES_MAX: Final = 250
"""Payees of one settlement page: keeps its write set under 1 MB."""

BANK_ACCOUNTS: Final = ("FEE", "FUNDING")
"""The bank's own accounts, one of each per currency."""

AccountId = Annotated[str, Meta(pattern=r"^A-[A-Z0-9-]{1,29}-[A-Z]{3}$", description="Account id")]
CreditId = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}-[0-9]{4}$", description="Transaction id and number of a credit")]
HoldKind = Literal["withdrawal", "disbursement", "deposit", "bid", "settlement", "legal"]
Folds = Annotated[
    tuple[CreditId, ...], Meta(max_length=FOLDS_MAX, description="Credits to fold into the balance first")
]


class Balance(Record, frozen=True, kw_only=True):
    """One account per member and currency, or one of the bank's own (``member_id`` is then the bank's)."""

    account_id: str
    member_id: str
    currency: str
    state: str
    settled_minor: int


class Credit(Record, frozen=True, kw_only=True):
    """Money that came in and is not yet folded into the balance."""

    account_id: str
    credit_id: str
    amount_minor: int
    source: str
    reference: str
    state: str
    booked_on: date


class Hold(Record, frozen=True, kw_only=True):
    """Money set aside for one purpose."""

    account_id: str
    hold_id: str
    kind: HoldKind
    amount_minor: int
    reference: str
    state: str


class SettlementPage(Record, frozen=True, kw_only=True):
    """One paid page of a settlement run: its sum counts against the run's hold."""

    run_id: str
    page: int
    account_id: str
    hold_id: str
    amount_minor: int
    count: int
    state: str


class Payee(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account to be credited, and for what; a disputed payment goes into a legal hold of the account instead."""

    account_id: AccountId
    amount_minor: Amount
    reference: Id
    is_disputed: bool = False


Payees = Annotated[tuple[Payee, ...], Meta(min_length=1, max_length=PAYEES_MAX, description="Accounts to be credited")]


class OpenPosting(msgspec.Struct, tag_field="kind", tag="open", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Open the account of a member in a currency; nothing happens when there is one."""

    member_id: MemberId
    currency: Currency


class TransferPosting(
    msgspec.Struct, tag_field="kind", tag="transfer", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Debit one account and credit others of its currency."""

    account_id: AccountId
    payees: Payees
    source: Id
    folds: Folds = ()


class HoldPosting(msgspec.Struct, tag_field="kind", tag="hold", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Set money of an account aside."""

    account_id: AccountId
    hold_id: Id
    hold_kind: HoldKind
    amount_minor: Amount
    reference: Id
    folds: Folds = ()


class UsePosting(msgspec.Struct, tag_field="kind", tag="use", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pay accounts out of a hold; what is left of it comes back to its account as a credit."""

    account_id: AccountId
    hold_id: Id
    payees: Payees
    source: Id


class FreePosting(msgspec.Struct, tag_field="kind", tag="free", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give a hold back to its account as a credit."""

    account_id: AccountId
    hold_id: Id


class SettlePosting(
    msgspec.Struct, tag_field="kind", tag="settle", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Pay one page of a settlement run; the run's hold itself is not written, so pages never meet."""

    account_id: AccountId
    hold_id: Id
    run_id: Id
    page: Annotated[int, Meta(ge=1, le=100_000, description="Number of the page")]
    payees: Payees


Posting = OpenPosting | TransferPosting | HoldPosting | UsePosting | FreePosting | SettlePosting


def id_of(member_id: str, currency: str) -> str:
    """Account id of a member in a currency."""
    return f"A-{member_id}-{currency}"


def credit_id(transaction_id: str, number: int) -> str:
    """Id of the n-th credit that a transaction makes on one account."""
    return f"{transaction_id}-{number:04d}"


def open_account(member_id: str, currency: str, account_id: str) -> Balance:
    """An account without money."""
    return Balance(account_id=account_id, member_id=member_id, currency=currency, state="opened", settled_minor=0)


def fold(balance: Balance, credits: list[Credit]) -> tuple[Balance, list[Credit]]:
    """Move open credits into the settled balance. Raises ``credit_repeated``, then ``state_wrong``."""
    named: list[str] = []
    for credit in credits:
        if credit.credit_id in named:
            raise DomainError("credit_repeated", id=credit.credit_id)
        named.append(credit.credit_id)
        check_state(credit.credit_id, credit.state, "fold", ("open",))
    settled = total([balance.settled_minor, *(credit.amount_minor for credit in credits)])
    return replace(balance, settled_minor=settled), [replace(credit, state="folded") for credit in credits]


def debit(balance: Balance, amount_minor: int) -> Balance:
    """Take money from the settled balance. Raises ``account_frozen``, then ``funds_insufficient``."""
    if balance.state != "opened":
        raise DomainError("account_frozen", id=balance.account_id, state=balance.state)
    if amount_minor > balance.settled_minor:
        raise DomainError("funds_insufficient", available=balance.settled_minor, needed=amount_minor)
    return replace(balance, settled_minor=balance.settled_minor - amount_minor)


def use(hold: Hold, amount_minor: int) -> tuple[Hold, int]:
    """Use a hold for payments of an amount; answers the hold and what is left.

    Raises ``state_wrong``, then ``funds_insufficient``.
    """
    check_state(hold.hold_id, hold.state, "use", ("held",))
    if amount_minor > hold.amount_minor:
        raise DomainError("funds_insufficient", available=hold.amount_minor, needed=amount_minor)
    return replace(hold, state="used"), hold.amount_minor - amount_minor


def free(hold: Hold, used_minor: int = 0) -> Hold:
    """Give back what the pages of a settlement have not used of a hold, all of any other. Raises ``state_wrong``."""
    check_state(hold.hold_id, hold.state, "free", ("held",))
    return replace(hold, state="used" if used_minor else "released")
