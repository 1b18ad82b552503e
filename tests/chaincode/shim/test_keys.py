"""Composite keys, ranges and the check of every key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaincode.shim import keys
from chaincode.shim.errors import KeyRefused

parts = st.text(st.characters(exclude_characters="\x00\U0010ffff", codec="utf-8"), max_size=20)


@given(parts.filter(bool), st.lists(parts, max_size=6))
def test_a_composite_key_splits_into_what_made_it(object_type: str, attributes: list[str]) -> None:
    key = keys.composite(object_type, attributes)
    keys.check(key)
    assert keys.split(key) == (object_type, attributes)


@given(parts.filter(bool), st.lists(parts, max_size=3), st.lists(parts, max_size=3))
def test_a_prefix_range_holds_exactly_the_keys_that_begin_with_it(
    object_type: str, attributes: list[str], other: list[str]
) -> None:
    start, end = keys.prefix_range(object_type, attributes)
    inside = keys.composite(object_type, [*attributes, *other])
    outside = keys.composite(object_type + "x", [*attributes, *other])
    assert start <= inside < end
    assert not start <= outside < end


@given(st.lists(st.text(max_size=8), max_size=4))
def test_distinct_parts_never_make_one_key(attributes: list[str]) -> None:
    try:
        key = keys.composite("type", attributes)
    except KeyRefused:
        return
    assert keys.split(key) == ("type", attributes)


@given(st.text())
def test_every_text_is_accepted_or_refused_with_our_error(key: str) -> None:
    for call in (keys.check, keys.split, lambda text: keys.plain_range(text, text)):
        try:
            call(key)
        except KeyRefused as error:
            assert len(str(error)) < 80


def test_a_list_goes_on_after_its_last_key() -> None:
    rows = [keys.composite("voucher", [name]) for name in ("A", "B", "B\x01", "C")]
    start, end = keys.prefix_range("voucher", after=rows[1])
    assert [row for row in rows if start <= row < end] == rows[2:]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "empty"),
        ("\x00", "not a composite key"),
        ("\x00\x00", "not a composite key"),
        ("\x00\x00a\x00", "not a composite key"),
        ("\x00type", "not a composite key"),
        ("\x00type\x00\U0010ffff\x00", "not a composite key"),
        ("\ud800", "UTF-8"),
        ("\x00type\x00\udfff\x00", "UTF-8"),
        ("k" * (keys.KEY_BYTES_MAX + 1), "longer"),
        ("中" * 342, "longer"),
    ],
)
def test_a_bad_key_is_refused(key: str, reason: str) -> None:
    with pytest.raises(KeyRefused, match=reason):
        keys.check(key)


@pytest.mark.parametrize(
    "key", ["k", "\x01", "a\x00b", "\x00t\x00", "\x00t\x00\x00", "k" * keys.KEY_BYTES_MAX, "中" * 341]
)
def test_a_good_key_passes(key: str) -> None:
    keys.check(key)


@pytest.mark.parametrize(
    ("object_type", "attributes"),
    [("", []), ("a\x00b", []), ("t", ["a\x00"]), ("t", ["\U0010ffff"]), ("t", ["\ud800"])],
)
def test_a_bad_part_of_a_composite_key_is_refused(object_type: str, attributes: list[str]) -> None:
    with pytest.raises(KeyRefused):
        keys.composite(object_type, attributes)


def test_a_plain_range_never_meets_composite_keys() -> None:
    assert keys.plain_range("", "") == ("\x01", "")
    with pytest.raises(KeyRefused, match="U\\+0000"):
        keys.plain_range("a", keys.composite("t"))


def test_the_key_to_go_on_after_must_lie_in_the_range() -> None:
    with pytest.raises(KeyRefused, match="outside"):
        keys.prefix_range("voucher", after=keys.composite("vouchers", ["A"]))
