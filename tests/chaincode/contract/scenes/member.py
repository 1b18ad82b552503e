"""Scenes of members, invitations and certificates."""

from collections.abc import Callable
from typing import Any

from chaincode.domain import invitation
from tests.chaincode.contract.people import attributes, person
from tests.chaincode.contract.scene import Call, Case, Scene, alone, case, nothing
from tests.chaincode.contract.world import DIGEST, POLICIES, World, code_of

BAD_CODE = "91310000MA10000000"
OPEN = invitation.id_of("open code")


def found(world: World) -> Call:
    return Call("core.admin", world.founding())


def founding(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The founding's input after a change."""
    input = World.founding(World())
    change(input)
    return input


def first(list_name: str, **values: Any) -> dict[str, Any]:
    """The founding's input with other values in the first entry of a list."""
    return founding(lambda input: input[list_name][0].update(values))


def applied(world: World) -> None:
    world.apply("supplier")


def approved(world: World) -> None:
    applied(world)
    world.do("member:approve", "bank.admin", member_id="M-SUPPLIER", roles=["operator", "reviewer"])


def returned(world: World) -> None:
    applied(world)
    world.do("member:send_back", "bank.admin", member_id="M-SUPPLIER", reason="Name unclear")


def joined(world: World) -> None:
    world.join("supplier")


def supplier_person(world: World, name: str = "supplier.first", **other: str) -> str:
    """A new person of the supplier with a certificate of its sponsor."""
    values = {"member_id": "M-SUPPLIER", "user_id": "U-SUPPLIER-OPERATOR", "roles": "operator", "use": "payment"}
    world.people[name] = person(name, "CoreMSP", attributes(**{**values, **other}))
    return name


def register(world: World) -> Call:
    world.invite("open code")
    return Call("core.service", world.registration("supplier"), {"invitation_code": b"open code"})


def change(world: World) -> Call:
    returned(world)
    input = {name: value for name, value in world.registration("supplier").items() if name != "user_id"}
    return Call("core.service", {**input, "company_name": "Supplier Trading Limited", "credit_code": code_of(90)})


def real_name(world: World) -> Call:
    approved(world)
    return Call(supplier_person(world), world.name_of("supplier"))


def from_logistics(world: World) -> None:
    values = {"member_id": "M-SUPPLIER", "user_id": "U-SUPPLIER-OPERATOR", "roles": "operator", "use": "payment"}
    world.people["supplier.foreign"] = person("supplier.foreign", "LogisticsMSP", attributes(**values))


def stranger(**values: str) -> Callable[[World], None]:
    """Adds the person supplier.other with other attributes."""
    return lambda world: void(supplier_person(world, "supplier.other", **values))


def void(_: object) -> None:
    """Drops a value."""


def presented_before(world: World) -> None:
    world.do("certificate:bind", "warehouse.admin", fingerprint=world.people["supplier.first"].fingerprint)


def present(world: World) -> Call:
    joined(world)
    return Call(supplier_person(world, "supplier.new", user_id="U-SUPPLIER-NEW"), {})


def bind(world: World) -> Call:
    call = real_name(world)
    world.do("member:real_name", call.by, **call.input)
    return Call("bank.admin", {"fingerprint": world.people[call.by].fingerprint})


def bound(world: World) -> dict[str, str]:
    joined(world)
    return {"fingerprint": world.people["supplier.operator"].fingerprint, "reason": "Lost"}


def suspended(world: World) -> Call:
    input = bound(world)
    world.do("certificate:suspend", "core.admin", **input)
    return Call("bank.admin", input)


def member_suspended(world: World) -> Call:
    joined(world)
    world.do("member:suspend", "core.admin", member_id="M-SUPPLIER", reason="Asked for")
    return Call("bank.admin", {"member_id": "M-SUPPLIER", "reason": "Settled"})


def at(step: Callable[[World], None], by: str, **input: Any) -> Callable[[World], Call]:
    """A way to a call: a step in the world, then who calls with what."""

    def ready(world: World) -> Call:
        step(world)
        return Call(by, input)

    return ready


def listing_proposed(world: World) -> None:
    joined(world)
    entry = {"kind": "black", "reason": "Fraud", "expires_on": "2026-12-31"}
    world.do("member:propose_listing", "core.admin", member_id="M-SUPPLIER", **entry)


def listing_approved(world: World) -> None:
    world.do("member:approve_listing", "bank.admin", member_id="M-SUPPLIER")


def proposed_by_other(world: World) -> None:
    """Another admin of the bank proposed."""
    world.people["bank.admin2"] = person("bank.admin2", "BankMSP", unit="admin")
    entry = {"kind": "black", "reason": "Fraud", "expires_on": "2026-12-31"}
    world.do("member:propose_listing", "bank.admin2", member_id="M-SUPPLIER", **entry)


def invited(world: World) -> None:
    world.invite("open code")


def withdrawn(world: World) -> None:
    world.do("invitation:withdraw", "core.admin", invitation_id=OPEN, reason="Wrong company")


def expired(world: World) -> None:
    world.do("invitation:withdraw", "core.admin", invitation_id=OPEN, reason="For a short one")


def short_invitation(world: World) -> None:
    """Makes an invitation that has expired."""
    world.invite("short code", expires_on="2026-01-06")
    world.next_day(2)


def same_code(world: World) -> None:
    """Another company holds the credit code already."""
    world.invite("code of other")
    other = {**world.registration("supplier"), "member_id": "M-OTHER", "user_id": "U-OTHER"}
    world.do("member:register", "core.service", transient={"invitation_code": b"code of other"}, **other)


def code_90_taken(world: World) -> None:
    world.invite("code of other")
    other = {**world.registration("supplier"), "member_id": "M-OTHER", "user_id": "U-OTHER", "credit_code": code_of(90)}
    world.do("member:register", "core.service", transient={"invitation_code": b"code of other"}, **other)


def with_code(code: str, reason: str, arrange: Callable[[World], None] = nothing) -> Case:
    return Case(reason, {}, arrange, None, {"invitation_code": code.encode()}, alone=True)


def already_registered(world: World) -> None:
    world.do(
        "member:register", "core.service", transient={"invitation_code": b"open code"}, **world.registration("supplier")
    )
    world.invite("second code")


WITHOUT_VOUCHER = [value for value in POLICIES if value["name"] != "voucher"]
BAD_PERMISSION = [*POLICIES[:2], {**POLICIES[2], "cautious": "X"}, *POLICIES[3:]]
WITHDRAWAL = {
    "name": "withdrawal",
    "flat_minor": 0,
    "fee_ppm": 0,
    "min_minor": 0,
    "max_minor": 0,
    "refund_fee_on_return": False,
}
BAD_DAYS = {"holidays": ["2026-01-03"], "workdays": [], "source": "x", "digest": DIGEST, "complete": True}

SCENES = (
    Scene(
        "member:found",
        found,
        (
            alone("network_founded", lambda world: void(world.found())),
            case("organisation_invalid", **first("organisations", member_id="M-OTHER")),
            case("credit_code_invalid", **first("organisations", credit_code=BAD_CODE)),
            case("company_name_invalid", **first("organisations", company_name="a\u200bb")),
            case("role_unknown", **first("people", roles=["boss"])),
            case("member_not_found", **first("people", member_id="M-OTHER")),
            case("policy_name_unknown", policies=[*POLICIES, WITHDRAWAL]),
            case("policy_value_invalid", policies=BAD_PERMISSION),
            case("policy_missing", policies=WITHOUT_VOUCHER),
            case("calendar_day_invalid", calendars=[{"year": 2026, "days": BAD_DAYS}]),
            case("calendar_year_missing", first_date="2027-01-04"),
            case("date_not_next", first_date="2026-01-10"),
        ),
        is_founded=False,
    ),
    Scene(
        "member:register",
        register,
        (
            case("credit_code_invalid", credit_code=BAD_CODE),
            case("company_name_invalid", company_name="a\u0007"),
            Case("invitation_code_missing", transient={}, alone=True),
            alone("member_exists", already_registered),
            with_code("no such code", "invitation_not_found"),
            alone("not_sponsor", by="bank.service"),
            alone("state_wrong", withdrawn),
            with_code("short code", "invitation_expired", short_invitation),
            case("credit_code_registered", same_code),
        ),
    ),
    Scene(
        "member:change",
        change,
        (
            case("credit_code_invalid", credit_code=BAD_CODE),
            case("company_name_invalid", company_name="\u3000"),
            case("member_not_found", member_id="M-NONE"),
            case("not_sponsor", by="bank.service"),
            alone("state_wrong", lambda world: resubmit(world)),
            case("credit_code_registered", code_90_taken),
        ),
    ),
    Scene(
        "member:approve",
        at(applied, "bank.admin", member_id="M-SUPPLIER", roles=["reviewer", "operator"]),
        (
            case("role_unknown", roles=["boss"]),
            case("member_not_found", member_id="M-NONE"),
            case(
                "state_wrong",
                lambda world: world.do("member:send_back", "core.admin", member_id="M-SUPPLIER", reason="x") and None,
            ),
        ),
    ),
    Scene(
        "member:send_back",
        at(applied, "bank.admin", member_id="M-SUPPLIER", reason="Name unclear"),
        (
            case("member_not_found", member_id="M-NONE"),
            case("state_wrong", member_id="M-CORE"),
        ),
    ),
    Scene(
        "member:real_name",
        real_name,
        (
            alone(
                "certificate_exists",
                lambda world: void(world.do("member:real_name", "supplier.first", **world.name_of("supplier"))),
            ),
            alone("member_not_found", stranger(member_id="M-NONE"), by="supplier.other"),
            alone("company_differs", stranger(user_id="U-OTHER"), by="supplier.other"),
            alone("company_differs", from_logistics, by="supplier.foreign"),
            alone("role_unknown", stranger(roles="boss"), by="supplier.other"),
            alone("role_not_granted", stranger(roles="operator,approver"), by="supplier.other"),
            alone(
                "state_wrong",
                lambda world: void(
                    (stranger()(world), world.do("member:real_name", "supplier.first", **world.name_of("supplier")))
                ),
                by="supplier.other",
            ),
            case("company_differs", company_name="Other Limited"),
            case("company_differs", credit_code=code_of(91)),
        ),
    ),
    Scene(
        "member:grant_roles",
        at(approved, "bank.admin", member_id="M-SUPPLIER", roles=["operator"]),
        (
            case("role_unknown", roles=["boss"]),
            alone("member_not_found", member_id="M-NONE"),
            case("state_wrong", lambda world: world.apply("second"), member_id="M-SECOND"),
        ),
    ),
    Scene(
        "member:suspend",
        at(joined, "bank.admin", member_id="M-SUPPLIER", reason="Certificate lost"),
        (
            alone("member_not_found", member_id="M-NONE"),
            case("state_wrong", lambda world: world.apply("second"), member_id="M-SECOND"),
        ),
    ),
    Scene(
        "member:resume",
        member_suspended,
        (
            alone("member_not_found", member_id="M-NONE"),
            alone("state_wrong", member_id="M-CORE"),
            case("same_person", by="core.admin"),
        ),
    ),
    Scene(
        "member:propose_listing",
        at(joined, "bank.admin", member_id="M-SUPPLIER", kind="black", reason="Fraud", expires_on="2026-12-31"),
        (
            case("member_not_found", member_id="M-NONE"),
            case("expiry_passed", expires_on="2026-01-05"),
        ),
    ),
    Scene(
        "member:approve_listing",
        at(listing_proposed, "bank.admin", member_id="M-SUPPLIER"),
        (
            case("member_not_found", member_id="M-NONE"),
            alone("proposal_missing", member_id="M-CORE"),
            alone("same_person", by="core.admin"),
            case("same_organisation", proposed_by_other),
        ),
    ),
    Scene(
        "member:record_logins",
        at(nothing, "core.service", batch_id="L-1", count=3, digest=DIGEST),
        (
            case(
                "login_batch_exists",
                lambda world: void(
                    world.do("member:record_logins", "core.service", batch_id="L-1", count=2, digest=DIGEST)
                ),
            ),
        ),
    ),
    Scene("member:get", at(nothing, "", member_id="M-CORE"), (case("member_not_found", member_id="M-NONE"),)),
    Scene("member:list", at(joined, "")),
    Scene("member:history", at(joined, "", member_id="M-SUPPLIER"), (case("member_not_found", member_id="M-NONE"),)),
    Scene(
        "invitation:create",
        at(nothing, "core.operator", invitation_id=OPEN, expires_on="2026-02-01"),
        (
            case("invitation_exists", invited),
            case("expiry_passed", expires_on="2026-01-05"),
        ),
    ),
    Scene(
        "invitation:withdraw",
        at(invited, "core.admin", invitation_id=OPEN, reason="Wrong company"),
        (
            case("invitation_not_found", invitation_id="N-" + "A" * 26),
            case("not_owner", by="bank.admin"),
            case("state_wrong", withdrawn),
        ),
    ),
    Scene(
        "invitation:get",
        at(invited, "", invitation_id=OPEN),
        (case("invitation_not_found", invitation_id="N-" + "A" * 26),),
    ),
    Scene("invitation:list", at(invited, "")),
    Scene(
        "certificate:present",
        present,
        (
            alone("certificate_exists", lambda world: void(world.do("certificate:present", "supplier.new"))),
            alone("member_not_found", stranger(member_id="M-NONE"), by="supplier.other"),
            alone("company_differs", from_logistics, by="supplier.foreign"),
            alone("role_unknown", stranger(roles="boss"), by="supplier.other"),
            alone(
                "role_not_granted",
                lambda world: void(
                    (
                        stranger(roles="auditor")(world),
                        world.do("member:grant_roles", "core.admin", member_id="M-SUPPLIER", roles=["operator"]),
                    )
                ),
                by="supplier.other",
            ),
            case(
                "state_wrong",
                lambda world: void(world.do("member:suspend", "core.admin", member_id="M-SUPPLIER", reason="x")),
            ),
        ),
    ),
    Scene(
        "certificate:bind",
        bind,
        (
            case("certificate_not_found", fingerprint="00" * 32),
            case("same_organisation", by="core.admin"),
            case("state_wrong", presented_before),
        ),
    ),
    Scene(
        "certificate:suspend",
        lambda world: Call("bank.admin", bound(world)),
        (
            case("certificate_not_found", fingerprint="00" * 32),
            case(
                "state_wrong",
                lambda world: void(
                    world.do(
                        "certificate:revoke",
                        "core.admin",
                        fingerprint=world.people["supplier.operator"].fingerprint,
                        reason="x",
                    )
                ),
            ),
        ),
    ),
    Scene(
        "certificate:resume",
        suspended,
        (
            case("certificate_not_found", fingerprint="00" * 32),
            alone(
                "state_wrong",
                lambda world: void(
                    world.do(
                        "certificate:revoke",
                        "core.admin",
                        fingerprint=world.people["supplier.operator"].fingerprint,
                        reason="x",
                    )
                ),
            ),
            case("same_person", by="core.admin"),
        ),
    ),
    Scene(
        "certificate:revoke",
        lambda world: Call("bank.admin", bound(world)),
        (
            case("certificate_not_found", fingerprint="00" * 32),
            case(
                "state_wrong",
                lambda world: void(
                    world.do(
                        "certificate:revoke",
                        "core.admin",
                        fingerprint=world.people["supplier.operator"].fingerprint,
                        reason="x",
                    )
                ),
            ),
        ),
    ),
    Scene("certificate:get", lambda world: Call("", {"fingerprint": world.people["core.all"].fingerprint})),
    Scene("certificate:list", at(nothing, "", member_id="M-CORE")),
)


def resubmit(world: World) -> None:
    """Submits the returned registration again, so that it is no longer returned."""
    input = {name: value for name, value in world.registration("supplier").items() if name != "user_id"}
    world.do("member:change", "core.service", **input)
