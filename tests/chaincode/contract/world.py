"""A founded network in memory with people of every role, and short ways to take steps in it."""

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from msgspec import convert

from chaincode.contract.account import chaincode as account
from chaincode.contract.trade import chaincode as trade
from chaincode.domain import credit_code, invitation
from chaincode.domain.calendar import CalendarDays, next_business_day
from chaincode.domain.invoice import Kind, id_of
from chaincode.domain.role import ROLES
from chaincode.shim.execute import execute
from network.embedded.memory import Execute, MemoryLedger, Outcome
from tests.chaincode.contract.people import Person, attributes, person

ORGANISATIONS = {"core": "CoreMSP", "warehouse": "WarehouseMSP", "logistics": "LogisticsMSP", "bank": "BankMSP"}
COMPANIES = {"supplier": ("CoreMSP", "core"), "second": ("LogisticsMSP", "logistics"), "factor": ("BankMSP", "bank")}
FIRST_DATE = "2026-01-05"
DIGEST = "ab" * 32

PROGRAMS = {"trade": trade, "account": account}
ACCOUNT_WORDS = tuple(word for word in account.contracts if word not in trade.contracts)

POLICIES: list[dict[str, Any]] = [
    {"name": "currency", "default": "CNY", "exponents": {"CNY": 2, "USD": 2}},
    {"name": "date", "lag_days_max": 12},
    {
        "name": "permission",
        "cautious": "C2",
        "grades": {
            "A1": ["register", "issue", "sign_off", "transfer", "finance", "pledge", "repay", "withdraw"],
            "C2": ["register", "issue", "sign_off", "transfer", "repay", "withdraw"],
            "D": ["repay"],
        },
        "payment_transactions": [],
    },
    {"name": "voucher", "tenor_days_max": 183, "invoice_required": True, "quota_required": True},
    {"name": "rating", "days_max": 92},
    {"name": "settlement", "cut_off": "17:00", "grace_days": 5, "penalty_rate_ppm": 65_250},
]
CALENDAR_2026 = {
    "holidays": [
        "2026-01-01", "2026-01-02", "2026-02-16", "2026-02-17", "2026-02-18", "2026-02-19", "2026-02-20", "2026-02-23",
        "2026-04-06", "2026-05-01", "2026-05-04", "2026-05-05", "2026-06-19", "2026-09-25", "2026-10-01", "2026-10-02",
        "2026-10-05", "2026-10-06", "2026-10-07",
    ],
    "workdays": ["2026-01-04", "2026-02-14", "2026-02-28", "2026-05-09", "2026-09-20", "2026-10-10"],
    "source": "State Council notice on holidays of 2026",
    "digest": DIGEST,
    "complete": True,
}  # fmt: skip


def code_of(number: int) -> str:
    """A valid unified social credit code for tests."""
    first = f"91310000MA1{number:06d}"
    return first + credit_code.check_character(first)


def owner_of(name: str) -> str:
    """The chaincode that owns a transaction; both own ``policy``, which is trade's here."""
    return "account" if name.split(":")[0] in ACCOUNT_WORDS else "trade"


