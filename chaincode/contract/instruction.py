"""Instructions: withdrawals from the request to the booked entry. Only the bank says that money left."""

from datetime import date

import msgspec

from chaincode.contract.page import Listing, indexed
from chaincode.contract.posting import Book
from chaincode.contract.registry import ACCOUNT
from chaincode.contract.step import Step, read, write
from chaincode.domain import account, binding, instruction
from chaincode.domain.account import AccountId, Folds, FreePosting, HoldPosting, Payee, TransferPosting
from chaincode.domain.bank_entry import BankEntry, Direction
from chaincode.domain.error import DomainError
from chaincode.domain.instruction import Instruction
from chaincode.domain.money import fee
from chaincode.domain.policy import WithdrawalPolicy
from chaincode.domain.record import Amount, AmountOrZero, Id, Input, Label, NewId, Reason
from chaincode.domain.role import BANK_MSP
from chaincode.ledger.account import BALANCES
from chaincode.ledger.bank_entry import BANK_ENTRIES
from chaincode.ledger.binding import BINDINGS
from chaincode.ledger.instruction import ACCOUNT_INSTRUCTIONS, INSTRUCTIONS
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract


class RequestInstruction(Input, frozen=True, kw_only=True):
    """Argument of ``instruction:request``; the fee is the one that was shown."""

    instruction_id: NewId
    account_id: AccountId
    binding_id: Id
    amount_minor: Amount
    fee_minor: AmountOrZero


class ApproveInstruction(Input, frozen=True, kw_only=True):
    """Argument of ``instruction:approve``: the instruction and the credits to fold first."""

    instruction_id: Id
    folds: Folds = ()


class NamedInstruction(Input, frozen=True, kw_only=True):
    """Argument of ``instruction:accept``."""

    instruction_id: Id


class ReasonedInstruction(Input, frozen=True, kw_only=True):
    """Argument of a step that names an instruction and says why."""

    instruction_id: Id
    reason: Reason


class BookedInstruction(Input, frozen=True, kw_only=True):
    """Argument of ``instruction:confirm`` and ``instruction:take_back``: the booked entry.

    ``folds`` names credits of the fee account, where a fee is given back.
    """

    instruction_id: Id
    entry_id: Id
    control_account: Label
    amount_minor: Amount
    booking_date: date
    value_date: date
    servicer_reference: Label
    folds: Folds = ()


class GetInstruction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``instruction:get``."""

    instruction_id: Id


class ListInstructions(Listing, frozen=True, kw_only=True):
    """Argument of ``instruction:list``."""

    account_id: AccountId


class InstructionPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of an account's instructions by id."""

    items: tuple[Instruction, ...]
    next: str | None


