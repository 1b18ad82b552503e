"""Scenes of vouchers."""

from collections.abc import Callable
from typing import Any

from tests.chaincode.contract.scene import Call, Scene, alone, case
from tests.chaincode.contract.scenes.member import void
from tests.chaincode.contract.world import FIRST_DATE, World

REASON = "Wrong amount"


def fresh(world: World) -> Call:
    """A draft over one invoice can be registered."""
    world.join("supplier").join("second")
    world.quota()
    return Call("core.operator", world.draft(world.invoice()))


def in_state(state: str, by: str, **input: Any) -> Callable[[World], Call]:
    """A voucher V-1 is in a state."""

    def ready(world: World) -> Call:
        world.voucher(state)
        return Call(by, {"voucher_id": "V-1", **input})

    return ready


def change(world: World) -> Call:
    world.voucher("submitted")
    world.do("voucher:send_back", "core.reviewer", voucher_id="V-1", reason=REASON)
    return Call("core.operator", world.draft(world.invoice("2"), amount_minor=800))


def issue(world: World) -> Call:
    world.voucher("approved")
    return Call("core.approver", {"voucher_id": "V-1", **world.issue()})


def transfer(world: World) -> Call:
    world.voucher("signed_off")
    part = {"part_id": "V-1A", "part_number": "V-1-1", "rest_number": "V-1-2"}
    return Call(
        "supplier.operator",
        {"voucher_id": "V-1", "to_member_id": "M-SECOND", "amount_minor": 300, "recourse": False, **part},
    )


def moved(name: str, by: str, **input: Any) -> Callable[[World], None]:
    """One more step with the voucher."""
    return lambda world: void(world.do(name, by, voucher_id="V-1", **input))


def used(world: World) -> None:
    """Another voucher uses most of the invoice."""
    invoice_id = world.read("invoice:list", member_id="M-CORE")["items"][0]["invoice_id"]
    world.do("voucher:register", "core.operator", **world.draft(invoice_id, "V-9", 900))


def used_by_other(world: World) -> None:
    world.do("voucher:register", "core.operator", **world.draft(world.invoice_id("2"), "V-8", 300))


def taken(world: World) -> None:
    world.do("voucher:register", "core.operator", **world.draft(world.invoice("3")))


def applied(world: World) -> None:
    world.apply("factor")


def matured(world: World) -> None:
    """The payment date of the voucher comes."""
    world.until("2026-01-30")


def credited(world: World) -> None:
    """A credit note takes the invoice off after its use."""
    record = world.read("voucher:get", voucher_id="V-1")["voucher"]
    note = {"kind": "credit", "reduces_id": record["invoices"][0]["invoice_id"], "amount_minor": 200}
    world.invoice("note", **note)


def slices(*uses: tuple[int, int], quota_id: str = "Q-1") -> list[dict[str, Any]]:
    return [{"quota_id": quota_id, "slice": number, "amount_minor": amount} for number, amount in uses]


def all_registers(world: World) -> None:
    """The person with all roles registers and submits another voucher."""
    world.do("voucher:register", "core.all", **world.draft(world.invoice("5"), "V-5"))
    world.do("voucher:submit", "core.all", voucher_id="V-5")


def all_approves(world: World) -> None:
    """The person with all roles approves another voucher."""
    world.do("voucher:register", "core.operator", **world.draft(world.invoice("5"), "V-5"))
    world.do("voucher:submit", "core.operator", voucher_id="V-5")
    world.do("voucher:approve", "core.all", voucher_id="V-5")


def all_transfers(world: World) -> None:
    world.do("voucher:recall", "supplier.operator", voucher_id="V-1", reason=REASON)
    input = {"to_member_id": "M-SECOND", "amount_minor": 900, "recourse": False}
    world.do("voucher:transfer", "supplier.all", voucher_id="V-1", **input)


def disputed_offer(world: World) -> None:
    """A second voucher is on its way to the second company when core disputes it."""
    world.voucher("transferring", "V-2")
    world.do("voucher:dispute", "core.approver", voucher_id="V-2", reason=REASON)


def issuance_stopped(world: World) -> None:
    """Another voucher of core, due earlier, is not paid."""
    world.voucher("signed_off", "V-2", due_date="2026-01-20").settle("funded", 0, "ST-2", "2026-01-20")


