"""Quotas under (``quota``, id), slices under (``quota_slice``, quota id, n); (``issuer_quota``, issuer, id) list."""

from typing import Final

from chaincode.domain.quota import SLICES, Quota, Slice
from chaincode.ledger.repository import Index, Repository
from chaincode.ledger.store import Store

QUOTAS: Final = Repository("quota", Quota, "quota_not_found", "quota_exists")
QUOTA_SLICES: Final = Repository("quota_slice", Slice, "quota_not_found", "quota_exists")
ISSUER_QUOTAS: Final = Index("issuer_quota")


def _number(number: int) -> str:
    return f"{number:02d}"


def create(store: Store, quota: Quota) -> None:
    """Stage a new quota with its index key."""
    save(store, quota)
    ISSUER_QUOTAS.put(store, quota.issuer_id, quota.quota_id)


def save(store: Store, quota: Quota) -> None:
    """Stage a quota."""
    QUOTAS.save(store, quota, quota.quota_id)


def load_slice(store: Store, quota_id: str, number: int) -> Slice:
    """One slice of a granted quota."""
    return QUOTA_SLICES.load(store, quota_id, _number(number))


def load_slices(store: Store, quota_id: str) -> list[Slice]:
    """All slices of a quota in their order; none before it is granted."""
    return [piece for _, piece in QUOTA_SLICES.rows(store, [quota_id], None, SLICES)]


def save_slice(store: Store, piece: Slice) -> None:
    """Stage a slice."""
    QUOTA_SLICES.save(store, piece, piece.quota_id, _number(piece.number))
