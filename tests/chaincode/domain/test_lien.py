"""The lien on one claim: taken once, free again, never taken over another one."""

from datetime import date

import pytest

from chaincode.domain import lien
from chaincode.domain.error import DomainError
from chaincode.domain.record import Trace

WHO = Trace(member_id="M-CORE", user_id="U-1", business_date=date(2026, 1, 5))


def test_take_refuses_a_claim_that_is_taken() -> None:
    taken = lien.take(None, "invoice", "I-1", "voucher", "V-1", WHO)
    with pytest.raises(DomainError, match="lien_exists") as refusal:
        lien.take(taken, "invoice", "I-1", "voucher", "V-2", WHO)
    assert refusal.value.status == 409
    assert "V-1" in str(refusal.value)


def test_a_freed_claim_is_taken_anew() -> None:
    taken = lien.take(None, "invoice", "I-1", "voucher", "V-1", WHO)
    freed = lien.free(taken, WHO)
    assert (taken.state, freed.state, freed.secured_id) == ("taken", "freed", "V-1")
    assert lien.take(freed, "invoice", "I-1", "voucher", "V-2", WHO).secured_id == "V-2"
