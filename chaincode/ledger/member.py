"""Members under (``member``, id); (``credit_code``, code) keeps two members from one credit code.

Batches of log-ins under (``login_batch``, id).
"""

from typing import Final

from chaincode.domain.member import LoginBatch, Member
from chaincode.ledger.repository import Index, Repository
from chaincode.ledger.store import Store

MEMBERS: Final = Repository("member", Member, "member_not_found", "member_exists")
LOGIN_BATCHES: Final = Repository("login_batch", LoginBatch, "login_batch_not_found", "login_batch_exists")
CREDIT_CODES: Final = Index("credit_code")


def save(store: Store, member: Member) -> None:
    """Stage a member."""
    MEMBERS.save(store, member, member.member_id)
