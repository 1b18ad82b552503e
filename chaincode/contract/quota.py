"""Quotas: proposed and granted by two officers of a bank, used by issues in slices."""

from datetime import date
from typing import Final

import msgspec

from chaincode.contract.page import Listing, indexed
from chaincode.contract.registry import TRADE
from chaincode.contract.step import Step, read, write
from chaincode.domain import quota, voucher
from chaincode.domain.error import DomainError
from chaincode.domain.policy import CurrencyPolicy
from chaincode.domain.quota import Quota, Slice
from chaincode.domain.record import Amount, Currency, Id, Input, MemberId, NewId, Reason, check_state
from chaincode.ledger import quota as quotas
from chaincode.ledger import voucher as vouchers
from chaincode.ledger.member import MEMBERS
from chaincode.ledger.quota import ISSUER_QUOTAS, QUOTAS
from chaincode.ledger.store import Store
from chaincode.ledger.voucher import DUE, VOUCHERS
from chaincode.shim.contract import Contract

LEAVES_PER_ROOT_MAX: Final = 5_000
"""Leaves that one step reads to see that a root is settled; the stub's own limit of a range."""


class ProposeQuota(Input, frozen=True, kw_only=True):
    """Argument of ``quota:propose``."""

    quota_id: NewId
    issuer_id: MemberId
    currency: Currency
    limit_minor: Amount
    valid_from: date
    valid_until: date


class NamedQuota(Input, frozen=True, kw_only=True):
    """Argument of a step that names a quota."""

    quota_id: Id


class ReasonedQuota(Input, frozen=True, kw_only=True):
    """Argument of a step that names a quota and says why."""

    quota_id: Id
    reason: Reason


class RestoreQuota(Input, frozen=True, kw_only=True):
    """Argument of ``quota:restore``: a root voucher."""

    voucher_id: Id


