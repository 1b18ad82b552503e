"""Scenes of bindings, withdrawals, batches, files and suspense."""

from collections.abc import Callable
from typing import Any

from tests.chaincode.contract.scene import Call, Scene, alone, case, nothing
from tests.chaincode.contract.scenes.account import CORE, entry, recorded
from tests.chaincode.contract.scenes.member import at, void
from tests.chaincode.contract.scenes.trade import WITHDRAWAL
from tests.chaincode.contract.world import DIGEST, World

BANK_ACCOUNT = {"account_id": CORE, "number_digest": DIGEST, "last_four": "6789", "holder_name": "ＣＯＲＥ Limited"}
FILE = {
    "sender": "BANK/1",
    "message_id": "MSG-1",
    "kind": "camt.053",
    "raw_digest": DIGEST,
    "content_digest": DIGEST,
    "count": 1,
    "sum_minor": 700,
}
BOOKED = {
    "entry_id": "BE-W",
    "control_account": "CONTROL",
    "amount_minor": 1_000,
    "booking_date": "2026-01-06",
    "value_date": "2026-01-06",
    "servicer_reference": "S-W",
}


def with_policy(world: World) -> None:
    """The withdrawal policy is in force: a fee of 100, given back when a payment returns."""
    world.set_policy({**WITHDRAWAL, "refund_fee_on_return": True}, "2026-01-06", "account").next_day()


def bound(world: World, state: str = "verified", binding_id: str = "B-1") -> None:
    world.do("binding:request", "core.operator", binding_id=binding_id, **BANK_ACCOUNT)
    if state == "verified":
        world.do("binding:verify", "bank.treasury", binding_id=binding_id)


def withdrawal(state: str, by: str = "bank.treasury", **input: Any) -> Callable[[World], Call]:
    """Instruction WD-1 over 1,000 is in a state, alone in batch TSB-1."""
    steps: list[tuple[str, str, str, dict[str, Any]]] = [
        ("requested", "instruction:approve", "core.approver", {"instruction_id": "WD-1"}),
        ("held", "batch:build", "bank.treasury", {"batch_id": "TSB-1", "currency": "CNY", "channel": "NURG"}),
        ("built", "batch:add", "bank.treasury", {"batch_id": "TSB-1", "page": 1, "instruction_ids": ["WD-1"]}),
        ("batched", "batch:close", "bank.treasury", {"batch_id": "TSB-1"}),
        ("closed", "batch:approve", "bank.all", {}),
        ("approved", "batch:send", "bank.treasury", {"batch_id": "TSB-1", "page": 1, "transport_reference": "T-1"}),
        ("sent", "instruction:confirm", "bank.treasury", {"instruction_id": "WD-1", **BOOKED}),
    ]

    def ready(world: World) -> Call:
        with_policy(world)
        bound(world)
        world.credit(CORE, 5_000)
        requested = {"account_id": CORE, "binding_id": "B-1", "amount_minor": 1_000, "fee_minor": 100}
        world.do("instruction:request", "core.operator", instruction_id="WD-1", **requested)
        for stop, name, person, more in steps:
            if stop == state:
                break
            world.do(name, person, **(more or totals(world)))
        return Call(by, input)

    return ready


def totals(world: World) -> dict[str, Any]:
    """What the second officer states of TSB-1."""
    known = world.read("batch:get", batch_id="TSB-1")["batch"]
    return {name: known[name] for name in ("batch_id", "count", "sum_minor", "digest")}


def asked(**input: Any) -> Callable[[World], Call]:
    """A withdrawal can be asked for."""

    def ready(world: World) -> Call:
        with_policy(world)
        bound(world)
        world.credit(CORE, 5_000)
        values = {"instruction_id": "WD-1", "account_id": CORE, "binding_id": "B-1", "amount_minor": 1_000}
        return Call("core.operator", {**values, "fee_minor": 100, **input})

    return ready


def approve_batch(world: World) -> Call:
    withdrawal("closed")(world)
    return Call("bank.all", totals(world))


def step(name: str, by: str, **input: Any) -> Callable[[World], None]:
    return lambda world: void(world.do(name, by, **input))


def batch_approved(world: World) -> None:
    world.do("batch:approve", "bank.all", **totals(world))


def second_batch(world: World) -> None:
    world.do("batch:build", "bank.treasury", batch_id="TSB-2", currency="CNY", channel="NURG")


def dollar_batch(world: World) -> None:
    world.do("batch:build", "bank.treasury", batch_id="TSB-2", currency="USD", channel="NURG")


def added(world: World) -> None:
    world.do("batch:add", "bank.treasury", batch_id="TSB-1", page=1, instruction_ids=["WD-1"])


