"""Loading a chaincode program so that no two organisations share its modules.

Organisations on one Fabric network run in processes of their own. Here they share one, so each gets its own copy of
every module under the program's top package; a value kept in a module then differs between organisations as it would
there, instead of hiding a contract that is not deterministic. The copies carry names of their own (`chaincode@CoreMSP`)
in `sys.modules`, because the standard library and msgspec resolve annotations through the module's name.
"""

import builtins
import importlib.util
import itertools
import sys
import threading
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol

from chaincode.shim.stub import Transaction

# The shim is the boundary to the peer: shared, so that both sides mean the same classes.
SHARED = "chaincode.shim"


class ProgramError(Exception):
    """A program of the topology cannot be loaded; the text names it and the reason."""


class Program(Protocol):
    """A chaincode that runs in this process."""

    def invoke(self, tx: Transaction, /) -> bytes:
        """Run one transaction (see chaincode.shim.execute)."""
        ...


def load(program: str, owner: str) -> Program:
    """Load `module:attribute` in a copy of its top package that belongs to `owner` alone.

    Raises ProgramError when the name has no such form, the module cannot be imported, or what it names is no program.
    """
    module_name, separator, attribute = program.partition(":")
    if not separator or not module_name or not attribute:
        raise ProgramError(f"program {program!r} is not of the form module:attribute")
    try:
        module = _Copies(module_name.partition(".")[0], owner).load(module_name)
    except ImportError as error:
        raise ProgramError(f"program {program!r} cannot be imported: {error}") from error
    found: Program | None = getattr(module, attribute, None)
    if found is None or not callable(getattr(found, "invoke", None)):
        raise ProgramError(f"program {program!r} is no chaincode: {attribute} has no invoke")
    return found


_COPIES = itertools.count(1)


class _Copies:
    """The private modules of one owner and the import function that they see."""

    def __init__(self, top: str, owner: str) -> None:
        self._top = top
        # Numbered, so that a second network in one process does not find the modules of the first.
        self._alias = f"{top}@{owner}#{next(_COPIES)}"
        self._lock = threading.RLock()
        self._builtins = {**vars(builtins), "__import__": self._import}

    def load(self, name: str) -> ModuleType:
        """The copy of module `name`, made when first asked for, after its parent packages."""
        alias = self._alias_of(name)
        with self._lock:
            if alias in sys.modules:
                return sys.modules[alias]
            parent_name, _, leaf = name.rpartition(".")
            parent = self.load(parent_name) if parent_name else None
            # The parent's load may have imported this very module.
            if alias in sys.modules:
                return sys.modules[alias]
            module = self._execute(name, alias)
            if parent is not None:
                setattr(parent, leaf, module)
            return module

    def _execute(self, name: str, alias: str) -> ModuleType:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        private = importlib.util.spec_from_file_location(
            alias, spec.origin, submodule_search_locations=spec.submodule_search_locations
        )
        if private is None or private.loader is None:
            raise ModuleNotFoundError(f"module {name!r} has no source file", name=name)
        module = importlib.util.module_from_spec(private)
        vars(module)["__builtins__"] = self._builtins
        sys.modules[alias] = module
        try:
            private.loader.exec_module(module)
        except BaseException:
            del sys.modules[alias]
            raise
        return module

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        wanted = self._absolute(name, globals or {}, level)
        if wanted.partition(".")[0] != self._top:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if not fromlist:
            self._get(wanted)
            return self.load(wanted.partition(".")[0])
        module = self._get(wanted)
        for each in fromlist:
            if each != "*" and not hasattr(module, each) and hasattr(module, "__path__"):
                try:
                    self._get(f"{wanted}.{each}")
                except ModuleNotFoundError as error:
                    if error.name != f"{wanted}.{each}":
                        raise
        return module

    def _get(self, name: str) -> ModuleType:
        if name == SHARED or name.startswith(SHARED + "."):
            module = importlib.import_module(name)
            # `import chaincode.shim.x` reads the attribute of the package, which is a copy here.
            self.load(self._top).__dict__["shim"] = sys.modules[SHARED]
            return module
        return self.load(name)

    def _absolute(self, name: str, module: Mapping[str, Any], level: int) -> str:
        """The name that an import statement means, in the words of the source (never the alias)."""
        if level == 0:
            return name
        package = str(module.get("__package__") or "")
        resolved = importlib.util.resolve_name("." * level + name, package)
        return self._top + resolved.removeprefix(self._alias) if resolved.startswith(self._alias) else resolved

    def _alias_of(self, name: str) -> str:
        return self._alias + name.removeprefix(self._top)
