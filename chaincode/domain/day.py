"""Bank days: the record that a business day's books agree with the bank's, per currency.

The equation of section 5 of the bank side specification is computed by the bank from its files; the ledger keeps its
figures, and a difference needs a reason and a second officer.
"""

from datetime import date
from typing import Final

from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.record import Record, check_other_person, check_state

STATES: Final = ("proposed", "closed")


class Day(Record, frozen=True, kw_only=True):
    """One closed or closing day; ``difference_minor`` is bank less ledger."""

    currency: str
    date: date
    state: str
    closing_ledger_minor: int
    closing_bank_minor: int
    difference_minor: int
    report_digest: str
    reason: str
    closed_by: str
    approved_by: str | None


def close(
    currency: str, day: date, ledger_minor: int, bank_minor: int, report_digest: str, reason: str, user_id: str
) -> Day:
    """Close a day whose books agree, or propose to close one with an explained difference.

    Raises ``INVALID difference_unexplained``.
    """
    difference = bank_minor - ledger_minor
    if difference and not reason:
        raise DomainError("difference_unexplained", difference=difference)
    return Day(
        currency=currency,
        date=day,
        state="proposed" if difference else "closed",
        closing_ledger_minor=ledger_minor,
        closing_bank_minor=bank_minor,
        difference_minor=difference,
        report_digest=report_digest,
        reason=reason,
        closed_by=user_id,
        approved_by=None,
    )


def approve(day: Day, user_id: str) -> Day:
    """Close a day with a difference, by a second officer. Raises ``state_wrong``, then ``same_person``."""
    check_state(f"{day.currency} {day.date.isoformat()}", day.state, "approve", ("proposed",))
    check_other_person(user_id, day.closed_by)
    return replace(day, state="closed", approved_by=user_id)
