"""Settlement: the bank plans, funds and pays what an issuer owes on a payment date."""

from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, records
from chaincode.contract.registry import TRADE
from chaincode.contract.step import Step, read, write
from chaincode.domain import account, member, settlement, voucher
from chaincode.domain.account import Folds, FreePosting, HoldPosting, Payee, SettlePosting
from chaincode.domain.business_date import minute_of_day
from chaincode.domain.error import DomainError
from chaincode.domain.money import days, interest
from chaincode.domain.policy import SettlementPolicy, minute_of
from chaincode.domain.record import AmountOrZero, Currency, Id, Input, MemberId, NewId, check_state
from chaincode.domain.role import BANK_MSP
from chaincode.domain.settlement import LEAVES_MAX, PAGES_MAX, Cut, Place, PlanPage, Settlement
from chaincode.domain.voucher import Voucher
from chaincode.ledger import member as members
from chaincode.ledger import settlement as settlements
from chaincode.ledger import voucher as vouchers
from chaincode.ledger.member import MEMBERS
from chaincode.ledger.settlement import PLAN_PAGES, SETTLEMENTS
from chaincode.ledger.store import Store
from chaincode.ledger.voucher import VOUCHERS
from chaincode.shim.contract import Contract

PageNumber = Annotated[int, Meta(ge=1, le=PAGES_MAX, description="Number of the page")]


class OpenSettlement(Input, frozen=True, kw_only=True):
    """Argument of ``settlement:open``."""

    run_id: NewId
    issuer_id: MemberId
    currency: Currency
    payment_date: date


class PagedSettlement(Input, frozen=True, kw_only=True):
    """Argument of a step with one page of a run."""

    run_id: Id
    page: PageNumber


class FundSettlement(Input, frozen=True, kw_only=True):
    """Argument of ``settlement:fund``: what is paid out, and the credits of the issuer to fold first."""

    run_id: Id
    total_minor: AmountOrZero
    folds: Folds = ()


class ShareSettlement(Input, frozen=True, kw_only=True):
    """Argument of ``settlement:share``."""

    run_id: Id
    page: PageNumber
    cut: Cut


class NamedSettlement(Input, frozen=True, kw_only=True):
    """Argument of a step that names a run."""

    run_id: Id


class GetSettlement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``settlement:get``."""

    run_id: Id


class SettlementPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of runs by id."""

    items: tuple[Settlement, ...]
    next: str | None


class GetPlanPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``plan_page:get``."""

    run_id: Id
    page: PageNumber


class PlannedLeaf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One leaf of a page: who is owed what, and its remainder once the run is funded short."""

    voucher_id: str
    root_id: str
    start: int
    payee_id: str
    weight_minor: int
    remainder: int


class PlanPageAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of a plan with its leaves in their order."""

    plan_page: PlanPage
    leaves: tuple[PlannedLeaf, ...]


class ListPlanPages(Listing, frozen=True, kw_only=True):
    """Argument of ``plan_page:list``."""

    run_id: Id


class PlanPagePage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of a run's plan pages, ascending."""

    items: tuple[PlanPage, ...]
    next: str | None


