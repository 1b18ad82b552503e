"""Bank files: what came from or went to the bank, recorded once."""

from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, records
from chaincode.contract.registry import ACCOUNT
from chaincode.contract.step import Step, read, write
from chaincode.domain import bank_file
from chaincode.domain.bank_file import BankFile, Kind
from chaincode.domain.error import DomainError
from chaincode.domain.money import SUM_MINOR_MAX
from chaincode.domain.record import Digest, Input
from chaincode.domain.role import BANK_MSP
from chaincode.ledger.bank_file import BANK_FILES
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract

MessageText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9/?:().,'+ -]{1,35}$", description="Sender or message id")]


class RecordBankFile(Input, frozen=True, kw_only=True):
    """Argument of ``bank_file:record``."""

    sender: MessageText
    message_id: MessageText
    kind: Kind
    raw_digest: Digest
    content_digest: Digest
    count: Annotated[int, Meta(ge=0, le=100_000, description="Records in the file")]
    sum_minor: Annotated[int, Meta(ge=0, le=SUM_MINOR_MAX, description="Sum of their amounts")]


class GetBankFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``bank_file:get``."""

    sender: MessageText
    message_id: MessageText


class BankFilePage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of files by sender and message id."""

    items: tuple[BankFile, ...]
    next: str | None


class BankFileContract(Contract, name="bank_file"):
    """Transactions of the word bank_file."""

    @write("bank_file:record", ACCOUNT, roles=("treasury",), event="bank_file.recorded", to_state="recorded")
    def record(self, step: Step, input: RecordBankFile) -> None:
        """Record a file by its digests; the same content again changes nothing.

        Who: treasury of the bank.
        Must hold: bank_identity_required, file_reused.
        Changes: the file is recorded.
        Event: bank_file.recorded.
        """
        known = BANK_FILES.find(step.store, input.sender, input.message_id)
        if step.actor.msp_id != BANK_MSP:
            raise DomainError("bank_identity_required")
        if known is not None:
            bank_file.check_same(known, input.content_digest)
            return
        recorded = BankFile(
            sender=input.sender,
            message_id=input.message_id,
            kind=input.kind,
            state="recorded",
            raw_digest=input.raw_digest,
            content_digest=input.content_digest,
            count=input.count,
            sum_minor=input.sum_minor,
            changed=step.trace(),
        )
        BANK_FILES.save(step.store, recorded, recorded.sender, recorded.message_id)
        step.change("bank_file", f"{recorded.sender}/{recorded.message_id}", "bank_file.recorded", recorded)

    @read("bank_file:get")
    def get(self, store: Store, input: GetBankFile) -> BankFile:
        """One file.

        Who: everybody on the channel.
        Must hold: bank_file_not_found.
        Changes: nothing.
        Event: none.
        """
        return BANK_FILES.load(store, input.sender, input.message_id)

    @read("bank_file:list")
    def list(self, store: Store, input: Listing) -> BankFilePage:
        """Files by sender and message id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(BANK_FILES, store, [], input)
        return BankFilePage(items=items, next=following)
