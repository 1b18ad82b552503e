"""The people of the demo and of the benchmarks, and how they reach the network: each with a key of their own.

Companies are invented and brought in step by step like real ones; nothing here decides what is allowed.
"""

import json
import random
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from msgspec import convert
from tallystick.fabric import Contract, GatewayError, Identity, Retry, channel, connect, signers

from chaincode.domain import credit_code, invitation
from chaincode.domain.calendar import CalendarDays, next_business_day
from network.home import read_connection
from network.identity.enrolment import Enrolment, enrol
from network.identity.founding import fingerprint

CURRENCY = "CNY"
AMOUNT = 100_000_000  # one million yuan in fen
TENOR_DAYS = 5
BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
REFUSAL = re.compile(r"([A-Z_]+) ([a-z0-9_]+): (.*)", re.DOTALL)
ACCOUNT_WORDS = {"account", "bank_entry", "credit", "day"}
ROLES = ["operator", "reviewer", "approver"]
CORE_PEOPLE = {"operator": "user", "reviewer": "colleague", "approver": "approver"}


class Refused(Exception):
    """The contract said no: code, reason and its sentence."""

    def __init__(self, code: str, reason: str, sentence: str) -> None:
        super().__init__(f"{code} {reason}: {sentence}")
        self.reason = reason


def ulid() -> str:
    """A ULID: 26 characters that sort by the time they were made."""
    number = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    return "".join(BASE32[number >> shift & 31] for shift in range(125, -5, -5))


@dataclass
class Person:
    """Somebody with a key of their own, at the gateway of their organisation."""

    name: str
    trade: Contract
    account: Contract

    def do(self, transaction: str, transient: dict[str, bytes] | None = None, **input: Any) -> dict[str, Any]:
        """Take a step and wait until it is on the ledger. Raises Refused."""
        contract = self.account if transaction.split(":")[0] in ACCOUNT_WORDS else self.trade
        request = {"request_id": ulid(), **input}
        answer = refused_or(lambda: contract.submit(transaction, json.dumps(request), transient=transient))
        return json.loads(answer)  # type: ignore[no-any-return]

    def read(self, transaction: str, **input: Any) -> dict[str, Any]:
        """Ask the ledger. Raises Refused."""
        contract = self.account if transaction.split(":")[0] in ACCOUNT_WORDS else self.trade
        return json.loads(refused_or(lambda: contract.evaluate(transaction, json.dumps(input))))  # type: ignore[no-any-return]


def refused_or(call: Callable[[], bytes]) -> bytes:
    """The answer of a call, or Refused with the contract's own words."""
    try:
        return call()
    except GatewayError as error:
        words = REFUSAL.fullmatch(error.contract_answer.message) if error.contract_answer else None
        if words is None:
            raise
        raise Refused(*words.groups()) from error


@dataclass
class Stage(AbstractContextManager["Stage"]):
    """The network as the people of the story reach it."""

    home: Path
    _open: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        connection = read_connection(self.home)
        if connection is None:
            raise SystemExit(f"No network in {self.home}: connection.json is missing.")
        self.connection = connection
        self._channels = {
            each["name"]: self._open.enter_context(
                channel(each["gateway"], tls_ca=(self.home / each["tls_ca_file"]).read_bytes())
            )
            for each in self.connection["organisations"]
        }
        self._msp_ids = {each["name"]: each["msp_id"] for each in self.connection["organisations"]}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def person(self, organisation: str, name: str) -> Person:
        """The person whose key and certificate are in the home."""
        folder = self.home / "identities" / organisation / name
        identity = Identity.x509(self._msp_ids[organisation], (folder / "certificate.pem").read_bytes())
        signer = signers.from_pem((folder / "private_key.pem").read_bytes())
        gateway = connect(self._channels[organisation], identity, signer, retry=Retry.safe(on_conflict=2))
        network = self._open.enter_context(gateway).network(self.connection["channel"])
        return Person(f"{organisation}/{name}", network.contract("trade"), network.contract("account"))


@dataclass(frozen=True)
class Company:
    """A member of the story with two people, so that maker and checker differ."""

    member_id: str
    name: str
    operator: Person
    approver: Person


