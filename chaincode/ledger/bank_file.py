"""Bank files under (``bank_file``, sender, message id)."""

from typing import Final

from chaincode.domain.bank_file import BankFile
from chaincode.ledger.repository import Repository

BANK_FILES: Final = Repository("bank_file", BankFile, "bank_file_not_found", "file_reused")
