"""Canonical JSON: one value, one sequence of bytes, on every peer and in every Python.

Written: UTF-8, keys and struct fields sorted by code point, no spaces, no floats, whole numbers below 2**53 so that a
browser reads them exactly. Read: any key order and spacing, but repeated keys are refused (JSON parsers silently take
the last one, so two readers of one input could see two different things).
"""

import json
import re
from enum import Enum
from typing import Any, Final, TypeVar

import msgspec

INTEGER_MAX: Final = 2**53 - 1

DEPTH_MAX: Final = 64
"""Levels of nesting that are written; a bound of our own, because Python's depends on the stack of the caller."""

_T = TypeVar("_T")
_encode = msgspec.json.Encoder(order="sorted").encode
_decode_any = msgspec.json.Decoder().decode
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
# What msgspec says, turned into sentences of ours: a library's text may change with its version.
_EXPECTED = re.compile(r"Expected `([a-z |]+)`, got `([a-z]+)`(?: - at `(.+)`)?")
_MISSING = re.compile(r"Object missing required field `(\w+)`(?: - at `(.+)`)?")
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]{1,64})`(?: - at `(.+)`)?")
_PATH = re.compile(r" - at `(.+)`")


class CanonicalError(ValueError):
    """A value that has no canonical form, or text that is not the JSON of the wanted type. The text is a sentence."""


def encode(value: object) -> bytes:
    """The canonical JSON of structs, mappings with text keys, sequences, text, whole numbers, booleans and None.

    Raises CanonicalError for anything else: floats, sets, bytes, numbers of 2**53 and more, lone surrogates.
    """
    _check(value)
    try:
        return _encode(value)
    except (UnicodeEncodeError, TypeError, RecursionError) as error:
        raise CanonicalError("the value has no canonical form") from error


def decode(data: bytes, type: type[_T]) -> _T:
    """The value of `type` in `data`. Raises CanonicalError with one sentence that names the place."""
    decoder = _decoders.get(type) or prepare(type)
    try:
        value: _T = decoder.decode(data)
        if _encode(_decode_any(data)) != data:
            json.loads(data, object_pairs_hook=_refuse_repeated)
    except CanonicalError:
        raise
    except msgspec.ValidationError as error:
        raise CanonicalError(_sentence(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CanonicalError("not valid JSON") from error
    except (RecursionError, ValueError) as error:
        raise CanonicalError("nested too deeply or a number too long") from error
    return value


def prepare(type: type[_T]) -> msgspec.json.Decoder[_T]:
    """Build the decoder of a type now rather than at the first `decode`. Raises TypeError for a type it cannot read."""
    decoder = _decoders[type] = msgspec.json.Decoder(type)
    return decoder


def _check(value: object, depth: int = DEPTH_MAX) -> None:
    """Refuse what msgspec would write although it has no canonical form: floats (NaN as null), sets, big numbers."""
    if value is None or isinstance(value, str | bool):
        return
    if not depth:
        raise CanonicalError(f"nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, int):
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise CanonicalError("a whole number is not below 2**53")
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _check(getattr(value, name), depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise CanonicalError("a key is not text")
            _check(item, depth - 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, Enum):
        _check(value.value, depth)
    elif value is not msgspec.UNSET:
        raise CanonicalError(f"a value of type {type(value).__name__} has no canonical form")


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise CanonicalError("a key is repeated")
    return members


def _sentence(text: str) -> str:
    if match := _EXPECTED.search(text):
        expected, got, path = match.groups()
        return f"{path or 'the value'} must be {expected.replace(' | ', ' or ')}, not {got}"
    if match := _MISSING.search(text):
        return f"field {match[1]} is missing{f' at {match[2]}' if match[2] else ''}"
    if match := _UNKNOWN.search(text):
        return f"field {match[1]} is unknown{f' at {match[2]}' if match[2] else ''}"
    match = _PATH.search(text)
    return f"{match[1] if match else 'the value'} does not have the documented form"
