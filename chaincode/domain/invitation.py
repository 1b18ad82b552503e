"""An invitation: a single-use code, known on the ledger only by its hash, that lets a company register."""

import base64
import hashlib
from datetime import date
from typing import Final

from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.record import Record, Trace, check_state

STATES: Final = ("open", "used", "withdrawn")


class Invitation(Record, frozen=True, kw_only=True):
    """One invitation; ``used_by`` is the member that registered with it."""

    invitation_id: str
    state: str
    inviter_id: str
    sponsor: str
    expires_on: date
    used_by: str | None
    changed: Trace


def id_of(code: str) -> str:
    """Id of the invitation with a code: ``N-`` and 26 base32 characters of the code's SHA-256."""
    digest = hashlib.sha256(f"tallystick-invitation-v1\n{code}".encode()).digest()
    return "N-" + base64.b32encode(digest).decode("ascii")[:26]


def create(invitation_id: str, sponsor: str, expires_on: date, today: date, trace: Trace) -> Invitation:
    """A new open invitation. Raises ``INVALID expiry_passed``."""
    if expires_on <= today:
        raise DomainError("expiry_passed", date=expires_on.isoformat(), today=today.isoformat())
    return Invitation(
        invitation_id=invitation_id,
        state="open",
        inviter_id=trace.member_id,
        sponsor=sponsor,
        expires_on=expires_on,
        used_by=None,
        changed=trace,
    )


def use(invitation: Invitation, member_id: str, today: date, trace: Trace) -> Invitation:
    """Use an open invitation. Raises ``state_wrong``, then ``invitation_expired``."""
    check_state(invitation.invitation_id, invitation.state, "register", ("open",))
    if invitation.expires_on < today:
        raise DomainError("invitation_expired", date=invitation.expires_on.isoformat())
    return replace(invitation, state="used", used_by=member_id, changed=trace)


def withdraw(invitation: Invitation, trace: Trace) -> Invitation:
    """Withdraw an open invitation of one's own. Raises ``not_owner``, then ``state_wrong``."""
    if invitation.inviter_id != trace.member_id:
        raise DomainError("not_owner", id=invitation.invitation_id, member=trace.member_id)
    check_state(invitation.invitation_id, invitation.state, "withdraw", ("open",))
    return replace(invitation, state="withdrawn", changed=trace)
