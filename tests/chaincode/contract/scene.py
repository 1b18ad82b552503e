"""Scenes: for each transaction the way to a valid call, and one case for each of its refusals, in their order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaincode.shim.contract import TransactionFunction
from tests.chaincode.contract.world import PROGRAMS, World, owner_of


class Drop:
    """Stands for a field that a case leaves out."""


DROP = Drop()


def nothing(world: World) -> None:
    """Leaves the world as it is."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call: who makes it, with which input and transient fields."""

    by: str
    input: Mapping[str, Any]
    transient: Mapping[str, bytes] | None = None
    chaincode: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One refusal: what is done to the world, what is changed in the input, who calls instead.

    ``change`` computes changed fields from the world; ``alone`` marks a case that cannot be joined with the one after
    it, so that their order cannot be tried.
    """

    reason: str
    input: Mapping[str, Any] = field(default_factory=dict)
    arrange: Callable[[World], None] = nothing
    by: str | None = None
    transient: Mapping[str, bytes] | None = None
    alone: bool = False
    change: Callable[[World, Mapping[str, Any]], Mapping[str, Any]] | None = None

    def apply(self, world: World, call: Call) -> Call:
        """The call with this case's changes, in the world as it needs it."""
        self.arrange(world)
        input = {**call.input, **self.input, **(self.change(world, call.input) if self.change else {})}
        return Call(
            self.by or call.by,
            {name: value for name, value in input.items() if value is not DROP},
            call.transient if self.transient is None else self.transient,
            call.chaincode,
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """One transaction: ``ready`` brings a world to where the call it answers is valid."""

    transaction: str
    ready: Callable[[World], Call]
    cases: tuple[Case, ...] = ()
    is_founded: bool = True
    chaincode: str | None = None

    def open(self) -> tuple[World, Call]:
        """A new world and the valid call in it."""
        world = World()
        if self.is_founded:
            world.found()
        return world, self.ready(world)


def case(reason: str, arrange: Callable[[World], None] = nothing, by: str | None = None, **input: Any) -> Case:
    """A case with the changes of the input as keywords."""
    return Case(reason, input, arrange, by)


def alone(reason: str, arrange: Callable[[World], None] = nothing, by: str | None = None, **input: Any) -> Case:
    """A case that cannot be joined with the next one."""
    return Case(reason, input, arrange, by, alone=True)


def function_of(scene: Scene) -> TransactionFunction:
    """The transaction's declaration."""
    word, verb = scene.transaction.split(":")
    return PROGRAMS[chaincode_of(scene)].contracts[word].transactions[verb]


def chaincode_of(scene: Scene) -> str:
    """The chaincode that a scene plays in."""
    return scene.chaincode or owner_of(scene.transaction)


def described(scene: Scene) -> Mapping[str, Any]:
    """Our description of the transaction in the contract metadata."""
    return function_of(scene).extension["x-tallystick"]  # type: ignore[no-any-return]
