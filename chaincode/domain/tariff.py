"""Tariffs: what a funder offers for financing, to be compared before an application. Binding is only its review."""

from datetime import date
from typing import Final, Literal

from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.money import Basis
from chaincode.domain.record import Record, Trace, check_state

STATES: Final = ("offered", "withdrawn")

Product = Literal["discount", "interest_at_end"]


class Tariff(Record, frozen=True, kw_only=True):
    """One offer of a funder: product, currency, yearly rate, fee, recourse, least grade, longest period, validity."""

    tariff_id: str
    state: str
    funder_id: str
    product: Product
    currency: str
    rate_ppm: int
    basis: Basis
    fee_flat_minor: int
    fee_ppm: int
    fee_min_minor: int
    fee_max_minor: int
    recourse: bool
    least_grade: str
    days_max: int
    valid_from: date
    valid_until: date
    changed: Trace


def check(tariff: Tariff, today: date) -> Tariff:
    """The tariff when bounds and dates are in order. Raises ``fee_bounds_invalid``, then ``expiry_passed``."""
    if tariff.fee_min_minor > tariff.fee_max_minor:
        raise DomainError("fee_bounds_invalid", least=tariff.fee_min_minor, most=tariff.fee_max_minor)
    if tariff.valid_until < tariff.valid_from or tariff.valid_until <= today:
        raise DomainError("expiry_passed", date=tariff.valid_until.isoformat(), today=today.isoformat())
    return tariff


def withdraw(tariff: Tariff, trace: Trace) -> Tariff:
    """Withdraw an offer of the own house. Raises ``not_owner``, then ``state_wrong``."""
    if tariff.funder_id != trace.member_id:
        raise DomainError("not_owner", id=tariff.tariff_id, member=trace.member_id)
    check_state(tariff.tariff_id, tariff.state, "withdraw", ("offered",))
    return replace(tariff, state="withdrawn", changed=trace)
