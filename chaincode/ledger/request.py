"""Requests that were carried out: digest of the input and the answer, so that a repeat is safe."""

from typing import Final

from chaincode.domain.record import Record
from chaincode.ledger.repository import Repository


class Request(Record, frozen=True, kw_only=True):
    """One request of a member: what was asked (as a digest) and the answer as canonical JSON text."""

    input_digest: str
    answer: str
    transaction_id: str


REQUESTS: Final = Repository("request", Request, "request_reused", "request_reused")