class InstructionContract(Contract, name="instruction"):
    """Transactions of the word instruction."""

    @write(
        "instruction:request",
        ACCOUNT,
        roles=("operator",),
        event="instruction.requested",
        action="withdraw",
        moves_value=True,
        to_state="requested",
    )
    def request(self, step: Step, input: RequestInstruction) -> None:
        """Ask for a withdrawal to a bound bank account, at the fee of the policy.

        Who: operator of the account's member.
        Must hold: account_not_found, binding_not_found, instruction_exists, not_owner, binding_unverified,
        policy_missing, fee_differs.
        Changes: the instruction is requested.
        Event: instruction.requested.
        """
        balance = BALANCES.load(step.store, input.account_id)
        bound = BINDINGS.load(step.store, input.binding_id)
        INSTRUCTIONS.check_new(step.store, input.instruction_id)
        for owner, identifier in ((balance.member_id, balance.account_id), (bound.member_id, bound.binding_id)):
            if owner != step.actor.member_id:
                raise DomainError("not_owner", id=identifier, member=step.actor.member_id)
        binding.check_verified(bound)
        rules = step.policy("withdrawal", WithdrawalPolicy)
        due = fee(input.amount_minor, rules.flat_minor, rules.fee_ppm, rules.min_minor, rules.max_minor)
        if due != input.fee_minor:
            raise DomainError("fee_differs", fee=due, shown=input.fee_minor)
        requested = instruction.request(
            input.instruction_id,
            input.account_id,
            balance.currency,
            input.amount_minor,
            due,
            input.binding_id,
            step.trace(),
        )
        ACCOUNT_INSTRUCTIONS.put(step.store, requested.account_id, requested.instruction_id)
        _save(step, requested, "instruction.requested")

    @write(
        "instruction:approve",
        ACCOUNT,
        roles=("approver",),
        event="instruction.held",
        action="withdraw",
        moves_value=True,
        from_states=("requested",),
        to_state="held",
    )
    def approve(self, step: Step, input: ApproveInstruction) -> None:
        """Approve a withdrawal: amount and fee are held.

        Who: approver of the account's member, another person than the one who asked.
        Must hold: instruction_not_found, not_owner, state_wrong, same_person, funds_insufficient.
        Changes: the instruction and its money are held.
        Event: instruction.held, account.folded, credit.folded, account.debited, hold.held.
        """
        known = INSTRUCTIONS.load(step.store, input.instruction_id)
        held = instruction.approve(known, step.trace())
        _save(step, held, "instruction.held")
        posting = HoldPosting(
            account_id=held.account_id,
            hold_id=held.instruction_id,
            hold_kind="withdrawal",
            amount_minor=held.hold_minor,
            reference=held.instruction_id,
            folds=input.folds,
        )
        _carry_out(step, posting)

    @write(
        "instruction:cancel",
        ACCOUNT,
        roles=("operator", "approver"),
        event="instruction.cancelled",
        action="withdraw",
        moves_value=True,
        from_states=("requested", "held"),
        to_state="cancelled",
    )
    def cancel(self, step: Step, input: ReasonedInstruction) -> None:
        """Take back a withdrawal that is in no batch yet.

        Who: operator or approver of the account's member.
        Must hold: instruction_not_found, not_owner, state_wrong.
        Changes: the instruction is cancelled; held money comes back as a credit.
        Event: instruction.cancelled, hold.freed, credit.booked.
        """
        known = INSTRUCTIONS.load(step.store, input.instruction_id)
        _save(step, instruction.cancel(known, step.trace(input.reason)), "instruction.cancelled")
        if known.state == "held":
            _carry_out(step, FreePosting(account_id=known.account_id, hold_id=known.instruction_id))

    @write(
        "instruction:accept",
        ACCOUNT,
        roles=("treasury",),
        event="instruction.accepted",
        moves_value=True,
        from_states=("sent",),
        to_state="accepted",
    )
    def accept(self, step: Step, input: NamedInstruction) -> None:
        """Note that the payment system accepted an instruction.

        Who: treasury of the bank.
        Must hold: instruction_not_found, bank_identity_required, state_wrong.
        Changes: the instruction is accepted; no money moves.
        Event: instruction.accepted.
        """
        known = INSTRUCTIONS.load(step.store, input.instruction_id)
        _check_bank(step)
        _save(step, instruction.accept(known, step.trace()), "instruction.accepted")

    @write(
        "instruction:confirm",
        ACCOUNT,
        roles=("treasury",),
        event="instruction.confirmed",
        moves_value=True,
        from_states=instruction.IN_FLIGHT,
        to_state="confirmed",
    )
    def confirm(self, step: Step, input: BookedInstruction) -> None:
        """Confirm a payment by its booked entry; an entry of another amount goes into suspense instead.

        Who: treasury of the bank.
        Must hold: instruction_not_found, bank_entry_exists, bank_identity_required, state_wrong, entry_differs.
        Changes: the instruction is confirmed, the hold used, the fee credited to the bank's fee account.
        Event: instruction.confirmed, bank_entry.recorded, hold.used, credit.booked.
        """
        known = INSTRUCTIONS.load(step.store, input.instruction_id)
        BANK_ENTRIES.check_new(step.store, input.entry_id)
        _check_bank(step)
        confirmed = instruction.confirm(known, input.entry_id, step.trace())
        _save(step, confirmed, "instruction.confirmed")
        _record(step, input, confirmed, "D")
        book = _book(step)
        book.confirm(confirmed)
        step.changes.update(book.changes)

    @write(
        "instruction:reject",
        ACCOUNT,
        roles=("treasury",),
        event="instruction.rejected",
        moves_value=True,
        from_states=instruction.IN_FLIGHT,
        to_state="rejected",
    )
    def reject(self, step: Step, input: ReasonedInstruction) -> None:
        """Note that the payment system rejected an instruction before booking.

        Who: treasury of the bank.
        Must hold: instruction_not_found, bank_identity_required, state_wrong.
        Changes: the instruction is rejected; amount and fee come back as a credit.
        Event: instruction.rejected, hold.freed, credit.booked.
        """
        known = INSTRUCTIONS.load(step.store, input.instruction_id)
        _check_bank(step)
        _save(step, instruction.reject(known, step.trace(input.reason)), "instruction.rejected")
        _carry_out(step, FreePosting(account_id=known.account_id, hold_id=known.instruction_id))

    @write(
        "instruction:take_back",
        ACCOUNT,
        roles=("treasury",),
        event="instruction.returned",
        moves_value=True,
        from_states=("confirmed",),
        to_state="returned",
    )
    def take_back(self, step: Step, input: BookedInstruction) -> None:
        """Record that a booked payment came back, by the entry that returned it.

        Who: treasury of the bank.
        Must hold: instruction_not_found, bank_entry_exists, bank_identity_required, state_wrong, entry_differs,
        funds_insufficient.
        Changes: the instruction is returned, the account credited; the fee too where the policy gives it back.
        Event: instruction.returned, bank_entry.recorded, credit.booked, account.debited, account.folded, credit.folded.
        """
        known = INSTRUCTIONS.load(step.store, input.instruction_id)
        BANK_ENTRIES.check_new(step.store, input.entry_id)
        _check_bank(step)
        returned = instruction.take_back(known, input.entry_id, step.trace())
        _save(step, returned, "instruction.returned")
        gives_back = step.policy("withdrawal", WithdrawalPolicy).refund_fee_on_return
        _record(step, input, returned, "C")
        book = _book(step)
        book.credit(returned.account_id, returned.amount_minor, input.entry_id, returned.instruction_id)
        if gives_back and returned.fee_minor:
            payee = Payee(
                account_id=returned.account_id, amount_minor=returned.fee_minor, reference=returned.instruction_id
            )
            fee_account = account.id_of("FEE", returned.currency)
            source = returned.instruction_id
            book.carry_out(
                (TransferPosting(account_id=fee_account, payees=(payee,), source=source, folds=input.folds),)
            )
        step.changes.update(book.changes)

    @read("instruction:get")
    def get(self, store: Store, input: GetInstruction) -> Instruction:
        """One instruction.

        Who: everybody on the channel.
        Must hold: instruction_not_found.
        Changes: nothing.
        Event: none.
        """
        return INSTRUCTIONS.load(store, input.instruction_id)

    @read("instruction:list")
    def list(self, store: Store, input: ListInstructions) -> InstructionPage:
        """Instructions of an account by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = indexed(ACCOUNT_INSTRUCTIONS, INSTRUCTIONS, store, [input.account_id], input)
        return InstructionPage(items=items, next=following)


def _check_bank(step: Step) -> None:
    if step.actor.msp_id != BANK_MSP:
        raise DomainError("bank_identity_required")


def _book(step: Step) -> Book:
    return Book(store=step.store, transaction_id=step.tx.transaction_id, business_date=step.today)


def _carry_out(step: Step, posting: HoldPosting | FreePosting) -> None:
    book = _book(step)
    book.carry_out((posting,))
    step.changes.update(book.changes)


def _record(step: Step, input: BookedInstruction, known: Instruction, direction: Direction) -> None:
    """Record the booked entry of an instruction. Raises ``CONFLICT entry_differs`` for another amount."""
    if input.amount_minor != known.amount_minor:
        raise DomainError("entry_differs", id=input.entry_id, instruction=known.instruction_id, what="amount")
    entry = BankEntry(
        entry_id=input.entry_id,
        state="matched",
        control_account=input.control_account,
        currency=known.currency,
        amount_minor=input.amount_minor,
        direction=direction,
        booking_date=input.booking_date,
        value_date=input.value_date,
        booked_on=step.today,
        servicer_reference=input.servicer_reference,
        matched_to=known.instruction_id,
    )
    BANK_ENTRIES.save(step.store, entry, entry.entry_id)
    step.change("bank_entry", entry.entry_id, "bank_entry.recorded", entry)


def _save(step: Step, record: Instruction, event: str) -> None:
    INSTRUCTIONS.save(step.store, record, record.instruction_id)
    step.change("instruction", record.instruction_id, event, record)
