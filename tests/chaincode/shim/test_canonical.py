"""One value, one sequence of bytes; repeated keys and floats refused."""

import enum
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaincode.shim import canonical
from chaincode.shim.canonical import CanonicalError

LIMIT = canonical.INTEGER_MAX
text = st.text(st.characters(codec="utf-8"))
plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-LIMIT, LIMIT) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


class Colour(enum.Enum):
    RED = "red"


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str
    amount_minor: int
    colour: Colour = Colour.RED


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    lines: tuple[Line, ...] = ()
    memo: str | None = None


@given(plain)
def test_what_is_written_reads_back_and_does_not_depend_on_order(value: Any) -> None:
    data = canonical.encode(value)
    assert json.loads(data) == value
    assert canonical.encode(json.loads(data)) == data
    assert (
        data == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() or b"\\u" in data
    )


@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_refused_with_one_sentence(data: bytes) -> None:
    try:
        order = canonical.decode(data, Order)
    except CanonicalError as error:
        assert "\n" not in str(error)
    else:
        assert canonical.decode(canonical.encode(order), Order) == order


@given(st.from_regex(rb'\{"lines":\[[\[\]{}:,"a-z0-9.]{0,30}', fullmatch=True))
def test_almost_right_input_is_refused_with_one_sentence(data: bytes) -> None:
    with pytest.raises(CanonicalError):
        canonical.decode(data, Order)


def test_struct_fields_are_sorted_and_text_is_not_escaped() -> None:
    order = Order(lines=(Line(name="钢", amount_minor=5),))
    assert canonical.encode(order) == ('{"lines":[{"amount_minor":5,"colour":"red","name":"钢"}],"memo":null}'.encode())


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        {"a": [1.5]},
        {1, 2},
        frozenset("a"),
        b"bytes",
        {1: "a"},
        LIMIT + 1,
        -LIMIT - 1,
        "\ud800",
        {"\udfff": 1},
        object(),
        Line(name="x", amount_minor=1.5),  # type: ignore[arg-type]
    ],
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(CanonicalError):
        canonical.encode(value)


def test_a_value_nested_without_end_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(CanonicalError, match="nested"):
        canonical.encode(value)


def test_the_depth_that_is_written_does_not_depend_on_the_stack() -> None:
    value: list[object] = []
    for _ in range(canonical.DEPTH_MAX - 1):
        value = [value]
    assert canonical.encode(value) == b"[" * canonical.DEPTH_MAX + b"]" * canonical.DEPTH_MAX
    with pytest.raises(CanonicalError, match="nested"):
        canonical.encode([value])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b'{"memo":"a","memo":"a"}', "a key is repeated"),
        (b'{"memo":"a","\\u006demo":"b"}', "a key is repeated"),
        (b'{"lines":[{"name":"x","amount_minor":1,"amount_minor":1}]}', "a key is repeated"),
        (b'{"lines":[{"name":"x","amount_minor":1.0}]}', "$.lines[0].amount_minor must be int, not float"),
        (b'{"lines":[{"name":"x","amount_minor":"1"}]}', "$.lines[0].amount_minor must be int, not str"),
        (b'{"lines":[{"name":"x","amount_minor":true}]}', "$.lines[0].amount_minor must be int, not bool"),
        (b'{"lines":[{"name":"x"}]}', "field amount_minor is missing at $.lines[0]"),
        (b'{"memos":"a"}', "field memos is unknown"),
        (b'{"memo":1}', "$.memo must be str or null, not int"),
        (b'{"lines":[{"name":"x","amount_minor":1,"colour":"secret"}]}', "$.lines[0].colour does not have the"),
        (b"[]", "the value must be object, not array"),
        (b'{"memo":NaN}', "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b'{"memo":"\xff"}', "not valid JSON"),
        (b'\xef\xbb\xbf{"memo":"a"}', "not valid JSON"),
        (b'{"memo":"a"} {}', "not valid JSON"),
    ],
)
def test_the_refusal_names_the_place_in_our_words(data: bytes, sentence: str) -> None:
    with pytest.raises(CanonicalError) as refused:
        canonical.decode(data, Order)
    assert str(refused.value).startswith(sentence)
    assert "secret" not in str(refused.value)


def test_any_key_order_and_spacing_is_read() -> None:
    data = b' { "memo" : null ,\n "lines" : [ { "amount_minor" : 7, "name" : "x" } ] } '
    assert canonical.decode(data, Order) == Order(lines=(Line(name="x", amount_minor=7),))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(CanonicalError):
        canonical.decode(b"[" * 100_000 + b"]" * 100_000, list[Any])
