"""Determinism check of contract code: what it may import and what it may not write.

All endorsing organisations run a transaction and must produce the same bytes, in processes with other hash seeds,
clocks and environments. `python -m chaincode.shim.lint PATH ...` reads the code without running it and exits with 1
when it finds one of these:

    D00  the file is not valid Python
    D01  an import that is not on the allow-list (IMPORTS, INTEGER_MATH, the shim's own list, the checked package)
    D02  a float or complex literal
    D03  true division, or a power with a negative exponent in sight: both make floats
    D04  float, complex or round, or a text format that goes through floats (e f g n %)
    D05  the clock, the local time zone, or text of dates by locale
    D06  a set, except right of `in`, in a comparison, or inside sorted, len, min, max, sum, any or all without a key
    D07  hash, id, repr, ascii or a repr format: differ between processes or versions
    D08  a text method or pattern that depends on the Unicode tables of the Python version
    D09  a builtin that reaches files, terminal, code or namespaces: open, input, print, eval, exec, globals, vars, ...
    D10  global
    D11  a mutable object at module or class level or as a default argument, or a function cache
    D12  a change of a module's name, of an attribute or of an item of one
    D13  a bare except, or Exception or BaseException caught or suppressed
    D14  the text of a caught exception: a library's wording changes with its version
    D15  async code, or a __del__ method
    D16  JSON by msgspec without order="sorted"

No comment switches a rule off. What no reading can decide stays with the author: `int(text)` takes the digits of every
script (check with a pattern first), `str(value)` of an object may hold its address, `a ** b` is a float for negative b.
"""

import argparse
import ast
import builtins
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

IMPORTS: Final = frozenset(
    "__future__ abc base64 bisect collections collections.abc contextlib copy dataclasses datetime enum functools"
    " hashlib heapq itertools math msgspec msgspec.json msgspec.structs operator re string types typing".split()
)
"""Modules that contract code may import beside its own package."""

SHIM_IMPORTS: Final = frozenset(
    f"chaincode.shim.{name}" for name in "canonical contract errors keys policy stub".split()
)
"""What contract code may import of the shim; the rest of the shim runs contracts and is not for them."""

INTEGER_MATH: Final = frozenset(f"math.{name}" for name in "comb factorial gcd isqrt lcm perm prod".split())
"""The functions of `math` that answer whole numbers exactly."""

