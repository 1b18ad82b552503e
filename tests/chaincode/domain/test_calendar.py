"""Business days of 2026 as the notice of the State Council gives them."""

from datetime import date
from itertools import pairwise

import pytest
from msgspec import convert

from chaincode.domain import calendar
from chaincode.domain.calendar import CalendarDays
from chaincode.domain.error import DomainError
from tests.chaincode.contract.world import CALENDAR_2026

DAYS_2026 = convert(CALENDAR_2026, CalendarDays)


def days(year: int) -> CalendarDays | None:
    return DAYS_2026 if year == 2026 else None


@pytest.mark.parametrize(
    ("day", "rolled"),
    [
        ("2026-10-01", "2026-10-08"),
        ("2026-02-14", "2026-02-14"),
        ("2026-02-15", "2026-02-24"),
        ("2026-05-02", "2026-05-06"),
        ("2026-09-20", "2026-09-20"),
    ],
)
def test_roll(day: str, rolled: str) -> None:
    assert calendar.roll(date.fromisoformat(day), days) == date.fromisoformat(rolled)


def test_248_working_days() -> None:
    year = [date.fromordinal(number) for number in range(date(2026, 1, 1).toordinal(), date(2027, 1, 1).toordinal())]
    working = [day for day in year if calendar.is_business_day(day, days)]
    assert len(working) == 248
    gaps = [(later - earlier).days for earlier, later in pairwise(working)]
    assert max(gaps) == 10


def test_year_without_record_is_refused() -> None:
    with pytest.raises(DomainError, match="calendar_year_missing"):
        calendar.roll(date(2027, 1, 1), days)


@pytest.mark.parametrize(
    ("holidays", "workdays"),
    [
        (("2026-01-03",), ()),
        ((), ("2026-01-05",)),
        (("2026-01-02", "2026-01-01"), ()),
        (("2026-01-02", "2026-01-02"), ()),
        (("2027-01-01",), ()),
    ],
)
def test_lists_are_checked(holidays: tuple[str, ...], workdays: tuple[str, ...]) -> None:
    lists = {**CALENDAR_2026, "holidays": holidays, "workdays": workdays}
    with pytest.raises(DomainError, match="calendar_day_invalid"):
        calendar.check(2026, convert(lists, CalendarDays))
