"""Liens: one record per claim says what it secures, so that the same value cannot be financed twice.

A claim is an invoice, a voucher or an asset. The record is taken at application, kept while an application is returned,
and freed by withdrawal or repayment; it is closed by state, never deleted.
"""

from typing import Final

from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.record import Record, Trace

STATES: Final = ("taken", "freed")


class Lien(Record, frozen=True, kw_only=True):
    """The lien on one claim: ``secured_word`` and ``secured_id`` name the record that it serves."""

    claim_word: str
    claim_id: str
    state: str
    secured_word: str
    secured_id: str
    changed: Trace


def take(lien: Lien | None, claim_word: str, claim_id: str, secured_word: str, secured_id: str, trace: Trace) -> Lien:
    """Take the lien on a claim for a record that has none yet. Raises ``CONFLICT lien_exists``."""
    if lien is not None and lien.state == "taken":
        raise DomainError("lien_exists", id=claim_id, secured=lien.secured_id)
    return Lien(
        claim_word=claim_word,
        claim_id=claim_id,
        state="taken",
        secured_word=secured_word,
        secured_id=secured_id,
        changed=trace,
    )


def free(lien: Lien, trace: Trace) -> Lien:
    """Free the lien on a claim."""
    return replace(lien, state="freed", changed=trace)
