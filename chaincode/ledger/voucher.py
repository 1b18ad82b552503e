"""Vouchers under (``voucher``, id).

Two indexes: (``due``, issuer, currency, payment date, root, start, id) for every accepted leaf, removed only when it is
split; (``party``, member, root) for everybody who was ever a party to a root or its parts. The list of a member's
vouchers is made of both, so a transfer writes few keys.
"""

from collections.abc import Sequence
from typing import Final

from chaincode.domain.settlement import Place
from chaincode.domain.voucher import Voucher
from chaincode.ledger.repository import Index, Repository
from chaincode.ledger.store import Store

VOUCHERS: Final = Repository("voucher", Voucher, "voucher_not_found", "voucher_exists")
DUE: Final = Index("due")
PARTIES: Final = Index("party")

START_DIGITS: Final = 16
"""Digits of a unit in an index key: 10^15 units at most, and text order is number order."""


def due_attributes(voucher: Voucher) -> list[str]:
    """Attributes of a leaf's key in the index ``due``."""
    return [
        voucher.issuer_id,
        voucher.currency,
        voucher.payment_date.isoformat(),
        voucher.root_id,
        f"{voucher.start:0{START_DIGITS}d}",
        voucher.voucher_id,
    ]


def create(store: Store, voucher: Voucher) -> None:
    """Stage a root voucher and note its two parties."""
    save(store, voucher)
    add_party(store, voucher.issuer_id, voucher)
    add_party(store, voucher.receiver_id, voucher)


def save(store: Store, voucher: Voucher) -> None:
    """Stage a voucher."""
    VOUCHERS.save(store, voucher, voucher.voucher_id)


def add_party(store: Store, member_id: str, voucher: Voucher) -> None:
    """Note that a member is a party to the root of a voucher."""
    PARTIES.put(store, member_id, voucher.root_id)


def add_leaf(store: Store, voucher: Voucher) -> None:
    """Note an accepted leaf under its payment date."""
    DUE.put(store, *due_attributes(voucher))


def replace_leaf(store: Store, closed: Voucher, parts: Sequence[Voucher]) -> None:
    """Stage a split: the closed voucher, its parts and their places in the index ``due``."""
    save(store, closed)
    DUE.drop(store, *due_attributes(closed))
    for part in parts:
        save(store, part)
        add_leaf(store, part)


def leaves(store: Store, prefix: Sequence[str], begin: Place | None, limit: int) -> list[list[str]]:
    """Index keys of accepted leaves below (issuer, currency, payment date), from a place on.

    The place itself is included: a key without the last attribute stands before all keys that have it.
    """
    after = None if begin is None else [*prefix, begin.root_id, f"{begin.start:0{START_DIGITS}d}"]
    return DUE.rows(store, prefix, after, limit)
