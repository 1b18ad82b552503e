"""Business days from recorded calendars: which day is one, and where a due date rolls to.

A calendar year is a ledger record set by two people; a year without a record is never "no holidays". Business day =
Monday to Friday and not listed as holiday, or a listed working weekend day. Source: bank side specification, section 6.
"""

from collections.abc import Callable, Sequence
from datetime import date

import msgspec

from chaincode.domain.error import DomainError
from chaincode.domain.record import Proposal, Record

STATES = ("proposed", "recorded")


class CalendarDays(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of one calendar year: weekdays that are no business days, weekend days that are, the source."""

    holidays: tuple[date, ...]
    workdays: tuple[date, ...]
    source: str
    digest: str
    complete: bool


class Calendar(Record, frozen=True, kw_only=True):
    """One year of the business calendar: the days in force and at most one proposed change."""

    year: int
    state: str
    days: CalendarDays | None
    proposal: Proposal[CalendarDays] | None


YearDays = Callable[[int], CalendarDays | None]
"""Answers the recorded days of a year, or None."""


def check(year: int, days: CalendarDays) -> None:
    """Refuse lists that are unsorted, repeat a day, leave the year or list a day on the wrong side of the week.

    Raises ``INVALID calendar_day_invalid``.
    """
    for listed, weekend in ((days.holidays, False), (days.workdays, True)):
        previous = date.min
        for day in listed:
            if day.year != year or (day.weekday() >= 5) is not weekend or day <= previous:
                raise DomainError("calendar_day_invalid", date=day.isoformat())
            previous = day


def changed_days(before: CalendarDays | None, after: CalendarDays) -> Sequence[date]:
    """Days whose meaning differs between two contents, ascending."""
    old = () if before is None else before.holidays + before.workdays
    new = after.holidays + after.workdays
    return sorted([day for day in old if day not in new] + [day for day in new if day not in old])


def propose(
    calendar: Calendar | None, year: int, days: CalendarDays, user_id: str, msp_id: str, today: date
) -> Calendar:
    """Propose the days of a year; a later proposal replaces an earlier one.

    Raises ``calendar_day_invalid``, then ``calendar_day_passed`` when a day up to today would change its meaning.
    """
    check(year, days)
    before = calendar.days if calendar else None
    if before is not None:
        for day in changed_days(before, days):
            if day <= today:
                raise DomainError("calendar_day_passed", date=day.isoformat())
    proposal = Proposal(value=days, from_date=today, user_id=user_id, msp_id=msp_id)
    return Calendar(year=year, state="recorded" if before else "proposed", days=before, proposal=proposal)


def approve(calendar: Calendar, user_id: str, msp_id: str, today: date) -> Calendar:
    """Put the proposed days in force.

    Raises ``proposal_missing``, ``same_person``, ``same_organisation``, then ``calendar_day_passed``.
    """
    if calendar.proposal is None:
        raise DomainError("proposal_missing", id=str(calendar.year))
    calendar.proposal.check_other(user_id, msp_id)
    if calendar.days is not None:
        for day in changed_days(calendar.days, calendar.proposal.value):
            if day <= today:
                raise DomainError("calendar_day_passed", date=day.isoformat())
    return Calendar(year=calendar.year, state="recorded", days=calendar.proposal.value, proposal=None)


def is_business_day(day: date, year_days: YearDays) -> bool:
    """Whether a day is a business day. Raises ``CONFLICT calendar_year_missing`` for a year without a record."""
    days = year_days(day.year)
    if days is None:
        raise DomainError("calendar_year_missing", year=day.year)
    return day in days.workdays or (day.weekday() < 5 and day not in days.holidays)


def roll(day: date, year_days: YearDays) -> date:
    """The day itself when it is a business day, else the next one."""
    while not is_business_day(day, year_days):
        day = date.fromordinal(day.toordinal() + 1)
    return day


def next_business_day(day: date, year_days: YearDays) -> date:
    """The first business day after a day."""
    return roll(date.fromordinal(day.toordinal() + 1), year_days)
