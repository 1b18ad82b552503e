"""Money arithmetic in whole minor units with one rounding function.

Amounts are ``int`` minor units (fen for CNY), rates ``int`` parts per million, dates civil dates. Every function
refuses
a result beyond its bound with ``INVALID amount_out_of_range``. Rounding happens once per contractual event, half up.
Source: bank side specification, section 2; vectors in ``tests/golden/money.json``.
"""

from collections.abc import Sequence
from datetime import date
from typing import Literal

from chaincode.domain.error import DomainError

AMOUNT_MINOR_MAX = 10**15
"""Bound of one amount: ten trillion yuan, far above any voucher."""

SUM_MINOR_MAX = 2**53 - 1
"""Bound of any sum: the largest whole number that a browser reads exactly."""

RATE_PPM_MAX = 1_000_000
DAYS_MAX = 3_660
PPM = 1_000_000

Basis = Literal["ACT/360", "ACT/365F", "30E/360"]


def amount(value: int) -> int:
    """The value itself when it is an amount of 0 to 10^15 minor units.

    Raises ``INVALID amount_out_of_range`` otherwise.
    """
    if not 0 <= value <= AMOUNT_MINOR_MAX:
        raise DomainError("amount_out_of_range", value=value, limit=AMOUNT_MINOR_MAX)
    return value


def total(values: Sequence[int]) -> int:
    """Sum of amounts, at most 2^53 - 1.

    Raises ``INVALID amount_out_of_range`` when the sum is negative or above the bound.
    """
    value = sum(values)
    if not 0 <= value <= SUM_MINOR_MAX:
        raise DomainError("amount_out_of_range", value=value, limit=SUM_MINOR_MAX)
    return value


def half_up(numerator: int, denominator: int) -> int:
    """Quotient of a number >= 0 and a number > 0, an exact half rounded up: the one rounding function."""
    if numerator < 0 or denominator <= 0:
        raise ValueError("half_up takes a number >= 0 and a number > 0")
    return (2 * numerator + denominator) // (2 * denominator)


def days(basis: Basis, start: date, end: date) -> int:
    """Days from start (counted) to end (not counted) by the day-count basis.

    ``30E/360`` is the Eurobond rule (a 31st counts as the 30th, no February rule): it is additive, so a period cut in
    two has the same days. Raises ``INVALID days_out_of_range`` beyond 0 to 3,660.
    """
    if basis == "30E/360":
        count = _thirty_360(end) - _thirty_360(start)
    else:
        count = end.toordinal() - start.toordinal()
    if not 0 <= count <= DAYS_MAX:
        raise DomainError("days_out_of_range", value=count, limit=DAYS_MAX)
    return count


def _thirty_360(day: date) -> int:
    return 360 * day.year + 30 * day.month + min(day.day, 30)


def interest(amount_minor: int, rate_ppm: int, day_count: int, basis: Basis) -> int:
    """Interest on an amount for a number of days at a yearly rate, rounded half up once."""
    if not 0 <= rate_ppm <= RATE_PPM_MAX:
        raise DomainError("rate_out_of_range", value=rate_ppm, limit=RATE_PPM_MAX)
    if not 0 <= day_count <= DAYS_MAX:
        raise DomainError("days_out_of_range", value=day_count, limit=DAYS_MAX)
    year = 365 if basis == "ACT/365F" else 360
    return amount(half_up(amount(amount_minor) * rate_ppm * day_count, year * PPM))


def penalty_rate_ppm(rate_ppm: int, uplift_ppm: int) -> int:
    """Penalty rate fixed at contract time: the rate raised by the uplift."""
    return half_up(rate_ppm * (PPM + uplift_ppm), PPM)


def fee(amount_minor: int, flat_minor: int, fee_ppm: int, min_minor: int, max_minor: int) -> int:
    """Fee of an amount: flat part plus share of the amount, held between minimum and maximum."""
    return max(min_minor, min(max_minor, flat_minor + half_up(amount(amount_minor) * fee_ppm, PPM)))


def withdraw_all(available_minor: int, flat_minor: int, fee_ppm: int, min_minor: int, max_minor: int) -> int:
    """The largest amount whose amount plus fee fits into the available money, by integer bisection.

    Raises ``CONFLICT funds_insufficient`` when nothing but the fee could be paid.
    """
    low, high = 0, available_minor
    while low < high:
        middle = (low + high + 1) // 2
        if middle + fee(middle, flat_minor, fee_ppm, min_minor, max_minor) <= available_minor:
            low = middle
        else:
            high = middle - 1
    if low == 0:
        raise DomainError("funds_insufficient", available=available_minor, needed=min_minor + 1)
    return low


def discount(amount_minor: int, interest_minor: int, fee_minor: int) -> int:
    """Net amount of a discount: amount less interest less fee.

    Raises ``INVALID net_not_positive`` when nothing would be left.
    """
    net = amount(amount_minor) - interest_minor - fee_minor
    if net <= 0:
        raise DomainError("net_not_positive", net=net)
    return net


def simple_cost_ppm(cost_minor: int, net_minor: int, day_count: int) -> int | None:
    """Yearly cost without compounding, for display; None for a period of no days."""
    return half_up(cost_minor * 365 * PPM, net_minor * day_count) if day_count else None


def effective_cost_ppm(cost_minor: int, net_minor: int, day_count: int) -> int | None:
    """Yearly cost with compounding: the nearest ppm x with (1 + x)^days = ((net + cost) / net)^365.

    Found by exact bisection on whole numbers; None for a period of no days.
    """
    if not day_count:
        return None
    gross = (net_minor + cost_minor) ** 365 * (2 * PPM) ** day_count
    base = net_minor**365

    def at_most(ppm: int) -> bool:
        return bool((2 * PPM + 2 * ppm - 1) ** day_count * base <= gross)

    low, high = 0, 1
    while at_most(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at_most(middle) else (low, middle)
    return low


def share(total_minor: int, weights: Sequence[int]) -> list[int]:
    """Split a total over weights so that the parts sum to it exactly (largest remainder, ties by position).

    Callers pass leaves sorted by root and start. Each part is within one unit of its exact share and, while the total
    is at most the sum of weights, at most its weight. Raises ``INVALID amount_out_of_range`` for a sum of weights of 0.
    """
    whole = sum(weights)
    if whole <= 0 or total_minor < 0 or whole > SUM_MINOR_MAX:
        raise DomainError("amount_out_of_range", value=whole, limit=SUM_MINOR_MAX)
    parts = [total_minor * weight // whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda index: (-(total_minor * weights[index] % whole), index))
    for index in order[: total_minor - sum(parts)]:
        parts[index] += 1
    return parts


def convert(sell_minor: int, numerator: int, denominator: int) -> int:
    """Amount bought for an amount sold at a quoted rate, rounded once and never computed back."""
    return amount(half_up(amount(sell_minor) * numerator, denominator))
