"""Files that came from or went to the bank, each recorded once by sender and message id."""

from typing import Final, Literal

from chaincode.domain.error import DomainError
from chaincode.domain.record import Record, Trace

STATES: Final = ("recorded",)

Kind = Literal["pain.001", "pain.002", "camt.053", "camt.054", "csv"]


class BankFile(Record, frozen=True, kw_only=True):
    """One file: digests of its bytes and of its records in their order, count and sum."""

    sender: str
    message_id: str
    kind: Kind
    state: str
    raw_digest: str
    content_digest: str
    count: int
    sum_minor: int
    changed: Trace


def check_same(known: BankFile, content_digest: str) -> None:
    """Refuse other content under a known message id. Raises ``CONFLICT file_reused``."""
    if known.content_digest != content_digest:
        raise DomainError("file_reused", id=known.message_id)
