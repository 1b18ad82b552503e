"""Ratings are enforced: the grade in force decides, an expired one gives the cautious row."""

import pytest

from tests.chaincode.contract.scenes.credit import RATING, approved
from tests.chaincode.contract.world import POLICIES, Refused, World


def rate(world: World, **other: object) -> None:
    rating = {**RATING, "member_id": "M-SUPPLIER", **other}
    world.do("rating:record", "bank.all", **rating)
    world.do("rating:approve", "bank.scorer", rating_id=rating["rating_id"])


def transfer(world: World) -> None:
    input = {"to_member_id": "M-SECOND", "amount_minor": 900, "recourse": False}
    world.do("voucher:transfer", "supplier.operator", voucher_id="V-1", **input)


def test_defaulted_company_may_only_repay_and_recovers_with_the_next_rating() -> None:
    world = World().found().voucher("signed_off")
    approved(world)
    rate(world, grade="D", default_id="V-0", pd_bp=10_000)
    with pytest.raises(Refused, match="grade_too_low"):
        transfer(world)
    rate(world, rating_id="RT-2", grade="A1", pd_bp=50)
    transfer(world)


def test_expired_rating_gives_the_cautious_row() -> None:
    world = World().found().voucher("signed_off")
    approved(world)
    rate(world, grade="D", default_id="V-0", pd_bp=10_000, valid_until="2026-01-06")
    world.next_day()
    with pytest.raises(Refused, match="Grade D"):
        transfer(world)
    world.next_day()
    transfer(world)


def test_override_moves_the_grade_and_holds_half_as_long() -> None:
    world = World().found()
    approved(world)
    override = {**RATING, "grade": "A1", "notches": -1, "override_reason": "Guarantee of the parent"}
    with pytest.raises(Refused, match="46 are allowed"):
        world.do("rating:record", "bank.all", **override)
    world.do("rating:record", "bank.all", **{**override, "valid_until": "2026-02-20"})


def test_rating_needs_its_policy() -> None:
    world = World(policies=[value for value in POLICIES if value["name"] != "rating"]).found()
    approved(world)
    with pytest.raises(Refused, match="policy_missing"):
        world.do("rating:record", "bank.all", **RATING)