def join(stage: Stage, sponsor: str, name: str) -> Company:
    """Bring a company in: invitation, registration, review, real name, certificates bound by another organisation."""
    run, word = ulid()[-10:], name.split()[0]
    member_id = f"M-{word.upper()}{run}"
    admin, service = stage.person(sponsor, "admin"), stage.person(sponsor, "service")
    code, today = secrets.token_urlsafe(16), date.fromisoformat(admin.read("business_date:get")["date"])
    expires_on = (today + timedelta(days=30)).isoformat()
    admin.do("invitation:create", invitation_id=invitation.id_of(code), expires_on=expires_on)
    first = "".join(random.choices("0123456789", k=9))  # noqa: S311 - an invented company needs no secret number
    uscc = f"91310000{first}"
    uscc += credit_code.check_character(uscc)
    company_name = f"{name} (invented {run})"
    users = {role: f"U-{word.upper()}-{role.upper()}-{run}" for role in ("operator", "approver")}
    service.do(
        "member:register",
        transient={"invitation_code": code.encode()},
        member_id=member_id,
        user_id=users["operator"],
        kind="company",
        company_name=company_name,
        credit_code=uscc,
        profile_digest=secrets.token_hex(32),
    )
    binder_of = {"core": "warehouse", "warehouse": "logistics", "logistics": "bank", "bank": "core"}
    binder = stage.person(binder_of[sponsor], "admin")
    binder.do("member:approve", member_id=member_id, roles=ROLES)
    people = {}
    for role, user_id in users.items():
        label = f"{word.lower()}-{role}-{run.lower()}"
        enrol(stage.home, sponsor, Enrolment(label, "client", ROLES, member_id, user_id, "payment"))
        people[role] = stage.person(sponsor, label)
        if role == "operator":
            people[role].do("member:real_name", company_name=company_name, credit_code=uscc)
        else:
            people[role].do("certificate:present")
        certificate = (stage.home / "identities" / sponsor / label / "certificate.pem").read_bytes()
        binder.do("certificate:bind", fingerprint=fingerprint(certificate))
    return Company(member_id, name, people["operator"], people["approver"])


def issue(core: dict[str, Person], supplier: Company, quota_id: str, today: date) -> str:
    """The core enterprise turns what it owes a supplier into a voucher; answers its id."""
    run = ulid()
    registered = supplier.operator.do(
        "invoice:register", kind="invoice", supplier_id=supplier.member_id, buyer_id="M-CORE", invoice_code="DEMO",
        invoice_number=run, invoice_date=today.isoformat(), amount_minor=AMOUNT, digest=secrets.token_hex(32),
        currency=CURRENCY,
    )  # fmt: skip
    voucher_id = f"V-{run}"
    due_date = today + timedelta(days=TENOR_DAYS)
    core["operator"].do(
        "voucher:register", voucher_id=voucher_id, number=f"V-{today.year}-{run[-4:]}", receiver_id=supplier.member_id,
        amount_minor=AMOUNT, due_date=due_date.isoformat(), contract_reference="Frame contract 7", currency=CURRENCY,
        invoices=[{"invoice_id": registered["changes"][0]["id"], "amount_minor": AMOUNT}],
    )  # fmt: skip
    core["operator"].do("voucher:submit", voucher_id=voucher_id)
    core["reviewer"].do("voucher:approve", voucher_id=voucher_id)
    slices, missing = [], AMOUNT
    for each in core["approver"].read("quota:get", quota_id=quota_id)["slices"]:
        taken = min(missing, each["limit_minor"] - each["used_minor"])
        missing -= taken
        if taken:
            slices.append({"quota_id": quota_id, "slice": each["number"], "amount_minor": taken})
        if not missing:
            break
    core["approver"].do(
        "voucher:issue", voucher_id=voucher_id, slices=slices, unsigned_digest=secrets.token_hex(32),
        signed_digest=secrets.token_hex(32),
    )  # fmt: skip
    return voucher_id


def hand_on(giver: Company, taker: Company, voucher_id: str, amount: int) -> str:
    """Apply for the transfer of a part and let a second person approve it; answers the part's id."""
    part_id, label = f"V-{ulid()}", giver.operator.read("voucher:get", voucher_id=voucher_id)["voucher"]["number"]
    giver.operator.do(
        "voucher:transfer", voucher_id=voucher_id, to_member_id=taker.member_id, amount_minor=amount, recourse=False,
        part_id=part_id, part_number=f"{label}-1", rest_number=f"{label}-2",
    )  # fmt: skip
    giver.approver.do("voucher:approve_transfer", voucher_id=part_id)
    return part_id


def next_day(officer: Person) -> None:
    """Close the business date in every currency with the books agreeing, and advance to the next business day."""
    today = officer.read("business_date:get")["date"]
    years = {each["year"]: convert(each["days"], CalendarDays) for each in officer.read("calendar:list")["items"]}
    for currency, closing in control_balances(officer).items():
        officer.do(
            "day:close", currency=currency, date=today, closing_ledger_minor=closing, closing_bank_minor=closing,
            report_digest=secrets.token_hex(32),
        )  # fmt: skip
    tomorrow = next_business_day(date.fromisoformat(today), years.get)
    officer.do("business_date:advance", from_date=today, to_date=tomorrow.isoformat())


def control_balances(officer: Person) -> dict[str, int]:
    """What the bank's entries sum to, for every currency of the network."""
    policy = officer.read("policy:get", name="currency")
    balances = dict.fromkeys(policy["in_force"]["value"]["exponents"], 0)
    after: str | None = ""
    while after is not None:
        page = officer.read("bank_entry:list", limit=200, **({"after": after} if after else {}))
        for entry in page["items"]:
            balances[entry["currency"]] += entry["amount_minor"] * (1 if entry["direction"] == "C" else -1)
        after = page["next"]
    return balances
