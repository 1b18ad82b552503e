"""Events and records as they were written down: a change of them is seen in review."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.json import encode

from chaincode.domain.member import Member
from chaincode.ledger.repository import Repository
from tests.agreement.test_specification import stores
from tests.chaincode.contract.golden import GOLDEN, events, records, text_of

RECORDS = sorted((GOLDEN / "records").glob("*.json"))
KEY_WORDS = {"account": "balance"}
"""Words whose records lie under another key."""


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    return events()


def test_events(found: dict[str, dict[str, Any]]) -> None:
    kept = {path.stem: path.read_text("utf-8") for path in sorted((GOLDEN / "events").glob("*.json"))}
    assert {name: text_of(value) for name, value in found.items()} == kept


def test_records(found: dict[str, dict[str, Any]]) -> None:
    kept = {path.stem: path.read_text("utf-8") for path in RECORDS}
    for name, record in records(found).items():
        assert text_of(record) == kept[name], name


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_records_of_every_schema_are_read(path: Path) -> None:
    word = path.name.split(".")[0]
    repositories = {store.word: store for store in stores() if isinstance(store, Repository)}
    record = json.loads(path.read_text("utf-8"))
    read = repositories[KEY_WORDS.get(word, word)].decode(encode(record, order="sorted"))
    newest = repositories[KEY_WORDS.get(word, word)].kind.__struct_defaults__[0]
    if record["schema"] == newest:
        assert json.loads(encode(read)) == record


def test_older_schema_is_lifted_step_by_step() -> None:
    record = json.loads((GOLDEN / "records" / "member.1.json").read_text("utf-8"))
    older = {name: value for name, value in record.items() if name != "grade"} | {"schema": -1}
    repository = Repository(
        "member",
        Member,
        "member_not_found",
        "member_exists",
        lifts={-1: lambda raw: {**raw, "schema": 0}, 0: lambda raw: {**raw, "grade": None, "schema": 1}},
    )
    assert repository.decode(encode(older)) == repository.decode(encode(record))