class Refused(Exception):
    """A step was refused: reason and whole message."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reason = message.split(":", 1)[0].split(" ")[-1]
        self.code = message.split(" ", 1)[0]


class World:
    """A network in memory. People are named ``company.role``; each role of a company is another person.

    ``company.all`` is one more person with every role, ``company.work`` one with a work certificate only.
    """

    def __init__(
        self,
        *,
        simulated_days: bool = True,
        policies: list[dict[str, Any]] | None = None,
        execute: Execute = execute,
    ) -> None:
        self.ledger = MemoryLedger([trade, account], execute=execute)
        self.requests = 0
        self.people: dict[str, Person] = {}
        self.unbound: list[str] = []
        self.made: list[str] = []
        self.transaction_ids: list[str] = []
        for name, msp_id in ORGANISATIONS.items():
            self.people[f"{name}.admin"] = person(f"{name}.admin", msp_id, unit="admin")
            self.people[f"{name}.service"] = person(f"{name}.service", msp_id, attributes(roles="service"))
        self.simulated_days = simulated_days
        self.policies = POLICIES if policies is None else policies

    def close(self) -> None:
        """End it."""
        self.ledger.close()

    # --- taking steps ------------------------------------------------------------------------------------------------

    def submit(
        self, name: str, by: str, input: Mapping[str, Any], *, chaincode: str | None = None,
        transient: Mapping[str, bytes] | None = None,
    ) -> Outcome:  # fmt: skip
        """Submit with this exact input and answer what came of it."""
        self._bind(by)
        creator = self.people[by].creator
        outcome = self.ledger.submit(
            chaincode or owner_of(name), name, [json.dumps(input)], creator=creator, transient=transient
        )
        self.transaction_ids.append(outcome.transaction_id)
        return outcome

    def do(
        self,
        name: str,
        by: str,
        /,
        *,
        chaincode: str | None = None,
        transient: Mapping[str, bytes] | None = None,
        **input: Any,
    ) -> dict[str, Any]:
        """Take a step; a refusal raises Refused. Without a request id a new one is made."""
        if "request_id" not in input:
            self.requests += 1
            input["request_id"] = f"R-{self.requests}"
        outcome = self.submit(name, by, input, chaincode=chaincode, transient=transient)
        if outcome.status >= 400:
            raise Refused(outcome.message)
        assert outcome.is_valid, outcome.reason
        self.last = outcome
        return json.loads(outcome.payload)  # type: ignore[no-any-return]

    def attempt(self, name: str, by: str, /, **input: Any) -> None:
        """Take a step unless it was taken before."""
        try:
            self.do(name, by, **input)
        except Refused as refused:
            if not refused.reason.endswith("_exists"):
                raise

    def read(self, name: str, /, *, chaincode: str | None = None, **input: Any) -> dict[str, Any]:
        """Evaluate a reading transaction; a refusal raises Refused."""
        creator = self.people["core.service"].creator
        outcome = self.ledger.evaluate(chaincode or owner_of(name), name, [json.dumps(input)], creator=creator)
        if outcome.status >= 400:
            raise Refused(outcome.message)
        return json.loads(outcome.payload)  # type: ignore[no-any-return]

    def event(self) -> dict[str, Any]:
        """The event of the last step."""
        assert self.last.event is not None
        return json.loads(self.last.event.payload)  # type: ignore[no-any-return]

    # --- arranging ---------------------------------------------------------------------------------------------------

    def founding(self) -> dict[str, Any]:
        """Input of ``member:found`` without a request id."""
        organisations = []
        people = []
        for number, (name, msp_id) in enumerate(ORGANISATIONS.items()):
            member_id = f"M-{name.upper()}"
            organisations.append(
                {
                    "member_id": member_id,
                    "msp_id": msp_id,
                    "company_name": f"{name.title()} Limited",
                    "credit_code": code_of(number),
                    "user_id": f"U-{name.upper()}-OPERATOR",
                }
            )
            people.extend(self._staff(name, member_id, msp_id))
        return {
            "organisations": organisations,
            "people": people,
            "policies": self.policies,
            "calendars": [{"year": 2026, "days": CALENDAR_2026}],
            "first_date": FIRST_DATE,
            "simulated_days": self.simulated_days,
        }

    def _staff(self, company: str, member_id: str, msp_id: str) -> list[dict[str, Any]]:
        """People of a company: one per role, one with all, one with a work certificate; as the founding lists them."""
        staff = []
        for role in (*ROLES, "all", "work"):
            roles = list(ROLES) if role in ("all", "work") else [role]
            use = "work" if role == "work" else "payment"
            user_id = f"U-{company.upper()}-{role.upper().replace('_', '-')}"
            who = person(
                f"{company}.{role}",
                msp_id,
                attributes(member_id=member_id, user_id=user_id, roles=",".join(roles), use=use),
            )
            self.people[who.name] = who
            staff.append(
                {
                    "fingerprint": who.fingerprint,
                    "member_id": member_id,
                    "user_id": user_id,
                    "roles": roles,
                    "use": use,
                }
            )
        return staff

    def found(self) -> "World":
        """Found the network."""
        self.do("member:found", "core.admin", **self.founding())
        return self

    def join(self, company: str) -> "World":
        """Bring a company in, with its people, up to its real name."""
        msp_id, _ = COMPANIES[company]
        binder = "warehouse.admin"
        member_id = f"M-{company.upper()}"
        self.apply(company)
        self.do("member:approve", "bank.admin", member_id=member_id, roles=list(ROLES))
        self._staff(company, member_id, msp_id)
        self.unbound.extend(f"{company}.{role}" for role in (*ROLES[1:], "all", "work"))
        first = f"{company}.operator"
        self.do("member:real_name", first, **self.name_of(company))
        self.do("certificate:bind", binder, fingerprint=self.people[first].fingerprint)
        return self

    def name_of(self, company: str) -> dict[str, Any]:
        """Input of ``member:real_name`` without a request id."""
        number = 10 + list(COMPANIES).index(company)
        return {"company_name": f"{company.title()} Limited", "credit_code": code_of(number)}

    def _bind(self, name: str) -> None:
        """Present and bind a person of a company that joined, when it is first needed."""
        if name in self.unbound:
            self.unbound.remove(name)
            self.do("certificate:present", name)
            self.do("certificate:bind", "warehouse.admin", fingerprint=self.people[name].fingerprint)

    def invite(self, code: str, sponsor: str = "core", expires_on: str = "2026-03-31") -> str:
        """Invite with a code; answers the id of the invitation."""
        identifier = invitation.id_of(code)
        self.do("invitation:create", f"{sponsor}.admin", invitation_id=identifier, expires_on=expires_on)
        return identifier

    def apply(self, company: str) -> None:
        """Register a company, which then waits for review."""
        _, sponsor = COMPANIES[company]
        self.invite(f"code of {company}", sponsor)
        self.do(
            "member:register", f"{sponsor}.service", transient={"invitation_code": f"code of {company}".encode()},
            **self.registration(company),
        )  # fmt: skip

    def registration(self, company: str) -> dict[str, Any]:
        """Input of ``member:register`` without a request id."""
        number = 10 + list(COMPANIES).index(company)
        return {
            "member_id": f"M-{company.upper()}",
            "user_id": f"U-{company.upper()}-OPERATOR",
            "kind": "company",
            "company_name": f"{company.title()} Limited",
            "credit_code": code_of(number),
            "profile_digest": DIGEST,
        }

    def next_day(self, count: int = 1) -> "World":
        """Close the day and advance the business date, some business days on."""
        for _ in range(count):
            today = self.read("business_date:get")["date"]
            for currency in ("CNY", "USD"):
                figures = {"closing_ledger_minor": 0, "closing_bank_minor": 0, "report_digest": DIGEST}
                self.attempt("day:close", "bank.treasury", currency=currency, date=today, **figures)
            self.do("business_date:advance", "bank.treasury", from_date=today, to_date=self.day_after(today))
        return self

    def day_after(self, day: str) -> str:
        """The next business day by the recorded calendar."""
        days = {
            year["year"]: convert(year["days"], CalendarDays)
            for year in self.read("calendar:list")["items"]
            if year["days"] is not None
        }
        return next_business_day(date.fromisoformat(day), days.get).isoformat()

    def set_policy(self, value: Mapping[str, Any], from_date: str, chaincode: str = "trade") -> "World":
        """Record a policy by two admins; the date has to be advanced to bring it in force."""
        self.do("policy:propose", "core.admin", chaincode=chaincode, value=value, from_date=from_date)
        self.do("policy:approve", "warehouse.admin", chaincode=chaincode, name=value["name"])
        return self

    def credit(self, account_id: str, amount_minor: int, fold: bool = True) -> str:
        """Bring money in for an account, folded into its balance unless told otherwise; answers the credit's id."""
        self.requests += 1
        self.do(
            "bank_entry:record", "bank.treasury", entry_id=f"BE-{self.requests}", control_account="CONTROL",
            currency=account_id[-3:], amount_minor=amount_minor, direction="C", booking_date=FIRST_DATE,
            value_date=FIRST_DATE, servicer_reference=f"S-{self.requests}", account_id=account_id,
        )  # fmt: skip
        credit_id = f"{self.last.transaction_id}-0000"
        if fold:
            self.do("account:fold", "bank.treasury", account_id=account_id, credit_ids=[credit_id])
        return credit_id

    # --- vouchers ----------------------------------------------------------------------------------------------------

    def invoice(self, number: str = "1", amount_minor: int = 1_000, **other: Any) -> str:
        """Register an invoice of the supplier to core; answers its id."""
        values = {
            "kind": "invoice", "supplier_id": "M-SUPPLIER", "buyer_id": "M-CORE", "invoice_code": "IC",
            "invoice_number": number, "invoice_date": "2026-01-02", "amount_minor": amount_minor, "digest": DIGEST,
        }  # fmt: skip
        input = {**values, **other}
        self.do("invoice:register", "core.operator", **input)
        return self.invoice_id(number, input["kind"], input["supplier_id"])

    def invoice_id(self, number: str, kind: Kind = "invoice", supplier_id: str = "M-SUPPLIER") -> str:
        """Id of an invoice that ``invoice`` registers."""
        return id_of(kind, self.read("member:get", member_id=supplier_id)["credit_code"], "IC", number)

    def draft(self, invoice_id: str, voucher_id: str = "V-1", amount_minor: int = 900, **other: Any) -> dict[str, Any]:
        """Input of ``voucher:register`` without a request id."""
        return {
            "voucher_id": voucher_id,
            "number": voucher_id,
            "receiver_id": "M-SUPPLIER",
            "amount_minor": amount_minor,
            "due_date": "2026-01-30",
            "contract_reference": "C-1",
            "invoices": [{"invoice_id": invoice_id, "amount_minor": amount_minor}],
            **other,
        }

    def voucher(self, state: str, voucher_id: str = "V-1", amount_minor: int = 900, **other: Any) -> "World":
        """Bring a voucher of core to the supplier into a state; the first one also brings companies and quota."""
        if "Q-1" not in self.made:
            self.join("supplier").join("second")
            self.quota()
        invoice_id = self.invoice(f"for-{voucher_id}")
        self.do("voucher:register", "core.operator", **self.draft(invoice_id, voucher_id, amount_minor, **other))
        for stop, name, by, more in self._arrows(voucher_id, amount_minor):
            if stop == state:
                return self
            self.do(name, by, voucher_id=voucher_id, **more)
        return self

    def quota(self, quota_id: str = "Q-1", issuer_id: str = "M-CORE", **other: Any) -> None:
        """Grant a quota of 1,000 minor units in each of its 64 slices."""
        values = {
            "quota_id": quota_id, "issuer_id": issuer_id, "currency": "CNY", "limit_minor": 64_000,
            "valid_from": FIRST_DATE, "valid_until": "2026-12-31",
        }  # fmt: skip
        self.do("quota:propose", "bank.preliminary_officer", **{**values, **other})
        self.do("quota:approve", "bank.final_officer", quota_id=quota_id)
        self.made.append(quota_id)

    def issue(self, voucher_id: str = "V-1", amount_minor: int = 900) -> dict[str, Any]:
        """Input of ``voucher:issue`` without voucher and request id; each voucher has a slice of its own."""
        number = 2 + int(voucher_id.removeprefix("V-"))
        slices = [{"quota_id": "Q-1", "slice": number, "amount_minor": amount_minor}]
        return {"unsigned_digest": DIGEST, "signed_digest": DIGEST, "slices": slices}

    # --- settlement --------------------------------------------------------------------------------------------------

    def until(self, day: str) -> "World":
        """Advance the business date to a day."""
        while self.read("business_date:get")["date"] < day:
            self.next_day()
        return self

    def settle(
        self, state: str = "", total_minor: int = 900, run_id: str = "ST-1", payment_date: str = "2026-01-30",
        weight_minor: int = 900,
    ) -> "World":  # fmt: skip
        """Advance to a payment date and bring a run of core into a state; a total below the weight is shared."""
        self.until(payment_date)
        steps: list[tuple[str, str, dict[str, Any]]] = [
            ("none", "open", {"issuer_id": "M-CORE", "currency": "CNY", "payment_date": payment_date}),
            ("open", "plan", {"page": 1}),
            ("planned", "fund", {"total_minor": total_minor}),
        ]
        if total_minor < weight_minor:
            steps += [
                ("funded", "share", {"page": 1, "cut": {"remainder": weight_minor, "root_id": "V-1", "start": 1}}),
                ("shared", "seal", {}),
            ]
        steps += [("sealed", "pay", {"page": 1}), ("paid", "close", {})]
        for stop, verb, input in steps:
            if stop == state:
                return self
            self.do(f"settlement:{verb}", "bank.treasury", run_id=run_id, **input)
        return self

    def _arrows(self, voucher_id: str, amount_minor: int) -> list[tuple[str, str, str, dict[str, Any]]]:
        """The way of a voucher: the state it is in, the next step, who takes it, its input."""
        transfer = {"to_member_id": "M-SECOND", "amount_minor": amount_minor, "recourse": False}
        return [
            ("draft", "voucher:submit", "core.operator", {}),
            ("submitted", "voucher:approve", "core.reviewer", {}),
            ("approved", "voucher:issue", "core.approver", self.issue(voucher_id, amount_minor)),
            ("issued", "voucher:sign_off", "supplier.operator", {}),
            ("signed_off", "voucher:transfer", "supplier.operator", transfer),
            ("held", "voucher:approve_transfer", "supplier.approver", {}),
        ]
