"""Liens: taken and freed by the words that they serve; here they are only read."""

from typing import Literal

import msgspec

from chaincode.contract.page import Listing, records
from chaincode.contract.step import read
from chaincode.domain.error import DomainError
from chaincode.domain.lien import Lien
from chaincode.domain.record import Id
from chaincode.ledger.lien import LIENS
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract

ClaimWord = Literal["invoice", "voucher", "asset"]


class GetLien(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``lien:get``."""

    claim_word: ClaimWord
    claim_id: Id


class ListLiens(Listing, frozen=True, kw_only=True):
    """Argument of ``lien:list``."""

    claim_word: ClaimWord


class LienPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of liens on claims of one word, by claim id."""

    items: tuple[Lien, ...]
    next: str | None


class LienContract(Contract, name="lien"):
    """Transactions of the word lien."""

    @read("lien:get")
    def get(self, store: Store, input: GetLien) -> Lien:
        """The lien on a claim, taken or freed.

        Who: everybody on the channel.
        Must hold: lien_not_found.
        Changes: nothing.
        Event: none.
        """
        known = LIENS.find(store, input.claim_word, input.claim_id)
        if known is None:
            raise DomainError("lien_not_found", id=input.claim_id)
        return known

    @read("lien:list")
    def list(self, store: Store, input: ListLiens) -> LienPage:
        """Liens on claims of one word, by claim id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(LIENS, store, [input.claim_word], input)
        return LienPage(items=items, next=following)
