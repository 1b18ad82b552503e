"""Calendar years under (``calendar``, year)."""

from typing import Final

from chaincode.domain.calendar import Calendar, CalendarDays, YearDays
from chaincode.ledger.repository import Repository
from chaincode.ledger.store import Store

CALENDARS: Final = Repository("calendar", Calendar, "calendar_year_missing", "calendar_year_missing")


def year_days(store: Store) -> YearDays:
    """A function from a year to its recorded days."""

    def days(year: int) -> CalendarDays | None:
        found = CALENDARS.find(store, str(year))
        return found.days if found else None

    return days
