"""Scenes of policies, calendars, the business date, invoices, quotas and liens."""

from typing import Any

from tests.chaincode.contract.people import person
from tests.chaincode.contract.scene import Call, Scene, alone, case, nothing
from tests.chaincode.contract.scenes.member import at, void
from tests.chaincode.contract.world import CALENDAR_2026, DIGEST, FIRST_DATE, World

TENOR = {"name": "voucher", "tenor_days_max": 90, "invoice_required": True, "quota_required": True}
WITHDRAWAL = {
    "name": "withdrawal",
    "flat_minor": 100,
    "fee_ppm": 0,
    "min_minor": 100,
    "max_minor": 500,
    "refund_fee_on_return": False,
}
NO_CAUTION = {"name": "permission", "cautious": "X", "grades": {"A1": []}, "payment_transactions": []}
CALENDAR_2027 = {"holidays": ["2027-01-01"], "workdays": [], "source": "notice", "digest": DIGEST, "complete": False}
HOLIDAYS = CALENDAR_2026["holidays"]


def second_admin(world: World) -> None:
    """A second admin of core."""
    world.people["core.admin2"] = person("core.admin2", "CoreMSP", unit="admin")


def policy_proposed(world: World) -> None:
    second_admin(world)
    world.do("policy:propose", "core.admin", value=TENOR, from_date="2026-01-06")


def account_policy_proposed(world: World) -> None:
    second_admin(world)
    world.do("policy:propose", "core.admin", chaincode="account", value=WITHDRAWAL, from_date="2026-01-06")


def account_policy(world: World) -> None:
    world.set_policy(WITHDRAWAL, "2026-01-06", "account")


def calendar_proposed(world: World) -> None:
    second_admin(world)
    days = {**CALENDAR_2026, "holidays": [*HOLIDAYS[:2], "2026-01-06", *HOLIDAYS[2:]]}
    world.do("calendar:propose", "core.admin", year=2026, days=days)


def days_closed(world: World, day: str = FIRST_DATE) -> None:
    for currency in ("CNY", "USD"):
        figures = {"closing_ledger_minor": 0, "closing_bank_minor": 0, "report_digest": DIGEST}
        world.do("day:close", "bank.treasury", currency=currency, date=day, **figures)


def advance(world: World) -> Call:
    days_closed(world)
    return Call("bank.treasury", {"from_date": FIRST_DATE, "to_date": "2026-01-06"})


def day_open(world: World) -> None:
    world.do("business_date:advance", "bank.treasury", from_date=FIRST_DATE, to_date="2026-01-06")


def year_end(world: World) -> None:
    """The last business day of the only recorded year."""
    while world.read("business_date:get")["date"] != "2026-12-31":
        world.next_day()
    days_closed(world, "2026-12-31")


def supplied(world: World) -> None:
    world.join("supplier")


def paper(**other: Any) -> dict[str, Any]:
    values = {
        "kind": "invoice",
        "supplier_id": "M-SUPPLIER",
        "buyer_id": "M-CORE",
        "invoice_code": "IC",
        "invoice_number": "7",
        "invoice_date": "2026-01-02",
        "amount_minor": 500,
        "digest": DIGEST,
    }
    return {**values, **other}


def credit_note(world: World) -> Call:
    supplied(world)
    world.join("second")
    return Call("core.operator", paper(kind="credit", reduces_id=world.invoice("1")))


def other_content(world: World) -> None:
    input = paper(kind="credit", reduces_id=world.invoice_id("1"), amount_minor=499)
    world.do("invoice:register", "core.operator", **input)


def other_company(world: World) -> None:
    world.apply("factor")


def invoice_of_second(world: World) -> None:
    """An invoice of another supplier that the note then names."""
    world.invoice("of-second", supplier_id="M-SECOND")


def proposed_quota(world: World) -> None:
    world.do("quota:propose", "bank.preliminary_officer", **quota())


def granted_quota(world: World) -> None:
    world.quota()


def quota(**other: Any) -> dict[str, Any]:
    values = {
        "quota_id": "Q-1",
        "issuer_id": "M-CORE",
        "currency": "CNY",
        "limit_minor": 64_000,
        "valid_from": FIRST_DATE,
        "valid_until": "2026-12-31",
    }
    return {**values, **other}


def both_officers(world: World) -> None:
    """The person with all roles proposes."""
    world.do("quota:propose", "bank.all", **quota(quota_id="Q-2"))


def ended(world: World) -> None:
    world.do("quota:end", "bank.final_officer", quota_id="Q-1", reason="Risk")


def approve_quota(world: World) -> None:
    world.do("quota:approve", "bank.final_officer", quota_id="Q-1")


def invoiced(world: World) -> Call:
    supplied(world)
    return Call("", {"invoice_id": world.invoice()})


def voucher_registered(world: World) -> Call:
    world.voucher("draft")
    record = world.read("voucher:get", voucher_id="V-1")["voucher"]
    return Call("", {"claim_word": "invoice", "claim_id": record["invoices"][0]["invoice_id"]})


def registered_note(world: World) -> Call:
    """Every check of a credit note, which has all those of an invoice and more."""
    return credit_note(world)


