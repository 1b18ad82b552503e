"""The chaincode ``account``: money. Served as ``chaincode.contract.account:chaincode``."""

from typing import Final

from chaincode.contract.balance import AccountContract, CreditContract, HoldContract
from chaincode.contract.bank_entry import BankEntryContract, SuspenseContract
from chaincode.contract.day import DayContract
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
        AccountPolicyContract,
    ),
    title="Tallystick account",
    description="Money of the network: what the bank owes each member.",
)
