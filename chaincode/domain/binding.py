"""Bindings: a member's own bank account, of the same name, to which withdrawals go."""

from typing import Final

from msgspec.structs import replace

from chaincode.domain import company_name
from chaincode.domain.error import DomainError
from chaincode.domain.record import Record, Trace, check_state

STATES: Final = ("requested", "verified", "refused", "unbound")


class Binding(Record, frozen=True, kw_only=True):
    """One bank account by a salted digest of number and bank code; the full number stays in the bank's store."""

    binding_id: str
    state: str
    account_id: str
    member_id: str
    number_digest: str
    last_four: str
    holder_name: str
    changed: Trace


def request(
    binding_id: str, account_id: str, number_digest: str, last_four: str, holder_name: str, real_name: str, trace: Trace
) -> Binding:
    """Ask the bank to bind an account of the same name. Raises ``binding_name_differs``."""
    name = company_name.normalise(holder_name)
    if name != real_name:
        raise DomainError("binding_name_differs", member=trace.member_id)
    return Binding(
        binding_id=binding_id,
        state="requested",
        account_id=account_id,
        member_id=trace.member_id,
        number_digest=number_digest,
        last_four=last_four,
        holder_name=name,
        changed=trace,
    )


def verify(binding: Binding, trace: Trace) -> Binding:
    """The bank found number and name in order. Raises ``state_wrong``."""
    check_state(binding.binding_id, binding.state, "verify", ("requested",))
    return replace(binding, state="verified", changed=trace)


def refuse(binding: Binding, trace: Trace) -> Binding:
    """The bank found number or name wrong. Raises ``state_wrong``."""
    check_state(binding.binding_id, binding.state, "refuse", ("requested",))
    return replace(binding, state="refused", changed=trace)


def unbind(binding: Binding, trace: Trace) -> Binding:
    """End a binding; nothing more is paid to it. Raises ``state_wrong``."""
    check_state(binding.binding_id, binding.state, "unbind", ("requested", "verified"))
    return replace(binding, state="unbound", changed=trace)


def check_verified(binding: Binding) -> None:
    """Refuse a binding that the bank has not verified. Raises ``CONFLICT binding_unverified``."""
    if binding.state != "verified":
        raise DomainError("binding_unverified", id=binding.binding_id, state=binding.state)