class GetQuota(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``quota:get``."""

    quota_id: Id


class QuotaAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A quota with its slices in their order; none before it is granted."""

    quota: Quota
    slices: tuple[Slice, ...]


class ListQuotas(Listing, frozen=True, kw_only=True):
    """Argument of ``quota:list``."""

    issuer_id: MemberId


class QuotaPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of an issuer's quotas by id."""

    items: tuple[QuotaAnswer, ...]
    next: str | None


class QuotaContract(Contract, name="quota"):
    """Transactions of the word quota."""

    @write(
        "quota:propose",
        TRADE,
        roles=("preliminary_officer",),
        event="quota.proposed",
        moves_value=True,
        to_state="proposed",
    )
    def propose(self, step: Step, input: ProposeQuota) -> None:
        """Propose a quota for an issuer.

        Who: preliminary officer of a bank.
        Must hold: quota_exists, member_not_found, member_not_real_named, currency_unknown, expiry_passed.
        Changes: the quota is proposed.
        Event: quota.proposed.
        """
        QUOTAS.check_new(step.store, input.quota_id)
        MEMBERS.load(step.store, input.issuer_id).check_real_named()
        if input.currency not in step.policy("currency", CurrencyPolicy).exponents:
            raise DomainError("currency_unknown", currency=input.currency)
        proposed = quota.propose(
            input.quota_id,
            input.issuer_id,
            input.currency,
            input.limit_minor,
            input.valid_from,
            input.valid_until,
            step.today,
            step.trace(),
        )
        quotas.create(step.store, proposed)
        step.change("quota", proposed.quota_id, "quota.proposed", proposed)

    @write(
        "quota:approve",
        TRADE,
        roles=("final_officer",),
        event="quota.granted",
        moves_value=True,
        from_states=("proposed",),
        to_state="granted",
    )
    def approve(self, step: Step, input: NamedQuota) -> None:
        """Grant a proposed quota.

        Who: final officer of the bank that proposed it, another person.
        Must hold: quota_not_found, not_owner, state_wrong, same_person.
        Changes: the quota is granted and cut into 64 slices.
        Event: quota.granted.
        """
        known = QUOTAS.load(step.store, input.quota_id)
        granted, pieces = quota.approve(known, step.trace())
        quotas.save(step.store, granted)
        step.change("quota", granted.quota_id, "quota.granted", granted)
        for piece in pieces:
            quotas.save_slice(step.store, piece)

    @write(
        "quota:rebalance",
        TRADE,
        roles=("preliminary_officer", "final_officer"),
        event="quota.rebalanced",
        moves_value=True,
        from_states=("granted",),
        to_state="granted",
    )
    def rebalance(self, step: Step, input: NamedQuota) -> None:
        """Spread what is free of a quota evenly over its slices.

        Who: preliminary or final officer of the granting bank.
        Must hold: quota_not_found, not_owner, state_wrong.
        Changes: the limits of the slices; their sum stays.
        Event: quota.rebalanced.
        """
        known = QUOTAS.load(step.store, input.quota_id)
        quota.check_granter(known, step.trace())
        check_state(known.quota_id, known.state, "rebalance", ("granted",))
        for piece in quota.rebalance(quotas.load_slices(step.store, known.quota_id)):
            quotas.save_slice(step.store, piece)
        step.change("quota", known.quota_id, "quota.rebalanced", known)

    @write(
        "quota:end",
        TRADE,
        roles=("final_officer",),
        event="quota.ended",
        moves_value=True,
        from_states=("proposed", "granted"),
        to_state="ended",
    )
    def end(self, step: Step, input: ReasonedQuota) -> None:
        """End a quota: nothing more is issued under it, what was issued stays.

        Who: final officer of the granting bank.
        Must hold: quota_not_found, not_owner, state_wrong.
        Changes: the quota is ended.
        Event: quota.ended.
        """
        ended = quota.end(QUOTAS.load(step.store, input.quota_id), step.trace(input.reason))
        quotas.save(step.store, ended)
        step.change("quota", ended.quota_id, "quota.ended", ended)

    @write(
        "quota:restore",
        TRADE,
        roles=("operator", "preliminary_officer", "final_officer", "treasury"),
        event="voucher.quota_restored",
        moves_value=True,
    )
    def restore(self, step: Step, input: RestoreQuota) -> None:
        """Give back the slices of an issued voucher whose every leaf is paid.

        Who: operator of the issuer, officer or treasury of any bank.
        Must hold: voucher_not_found, not_issuer, state_wrong, voucher_unsettled.
        Changes: the slices are free again and the root names none.
        Event: voucher.quota_restored.
        """
        root = VOUCHERS.load(step.store, input.voucher_id)
        if step.actor.roles == ("operator",):
            voucher.check_issuer(root, step.trace())
        check_state(root.voucher_id, root.state if root.slices else "restored", "restore", ("split", "paid"))
        prefix = [root.issuer_id, root.currency, root.payment_date.isoformat(), root.root_id]
        for row in DUE.rows(step.store, prefix, None, LEAVES_PER_ROOT_MAX):
            leaf = VOUCHERS.load(step.store, row[-1])
            if leaf.state != "paid":
                raise DomainError("voucher_unsettled", id=leaf.voucher_id, state=leaf.state)
        for use in root.slices:
            piece = quotas.load_slice(step.store, use.quota_id, use.slice)
            quotas.save_slice(step.store, quota.give_back(piece, use.amount_minor))
        restored = voucher.restore(root, step.trace())
        vouchers.save(step.store, restored)
        step.change("voucher", restored.voucher_id, "voucher.quota_restored", restored)

    @read("quota:get")
    def get(self, store: Store, input: GetQuota) -> QuotaAnswer:
        """One quota with its slices.

        Who: everybody on the channel.
        Must hold: quota_not_found.
        Changes: nothing.
        Event: none.
        """
        return _answer(store, QUOTAS.load(store, input.quota_id))

    @read("quota:list")
    def list(self, store: Store, input: ListQuotas) -> QuotaPage:
        """Quotas of an issuer with their slices, by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = indexed(ISSUER_QUOTAS, QUOTAS, store, [input.issuer_id], input)
        return QuotaPage(items=tuple(_answer(store, item) for item in items), next=following)


def _answer(store: Store, known: Quota) -> QuotaAnswer:
    return QuotaAnswer(quota=known, slices=tuple(quotas.load_slices(store, known.quota_id)))
