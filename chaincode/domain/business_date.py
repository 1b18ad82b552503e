"""The business date: the one civil date that all rules of maturity read, advanced once a day by the bank."""

import datetime
from typing import Final

from msgspec.structs import replace

from chaincode.domain.calendar import YearDays, next_business_day
from chaincode.domain.error import DomainError
from chaincode.domain.record import Record

CURRENT: Final = "CURRENT"
"""Id of the one record."""

_BEIJING_SECONDS: Final = 8 * 3600
"""Offset of the network's civil day from UTC; mainland China has one time zone and no summer time."""


class BusinessDate(Record, frozen=True, kw_only=True):
    """Today on the ledger. ``lag_days_max`` is copied from policy at each advance, to be at hand without a read."""

    date: datetime.date
    previous_date: datetime.date | None
    simulated_days: bool
    lag_days_max: int

    def check_fresh(self, seconds: int) -> None:
        """Refuse a transaction whose time is before the date or too long after it; off with simulated days.

        Raises ``CONFLICT date_stale``.
        """
        clock = 719_163 + (seconds + _BEIJING_SECONDS) // 86_400
        lag = clock - self.date.toordinal()
        if not self.simulated_days and not 0 <= lag <= self.lag_days_max:
            raise DomainError("date_stale", today=self.date.isoformat())


def minute_of_day(seconds: int) -> int:
    """Minute of the day in Beijing of a transaction's time."""
    return (seconds + _BEIJING_SECONDS) % 86_400 // 60


def advance(
    current: BusinessDate, from_date: datetime.date, to_date: datetime.date, year_days: YearDays, lag_days_max: int
) -> BusinessDate:
    """Move to the next business day; there is no way back. Raises ``date_differs``, then ``date_not_next``."""
    if from_date != current.date:
        raise DomainError("date_differs", today=current.date.isoformat(), date=from_date.isoformat())
    following = next_business_day(current.date, year_days)
    if to_date != following:
        raise DomainError("date_not_next", next=following.isoformat(), date=to_date.isoformat())
    return replace(current, date=following, previous_date=current.date, lag_days_max=lag_days_max)
