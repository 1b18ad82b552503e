"""The story that `scripts/demo` tells on the embedded network: a debt becomes a voucher that three tiers share.

Everybody acts through the gateway of their own organisation with their own key; the contracts decide what is allowed.
People and companies are invented. Run by `scripts/demo`, inside the environment.
"""

import argparse
import json
import os
import random
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tallystick.fabric import Contract, GatewayError, Identity, Retry, channel, connect, signers

from chaincode.domain import credit_code, invitation
from network.embedded.network import EmbeddedNetwork, NetworkError
from network.embedded.verify import verify
from network.founding import FoundingError, found
from network.home import HomeInUse, read_connection, running_pid
from network.identity.enrolment import Enrolment, enrol
from network.identity.founding import fingerprint
from network.topology import TopologyError, load

CURRENCY = "CNY"
AMOUNT = 100_000_000  # one million yuan in fen
QUOTA = 1_600_000_000
FIRST_PART, SECOND_PART = 30_000_000, 12_000_000
TENOR_DAYS = 20
BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
REFUSAL = re.compile(r"([A-Z_]+) ([a-z0-9_]+): (.*)", re.DOTALL)
ROLES = ["operator", "reviewer", "approver"]


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
        word = transaction.split(":")[0]
        contract = self.account if word in ("bank_entry", "account", "day") else self.trade
        request = {"request_id": ulid(), **input}
        answer = refused_or(lambda: contract.submit(transaction, json.dumps(request), transient=transient))
        return json.loads(answer)  # type: ignore[no-any-return]

    def read(self, transaction: str, **input: Any) -> dict[str, Any]:
        """Ask the ledger. Raises Refused."""
        return json.loads(refused_or(lambda: self.trade.evaluate(transaction, json.dumps(input))))  # type: ignore[no-any-return]


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


@dataclass
class Told:
    """What the story leaves to be shown at its end."""

    root_id: str = ""
    holders: dict[str, str] = field(default_factory=dict)
    leaves: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    versions: int = 0


def tell(stage: Stage, advance: Callable[[str], None]) -> Told:
    """Play the story; `advance` is told what happens next."""
    told = Told()
    core = {role: stage.person("core", name) for role, name in CORE_PEOPLE.items()}
    officers = stage.person("bank", "user"), stage.person("bank", "colleague")
    advance("three suppliers join, each sponsored by another organisation")
    first, second, third = (
        join(stage, sponsor, name)
        for sponsor, name in (("core", "Anvil Castings"), ("logistics", "Birch Mouldings"), ("bank", "Copper Wire"))
    )
    told.holders = {company.member_id: company.name for company in (first, second, third)}
    today = date.fromisoformat(core["operator"].read("business_date:get")["date"])
    advance("two officers of the bank grant the core enterprise a quota")
    quota_id = f"Q-{ulid()}"
    until = (today + timedelta(days=180)).isoformat()
    officers[0].do(
        "quota:propose", quota_id=quota_id, issuer_id="M-CORE", currency=CURRENCY, limit_minor=QUOTA,
        valid_from=today.isoformat(), valid_until=until,
    )  # fmt: skip
    officers[1].do("quota:approve", quota_id=quota_id)
    advance("an invoice becomes a voucher: registered, approved and issued by three people")
    told.root_id = issue(core, first, quota_id, today)
    first.operator.do("voucher:sign_off", voucher_id=told.root_id)
    advance("the first supplier passes a part on; nobody can spend the same units twice")
    part = hand_on(first, second, told.root_id, FIRST_PART)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: first.operator.do(
            "voucher:transfer",
            voucher_id=told.root_id,
            to_member_id=third.member_id,
            amount_minor=AMOUNT,
            recourse=False,
        ),
        lambda: third.operator.do("voucher:sign_off", voucher_id=part),
        lambda: core["operator"].do("voucher:cancel", voucher_id=part, reason="We would rather not pay"),
    )
    for attempt in attempts:
        try:
            attempt()
        except Refused as refusal:
            told.refusals.append(str(refusal))
        else:
            raise SystemExit("The ledger took a step that it must refuse.")
    second.operator.do("voucher:sign_off", voucher_id=part)
    advance("the second supplier splits its part for the third tier")
    third.operator.do("voucher:sign_off", voucher_id=hand_on(second, third, part, SECOND_PART))
    advance("everybody looks at the same ledger")
    seen = [
        officer.read("voucher:list", member_id="M-CORE", limit=200)["items"]
        for officer in (officers[0], third.operator)
    ]
    if seen[0] != seen[1]:
        raise SystemExit("Two organisations see different vouchers.")
    told.leaves = [
        item["voucher"]
        for item in seen[0]
        if item["voucher"]["root_id"] == told.root_id and item["voucher"]["state"] != "split"
    ]
    told.versions = len(third.operator.read("voucher:history", voucher_id=told.root_id)["items"])
    return told


