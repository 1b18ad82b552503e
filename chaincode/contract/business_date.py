"""The business date: read by every step, advanced once a day by the bank."""

from datetime import date

import msgspec

from chaincode.contract.registry import TRADE
from chaincode.contract.step import Step, read, write
from chaincode.domain import business_date
from chaincode.domain.business_date import CURRENT, BusinessDate
from chaincode.domain.day import Day
from chaincode.domain.error import DomainError
from chaincode.domain.policy import CurrencyPolicy, DatePolicy
from chaincode.domain.record import Input
from chaincode.domain.role import BANK_MSP
from chaincode.ledger import business_date as business_dates
from chaincode.ledger.calendar import year_days
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract
from chaincode.shim.errors import STATUS_REFUSED_MIN, ContractError


class AdvanceBusinessDate(Input, frozen=True, kw_only=True):
    """Argument of ``business_date:advance``."""

    from_date: date
    to_date: date


class GetBusinessDate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``business_date:get``: nothing."""


class BusinessDateContract(Contract, name="business_date"):
    """Transactions of the word business_date."""

    @write("business_date:advance", TRADE, roles=("treasury",), event="business_date.advanced")
    def advance(self, step: Step, input: AdvanceBusinessDate) -> None:
        """Advance the business date to the next business day.

        Who: treasury of the bank.
        Must hold: bank_identity_required, date_differs, calendar_year_missing, date_not_next, day_open.
        Changes: the business date; there is no way back.
        Event: business_date.advanced.
        """
        if step.actor.msp_id != BANK_MSP:
            raise DomainError("bank_identity_required")
        lag = step.policy("date", DatePolicy).lag_days_max
        advanced = business_date.advance(step.current, input.from_date, input.to_date, year_days(step.store), lag)
        for currency in sorted(step.policy("currency", CurrencyPolicy).exponents):
            _check_closed(step, currency)
        business_dates.save(step.store, advanced)
        step.change("business_date", CURRENT, "business_date.advanced", advanced)
        step.dated = advanced

    @read("business_date:get")
    def get(self, store: Store, input: GetBusinessDate) -> BusinessDate:
        """The business date.

        Who: everybody on the channel; ``account`` reads it here.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        return business_dates.current(store)


def _check_closed(step: Step, currency: str) -> None:
    """Refuse to leave a day that the bank has not closed: the one place where ``trade`` reads ``account``."""
    today = step.today.isoformat()
    argument = msgspec.json.encode({"currency": currency, "date": today}, order="sorted")
    response = step.tx.invoke_chaincode("account", [b"day:get", argument])
    if response.status >= STATUS_REFUSED_MIN and " day_not_found: " not in response.message:
        raise ContractError(response.message, response.status)
    if response.status >= STATUS_REFUSED_MIN or msgspec.json.decode(response.payload, type=Day).state != "closed":
        raise DomainError("day_open", date=today, currency=currency)
