"""Bank days under (``day``, currency, date)."""

from datetime import date
from typing import Final

from chaincode.domain.day import Day
from chaincode.ledger.repository import Repository
from chaincode.ledger.store import Store

DAYS: Final = Repository("day", Day, "day_not_found", "day_exists")


def find(store: Store, currency: str, day: date) -> Day | None:
    """The record of a day, or None."""
    return DAYS.find(store, currency, day.isoformat())


def save(store: Store, day: Day) -> None:
    """Stage a day."""
    DAYS.save(store, day, day.currency, day.date.isoformat())