CORE_PEOPLE = {"operator": "user", "reviewer": "colleague", "approver": "approver"}


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
        "voucher:register", voucher_id=voucher_id, number=f"V-{today.year}-{run[-6:]}", receiver_id=supplier.member_id,
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


def show(console: Console, told: Told) -> None:
    """The voucher's parts, what was refused, and that no unit is lost or held twice."""
    table = Table(title=f"The voucher {told.root_id}, {AMOUNT / 100:,.2f} {CURRENCY}, and its parts")
    for title in ("number", "state", "holder", "first unit", "last unit", "amount"):
        table.add_column(title, justify="right" if "unit" in title or title == "amount" else "left")
    next_unit = told.leaves[0]["start"]
    for leaf in sorted(told.leaves, key=lambda each: each["start"]):
        if leaf["start"] != next_unit:
            raise SystemExit("A unit of the voucher is lost or held twice.")
        next_unit = leaf["end"] + 1
        units = leaf["end"] - leaf["start"] + 1
        table.add_row(
            leaf["number"],
            leaf["state"],
            leaf["holder_id"],
            str(leaf["start"]),
            str(leaf["end"]),
            f"{units / 100:,.2f}",
        )
    console.print(table)
    total = sum(leaf["end"] - leaf["start"] + 1 for leaf in told.leaves)
    if total != AMOUNT:
        raise SystemExit("The parts do not sum to the whole.")
    for refusal in told.refusals:
        console.print(f"  refused, as it must be: [yellow]{refusal}[/yellow]")
    console.print(
        f"Conserved: {len(told.leaves)} parts, disjoint, sum {total / 100:,.2f} = issued {AMOUNT / 100:,.2f}."
    )


def main() -> int:
    """Start the network if nobody has, tell the story, verify the ledger, and stay until Ctrl-C or not."""
    options = parser().parse_args()
    home = options.home.absolute()
    console = Console(highlight=False)
    started = time.monotonic()
    network = None
    if running_pid(home) is None:
        topology = load(home / "topology.toml") if (home / "topology.toml").exists() else load(None, options.port_base)
        network = EmbeddedNetwork.prepare(home, topology)
        network.start()
        found(home, network.topology, network.connection, simulated_days=True)
    try:
        with Stage(home) as stage, Progress(console=console, transient=True) as progress:
            task = progress.add_task("starting", total=6)

            def advance(what: str) -> None:
                progress.update(task, advance=1, description=what)
                console.print(f"- {what}")

            told = tell(stage, advance)
        show(console, told)
        proof = verify(home)
        if proof.difference:
            raise SystemExit(f"The ledger does not verify: {proof.difference}")
        console.print(
            f"Verified from block 0: {proof.height} blocks, {proof.transactions} transactions, no difference."
        )
        console.print(f"The story took {time.monotonic() - started:.1f} s. The network's home is {home}.")
        if not options.exit and network is not None:
            console.print("The network goes on until Ctrl-C; client/README.md shows how to talk to it.")
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        if network is not None:
            network.stop()
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of `scripts/demo`."""
    made = argparse.ArgumentParser(prog="scripts/demo", description="Tell a first story on the embedded network.")
    home = Path(os.environ.get("TALLYSTICK_HOME", ".tallystick"))
    made.add_argument("--home", type=Path, default=home, help="folder of the network (default: .tallystick)")
    made.add_argument(
        "--port-base", type=int, default=None, help="move all ports; 0 takes free ones (first start only)"
    )
    made.add_argument("--exit", action="store_true", help="stop at the end of the story")
    return made


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (NetworkError, FoundingError, HomeInUse, TopologyError, GatewayError) as error:
        sys.exit(str(error))
