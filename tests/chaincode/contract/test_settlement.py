"""Settlement over several pages, short funds, late payments; and every invariant after each step."""

from typing import Any

import pytest

from chaincode.domain.money import share
from chaincode.domain.settlement import LEAVES_MAX
from tests.chaincode.contract.state import violations
from tests.chaincode.contract.world import POLICIES, Refused, World

CORE = "A-M-CORE-CNY"
LEAVES = LEAVES_MAX + 50


def many_leaves(world: World) -> World:
    """Splits V-1 over 900,000 into many unequal leaves of supplier and second."""
    world.join("supplier").join("second")
    world.quota(limit_minor=64_000_000)
    invoice_id = world.invoice("big", amount_minor=900_000)
    world.do("voucher:register", "core.operator", **world.draft(invoice_id, amount_minor=900_000))
    world.do("voucher:submit", "core.operator", voucher_id="V-1")
    world.do("voucher:approve", "core.reviewer", voucher_id="V-1")
    world.do("voucher:issue", "core.approver", voucher_id="V-1", **world.issue(amount_minor=900_000))
    world.do("voucher:sign_off", "supplier.operator", voucher_id="V-1")
    rest = "V-1"
    for number in range(LEAVES - 1):
        part = {"part_id": f"V-P{number}", "part_number": f"V-1-{number}", "rest_number": "V-1-R"}
        input = {"to_member_id": "M-SECOND", "amount_minor": 1_000 + 7 * number, "recourse": False, **part}
        world.do("voucher:transfer", "supplier.operator", voucher_id=rest, **input)
        rest = f"V-P{number}-R"
    world.do("voucher:approve_transfer", "supplier.approver", voucher_id="V-P3")
    world.do("voucher:sign_off", "second.operator", voucher_id="V-P3")
    return world


