"""A program that reaches one module in every way an import statement can."""

import msgspec

import chaincode.shim.keys
import tests.network.embedded.programs
from chaincode.shim.errors import ContractError
from chaincode.shim.stub import Transaction
from tests.network.embedded import programs as from_package

from . import programs as relative

__all__ = ["ContractError", "by_name", "from_package", "program"]

by_name = tests.network.embedded.programs
shim_keys = chaincode.shim.keys
assert by_name is relative


def late() -> object:
    """An import that happens when the program runs."""
    from tests.network.embedded import programs

    return programs


class Inner(msgspec.Struct):
    """Named in an annotation that is text."""


class Outer(msgspec.Struct):
    inner: "Inner"


def decoded() -> type:
    """The class that msgspec makes of the annotation."""
    return type(msgspec.json.decode(b'{"inner": {}}', type=Outer).inner)


class Program:
    def invoke(self, tx: Transaction, /) -> bytes:
        return b""


program = Program()
