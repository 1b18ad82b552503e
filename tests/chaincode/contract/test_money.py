"""Money across the two chaincodes: who may post, what adds up, and what is conserved after each step."""

import json

import pytest

from chaincode.shim.contract import Chaincode, Contract, Response, Transaction, submit
from chaincode.shim.errors import ContractError
from network.embedded.memory import MemoryLedger
from tests.chaincode.contract.scenes.bank import BOOKED, bound, with_policy
from tests.chaincode.contract.state import violations
from tests.chaincode.contract.world import PROGRAMS, Refused, World

CORE = "A-M-CORE-CNY"
BANK = "A-M-BANK-CNY"
POST = {"business_date": "2026-01-05", "actor": {"member_id": "M-CORE", "user_id": "U-X", "msp_id": "CoreMSP"}}


class Caller(Contract, name="caller"):
    """Stands for a step of trade: hands postings on to account."""

    @submit
    def post(self, tx: Transaction, postings: str) -> str:
        """Call account once with these postings."""
        request = json.dumps({**POST, "postings": json.loads(postings)})
        answer: Response = tx.invoke_chaincode("account", [b"account:post", request.encode()])
        if answer.status >= 400:
            raise ContractError(answer.message, answer.status)
        return answer.payload.decode()


class Postings:
    """A ledger on which a stand-in for trade posts."""

    def __init__(self) -> None:
        self.world = World()
        self.world.ledger.close()
        self.world.ledger = MemoryLedger([Chaincode("trade", "0", [Caller]), PROGRAMS["account"]])

    def post(self, *postings: dict[str, object]) -> list[str]:
        creator = self.world.people["core.admin"].creator
        outcome = self.world.ledger.submit("trade", "caller:post", [json.dumps(postings)], creator=creator)
        if outcome.status >= 400:
            raise Refused(outcome.message)
        assert outcome.is_valid
        return [change["event"] for change in json.loads(outcome.payload)["changes"]]


OPEN = {"kind": "open", "member_id": "M-CORE", "currency": "CNY"}


def pay(amount: int) -> dict[str, object]:
    payees = [{"account_id": BANK, "amount_minor": amount, "reference": "X"}]
    return {"kind": "transfer", "account_id": CORE, "payees": payees, "source": "X"}


def test_opening_twice_is_no_change() -> None:
    ledger = Postings()
    assert ledger.post(OPEN) == ["account.opened"]
    assert ledger.post(OPEN) == []


def test_bank_gets_its_own_accounts() -> None:
    assert len(Postings().post({**OPEN, "member_id": "M-BANK"})) == 3


@pytest.mark.parametrize(
    ("posting", "reason"),
    [
        ({"kind": "free", "account_id": CORE, "hold_id": "H-0"}, "hold_not_found"),
        ({**pay(1), "account_id": "A-M-NONE-CNY"}, "account_not_found"),
        (pay(1), "funds_insufficient"),
        ({**pay(1), "folds": ["00" * 32 + "-0000"]}, "credit_not_found"),
        (
            {
                "kind": "transfer",
                "account_id": CORE,
                "payees": [{"account_id": "A-M-CORE-USD", "amount_minor": 1, "reference": "X"}],
                "source": "X",
            },
            "currency_differs",
        ),
    ],
)
def test_post_refuses(posting: dict[str, object], reason: str) -> None:
    ledger = Postings()
    ledger.post(OPEN, {**OPEN, "member_id": "M-BANK"}, {**OPEN, "currency": "USD"})
    with pytest.raises(Refused, match=reason):
        ledger.post(posting)


def test_nobody_posts_directly() -> None:
    world = World().found()
    outcome = world.submit("account:post", "bank.treasury", {**POST, "postings": [pay(1)]})
    assert outcome.status == 403
    assert "direct_call_refused" in outcome.message