def added_elsewhere(world: World) -> None:
    second_batch(world)
    world.do("batch:add", "bank.treasury", batch_id="TSB-2", page=1, instruction_ids=["WD-1"])


def release_ready(world: World) -> Call:
    withdrawal("approved")(world)
    world.do("batch:propose_release", "bank.treasury", batch_id="TSB-1", reason="Never received")
    return Call("bank.all", {"batch_id": "TSB-1", "page": 1})


def second_approved(world: World) -> None:
    """Another approved batch, with no proposed release."""
    requested = {"account_id": CORE, "binding_id": "B-1", "amount_minor": 500, "fee_minor": 100}
    world.do("instruction:request", "core.operator", instruction_id="WD-2", **requested)
    world.do("instruction:approve", "core.approver", instruction_id="WD-2")
    second_batch(world)
    world.do("batch:add", "bank.treasury", batch_id="TSB-2", page=1, instruction_ids=["WD-2"])
    world.do("batch:close", "bank.treasury", batch_id="TSB-2")
    known = world.read("batch:get", batch_id="TSB-2")["batch"]
    stated = {name: known[name] for name in ("batch_id", "count", "sum_minor", "digest")}
    world.do("batch:approve", "bank.all", **stated)


def entry_booked(world: World) -> None:
    world.do("bank_entry:record", "bank.treasury", **entry(entry_id="BE-W"))


def returned(world: World) -> Call:
    """WD-1 was booked and comes back; the fee is an open credit of the fee account."""
    withdrawal("confirmed")(world)
    fee = world.read("credit:list", account_id="A-FEE-CNY")["items"][0]["credit_id"]
    return Call("bank.treasury", {"instruction_id": "WD-1", **BOOKED, "entry_id": "BE-R", "folds": [fee]})


def came_back(world: World) -> None:
    """WD-1 came back already, by another entry."""
    fee = world.read("credit:list", account_id="A-FEE-CNY")["items"][0]["credit_id"]
    input = {**BOOKED, "entry_id": "BE-Z", "folds": [fee]}
    world.do("instruction:take_back", "bank.treasury", instruction_id="WD-1", **input)


def case_at(state: str) -> Callable[[World], None]:
    """A case of suspense over 700 is in a state; by treasury."""

    def arrange(world: World) -> None:
        recorded(world)
        if state == "new":
            return
        world.do("suspense:assign", "bank.treasury", entry_id="BE-X")
        if state == "assigned":
            return
        proposal = {"resolution": "credit_account", "reason": "Payer found", "account_id": CORE}
        world.do("suspense:propose", "bank.treasury", entry_id="BE-X", **proposal)

    return arrange


def resolved(world: World) -> None:
    world.do("suspense:approve", "bank.all", entry_id="BE-X")


def counter_of_other_amount(world: World) -> None:
    """BE-X is to be set off against an entry of another amount."""
    other = entry(entry_id="BE-Y", amount_minor=1, direction="D", account_id=None)
    world.do("bank_entry:record", "bank.treasury", **other, suspense_reason="debit_without_instruction")
    proposal = {"resolution": "return_to_payer", "reason": "Sent back", "counter_entry_id": "BE-Y"}
    world.do("suspense:propose", "bank.treasury", entry_id="BE-X", **proposal)


def account_of_other_currency(world: World) -> None:
    world.do("account:open", "bank.treasury", known_account_id=CORE, currency="USD")
    proposal = {"resolution": "credit_account", "reason": "Payer found", "account_id": "A-M-CORE-USD"}
    world.do("suspense:propose", "bank.treasury", entry_id="BE-X", **proposal)


def loss_without_funding(world: World) -> None:
    """A debit is to be written off, but the funding account has no settled money."""
    other = entry(entry_id="BE-Y", amount_minor=5, direction="D", account_id=None)
    world.do("bank_entry:record", "bank.treasury", **other, suspense_reason="debit_without_instruction")
    world.do("suspense:assign", "bank.treasury", entry_id="BE-Y")
    world.do("suspense:propose", "bank.treasury", entry_id="BE-Y", resolution="write_off", reason="Lost")


B0 = case("batch_not_found", batch_id="TSB-0")
W0 = case("instruction_not_found", instruction_id="WD-0")
NOT_BANK = case("bank_identity_required", by="core.treasury")

