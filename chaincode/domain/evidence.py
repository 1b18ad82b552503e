"""Evidence: the digest of a file with a description; the file itself stays in the member's store."""

from typing import Final

from chaincode.domain.record import Record, Trace

STATES: Final = ("recorded",)


class Evidence(Record, frozen=True, kw_only=True):
    """One file by its SHA-256; ``subject_word`` and ``subject_id`` name the record that it belongs to, if any."""

    evidence_id: str
    state: str
    member_id: str
    digest: str
    description: str
    subject_word: str | None
    subject_id: str | None
    changed: Trace