SCENES = (
    Scene(
        "policy:propose",
        at(nothing, "core.admin", value=TENOR, from_date="2026-01-06"),
        (
            case("policy_name_unknown", value=WITHDRAWAL),
            case("policy_value_invalid", value=NO_CAUTION),
            case("policy_from_date_passed", from_date=FIRST_DATE),
        ),
        chaincode="trade",
    ),
    Scene(
        "policy:approve",
        at(policy_proposed, "bank.treasury", name="voucher"),
        (
            alone("proposal_missing", name="tariff"),
            alone("same_person", by="core.admin"),
            case("same_organisation", by="core.admin2"),
            case("policy_from_date_passed", lambda world: void(world.next_day())),
        ),
        chaincode="trade",
    ),
    Scene("policy:get", at(nothing, "", name="voucher"), (case("policy_missing", name="tariff"),), chaincode="trade"),
    Scene("policy:list", at(nothing, ""), chaincode="trade"),
    Scene(
        "policy:propose",
        at(nothing, "core.admin", value=WITHDRAWAL, from_date="2026-01-06"),
        (
            case("policy_name_unknown", value=TENOR),
            case("policy_value_invalid", value={**WITHDRAWAL, "min_minor": 600}),
            case("policy_from_date_passed", from_date=FIRST_DATE),
        ),
        chaincode="account",
    ),
    Scene(
        "policy:approve",
        at(account_policy_proposed, "bank.treasury", name="withdrawal"),
        (
            alone("proposal_missing", name="tariff"),
            alone("same_person", by="core.admin"),
            case("same_organisation", by="core.admin2"),
            case("policy_from_date_passed", lambda world: void(world.next_day())),
        ),
        chaincode="account",
    ),
    Scene(
        "policy:get",
        at(account_policy, "", name="withdrawal"),
        (case("policy_missing", name="tariff"),),
        chaincode="account",
    ),
    Scene("policy:list", at(account_policy, ""), chaincode="account"),
    Scene(
        "calendar:propose",
        at(nothing, "core.admin", year=2027, days=CALENDAR_2027),
        (
            alone("calendar_day_invalid", days={**CALENDAR_2027, "holidays": ["2027-01-02"]}),
            case("calendar_day_passed", year=2026, days={**CALENDAR_2026, "holidays": HOLIDAYS[1:]}),
        ),
    ),
    Scene(
        "calendar:approve",
        at(calendar_proposed, "bank.treasury", year=2026),
        (
            alone("proposal_missing", year=2028),
            alone("same_person", by="core.admin"),
            case("same_organisation", by="core.admin2"),
            case("calendar_day_passed", lambda world: void(world.next_day())),
        ),
    ),
    Scene("calendar:get", at(nothing, "", year=2026), (case("calendar_year_missing", year=2027),)),
    Scene("calendar:list", at(nothing, "")),
    Scene(
        "business_date:advance",
        advance,
        (
            case("bank_identity_required", by="core.treasury"),
            case("date_differs", from_date="2026-01-04"),
            alone("calendar_year_missing", year_end, from_date="2026-12-31", to_date="2027-01-01"),
            case("date_not_next", to_date="2026-01-08"),
            case("day_open", day_open, from_date="2026-01-06", to_date="2026-01-07"),
        ),
    ),
    Scene("business_date:get", at(nothing, "")),
    Scene(
        "invoice:register",
        registered_note,
        (
            case("credit_target_missing", kind="invoice"),
            alone("receiver_is_issuer", buyer_id="M-SUPPLIER"),
            alone("member_not_found", supplier_id="M-NONE"),
            case("member_not_found", buyer_id="M-NONE"),
            alone("invoice_not_found", reduces_id="I-NONE"),
            case("not_owner", by="second.operator"),
            alone("invoice_differs", other_content),
            case("member_not_real_named", other_company, supplier_id="M-FACTOR"),
            case("currency_unknown", currency="XXX"),
            alone("invoice_parties_differ", supplier_id="M-SECOND"),
            case("currency_differs", currency="USD"),
            case("credit_too_large", amount_minor=1_001),
        ),
    ),
    Scene("invoice:get", invoiced, (case("invoice_not_found", invoice_id="I-NONE"),)),
    Scene("invoice:list", lambda world: Call("", {"member_id": invoiced(world).by or "M-SUPPLIER"})),
    Scene(
        "quota:propose",
        lambda world: Call("bank.preliminary_officer", quota()),
        (
            case("quota_exists", granted_quota),
            case("member_not_found", issuer_id="M-NONE"),
            case("member_not_real_named", other_company, issuer_id="M-FACTOR"),
            case("currency_unknown", currency="XXX"),
            case("expiry_passed", valid_until=FIRST_DATE),
        ),
    ),
    Scene(
        "quota:approve",
        at(proposed_quota, "bank.final_officer", quota_id="Q-1"),
        (
            case("quota_not_found", quota_id="Q-0"),
            case("not_owner", by="core.final_officer"),
            alone("state_wrong", approve_quota),
            case("same_person", both_officers, by="bank.all", quota_id="Q-2"),
        ),
    ),
    Scene(
        "quota:rebalance",
        at(granted_quota, "bank.final_officer", quota_id="Q-1"),
        (
            case("quota_not_found", quota_id="Q-0"),
            case("not_owner", by="core.final_officer"),
            case("state_wrong", ended),
        ),
    ),
    Scene(
        "quota:end",
        at(granted_quota, "bank.final_officer", quota_id="Q-1", reason="Risk"),
        (
            case("quota_not_found", quota_id="Q-0"),
            case("not_owner", by="core.final_officer"),
            case("state_wrong", ended),
        ),
    ),
    Scene("quota:get", at(granted_quota, "", quota_id="Q-1"), (case("quota_not_found", quota_id="Q-0"),)),
    Scene("quota:list", at(granted_quota, "", issuer_id="M-CORE")),
    Scene("lien:get", voucher_registered, (case("lien_not_found", claim_id="I-NONE"),)),
    Scene("lien:list", lambda world: Call("", {"claim_word": voucher_registered(world).input["claim_word"]})),
)