class SettlementContract(Contract, name="settlement"):
    """Transactions of the word settlement."""

    @write("settlement:open", TRADE, roles=("treasury",), event="settlement.opened", moves_value=True, to_state="open")
    def open(self, step: Step, input: OpenSettlement) -> None:
        """Open a run for an issuer, currency and payment date that has come.

        Who: treasury of the bank.
        Must hold: settlement_exists, member_not_found, bank_identity_required, settlement_not_due.
        Changes: the run is open.
        Event: settlement.opened.
        """
        SETTLEMENTS.check_new(step.store, input.run_id)
        MEMBERS.load(step.store, input.issuer_id)
        _check_bank(step)
        opened = settlement.open_run(
            input.run_id, input.issuer_id, input.currency, input.payment_date, step.today, step.trace()
        )
        _save(step, opened, "settlement.opened")

    @write(
        "settlement:plan",
        TRADE,
        roles=("treasury",),
        event="plan_page.planned",
        moves_value=True,
        from_states=("open",),
        to_state="planned",
    )
    def plan(self, step: Step, input: PagedSettlement) -> None:
        """Plan one page of at most 250 leaves, from where the page before ended; an unpaid page may be planned again.

        Who: treasury of the bank.
        Must hold: settlement_not_found, plan_page_not_found (the page before), bank_identity_required, state_wrong.
        Changes: the page is planned; with the last page the run is planned.
        Event: plan_page.planned, settlement.planned.
        """
        run = SETTLEMENTS.load(step.store, input.run_id)
        before = None if input.page == 1 else settlements.load_page(step.store, run.run_id, input.page - 1)
        _check_bank(step)
        known = settlements.find_page(step.store, run.run_id, input.page)
        is_again = known is not None and known.state != "paid"
        check_state(run.run_id, run.state, "plan", ("open", "sealed") if is_again else ("open",))
        planned = _replanned(step, run, known) if known is not None else _planned(step, run, input.page, before)
        _save_page(step, planned, "plan_page.planned")
        if planned.next_begin is None and run.state == "open":
            _save(step, settlement.finish_plan(run, planned.page, step.trace()), "settlement.planned")

    @write(
        "settlement:fund",
        TRADE,
        roles=("treasury",),
        event="settlement.funded",
        moves_value=True,
        from_states=("planned",),
        to_state="funded",
    )
    def fund(self, step: Step, input: FundSettlement) -> None:
        """Debit the issuer once for what is paid out; less than everything only after the day's cut-off.

        Who: treasury of the bank.
        Must hold: settlement_not_found, bank_identity_required, state_wrong, settlement_total_invalid,
        cut_off_not_reached, funds_insufficient.
        Changes: the run is funded, or sealed when everything is paid; the money is held; short of funds the issuer may
        not issue any more.
        Event: settlement.funded, member.issuance_stopped, account.folded, credit.folded, account.debited, hold.held.
        """
        run = SETTLEMENTS.load(step.store, input.run_id)
        _check_bank(step)
        funded = settlement.fund(run, settlements.load_pages(step.store, run.run_id), input.total_minor, step.trace())
        _save(step, funded, "settlement.funded")
        if funded.total_minor < funded.weight_minor:
            _check_cut_off(step)
            stopped = member.stop_issuance(MEMBERS.load(step.store, run.issuer_id), step.trace("Short of funds"))
            members.save(step.store, stopped)
            step.change("member", stopped.member_id, "member.issuance_stopped", stopped)
        if funded.total_minor:
            step.post(
                HoldPosting(
                    account_id=account.id_of(run.issuer_id, run.currency),
                    hold_id=run.run_id,
                    hold_kind="settlement",
                    amount_minor=funded.total_minor,
                    reference=run.run_id,
                    folds=input.folds,
                )
            )

    @write(
        "settlement:share",
        TRADE,
        roles=("treasury",),
        event="plan_page.shared",
        moves_value=True,
        from_states=("funded", "shared"),
        to_state="shared",
    )
    def share(self, step: Step, input: ShareSettlement) -> None:
        """Compute the shares of one page of a short run with the cut; page 1 sets the cut.

        Who: treasury of the bank.
        Must hold: settlement_not_found, plan_page_not_found, bank_identity_required, state_wrong, cut_differs.
        Changes: the page knows the sum of its shares; with page 1 the run is shared.
        Event: plan_page.shared, settlement.shared.
        """
        run = SETTLEMENTS.load(step.store, input.run_id)
        page = settlements.load_page(step.store, run.run_id, input.page)
        _check_bank(step)
        leaves = _leaves(step.store, run, page)
        changed, shared = settlement.share(run, page, leaves, input.cut, step.trace())
        _save_page(step, shared, "plan_page.shared")
        if changed != run:
            _save(step, changed, "settlement.shared")

    @write(
        "settlement:seal",
        TRADE,
        roles=("treasury",),
        event="settlement.sealed",
        moves_value=True,
        from_states=("shared",),
        to_state="sealed",
    )
    def seal(self, step: Step, input: NamedSettlement) -> None:
        """Accept the cut of a short run.

        Who: treasury of the bank.
        Must hold: settlement_not_found, bank_identity_required, state_wrong, shares_differ.
        Changes: the run is sealed.
        Event: settlement.sealed.
        """
        run = SETTLEMENTS.load(step.store, input.run_id)
        _check_bank(step)
        sealed = settlement.seal(run, settlements.load_pages(step.store, run.run_id), step.trace())
        _save(step, sealed, "settlement.sealed")

    @write(
        "settlement:pay",
        TRADE,
        roles=("treasury",),
        event="plan_page.paid",
        moves_value=True,
        from_states=("sealed",),
        to_state="sealed",
    )
    def pay(self, step: Step, input: PagedSettlement) -> None:
        """Pay one page: a credit to each holder; a short leaf is split into a paid and an overdue part.

        Who: treasury of the bank.
        Must hold: settlement_not_found, plan_page_not_found, bank_identity_required, state_wrong, page_paid,
        page_changed.
        Changes: the leaves are paid or overdue, the page is paid, the holders are credited.
        Event: plan_page.paid, voucher.paid, voucher.overdue, voucher.split, settlement_page.paid, credit.booked,
        hold.held, account.opened.
        """
        run = SETTLEMENTS.load(step.store, input.run_id)
        page = settlements.load_page(step.store, run.run_id, input.page)
        _check_bank(step)
        check_state(run.run_id, run.state, "pay", ("sealed",))
        paid = settlement.pay(page)
        leaves = _leaves(step.store, run, page)
        settlement.check_leaves(page, leaves)
        _save_page(step, paid, "plan_page.paid")
        payees = [payee for leaf in leaves for payee in _pay_leaf(step, run, leaf)]
        if payees:
            step.post(
                SettlePosting(
                    account_id=account.id_of(run.issuer_id, run.currency),
                    hold_id=run.run_id,
                    run_id=run.run_id,
                    page=page.page,
                    payees=tuple(payees),
                )
            )

    @write(
        "settlement:close",
        TRADE,
        roles=("treasury",),
        event="settlement.closed",
        moves_value=True,
        from_states=("sealed",),
        to_state="closed",
    )
    def close(self, step: Step, input: NamedSettlement) -> None:
        """Close a run whose pages are all paid.

        Who: treasury of the bank.
        Must hold: settlement_not_found, bank_identity_required, state_wrong, page_unpaid.
        Changes: the run is closed and its hold used.
        Event: settlement.closed, hold.used.
        """
        run = SETTLEMENTS.load(step.store, input.run_id)
        _check_bank(step)
        closed = settlement.close(run, settlements.load_pages(step.store, run.run_id), step.trace())
        _save(step, closed, "settlement.closed")
        if closed.total_minor:
            account_id = account.id_of(run.issuer_id, run.currency)
            step.post(FreePosting(account_id=account_id, hold_id=run.run_id))

    @read("settlement:get")
    def get(self, store: Store, input: GetSettlement) -> Settlement:
        """One run.

        Who: everybody on the channel.
        Must hold: settlement_not_found.
        Changes: nothing.
        Event: none.
        """
        return SETTLEMENTS.load(store, input.run_id)

    @read("settlement:list")
    def list(self, store: Store, input: Listing) -> SettlementPage:
        """Runs by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(SETTLEMENTS, store, [], input)
        return SettlementPage(items=items, next=following)


class PlanPageContract(Contract, name="plan_page"):
    """Transactions of the word plan_page."""

    @read("plan_page:get")
    def get(self, store: Store, input: GetPlanPage) -> PlanPageAnswer:
        """One page of a plan with its leaves and their remainders.

        Who: everybody on the channel.
        Must hold: settlement_not_found, plan_page_not_found.
        Changes: nothing.
        Event: none.
        """
        run = SETTLEMENTS.load(store, input.run_id)
        page = settlements.load_page(store, input.run_id, input.page)
        leaves = tuple(
            PlannedLeaf(
                voucher_id=leaf.voucher_id,
                root_id=leaf.root_id,
                start=leaf.start,
                payee_id=leaf.holder_id,
                weight_minor=settlement.weight_of(leaf),
                remainder=settlement.remainder_of(run, leaf) if run.weight_minor else 0,
            )
            for leaf in _leaves(store, run, page)
        )
        return PlanPageAnswer(plan_page=page, leaves=leaves)

    @read("plan_page:list")
    def list(self, store: Store, input: ListPlanPages) -> PlanPagePage:
        """Pages of a run's plan, ascending.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(PLAN_PAGES, store, [input.run_id], input)
        return PlanPagePage(items=items, next=following)


