"""Scenes of tariffs, models, ratings and evidence."""

from collections.abc import Callable
from typing import Any

from tests.chaincode.contract.scene import Scene, alone, case, nothing
from tests.chaincode.contract.scenes.member import at, void
from tests.chaincode.contract.world import DIGEST, FIRST_DATE, World

TARIFF = {
    "tariff_id": "T-1",
    "product": "discount",
    "currency": "CNY",
    "rate_ppm": 43_500,
    "basis": "ACT/360",
    "fee_flat_minor": 0,
    "fee_ppm": 1_000,
    "fee_min_minor": 100,
    "fee_max_minor": 50_000,
    "recourse": True,
    "least_grade": "B2",
    "days_max": 180,
    "valid_from": FIRST_DATE,
    "valid_until": "2026-06-30",
}
SCALE = [{"grade": "A1", "pd_bp_max": 100}, {"grade": "B1", "pd_bp_max": 900}, {"grade": "C2", "pd_bp_max": 10_000}]
MODEL = {
    "model_digest": DIGEST,
    "target": "late 30 days",
    "horizon_days": 92,
    "scale": SCALE,
    "feature_digest": DIGEST,
    "card_digest": DIGEST,
    "reason_codes_max": 40,
    "valid_until": "2026-12-31",
}
RATING = {
    "rating_id": "RT-1",
    "member_id": "M-CORE",
    "model_digest": DIGEST,
    "grade": "B1",
    "pd_bp": 450,
    "as_of_date": FIRST_DATE,
    "as_of_block": 7,
    "as_of_hash": DIGEST,
    "valid_until": "2026-03-31",
    "input_digest": DIGEST,
    "reason_codes": [3, 11],
}
EVIDENCE = {
    "evidence_id": "E-1",
    "digest": DIGEST,
    "description": "Delivery note",
    "subject_word": "voucher",
    "subject_id": "V-1",
}


def offered(world: World) -> None:
    world.do("tariff:offer", "bank.preliminary_officer", **TARIFF)


def proposed(world: World) -> None:
    world.do("model:propose", "bank.all", **MODEL)


def approved(world: World) -> None:
    proposed(world)
    world.do("model:approve", "bank.analyst", model_digest=DIGEST)


def retired(world: World) -> None:
    world.do("model:retire", "bank.analyst", model_digest=DIGEST, reason="Too lenient")


def recorded(world: World, **other: Any) -> None:
    approved(world)
    world.do("rating:record", "bank.all", **{**RATING, **other})


def rated(world: World) -> None:
    world.do("rating:approve", "bank.scorer", rating_id="RT-1")


def later_first(world: World) -> None:
    """A rating as of the next day comes into force before the recorded one."""
    world.next_day()
    later = {**RATING, "rating_id": "RT-2", "as_of_date": "2026-01-06"}
    world.do("rating:record", "bank.all", **later)
    world.do("rating:approve", "bank.scorer", rating_id="RT-2")


def step(name: str, by: str, **input: Any) -> Callable[[World], None]:
    return lambda world: void(world.do(name, by, **input))


def exists(world: World) -> None:
    world.do("rating:record", "bank.scorer", **RATING)


M0 = case("model_not_found", model_digest="00" * 32)

SCENES = (
    Scene(
        "tariff:offer",
        at(nothing, "bank.preliminary_officer", **TARIFF),
        (
            case("tariff_exists", offered),
            case("currency_unknown", currency="XXX"),
            case("fee_bounds_invalid", fee_min_minor=50_001),
            case("expiry_passed", valid_until=FIRST_DATE),
        ),
    ),
    Scene(
        "tariff:withdraw",
        at(offered, "bank.final_officer", tariff_id="T-1", reason="Rates rose"),
        (
            case("tariff_not_found", tariff_id="T-0"),
            case("not_owner", by="core.final_officer"),
            case("state_wrong", step("tariff:withdraw", "bank.final_officer", tariff_id="T-1", reason="Rates rose")),
        ),
    ),
    Scene("tariff:get", at(offered, "", tariff_id="T-1"), (case("tariff_not_found", tariff_id="T-0"),)),
    Scene("tariff:list", at(offered, "", funder_id="M-BANK")),
    Scene(
        "model:propose",
        at(nothing, "bank.analyst", **MODEL),
        (
            case("scale_invalid", scale=SCALE[:2]),
            case("model_exists", proposed),
            case("expiry_passed", valid_until=FIRST_DATE),
        ),
    ),
    Scene(
        "model:approve",
        at(proposed, "bank.analyst", model_digest=DIGEST),
        (M0, alone("state_wrong", retired), case("same_person", by="bank.all")),
    ),
    Scene(
        "model:retire",
        at(approved, "bank.analyst", model_digest=DIGEST, reason="Too lenient"),
        (M0, case("state_wrong", retired)),
    ),
    Scene("model:get", at(proposed, "", model_digest=DIGEST), (M0,)),
    Scene("model:list", at(proposed, "")),
    Scene(
        "rating:record",
        at(approved, "bank.scorer", **RATING),
        (
            case("rating_exists", exists),
            case("member_not_found", member_id="M-NONE"),
            M0,
            case("model_not_approved", retired),
            case("reason_code_unknown", reason_codes=[41]),
            alone("override_invalid", notches=1),
            alone("default_missing", grade="D"),
            case("grade_differs", grade="A1"),
            case("as_of_invalid", as_of_date="2026-01-06"),
            case("validity_too_long", valid_until="2026-04-09"),
        ),
    ),
    Scene(
        "rating:approve",
        at(recorded, "bank.scorer", rating_id="RT-1"),
        (
            case("rating_not_found", rating_id="RT-0"),
            case("model_not_approved", retired),
            alone("state_wrong", rated),
            case("same_person", by="bank.all"),
            case("as_of_invalid", later_first),
        ),
    ),
    Scene("rating:get", at(recorded, "", rating_id="RT-1"), (case("rating_not_found", rating_id="RT-0"),)),
    Scene("rating:list", at(recorded, "", member_id="M-CORE")),
    Scene(
        "evidence:record",
        at(nothing, "core.operator", **EVIDENCE),
        (case("evidence_exists", step("evidence:record", "bank.all", **EVIDENCE)),),
    ),
    Scene(
        "evidence:get",
        at(step("evidence:record", "core.operator", **EVIDENCE), "", evidence_id="E-1"),
        (case("evidence_not_found", evidence_id="E-0"),),
    ),
    Scene(
        "evidence:list",
        at(step("evidence:record", "core.operator", **EVIDENCE), "", digest=DIGEST),
        (case("list_invalid", member_id="M-CORE"),),
    ),
)
