"""Quotas: how much an issuer may owe at most, granted by a bank and kept in slices so that issues do not collide."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.money import share
from chaincode.domain.record import Amount, Id, Record, Trace, check_other_person, check_state

STATES: Final = ("proposed", "granted", "ended")

SLICES: Final = 64
"""Slices of a quota: with 50 issues at once that each name one at random, few meet."""

SLICES_PER_ISSUE_MAX: Final = 8

SliceNumber = Annotated[int, Meta(ge=0, lt=SLICES, description="Number of a slice")]


class Quota(Record, frozen=True, kw_only=True):
    """What one funder allows one issuer to owe in one currency, from a date until a date."""

    quota_id: str
    state: str
    issuer_id: str
    granter_id: str
    currency: str
    limit_minor: int
    valid_from: date
    valid_until: date
    proposed_by: str
    changed: Trace


class Slice(Record, frozen=True, kw_only=True):
    """One slice: its part of the limit and what issues have taken of it."""

    quota_id: str
    number: int
    limit_minor: int
    used_minor: int


class SliceUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an issue takes from one slice."""

    quota_id: Id
    slice: SliceNumber
    amount_minor: Amount


def propose(
    quota_id: str,
    issuer_id: str,
    currency: str,
    limit_minor: int,
    valid_from: date,
    valid_until: date,
    today: date,
    trace: Trace,
) -> Quota:
    """Propose a quota. Raises ``expiry_passed`` when it would end before it begins or before tomorrow."""
    if valid_until <= today or valid_until < valid_from:
        raise DomainError("expiry_passed", date=valid_until.isoformat(), today=today.isoformat())
    return Quota(
        quota_id=quota_id,
        state="proposed",
        issuer_id=issuer_id,
        granter_id=trace.member_id,
        currency=currency,
        limit_minor=limit_minor,
        valid_from=valid_from,
        valid_until=valid_until,
        proposed_by=trace.user_id,
        changed=trace,
    )


def approve(quota: Quota, trace: Trace) -> tuple[Quota, list[Slice]]:
    """Grant a proposed quota of the own house and cut it into slices.

    Raises ``not_owner``, ``state_wrong``, then ``same_person``.
    """
    check_granter(quota, trace)
    check_state(quota.quota_id, quota.state, "approve", ("proposed",))
    check_other_person(trace.user_id, quota.proposed_by)
    limits = share(quota.limit_minor, [1] * SLICES)
    slices = [
        Slice(quota_id=quota.quota_id, number=number, limit_minor=limit, used_minor=0)
        for number, limit in enumerate(limits)
    ]
    return replace(quota, state="granted", changed=trace), slices


def end(quota: Quota, trace: Trace) -> Quota:
    """End a quota: nothing more is issued under it. Raises ``not_owner``, then ``state_wrong``."""
    check_granter(quota, trace)
    check_state(quota.quota_id, quota.state, "end", ("proposed", "granted"))
    return replace(quota, state="ended", changed=trace)


def check_granter(quota: Quota, trace: Trace) -> None:
    """Refuse people of another house than the granter. Raises ``FORBIDDEN not_owner``."""
    if quota.granter_id != trace.member_id:
        raise DomainError("not_owner", id=quota.quota_id, member=trace.member_id)


def check_issuer(quota: Quota, issuer_id: str) -> None:
    """Refuse a quota that was granted to another issuer. Raises ``FORBIDDEN not_owner``."""
    if quota.issuer_id != issuer_id:
        raise DomainError("not_owner", id=quota.quota_id, member=issuer_id)


def check_usable(quota: Quota, currency: str, today: date) -> None:
    """Refuse a quota that does not serve an issue.

    Raises ``state_wrong``, ``quota_expired``, then ``currency_differs``.
    """
    check_state(quota.quota_id, quota.state, "issue", ("granted",))
    if not quota.valid_from <= today <= quota.valid_until:
        raise DomainError(
            "quota_expired",
            id=quota.quota_id,
            valid_from=quota.valid_from.isoformat(),
            valid_until=quota.valid_until.isoformat(),
        )
    if quota.currency != currency:
        raise DomainError("currency_differs", id=quota.quota_id, currency=quota.currency)


def take(piece: Slice, amount_minor: int) -> Slice:
    """Take an amount from a slice. Raises ``CONFLICT quota_exceeded``."""
    free = piece.limit_minor - piece.used_minor
    if amount_minor > free:
        raise DomainError("quota_exceeded", slice=piece.number, id=piece.quota_id, free=free, needed=amount_minor)
    return replace(piece, used_minor=piece.used_minor + amount_minor)


def give_back(piece: Slice, amount_minor: int) -> Slice:
    """Give back what a voucher took which was refused, cancelled or paid."""
    return replace(piece, used_minor=piece.used_minor - amount_minor)


def rebalance(pieces: Sequence[Slice]) -> list[Slice]:
    """Spread the free limit evenly over all slices; the sum of the limits stays the same."""
    free = share(sum(piece.limit_minor - piece.used_minor for piece in pieces), [1] * len(pieces))
    return [replace(piece, limit_minor=piece.used_minor + part) for piece, part in zip(pieces, free, strict=True)]
