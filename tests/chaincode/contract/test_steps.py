"""Every transaction of both chaincodes against its scene: refusals in order, roles, keys, repeats, events.

The tests are complete by construction: a transaction without a scene fails, and so does a refusal of the docstring
without a case, or a case without a refusal of the docstring.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from chaincode.domain.error import CATALOGUE, STATUS
from chaincode.domain.role import ADMIN, CALLERS, PRESENTER, ROLES, SERVICE
from tests.chaincode.contract.people import person
from tests.chaincode.contract.scene import Call, Case, Scene, chaincode_of, described, function_of
from tests.chaincode.contract.scenes import SCENES
from tests.chaincode.contract.world import PROGRAMS, Refused, World

UNREACHED = {
    ("voucher:register", "lien_exists"): "an invoice secures only vouchers yet; tried in test_lien",
    ("voucher:change", "lien_exists"): "as for register",
    ("instruction:request", "policy_missing"): "the scene has the policy; tried in test_money",
    ("rating:record", "policy_missing"): "the world has the policy; tried in test_rating",
    ("settlement:fund", "cut_off_not_reached"): "days are simulated here; tried in test_settlement",
    ("settlement:share", "cut_differs"): "needs more than one page; tried in test_settlement",
}
"""Refusals that no scene can bring about yet, each with the reason; tried in the tests of their domain verb."""


def line_of(description: str, name: str) -> str:
    """One of the four lines of a docstring, joined."""
    match = re.search(rf"^{name}: (.*?)(?=^[A-Z][a-z ]+: |\Z)", description, re.DOTALL | re.MULTILINE)
    assert match is not None, (name, description)
    return " ".join(match[1].split())


def reasons_of(scene: Scene) -> list[str]:
    """Reasons of the line "Must hold", in their order."""
    text = line_of(function_of(scene).description, "Must hold").rstrip(".")
    if text.startswith("nothing more"):
        return []
    return [part.split(" (")[0] for part in re.split(r", (?![^(]*\))", text)]


def label(scene: Scene) -> str:
    return f"{chaincode_of(scene)}.{scene.transaction}"


WRITES = [scene for scene in SCENES if described(scene)["event"] is not None]
REFUSALS = [pytest.param(scene, case, id=f"{label(scene)}-{case.reason}") for scene in SCENES for case in scene.cases]
PAIRS = [
    pytest.param(scene, first, second, id=f"{label(scene)}-{first.reason}-{second.reason}")
    for scene in SCENES
    for first, second in zip(scene.cases, scene.cases[1:], strict=False)
    if not first.alone
]
EACH = [pytest.param(scene, id=label(scene)) for scene in SCENES]
EACH_WRITE = [pytest.param(scene, id=label(scene)) for scene in WRITES]


def refusal(world: World, scene: Scene, call: Call) -> str:
    """The reason with which a call is refused, empty when it is not; checks code and status against the catalogue."""
    name = chaincode_of(scene)
    if described(scene)["event"] is None:
        caller = world.people[call.by or "core.service"].creator
        outcome = world.ledger.evaluate(name, scene.transaction, [json.dumps(dict(call.input))], creator=caller)
    else:
        input = {"request_id": "CASE", **call.input}
        outcome = world.submit(scene.transaction, call.by, input, chaincode=name, transient=call.transient)
    if outcome.status < 400:
        return ""
    match = re.fullmatch(r"([A-Z_]+) ([a-z0-9_]+): (.*)", outcome.message, re.DOTALL)
    assert match is not None, outcome.message
    assert match[2] in CATALOGUE, outcome.message
    assert match[1] == CATALOGUE[match[2]][0]
    assert outcome.status == STATUS[match[1]]
    return match[2]


def test_every_transaction_has_one_scene() -> None:
    declared = [
        f"{name}.{word}:{verb}"
        for name, program in PROGRAMS.items()
        for word, contract in program.contracts.items()
        for verb in contract.transactions
    ]
    played = [label(scene) for scene in SCENES]
    assert sorted(played) == sorted(name for name in declared if name != "account.account:post")


@pytest.mark.parametrize("scene", EACH)
def test_cases_are_the_reasons_of_the_docstring_in_order(scene: Scene) -> None:
    wanted = [reason for reason in reasons_of(scene) if (scene.transaction, reason) not in UNREACHED]
    assert [case.reason for case in scene.cases] == wanted


@pytest.mark.parametrize("scene", EACH)
def test_valid_call_is_taken(scene: Scene) -> None:
    world, call = scene.open()
    assert refusal(world, scene, call) == ""


@pytest.mark.parametrize(("scene", "case"), REFUSALS)
def test_refuses(scene: Scene, case: Case) -> None:
    world, call = scene.open()
    assert refusal(world, scene, case.apply(world, call)) == case.reason


@pytest.mark.parametrize(("scene", "first", "second"), PAIRS)
def test_the_earlier_refusal_answers(scene: Scene, first: Case, second: Case) -> None:
    world, call = scene.open()
    assert refusal(world, scene, first.apply(world, second.apply(world, call))) == first.reason


@pytest.mark.parametrize("scene", EACH_WRITE)
def test_roles(scene: Scene) -> None:
    """Each kind of caller meets the role check exactly where the metadata says so."""
    world, call = scene.open()
    company = call.by.split(".")[0]
    allowed = described(scene)["roles"]
    for role in CALLERS:
        if role == PRESENTER:
            continue
        by = f"{company}.{role}"
        if role in (ADMIN, SERVICE) and by not in world.people:
            by = f"core.{role}"
        if by not in world.people:
            by = f"core.{role}"
        if not scene.is_founded and role in ROLES:
            continue
        reason = refusal(
            world,
            scene,
            Call(by, {**call.input, "request_id": f"ROLE-{role.replace(chr(95), chr(45))}"}, call.transient),
        )
        if allowed == [PRESENTER]:
            assert reason == "certificate_incomplete" or role in ROLES, (role, reason)
        elif role in allowed:
            assert reason != "role_missing", role
        else:
            assert reason == "role_missing", (role, reason)


@pytest.mark.parametrize("scene", EACH_WRITE)
def test_repeat_answers_the_same_and_other_content_is_refused(scene: Scene) -> None:
    world, call = scene.open()
    name = chaincode_of(scene)
    input = {"request_id": "ONCE", **call.input}
    first = world.submit(scene.transaction, call.by, input, chaincode=name, transient=call.transient)
    assert first.is_valid, first.message
    height = world.ledger.ledger.height
    again = world.submit(scene.transaction, call.by, input, chaincode=name, transient=call.transient)
    assert again.payload == first.payload
    assert again.event is None
    assert b"ONCE" in first.rwset
    assert world.ledger.ledger.height == height + 1
    assert writes_of(again.rwset) == 0
    other = world.submit(
        scene.transaction,
        call.by,
        changed(scene, input),
        chaincode=name,
        transient={**(call.transient or {}), "x": b""},
    )
    if changed(scene, input) != input:
        assert "request_reused" in other.message


def writes_of(rwset: bytes) -> int:
    """Number of writes in a read-write set."""
    from fabric_protos.ledger.rwset import rwset_pb2
    from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2

    parsed = rwset_pb2.TxReadWriteSet.FromString(rwset)
    return sum(len(kv_rwset_pb2.KVRWSet.FromString(space.rwset).writes) for space in parsed.ns_rwset)


def changed(scene: Scene, input: Mapping[str, Any]) -> dict[str, Any]:
    """The same request with another value in a free text, number or list."""
    other = dict(input)
    for name, value in input.items():
        if name == "request_id":
            continue
        if isinstance(value, bool):
            other[name] = not value
        elif isinstance(value, int):
            other[name] = value + 1
        elif isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
            other[name] = "cd" * 32
        elif name in ("reason", "company_name", "number") and isinstance(value, str):
            other[name] = value + "x"
        elif name == "roles":
            other[name] = ["auditor"]
        else:
            continue
        return other
    return other


@pytest.mark.parametrize("scene", EACH_WRITE)
def test_input_is_checked_for_shape_first(scene: Scene) -> None:
    world, call = scene.open()
    assert refusal(world, scene, Call(call.by, {**call.input, "unknown": 1}, call.transient)) == "input_malformed"
    assert (
        refusal(world, scene, Call(call.by, {**call.input, "request_id": "a b"}, call.transient)) == "input_malformed"
    )


@pytest.mark.parametrize("scene", EACH_WRITE)
def test_moving_value_needs_the_payment_certificate(scene: Scene) -> None:
    world, call = scene.open()
    if not any(role in ROLES for role in described(scene)["roles"]):
        return
    company = call.by.split(".")[0]
    by = f"{company}.work" if f"{company}.work" in world.people else "core.work"
    reason = refusal(world, scene, Call(by, call.input, call.transient))
    assert (reason == "payment_certificate_required") is described(scene)["moves_value"]


@pytest.mark.parametrize("scene", EACH_WRITE)
def test_blacklisted_member_may_only_repay(scene: Scene) -> None:
    world, call = scene.open()
    if not any(role in ROLES for role in described(scene)["roles"]) or call.by.endswith(".admin"):
        return
    member_id = f"M-{call.by.split('.')[0].upper()}"
    entry = {"kind": "black", "reason": "Fraud", "expires_on": "2026-12-31"}
    world.do("member:propose_listing", "logistics.admin", member_id=member_id, **entry)
    world.do("member:approve_listing", "warehouse.admin", member_id=member_id)
    reason = refusal(world, scene, call)
    assert (reason == "blacklisted") is (described(scene)["action"] != "repay")


@pytest.mark.parametrize("scene", EACH_WRITE)
@pytest.mark.parametrize("grade", ["A1", "C2", "D"])
def test_grades(scene: Scene, grade: str) -> None:
    """Each grade of the permission policy meets each action; a member without a rating has the cautious row."""
    action = described(scene)["action"]
    if action is None:
        return
    world = World()
    table = next(value for value in world.policies if value["name"] == "permission")
    world.found()
    call = scene.ready(world)
    if world.read("business_date:get")["date"] != "2026-01-05":
        return
    world.set_policy({**table, "cautious": grade}, "2026-01-06").next_day()
    reason = refusal(world, scene, call)
    assert (reason == "grade_too_low") is (action not in table["grades"][grade])


@pytest.mark.parametrize("scene", EACH_WRITE)
def test_event_is_the_documented_one(scene: Scene) -> None:
    world, call = scene.open()
    world.do(scene.transaction, call.by, chaincode=chaincode_of(scene), transient=call.transient, **dict(call.input))
    event = world.event()
    assert world.last.event is not None
    assert world.last.event.event_name == event["changes"][0]["event"]
    documented = re.findall(r"[a-z_]+\.[a-z_]+", line_of(function_of(scene).description, "Event"))
    for change in event["changes"]:
        assert change["event"] in documented or scene.transaction == "member:found", (change["event"], documented)
        assert change["event"].split(".")[0] == change["word"]
    assert event["changes"][0]["event"] == described(scene)["event"]
    assert event["transaction"] == scene.transaction


def test_certificates_that_may_not_act() -> None:
    world = World().found().join("supplier")
    scene = next(scene for scene in SCENES if scene.transaction == "invitation:create")
    call = scene.ready(world)
    world.people["x.stranger"] = person("x.stranger", "CoreMSP")
    assert refusal(world, scene, Call("x.stranger", call.input)) == "certificate_unknown"
    fingerprint = world.people["supplier.operator"].fingerprint
    world.do("certificate:suspend", "core.admin", fingerprint=fingerprint, reason="Lost")
    assert refusal(world, scene, Call("supplier.operator", call.input)) == "certificate_not_bound"
    world.people["x.copy"] = person("x.copy", "BankMSP", key="core.operator")
    assert refusal(world, scene, Call("x.copy", call.input)) == "certificate_differs"
    for attribute in ("member_id", "user_id"):
        world.people["x.copy"] = person(f"x.{attribute}", "CoreMSP", ((attribute, "M-X"),), key="core.operator")
        assert refusal(world, scene, Call("x.copy", call.input)) == "certificate_differs"
    world.people["x.copy"] = person("x.narrow", "CoreMSP", (("roles", "auditor"),), key="core.operator")
    assert refusal(world, scene, Call("x.copy", call.input)) == "role_missing"
    world.do("member:suspend", "core.admin", member_id="M-SUPPLIER", reason="Asked for")
    world.do("certificate:resume", "bank.admin", fingerprint=fingerprint, reason="Found")
    assert refusal(world, scene, Call("supplier.operator", call.input)) == "member_not_active"


def test_incomplete_certificate_is_not_presented() -> None:
    world = World().found()
    scene = next(scene for scene in SCENES if scene.transaction == "member:real_name")
    assert refusal(world, scene, Call("core.admin", {"company_name": "a", "credit_code": "1" * 18})) == (
        "certificate_incomplete"
    )


def test_stale_clock_is_refused_unless_days_are_simulated() -> None:
    world = World(simulated_days=False)
    with pytest.raises(Refused, match="date_stale"):
        world.found()
    world.ledger.now = world.ledger.now.replace(day=5)
    world.found()
    world.invite("code one")
    world.ledger.now = world.ledger.now.replace(day=19)
    with pytest.raises(Refused, match="date_stale"):
        world.invite("code two")


def test_unfounded_network_refuses_every_step() -> None:
    world = World()
    with pytest.raises(Refused, match="network_not_founded"):
        world.invite("code")


def test_every_reason_of_the_catalogue_is_raised_somewhere() -> None:
    from pathlib import Path

    import chaincode

    root = Path(chaincode.__file__).parent
    source = "".join(
        path.read_text("utf-8")
        for folder in ("domain", "ledger", "contract", "shim")
        for path in sorted((root / folder).rglob("*.py"))
        if path.name != "error.py"
    )
    assert [reason for reason in CATALOGUE if not re.search(rf"\b{reason}\b", source)] == []
