"""Money arithmetic against the vectors of the bank side specification, and its properties."""

import json
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaincode.domain import money
from chaincode.domain.error import DomainError

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "golden" / "money.json").read_text("utf-8"))
AMOUNTS = st.integers(0, money.AMOUNT_MINOR_MAX)
RATES = st.integers(0, money.RATE_PPM_MAX)
DATES = st.dates(date(2000, 1, 1), date(2009, 12, 31))


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [vector for vector in VECTORS if vector["kind"] == kind]


@pytest.mark.parametrize("vector", of_kind("interest"), ids=lambda vector: str(vector["number"]))
def test_interest(vector: dict[str, Any]) -> None:
    start, end = date.fromisoformat(vector["start"]), date.fromisoformat(vector["end"])
    count = money.days(vector["basis"], start, end)
    assert count == vector["days"]
    interest = money.interest(vector["amount_minor"], vector["rate_ppm"], count, vector["basis"])
    assert interest == vector["interest_minor"]


@pytest.mark.parametrize("vector", of_kind("refused"), ids=lambda vector: str(vector["number"]))
def test_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(DomainError) as refused:
        money.interest(vector["amount_minor"], vector["rate_ppm"], vector["days"], vector["basis"])
    assert refused.value.reason == vector["reason"]


@pytest.mark.parametrize("vector", of_kind("discount"), ids=lambda vector: str(vector["number"]))
def test_discount(vector: dict[str, Any]) -> None:
    interest = money.interest(vector["amount_minor"], vector["rate_ppm"], vector["days"], vector["basis"])
    fee = money.fee(vector["amount_minor"], **vector["fee"])
    assert (interest, fee) == (vector["interest_minor"], vector["fee_minor"])
    assert money.discount(vector["amount_minor"], interest, fee) == vector["net_minor"]


@pytest.mark.parametrize("vector", of_kind("cost"), ids=lambda vector: str(vector["number"]))
def test_yearly_cost(vector: dict[str, Any]) -> None:
    arguments = vector["cost_minor"], vector["net_minor"], vector["days"]
    assert money.effective_cost_ppm(*arguments) == vector["effective_ppm"]
    if vector["simple_ppm"] is not None:
        assert money.simple_cost_ppm(*arguments) == vector["simple_ppm"]


def test_no_yearly_cost_for_no_days() -> None:
    assert money.simple_cost_ppm(1, 1, 0) is None
    assert money.effective_cost_ppm(1, 1, 0) is None


@pytest.mark.parametrize("vector", of_kind("penalty"), ids=lambda vector: str(vector["number"]))
def test_penalty(vector: dict[str, Any]) -> None:
    rate = money.penalty_rate_ppm(vector["rate_ppm"], vector["uplift_ppm"])
    assert rate == vector["penalty_rate_ppm"]
    assert money.interest(vector["amount_minor"], rate, vector["days"], vector["basis"]) == vector["interest_minor"]


@pytest.mark.parametrize("vector", of_kind("fee"), ids=lambda vector: str(vector["amount_minor"]))
def test_fee(vector: dict[str, Any]) -> None:
    assert money.fee(vector["amount_minor"], **vector["fee"]) == vector["fee_minor"]


@pytest.mark.parametrize("vector", of_kind("withdraw_all"), ids=lambda vector: str(vector["available_minor"]))
def test_withdraw_all(vector: dict[str, Any]) -> None:
    if vector["amount_minor"]:
        assert money.withdraw_all(vector["available_minor"], **vector["fee"]) == vector["amount_minor"]
    else:
        with pytest.raises(DomainError, match="funds_insufficient"):
            money.withdraw_all(vector["available_minor"], **vector["fee"])


@pytest.mark.parametrize("vector", of_kind("share"), ids=lambda vector: f"{vector['number']}-{vector['total_minor']}")
def test_share(vector: dict[str, Any]) -> None:
    assert money.share(vector["total_minor"], vector["weights"]) == vector["parts"]


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (money.amount, (-1,)),
        (money.amount, (money.AMOUNT_MINOR_MAX + 1,)),
        (money.total, ([money.SUM_MINOR_MAX, 1],)),
        (money.total, ([-1],)),
        (money.share, (1, [])),
        (money.share, (-1, [1])),
        (money.convert, (money.AMOUNT_MINOR_MAX, 2, 1)),
    ],
)
def test_every_bound_is_kept(function: Any, arguments: Any) -> None:
    with pytest.raises(DomainError, match="amount_out_of_range"):
        function(*arguments)


def test_rates_days_and_net_have_bounds() -> None:
    with pytest.raises(DomainError, match="rate_out_of_range"):
        money.interest(1, money.RATE_PPM_MAX + 1, 1, "ACT/360")
    with pytest.raises(DomainError, match="days_out_of_range"):
        money.interest(1, 1, money.DAYS_MAX + 1, "ACT/360")
    with pytest.raises(DomainError, match="days_out_of_range"):
        money.days("ACT/360", date(2026, 1, 2), date(2026, 1, 1))
    with pytest.raises(DomainError, match="net_not_positive"):
        money.discount(10, 5, 5)
    with pytest.raises(ValueError, match="half_up"):
        money.half_up(-1, 1)


@given(AMOUNTS, RATES, st.integers(0, 366))
def test_interest_is_within_half_a_unit(amount: int, rate: int, days: int) -> None:
    exact = Fraction(amount * rate * days, 360 * money.PPM)
    if exact < money.AMOUNT_MINOR_MAX:
        assert abs(money.interest(amount, rate, days, "ACT/360") - exact) <= Fraction(1, 2)


@given(st.lists(DATES, min_size=3, max_size=3))
def test_eurobond_days_add_up(dates: list[date]) -> None:
    first, second, third = sorted(dates)
    parts = money.days("30E/360", first, second) + money.days("30E/360", second, third)
    assert parts == money.days("30E/360", first, third)


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=30), st.data())
def test_shares_sum_and_stay_near(weights: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(weights)))
    parts = money.share(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert part <= weight
        assert abs(part - Fraction(total * weight, sum(weights))) < 1


@given(st.integers(201, 10**12))
def test_withdraw_all_is_the_largest(available: int) -> None:
    terms = {"flat_minor": 0, "fee_ppm": 200, "min_minor": 200, "max_minor": 20_000}
    amount = money.withdraw_all(available, **terms)
    assert amount + money.fee(amount, **terms) <= available < amount + 1 + money.fee(amount + 1, **terms)
