"""One writing transaction from proposal to event: the one place where all of them are authorised, repeated and saved.

Order: shape (by the shim), certificate, request id, role and standing, then the body (existence, ownership, state,
date, policy, amount), then freshness of the clock, the call of ``account``, all writes, the request, one event.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, Protocol, TypeVar, get_type_hints

import msgspec

from chaincode.contract.authority import Actor, Registry, identify, permit
from chaincode.domain.account import Posting
from chaincode.domain.business_date import BusinessDate
from chaincode.domain.error import DomainError
from chaincode.domain.policy import V, in_force
from chaincode.domain.record import Input, Record, Trace
from chaincode.ledger.policy import POLICIES
from chaincode.ledger.request import REQUESTS, Request
from chaincode.ledger.store import Store, recorded_at
from chaincode.shim.contract import Transaction, query, submit
from chaincode.shim.errors import STATUS_REFUSED_MIN, ContractError

EXTENSION: Final = "x-tallystick"
"""Key of our description of a transaction in the contract metadata."""

NOTES_MAX: Final = 100
"""Changes that an answer names: it is kept with the request, whose record is small."""

_encode = msgspec.json.Encoder(order="sorted").encode

I = TypeVar("I", bound=Input)  # noqa: E741 - the type of a step's input
Q = TypeVar("Q", bound=msgspec.Struct)
A = TypeVar("A", bound=msgspec.Struct)


class ChangeNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One changed record in an answer: its word, id and event."""

    word: str
    id: str
    event: str


class RowNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to one row of a batch: empty reason and sentence for a row that was taken."""

    id: str
    reason: str
    sentence: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answer of every writing transaction; a repeat of the request gets the same one.

    ``changes`` names the first 100 of ``changes_count`` changes; the event has them all.
    """

    transaction_id: str
    business_date: date
    changes: tuple[ChangeNote, ...]
    changes_count: int
    rows: tuple[RowNote, ...] = ()


class PostAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``account:post`` changed, with the whole new records."""

    changes: tuple[dict[str, Any], ...]


class Site(Protocol):
    """What differs between the chaincodes: where certificate, standing and date are read."""

    def registry(self, tx: Transaction, store: Store) -> Registry:
        """Where certificates and standing are read."""

    def business_date(self, tx: Transaction, store: Store) -> BusinessDate:
        """The business date. Raises ``NOT_FOUND network_not_founded``."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a writing transaction declares; its metadata and its checks are made of it."""

    name: str
    roles: tuple[str, ...]
    event: str
    action: str | None
    moves_value: bool
    from_states: tuple[str, ...]
    to_state: str | None
    private: tuple[str, ...]

    @property
    def extension(self) -> Mapping[str, Any]:
        """The description of the transaction in the contract metadata."""
        word, _, verb = self.name.partition(":")
        return {
            EXTENSION: {
                "word": word,
                "verb": verb,
                "from_states": list(self.from_states),
                "to_state": self.to_state,
                "roles": list(self.roles),
                "action": self.action,
                "moves_value": self.moves_value,
                "event": self.event,
                "private": list(self.private),
            }
        }


@dataclass(slots=True)
class Step:
    """One writing transaction under way: who acts, on which date, what it changed so far."""

    tx: Transaction
    store: Store
    actor: Actor
    request_id: str
    dated: BusinessDate | None
    changes: dict[tuple[str, str], tuple[str, Record]] = field(default_factory=dict)
    postings: list[Posting] = field(default_factory=list)
    rows: list[RowNote] = field(default_factory=list)

    @property
    def current(self) -> BusinessDate:
        """The record of the business date; ``member:found`` sets it."""
        if self.dated is None:
            raise DomainError("network_not_founded")
        return self.dated

    @property
    def today(self) -> date:
        """The business date."""
        return self.current.date

    def trace(self, reason: str = "") -> Trace:
        """Who, when and why, for the records that this step changes."""
        return self.actor.trace(self.today, reason)

    def policy(self, name: str, kind: type[V]) -> V:
        """The value of a policy in force today. Raises ``CONFLICT policy_missing``."""
        return in_force(POLICIES.find(self.store, name), name, self.today, kind)

    def change(self, word: str, identifier: str, event: str, record: Record) -> None:
        """Note a changed record for the event; of several of one record the last stands, in the first's place."""
        self.changes[(word, identifier)] = (event, record)

    def post(self, posting: Posting) -> None:
        """Ask for a movement of money; all of a step go to ``account`` in one call when the step is saved."""
        self.postings.append(posting)


def write(
    name: str,
    site: Site,
    *,
    roles: tuple[str, ...],
    event: str,
    action: str | None = None,
    moves_value: bool = False,
    from_states: tuple[str, ...] = (),
    to_state: str | None = None,
    private: tuple[str, ...] = (),
    is_founding: bool = False,
) -> Callable[[Callable[[Any, Step, I], None]], Callable[[Any, Transaction, I], Receipt]]:
    """Make a writing transaction of a body that takes the step and its input.

    ``name`` is the transaction's name on the wire, ``event`` the first change's, ``private`` the fields of the
    transient map.
    """
    rule = Rule(
        name=name,
        roles=roles,
        event=event,
        action=action,
        moves_value=moves_value,
        from_states=from_states,
        to_state=to_state,
        private=private,
    )

    def decorate(body: Callable[[Any, Step, I], None]) -> Callable[[Any, Transaction, I], Receipt]:
        def method(self: Any, tx: Transaction, input: I) -> bytes:
            with refusals():
                return _encode(_run(self, tx, input, rule, site, body, is_founding))

        marked: Callable[[Any, Transaction, I], Receipt]
        marked = submit(extension=rule.extension)(_dressed(method, body, Receipt))
        return marked

    return decorate