def _check_bank(step: Step) -> None:
    if step.actor.msp_id != BANK_MSP:
        raise DomainError("bank_identity_required")


def _check_cut_off(step: Step) -> None:
    """Refuse short funding before the day's cut-off; with simulated days the clock says nothing."""
    cut_off = step.policy("settlement", SettlementPolicy).cut_off
    if not step.current.simulated_days and minute_of_day(step.tx.timestamp.seconds) < minute_of(cut_off):
        raise DomainError("cut_off_not_reached", time=cut_off)


def _prefix(run: Settlement) -> list[str]:
    return [run.issuer_id, run.currency, run.payment_date.isoformat()]


def _planned(step: Step, run: Settlement, number: int, before: PlanPage | None) -> PlanPage:
    """A new page after the page before."""
    begin = None if before is None else before.next_begin
    rows = vouchers.leaves(step.store, _prefix(run), begin, LEAVES_MAX + 1)
    leaves = [VOUCHERS.load(step.store, row[-1]) for row in rows[:LEAVES_MAX]]
    following = rows[LEAVES_MAX] if len(rows) > LEAVES_MAX else None
    next_begin = None if following is None else Place(root_id=following[3], start=int(following[4]))
    return settlement.plan(run.run_id, number, begin, next_begin, leaves)


