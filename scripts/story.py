"""The story that `scripts/demo` tells on the embedded network: a debt becomes a voucher that three tiers share.

Everybody acts through the gateway of their own organisation with their own key; the contracts decide what is allowed.
People and companies are invented. Run by `scripts/demo`, inside the environment.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tallystick.fabric import GatewayError

from network.embedded.network import EmbeddedNetwork, NetworkError
from network.embedded.verify import verify
from network.founding import FoundingError, found
from network.home import HomeInUse, running_pid
from network.topology import TopologyError, load
from scripts.stage import AMOUNT, CORE_PEOPLE, CURRENCY, Refused, Stage, hand_on, issue, join, next_day, ulid

QUOTA = 1_600_000_000
FIRST_PART, SECOND_PART = 30_000_000, 12_000_000


@dataclass
class Told:
    """What the story leaves to be shown at its end."""

    root_id: str = ""
    holders: dict[str, str] = field(default_factory=dict)
    leaves: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    paid: dict[str, int] = field(default_factory=dict)


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
    return told


def settle(stage: Stage, told: Told, advance: Callable[[str], None]) -> None:
    """Let the due date come, bring the money in by the bank's entry, and pay every holder in one settlement run."""
    officer = stage.person("bank", "user")
    advance("days advance to the payment date; the bank closes each of them")
    payment_date = told.leaves[0]["payment_date"]
    while officer.read("business_date:get")["date"] < payment_date:
        next_day(officer)
    advance("money comes in by the bank's entry, one settlement run pays every holder")
    run_id = f"ST-{ulid()}"
    officer.do("settlement:open", run_id=run_id, issuer_id="M-CORE", currency=CURRENCY, payment_date=payment_date)
    pages, is_planned = 0, False
    while not is_planned:
        pages += 1
        officer.do("settlement:plan", run_id=run_id, page=pages)
        is_planned = officer.read("settlement:get", run_id=run_id)["state"] == "planned"
    planned = (officer.read("plan_page:get", run_id=run_id, page=page) for page in range(1, pages + 1))
    total = sum(leaf["weight_minor"] for page in planned for leaf in page["leaves"])
    today = officer.read("business_date:get")["date"]
    payer = f"A-M-CORE-{CURRENCY}"
    officer.do(
        "bank_entry:record", entry_id=f"BE-{ulid()}", control_account="CONTROL", currency=CURRENCY, amount_minor=total,
        direction="C", booking_date=today, value_date=today, servicer_reference=ulid(), account_id=payer,
    )  # fmt: skip
    came_in = officer.read("credit:list", account_id=payer, limit=200)["items"]
    folds = [credit["credit_id"] for credit in came_in if credit["state"] == "open"]
    officer.do("settlement:fund", run_id=run_id, total_minor=total, folds=folds)
    for page in range(1, pages + 1):
        officer.do("settlement:pay", run_id=run_id, page=page)
    officer.do("settlement:close", run_id=run_id)
    for leaf in told.leaves:
        if officer.read("voucher:get", voucher_id=leaf["voucher_id"])["state"] != "paid":
            raise SystemExit("A voucher is not paid although its run is closed.")
        account = f"A-{leaf['holder_id']}-{CURRENCY}"
        booked = officer.read("credit:list", account_id=account)["items"]
        told.paid[leaf["holder_id"]] = sum(credit["amount_minor"] for credit in booked)


def show(console: Console, told: Told) -> None:
    """The voucher's parts, what was refused, and that no unit is lost or held twice."""
    table = Table(title=f"The voucher {told.root_id}, {AMOUNT / 100:,.2f} {CURRENCY}, and its parts", box=SIMPLE)
    for title in ("number", "holder", "units", "amount", "state"):
        is_figure = title in ("units", "amount")
        table.add_column(title, justify="right" if is_figure else "left", no_wrap=True)
    next_unit = told.leaves[0]["start"]
    for leaf in sorted(told.leaves, key=lambda each: each["start"]):
        if leaf["start"] != next_unit:
            raise SystemExit("A unit of the voucher is lost or held twice.")
        next_unit = leaf["end"] + 1
        units = leaf["end"] - leaf["start"] + 1
        table.add_row(
            leaf["number"],
            told.holders[leaf["holder_id"]],
            f"{leaf['start']}-{leaf['end']}",
            f"{units / 100:,.2f}",
            "paid" if leaf["holder_id"] in told.paid else leaf["state"],
        )
    console.print(table)
    total = sum(leaf["end"] - leaf["start"] + 1 for leaf in told.leaves)
    if total != AMOUNT:
        raise SystemExit("The parts do not sum to the whole.")
    for refusal in told.refusals:
        console.print(f"  refused, as it must be: [yellow]{refusal}[/yellow]")
    owed = {leaf["holder_id"]: leaf["end"] - leaf["start"] + 1 for leaf in told.leaves}
    if told.paid and told.paid != owed:
        raise SystemExit("What was paid is not what the parts say.")
    if told.paid:
        console.print(f"Paid at maturity: {sum(told.paid.values()) / 100:,.2f} {CURRENCY}, to every holder its part.")
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
            task = progress.add_task("starting", total=8)

            def advance(what: str) -> None:
                progress.update(task, advance=1, description=what)
                console.print(f"- {what}")

            told = tell(stage, advance)
            if stage.person("bank", "user").read("business_date:get")["simulated_days"]:
                settle(stage, told, advance)
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
