"""Instructions under (``instruction``, id); (``account_instruction``, account, id) lists an account's."""

from typing import Final

from chaincode.domain.instruction import Instruction
from chaincode.ledger.repository import Index, Repository

INSTRUCTIONS: Final = Repository("instruction", Instruction, "instruction_not_found", "instruction_exists")
ACCOUNT_INSTRUCTIONS: Final = Index("account_instruction")
