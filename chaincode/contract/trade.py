"""The chaincode ``trade``: members, vouchers, all that is traded; served as ``chaincode.contract.trade:chaincode``."""

from typing import Final

from chaincode.contract.business_date import BusinessDateContract
from chaincode.contract.calendar import CalendarContract
from chaincode.contract.certificate import CertificateContract
from chaincode.contract.evidence import EvidenceContract
from chaincode.contract.invitation import InvitationContract
from chaincode.contract.invoice import InvoiceContract
from chaincode.contract.lien import LienContract
from chaincode.contract.member import MemberContract
from chaincode.contract.policy import TradePolicyContract
from chaincode.contract.quota import QuotaContract
from chaincode.contract.rating import ModelContract, RatingContract
from chaincode.contract.settlement import PlanPageContract, SettlementContract
from chaincode.contract.tariff import TariffContract
from chaincode.contract.voucher import VoucherContract
from chaincode.shim.contract import Chaincode

chaincode: Final = Chaincode(
    "trade",
    "0.1.0",
    (
        VoucherContract,
        MemberContract,
        InvitationContract,
        CertificateContract,
        TradePolicyContract,
        BusinessDateContract,
        CalendarContract,
        InvoiceContract,
        QuotaContract,
        LienContract,
        SettlementContract,
        PlanPageContract,
        TariffContract,
        ModelContract,
        RatingContract,
        EvidenceContract,
    ),
    title="Tallystick trade",
    description="Members, vouchers, financing and assets of the network.",
)
