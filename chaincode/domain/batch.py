"""Batches: instructions that go to the bank's payment system together, fixed by count, sum and digest."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.record import Record, Trace, check_other_person, check_state

STATES: Final = ("open", "closed", "approved", "sent", "released")

PAGE_ITEMS_MAX: Final = 200
"""Instructions that one step adds: each is a read and a write."""

PAGES_MAX: Final = 50

_encode = msgspec.json.Encoder(order="sorted").encode

PageNumber = Annotated[int, Meta(ge=1, le=PAGES_MAX, description="Number of the page")]


class Batch(Record, frozen=True, kw_only=True):
    """One batch; count, sum and digest are set when it is closed, ``proposed_by`` by whoever wants it released."""

    batch_id: str
    state: str
    currency: str
    channel: str
    count: int
    sum_minor: int
    digest: str
    pages: int
    pages_done: int
    built_by: str
    proposed_by: str | None
    transport_reference: str
    changed: Trace


class BatchPage(Record, frozen=True, kw_only=True):
    """Instructions that were added in one step, with the sum of their amounts."""

    batch_id: str
    page: int
    instruction_ids: tuple[str, ...]
    sum_minor: int


def build(batch_id: str, currency: str, channel: str, trace: Trace) -> Batch:
    """An empty open batch."""
    return Batch(
        batch_id=batch_id,
        state="open",
        currency=currency,
        channel=channel,
        count=0,
        sum_minor=0,
        digest="",
        pages=0,
        pages_done=0,
        built_by=trace.user_id,
        proposed_by=None,
        transport_reference="",
        changed=trace,
    )


def close(batch: Batch, pages: Sequence[BatchPage], trace: Trace) -> Batch:
    """Fix count, sum and digest; nothing joins later. Raises ``state_wrong``, then ``batch_empty``."""
    check_state(batch.batch_id, batch.state, "close", ("open",))
    rows = [list(page.instruction_ids) for page in pages]
    count = sum(len(row) for row in rows)
    if not count:
        raise DomainError("batch_empty", id=batch.batch_id)
    digest = hashlib.sha256(_encode(rows)).hexdigest()
    sum_minor = sum(page.sum_minor for page in pages)
    return replace(
        batch, state="closed", count=count, sum_minor=sum_minor, digest=digest, pages=len(pages), changed=trace
    )


def approve(batch: Batch, count: int, sum_minor: int, digest: str, trace: Trace) -> Batch:
    """Approve a closed batch by a second officer, who states count, sum and digest.

    Raises ``state_wrong``, ``same_person``, then ``batch_differs``.
    """
    check_state(batch.batch_id, batch.state, "approve", ("closed",))
    check_other_person(trace.user_id, batch.built_by)
    if (count, sum_minor, digest) != (batch.count, batch.sum_minor, batch.digest):
        raise DomainError("batch_differs", id=batch.batch_id)
    return replace(batch, state="approved", changed=trace)


def send(batch: Batch, page: int, transport_reference: str, trace: Trace) -> Batch:
    """Note that the batch went out, page by page; with the last page it is sent.

    Raises ``state_wrong``, then ``page_wrong``.
    """
    check_state(batch.batch_id, batch.state, "send", ("approved",))
    state = _after(batch, page, "sent")
    return replace(
        batch, state=state, pages_done=page % batch.pages, transport_reference=transport_reference, changed=trace
    )


def _after(batch: Batch, page: int, final: str) -> str:
    """The state after a page, which has to be the next one."""
    if page != batch.pages_done + 1 or page > batch.pages:
        raise DomainError("page_wrong", page=page, id=batch.batch_id, next=batch.pages_done + 1)
    return final if page == batch.pages else batch.state


def propose_release(batch: Batch, trace: Trace) -> Batch:
    """Propose to free the items of a batch that the bank never received. Raises ``state_wrong``."""
    check_state(batch.batch_id, batch.state, "propose_release", ("approved", "sent"))
    return replace(batch, pages_done=0, proposed_by=trace.user_id, changed=trace)


def release(batch: Batch, page: int, trace: Trace) -> Batch:
    """Free the items of a batch, by a second officer and page by page; with the last page it is released.

    Raises ``state_wrong``, ``proposal_missing``, ``same_person``, then ``page_wrong``.
    """
    check_state(batch.batch_id, batch.state, "release", ("approved", "sent"))
    if batch.proposed_by is None:
        raise DomainError("proposal_missing", id=batch.batch_id)
    check_other_person(trace.user_id, batch.proposed_by)
    return replace(batch, state=_after(batch, page, "released"), pages_done=page % batch.pages, changed=trace)
