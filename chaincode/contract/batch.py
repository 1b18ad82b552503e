"""Batches: built by one officer of the bank, approved by another, sent, or released by two."""

from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, records
from chaincode.contract.registry import ACCOUNT
from chaincode.contract.step import Step, read, write
from chaincode.domain import batch, instruction
from chaincode.domain.batch import PAGE_ITEMS_MAX, Batch, BatchPage, PageNumber
from chaincode.domain.error import DomainError
from chaincode.domain.instruction import Instruction
from chaincode.domain.money import SUM_MINOR_MAX
from chaincode.domain.record import Currency, Digest, Id, Input, Label, NewId, Reason, check_state
from chaincode.domain.role import BANK_MSP
from chaincode.ledger import batch as batches
from chaincode.ledger.batch import BATCHES
from chaincode.ledger.instruction import INSTRUCTIONS
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract

Sum = Annotated[int, Meta(ge=0, le=SUM_MINOR_MAX, description="Sum in minor units")]


class BuildBatch(Input, frozen=True, kw_only=True):
    """Argument of ``batch:build``."""

    batch_id: NewId
    currency: Currency
    channel: Label


class AddToBatch(Input, frozen=True, kw_only=True):
    """Argument of ``batch:add``: one page of instructions."""

    batch_id: Id
    page: PageNumber
    instruction_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=PAGE_ITEMS_MAX)]


class NamedBatch(Input, frozen=True, kw_only=True):
    """Argument of ``batch:close``."""

    batch_id: Id


class ApproveBatch(Input, frozen=True, kw_only=True):
    """Argument of ``batch:approve``: count, sum and digest as the approver sees them."""

    batch_id: Id
    count: Annotated[int, Meta(ge=1, le=10_000, description="Instructions in the batch")]
    sum_minor: Sum
    digest: Digest


class SendBatch(Input, frozen=True, kw_only=True):
    """Argument of ``batch:send``."""

    batch_id: Id
    page: PageNumber
    transport_reference: Label


class ProposeReleaseBatch(Input, frozen=True, kw_only=True):
    """Argument of ``batch:propose_release``."""

    batch_id: Id
    reason: Reason


class ReleaseBatch(Input, frozen=True, kw_only=True):
    """Argument of ``batch:release``."""

    batch_id: Id
    page: PageNumber


class GetBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``batch:get``."""

    batch_id: Id


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A batch with its pages in their order."""

    batch: Batch
    pages: tuple[BatchPage, ...]


class BatchListPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of batches by id."""

    items: tuple[Batch, ...]
    next: str | None


class BatchContract(Contract, name="batch"):
    """Transactions of the word batch."""

    @write("batch:build", ACCOUNT, roles=("treasury",), event="batch.built", moves_value=True, to_state="open")
    def build(self, step: Step, input: BuildBatch) -> None:
        """Open a batch for a currency and a channel of the payment system.

        Who: treasury of the bank.
        Must hold: batch_exists, bank_identity_required.
        Changes: the batch is open.
        Event: batch.built.
        """
        BATCHES.check_new(step.store, input.batch_id)
        _check_bank(step)
        _save(step, batch.build(input.batch_id, input.currency, input.channel, step.trace()), "batch.built")

    @write(
        "batch:add",
        ACCOUNT,
        roles=("treasury",),
        event="batch_page.added",
        moves_value=True,
        from_states=("open",),
        to_state="open",
    )
    def add(self, step: Step, input: AddToBatch) -> None:
        """Add a page of held instructions to an open batch.

        Who: treasury of the bank.
        Must hold: batch_not_found, batch_page_exists, instruction_not_found, bank_identity_required, state_wrong
        (batch), instruction_repeated, state_wrong (instruction), batch_mixed.
        Changes: the instructions are batched; the page lists them.
        Event: batch_page.added, instruction.batched.
        """
        known = BATCHES.load(step.store, input.batch_id)
        batches.check_new_page(step.store, known.batch_id, input.page)
        items = [INSTRUCTIONS.load(step.store, identifier) for identifier in input.instruction_ids]
        _check_bank(step)
        check_state(known.batch_id, known.state, "add", ("open",))
        page = BatchPage(
            batch_id=known.batch_id,
            page=input.page,
            instruction_ids=input.instruction_ids,
            sum_minor=sum(item.amount_minor for item in items),
        )
        step.change("batch_page", f"{page.batch_id}/{page.page}", "batch_page.added", page)
        batches.save_page(step.store, page)
        for number, item in enumerate(items):
            if item.instruction_id in input.instruction_ids[:number]:
                raise DomainError("instruction_repeated", id=item.instruction_id)
        for item in items:
            joined = instruction.join(item, known.batch_id, known.currency, step.trace())
            _save_item(step, joined, "instruction.batched")

    @write(
        "batch:close",
        ACCOUNT,
        roles=("treasury",),
        event="batch.closed",
        moves_value=True,
        from_states=("open",),
        to_state="closed",
    )
    def close(self, step: Step, input: NamedBatch) -> None:
        """Close a batch: count, sum and digest are fixed, nothing joins later.

        Who: treasury of the bank.
        Must hold: batch_not_found, bank_identity_required, state_wrong, batch_empty.
        Changes: the batch is closed.
        Event: batch.closed.
        """
        known = BATCHES.load(step.store, input.batch_id)
        _check_bank(step)
        pages = batches.load_pages(step.store, known.batch_id)
        _save(step, batch.close(known, pages, step.trace()), "batch.closed")

    @write(
        "batch:approve",
        ACCOUNT,
        roles=("treasury",),
        event="batch.approved",
        moves_value=True,
        from_states=("closed",),
        to_state="approved",
    )
    def approve(self, step: Step, input: ApproveBatch) -> None:
        """Approve a closed batch by stating its count, sum and digest.

        Who: treasury of the bank, another person than the builder.
        Must hold: batch_not_found, bank_identity_required, state_wrong, same_person, batch_differs.
        Changes: the batch is approved and may be exported.
        Event: batch.approved.
        """
        known = BATCHES.load(step.store, input.batch_id)
        _check_bank(step)
        approved = batch.approve(known, input.count, input.sum_minor, input.digest, step.trace())
        _save(step, approved, "batch.approved")

    @write(
        "batch:send",
        ACCOUNT,
        roles=("treasury",),
        event="batch.sent",
        moves_value=True,
        from_states=("approved",),
        to_state="sent",
    )
    def send(self, step: Step, input: SendBatch) -> None:
        """Note that a page of an approved batch went to the payment system; with the last page the batch is sent.

        Who: treasury of the bank.
        Must hold: batch_not_found, bank_identity_required, state_wrong, page_wrong.
        Changes: the page's instructions are sent for execution today.
        Event: batch.sent, instruction.sent.
        """
        known = BATCHES.load(step.store, input.batch_id)
        _check_bank(step)
        sent = batch.send(known, input.page, input.transport_reference, step.trace())
        _save(step, sent, "batch.sent")
        for identifier in batches.load_page(step.store, known.batch_id, input.page).instruction_ids:
            item = INSTRUCTIONS.load(step.store, identifier)
            _save_item(step, instruction.send(item, step.today, step.trace()), "instruction.sent")

    @write(
        "batch:propose_release",
        ACCOUNT,
        roles=("treasury",),
        event="batch.release_proposed",
        moves_value=True,
        from_states=("approved", "sent"),
    )
    def propose_release(self, step: Step, input: ProposeReleaseBatch) -> None:
        """Propose to free the instructions of a batch that the payment system never received.

        Who: treasury of the bank.
        Must hold: batch_not_found, bank_identity_required, state_wrong.
        Changes: the batch has a proposed release.
        Event: batch.release_proposed.
        """
        known = BATCHES.load(step.store, input.batch_id)
        _check_bank(step)
        _save(step, batch.propose_release(known, step.trace(input.reason)), "batch.release_proposed")

    @write(
        "batch:release",
        ACCOUNT,
        roles=("treasury",),
        event="batch.released",
        moves_value=True,
        from_states=("approved", "sent"),
        to_state="released",
    )
    def release(self, step: Step, input: ReleaseBatch) -> None:
        """Free the instructions of a page for another batch; those that the bank answered stay as they are.

        Who: treasury of the bank, another person than the one who proposed it.
        Must hold: batch_not_found, bank_identity_required, state_wrong, proposal_missing, same_person, page_wrong.
        Changes: the page's instructions are held again; with the last page the batch is released.
        Event: batch.released, instruction.released.
        """
        known = BATCHES.load(step.store, input.batch_id)
        _check_bank(step)
        released = batch.release(known, input.page, step.trace())
        _save(step, released, "batch.released")
        for identifier in batches.load_page(step.store, known.batch_id, input.page).instruction_ids:
            item = INSTRUCTIONS.load(step.store, identifier)
            if item.state in ("batched", "sent"):
                _save_item(step, instruction.release(item, step.trace()), "instruction.released")

    @read("batch:get")
    def get(self, store: Store, input: GetBatch) -> BatchAnswer:
        """One batch with its pages.

        Who: everybody on the channel.
        Must hold: batch_not_found.
        Changes: nothing.
        Event: none.
        """
        known = BATCHES.load(store, input.batch_id)
        return BatchAnswer(batch=known, pages=tuple(batches.load_pages(store, known.batch_id)))

    @read("batch:list")
    def list(self, store: Store, input: Listing) -> BatchListPage:
        """Batches by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(BATCHES, store, [], input)
        return BatchListPage(items=items, next=following)


def _check_bank(step: Step) -> None:
    if step.actor.msp_id != BANK_MSP:
        raise DomainError("bank_identity_required")


def _save(step: Step, record: Batch, event: str) -> None:
    BATCHES.save(step.store, record, record.batch_id)
    step.change("batch", record.batch_id, event, record)


def _save_item(step: Step, record: Instruction, event: str) -> None:
    INSTRUCTIONS.save(step.store, record, record.instruction_id)
    step.change("instruction", record.instruction_id, event, record)
