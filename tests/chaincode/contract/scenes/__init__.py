"""The scenes of all transactions, by word."""

from tests.chaincode.contract.scene import Scene
from tests.chaincode.contract.scenes import account, bank, credit, member, settlement, trade, voucher

SCENES: tuple[Scene, ...] = (
    *member.SCENES,
    *trade.SCENES,
    *voucher.SCENES,
    *settlement.SCENES,
    *credit.SCENES,
    *account.SCENES,
    *bank.SCENES,
)