def in_default(world: World) -> Call:
    """V-1 is overdue beyond its grace; V-2 falls due today."""
    world.voucher("signed_off").voucher("signed_off", "V-2", due_date="2026-02-06")
    world.settle("", 0).until("2026-02-06")
    return Call("supplier.approver", {"voucher_id": "V-1", "reason": "Not paid"})


def second_overdue(world: World) -> None:
    world.settle("", 0, "ST-2", "2026-02-06")


def split_first(world: World) -> None:
    part = {"part_id": "V-1A", "part_number": "V-1-1", "rest_number": "V-1-2"}
    input = {"to_member_id": "M-SECOND", "amount_minor": 300, "recourse": False, **part}
    world.do("voucher:transfer", "supplier.operator", voucher_id="V-1", **input)


def disputed_and_paid(world: World) -> Call:
    """V-1 was paid while core disputed it; V-2 is disputed too and due a day later."""
    world.voucher("signed_off").voucher("signed_off", "V-2", due_date="2026-02-02")
    for voucher_id in ("V-1", "V-2"):
        world.do("voucher:dispute", "core.approver", voucher_id=voucher_id, reason="Goods came late")
    world.credit("A-M-CORE-CNY", 1_500)
    world.settle()
    return Call("core.approver", {"voucher_id": "V-1", "reason": "Agreed"})


def split_in_dispute(world: World) -> None:
    """V-2 is paid in part, so that the whole is closed as split."""
    world.settle("", 500, "ST-2", "2026-02-02")


def late(world: World) -> Call:
    """V-1 was paid seven days late; V-2 over 100 is due on that day and core has just these 100."""
    world.voucher("signed_off").voucher("signed_off", "V-2", 100, due_date="2026-02-06")
    world.settle("", 0).until("2026-02-06")
    world.credit("A-M-CORE-CNY", 1_000)
    world.settle("", 900, "ST-2")
    return Call("core.approver", {"voucher_id": "V-1"})


def core_spent(world: World) -> None:
    world.settle("", 100, "ST-3", "2026-02-06", 100)


def quota_of_supplier(world: World) -> None:
    world.quota("Q-S", "M-SUPPLIER")


def quota_ended(world: World) -> None:
    world.do("quota:end", "bank.final_officer", quota_id="Q-1", reason="Risk")


def quota_short(world: World) -> None:
    world.quota("Q-T", valid_from="2026-02-01")


def quota_usd(world: World) -> None:
    world.quota("Q-U", currency="USD")


def part_exists(world: World) -> None:
    world.do("voucher:register", "core.operator", **world.draft(world.invoice("6"), "V-1A"))


def second_invoice_usd(world: World) -> None:
    world.invoice("usd", currency="USD")


def unbacked(world: World) -> Call:
    """A batch of three rows, the second of which is refused."""
    world.join("supplier")
    invoice_id = world.invoice()
    rows = [
        world.draft(invoice_id, "V-1", 400),
        {**world.draft(invoice_id, "V-2", 400), "receiver_id": "M-NONE"},
        world.draft(invoice_id, "V-3", 400),
        world.draft(invoice_id, "V-4", 400),
    ]
    return Call("core.operator", {"rows": rows})


EXPENSIVE = {"due_date": "2026-12-31"}

DRAFT_CASES_1 = (
    case("receiver_is_issuer", receiver_id="M-CORE"),
    case(
        "invoice_repeated",
        invoices=[{"invoice_id": "I-X", "amount_minor": 1}, {"invoice_id": "I-X", "amount_minor": 2}],
    ),
)
INVOICE_NONE = case("invoice_not_found", invoices=[{"invoice_id": "I-NONE", "amount_minor": 900}])
DRAFT_CASES_2 = (
    alone("member_not_real_named", applied, receiver_id="M-FACTOR", invoices=[]),
    case("currency_unknown", currency="XXX"),
    alone("due_date_passed", due_date=FIRST_DATE),
    case("calendar_year_missing", due_date="2027-01-04"),
    case("tenor_too_long", due_date="2026-08-31"),
    case("invoice_sum_differs", amount_minor=899),
    alone("currency_differs", currency="USD"),
)

