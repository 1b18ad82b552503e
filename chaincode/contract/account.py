"""The chaincode ``account``: money. Served as ``chaincode.contract.account:chaincode``."""

from typing import Final

from chaincode.contract.balance import AccountContract, CreditContract, HoldContract
from chaincode.contract.bank_entry import BankEntryContract, SuspenseContract
from chaincode.contract.bank_file import BankFileContract
from chaincode.contract.batch import BatchContract
from chaincode.contract.binding import BindingContract
from chaincode.contract.day import DayContract
from chaincode.contract.instruction import InstructionContract
from chaincode.contract.policy import AccountPolicyContract
from chaincode.shim.contract import Chaincode

chaincode: Final = Chaincode(
    "account",
    "0.1.0",
    (
        AccountContract,
        CreditContract,
        HoldContract,
        BankEntryContract,
        SuspenseContract,
        DayContract,
        BindingContract,
        InstructionContract,
        BatchContract,
        BankFileContract,
        AccountPolicyContract,
    ),
    title="Tallystick account",
    description="Money of the network: what the bank owes each member.",
)
