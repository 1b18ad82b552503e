"""Bank entries: what the bank booked on its control account, each moving money on the ledger once only."""

from datetime import date
from typing import Final, Literal

from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.record import Record, Trace, check_other_person, check_state

STATES: Final = ("matched", "suspended")
SUSPENSE_STATES: Final = ("new", "assigned", "proposed", "resolved")

Direction = Literal["C", "D"]

SuspenseReason = Literal[
    "no_match",
    "several_matches",
    "amount_differs",
    "third_party_payer",
    "debit_without_instruction",
    "debit_after_reject",
    "return_without_debit",
    "reversal_unknown",
    "status_unknown",
]


Resolution = Literal[
    "credit_account",
    "return_to_payer",
    "accept_difference",
    "correct_instruction",
    "bank_error",
    "write_off",
]

PAIRED: Final = ("return_to_payer", "correct_instruction", "bank_error")
"""Resolutions that set an entry off against another one of the opposite amount."""


class BankEntry(Record, frozen=True, kw_only=True):
    """One booked entry; ``matched_to`` is the account it was credited to."""

    entry_id: str
    state: str
    control_account: str
    currency: str
    amount_minor: int
    direction: Direction
    booking_date: date
    value_date: date
    booked_on: date
    servicer_reference: str
    matched_to: str | None

    @property
    def signed_minor(self) -> int:
        """The amount as it changes the control account."""
        return self.amount_minor if self.direction == "C" else -self.amount_minor


class Suspense(Record, frozen=True, kw_only=True):
    """A booked entry without a match, waiting for people; the amount is signed like the entry."""

    entry_id: str
    currency: str
    signed_minor: int
    reason: SuspenseReason
    state: str
    opened_on: date
    assigned_to: str | None
    proposed_by: str | None
    resolution: Resolution | None
    account_id: str | None
    counter_entry_id: str | None
    changed: Trace


def assign(suspense: Suspense, trace: Trace) -> Suspense:
    """Take a case on. Raises ``state_wrong``."""
    check_state(suspense.entry_id, suspense.state, "assign", ("new", "assigned"))
    return replace(suspense, state="assigned", assigned_to=trace.user_id, changed=trace)


def propose(
    suspense: Suspense, resolution: Resolution, account_id: str | None, counter_entry_id: str | None, trace: Trace
) -> Suspense:
    """Propose how a case ends. Raises ``resolution_invalid``, then ``state_wrong``."""
    if (resolution == "credit_account") is (account_id is None) or (resolution in PAIRED) is (counter_entry_id is None):
        raise DomainError("resolution_invalid", resolution=resolution)
    if resolution == "credit_account" and suspense.signed_minor < 0:
        raise DomainError("resolution_invalid", resolution=resolution)
    check_state(suspense.entry_id, suspense.state, "propose", ("assigned", "proposed"))
    return replace(
        suspense,
        state="proposed",
        proposed_by=trace.user_id,
        resolution=resolution,
        account_id=account_id,
        counter_entry_id=counter_entry_id,
        changed=trace,
    )


def resolve(suspense: Suspense, trace: Trace) -> Suspense:
    """End a case as proposed, by another person. Raises ``state_wrong``, then ``same_person``."""
    check_state(suspense.entry_id, suspense.state, "approve", ("proposed",))
    check_other_person(trace.user_id, suspense.proposed_by)
    return replace(suspense, state="resolved", changed=trace)


def set_off(suspense: Suspense, counter: Suspense, trace: Trace) -> Suspense:
    """The counter entry of a case as resolved with it. Raises ``state_wrong``, then ``counter_differs``."""
    check_state(counter.entry_id, counter.state, "approve", ("new", "assigned", "proposed"))
    if counter.signed_minor != -suspense.signed_minor or counter.currency != suspense.currency:
        raise DomainError("counter_differs", id=counter.entry_id, other=suspense.entry_id)
    return replace(
        counter, state="resolved", resolution=suspense.resolution, counter_entry_id=suspense.entry_id, changed=trace
    )
