"""Accounts: balances, credits, holds and paid settlement pages, each under its own word."""

from typing import Final

from chaincode.domain.account import Balance, Credit, Hold, SettlementPage
from chaincode.ledger.repository import Repository
from chaincode.ledger.store import Store

BALANCES: Final = Repository("balance", Balance, "account_not_found", "account_exists")
CREDITS: Final = Repository("credit", Credit, "credit_not_found", "credit_exists")
HOLDS: Final = Repository("hold", Hold, "hold_not_found", "hold_exists")
SETTLEMENT_PAGES: Final = Repository("settlement_page", SettlementPage, "page_not_found", "settlement_page_exists")


def _credit_attributes(account_id: str, credit_id: str) -> tuple[str, str, str]:
    transaction_id, _, number = credit_id.rpartition("-")
    return account_id, transaction_id, number


def save_balance(store: Store, balance: Balance) -> None:
    """Stage a balance."""
    BALANCES.save(store, balance, balance.account_id)


def load_credit(store: Store, account_id: str, credit_id: str) -> Credit:
    """One credit of an account. Raises ``NOT_FOUND credit_not_found``."""
    return CREDITS.load(store, *_credit_attributes(account_id, credit_id))


def save_credit(store: Store, credit: Credit) -> None:
    """Stage a credit."""
    CREDITS.save(store, credit, *_credit_attributes(credit.account_id, credit.credit_id))


def save_hold(store: Store, hold: Hold) -> None:
    """Stage a hold."""
    HOLDS.save(store, hold, hold.account_id, hold.hold_id)
