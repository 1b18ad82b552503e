"""Bank days: closed by the bank before the business date moves on."""

from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, records
from chaincode.contract.registry import ACCOUNT
from chaincode.contract.step import Step, read, write
from chaincode.domain import day
from chaincode.domain.day import Day
from chaincode.domain.error import DomainError
from chaincode.domain.money import SUM_MINOR_MAX
from chaincode.domain.record import Currency, Digest, Input
from chaincode.domain.role import BANK_MSP
from chaincode.ledger import day as days
from chaincode.ledger.day import DAYS
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract

Sum = Annotated[int, Meta(ge=-SUM_MINOR_MAX, le=SUM_MINOR_MAX, description="Sum in minor units")]
Explanation = Annotated[str, Meta(max_length=500, description="Why the books differ; empty when they agree")]


class CloseDay(Input, frozen=True, kw_only=True):
    """Argument of ``day:close``: the bank's figures of the business date."""

    currency: Currency
    date: date
    closing_ledger_minor: Sum
    closing_bank_minor: Sum
    report_digest: Digest
    reason: Explanation = ""


class NamedDay(Input, frozen=True, kw_only=True):
    """Argument of ``day:approve``."""

    currency: Currency
    date: date


class GetDay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``day:get``."""

    currency: Currency
    date: date


class ListDays(Listing, frozen=True, kw_only=True):
    """Argument of ``day:list``."""

    currency: Currency


class DayPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of a currency's days, ascending."""

    items: tuple[Day, ...]
    next: str | None


class DayContract(Contract, name="day"):
    """Transactions of the word day."""

    @write("day:close", ACCOUNT, roles=("treasury",), event="day.closed", to_state="closed")
    def close(self, step: Step, input: CloseDay) -> None:
        """Close the business date of a currency; with a difference the day waits for a second officer.

        Who: treasury of the bank.
        Must hold: day_exists, bank_identity_required, date_differs, difference_unexplained.
        Changes: the day is closed, or proposed when the books differ.
        Event: day.closed or day.proposed.
        """
        known = days.find(step.store, input.currency, input.date)
        if known is not None and known.state == "closed":
            raise DomainError("day_exists", date=input.date.isoformat(), currency=input.currency)
        _check_bank(step)
        if input.date != step.today:
            raise DomainError("date_differs", today=step.today.isoformat(), date=input.date.isoformat())
        closed = day.close(
            input.currency,
            input.date,
            input.closing_ledger_minor,
            input.closing_bank_minor,
            input.report_digest,
            input.reason,
            step.actor.user_id,
        )
        _save(step, closed, f"day.{closed.state}")

    @write(
        "day:approve", ACCOUNT, roles=("treasury",), event="day.approved", from_states=("proposed",), to_state="closed"
    )
    def approve(self, step: Step, input: NamedDay) -> None:
        """Close a day with an explained difference.

        Who: treasury of the bank, another person than the one who proposed it.
        Must hold: day_not_found, bank_identity_required, state_wrong, same_person.
        Changes: the day is closed.
        Event: day.approved.
        """
        known = _load(step.store, input.currency, input.date)
        _check_bank(step)
        _save(step, day.approve(known, step.actor.user_id), "day.approved")

    @read("day:get")
    def get(self, store: Store, input: GetDay) -> Day:
        """One day of a currency.

        Who: everybody on the channel; ``business_date:advance`` reads it here.
        Must hold: day_not_found.
        Changes: nothing.
        Event: none.
        """
        return _load(store, input.currency, input.date)

    @read("day:list")
    def list(self, store: Store, input: ListDays) -> DayPage:
        """Days of a currency, ascending.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(DAYS, store, [input.currency], input)
        return DayPage(items=items, next=following)


def _load(store: Store, currency: str, on: date) -> Day:
    known = days.find(store, currency, on)
    if known is None:
        raise DomainError("day_not_found", date=on.isoformat(), currency=currency)
    return known


def _check_bank(step: Step) -> None:
    if step.actor.msp_id != BANK_MSP:
        raise DomainError("bank_identity_required")


def _save(step: Step, record: Day, event: str) -> None:
    days.save(step.store, record)
    step.change("day", f"{record.currency}/{record.date.isoformat()}", event, record)
