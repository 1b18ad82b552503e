"""Roles of people, and the three kinds of callers that act without a bound certificate."""

import string
from typing import Final

_UPPER: Final = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)

ROLES: Final = (
    "operator",
    "reviewer",
    "approver",
    "keeper",
    "carrier",
    "appraiser",
    "preliminary_officer",
    "final_officer",
    "treasury",
    "analyst",
    "scorer",
    "auditor",
)
"""Roles that a certificate record can hold."""

ADMIN: Final = "admin"
"""A certificate with the organisational unit admin: the consortium admin of its organisation."""

SERVICE: Final = "service"
"""A certificate with the attribute roles=service: web app and projector of an organisation."""

PRESENTER: Final = "presenter"
"""A certificate that is being presented and has no record yet."""

CALLERS: Final = (*ROLES, ADMIN, SERVICE, PRESENTER)

BANK_MSP: Final = "BankMSP"
"""The clearing bank's organisation: only its people confirm that money came or went."""


def ascii_upper(text: str) -> str:
    """The text with its ASCII letters in upper case; other letters depend on the Unicode tables and stay."""
    return text.translate(_UPPER)


def organisation_member(msp_id: str) -> str:
    """Member id of a founding organisation: CoreMSP is M-CORE."""
    return "M-" + ascii_upper(msp_id.removesuffix("MSP"))
