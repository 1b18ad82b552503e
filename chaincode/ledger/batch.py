"""Batches under (``batch``, id) and their pages under (``batch_page``, id, n)."""

from typing import Final

from chaincode.domain.batch import PAGES_MAX, Batch, BatchPage
from chaincode.ledger.repository import Repository
from chaincode.ledger.store import Store

BATCHES: Final = Repository("batch", Batch, "batch_not_found", "batch_exists")
BATCH_PAGES: Final = Repository("batch_page", BatchPage, "page_not_found", "batch_page_exists")


def load_page(store: Store, batch_id: str, page: int) -> BatchPage:
    """One page of a batch. Raises ``NOT_FOUND page_not_found``."""
    return BATCH_PAGES.load(store, batch_id, f"{page:03d}")


def load_pages(store: Store, batch_id: str) -> list[BatchPage]:
    """All pages of a batch in their order."""
    return [page for _, page in BATCH_PAGES.rows(store, [batch_id], None, PAGES_MAX + 1)]


def check_new_page(store: Store, batch_id: str, page: int) -> None:
    """Refuse a page that is there. Raises ``CONFLICT batch_page_exists``."""
    BATCH_PAGES.check_new(store, batch_id, f"{page:03d}")


def save_page(store: Store, page: BatchPage) -> None:
    """Stage a page."""
    BATCH_PAGES.save(store, page, page.batch_id, f"{page.page:03d}")