def _replanned(step: Step, run: Settlement, page: PlanPage) -> PlanPage:
    """The same page over its leaves as they are now; sums stay, since no weight can change after maturity."""
    return settlement.plan_again(page, _leaves(step.store, run, page))


def _leaves(store: Store, run: Settlement, page: PlanPage) -> list[Voucher]:
    """The leaves of a planned page."""
    rows = vouchers.leaves(store, _prefix(run), page.begin, page.count) if page.count else []
    return [VOUCHERS.load(store, row[-1]) for row in rows]


def _pay_leaf(step: Step, run: Settlement, leaf: Voucher) -> list[Payee]:
    """Mark a leaf as paid, overdue or both, and answer who is credited."""
    if not settlement.weight_of(leaf):
        return []
    share = settlement.share_of(run, run.cut, leaf)
    penalty = _penalty(step, leaf, share)
    if share == leaf.amount_minor:
        _save_voucher(step, voucher.pay(leaf, penalty, step.today, step.trace()), "voucher.paid")
    elif not share:
        _save_voucher(step, voucher.fall_overdue(leaf, step.trace()), "voucher.overdue")
    else:
        closed, paid, rest = voucher.pay_in_part(leaf, share, penalty, step.today, step.trace())
        vouchers.replace_leaf(step.store, closed, (paid, rest))
        step.change("voucher", paid.voucher_id, "voucher.paid", paid)
        step.change("voucher", rest.voucher_id, "voucher.overdue", rest)
        step.change("voucher", closed.voucher_id, "voucher.split", closed)
    if not share:
        return []
    account_id = account.id_of(leaf.holder_id, run.currency)
    reference = leaf.voucher_id if share == leaf.amount_minor else voucher.settled_id(leaf, "P")
    return [Payee(account_id=account_id, amount_minor=share, reference=reference, is_disputed=leaf.is_disputed)]


def _penalty(step: Step, leaf: Voucher, paid_minor: int) -> int:
    """Penalty interest that a late payment owes; none within the days of grace."""
    rules = step.policy("settlement", SettlementPolicy)
    late = days("ACT/360", leaf.payment_date, step.today)
    return interest(paid_minor, rules.penalty_rate_ppm, late, "ACT/360") if late > rules.grace_days else 0


def _save(step: Step, record: Settlement, event: str) -> None:
    settlements.save(step.store, record)
    step.change("settlement", record.run_id, event, record)


def _save_page(step: Step, record: PlanPage, event: str) -> None:
    settlements.save_page(step.store, record)
    step.change("plan_page", f"{record.run_id}/{record.page}", event, record)


def _save_voucher(step: Step, record: Voucher, event: str) -> None:
    vouchers.save(step.store, record)
    step.change("voucher", record.voucher_id, event, record)