_BUILTIN_RULES: Final = {
    **dict.fromkeys("float complex round".split(), "D04"),
    **dict.fromkeys("hash id repr ascii".split(), "D07"),
    **dict.fromkeys(
        "open input print eval exec compile globals locals vars dir breakpoint __import__ __builtins__"
        " setattr delattr memoryview".split(),
        "D09",
    ),
}
_QUALIFIED_RULES: Final = {
    "datetime.datetime.now": "D05",
    "datetime.datetime.today": "D05",
    "datetime.datetime.utcnow": "D05",
    "datetime.datetime.utcfromtimestamp": "D05",
    "datetime.date.today": "D05",
    "datetime.date.fromtimestamp": "D05",
    "operator.truediv": "D03",
    "operator.itruediv": "D03",
    "operator.pow": "D03",
    "functools.cache": "D11",
    "functools.lru_cache": "D11",
}
_CLOCK_METHODS: Final = frozenset("strftime strptime astimezone ctime timestamp".split())
_UNICODE_METHODS: Final = frozenset(
    "upper lower casefold title capitalize swapcase isalnum isalpha isdecimal isdigit isidentifier islower isnumeric"
    " isprintable isspace istitle isupper".split()
)
_SET_METHODS: Final = frozenset("union intersection difference symmetric_difference".split())
_ORDER_FREE: Final = frozenset("sorted len min max sum any all".split())
_MUTABLE_CALLS: Final = frozenset(
    "list dict set sorted bytearray defaultdict deque Counter OrderedDict ChainMap".split()
)
_MUTATING_METHODS: Final = frozenset(
    "append extend insert remove pop popitem clear update setdefault add discard sort reverse appendleft popleft"
    " extendleft rotate".split()
)
_REGEX_FUNCTIONS: Final = frozenset(
    f"re.{name}" for name in "compile search match fullmatch split findall finditer sub subn".split()
)
_REGEX_UNICODE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\[wWdDsSbB]")
_FLOAT_SPEC: Final = re.compile(r"[eEfFgGn%]$")
_PERCENT_FLOAT: Final = re.compile(r"%[-+ #0-9.*]*[eEfFgG]")
_PERCENT_REPR: Final = re.compile(r"%[-+ #0-9.*]*[ra](?![a-zA-Z])")
_BRACE_FLOAT: Final = re.compile(r"\{[^{}]*:[^{}]*[eEfFgGn%]\}")
_BRACE_REPR: Final = re.compile(r"\{[^{}]*![ra]")
_BROAD: Final = frozenset({"Exception", "BaseException"})


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One place in the code that could make endorsers disagree."""

    path: str
    line: int
    column: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.rule} {self.text}"


def check(paths: Iterable[Path | str]) -> list[Finding]:
    """The findings in all Python files at or below the paths, sorted. Raises FileNotFoundError for a missing path."""
    findings: list[Finding] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            findings += check_source(file.read_text(encoding="utf-8"), str(file), package=_package(file))
    return sorted(findings)


def check_source(source: str, path: str = "<source>", *, package: str | None = None) -> list[Finding]:
    """The findings in one module's text; `package` is the top package whose modules it may import."""
    try:
        tree = ast.parse(source, path)
    except SyntaxError as error:
        return [Finding(path, error.lineno or 0, error.offset or 0, "D00", "not valid Python")]
    visitor = _Visitor(path, package)
    visitor.visit(tree)
    return sorted(visitor.findings)


def _package(file: Path) -> str | None:
    """The outermost package that the file is in, or None for a lone module."""
    found = file.resolve()
    name = None
    while (found.parent / "__init__.py").is_file():
        found = found.parent
        name = found.name
    return name


