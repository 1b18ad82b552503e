"""Bank entries under (``bank_entry``, id) and entries without a match under (``suspense``, entry id)."""

from typing import Final

from chaincode.domain.bank_entry import BankEntry, Suspense
from chaincode.ledger.repository import Repository

BANK_ENTRIES: Final = Repository("bank_entry", BankEntry, "bank_entry_not_found", "bank_entry_exists")
SUSPENSES: Final = Repository("suspense", Suspense, "suspense_not_found", "bank_entry_exists")
