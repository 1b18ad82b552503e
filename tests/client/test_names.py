"""Both interfaces offer the same names, and nothing else."""

import inspect
from typing import Any

import pytest
from tallystick import aio, fabric, testing

DOUBLED = sorted(
    name
    for name in fabric.__all__
    if inspect.isclass(getattr(fabric, name)) and getattr(fabric, name) is not getattr(aio, name)
)


def _public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def _parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_both_sides_export_the_same_names() -> None:
    assert fabric.__all__ == aio.__all__


def test_all_is_what_is_there() -> None:
    for package in (fabric, aio, testing):
        assert sorted(package.__all__, key=str) == sorted(set(package.__all__), key=str)
        assert all(hasattr(package, name) for name in package.__all__)


def test_what_makes_calls_is_doubled_and_the_rest_is_shared() -> None:
    assert DOUBLED == [
        "BlockAndPrivateDataEventsRequest",
        "BlockEventsRequest",
        "ChaincodeEventsRequest",
        "Channel",
        "Commit",
        "CommitTracker",
        "Contract",
        "Events",
        "FilteredBlockEventsRequest",
        "Gateway",
        "Network",
        "Proposal",
        "SubmittedTransaction",
        "Transaction",
    ]


@pytest.mark.parametrize("name", DOUBLED)
def test_classes_have_the_same_members(name: str) -> None:
    assert _public(getattr(fabric, name)) == _public(getattr(aio, name))


@pytest.mark.parametrize("name", DOUBLED)
def test_members_take_the_same_arguments(name: str) -> None:
    ours, theirs = getattr(fabric, name), getattr(aio, name)
    for member in _public(ours):
        function = inspect.getattr_static(ours, member)
        if inspect.isfunction(function):
            other = inspect.getattr_static(theirs, member)
            assert _parameters(function) == _parameters(other), member
            assert not inspect.iscoroutinefunction(function)


@pytest.mark.parametrize("name", ["connect", "channel"])
def test_functions_take_the_same_arguments(name: str) -> None:
    assert _parameters(getattr(fabric, name)) == _parameters(getattr(aio, name))


@pytest.mark.parametrize("package", [fabric, aio, testing])
def test_everything_public_is_documented(package: Any) -> None:
    for name in package.__all__:
        item = getattr(package, name)
        if inspect.isclass(item) or inspect.isfunction(item):
            assert item.__doc__, name
        if inspect.isclass(item):
            for member, value in vars(item).items():
                if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                    assert inspect.getdoc(value), f"{name}.{member}"


def test_only_the_wire_modules_import_fabrics_messages() -> None:
    from pathlib import Path

    root = Path(inspect.getfile(fabric)).parent.parent
    importers = {
        str(path.relative_to(root)) for path in root.rglob("*.py") if "fabric_protos" in _imports(path.read_text())
    }
    assert importers == {"_wire.py", "fabric/_wire.py"}


def _imports(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if line.strip().startswith(("import ", "from ")))
