"""Evidence: digests of files, recorded by whoever keeps the file, found again by digest."""

from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, indexed
from chaincode.contract.registry import TRADE
from chaincode.contract.step import Step, read, write
from chaincode.domain.error import DomainError
from chaincode.domain.evidence import Evidence
from chaincode.domain.record import Digest, Id, Input, MemberId, NewId
from chaincode.domain.role import ROLES
from chaincode.ledger.evidence import DIGEST_EVIDENCE, EVIDENCE, MEMBER_EVIDENCE
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract


class RecordEvidence(Input, frozen=True, kw_only=True):
    """Argument of ``evidence:record``; the description must name no person."""

    evidence_id: NewId
    digest: Digest
    description: Annotated[str, Meta(min_length=1, max_length=200, description="What the file is")]
    subject_word: (
        Annotated[str, Meta(pattern=r"^[a-z_]{1,32}$", description="Word of the record it belongs to")] | None
    ) = None
    subject_id: Id | None = None


class GetEvidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``evidence:get``."""

    evidence_id: Id


class ListEvidence(Listing, frozen=True, kw_only=True):
    """Argument of ``evidence:list``: a member or a digest."""

    member_id: MemberId | None = None
    digest: Digest | None = None


class EvidencePage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of evidence by id."""

    items: tuple[Evidence, ...]
    next: str | None


class EvidenceContract(Contract, name="evidence"):
    """Transactions of the word evidence."""

    @write("evidence:record", TRADE, roles=ROLES, event="evidence.recorded", to_state="recorded")
    def record(self, step: Step, input: RecordEvidence) -> None:
        """Record the digest of a file.

        Who: everybody of a member.
        Must hold: evidence_exists.
        Changes: the evidence is recorded.
        Event: evidence.recorded.
        """
        EVIDENCE.check_new(step.store, input.evidence_id)
        recorded = Evidence(
            evidence_id=input.evidence_id,
            state="recorded",
            member_id=step.actor.member_id,
            digest=input.digest,
            description=input.description,
            subject_word=input.subject_word,
            subject_id=input.subject_id,
            changed=step.trace(),
        )
        EVIDENCE.save(step.store, recorded, recorded.evidence_id)
        MEMBER_EVIDENCE.put(step.store, recorded.member_id, recorded.evidence_id)
        DIGEST_EVIDENCE.put(step.store, recorded.digest, recorded.evidence_id)
        step.change("evidence", recorded.evidence_id, "evidence.recorded", recorded)

    @read("evidence:get")
    def get(self, store: Store, input: GetEvidence) -> Evidence:
        """One piece of evidence.

        Who: everybody on the channel.
        Must hold: evidence_not_found.
        Changes: nothing.
        Event: none.
        """
        return EVIDENCE.load(store, input.evidence_id)

    @read("evidence:list")
    def list(self, store: Store, input: ListEvidence) -> EvidencePage:
        """Evidence of a member, or of a file by its digest, by id.

        Who: everybody on the channel.
        Must hold: list_invalid.
        Changes: nothing.
        Event: none.
        """
        if input.member_id is not None and input.digest is None:
            items, following = indexed(MEMBER_EVIDENCE, EVIDENCE, store, [input.member_id], input)
        elif input.digest is not None and input.member_id is None:
            items, following = indexed(DIGEST_EVIDENCE, EVIDENCE, store, [input.digest], input)
        else:
            raise DomainError("list_invalid")
        return EvidencePage(items=items, next=following)
