"""Random steps with vouchers and money against a naive model, with every invariant checked after each step."""

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from tests.chaincode.contract.state import violations
from tests.chaincode.contract.world import Refused, World

COMPANIES = ("supplier", "second")
ACCOUNTS = {name: f"A-M-{name.upper()}-CNY" for name in (*COMPANIES, "core")}
STEPS = int(os.environ.get("TALLYSTICK_STATEFUL_STEPS", "40"))
EXAMPLES = int(os.environ.get("TALLYSTICK_STATEFUL_EXAMPLES", "25"))


class Vouchers(RuleBasedStateMachine):
    """Vouchers of core that its suppliers accept, refuse, split and hand on, and money that comes in for them.

    The model knows for each voucher its state, holder and amount, and for each account the money that came in.
    """

    vouchers = Bundle("vouchers")

    @initialize()
    def found(self) -> None:
        self.world = World().found().join("supplier").join("second")
        self.world.quota()
        self.number = 0
        self.model: dict[str, dict[str, Any]] = {}
        self.money = dict.fromkeys(ACCOUNTS, 0)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.close()

    def attempt(self, name: str, by: str, allowed: bool, **input: Any) -> bool:
        """Take a step that the model expects to be taken or refused."""
        try:
            self.world.do(name, by, **input)
        except Refused as refused:
            assert not allowed, refused
            return False
        assert allowed, (name, input)
        return True

    @rule(target=vouchers, amount=st.integers(1, 900))
    def register(self, amount: int) -> str:
        return self.draft(amount)

    def draft(self, amount: int) -> str:
        """A new draft voucher."""
        self.number += 1
        voucher_id = f"V-{self.number}"
        invoice_id = self.world.invoice(f"for-{voucher_id}", amount)
        self.world.do("voucher:register", "core.operator", **self.world.draft(invoice_id, voucher_id, amount))
        self.model[voucher_id] = {"state": "draft", "holder": "core", "to": "supplier", "amount": amount}
        return voucher_id

    @rule(target=vouchers, amount=st.integers(2, 900))
    def accepted(self, amount: int) -> str:
        """A voucher that the supplier holds, so that many runs get as far as splitting."""
        voucher_id = self.draft(amount)
        for _ in range(3):
            self.advance(voucher_id)
        self.attempt("voucher:sign_off", "supplier.operator", True, voucher_id=voucher_id)
        self.model[voucher_id].update(state="signed_off", holder="supplier")
        return voucher_id

    @rule(voucher_id=vouchers)
    def forward(self, voucher_id: str) -> None:
        self.advance(voucher_id)

    def advance(self, voucher_id: str) -> None:
        """The next step of the issuer."""
        known = self.model[voucher_id]
        slot = int(voucher_id.split("-")[1]) % 64
        slices = [{"quota_id": "Q-1", "slice": slot, "amount_minor": known["amount"]}]
        issue = {"unsigned_digest": "ab" * 32, "signed_digest": "ab" * 32, "slices": slices}
        for state, name, by, input, after in (
            ("draft", "voucher:submit", "core.operator", {}, "submitted"),
            ("submitted", "voucher:approve", "core.reviewer", {}, "approved"),
            ("approved", "voucher:issue", "core.approver", issue, "issued"),
        ):
            if known["state"] == state:
                self.attempt(name, by, True, voucher_id=voucher_id, **input)
                known["state"] = after
                return

    @rule(voucher_id=vouchers, company=st.sampled_from(COMPANIES))
    def sign_off(self, voucher_id: str, company: str) -> None:
        known = self.model[voucher_id]
        allowed = known["state"] in ("issued", "transferring") and known["to"] == company
        if self.attempt("voucher:sign_off", f"{company}.operator", allowed, voucher_id=voucher_id):
            known.update(state="signed_off", holder=company)

    @rule(voucher_id=vouchers, company=st.sampled_from(COMPANIES))
    def refuse(self, voucher_id: str, company: str) -> None:
        known = self.model[voucher_id]
        allowed = known["state"] in ("issued", "transferring") and known["to"] == company
        if self.attempt("voucher:refuse", f"{company}.operator", allowed, voucher_id=voucher_id, reason="No"):
            known["state"] = "refused" if known["state"] == "issued" else "signed_off"

    @rule(voucher_id=vouchers)
    def cancel(self, voucher_id: str) -> None:
        known = self.model[voucher_id]
        allowed = known["state"] in ("draft", "submitted", "approved", "issued")
        if self.attempt("voucher:cancel", "core.approver", allowed, voucher_id=voucher_id, reason="No"):
            known["state"] = "cancelled"

    @rule(target=vouchers, voucher_id=vouchers, is_holder=st.integers(0, 3), percent=st.integers(1, 110))
    def transfer(self, voucher_id: str, is_holder: int, percent: int) -> Any:
        """Mostly by the holder: random callers alone would seldom get as far as a split."""
        known = self.model[voucher_id]
        company = known["holder"] if is_holder and known["holder"] in COMPANIES else COMPANIES[0]
        amount = max(1, known["amount"] * percent // 100)
        other = COMPANIES[1 - COMPANIES.index(company)]
        whole = amount == known["amount"]
        allowed = known["state"] == "signed_off" and known["holder"] == company and amount <= known["amount"]
        self.number += 1
        part_id = f"V-{self.number}"
        part = {} if whole else {"part_id": part_id, "part_number": "P", "rest_number": "R"}
        input = {"to_member_id": f"M-{other.upper()}", "amount_minor": amount, "recourse": False, **part}
        if not self.attempt("voucher:transfer", f"{company}.operator", allowed, voucher_id=voucher_id, **input):
            return multiple()
        held = {"state": "held", "holder": company, "to": other, "amount": amount}
        if whole:
            known.update(held)
            return multiple()
        known["state"] = "split"
        self.model[part_id] = held
        rest = known["amount"] - amount
        self.model[f"{part_id}-R"] = {"state": "signed_off", "holder": company, "to": None, "amount": rest}
        return multiple(part_id, f"{part_id}-R")

    @rule(voucher_id=vouchers, company=st.sampled_from(COMPANIES))
    def approve_transfer(self, voucher_id: str, company: str) -> None:
        known = self.model[voucher_id]
        allowed = known["state"] == "held" and known["holder"] == company
        if self.attempt("voucher:approve_transfer", f"{company}.approver", allowed, voucher_id=voucher_id):
            known["state"] = "transferring"

    @rule(voucher_id=vouchers, company=st.sampled_from(COMPANIES))
    def recall(self, voucher_id: str, company: str) -> None:
        known = self.model[voucher_id]
        allowed = known["state"] in ("held", "transferring") and known["holder"] == company
        if self.attempt("voucher:recall", f"{company}.operator", allowed, voucher_id=voucher_id, reason="No"):
            known["state"] = "signed_off"

    @rule(name=st.sampled_from(sorted(ACCOUNTS)), amount=st.integers(1, 1_000), fold=st.booleans())
    def top_up(self, name: str, amount: int, fold: bool) -> None:
        self.world.credit(ACCOUNTS[name], amount, fold)
        self.money[name] += amount

    @invariant()
    def ledger_agrees_with_the_model(self) -> None:
        for voucher_id, known in self.model.items():
            record = self.world.read("voucher:get", voucher_id=voucher_id)["voucher"]
            assert record["state"] == known["state"], voucher_id
            assert record["amount_minor"] == known["amount"], voucher_id
            assert record["holder_id"] == f"M-{known['holder'].upper()}", voucher_id

    @invariant()
    def nothing_is_violated(self) -> None:
        if hasattr(self, "world"):
            assert violations(self.world) == []


Vouchers.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
    database=None,
)
TestVouchers = Vouchers.TestCase
