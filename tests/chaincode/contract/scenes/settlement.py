"""Scenes of settlement runs and of what follows from them."""

from collections.abc import Callable
from typing import Any

from tests.chaincode.contract.scene import Call, Scene, alone, case
from tests.chaincode.contract.scenes.member import void
from tests.chaincode.contract.world import World

CUT = {"remainder": 900, "root_id": "V-1", "start": 1}
WRONG_CUT = {"remainder": 0, "root_id": "V-2", "start": 1}


def run(state: str, money: int = 900, **input: Any) -> Callable[[World], Call]:
    """A run over V-1, which core disputed, with just enough money for it, is in a state."""

    def ready(world: World) -> Call:
        world.voucher("signed_off")
        world.do("voucher:dispute", "core.approver", voucher_id="V-1", reason="Goods came late")
        world.credit("A-M-CORE-CNY", money)
        world.settle(state, money)
        return Call("bank.treasury", {"run_id": "ST-1", **input})

    return ready


def step(verb: str, **input: Any) -> Callable[[World], None]:
    """One more step of the run."""
    return lambda world: void(world.do(f"settlement:{verb}", "bank.treasury", run_id="ST-1", **input))


def short(world: World) -> None:
    step("plan", page=1)(world)
    step("fund", total_minor=300)(world)


def shared_and_sealed(world: World) -> None:
    step("share", page=1, cut=CUT)(world)
    step("seal")(world)


def paid_and_closed(world: World) -> None:
    step("pay", page=1)(world)
    step("close")(world)


def dispute_ended(world: World) -> None:
    world.do("voucher:end_dispute", "core.approver", voucher_id="V-1", reason="Agreed")


def second_run(world: World) -> None:
    """A run over what is paid already."""
    world.settle("sealed", 0, "ST-2", weight_minor=0)


def spent(world: World) -> None:
    """Another run over the same voucher takes the money."""
    world.settle("sealed", 900, "ST-2")


def settled(world: World) -> Call:
    """V-1 is paid; V-2 is split and due later."""
    world.voucher("signed_off").voucher("signed_off", "V-2", due_date="2026-02-06")
    part = {"part_id": "V-2A", "part_number": "V-2-1", "rest_number": "V-2-2"}
    input = {"to_member_id": "M-SECOND", "amount_minor": 300, "recourse": False, **part}
    world.do("voucher:transfer", "supplier.operator", voucher_id="V-2", **input)
    world.credit("A-M-CORE-CNY", 900)
    world.settle()
    return Call("core.operator", {"voucher_id": "V-1"})


def stopped(world: World) -> Call:
    world.voucher("signed_off").settle("funded", 0)
    return Call("bank.final_officer", {"member_id": "M-CORE", "reason": "Paid"})


SCENES = (
    Scene(
        "settlement:open",
        run("none", issuer_id="M-CORE", currency="CNY", payment_date="2026-01-30"),
        (
            case("settlement_exists", step("open", issuer_id="M-CORE", currency="CNY", payment_date="2026-01-30")),
            case("member_not_found", issuer_id="M-NONE"),
            case("bank_identity_required", by="core.treasury"),
            case("settlement_not_due", payment_date="2026-04-30"),
        ),
    ),
    Scene(
        "settlement:plan",
        run("open", page=1),
        (
            case("settlement_not_found", run_id="ST-0"),
            alone("plan_page_not_found", page=3),
            case("bank_identity_required", by="core.treasury"),
            case("state_wrong", short),
        ),
    ),
    Scene(
        "settlement:fund",
        run("planned", total_minor=900),
        (
            case("settlement_not_found", run_id="ST-0"),
            case("bank_identity_required", by="core.treasury"),
            alone("state_wrong", step("fund", total_minor=900)),
            alone("settlement_total_invalid", total_minor=901),
            case("funds_insufficient", spent),
        ),
    ),
    Scene(
        "settlement:share",
        run("funded", 300, page=1, cut=CUT),
        (
            case("settlement_not_found", run_id="ST-0"),
            alone("plan_page_not_found", page=2),
            case("bank_identity_required", by="core.treasury"),
            case("state_wrong", shared_and_sealed),
        ),
    ),
    Scene(
        "settlement:seal",
        run("shared", 300),
        (
            case("settlement_not_found", run_id="ST-0"),
            case("bank_identity_required", by="core.treasury"),
            alone("state_wrong", step("seal")),
            case("shares_differ", step("share", page=1, cut=WRONG_CUT)),
        ),
    ),
    Scene(
        "settlement:pay",
        run("sealed", page=1),
        (
            case("settlement_not_found", run_id="ST-0"),
            case("plan_page_not_found", page=2),
            case("bank_identity_required", by="core.treasury"),
            alone("state_wrong", paid_and_closed),
            alone("page_paid", step("pay", page=1)),
            case("page_changed", dispute_ended),
        ),
    ),
    Scene(
        "settlement:close",
        run("paid"),
        (
            case("settlement_not_found", run_id="ST-0"),
            case("bank_identity_required", by="core.treasury"),
            alone("state_wrong", step("close")),
            case("page_unpaid", second_run, run_id="ST-2"),
        ),
    ),
    Scene("settlement:get", run("open"), (case("settlement_not_found", run_id="ST-0"),)),
    Scene("settlement:list", lambda world: Call("", {"limit": 10 if run("open")(world) else 1})),
    Scene(
        "plan_page:get",
        run("planned", page=1),
        (case("settlement_not_found", run_id="ST-0"), case("plan_page_not_found", page=2)),
    ),
    Scene("plan_page:list", run("planned")),
    Scene(
        "quota:restore",
        settled,
        (
            case("voucher_not_found", voucher_id="V-0"),
            alone("not_issuer", by="supplier.operator"),
            alone("state_wrong", lambda world: void(world.do("quota:restore", "core.operator", voucher_id="V-1"))),
            case("voucher_unsettled", voucher_id="V-2"),
        ),
    ),
    Scene(
        "member:allow_issuance",
        stopped,
        (
            case("member_not_found", member_id="M-NONE"),
            case("bank_identity_required", by="core.final_officer"),
            case("issuance_not_stopped", member_id="M-SUPPLIER"),
        ),
    ),
    Scene(
        "hold:get",
        lambda world: Call("", {"account_id": "A-M-CORE-CNY", "hold_id": run("sealed")(world).input["run_id"]}),
        (case("hold_not_found", hold_id="ST-0"),),
    ),
    Scene(
        "hold:list", lambda world: Call("", {"account_id": "A-M-CORE-CNY", "limit": 9 if run("sealed")(world) else 1})
    ),
)
