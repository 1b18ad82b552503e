"""The parts of ``chaincode/README.md`` that follow from the code: transactions, tables, events, reasons, policies.

``python -m tests.agreement.specification`` writes them between their marks; the test finds no difference.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import chaincode
from chaincode.contract.account import chaincode as account
from chaincode.contract.trade import chaincode as trade
from chaincode.domain.error import CATALOGUE
from chaincode.domain.policy import ACCOUNT, TRADE, TYPES
from chaincode.domain.role import CALLERS
from chaincode.shim.contract import TransactionFunction

README = Path(chaincode.__file__).parent / "README.md"
LINES = ("Who", "Must hold", "Changes", "Event")


def transactions() -> Iterator[tuple[str, str, TransactionFunction]]:
    """(chaincode, name on the wire, function) of every transaction."""
    for program in (trade, account):
        for word, contract in sorted(program.contracts.items()):
            for verb, function in contract.transactions.items():
                yield program.name, f"{word}:{verb}", function


def extension(function: TransactionFunction) -> Mapping[str, Any]:
    """Our description in the metadata."""
    return function.extension["x-tallystick"]  # type: ignore[no-any-return]


def line_of(description: str, name: str) -> str:
    """One of the four lines of a docstring, joined to one line of text."""
    match = re.search(rf"^{name}: (.*?)(?=^(?:{'|'.join(LINES)}): |\Z)", description, re.DOTALL | re.MULTILINE)
    if match is None:
        raise ValueError(f"no line {name} in {description}")
    return " ".join(match[1].split())


def summary_of(description: str) -> str:
    """The text before the four lines."""
    return " ".join(description.split("\n\nWho: ")[0].split())


def transaction_text() -> str:
    """One entry per transaction, by chaincode and word."""
    parts: list[str] = []
    heading = ("", "")
    for program, name, function in transactions():
        word = name.split(":")[0]
        if (program, word) != heading:
            heading = (program, word)
            parts.append(f"### {program}: {word}\n")
        described = extension(function)
        arrow = ""
        if described["to_state"]:
            sources = ", ".join(f"`{state}`" for state in described["from_states"]) or "new"
            arrow = f" {sources} → `{described['to_state']}`."
        marks = [f"action `{described['action']}`"] if described["action"] else []
        marks += ["moves value"] if described["moves_value"] else []
        marks += [f"transient `{field}`" for field in described["private"]]
        tail = f" ({', '.join(marks)})" if marks else ""
        description = function.description
        parts.append(f"**`{name}`**{tail}: {summary_of(description)}{arrow}")
        parts.extend(f"- *{line}*: {line_of(description, line)}" for line in LINES)
        parts.append("")
    return "\n".join(parts).rstrip()


def role_text() -> str:
    """Roles × transactions: a row per writing transaction."""
    short = {role: role.replace("_officer", "") for role in CALLERS}
    rows = [
        "| transaction | " + " | ".join(short.values()) + " |",
        "|---|" + "---|" * len(short),
    ]
    for program, name, function in transactions():
        described = extension(function)
        if described["event"] is None or not described["roles"]:
            continue
        cells = ["●" if role in described["roles"] else "" for role in CALLERS]
        rows.append(f"| {program} `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def action_text() -> str:
    """Grade × action: the transactions behind each action of the policy `permission`."""
    actions: dict[str, list[str]] = {}
    for _, name, function in transactions():
        if extension(function)["action"]:
            actions.setdefault(extension(function)["action"], []).append(name)
    rows = ["| action | transactions |", "|---|---|"]
    rows += [
        f"| `{action}` | {', '.join(f'`{name}`' for name in names)} |" for action, names in sorted(actions.items())
    ]
    return "\n".join(rows)


def event_text() -> str:
    """Every event of a change, with the transactions that carry it."""
    events: dict[str, list[str]] = {}
    for _, name, function in transactions():
        line = line_of(function.description, "Event")
        for event in re.findall(r"[a-z_]+\.[a-z_]+", line):
            if name not in events.setdefault(event, []):
                events[event].append(name)
    rows = ["| event | carried by |", "|---|---|"]
    rows += [f"| `{event}` | {', '.join(f'`{name}`' for name in names)} |" for event, names in sorted(events.items())]
    return "\n".join(rows)


def policy_text() -> str:
    """Policies with their fields and the chaincode that reads them."""
    rows = ["| policy | read by | fields | meaning |", "|---|---|---|---|"]
    for name, kind in TYPES.items():
        readers = [program for program, names in (("trade", TRADE), ("account", ACCOUNT)) if name in names]
        fields = ", ".join(f"`{field}`" for field in kind.__struct_fields__)
        meaning = (kind.__doc__ or "").strip().split("\n")[0]
        rows.append(f"| `{name}` | {', '.join(readers)} | {fields} | {meaning} |")
    return "\n".join(rows)


def reason_text() -> str:
    """Every reason with its code and sentence."""
    rows = ["| reason | code | sentence |", "|---|---|---|"]
    rows += [f"| `{reason}` | {code} | {sentence} |" for reason, (code, sentence) in CATALOGUE.items()]
    return "\n".join(rows)


PARTS = {
    "transactions": transaction_text,
    "roles": role_text,
    "actions": action_text,
    "events": event_text,
    "policies": policy_text,
    "reasons": reason_text,
}


def written(text: str) -> str:
    """The specification with its generated parts anew."""
    for name, part in PARTS.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"the specification has no part {name}")
        body = part()
        text = pattern.sub(lambda match, body=body: f"{match[1]}\n{body}\n\n{match[2]}", text)
    return text


if __name__ == "__main__":
    README.write_text(written(README.read_text("utf-8")), "utf-8")
