"""Calendar years: proposed by an admin, approved by an admin of another organisation."""

from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, records
from chaincode.contract.registry import TRADE
from chaincode.contract.step import Step, read, write
from chaincode.domain import calendar
from chaincode.domain.calendar import Calendar, CalendarDays
from chaincode.domain.error import DomainError
from chaincode.domain.record import Input
from chaincode.domain.role import ADMIN
from chaincode.ledger.calendar import CALENDARS
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract

Year = Annotated[int, Meta(ge=2000, le=2999, description="Year")]


class ProposeCalendar(Input, frozen=True, kw_only=True):
    """Argument of ``calendar:propose``."""

    year: Year
    days: CalendarDays


class ApproveCalendar(Input, frozen=True, kw_only=True):
    """Argument of ``calendar:approve``."""

    year: Year


class GetCalendar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``calendar:get``."""

    year: Year


class CalendarPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of calendar years."""

    items: tuple[Calendar, ...]
    next: str | None


class CalendarContract(Contract, name="calendar"):
    """Transactions of the word calendar."""

    @write("calendar:propose", TRADE, roles=(ADMIN, "treasury"), event="calendar.proposed")
    def propose(self, step: Step, input: ProposeCalendar) -> None:
        """Propose the days of a year; a later proposal replaces an earlier one.

        Who: an admin of any organisation, or treasury.
        Must hold: calendar_day_invalid, calendar_day_passed.
        Changes: the calendar has a proposal; the days in force stay.
        Event: calendar.proposed.
        """
        known = CALENDARS.find(step.store, str(input.year))
        proposed = calendar.propose(known, input.year, input.days, step.actor.user_id, step.actor.msp_id, step.today)
        _save(step, proposed, "calendar.proposed")

    @write("calendar:approve", TRADE, roles=(ADMIN, "treasury"), event="calendar.approved", to_state="recorded")
    def approve(self, step: Step, input: ApproveCalendar) -> None:
        """Put the proposed days of a year in force.

        Who: an admin or treasury of another organisation than the proposer's.
        Must hold: proposal_missing, same_person, same_organisation, calendar_day_passed.
        Changes: the calendar has the proposed days.
        Event: calendar.approved.
        """
        known = CALENDARS.find(step.store, str(input.year))
        if known is None:
            raise DomainError("proposal_missing", id=str(input.year))
        _save(step, calendar.approve(known, step.actor.user_id, step.actor.msp_id, step.today), "calendar.approved")

    @read("calendar:get")
    def get(self, store: Store, input: GetCalendar) -> Calendar:
        """One calendar year.

        Who: everybody on the channel.
        Must hold: calendar_year_missing.
        Changes: nothing.
        Event: none.
        """
        known = CALENDARS.find(store, str(input.year))
        if known is None:
            raise DomainError("calendar_year_missing", year=input.year)
        return known

    @read("calendar:list")
    def list(self, store: Store, input: Listing) -> CalendarPage:
        """Calendar years, ascending.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(CALENDARS, store, [], input)
        return CalendarPage(items=items, next=following)


def _save(step: Step, record: Calendar, event: str) -> None:
    CALENDARS.save(step.store, record, str(record.year))
    step.change("calendar", str(record.year), event, record)
