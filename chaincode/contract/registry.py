"""Where a chaincode reads certificates, standing and the business date: ``TRADE`` in its state, ``ACCOUNT`` by calls.

``account`` calls ``trade`` for reading only, and only where ``account`` is outermost.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final, TypeVar

import msgspec

from chaincode.contract.authority import Standing, standing_of
from chaincode.domain.business_date import BusinessDate
from chaincode.domain.certificate import Certificate
from chaincode.domain.error import DomainError
from chaincode.domain.policy import PermissionPolicy, in_force
from chaincode.ledger import business_date as business_dates
from chaincode.ledger.certificate import CERTIFICATES
from chaincode.ledger.member import MEMBERS
from chaincode.ledger.policy import POLICIES
from chaincode.ledger.store import Store
from chaincode.shim.contract import Transaction
from chaincode.shim.errors import STATUS_REFUSED_MIN, ContractError

T = TypeVar("T")

_encode = msgspec.json.Encoder(order="sorted").encode


class CertificateAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate with the standing of its member; both None for an unknown key."""

    certificate: Certificate | None
    standing: Standing | None


@dataclass(frozen=True, slots=True)
class TradeRegistry:
    """Certificates and standing from the own state."""

    store: Store

    def certificate(self, fingerprint: str) -> Certificate | None:
        """The record of a key, or None."""
        return CERTIFICATES.find(self.store, fingerprint)

    def standing(self, member_id: str, today: date) -> Standing:
        """What a member may do today."""
        member = MEMBERS.load(self.store, member_id)
        permission = in_force(POLICIES.find(self.store, "permission"), "permission", today, PermissionPolicy)
        return standing_of(member, permission, today)


@dataclass(slots=True)
class AccountRegistry:
    """Certificates and standing by one call of ``certificate:get``."""

    tx: Transaction
    answer: CertificateAnswer | None = None

    def certificate(self, fingerprint: str) -> Certificate | None:
        """The record of a key, or None."""
        self.answer = _call(self.tx, "certificate:get", {"fingerprint": fingerprint}, CertificateAnswer)
        return self.answer.certificate

    def standing(self, member_id: str, today: date) -> Standing:
        """What the member of the certificate may do today."""
        if self.answer is None or self.answer.standing is None:
            raise DomainError("certificate_unknown")
        return self.answer.standing


class TradeSite:
    """The chaincode ``trade`` reads its own state."""

    def registry(self, tx: Transaction, store: Store) -> TradeRegistry:
        """Certificates and standing."""
        return TradeRegistry(store)

    def business_date(self, tx: Transaction, store: Store) -> BusinessDate:
        """The business date."""
        return business_dates.current(store)


class AccountSite:
    """The chaincode ``account`` calls ``trade``."""

    def registry(self, tx: Transaction, store: Store) -> AccountRegistry:
        """Certificates and standing."""
        return AccountRegistry(tx)

    def business_date(self, tx: Transaction, store: Store) -> BusinessDate:
        """The business date."""
        return _call(tx, "business_date:get", {}, BusinessDate)


def _call(tx: Transaction, name: str, argument: dict[str, str], kind: type[T]) -> T:
    response = tx.invoke_chaincode("trade", [name.encode(), _encode(argument)])
    if response.status >= STATUS_REFUSED_MIN:
        raise ContractError(response.message, response.status)
    return msgspec.json.decode(response.payload, type=kind)


TRADE: Final = TradeSite()
ACCOUNT: Final = AccountSite()
