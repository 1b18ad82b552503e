"""``chaincode/README.md`` against the code: glossary, state keys, transactions, tables."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import chaincode.ledger
from chaincode.ledger.repository import Index, Repository
from tests.agreement import specification
from tests.agreement.specification import README, extension, transactions

TEXT = README.read_text("utf-8")


def table(heading: str) -> Iterator[list[str]]:
    """Cells of the rows of the first table after a heading."""
    section = TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    for row in rows[2:]:
        yield [cell.strip() for cell in row.strip("|").split("|")]


def codes(cell: str) -> list[str]:
    """Words in code marks."""
    return re.findall(r"`([^`]+)`", cell)


def stores() -> Iterator[Repository | Index]:
    """Every repository and index of the ledger package."""
    for module in pkgutil.iter_modules(chaincode.ledger.__path__):
        for value in vars(importlib.import_module(f"chaincode.ledger.{module.name}")).values():
            if isinstance(value, Repository | Index):
                yield value


def test_generated_parts_are_those_of_the_code() -> None:
    assert specification.written(TEXT) == TEXT


def test_glossary_names_each_contract_with_its_verbs() -> None:
    verbs: dict[str, list[str]] = {}
    for _, name, _ in transactions():
        word, verb = name.split(":")
        if verb not in verbs.setdefault(word, []):
            verbs[word].append(verb)
    written = {codes(row[0])[0]: codes(row[3]) for row in table("1. Glossary")}
    assert {word: sorted(row) for word, row in written.items() if row} == {
        word: sorted(names) for word, names in verbs.items()
    }


def test_glossary_states_are_those_of_the_domain() -> None:
    for row in table("1. Glossary"):
        word = codes(row[0])[0]
        try:
            module = importlib.import_module(f"chaincode.domain.{word}")
        except ModuleNotFoundError:
            continue
        assert codes(row[2]) == list(getattr(module, "STATES", ())), word


def test_states_of_the_metadata_are_in_the_glossary() -> None:
    known = {codes(row[0])[0]: codes(row[2]) for row in table("1. Glossary")}
    for _, name, function in transactions():
        described = extension(function)
        for state in (*described["from_states"], described["to_state"]):
            assert state is None or state in known[name.split(":")[0]], (name, state)


def test_forbidden_synonyms_are_not_names_in_the_code() -> None:
    forbidden = [synonym for row in table("1. Glossary") for synonym in row[4].split(", ") if synonym not in ("", "–")]
    root = README.parent
    for folder in ("domain", "ledger", "contract"):
        for file in sorted((root / folder).glob("*.py")):
            names = re.findall(r"\b[a-z_]+\b", re.sub(r'"""[\s\S]*?"""|#.*|"[^"]*"', "", file.read_text("utf-8")))
            assert [name for name in names if name in forbidden] == [], file


def test_every_key_is_in_the_table_of_state_keys() -> None:
    listed = [codes(row[0])[0] for row in table("2. State keys")]
    assert sorted(set(listed)) == sorted({store.word for store in stores()})
