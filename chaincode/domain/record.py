"""What all records of the ledger share: the schema number, the kinds of ids and text, and a change proposed by one
person.

Types here carry the shape rules that are checked when input or a stored record is decoded.
"""

from datetime import date
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta

from chaincode.domain.error import DomainError
from chaincode.domain.money import AMOUNT_MINOR_MAX, RATE_PPM_MAX

Id = Annotated[str, Meta(pattern=r"^[A-Z0-9][A-Z0-9-]{0,34}$", description="Id made by the caller")]
NewId = Annotated[
    str,
    Meta(
        pattern=r"^(?!.*-[PQR]$)[A-Z0-9][A-Z0-9-]{0,32}$",
        description="Id of a record to be made; the endings -P, -Q and -R belong to parts of vouchers",
    ),
]
MemberId = Annotated[str, Meta(pattern=r"^M-[A-Z0-9]{1,26}$", description="Member id")]
UserId = Annotated[str, Meta(pattern=r"^U-[A-Z0-9-]{1,33}$", description="Pseudonym of a person")]
RequestId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$", description="Id of the request, made by the caller")]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in lower-case hex")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$", description="ISO 4217 code")]
Amount = Annotated[int, Meta(ge=1, le=AMOUNT_MINOR_MAX, description="Amount in minor units")]
AmountOrZero = Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX, description="Amount in minor units, may be 0")]
RatePpm = Annotated[int, Meta(ge=0, le=RATE_PPM_MAX, description="Rate in parts per million")]
Label = Annotated[str, Meta(min_length=1, max_length=64, description="Text that people read")]
Name = Annotated[str, Meta(min_length=1, max_length=140, description="Name of a company")]
Reason = Annotated[str, Meta(min_length=1, max_length=500, description="Why, in a sentence")]
Limit = Annotated[int, Meta(ge=1, le=200, description="How many items at most")]

T = TypeVar("T")


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every stored record."""

    schema: int = 1


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the argument of every writing transaction."""

    request_id: RequestId


class Trace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who changed a record last, on which business date, and why (empty where no reason is asked)."""

    member_id: str
    user_id: str
    business_date: date
    reason: str = ""


class Proposal(msgspec.Struct, Generic[T], frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change that one person proposed and another has to approve."""

    value: T
    from_date: date
    user_id: str
    msp_id: str

    def check_other(self, user_id: str, msp_id: str) -> None:
        """Refuse the proposer and everybody of the proposer's organisation.

        Raises ``FORBIDDEN same_person``, then ``FORBIDDEN same_organisation``.
        """
        check_other_person(user_id, self.user_id)
        if msp_id == self.msp_id:
            raise DomainError("same_organisation", organisation=self.msp_id)


def check_other_person(user_id: str, *earlier: str | None) -> None:
    """Refuse a person who did one of the earlier steps. Raises ``FORBIDDEN same_person``."""
    if user_id in earlier:
        raise DomainError("same_person", user=user_id)


def check_state(identifier: str, state: str, verb: str, allowed: tuple[str, ...]) -> None:
    """Refuse a record that is in another state than the verb starts from. Raises ``CONFLICT state_wrong``."""
    if state not in allowed:
        raise DomainError("state_wrong", id=identifier, state=state, verb=verb)
