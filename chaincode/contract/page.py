"""Pages of lists, and histories of records: what the reads of all words answer alike."""

from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from chaincode.domain.record import Limit, Record
from chaincode.ledger.repository import Index, Repository
from chaincode.ledger.store import Store

R = TypeVar("R", bound=Record)

Cursor = Annotated[str, Meta(max_length=400, description="The field next of the page before")]

SEPARATOR: Final = "|"
"""Between the parts of a cursor; no id has it."""

HISTORY_MAX: Final = 200
"""Changes that one history answers, newest first."""


class Listing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a list's argument: how many items at most and where to go on."""

    limit: Limit = 50
    after: Cursor | None = None


def records(
    repository: Repository[R], store: Store, prefix: list[str], listing: Listing
) -> tuple[tuple[R, ...], str | None]:
    """One page of records below a prefix and the cursor of the next one, None at the end."""
    rows = repository.rows(store, prefix, start_of(prefix, listing), listing.limit + 1)
    items = tuple(record for _, record in rows[: listing.limit])
    return items, next_of([found for found, _ in rows], listing)


def indexed(
    index: Index, repository: Repository[R], store: Store, prefix: list[str], listing: Listing
) -> tuple[tuple[R, ...], str | None]:
    """One page of the records that an index names by its last attribute."""
    rows = index.rows(store, prefix, start_of(prefix, listing), listing.limit + 1)
    items = tuple(repository.load(store, found[-1]) for found in rows[: listing.limit])
    return items, next_of(rows, listing)


def start_of(prefix: list[str], listing: Listing) -> list[str] | None:
    """Attributes of the last key of the page before, below the prefix."""
    return None if listing.after is None else [*prefix, *listing.after.split(SEPARATOR)[len(prefix) :]]


def next_of(found: list[list[str]], listing: Listing) -> str | None:
    """The cursor of the next page, when more rows were found than the page holds."""
    return SEPARATOR.join(found[listing.limit - 1]) if len(found) > listing.limit else None
