"""The business date under (``business_date``, ``CURRENT``)."""

from typing import Final

from chaincode.domain.business_date import CURRENT, BusinessDate
from chaincode.domain.error import DomainError
from chaincode.ledger.repository import Repository
from chaincode.ledger.store import Store

BUSINESS_DATES: Final = Repository("business_date", BusinessDate, "network_not_founded", "network_founded")


def current(store: Store) -> BusinessDate:
    """The business date. Raises ``NOT_FOUND network_not_founded``."""
    found = BUSINESS_DATES.find(store, CURRENT)
    if found is None:
        raise DomainError("network_not_founded")
    return found


def save(store: Store, business_date: BusinessDate) -> None:
    """Stage the business date."""
    BUSINESS_DATES.save(store, business_date, CURRENT)
