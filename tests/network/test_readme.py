"""The READMEs of the network against the code: every command, option, key, file and module stands in them."""

import re
from pathlib import Path

import msgspec
import pytest
import typer.main

import network
from network import cli, home, topology_file

FOLDER = Path(network.__file__).parent
README = (FOLDER / "README.md").read_text(encoding="utf-8")
EMBEDDED = (FOLDER / "embedded" / "README.md").read_text(encoding="utf-8")


def words(text: str) -> set[str]:
    """What a README says in code form, taken apart at everything that is no part of a name, an option or a file."""
    return {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.split(r"[^\w.-]+", code)}


def table(text: str, heading: str) -> list[str]:
    """The first cells of the first table under a heading (empty: of the file's first table)."""
    section = text.split(f"## {heading}\n", 1)[1] if heading else text
    section = section.split("\n## ", 1)[0]
    return re.findall(r"^\| `([\w./]+)` \|", section, re.MULTILINE)


def options() -> list[str]:
    commands = typer.main.get_command(cli.app).commands.values()  # type: ignore[attr-defined]  # it is a group
    found = [
        f"{command.name} {option}"
        for command in commands
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    ]
    assert "up --real-days" in found
    return sorted(found)


def keys() -> list[str]:
    """Every key of the topology file, with its table's class."""
    tables = [
        each for each in vars(topology_file).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)
    ]
    found = [f"{each.__name__} {name}" for each in tables for name in each.__struct_fields__]
    assert "_Collection block_to_live" in found
    return found


@pytest.mark.parametrize("option", options())
def test_every_option_is_documented(option: str) -> None:
    command, name = option.split()
    assert command in table(README, "Commands")
    assert name in words(README)


@pytest.mark.parametrize("key", keys())
def test_every_topology_key_is_documented(key: str) -> None:
    name = key.split()[1]
    assert name in {part for word in words(README) for part in word.split(".")}


def test_every_command_stands_in_the_table() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]  # it is a group
    assert table(README, "Commands") == list(commands)


def test_every_file_of_a_home_is_documented() -> None:
    names = [value for name, value in vars(home).items() if name.isupper() and isinstance(value, str)]
    assert len(names) == 6
    assert set(names) <= set(table(README, "A home"))


def test_every_environment_variable_is_documented() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.py"))
    read = re.findall(r'envvar="(\w+)"|environ[\w.]*[\[(]"(\w+)"|getenv\("(\w+)"', sources)
    names = {name for groups in read for name in groups if name}
    assert "TALLYSTICK_HOME" in names
    assert names <= words(README)


def test_every_exit_code_is_documented() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d) \|", README, re.MULTILINE)}
    assert codes == {0, cli.REFUSED, cli.USAGE, cli.UNAVAILABLE}


@pytest.mark.parametrize(
    ("folder", "text", "heading"),
    [
        (FOLDER, README, ""),
        (FOLDER / "identity", README, "identity/"),
        (FOLDER / "channel", README, "channel/"),
        (FOLDER / "embedded", EMBEDDED, "One line per file"),
    ],
    ids=["network", "identity", "channel", "embedded"],
)
def test_every_module_has_its_line_and_every_line_its_module(folder: Path, text: str, heading: str) -> None:
    listed = [name for name in table(text, heading) if name.endswith(".py")]
    assert sorted(listed) == sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")


def test_every_file_named_in_the_specification_exists() -> None:
    tests = FOLDER.parent / "tests" / "network"
    named = {word for word in words(EMBEDDED) if re.fullmatch(r"\w+\.py", word)}
    known = {path.name for place in (FOLDER, tests) for path in place.rglob("*.py")}
    assert named <= known
