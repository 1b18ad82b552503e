"""Scenes of money: accounts, credits, holds, bank entries and days."""

from typing import Any

from tests.chaincode.contract.scene import Call, Case, Scene, alone, case, nothing
from tests.chaincode.contract.scenes.member import at, void
from tests.chaincode.contract.world import DIGEST, FIRST_DATE, World

CORE = "A-M-CORE-CNY"
FIGURES = {"closing_ledger_minor": 0, "closing_bank_minor": 0, "report_digest": DIGEST}


def credited(world: World) -> Call:
    """An open credit of core."""
    return Call("core.operator", {"account_id": CORE, "credit_ids": [world.credit(CORE, 500, fold=False)]})


def folded(world: World) -> None:
    credit = world.read("credit:list", account_id=CORE)["items"][0]
    world.do("account:fold", "bank.treasury", account_id=CORE, credit_ids=[credit["credit_id"]])


def entry(**other: Any) -> dict[str, Any]:
    values = {
        "entry_id": "BE-X",
        "control_account": "CONTROL",
        "currency": "CNY",
        "amount_minor": 700,
        "direction": "C",
        "booking_date": FIRST_DATE,
        "value_date": FIRST_DATE,
        "servicer_reference": "S-X",
        "account_id": CORE,
    }
    return {**values, **other}


def recorded(world: World) -> None:
    world.do("bank_entry:record", "bank.treasury", **entry(account_id=None, suspense_reason="no_match"))


def day_closed(world: World) -> None:
    world.do("day:close", "bank.treasury", currency="CNY", date=FIRST_DATE, **FIGURES)


def day_proposed(world: World) -> None:
    figures = {**FIGURES, "closing_bank_minor": 5, "reason": "Entry of tomorrow"}
    world.do("day:close", "bank.all", currency="CNY", date=FIRST_DATE, **figures)


SCENES = (
    Scene(
        "account:fold",
        credited,
        (
            case("account_not_found", account_id="A-M-NONE-CNY"),
            alone("credit_not_found", credit_ids=["00" * 32 + "-0000"]),
            case("not_owner", by="warehouse.operator"),
            Case("credit_repeated", alone=True, change=lambda world, input: {"credit_ids": input["credit_ids"] * 2}),
            case("state_wrong", folded),
        ),
    ),
    Scene(
        "account:open",
        at(nothing, "bank.treasury", known_account_id=CORE, currency="USD"),
        (
            alone("account_not_found", known_account_id="A-M-NONE-CNY"),
            case("account_exists", currency="CNY"),
            case("bank_identity_required", by="core.treasury"),
        ),
    ),
    Scene("account:get", at(nothing, "", account_id=CORE), (case("account_not_found", account_id="A-M-NONE-CNY"),)),
    Scene("account:list", at(nothing, "")),
    Scene(
        "credit:get",
        lambda world: Call("", {"account_id": CORE, "credit_id": world.credit(CORE, 500)}),
        (case("credit_not_found", credit_id="00" * 32 + "-0000"),),
    ),
    Scene("credit:list", lambda world: Call("", {"account_id": credited(world).input["account_id"]})),
    Scene(
        "bank_entry:record",
        lambda world: Call("bank.treasury", entry()),
        (
            case("posting_invalid", account_id=None),
            case("bank_entry_exists", recorded),
            alone("account_not_found", account_id="A-M-NONE-CNY"),
            case("bank_identity_required", by="core.treasury"),
            case("currency_differs", currency="USD"),
        ),
    ),
    Scene("bank_entry:get", at(recorded, "", entry_id="BE-X"), (case("bank_entry_not_found", entry_id="BE-0"),)),
    Scene("bank_entry:list", at(recorded, "")),
    Scene("suspense:get", at(recorded, "", entry_id="BE-X"), (case("suspense_not_found", entry_id="BE-0"),)),
    Scene("suspense:list", at(recorded, "")),
    Scene(
        "day:close",
        at(nothing, "bank.treasury", currency="CNY", date=FIRST_DATE, **FIGURES),
        (
            case("day_exists", day_closed),
            case("bank_identity_required", by="core.treasury"),
            case("date_differs", date="2026-01-06"),
            case("difference_unexplained", closing_bank_minor=5),
        ),
    ),
    Scene(
        "day:approve",
        at(day_proposed, "bank.treasury", currency="CNY", date=FIRST_DATE),
        (
            case("day_not_found", date="2026-01-06"),
            case("bank_identity_required", by="core.treasury"),
            alone(
                "state_wrong",
                lambda world: void(world.do("day:approve", "bank.treasury", currency="CNY", date=FIRST_DATE)),
            ),
            case("same_person", by="bank.all"),
        ),
    ),
    Scene("day:get", at(day_closed, "", currency="CNY", date=FIRST_DATE), (case("day_not_found", currency="USD"),)),
    Scene("day:list", at(day_closed, "", currency="CNY")),
)
