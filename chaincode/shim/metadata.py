"""What a chaincode says about itself: the contract metadata in Fabric's form, and what the program is made of.

Source of the form: `contract-schema.json` of fabric-chaincode-node's `fabric-contract-api`. Per transaction we add
`description` (the docstring) and whatever extension keys (`x-...`) the contract gave.
"""

import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from chaincode.shim import arguments
from chaincode.shim.stub import Mode

if TYPE_CHECKING:
    from chaincode.shim.contract import Chaincode, Contract, TransactionFunction

SHIM_VERSION: Final = "1.0"
"""Version of the shim's behaviour; organisations that run one chaincode run one version."""

SYSTEM_CONTRACT: Final = "org.hyperledger.fabric"
"""Fabric's own contract name, present in every chaincode."""

_SCHEMA = "https://hyperledger.github.io/fabric-chaincode-node/main/api/contract-schema.json"
_COMPONENTS = "#/components/schemas/"
_TAGS = {Mode.SUBMIT: ["SUBMIT", "submitTx"], Mode.QUERY: ["EVALUATE", "evaluateTx"]}
_DISTRIBUTIONS = {"protos": "hyperledger-fabric-protos", "protobuf": "protobuf", "msgspec": "msgspec"}


class BuildInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What must be equal on all organisations that endorse for one chaincode."""

    chaincode: str
    version: str
    code_digest: str
    """SHA-256, hex, over every Python file of the packages that the contracts and the shim come from."""
    python: str
    """Implementation and full version, as `CPython 3.11.7`."""
    shim: str
    protos: str
    protobuf: str
    msgspec: str


def contract_metadata(chaincode: "Chaincode") -> bytes:
    """The contract metadata as JSON with sorted keys."""
    declared = [
        kind
        for contract in chaincode.contracts.values()
        for function in contract.transactions.values()
        for kind in (*function.parameters.values(), function.returns)
        if kind not in (None, type(None))
    ]
    found, components = arguments.schemas(declared, _COMPONENTS)
    schemas = iter(found)
    info = {"title": chaincode.title, "version": chaincode.version, "description": chaincode.description}
    contracts = {
        name: _contract(contract, schemas, info, default=position == 0)
        for position, (name, contract) in enumerate(chaincode.contracts.items())
    }
    contracts[SYSTEM_CONTRACT] = {
        "name": SYSTEM_CONTRACT,
        "contractInstance": {"name": SYSTEM_CONTRACT, "default": False},
        "info": {"title": "Fabric's own contract", "version": SHIM_VERSION},
        "transactions": [
            {"name": name, "tag": _TAGS[Mode.QUERY], "parameters": [], "returns": {"type": "string"}}
            for name in ("BuildInfo", "GetMetadata")
        ],
    }
    return msgspec.json.encode(
        {
            "$schema": _SCHEMA,
            "info": info,
            "contracts": contracts,
            "components": {"schemas": {name: {"$id": name, **schema} for name, schema in components.items()}},
        },
        order="sorted",
    )


def _contract(contract: type["Contract"], schemas: Any, info: dict[str, str], *, default: bool) -> dict[str, Any]:
    return {
        "name": contract.contract_name,
        "contractInstance": {"name": contract.contract_name, "default": default},
        "info": {"title": contract.contract_name, "version": info["version"]},
        "transactions": [_transaction(function, schemas) for function in contract.transactions.values()],
    }


def _transaction(function: "TransactionFunction", schemas: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": function.name,
        "tag": _TAGS[function.mode],
        "parameters": [{"name": name, "required": True, "schema": next(schemas)} for name in function.parameters],
        **function.extension,
    }
    if function.returns not in (None, type(None)):
        entry["returns"] = next(schemas)
    if function.description:
        entry["description"] = function.description
    return entry


def build_info(chaincode: "Chaincode") -> bytes:
    """What the program is made of, as canonical JSON of BuildInfo."""
    versions = {name: importlib.metadata.version(distribution) for name, distribution in _DISTRIBUTIONS.items()}
    info = BuildInfo(
        chaincode=chaincode.name,
        version=chaincode.version,
        code_digest=code_digest(_packages(chaincode)),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        shim=SHIM_VERSION,
        **versions,
    )
    return msgspec.json.encode(info, order="sorted")


def code_digest(packages: list[Path]) -> str:
    """SHA-256, hex, over the Python files below the packages: name within the package and content, in sorted order."""
    digest = hashlib.sha256()
    for package in packages:
        files = [package] if package.is_file() else sorted(package.rglob("*.py"))
        for file in files:
            name = file.relative_to(package.parent).as_posix().encode()
            content = file.read_bytes()
            digest.update(len(name).to_bytes(4, "big") + name + len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def _packages(chaincode: "Chaincode") -> list[Path]:
    """The outermost packages (or single files) of the contracts' code and of the shim.

    Found by the code's own file name: a host may load the modules under names that are not in `sys.modules`.
    """
    files = {Path(__file__)}
    for contract in chaincode.contracts.values():
        files.update(Path(function.method.__code__.co_filename) for function in contract.transactions.values())
    return sorted({_outermost(file) for file in files}, key=lambda package: package.name)


def _outermost(file: Path) -> Path:
    found = file.resolve()
    while (found.parent / "__init__.py").is_file():
        found = found.parent
    return found
