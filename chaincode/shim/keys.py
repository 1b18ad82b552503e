"""State keys: composite keys, the ranges that find them, and the check that every key passes.

A composite key is U+0000, the object type, U+0000, then every attribute followed by U+0000, exactly as Fabric's own
shims write it (`CreateCompositeKey`). Plain keys never begin with U+0000, so the two never meet in a range.
"""

from collections.abc import Sequence

from chaincode.shim.errors import KeyRefused

KEY_BYTES_MAX = 1024
"""Longest key in UTF-8 bytes. LevelDB has no bound; long keys are paid for in every read set and index."""

_MIN = "\x00"
_MAX = "\U0010ffff"
_PLAIN_START = "\x01"


def composite(object_type: str, attributes: Sequence[str] = ()) -> str:
    """The composite key of `object_type` and `attributes`.

    Raises KeyRefused when a part holds U+0000, U+10FFFF or a lone surrogate, or when the type is empty.
    """
    if not object_type:
        raise KeyRefused("the object type of a composite key is empty")
    key = _MIN + object_type + _MIN
    for attribute in attributes:
        key += attribute + _MIN
    if key.count(_MIN) != len(attributes) + 2 or _MAX in key:
        raise KeyRefused("a part of a composite key holds U+0000 or U+10FFFF")
    _check_text(key)
    return key


def split(key: str) -> tuple[str, list[str]]:
    """The object type and the attributes of a composite key; the inverse of `composite`."""
    if not is_composite(key):
        raise KeyRefused("not a composite key")
    object_type, *attributes = key[1:-1].split(_MIN)
    return object_type, attributes


def is_composite(key: str) -> bool:
    """Whether `key` is a well-formed composite key with an object type."""
    return len(key) > 2 and key[0] == _MIN and key[1] != _MIN and key[-1] == _MIN and _MAX not in key


def prefix_range(object_type: str, attributes: Sequence[str] = (), *, after: str | None = None) -> tuple[str, str]:
    """Start (included) and end (excluded) of all composite keys that begin with these parts.

    `after` is a whole composite key below the prefix: the range then starts with the first key beyond it, which is how
    a list goes on where its last page stopped.
    """
    prefix = composite(object_type, attributes)
    end = prefix + _MAX
    if after is None:
        return prefix, end
    check(after)
    if not after.startswith(prefix):
        raise KeyRefused("the key to go on after lies outside the range")
    return after + _MIN, end


def plain_range(start: str, end: str) -> tuple[str, str]:
    """Bounds of a range of plain keys. An empty start means the first plain key, an empty end means no end.

    A composite key as a bound is refused; so a plain range never returns composite keys.
    """
    for bound in (start, end):
        if bound[:1] == _MIN:
            raise KeyRefused("a bound of a plain range begins with U+0000")
        _check_text(bound)
    return start or _PLAIN_START, end


def check(key: str) -> None:
    """Refuse a key that is empty, not UTF-8, too long, or begins with U+0000 without being a composite key.

    The peer itself accepts all of these but the second, so only the shim keeps them out.
    """
    if not key:
        raise KeyRefused("the key is empty")
    if key[0] == _MIN and not is_composite(key):
        raise KeyRefused("the key begins with U+0000 and is not a composite key")
    _check_text(key)


def _check_text(key: str) -> None:
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError as error:
        raise KeyRefused("the key is not valid UTF-8") from error
    if size > KEY_BYTES_MAX:
        raise KeyRefused(f"the key is longer than {KEY_BYTES_MAX} bytes")
