"""Policies: dated rules that two people of two organisations change, read by name.

One record per name holds the version in force and at most one with a future from-date, so each use is one read. The
value is tagged with its name.
"""

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.money import AMOUNT_MINOR_MAX, DAYS_MAX, PPM
from chaincode.domain.record import AmountOrZero, Currency, Proposal, RatePpm, Record

STATES: Final = ("recorded",)

Days = Annotated[int, Meta(ge=0, le=DAYS_MAX, description="Days")]
Exponent = Annotated[int, Meta(ge=0, le=4, description="Decimal places of the minor unit")]
Ratio = Annotated[int, Meta(ge=0, le=10 * PPM, description="Ratio in parts per million")]
ClockTime = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", description="Time of day, +08:00")]


class CurrencyPolicy(
    msgspec.Struct, tag_field="name", tag="currency", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Currencies of the network with their decimal places, and the one taken when none is named."""

    default: Currency
    exponents: dict[str, Exponent]


class DatePolicy(msgspec.Struct, tag_field="name", tag="date", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many days the clock may be ahead of the business date."""

    lag_days_max: Days


class PermissionPolicy(
    msgspec.Struct, tag_field="name", tag="permission", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Actions that each grade allows, the grade of the cautious row, and further steps that need the payment key."""

    cautious: str
    grades: dict[str, tuple[str, ...]]
    payment_transactions: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse a table without its cautious row. Raises ``INVALID policy_value_invalid``."""
        if self.cautious not in self.grades:
            raise DomainError("policy_value_invalid", name="permission", rule="the cautious grade has a row")


class VoucherPolicy(
    msgspec.Struct, tag_field="name", tag="voucher", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Longest tenor in days, and whether a voucher needs invoices and a quota."""

    tenor_days_max: Days
    invoice_required: bool
    quota_required: bool


class SettlementPolicy(
    msgspec.Struct, tag_field="name", tag="settlement", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """When short funds may be shared, days of grace before default, and the yearly penalty rate on what is overdue."""

    cut_off: ClockTime
    grace_days: Days
    penalty_rate_ppm: RatePpm


class WithdrawalPolicy(
    msgspec.Struct, tag_field="name", tag="withdrawal", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Fee of a withdrawal, and whether it stays with the bank when a payment comes back."""

    flat_minor: AmountOrZero
    fee_ppm: RatePpm
    min_minor: AmountOrZero
    max_minor: AmountOrZero
    refund_fee_on_return: bool

    def check(self) -> None:
        """Refuse a minimum above the maximum. Raises ``INVALID policy_value_invalid``."""
        if self.min_minor > self.max_minor or self.max_minor > AMOUNT_MINOR_MAX:
            raise DomainError("policy_value_invalid", name="withdrawal", rule="min_minor is at most max_minor")


class RatingPolicy(
    msgspec.Struct, tag_field="name", tag="rating", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """How many days a rating holds at most after its as-of date; an override half as long."""

    days_max: Days


PolicyValue = (
    CurrencyPolicy | DatePolicy | PermissionPolicy | VoucherPolicy | SettlementPolicy | WithdrawalPolicy | RatingPolicy
)

TYPES: Final[Mapping[str, type]] = MappingProxyType(
    {
        "currency": CurrencyPolicy,
        "date": DatePolicy,
        "permission": PermissionPolicy,
        "voucher": VoucherPolicy,
        "settlement": SettlementPolicy,
        "withdrawal": WithdrawalPolicy,
        "rating": RatingPolicy,
    }
)

FOUNDING: Final = ("currency", "date", "permission", "voucher", "settlement")
"""Policies without which a network cannot be founded."""

TRADE: Final = (*FOUNDING, "rating")
"""Policies that the chaincode trade reads."""

ACCOUNT: Final = ("withdrawal",)
"""Policies that the chaincode account reads."""

V = TypeVar("V", bound=PolicyValue)


class Version(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value of a policy with the date from which it holds."""

    number: int
    from_date: date
    value: PolicyValue


class Policy(Record, frozen=True, kw_only=True):
    """One policy: version in force, the next one, and what is proposed."""

    name: str
    state: str
    in_force: Version | None
    next: Version | None
    proposal: Proposal[PolicyValue] | None

    def on(self, day: date) -> Version | None:
        """The version that holds on a day."""
        if self.next is not None and self.next.from_date <= day:
            return self.next
        return self.in_force


def name_of(value: PolicyValue) -> str:
    """Name of the policy that a value belongs to."""
    return next(name for name, kind in TYPES.items() if type(value) is kind)


def check_value(value: PolicyValue, allowed: tuple[str, ...]) -> str:
    """Name of the policy of a value that may be recorded here.

    Raises ``INVALID policy_name_unknown``, then ``INVALID policy_value_invalid``.
    """
    name = name_of(value)
    if name not in allowed:
        raise DomainError("policy_name_unknown", name=name)
    if isinstance(value, PermissionPolicy | WithdrawalPolicy):
        value.check()
    if isinstance(value, CurrencyPolicy) and value.default not in value.exponents:
        raise DomainError("policy_value_invalid", name=name, rule="the default is one of the currencies")
    return name


def in_force(policy: Policy | None, name: str, day: date, kind: type[V]) -> V:
    """The value of a policy on a day. Raises ``CONFLICT policy_missing``."""
    version = policy.on(day) if policy else None
    if version is None or not isinstance(version.value, kind):
        raise DomainError("policy_missing", name=name)
    return version.value


def minute_of(time: str) -> int:
    """Minute of the day of a time of day as policies write it."""
    hour, _, minute = time.partition(":")
    return int(hour) * 60 + int(minute)


def found(value: PolicyValue, name: str, first_date: date) -> Policy:
    """A policy that is in force from the founding on."""
    version = Version(number=1, from_date=first_date, value=value)
    return Policy(name=name, state="recorded", in_force=version, next=None, proposal=None)


def propose(
    policy: Policy | None, name: str, value: PolicyValue, from_date: date, user_id: str, msp_id: str, today: date
) -> Policy:
    """Propose a value with its from-date; a later proposal replaces an earlier one.

    Raises ``policy_from_date_passed``.
    """
    _check_future(from_date, today)
    base = policy or Policy(name=name, state="recorded", in_force=None, next=None, proposal=None)
    return replace(base, proposal=Proposal(value=value, from_date=from_date, user_id=user_id, msp_id=msp_id))


def approve(policy: Policy, user_id: str, msp_id: str, today: date) -> Policy:
    """Make the proposed value the next version; it replaces one that has not come into force.

    Raises ``proposal_missing``, ``same_person``, ``same_organisation``, then ``policy_from_date_passed``.
    """
    if policy.proposal is None:
        raise DomainError("proposal_missing", id=policy.name)
    policy.proposal.check_other(user_id, msp_id)
    _check_future(policy.proposal.from_date, today)
    current = policy.on(today)
    number = 1 + max((version.number for version in (policy.in_force, policy.next) if version), default=0)
    coming = Version(number=number, from_date=policy.proposal.from_date, value=policy.proposal.value)
    return replace(policy, in_force=current, next=coming, proposal=None)


def _check_future(from_date: date, today: date) -> None:
    if from_date <= today:
        raise DomainError("policy_from_date_passed", date=from_date.isoformat(), today=today.isoformat())
