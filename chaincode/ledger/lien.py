"""Liens under (``lien``, claim word, claim id)."""

from typing import Final

from chaincode.domain.lien import Lien
from chaincode.ledger.repository import Repository
from chaincode.ledger.store import Store

LIENS: Final = Repository("lien", Lien, "lien_not_found", "lien_exists")


def save(store: Store, lien: Lien) -> None:
    """Stage a lien."""
    LIENS.save(store, lien, lien.claim_word, lien.claim_id)
