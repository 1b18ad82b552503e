"""Company names in one spelling, and the check character of credit codes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaincode.domain import company_name, credit_code
from chaincode.domain.error import DomainError


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("（集团） ", "(集团)"),
        ("Ａ＆Ｂ", "a&b"),
        ("上海 钢铁 公司", "上海钢铁公司"),
        ("A  B", "a b"),
        ("甲•乙", "甲·乙"),
    ],
)
def test_equal_names(left: str, right: str) -> None:
    assert company_name.normalise(left) == company_name.normalise(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("公司", "有限公司"), ("股份有限公司", "有限公司"), ("鋼", "钢"), ("(集团)公司", "集团公司")],
)
def test_different_names(left: str, right: str) -> None:
    assert company_name.normalise(left) != company_name.normalise(right)


@pytest.mark.parametrize("name", ["", " ", "a\u200bb", "a\nb", "\ue000", "\U000e0001"])
def test_refused_names(name: str) -> None:
    with pytest.raises(DomainError, match="company_name_invalid"):
        company_name.normalise(name)


@given(st.text(min_size=1, max_size=40))
def test_spelling_is_stable(name: str) -> None:
    try:
        once = company_name.normalise(name)
    except DomainError:
        return
    assert company_name.normalise(once) == once


@pytest.mark.parametrize("code", ["91350100M000100Y43", "91110000600037341L"])
def test_known_credit_codes(code: str) -> None:
    assert credit_code.check(code) == code


@pytest.mark.parametrize("code", ["91350100M000100Y44", "91350100M000100I43", "91350100M000100Y4", ""])
def test_wrong_credit_codes(code: str) -> None:
    with pytest.raises(DomainError, match="credit_code_invalid"):
        credit_code.check(code)