class _Visitor(ast.NodeVisitor):
    """Walks one module with three things in mind: what names mean, which scope it is in, which sets are harmless."""

    def __init__(self, path: str, package: str | None) -> None:
        self.path = path
        self.package = package
        self.findings: list[Finding] = []
        self.imported: dict[str, str] = {}
        """Qualified name by local name, of everything imported anywhere in the module."""
        self.scopes: list[frozenset[str]] = []
        """Names bound in each enclosing function."""
        self.exceptions: list[str] = []
        self.harmless_sets: list[ast.AST] = []
        self.depth = 0
        self.module_names: frozenset[str] = frozenset()

    def report(self, node: ast.AST, rule: str, text: str) -> None:
        line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
        self.findings.append(Finding(self.path, line, column + 1, rule, text))

    # -- names --------------------------------------------------------------------------------------------------------

    def is_local(self, name: str) -> bool:
        return any(name in scope for scope in self.scopes)

    def qualified(self, node: ast.AST) -> str | None:
        """`datetime.date.today` for a chain of attributes that begins with an imported name, else None."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or self.is_local(node.id) or node.id not in self.imported:
            return None
        return ".".join([self.imported[node.id], *reversed(parts)])

    def builtin(self, node: ast.AST) -> str | None:
        """The name of a builtin that the node loads, when nothing in the module hides it."""
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            return None
        hidden = self.is_local(node.id) or node.id in self.module_names or node.id in self.imported
        return None if hidden or (not hasattr(builtins, node.id) and node.id != "__builtins__") else node.id

    # -- module, functions, classes -----------------------------------------------------------------------------------

    def visit_Module(self, node: ast.Module) -> None:
        for found in ast.walk(node):
            if isinstance(found, ast.Import):
                for alias in found.names:
                    self.imported[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
            elif isinstance(found, ast.ImportFrom) and not found.level:
                for alias in found.names:
                    self.imported[alias.asname or alias.name] = f"{found.module}.{alias.name}"
        self.module_names = frozenset(_bound(node.body))
        self._check_body(node.body)
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._check_body(node.body)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if isinstance(node, ast.AsyncFunctionDef):
            self.report(node, "D15", "async function")
        if node.name == "__del__":
            self.report(node, "D15", "__del__ runs when the memory manager likes")
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None and self._is_mutable(default):
                self.report(default, "D11", "a mutable default argument survives the call")
        for part in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults):
            if part is not None:
                self.visit(part)
        self._in_scope(node.args, node.body, [*_annotations(node), *node.body])

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._in_scope(node.args, [ast.Expr(node.body)], [node.body])

    def _in_scope(self, arguments: ast.arguments, body: Sequence[ast.stmt], parts: Iterable[ast.AST]) -> None:
        self.scopes.append(frozenset({*_parameters(arguments), *_bound(body)} - _globals(body)))
        for part in parts:
            self.visit(part)
        self.scopes.pop()

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        names = {name for generator in node.generators for name in _targets(generator.target)}
        self.scopes.append(frozenset(names))
        self.generic_visit(node)
        self.scopes.pop()

    visit_ListComp = visit_GeneratorExp = visit_DictComp = _comprehension

    def _check_body(self, body: Sequence[ast.stmt]) -> None:
        """Assignments at module or class level must not make anything that a call could change."""
        for statement in body:
            if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
                continue
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                continue
            if self._is_mutable(statement.value):
                self.report(statement, "D11", "a mutable object here survives the call: tuple or MappingProxyType")

    def _is_mutable(self, node: ast.expr) -> bool:
        if isinstance(node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
            return True
        if not isinstance(node, ast.Call):
            return False
        name = self.qualified(node.func) or self.builtin(node.func) or ""
        return name.rpartition(".")[2] in _MUTABLE_CALLS

    # -- imports ------------------------------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._check_import(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level:
            return
        module = node.module or ""
        for alias in node.names:
            if module == "math" and f"math.{alias.name}" not in INTEGER_MATH:
                self.report(node, "D01", f"math.{alias.name} works on floats")
            elif alias.name == "*":
                self.report(node, "D01", f"everything of {module}")
            elif not self._may_import(f"{module}.{alias.name}"):
                self._check_import(node, module)

    def _check_import(self, node: ast.AST, module: str) -> None:
        if not self._may_import(module):
            self.report(node, "D01", f"{module} is not on the allow-list")

    def _may_import(self, module: str) -> bool:
        if module in IMPORTS or module in SHIM_IMPORTS:
            return True
        if module == "chaincode.shim" or module.startswith("chaincode.shim."):
            return False
        return self.package is not None and module.split(".")[0] == self.package

    # -- expressions --------------------------------------------------------------------------------------------------

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, float | complex):
            self.report(node, "D02", "a float or complex literal")

    def visit_Name(self, node: ast.Name) -> None:
        name = self.builtin(node)
        if name in _BUILTIN_RULES:
            self.report(node, _BUILTIN_RULES[name], f"{name} is not for contracts")
        elif name in ("set", "frozenset") and node not in self.harmless_sets:
            self.report(node, "D06", f"{name}: its order differs between processes")
        elif rule := _QUALIFIED_RULES.get(self.qualified(node) or ""):
            self.report(node, rule, f"{self.qualified(node)} is not for contracts")
        if isinstance(node.ctx, ast.Load) and node.id in self.exceptions:
            self.report(node, "D14", "a caught exception used as a value: take its fields")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self.qualified(node) or ""
        if rule := _QUALIFIED_RULES.get(name):
            self.report(node, rule, f"{name} is not for contracts")
        elif name.startswith("math.") and name not in INTEGER_MATH:
            self.report(node, "D01", f"{name} works on floats")
        if isinstance(node.ctx, ast.Store | ast.Del):
            self._check_change(node, node.value)
        is_exception = isinstance(node.value, ast.Name) and node.value.id in self.exceptions
        if is_exception and node.attr in ("args", "__str__", "__cause__", "__traceback__"):
            self.report(node, "D14", "the text of a caught exception")
        elif not is_exception:
            self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del):
            self._check_change(node, node.value)
        self.generic_visit(node)

    def _check_change(self, node: ast.AST, base: ast.expr) -> None:
        """A store below a name of the module (or an imported one), inside a function, outlives the call."""
        while isinstance(base, ast.Attribute | ast.Subscript):
            base = base.value
        if self.scopes and isinstance(base, ast.Name) and not self.is_local(base.id):
            self.report(node, "D12", f"{base.id} is shared by all calls")

    def visit_Call(self, node: ast.Call) -> None:
        name = self.qualified(node.func) or ""
        short = self.builtin(node.func)
        if short in _ORDER_FREE and not any(keyword.arg == "key" for keyword in node.keywords):
            self._spare(node.args)
        if name == "datetime.datetime.fromtimestamp" and len(node.args) + len(node.keywords) < 2:
            self.report(node, "D05", "fromtimestamp without a time zone takes the machine's")
        if name in _REGEX_FUNCTIONS:
            self._check_pattern(node)
        if name in ("msgspec.json.encode", "msgspec.json.Encoder") and not _is_sorted(node):
            self.report(node, "D16", f'{name} without order="sorted"')
        if name == "contextlib.suppress":
            self._check_broad(node, node.args)
        if short == "pow" and len(node.args) == 2 and _is_negative(node.args[1]):
            self.report(node, "D03", "a power with a negative exponent")
        if isinstance(node.func, ast.Attribute) and not name:
            self._check_method(node, node.func)
        if self._is_set(node):
            self._check_set(node)
            if isinstance(node.func, ast.Name):
                self.harmless_sets.append(node.func)
        self.generic_visit(node)

    def _check_method(self, node: ast.Call, function: ast.Attribute) -> None:
        if function.attr in _CLOCK_METHODS:
            self.report(node, "D05", f".{function.attr}() depends on clock, zone or locale")
        elif function.attr in _UNICODE_METHODS:
            self.report(node, "D08", f".{function.attr}() depends on the Unicode tables")
        elif function.attr in _MUTATING_METHODS and isinstance(function.value, ast.Name | ast.Attribute):
            if isinstance(function.value, ast.Name) and function.value.id in self.module_names:
                self._check_change(node, function.value)
        elif function.attr == "format" and isinstance(function.value, ast.Constant):
            self._check_format(node, function.value.value, _BRACE_FLOAT, _BRACE_REPR)

    def _check_format(self, node: ast.AST, text: object, floats: re.Pattern[str], reprs: re.Pattern[str]) -> None:
        if isinstance(text, str) and floats.search(text):
            self.report(node, "D04", "a text format that goes through floats")
        if isinstance(text, str) and reprs.search(text):
            self.report(node, "D07", "a repr format")

    def visit_FormattedValue(self, node: ast.FormattedValue) -> None:
        if node.conversion in (ord("r"), ord("a")):
            self.report(node, "D07", "a repr format")
        if isinstance(node.format_spec, ast.JoinedStr) and node.format_spec.values:
            last = node.format_spec.values[-1]
            if isinstance(last, ast.Constant) and _FLOAT_SPEC.search(str(last.value)):
                self.report(node, "D04", "a text format that goes through floats")
        self.generic_visit(node)

    def _check_pattern(self, node: ast.Call) -> None:
        pattern = node.args[0] if node.args else None
        text = pattern.value if isinstance(pattern, ast.Constant) else None
        if not isinstance(text, str):
            return
        flags = {self.qualified(part) for argument in (*node.args[1:], *node.keywords) for part in ast.walk(argument)}
        if "(?a" in text or flags & {"re.ASCII", "re.A"}:
            return
        if _REGEX_UNICODE.search(text) or "(?i" in text or flags & {"re.IGNORECASE", "re.I"}:
            self.report(node, "D08", "a pattern by Unicode tables: use [0-9] and the like, or re.ASCII")

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Div):
            self.report(node, "D03", "true division makes a float: // or divmod")
        if isinstance(node.op, ast.Pow) and _is_negative(node.right):
            self.report(node, "D03", "a power with a negative exponent")
        if isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant):
            self._check_format(node, node.left.value, _PERCENT_FLOAT, _PERCENT_REPR)
        if self._is_set(node):
            self._check_set(node)
            self._spare([node.left, node.right])
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.op, ast.Div) or (isinstance(node.op, ast.Pow) and _is_negative(node.value)):
            self.report(node, "D03", "true division, or a power with a negative exponent, in place")
        self.generic_visit(node)

    # -- sets ---------------------------------------------------------------------------------------------------------

    def visit_Compare(self, node: ast.Compare) -> None:
        for operator, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, ast.In | ast.NotIn):
                self._spare([right])
            else:
                self._spare([node.left, *node.comparators])
        self.generic_visit(node)

    def visit_Set(self, node: ast.Set) -> None:
        self._check_set(node)
        self.generic_visit(node)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._check_set(node)
        self._comprehension(node)

    def _is_set(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Set | ast.SetComp):
            return True
        if isinstance(node, ast.BinOp):
            return isinstance(node.op, ast.BitAnd | ast.BitOr | ast.BitXor | ast.Sub) and (
                any(self._is_set(side) or _is_view(side) for side in (node.left, node.right))
            )
        if not isinstance(node, ast.Call):
            return False
        if self.builtin(node.func) in ("set", "frozenset"):
            return True
        return isinstance(node.func, ast.Attribute) and node.func.attr in _SET_METHODS

    def _spare(self, nodes: Iterable[ast.expr]) -> None:
        self.harmless_sets.extend(node for node in nodes if self._is_set(node))

    def _check_set(self, node: ast.AST) -> None:
        if node not in self.harmless_sets:
            self.report(node, "D06", "a set: its order differs between processes")

    # -- statements ---------------------------------------------------------------------------------------------------

    def visit_Global(self, node: ast.Global) -> None:
        self.report(node, "D10", f"global {', '.join(node.names)}")

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is None:
            self.report(node, "D13", "bare except")
        else:
            types = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            self._check_broad(node, types)
            self.visit(node.type)
        if node.name:
            self.exceptions.append(node.name)
        for statement in node.body:
            self.visit(statement)
        if node.name:
            self.exceptions.pop()

    def _check_broad(self, node: ast.AST, types: Iterable[ast.expr]) -> None:
        for caught in types:
            if self.builtin(caught) in _BROAD:
                self.report(node, "D13", "every exception caught: also those that mean the transaction must end")

    def visit_Raise(self, node: ast.Raise) -> None:
        for part in (node.exc, node.cause):
            if part is not None and not (isinstance(part, ast.Name) and part.id in self.exceptions):
                self.visit(part)

    def visit_Await(self, node: ast.Await) -> None:
        self.report(node, "D15", "await")
        self.generic_visit(node)


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    for group in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs):
        yield from (argument.arg for argument in group)
    yield from (argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument is not None)


def _annotations(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.expr]:
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    found = [argument.annotation for argument in every if argument is not None]
    return [annotation for annotation in (*found, node.returns) if annotation is not None]


def _targets(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id


def _bound(body: Iterable[ast.AST]) -> Iterator[str]:
    """Names that these statements bind in their own scope: assignments, loops, imports, functions, classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            continue
        if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest
        yield from _bound(ast.iter_child_nodes(node))


def _globals(body: Iterable[ast.AST]) -> set[str]:
    return {name for part in body for node in ast.walk(part) if isinstance(node, ast.Global) for name in node.names}


def _is_view(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "items")


def _is_negative(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)


def _is_sorted(node: ast.Call) -> bool:
    return any(
        keyword.arg == "order" and isinstance(keyword.value, ast.Constant) and keyword.value.value == "sorted"
        for keyword in node.keywords
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the paths of the command line: 0 nothing found, 1 findings, 2 a path does not exist."""
    parser = argparse.ArgumentParser(prog="python -m chaincode.shim.lint", description="Determinism check")
    parser.add_argument("paths", nargs="+", type=Path)
    try:
        findings = check(parser.parse_args(arguments).paths)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