def test_withdrawal_conserves_money_at_every_step() -> None:
    world = World().found()
    bound(world)
    asked = {"account_id": CORE, "binding_id": "B-1", "amount_minor": 1_000}
    with pytest.raises(Refused, match="policy_missing"):
        world.do("instruction:request", "core.operator", instruction_id="WD-1", **asked, fee_minor=100)
    with_policy(world)
    world.credit(CORE, 5_000)
    for number, end in enumerate(("confirm", "reject", "cancel")):
        name, batch = f"WD-{number}", f"TSB-{number}"
        world.do("instruction:request", "core.operator", instruction_id=name, **asked, fee_minor=100)
        world.do("instruction:approve", "core.approver", instruction_id=name)
        assert violations(world) == []
        if end == "cancel":
            world.do("instruction:cancel", "core.operator", instruction_id=name, reason="Mistake")
            assert violations(world) == []
            continue
        world.do("batch:build", "bank.treasury", batch_id=batch, currency="CNY", channel="NURG")
        world.do("batch:add", "bank.treasury", batch_id=batch, page=1, instruction_ids=[name])
        world.do("batch:close", "bank.treasury", batch_id=batch)
        stated = {**world.read("batch:get", batch_id=batch)["batch"]}
        stated = {field: stated[field] for field in ("batch_id", "count", "sum_minor", "digest")}
        world.do("batch:approve", "bank.all", **stated)
        world.do("batch:send", "bank.treasury", batch_id=batch, page=1, transport_reference="T")
        if end == "confirm":
            world.do("instruction:confirm", "bank.treasury", instruction_id=name, **BOOKED)
        else:
            world.do("instruction:reject", "bank.treasury", instruction_id=name, reason="AC04")
        assert violations(world) == []
    assert world.read("account:get", account_id=CORE)["settled_minor"] == 5_000 - 3 * 1_100


def test_suspense_conserves_money() -> None:
    world = World().found()
    entry = {
        "control_account": "CONTROL",
        "currency": "CNY",
        "amount_minor": 40,
        "booking_date": "2026-01-05",
        "value_date": "2026-01-05",
        "servicer_reference": "S",
    }
    world.do("bank_entry:record", "bank.treasury", entry_id="C", direction="C", suspense_reason="no_match", **entry)
    world.do("bank_entry:record", "bank.treasury", entry_id="D", direction="D", suspense_reason="no_match", **entry)
    assert violations(world) == []
    world.do("suspense:assign", "bank.treasury", entry_id="C")
    proposal = {"resolution": "bank_error", "reason": "Booked twice", "counter_entry_id": "D"}
    world.do("suspense:propose", "bank.treasury", entry_id="C", **proposal)
    world.do("suspense:approve", "bank.all", entry_id="C")
    assert world.read("suspense:get", entry_id="D")["state"] == "resolved"
    assert violations(world) == []


def test_hundred_credits_to_one_account_do_not_meet() -> None:
    world = World().found()
    creator = world.people["bank.treasury"].creator
    prepared = []
    for number in range(100):
        input = {
            "request_id": f"C-{number}",
            "entry_id": f"BE-{number}",
            "control_account": "CONTROL",
            "currency": "CNY",
            "amount_minor": 1,
            "direction": "C",
            "booking_date": "2026-01-05",
            "value_date": "2026-01-05",
            "servicer_reference": "S",
            "account_id": CORE,
        }
        prepared.append(world.ledger.prepare("account", "bank_entry:record", [json.dumps(input)], creator=creator))
    assert all(outcome.is_valid for outcome in world.ledger.block(prepared))
    assert violations(world) == []


def test_fifty_issues_under_one_quota_do_not_meet() -> None:
    world = World().found()
    world.join("supplier").join("second")
    world.quota()
    for number in range(50):
        world.voucher("approved", f"V-{number}", 100)
    creator = world.people["core.approver"].creator
    prepared = [
        world.ledger.prepare(
            "trade",
            "voucher:issue",
            [json.dumps({"request_id": f"I-{number}", "voucher_id": f"V-{number}", **world.issue(f"V-{number}", 100)})],
            creator=creator,
        )
        for number in range(50)
    ]
    assert all(outcome.is_valid for outcome in world.ledger.block(prepared))
    assert violations(world) == []


def test_two_transfers_of_one_voucher_have_one_winner() -> None:
    world = World().found().voucher("signed_off")
    creator = world.people["supplier.operator"].creator
    input = {"voucher_id": "V-1", "to_member_id": "M-SECOND", "amount_minor": 900, "recourse": False}
    prepared = [
        world.ledger.prepare("trade", "voucher:transfer", [json.dumps({"request_id": name, **input})], creator=creator)
        for name in ("LEFT", "RIGHT")
    ]
    assert [outcome.is_valid for outcome in world.ledger.block(prepared)] == [True, False]
    assert violations(world) == []