SCENES = (
    Scene(
        "binding:request",
        at(nothing, "core.operator", binding_id="B-1", **BANK_ACCOUNT),
        (
            alone("account_not_found", account_id="A-M-NONE-CNY"),
            case("binding_exists", lambda world: bound(world)),
            case("not_owner", by="warehouse.operator"),
            case("binding_name_differs", holder_name="Core Trading Limited"),
        ),
    ),
    *(
        Scene(
            f"binding:{verb}",
            at(lambda world: bound(world, "requested"), "bank.treasury", binding_id="B-1", **more),
            (
                case("binding_not_found", binding_id="B-0"),
                NOT_BANK,
                case("state_wrong", step("binding:verify", "bank.treasury", binding_id="B-1")),
            ),
        )
        for verb, more in (("verify", {}), ("refuse", {"reason": "Wrong name"}))
    ),
    Scene(
        "binding:unbind",
        at(bound, "core.operator", binding_id="B-1", reason="Closed"),
        (
            case("binding_not_found", binding_id="B-0"),
            case("not_owner", by="warehouse.operator"),
            case("state_wrong", step("binding:unbind", "bank.treasury", binding_id="B-1", reason="Closed")),
        ),
    ),
    Scene("binding:get", at(bound, "", binding_id="B-1"), (case("binding_not_found", binding_id="B-0"),)),
    Scene("binding:list", at(bound, "", member_id="M-CORE")),
    Scene(
        "instruction:request",
        asked(),
        (
            alone("account_not_found", account_id="A-M-NONE-CNY"),
            case("binding_not_found", binding_id="B-0"),
            case(
                "instruction_exists",
                lambda world: void(world.do("instruction:request", "core.operator", **asked_again())),
            ),
            case("not_owner", by="warehouse.operator"),
            alone("binding_unverified", step("binding:unbind", "core.operator", binding_id="B-1", reason="Closed")),
            case("fee_differs", fee_minor=99),
        ),
    ),
    Scene(
        "instruction:approve",
        withdrawal("requested", "core.approver", instruction_id="WD-1"),
        (
            W0,
            case("not_owner", by="warehouse.approver"),
            alone("state_wrong", step("instruction:approve", "core.approver", instruction_id="WD-1")),
            alone("same_person", lambda world: large(world, "core.all"), by="core.all", instruction_id="WD-9"),
            case("funds_insufficient", lambda world: large(world, "core.operator"), instruction_id="WD-9"),
        ),
    ),
    Scene(
        "instruction:cancel",
        withdrawal("held", "core.operator", instruction_id="WD-1", reason="Mistake"),
        (
            W0,
            case("not_owner", by="warehouse.operator"),
            case("state_wrong", step("instruction:cancel", "core.operator", instruction_id="WD-1", reason="x")),
        ),
    ),
    Scene(
        "instruction:accept",
        withdrawal("sent", instruction_id="WD-1"),
        (W0, NOT_BANK, case("state_wrong", step("instruction:accept", "bank.treasury", instruction_id="WD-1"))),
    ),
    Scene(
        "instruction:confirm",
        withdrawal("sent", instruction_id="WD-1", **BOOKED),
        (
            W0,
            case("bank_entry_exists", entry_booked),
            NOT_BANK,
            case("state_wrong", step("instruction:reject", "bank.treasury", instruction_id="WD-1", reason="AC04")),
            case("entry_differs", amount_minor=999),
        ),
    ),
    Scene(
        "instruction:reject",
        withdrawal("sent", instruction_id="WD-1", reason="AC04"),
        (
            W0,
            NOT_BANK,
            case("state_wrong", step("instruction:reject", "bank.treasury", instruction_id="WD-1", reason="AC04")),
        ),
    ),
    Scene(
        "instruction:take_back",
        returned,
        (
            W0,
            case("bank_entry_exists", entry_id="BE-W"),
            NOT_BANK,
            alone("state_wrong", came_back),
            case("entry_differs", amount_minor=999),
            case("funds_insufficient", folds=[]),
        ),
    ),
    Scene("instruction:get", withdrawal("requested", "", instruction_id="WD-1"), (W0,)),
    Scene("instruction:list", withdrawal("requested", "", account_id=CORE)),
    Scene(
        "batch:build",
        at(nothing, "bank.treasury", batch_id="TSB-2", currency="CNY", channel="NURG"),
        (case("batch_exists", second_batch), NOT_BANK),
    ),
    Scene(
        "batch:add",
        withdrawal("built", batch_id="TSB-1", page=1, instruction_ids=["WD-1"]),
        (
            B0,
            case("batch_page_exists", added),
            case("instruction_not_found", instruction_ids=["WD-0"]),
            NOT_BANK,
            alone(
                "state_wrong",
                lambda world: (added(world), void(world.do("batch:close", "bank.treasury", batch_id="TSB-1")))[1],
                page=2,
            ),
            case("instruction_repeated", instruction_ids=["WD-1", "WD-1"]),
            alone("state_wrong", added_elsewhere),
            case("batch_mixed", dollar_batch, batch_id="TSB-2"),
        ),
    ),
    Scene(
        "batch:close",
        withdrawal("batched", batch_id="TSB-1"),
        (
            B0,
            NOT_BANK,
            alone("state_wrong", step("batch:close", "bank.treasury", batch_id="TSB-1")),
            case("batch_empty", second_batch, batch_id="TSB-2"),
        ),
    ),
    Scene(
        "batch:approve",
        approve_batch,
        (
            B0,
            NOT_BANK,
            alone("state_wrong", batch_approved),
            case("same_person", by="bank.treasury"),
            case("batch_differs", count=2),
        ),
    ),
    Scene(
        "batch:send",
        withdrawal("approved", batch_id="TSB-1", page=1, transport_reference="T-1"),
        (
            B0,
            NOT_BANK,
            case("state_wrong", step("batch:send", "bank.treasury", batch_id="TSB-1", page=1, transport_reference="T")),
            case("page_wrong", page=2),
        ),
    ),
    Scene(
        "batch:propose_release",
        withdrawal("approved", batch_id="TSB-1", reason="Never received"),
        (B0, NOT_BANK, case("state_wrong", second_batch, batch_id="TSB-2")),
    ),
    Scene(
        "batch:release",
        release_ready,
        (
            B0,
            NOT_BANK,
            alone("state_wrong", step("batch:release", "bank.all", batch_id="TSB-1", page=1)),
            alone("proposal_missing", second_approved, batch_id="TSB-2"),
            case("same_person", by="bank.treasury"),
            case("page_wrong", page=2),
        ),
    ),
    Scene("batch:get", withdrawal("closed", "", batch_id="TSB-1"), (B0,)),
    Scene("batch:list", withdrawal("built", "")),
    Scene(
        "bank_file:record",
        at(nothing, "bank.treasury", **FILE),
        (
            NOT_BANK,
            case("file_reused", step("bank_file:record", "bank.treasury", **{**FILE, "content_digest": "cd" * 32})),
        ),
    ),
    Scene(
        "bank_file:get",
        at(step("bank_file:record", "bank.treasury", **FILE), "", sender="BANK/1", message_id="MSG-1"),
        (case("bank_file_not_found", message_id="MSG-0"),),
    ),
    Scene("bank_file:list", at(step("bank_file:record", "bank.treasury", **FILE), "")),
    Scene(
        "suspense:assign",
        at(case_at("new"), "bank.treasury", entry_id="BE-X"),
        (
            case("suspense_not_found", entry_id="BE-0"),
            NOT_BANK,
            case("state_wrong", lambda world: (case_at("proposed"), proposed_after(world))[1]),
        ),
    ),
    Scene(
        "suspense:propose",
        at(
            case_at("assigned"),
            "bank.treasury",
            entry_id="BE-X",
            resolution="credit_account",
            reason="Found",
            account_id=CORE,
        ),
        (
            case("suspense_not_found", entry_id="BE-0"),
            alone("suspense_not_found", counter_entry_id="BE-0"),
            case("account_not_found", account_id="A-M-NONE-CNY"),
            NOT_BANK,
            case("resolution_invalid", resolution="write_off"),
            case("state_wrong", lambda world: (proposed_after(world, assigned=True), resolved(world))[1]),
        ),
    ),
    Scene(
        "suspense:approve",
        at(case_at("proposed"), "bank.all", entry_id="BE-X"),
        (
            case("suspense_not_found", entry_id="BE-0"),
            NOT_BANK,
            alone("state_wrong", resolved),
            case("same_person", by="bank.treasury"),
            alone("counter_differs", counter_of_other_amount),
            alone("currency_differs", account_of_other_currency),
            case("funds_insufficient", loss_without_funding, entry_id="BE-Y"),
        ),
    ),
)


def asked_again() -> dict[str, Any]:
    values = {"instruction_id": "WD-1", "account_id": CORE, "binding_id": "B-1"}
    return {**values, "amount_minor": 1_000, "fee_minor": 100}


def large(world: World, by: str) -> None:
    """A withdrawal of more than there is."""
    values = {"instruction_id": "WD-9", "account_id": CORE, "binding_id": "B-1", "amount_minor": 9_000}
    world.do("instruction:request", by, **values, fee_minor=100)


def proposed_after(world: World, assigned: bool = False) -> None:
    """Brings the case at hand to a proposal."""
    if not assigned:
        world.do("suspense:assign", "bank.treasury", entry_id="BE-X")
    proposal = {"resolution": "credit_account", "reason": "Payer found", "account_id": CORE}
    world.do("suspense:propose", "bank.treasury", entry_id="BE-X", **proposal)
