"""Writes REFERENCE.md from the docstrings: `python client/reference.py` (a test finds it up to date)."""

import enum
import inspect
import re
from pathlib import Path
from typing import Any

from tallystick import aio, fabric, testing
from tallystick.fabric import hfc, signers

TARGET = Path(__file__).parent / "REFERENCE.md"
MODULES = (
    ("tallystick.fabric", fabric, "The same names stand in `tallystick.aio`; there what makes a call is awaited."),
    ("tallystick.fabric.signers", signers, "Functions that make signers."),
    ("tallystick.testing", testing, "For your own tests."),
    ("tallystick.fabric.hfc", hfc, "For those who come from hfc."),
)


def reference() -> str:
    """The whole document."""
    parts = ["# Reference of tallystick", "Made from the docstrings by `client/reference.py`; do not edit it by hand."]
    for name, module, remark in MODULES:
        parts += [f"## {name}", remark]
        for member in sorted(module.__all__, key=str.lower):
            parts += _entry(member, getattr(module, member), getattr(aio, member, None) if module is fabric else None)
    return "\n\n".join(parts) + "\n"


def _entry(name: str, item: Any, other: Any) -> list[str]:
    if not (inspect.isclass(item) or inspect.isfunction(item)):
        return []
    title = f"### {name}{_signature(item)}"
    parts = [title, _text(item)]
    if inspect.isclass(item) and issubclass(item, enum.Enum):
        return [*parts, ", ".join(f"`{member.name}`" for member in item)]
    if inspect.isclass(item):
        parts += _members(item, other)
    return parts


def _members(kind: type, other: Any) -> list[str]:
    rows = []
    for name in sorted(set(dir(kind)) - set(dir(Exception))):
        value = inspect.getattr_static(kind, name)
        if name.startswith("_") or not (_is_function(value) or isinstance(value, property)):
            continue
        awaited = other is not None and inspect.iscoroutinefunction(getattr(other, name, None))
        plain = getattr(value, "__func__", value)
        signature = "" if isinstance(value, property) else _signature(plain)
        text = re.sub(r"\s+", " ", _text(value))
        rows.append(f"- `{name}{signature}`{' *(awaited in aio)*' if awaited else ''}: {text}")
    return ["\n".join(rows)] if rows else []


def _is_function(value: object) -> bool:
    return inspect.isfunction(value) or isinstance(value, classmethod | staticmethod)


def _signature(item: Any) -> str:
    if inspect.isclass(item) and (issubclass(item, enum.Enum | BaseException) or getattr(item, "_is_protocol", False)):
        return ""
    parameters = [p for p in inspect.signature(item).parameters.values() if p.name not in ("self", "cls")]
    words: list[str] = []
    for parameter in parameters:
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        if keyword_only and not any(word.startswith("*") for word in words):
            words.append("*")
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        words.append(star + parameter.name + ("=…" if parameter.default is not parameter.empty else ""))
    return f"({', '.join(words)})"


def _text(item: object) -> str:
    return (inspect.getdoc(item) or "").strip()


if __name__ == "__main__":
    TARGET.write_text(reference())