def read(name: str) -> Callable[[Callable[[Any, Store, Q], A]], Callable[[Any, Transaction, Q], A]]:
    """Make a reading transaction of a body that takes the store and its input; open to everybody on the channel."""
    word, _, verb = name.partition(":")
    empty: dict[str, Any] = {"from_states": [], "to_state": None, "action": None, "event": None, "private": []}
    extension = {EXTENSION: {"word": word, "verb": verb, "roles": [], "moves_value": False, **empty}}

    def decorate(body: Callable[[Any, Store, Q], A]) -> Callable[[Any, Transaction, Q], A]:
        def method(self: Any, tx: Transaction, input: Q) -> bytes:
            with refusals():
                return _encode(body(self, Store(tx), input))

        marked: Callable[[Any, Transaction, Q], A]
        marked = query(extension=extension)(_dressed(method, body, get_type_hints(body)["return"]))
        return marked

    return decorate


def called(name: str, event: str) -> Callable[[Callable[[Any, Transaction, Q], A]], Callable[[Any, Transaction, Q], A]]:
    """Make a writing transaction that another chaincode calls as a part of its own step; the body saves by itself."""
    rule = Rule(
        name=name, roles=(), event=event, action=None, moves_value=False, from_states=(), to_state=None, private=()
    )

    def decorate(body: Callable[[Any, Transaction, Q], A]) -> Callable[[Any, Transaction, Q], A]:
        def method(self: Any, tx: Transaction, input: Q) -> bytes:
            with refusals():
                return _encode(body(self, tx, input))

        marked: Callable[[Any, Transaction, Q], A]
        marked = submit(extension=rule.extension)(_dressed(method, body, None))
        return marked

    return decorate


class refusals:
    """Turns a refusal of the domain into the contract's answer ``CODE reason: sentence`` with the code's status."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DomainError):
            raise ContractError(str(error), error.status) from error


def _dressed(method: Any, body: Any, returns: Any) -> Any:
    functools.update_wrapper(method, body)
    del method.__wrapped__
    method.__annotations__ = {"tx": Transaction, "input": get_type_hints(body)["input"], "return": returns}
    return method


def _run(
    contract: Any,
    tx: Transaction,
    input: I,
    rule: Rule,
    site: Site,
    body: Callable[[Any, Step, I], None],
    is_founding: bool,
) -> Receipt:
    store = Store(tx)
    registry = site.registry(tx, store)
    actor = identify(tx, registry, rule.roles)
    digest = _digest(tx, rule, input)
    known = REQUESTS.find(store, actor.member_id, input.request_id)
    if known is not None:
        if known.input_digest != digest:
            raise DomainError("request_reused", request_id=input.request_id)
        return msgspec.json.decode(known.answer, type=Receipt)
    dated = None if is_founding else site.business_date(tx, store)
    step = Step(tx=tx, store=store, actor=actor, request_id=input.request_id, dated=dated)
    step.actor = permit(
        actor, registry, step.today if dated else date.min, rule.name, rule.roles, rule.action, rule.moves_value
    )
    body(contract, step, input)
    return _finish(step, rule, digest)


def _digest(tx: Transaction, rule: Rule, input: Input) -> str:
    """Digest of transaction name and input; of transient fields it covers their hash."""
    hidden = [hashlib.sha256(tx.transient.get(name, b"")).hexdigest() for name in rule.private]
    return hashlib.sha256(_encode([rule.name, input, hidden])).hexdigest()


def _finish(step: Step, rule: Rule, digest: str) -> Receipt:
    """Check the clock, move the money, save, remember the request and set the event."""
    tx = step.tx
    step.current.check_fresh(tx.timestamp.seconds)
    changes: list[dict[str, Any]] = [
        {"word": word, "id": identifier, "event": event, "record": record}
        for (word, identifier), (event, record) in step.changes.items()
    ]
    if step.postings:
        changes.extend(_post(step))
    receipt = Receipt(
        transaction_id=tx.transaction_id,
        business_date=step.today,
        changes=tuple(
            ChangeNote(word=note["word"], id=note["id"], event=note["event"]) for note in changes[:NOTES_MAX]
        ),
        changes_count=len(changes),
        rows=tuple(step.rows),
    )
    request = Request(input_digest=digest, answer=_encode(receipt).decode(), transaction_id=tx.transaction_id)
    REQUESTS.save(step.store, request, step.actor.member_id, step.request_id)
    step.store.flush()
    if changes:
        tx.set_event(changes[0]["event"], _envelope(step, rule, changes))
    return receipt


def _post(step: Step) -> tuple[dict[str, Any], ...]:
    """Make the one writing call of ``account``; its refusal is passed on with the same status and text."""
    request = {"business_date": step.today, "actor": wire_actor(step.actor), "postings": step.postings}
    response = step.tx.invoke_chaincode("account", [b"account:post", _encode(request)])
    if response.status >= STATUS_REFUSED_MIN:
        raise ContractError(response.message, response.status)
    return msgspec.json.decode(response.payload, type=PostAnswer).changes


def wire_actor(actor: Actor) -> dict[str, str]:
    """The acting person as events and ``account:post`` name it."""
    return {"member_id": actor.member_id, "user_id": actor.user_id, "msp_id": actor.msp_id}


def _envelope(step: Step, rule: Rule, changes: list[dict[str, Any]]) -> bytes:
    return _encode(
        {
            "schema": 1,
            "transaction": rule.name,
            "request_id": step.request_id,
            "business_date": step.today,
            "recorded_at": recorded_at(step.tx.timestamp.seconds),
            "actor": wire_actor(step.actor),
            "changes": changes,
        }
    )
