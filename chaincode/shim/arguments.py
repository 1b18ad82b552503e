"""Typed arguments and results: from a transaction's byte strings to Python values and back.

Text is UTF-8, a whole number is decimal ASCII digits without leading zeros, a boolean is `true` or `false`, bytes are
taken as they are, every other type is JSON by `canonical`. A type that would let a float in is refused when the
contract is loaded, not when it runs.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from chaincode.shim import canonical

INTEGER_DIGITS_MAX = 18
"""Digits of a whole number as an argument: enough for every 63-bit number but the last, far from Python's own limit."""

# ASCII only: str.isdigit and int() also take other scripts' digits and underscores.
_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,%d}" % (INTEGER_DIGITS_MAX - 1))
_BOOLEANS = {b"true": True, b"false": False}

Decoder = Callable[[bytes], Any]


class ArgumentError(ValueError):
    """An argument that is not of its declared type. The text is a sentence."""


def decoder(declared: Any) -> Decoder:
    """The function that reads an argument of the declared type; it raises ArgumentError or CanonicalError."""
    if declared is str:
        return _text
    if declared is int:
        return _integer
    if declared is bool:
        return _boolean
    if declared is bytes:
        return bytes
    refuse_floats(declared)
    canonical.prepare(declared)
    return lambda data: canonical.decode(data, declared)


def encode(result: object) -> bytes:
    """The payload of a response: nothing for None, text and bytes as they are, anything else canonical JSON."""
    match result:
        case None:
            return b""
        case bytes():
            return result
        case str():
            return result.encode()
        case _:
            return canonical.encode(result)


def schemas(declared: list[Any], ref_prefix: str) -> tuple[list[Mapping[str, Any]], dict[str, Any]]:
    """JSON Schemas of the types, and the components (structs, enumerations) that they refer to by `ref_prefix`."""
    found, components = msgspec.json.schema_components(declared, ref_template=ref_prefix + "{name}")
    return list(found), components


def refuse_floats(declared: Any) -> None:
    """Raise TypeError when a value of the declared type could hold a float or a set somewhere inside."""
    _refuse(msgspec.inspect.type_info(declared), set())


def _refuse(info: Any, seen: set[Any]) -> None:
    if isinstance(info, msgspec.inspect.FloatType | msgspec.inspect.DecimalType):
        raise TypeError("a transaction takes no floats and no decimals: whole numbers of the smallest unit")
    if isinstance(info, msgspec.inspect.SetType | msgspec.inspect.FrozenSetType):
        raise TypeError("a transaction takes no sets: their order differs between processes")
    if isinstance(info, msgspec.inspect.AnyType):
        raise TypeError("a transaction takes nothing of any type: it could be a float")
    if isinstance(info, msgspec.inspect.StructType):
        if info.cls in seen:
            return
        seen.add(info.cls)
        for field in info.fields:
            _refuse(field.type, seen)
    for name in ("item_type", "key_type", "value_type"):
        if (part := getattr(info, name, None)) is not None:
            _refuse(part, seen)
    for name in ("types", "item_types"):
        for part in getattr(info, name, ()):
            _refuse(part, seen)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ArgumentError("must be UTF-8 text") from error


def _integer(data: bytes) -> int:
    if not _INTEGER.fullmatch(data):
        raise ArgumentError("must be a whole number in decimal digits")
    return int(data)


def _boolean(data: bytes) -> bool:
    if data not in _BOOLEANS:
        raise ArgumentError("must be true or false")
    return _BOOLEANS[data]
