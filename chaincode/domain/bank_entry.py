"""Bank entries: what the bank booked on its control account, each moving money on the ledger once only."""

from datetime import date
from typing import Final, Literal

from chaincode.domain.record import Record

STATES: Final = ("matched", "suspended")

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
