"""Settlement runs under (``settlement``, id) and their plan under (``plan_page``, run, n)."""

from typing import Final

from chaincode.domain.settlement import PAGES_MAX, PlanPage, Settlement
from chaincode.ledger.repository import Repository
from chaincode.ledger.store import Store

SETTLEMENTS: Final = Repository("settlement", Settlement, "settlement_not_found", "settlement_exists")
PLAN_PAGES: Final = Repository("plan_page", PlanPage, "plan_page_not_found", "plan_page_exists")


def _number(page: int) -> str:
    return f"{page:06d}"


def find_page(store: Store, run_id: str, page: int) -> PlanPage | None:
    """One page of a plan, or None."""
    return PLAN_PAGES.find(store, run_id, _number(page))


def load_page(store: Store, run_id: str, page: int) -> PlanPage:
    """One page of a plan. Raises ``NOT_FOUND plan_page_not_found``."""
    return PLAN_PAGES.load(store, run_id, _number(page))


def load_pages(store: Store, run_id: str) -> list[PlanPage]:
    """All pages of a plan in their order."""
    return [page for _, page in PLAN_PAGES.rows(store, [run_id], None, PAGES_MAX + 1)]


def save(store: Store, run: Settlement) -> None:
    """Stage a run."""
    SETTLEMENTS.save(store, run, run.run_id)


def save_page(store: Store, page: PlanPage) -> None:
    """Stage a page of a plan."""
    PLAN_PAGES.save(store, page, page.run_id, _number(page.page))
