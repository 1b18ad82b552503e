"""The whole state of a world as records, and every invariant over it."""

from typing import Any

from chaincode.domain import invariant
from chaincode.ledger.account import BALANCES, CREDITS, HOLDS, SETTLEMENT_PAGES
from chaincode.ledger.bank_entry import BANK_ENTRIES, SUSPENSES
from chaincode.ledger.invoice import INVOICES
from chaincode.ledger.lien import LIENS
from chaincode.ledger.quota import QUOTA_SLICES, QUOTAS
from chaincode.ledger.repository import Repository
from chaincode.ledger.voucher import VOUCHERS
from tests.chaincode.contract.world import World

ROWS_MAX = 100_000


def all_of(world: World, chaincode: str, repository: Repository[Any]) -> list[Any]:
    """All committed records of a word."""
    prefix = f"\x00{repository.word}\x00".encode()
    rows = world.ledger.ledger.current.state_range(chaincode, prefix, prefix + b"\xf4", ROWS_MAX)
    return [repository.decode(row[1]) for row in rows]


def violations(world: World) -> list[str]:
    """What every invariant finds."""
    vouchers = all_of(world, "trade", VOUCHERS)
    invoices = all_of(world, "trade", INVOICES)
    slices = all_of(world, "trade", QUOTA_SLICES)
    balances = all_of(world, "account", BALANCES)
    return [
        *invariant.voucher_units(vouchers),
        *invariant.money(
            balances,
            all_of(world, "account", CREDITS),
            all_of(world, "account", HOLDS),
            all_of(world, "account", SETTLEMENT_PAGES),
            all_of(world, "account", BANK_ENTRIES),
            all_of(world, "account", SUSPENSES),
        ),
        *invariant.nothing_negative(balances, slices, invoices),
        *invariant.quota(all_of(world, "trade", QUOTAS), slices),
        *invariant.invoice_use(invoices, vouchers, all_of(world, "trade", LIENS)),
    ]
