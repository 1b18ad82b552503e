"""Tariffs: offered and withdrawn by officers of banks and other funders."""

from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, indexed
from chaincode.contract.registry import TRADE
from chaincode.contract.step import Step, read, write
from chaincode.domain import tariff
from chaincode.domain.error import DomainError
from chaincode.domain.model import GradeName
from chaincode.domain.money import DAYS_MAX, Basis
from chaincode.domain.policy import CurrencyPolicy
from chaincode.domain.record import AmountOrZero, Currency, Id, Input, MemberId, NewId, RatePpm, Reason
from chaincode.domain.tariff import Product, Tariff
from chaincode.ledger.store import Store
from chaincode.ledger.tariff import FUNDER_TARIFFS, TARIFFS
from chaincode.shim.contract import Contract


class OfferTariff(Input, frozen=True, kw_only=True):
    """Argument of ``tariff:offer``."""

    tariff_id: NewId
    product: Product
    currency: Currency
    rate_ppm: RatePpm
    basis: Basis
    fee_flat_minor: AmountOrZero
    fee_ppm: RatePpm
    fee_min_minor: AmountOrZero
    fee_max_minor: AmountOrZero
    recourse: bool
    least_grade: GradeName
    days_max: Annotated[int, Meta(ge=1, le=DAYS_MAX, description="Longest period in days")]
    valid_from: date
    valid_until: date


class WithdrawTariff(Input, frozen=True, kw_only=True):
    """Argument of ``tariff:withdraw``."""

    tariff_id: Id
    reason: Reason


class GetTariff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``tariff:get``."""

    tariff_id: Id


class ListTariffs(Listing, frozen=True, kw_only=True):
    """Argument of ``tariff:list``."""

    funder_id: MemberId


class TariffPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of a funder's tariffs by id."""

    items: tuple[Tariff, ...]
    next: str | None


class TariffContract(Contract, name="tariff"):
    """Transactions of the word tariff."""

    @write("tariff:offer", TRADE, roles=("preliminary_officer",), event="tariff.offered", to_state="offered")
    def offer(self, step: Step, input: OfferTariff) -> None:
        """Offer terms for financing.

        Who: preliminary officer of a bank or other funder.
        Must hold: tariff_exists, currency_unknown, fee_bounds_invalid, expiry_passed.
        Changes: the tariff is offered.
        Event: tariff.offered.
        """
        TARIFFS.check_new(step.store, input.tariff_id)
        if input.currency not in step.policy("currency", CurrencyPolicy).exponents:
            raise DomainError("currency_unknown", currency=input.currency)
        offered = Tariff(
            tariff_id=input.tariff_id,
            state="offered",
            funder_id=step.actor.member_id,
            product=input.product,
            currency=input.currency,
            rate_ppm=input.rate_ppm,
            basis=input.basis,
            fee_flat_minor=input.fee_flat_minor,
            fee_ppm=input.fee_ppm,
            fee_min_minor=input.fee_min_minor,
            fee_max_minor=input.fee_max_minor,
            recourse=input.recourse,
            least_grade=input.least_grade,
            days_max=input.days_max,
            valid_from=input.valid_from,
            valid_until=input.valid_until,
            changed=step.trace(),
        )
        FUNDER_TARIFFS.put(step.store, offered.funder_id, offered.tariff_id)
        _save(step, tariff.check(offered, step.today), "tariff.offered")

    @write(
        "tariff:withdraw",
        TRADE,
        roles=("preliminary_officer", "final_officer"),
        event="tariff.withdrawn",
        from_states=("offered",),
        to_state="withdrawn",
    )
    def withdraw(self, step: Step, input: WithdrawTariff) -> None:
        """Withdraw an offer; what was reviewed under it stays.

        Who: preliminary or final officer of the funder.
        Must hold: tariff_not_found, not_owner, state_wrong.
        Changes: the tariff is withdrawn.
        Event: tariff.withdrawn.
        """
        known = TARIFFS.load(step.store, input.tariff_id)
        _save(step, tariff.withdraw(known, step.trace(input.reason)), "tariff.withdrawn")

    @read("tariff:get")
    def get(self, store: Store, input: GetTariff) -> Tariff:
        """One tariff.

        Who: everybody on the channel.
        Must hold: tariff_not_found.
        Changes: nothing.
        Event: none.
        """
        return TARIFFS.load(store, input.tariff_id)

    @read("tariff:list")
    def list(self, store: Store, input: ListTariffs) -> TariffPage:
        """Tariffs of a funder by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = indexed(FUNDER_TARIFFS, TARIFFS, store, [input.funder_id], input)
        return TariffPage(items=items, next=following)


def _save(step: Step, record: Tariff, event: str) -> None:
    TARIFFS.save(step.store, record, record.tariff_id)
    step.change("tariff", record.tariff_id, event, record)