@pytest.fixture(scope="module")
def shared() -> dict[str, Any]:
    """A short run over two pages, paid and closed, with what the plan said before."""
    world = many_leaves(World().found())
    world.until("2026-01-30")
    assert violations(world) == []
    total = 333_334
    world.credit(CORE, total)
    world.settle("open")
    world.do("settlement:plan", "bank.treasury", run_id="ST-1", page=1)
    with pytest.raises(Refused, match="plan_page_not_found"):
        world.do("settlement:plan", "bank.treasury", run_id="ST-1", page=3)
    world.do("settlement:plan", "bank.treasury", run_id="ST-1", page=2)
    world.do("settlement:fund", "bank.treasury", run_id="ST-1", total_minor=total)
    pages = [world.read("plan_page:get", run_id="ST-1", page=page) for page in (1, 2)]
    leaves = [leaf for page in pages for leaf in page["leaves"]]
    weights = [leaf["weight_minor"] for leaf in leaves]
    expected = share(total, weights)
    order = sorted(leaves, key=lambda leaf: (-leaf["remainder"], leaf["root_id"], leaf["start"]))
    ones = total - sum(total * weight // sum(weights) for weight in weights)
    first_without = order[ones]
    cut = {name: first_without[name] for name in ("remainder", "root_id", "start")}
    wrong = {**cut, "start": cut["start"] + 1}
    world.do("settlement:share", "bank.treasury", run_id="ST-1", page=1, cut=wrong)
    with pytest.raises(Refused, match="cut_differs"):
        world.do("settlement:share", "bank.treasury", run_id="ST-1", page=2, cut=cut)
    world.do("settlement:share", "bank.treasury", run_id="ST-1", page=2, cut=wrong)
    with pytest.raises(Refused, match="shares_differ"):
        world.do("settlement:seal", "bank.treasury", run_id="ST-1")
    for page in (1, 2):
        world.do("settlement:share", "bank.treasury", run_id="ST-1", page=page, cut=cut)
    world.do("settlement:seal", "bank.treasury", run_id="ST-1")
    paid: list[dict[str, Any]] = []
    for page in (1, 2):
        world.do("settlement:pay", "bank.treasury", run_id="ST-1", page=page)
        paid += [change["record"] for change in world.event()["changes"] if change["event"] == "voucher.paid"]
        assert violations(world) == []
    world.do("settlement:close", "bank.treasury", run_id="ST-1")
    assert violations(world) == []
    return {"world": world, "pages": pages, "leaves": leaves, "expected": expected, "paid": paid, "total": total}


def test_pages_hold_250_leaves_and_the_rest(shared: dict[str, Any]) -> None:
    assert [page["plan_page"]["count"] for page in shared["pages"]] == [LEAVES_MAX, LEAVES - LEAVES_MAX]


def test_cut_gives_the_largest_remainder_shares(shared: dict[str, Any]) -> None:
    paid = {(record["root_id"], record["start"]): record["amount_minor"] for record in shared["paid"]}
    for leaf, amount in zip(shared["leaves"], shared["expected"], strict=True):
        assert paid.get((leaf["root_id"], leaf["start"]), 0) == amount
    assert sum(paid.values()) == shared["total"]


def test_holders_are_credited(shared: dict[str, Any]) -> None:
    world = shared["world"]
    credits: list[dict[str, Any]] = []
    after = None
    while True:
        page = world.read("credit:list", account_id="A-M-SUPPLIER-CNY", limit=200, after=after)
        credits += page["items"]
        after = page["next"]
        if after is None:
            break
    second = world.read("credit:list", account_id="A-M-SECOND-CNY")["items"]
    assert len(second) == 1
    assert sum(credit["amount_minor"] for credit in credits + second) == shared["total"]


def test_later_run_pays_the_rest_and_the_penalty(shared: dict[str, Any]) -> None:
    world = shared["world"].until("2026-02-06")
    rest = 900_000 - shared["total"]
    world.credit(CORE, rest + 10_000)
    world.settle("planned", run_id="ST-2")
    page = 2
    while world.read("settlement:get", run_id="ST-2")["state"] == "open":
        world.do("settlement:plan", "bank.treasury", run_id="ST-2", page=page)
        page += 1
    world.do("settlement:fund", "bank.treasury", run_id="ST-2", total_minor=rest)
    assert world.read("settlement:get", run_id="ST-2")["state"] == "sealed"
    penalties: dict[str, int] = {}
    for number in range(1, page):
        world.do("settlement:pay", "bank.treasury", run_id="ST-2", page=number)
        for change in world.event()["changes"]:
            if change["event"] == "voucher.paid":
                penalties[change["id"]] = change["record"]["penalty_minor"]
        assert violations(world) == []
    world.do("settlement:close", "bank.treasury", run_id="ST-2")
    late = max(penalties, key=lambda identifier: penalties[identifier])
    assert penalties[late] > 0
    world.do("voucher:pay_penalty", "core.approver", voucher_id=late)
    assert violations(world) == []
    world.do("quota:restore", "core.operator", voucher_id="V-1")
    assert violations(world) == []


def test_short_funds_wait_for_the_cut_off() -> None:
    world = World(simulated_days=False)
    policies = [value for value in POLICIES if value["name"] not in ("date", "settlement")]
    world.policies = [
        *policies,
        {"name": "date", "lag_days_max": 60},
        {"name": "settlement", "cut_off": "17:00", "grace_days": 5, "penalty_rate_ppm": 65_250},
    ]
    world.ledger.now = world.ledger.now.replace(day=30, hour=8, minute=59)
    world.found().voucher("signed_off").settle("planned")
    with pytest.raises(Refused, match="cut_off_not_reached"):
        world.do("settlement:fund", "bank.treasury", run_id="ST-1", total_minor=0)
    world.ledger.now = world.ledger.now.replace(hour=9, minute=0)
    world.do("settlement:fund", "bank.treasury", run_id="ST-1", total_minor=0)