SCENES = (
    Scene(
        "voucher:register",
        fresh,
        (
            *DRAFT_CASES_1,
            case("voucher_exists", taken),
            alone("member_not_found", receiver_id="M-NONE"),
            alone("invoice_not_found", invoices=[{"invoice_id": "I-NONE", "amount_minor": 900}]),
            alone("invoice_parties_differ", receiver_id="M-SECOND"),
            *DRAFT_CASES_2,
            case("invoice_used_up", used),
        ),
    ),
    Scene("voucher:register_batch", unbacked),
    Scene(
        "voucher:change",
        change,
        (
            *DRAFT_CASES_1,
            case("voucher_not_found", voucher_id="V-0"),
            alone("member_not_found", receiver_id="M-NONE"),
            INVOICE_NONE,
            alone("not_issuer", by="supplier.operator", receiver_id="M-SECOND"),
            alone("invoice_parties_differ", receiver_id="M-SECOND"),
            case("state_wrong", moved("voucher:cancel", "core.approver", reason=REASON)),
            *DRAFT_CASES_2,
            alone("invoice_used_up", used_by_other),
        ),
    ),
    Scene(
        "voucher:submit",
        in_state("draft", "core.operator"),
        (
            case("voucher_not_found", voucher_id="V-0"),
            case("not_issuer", by="supplier.operator"),
            case("state_wrong", moved("voucher:submit", "core.operator")),
        ),
    ),
    Scene(
        "voucher:send_back",
        in_state("submitted", "core.reviewer", reason=REASON),
        (
            case("voucher_not_found", voucher_id="V-0"),
            case("not_issuer", by="supplier.reviewer"),
            alone("state_wrong", moved("voucher:approve", "core.reviewer")),
            case("same_person", all_registers, by="core.all", voucher_id="V-5"),
        ),
    ),
    Scene(
        "voucher:approve",
        in_state("submitted", "core.reviewer"),
        (
            case("voucher_not_found", voucher_id="V-0"),
            case("not_issuer", by="supplier.reviewer"),
            alone("state_wrong", moved("voucher:approve", "core.reviewer")),
            case("same_person", all_registers, by="core.all", voucher_id="V-5"),
        ),
    ),
    Scene(
        "voucher:issue",
        issue,
        (
            case("voucher_not_found", voucher_id="V-0"),
            alone("quota_not_found", slices=slices((1, 900), quota_id="Q-0")),
            case("not_issuer", by="supplier.approver"),
            alone("not_owner", quota_of_supplier, slices=slices((1, 900), quota_id="Q-S")),
            alone("state_wrong", moved("voucher:cancel", "core.approver", reason=REASON)),
            alone("same_person", all_approves, by="core.all", voucher_id="V-5"),
            alone("issuance_stopped", issuance_stopped),
            case("voucher_matured", matured),
            alone("slice_repeated", slices=slices((1, 400), (1, 500))),
            alone("quota_required", slices=[]),
            alone("state_wrong", quota_ended),
            alone("quota_expired", quota_short, slices=slices((1, 900), quota_id="Q-T")),
            alone("currency_differs", quota_usd, slices=slices((1, 900), quota_id="Q-U")),
            alone("quota_exceeded", lambda world: void(Other(world).issue())),
            case("invoice_used_up", credited),
        ),
    ),
    Scene(
        "voucher:sign_off",
        in_state("issued", "supplier.operator"),
        (
            case("voucher_not_found", voucher_id="V-0"),
            case("not_receiver", by="second.operator"),
            alone("state_wrong", moved("voucher:refuse", "supplier.operator", reason=REASON)),
            alone("voucher_disputed", disputed_offer, by="second.operator", voucher_id="V-2"),
            case("voucher_matured", matured),
        ),
    ),
    Scene(
        "voucher:refuse",
        in_state("issued", "supplier.operator", reason=REASON),
        (
            case("voucher_not_found", voucher_id="V-0"),
            case("not_receiver", by="second.operator"),
            case("state_wrong", moved("voucher:sign_off", "supplier.operator")),
        ),
    ),
    Scene(
        "voucher:cancel",
        in_state("issued", "core.approver", reason=REASON),
        (
            case("voucher_not_found", voucher_id="V-0"),
            case("not_issuer", by="supplier.approver"),
            case("state_wrong", moved("voucher:sign_off", "supplier.operator")),
        ),
    ),
    Scene(
        "voucher:transfer",
        transfer,
        (
            case("voucher_not_found", voucher_id="V-0"),
            case("member_not_found", to_member_id="M-NONE"),
            case("not_holder", by="second.operator"),
            alone(
                "state_wrong",
                moved(
                    "voucher:transfer", "supplier.operator", to_member_id="M-SECOND", amount_minor=900, recourse=True
                ),
            ),
            alone("voucher_disputed", moved("voucher:dispute", "core.approver", reason=REASON)),
            alone("receiver_is_holder", to_member_id="M-SUPPLIER"),
            alone("member_not_real_named", applied, to_member_id="M-FACTOR"),
            case("voucher_matured", matured),
            alone("amount_above_voucher", amount_minor=901),
            alone("part_superfluous", amount_minor=900),
            alone("part_missing", part_id=None),
            case("voucher_exists", part_exists),
        ),
    ),
    Scene(
        "voucher:approve_transfer",
        in_state("held", "supplier.approver"),
        (
            case("voucher_not_found", voucher_id="V-0"),
            case("not_holder", by="second.approver"),
            alone("state_wrong", moved("voucher:recall", "supplier.approver", reason=REASON)),
            alone("same_person", all_transfers, by="supplier.all"),
            alone("voucher_disputed", moved("voucher:dispute", "core.approver", reason=REASON)),
            case("voucher_matured", matured),
        ),
    ),
    Scene(
        "voucher:recall",
        in_state("held", "supplier.approver", reason=REASON),
        (
            case("voucher_not_found", voucher_id="V-0"),
            case("not_holder", by="second.approver"),
            case("state_wrong", moved("voucher:recall", "supplier.approver", reason=REASON)),
        ),
    ),
    Scene(
        "voucher:default",
        in_default,
        (
            case("voucher_not_found", voucher_id="V-0"),
            case("not_holder", by="second.approver"),
            alone("state_wrong", moved("voucher:default", "supplier.approver", reason=REASON)),
            alone("grace_running", second_overdue, voucher_id="V-2"),
        ),
    ),
    Scene(
        "voucher:dispute",
        in_state("signed_off", "supplier.approver", reason=REASON),
        (
            case("voucher_not_found", voucher_id="V-0"),
            case("not_party", by="second.approver"),
            alone("state_wrong", split_first),
            alone("voucher_disputed", moved("voucher:dispute", "core.approver", reason=REASON)),
            case("voucher_matured", matured),
        ),
    ),
    Scene(
        "voucher:end_dispute",
        disputed_and_paid,
        (
            case("voucher_not_found", voucher_id="V-0"),
            alone("not_owner", by="supplier.approver"),
            case("state_wrong", split_in_dispute, voucher_id="V-2"),
        ),
    ),
    Scene(
        "voucher:pay_penalty",
        late,
        (
            case("voucher_not_found", voucher_id="V-0"),
            alone("not_issuer", by="supplier.approver"),
            alone("state_wrong", voucher_id="V-2"),
            alone("penalty_none", moved("voucher:pay_penalty", "core.approver")),
            case("funds_insufficient", core_spent),
        ),
    ),
    Scene("voucher:get", in_state("draft", ""), (case("voucher_not_found", voucher_id="V-0"),)),
    Scene("voucher:list", lambda world: Call("", {"member_id": in_state("signed_off", "")(world).by or "M-SUPPLIER"})),
    Scene("voucher:history", in_state("held", ""), (case("voucher_not_found", voucher_id="V-0"),)),
)


class Other:
    """Issues another voucher out of the same slice."""

    def __init__(self, world: World) -> None:
        self.world = world

    def issue(self) -> dict[str, Any]:
        """Takes 900 of the 1,000 of slice 3."""
        world = self.world
        world.do("voucher:register", "core.operator", **world.draft(world.invoice("4"), "V-4"))
        world.do("voucher:submit", "core.operator", voucher_id="V-4")
        world.do("voucher:approve", "core.reviewer", voucher_id="V-4")
        return world.do("voucher:issue", "core.approver", voucher_id="V-4", **world.issue("V-1"))
