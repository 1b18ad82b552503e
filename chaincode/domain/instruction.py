"""Instructions: money that leaves by the bank's payment system, from the request to the booked entry.

States have a rank; a message of equal or lower rank changes nothing. Only a booked entry confirms.
"""

from datetime import date
from typing import Final, Literal

from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.money import total
from chaincode.domain.record import Record, Trace, check_other_person, check_state

STATES: Final = (
    "requested",
    "held",
    "batched",
    "sent",
    "accepted",
    "confirmed",
    "rejected",
    "cancelled",
    "returned",
)

IN_FLIGHT: Final = ("sent", "accepted")
"""States in which the bank's answer is awaited."""


class Instruction(Record, frozen=True, kw_only=True):
    """One outgoing payment: a withdrawal of a member to its bound bank account."""

    instruction_id: str
    kind: Literal["withdrawal"]
    state: str
    account_id: str
    member_id: str
    currency: str
    amount_minor: int
    fee_minor: int
    binding_id: str
    requested_by: str
    batch_id: str | None
    entry_id: str | None
    return_entry_id: str | None
    execution_date: date | None
    changed: Trace

    @property
    def hold_minor(self) -> int:
        """Amount and fee together."""
        return total([self.amount_minor, self.fee_minor])


def request(
    instruction_id: str,
    account_id: str,
    currency: str,
    amount_minor: int,
    fee_minor: int,
    binding_id: str,
    trace: Trace,
) -> Instruction:
    """A requested withdrawal, which a colleague approves."""
    return Instruction(
        instruction_id=instruction_id,
        kind="withdrawal",
        state="requested",
        account_id=account_id,
        member_id=trace.member_id,
        currency=currency,
        amount_minor=amount_minor,
        fee_minor=fee_minor,
        binding_id=binding_id,
        requested_by=trace.user_id,
        batch_id=None,
        entry_id=None,
        return_entry_id=None,
        execution_date=None,
        changed=trace,
    )


def check_owner(instruction: Instruction, trace: Trace) -> None:
    """Refuse people of another member. Raises ``FORBIDDEN not_owner``."""
    if instruction.member_id != trace.member_id:
        raise DomainError("not_owner", id=instruction.instruction_id, member=trace.member_id)


def approve(instruction: Instruction, trace: Trace) -> Instruction:
    """Approve a requested withdrawal, by another person. Raises ``not_owner``, ``state_wrong``, ``same_person``."""
    check_owner(instruction, trace)
    check_state(instruction.instruction_id, instruction.state, "approve", ("requested",))
    check_other_person(trace.user_id, instruction.requested_by)
    return replace(instruction, state="held", changed=trace)


def cancel(instruction: Instruction, trace: Trace) -> Instruction:
    """Take back a withdrawal that is in no batch yet. Raises ``not_owner``, then ``state_wrong``."""
    check_owner(instruction, trace)
    check_state(instruction.instruction_id, instruction.state, "cancel", ("requested", "held"))
    return replace(instruction, state="cancelled", changed=trace)


def join(instruction: Instruction, batch_id: str, currency: str, trace: Trace) -> Instruction:
    """Put a held instruction into a batch of its currency. Raises ``state_wrong``, then ``batch_mixed``."""
    check_state(instruction.instruction_id, instruction.state, "batch", ("held",))
    if instruction.currency != currency:
        raise DomainError("batch_mixed", id=instruction.instruction_id, batch=batch_id)
    return replace(instruction, state="batched", batch_id=batch_id, changed=trace)


def send(instruction: Instruction, execution_date: date, trace: Trace) -> Instruction:
    """The batch of an instruction went to the payment system."""
    return replace(instruction, state="sent", execution_date=execution_date, changed=trace)


def release(instruction: Instruction, trace: Trace) -> Instruction:
    """The batch never reached the payment system: the instruction is free for another one."""
    return replace(instruction, state="held", batch_id=None, execution_date=None, changed=trace)


def accept(instruction: Instruction, trace: Trace) -> Instruction:
    """The payment system accepted it. Raises ``state_wrong``."""
    check_state(instruction.instruction_id, instruction.state, "accept", ("sent",))
    return replace(instruction, state="accepted", changed=trace)


def confirm(instruction: Instruction, entry_id: str, trace: Trace) -> Instruction:
    """The payment was booked. Raises ``state_wrong``."""
    check_state(instruction.instruction_id, instruction.state, "confirm", IN_FLIGHT)
    return replace(instruction, state="confirmed", entry_id=entry_id, changed=trace)


def reject(instruction: Instruction, trace: Trace) -> Instruction:
    """The payment system rejected it before booking. Raises ``state_wrong``."""
    check_state(instruction.instruction_id, instruction.state, "reject", IN_FLIGHT)
    return replace(instruction, state="rejected", changed=trace)


def take_back(instruction: Instruction, entry_id: str, trace: Trace) -> Instruction:
    """A booked payment came back. Raises ``state_wrong``."""
    check_state(instruction.instruction_id, instruction.state, "take_back", ("confirmed",))
    return replace(instruction, state="returned", return_entry_id=entry_id, changed=trace)
