"""Evidence under (``evidence``, id), listed by (``member_evidence``, member, id), (``digest_evidence``, digest, id)."""

from typing import Final

from chaincode.domain.evidence import Evidence
from chaincode.ledger.repository import Index, Repository

EVIDENCE: Final = Repository("evidence", Evidence, "evidence_not_found", "evidence_exists")
MEMBER_EVIDENCE: Final = Index("member_evidence")
DIGEST_EVIDENCE: Final = Index("digest_evidence")
