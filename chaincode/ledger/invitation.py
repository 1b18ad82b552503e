"""Invitations under (``invitation``, id)."""

from typing import Final

from chaincode.domain.invitation import Invitation
from chaincode.ledger.repository import Repository

INVITATIONS: Final = Repository("invitation", Invitation, "invitation_not_found", "invitation_exists")
