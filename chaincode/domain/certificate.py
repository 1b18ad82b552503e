"""A certificate as the ledger knows it: whose key it is, what it may be used for, and whether it may act."""

from typing import Final, Literal

from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.record import Record, Trace, check_state

STATES: Final = ("presented", "bound", "suspended", "revoked")

Use = Literal["work", "payment"]


class Certificate(Record, frozen=True, kw_only=True):
    """One key, by the SHA-256 of its public key: member, person, roles, use and issuing organisation."""

    fingerprint: str
    state: str
    member_id: str
    user_id: str
    roles: tuple[str, ...]
    use: Use
    msp_id: str
    changed: Trace


def present(
    fingerprint: str, member_id: str, user_id: str, roles: tuple[str, ...], use: Use, msp_id: str, trace: Trace
) -> Certificate:
    """A certificate shown by its owner that cannot act yet."""
    return Certificate(
        fingerprint=fingerprint,
        state="presented",
        member_id=member_id,
        user_id=user_id,
        roles=roles,
        use=use,
        msp_id=msp_id,
        changed=trace,
    )


def bind(certificate: Certificate, msp_id: str, trace: Trace) -> Certificate:
    """Let a presented certificate act, by an admin of another organisation than the one that issued it.

    Raises ``same_organisation``, then ``state_wrong``.
    """
    if msp_id == certificate.msp_id:
        raise DomainError("same_organisation", organisation=certificate.msp_id)
    check_state(certificate.fingerprint, certificate.state, "bind", ("presented",))
    return replace(certificate, state="bound", changed=trace)


def suspend(certificate: Certificate, trace: Trace) -> Certificate:
    """Stop a bound certificate at once. Raises ``state_wrong``."""
    check_state(certificate.fingerprint, certificate.state, "suspend", ("bound",))
    return replace(certificate, state="suspended", changed=trace)


def resume(certificate: Certificate, trace: Trace) -> Certificate:
    """Let a suspended certificate act again, by another person. Raises ``state_wrong``, then ``same_person``."""
    check_state(certificate.fingerprint, certificate.state, "resume", ("suspended",))
    if certificate.changed.user_id == trace.user_id:
        raise DomainError("same_person", user=trace.user_id)
    return replace(certificate, state="bound", changed=trace)


def revoke(certificate: Certificate, trace: Trace) -> Certificate:
    """End a certificate for good. Raises ``state_wrong``."""
    check_state(certificate.fingerprint, certificate.state, "revoke", ("presented", "bound", "suspended"))
    return replace(certificate, state="revoked", changed=trace)
