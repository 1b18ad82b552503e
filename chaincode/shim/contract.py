"""Contracts: classes whose marked methods are transactions, and the chaincode that dispatches to them.

    class VoucherContract(Contract, name="voucher"):
        @submit
        def issue(self, tx: Transaction, input: IssueVoucher) -> Voucher: ...

    chaincode = Chaincode("trade", "1.0", [VoucherContract])

The method's name is the transaction's name: `voucher:issue` on the wire, for any official client too. A function
without a contract's name goes to the first contract. Every transaction gets a fresh contract object.
"""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, overload

from chaincode.shim import arguments, metadata
from chaincode.shim.canonical import CanonicalError
from chaincode.shim.errors import ContractError
from chaincode.shim.stub import Mode, Response, Transaction

__all__ = ["Chaincode", "Contract", "Response", "Transaction", "TransactionFunction", "query", "submit"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_MARK = "_tallystick_transaction"


@dataclass(frozen=True, slots=True)
class TransactionFunction:
    """One transaction as declared: its name, mode, typed parameters and what the metadata says about it."""

    name: str
    mode: Mode
    method: Callable[..., Any]
    parameters: Mapping[str, Any]
    """Declared type by parameter name, in order; without `self` and the transaction."""
    returns: Any
    extension: Mapping[str, Any]
    decoders: tuple[arguments.Decoder, ...] = field(repr=False)

    @property
    def description(self) -> str:
        """The docstring, indentation removed."""
        return inspect.cleandoc(self.method.__doc__ or "")

    def call(self, contract: "Contract", tx: Transaction, args: Sequence[bytes]) -> bytes:
        """Decode the arguments, run the method and encode what it returns."""
        values = []
        for name, decode, data in zip(self.parameters, self.decoders, args, strict=True):
            if len(data) > tx.limits.argument_bytes:
                raise ContractError(
                    f"INVALID argument_too_large: {name} is larger than {tx.limits.argument_bytes} bytes"
                )
            try:
                values.append(decode(data))
            except (arguments.ArgumentError, CanonicalError) as error:
                raise ContractError(f"INVALID input_malformed: {name}: {error}") from error
        tx.mode = self.mode
        return arguments.encode(self.method(contract, tx, *values))


class Contract:
    """Base of contract classes; `name` in the class statement is the name on the wire (default: the class's own)."""

    contract_name: ClassVar[str]
    transactions: ClassVar[Mapping[str, TransactionFunction]]

    def __init_subclass__(cls, name: str | None = None, **extra: Any) -> None:
        super().__init_subclass__(**extra)
        cls.contract_name = name or cls.__name__
        if ":" in cls.contract_name:
            raise TypeError("the name of a contract holds a colon")
        marked = {}
        for base in reversed(cls.__mro__):
            for method_name, value in vars(base).items():
                if (mark := getattr(value, _MARK, None)) is not None:
                    marked[method_name] = _function(method_name, value, *mark)
                else:
                    marked.pop(method_name, None)
        cls.transactions = marked


@overload
def submit(function: _Function, /) -> _Function: ...
@overload
def submit(*, extension: Mapping[str, Any] | None = None) -> Callable[[_Function], _Function]: ...
def submit(function: Any = None, /, *, extension: Mapping[str, Any] | None = None) -> Any:
    """Mark a method as a transaction that may write. `extension` joins its metadata: keys beginning with `x-`."""
    return _mark(function, Mode.SUBMIT, extension)


@overload
def query(function: _Function, /) -> _Function: ...
@overload
def query(*, extension: Mapping[str, Any] | None = None) -> Callable[[_Function], _Function]: ...
def query(function: Any = None, /, *, extension: Mapping[str, Any] | None = None) -> Any:
    """Mark a method as a transaction that only reads: the stub refuses writes and events. See `submit`."""
    return _mark(function, Mode.QUERY, extension)


class Chaincode:
    """Contracts deployed together as one chaincode; also answers Fabric's own `org.hyperledger.fabric:GetMetadata`.

    `title` and `description` appear in the metadata. Raises TypeError for two contracts of one name, or none.
    """

    def __init__(
        self,
        name: str,
        version: str,
        contracts: Sequence[type[Contract]],
        *,
        title: str | None = None,
        description: str = "",
    ) -> None:
        self.name = name
        self.version = version
        self.title = title or name
        self.description = description
        self.contracts = {contract.contract_name: contract for contract in contracts}
        if len(self.contracts) != len(contracts) or not contracts or metadata.SYSTEM_CONTRACT in self.contracts:
            raise TypeError("a chaincode has at least one contract, and each a name of its own")
        self._default = contracts[0].contract_name
        self._metadata = metadata.contract_metadata(self)
        self._build_info: bytes | None = None

    def invoke(self, tx: Transaction) -> bytes:
        """Dispatch on the first argument and return the payload of the answer; raises ContractError to refuse."""
        name = _function_name(tx.args)
        contract_name, separator, function_name = name.rpartition(":")
        if not separator:
            contract_name = self._default
        if contract_name == metadata.SYSTEM_CONTRACT:
            return self._system(tx, function_name)
        contract = self.contracts.get(contract_name)
        function = None if contract is None else contract.transactions.get(function_name)
        if contract is None or function is None:
            raise self.unknown_transaction(name)
        if len(tx.args) - 1 != len(function.parameters):
            raise self.wrong_argument_count(function, len(tx.args) - 1)
        return function.call(contract(), tx, tx.args[1:])

    def unknown_transaction(self, name: str) -> ContractError:
        """The refusal of a function that no contract has; a subclass may word it its own way."""
        return ContractError(f"INVALID unknown_transaction: {self.name} has no transaction {name[:128]}")

    def wrong_argument_count(self, function: TransactionFunction, count: int) -> ContractError:
        """The refusal of a call with too few or too many arguments."""
        return ContractError(
            f"INVALID argument_count: {function.name} takes {len(function.parameters)} arguments, not {count}"
        )

    def metadata(self) -> bytes:
        """The contract metadata in Fabric's form as canonical JSON."""
        return self._metadata

    def build_info(self) -> bytes:
        """What this program is made of, for comparing organisations: canonical JSON of `metadata.BuildInfo`."""
        if self._build_info is None:
            self._build_info = metadata.build_info(self)
        return self._build_info

    def _system(self, tx: Transaction, function_name: str) -> bytes:
        tx.mode = Mode.QUERY
        match function_name:
            case "GetMetadata":
                return self.metadata()
            case "BuildInfo":
                return self.build_info()
            case _:
                raise self.unknown_transaction(f"{metadata.SYSTEM_CONTRACT}:{function_name}")


def _mark(function: Any, mode: Mode, extension: Mapping[str, Any] | None) -> Any:
    for key in extension or {}:
        if not key.startswith("x-"):
            raise TypeError("a key of a metadata extension begins with x-")

    def mark(method: Any) -> Any:
        setattr(method, _MARK, (mode, dict(extension or {})))
        return method

    return mark if function is None else mark(function)


def _function(name: str, method: Callable[..., Any], mode: Mode, extension: Mapping[str, Any]) -> TransactionFunction:
    parameters = list(inspect.signature(method).parameters.values())[2:]
    hints = typing.get_type_hints(method, include_extras=True)
    for parameter in parameters:
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or parameter.default is not parameter.empty:
            raise TypeError(f"{name}: parameter {parameter.name} is not a plain one without default")
        if parameter.name not in hints:
            raise TypeError(f"{name}: parameter {parameter.name} has no type")
    declared = {parameter.name: hints[parameter.name] for parameter in parameters}
    return TransactionFunction(
        name=name,
        mode=mode,
        method=method,
        parameters=declared,
        returns=hints.get("return"),
        extension=extension,
        decoders=tuple(arguments.decoder(kind) for kind in declared.values()),
    )


def _function_name(args: Sequence[bytes]) -> str:
    if not args:
        raise ContractError("INVALID argument_count: the first argument names the transaction")
    try:
        return args[0].decode()
    except UnicodeDecodeError as error:
        raise ContractError("INVALID unknown_transaction: the transaction's name is not UTF-8") from error
