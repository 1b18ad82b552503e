"""Repositories: records of one word under composite keys, created once, saved whole, lifted from older schemas."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from chaincode.domain.error import DomainError
from chaincode.domain.record import Record
from chaincode.ledger.store import INDEX, Store

R = TypeVar("R", bound=Record)

Lift = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns a decoded record of one schema into one of the next."""

_encode = msgspec.json.Encoder(order="sorted").encode


class _Schema(msgspec.Struct, frozen=True):
    schema: int


@dataclass(frozen=True, slots=True)
class Repository(Generic[R]):
    """Storage of one kind of record under (``word``, attributes).

    ``missing`` and ``exists`` are the reasons given when a record is not there or is there already; ``lifts`` holds the
    step from each older schema to the next.
    """

    word: str
    kind: type[R]
    missing: str
    exists: str
    lifts: Mapping[int, Lift] = field(default_factory=dict)

    def find(self, store: Store, *attributes: str) -> R | None:
        """The record, or None."""
        value = store.get(store.key(self.word, attributes))
        return None if value is None else self.decode(value)

    def load(self, store: Store, *attributes: str) -> R:
        """The record. Raises ``NOT_FOUND <word>_not_found``."""
        record = self.find(store, *attributes)
        if record is None:
            raise DomainError(self.missing, id=attributes[-1])
        return record

    def check_new(self, store: Store, *attributes: str) -> None:
        """Refuse a key that is in use. Raises ``CONFLICT <word>_exists``."""
        if store.get(store.key(self.word, attributes)) is not None:
            raise DomainError(self.exists, id=attributes[-1])

    def save(self, store: Store, record: R, *attributes: str) -> None:
        """Stage the whole record."""
        store.put(store.key(self.word, attributes), _encode(record))

    def rows(
        self, store: Store, attributes: Sequence[str], after: Sequence[str] | None, limit: int
    ) -> list[tuple[list[str], R]]:
        """At most ``limit`` records below a prefix with the attributes of their keys."""
        return [(found, self.decode(value)) for found, value in store.rows(self.word, attributes, after, limit)]

    def decode(self, value: bytes) -> R:
        """The record in stored bytes, lifted to the newest schema."""
        schema = msgspec.json.decode(value, type=_Schema).schema
        if schema not in self.lifts:
            return msgspec.json.decode(value, type=self.kind)
        raw = msgspec.json.decode(value)
        while schema in self.lifts:
            raw = self.lifts[schema](raw)
            schema = raw["schema"]
        return msgspec.convert(raw, self.kind)


@dataclass(frozen=True, slots=True)
class Index:
    """Keys without content that make a list or a uniqueness rule."""

    word: str

    def put(self, store: Store, *attributes: str) -> None:
        """Stage an index key."""
        store.put(store.key(self.word, attributes), INDEX)

    def drop(self, store: Store, *attributes: str) -> None:
        """Stage the removal of an index key."""
        store.delete(store.key(self.word, attributes))

    def has(self, store: Store, *attributes: str) -> bool:
        """Whether the index key is there."""
        return store.get(store.key(self.word, attributes)) is not None

    def rows(self, store: Store, attributes: Sequence[str], after: Sequence[str] | None, limit: int) -> list[list[str]]:
        """Attributes of at most ``limit`` index keys below a prefix."""
        return [found for found, _ in store.rows(self.word, attributes, after, limit)]
