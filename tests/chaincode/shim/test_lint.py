"""The determinism check: one true positive and one near miss per way to break a rule."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from chaincode.shim import lint

# (rule, code that breaks it, code close to it that does not)
TABLE = [
    ("D00", "def f(:\n", "def f(): pass"),
    ("D01", "import os", "import hashlib"),
    ("D01", "import os.path as p", "import collections.abc as p"),
    ("D01", "from time import sleep", "from datetime import timedelta"),
    ("D01", "from random import choice", "from itertools import chain"),
    ("D01", "import json", "import msgspec"),
    ("D01", "import unicodedata", "import string"),
    ("D01", "import decimal", "import operator"),
    ("D01", "def f():\n    import socket", "def f():\n    import bisect"),
    ("D01", "import threading", "from contextlib import contextmanager"),
    ("D01", "import product.sub.secrets_of_others.x as y\nimport othe_r", "import product.sub"),
    ("D01", "from math import sqrt", "from math import isqrt"),
    ("D01", "import math\nx = math.floor(3)", "import math\nx = math.gcd(3, 6)"),
    ("D01", "from typing import *", "from typing import Final"),
    ("D01", "from chaincode.shim import lint", "from chaincode.shim import canonical"),
    ("D01", "from chaincode.shim.execute import execute", "from chaincode.shim.contract import submit"),
    ("D02", "x = 1.0", "x = 1"),
    ("D02", "x = 1e3", "x = 10**3"),
    ("D02", "x = 2j", "x = '2j'"),
    ("D03", "x = 6 / 3", "x = 6 // 3"),
    ("D03", "def f(x):\n    x /= 2", "def f(x):\n    x //= 2"),
    ("D03", "x = 2 ** -1", "def f(n):\n    return 2**n"),
    ("D03", "x = pow(2, -1)", "x = pow(2, 5, 7)"),
    ("D03", "import operator\nf = operator.truediv", "import operator\nf = operator.floordiv"),
    ("D04", "x = float('1')", "x = int('1')"),
    ("D04", "x = round(7, -1)", "def f(round):\n    return round"),
    ("D04", "x = map(float, y)", "def f(order):\n    return order.float"),
    ("D04", "def f(x):\n    return f'{x:.2f}'", "def f(x):\n    return f'{x:02d}'"),
    ("D04", "def f(x):\n    return '{:,.2f}'.format(x)", "def f(x):\n    return '{:,}'.format(x)"),
    ("D04", "def f(x):\n    return '%.2f' % x", "def f(x):\n    return '%d effort' % x"),
    ("D05", "from datetime import datetime\nx = datetime.now()", "from datetime import datetime\nx = datetime.min"),
    ("D05", "import datetime as d\nx = d.date.today()", "import datetime as d\nx = d.date(2026, 1, 1)"),
    ("D05", "from datetime import date as day\nf = day.today", "def f(day):\n    return day.today"),
    (
        "D05",
        "from datetime import datetime\ndef f(s):\n    return datetime.fromtimestamp(s)",
        "from datetime import UTC, datetime\ndef f(s):\n    return datetime.fromtimestamp(s, UTC)",
    ),
    ("D05", "def f(x):\n    return x.strftime('%b')", "def f(x):\n    return x.isoformat()"),
    ("D05", "def f(x):\n    return x.timestamp()", "def f(tx):\n    return tx.timestamp.seconds"),
    ("D06", "for x in {1, 2}:\n    pass", "for x in (1, 2):\n    pass"),
    ("D06", "x = tuple({y for y in 'ab'})", "x = tuple(sorted({y for y in 'ab'}))"),
    ("D06", "def f():\n    return set('ab')", "x = len(set('ab'))"),
    ("D06", "def f(x) -> 'list':\n    return ','.join(frozenset(x))", "def f(x):\n    return 1 in frozenset(x)"),
    ("D06", "x = tuple(sorted({1, 2}, key=abs))", "x = tuple(sorted({1, 2}))"),
    ("D06", "def f(a, b):\n    return list(a.keys() & b)", "def f(a, b):\n    return sorted(a.keys() & b)"),
    ("D06", "def f(a, b):\n    return [*a.union(b)]", "def f(a, b):\n    return len(a.union(b))"),
    ("D06", "def f(a: set[str]): pass", "def f(a: tuple[str, ...]): pass"),
    ("D06", "x = (set('ab'),)", "x = set('ab') == set('ba')"),
    ("D06", "x = max({1, 2}, key=abs)", "x = 3 not in {1, 2}"),
    ("D07", "x = hash('a')", "def f(block):\n    return block.hash"),
    ("D07", "x = id(1)", "def f(id):\n    return id"),
    ("D07", "x = repr(1)", "x = str(1)"),
    ("D07", "x = max('ab', key=hash)", "x = max('ab', key=len)"),
    ("D07", "def f(x):\n    return f'{x!r}'", "def f(x):\n    return f'{x!s}'"),
    ("D07", "def f(x):\n    return '{!r}'.format(x)", "def f(x):\n    return '{}'.format(x)"),
    ("D07", "def f(x):\n    return '%r' % x", "def f(x):\n    return '%s %%raw' % x"),
    ("D08", "def f(x):\n    return x.upper()", "def f(x):\n    return x.strip()"),
    ("D08", "def f(x):\n    return x.isdigit()", "def f(x):\n    return x.isascii()"),
    ("D08", "import re\nP = re.compile(r'\\d+')", "import re\nP = re.compile(r'[0-9]+')"),
    ("D08", "import re\nP = re.compile(r'\\w')", "import re\nP = re.compile(r'\\w', re.ASCII)"),
    ("D08", "from re import compile\nP = compile('\\\\s')", "from re import compile\nP = compile('(?a)\\\\s')"),
    ("D08", "import re\nP = re.compile('a', re.I)", "import re\nP = re.compile('a', re.I | re.A)"),
    ("D09", "x = open('f')", "def f(gate):\n    return gate.open('f')"),
    ("D09", "print('x')", "def f(print):\n    print('x')"),
    ("D09", "x = input()", "def f(self, tx, input):\n    return input"),
    ("D09", "x = eval('1')", "def eval(x): pass\nx = eval('1')"),
    ("D09", "x = __import__('os')", "x = '__import__'"),
    ("D09", "def f(x):\n    setattr(x, 'a', 1)", "def f(x):\n    return getattr(x, 'a')"),
    ("D10", "x = 1\ndef f():\n    global x", "def f():\n    x = 1\n    def g():\n        nonlocal x"),
    ("D11", "x = {}", "def f():\n    x = {}"),
    ("D11", "x: list[int] = []", "x: tuple[int, ...] = ()"),
    (
        "D11",
        "from collections import defaultdict as d\nx = d(int)",
        "from types import MappingProxyType as d\nx = d({})",
    ),
    ("D11", "x = sorted('ab')", "x = tuple(sorted('ab'))"),
    ("D11", "class A:\n    x = []", "__all__ = ['x']"),
    ("D11", "def f(x=[]): pass", "def f(x=()): pass"),
    (
        "D11",
        "from functools import cache\n@cache\ndef f(): pass",
        "from functools import wraps\n@wraps(g)\ndef f(): pass",
    ),
    ("D11", "import functools\n@functools.lru_cache(1)\ndef f(): pass", "import functools\nx = functools.reduce"),
    ("D12", "class A: pass\ndef f():\n    A.count = 1", "class A:\n    def f(self):\n        self.count = 1"),
    ("D12", "import re\ndef f():\n    re.x['a'] = 1", "def f(re):\n    re.x['a'] = 1"),
    ("D12", "x = g()\ndef f():\n    x.append(1)", "def f():\n    x = g()\n    x.append(1)"),
    ("D12", "x = g()\ndef f():\n    x['a'] += 1", "x = g()\ndef f(x):\n    x['a'] += 1"),
    ("D13", "try:\n    f()\nexcept:\n    pass", "try:\n    f()\nexcept ValueError:\n    pass"),
    ("D13", "try:\n    f()\nexcept (KeyError, Exception):\n    pass", "try:\n    f()\nexcept (KeyError, E):\n    pass"),
    (
        "D13",
        "from contextlib import suppress\nwith suppress(BaseException): pass",
        "from contextlib import suppress\nwith suppress(KeyError): pass",
    ),
    (
        "D14",
        "try:\n    f()\nexcept ValueError as e:\n    g(f'{e}')",
        "try:\n    f()\nexcept ValueError as e:\n    g(e.reason)",
    ),
    (
        "D14",
        "try:\n    f()\nexcept ValueError as e:\n    g(e.args)",
        "try:\n    f()\nexcept ValueError as e:\n    raise KeyError('k') from e",
    ),
    ("D14", "try:\n    f()\nexcept OSError as e:\n    x = str(e)", "try:\n    f()\nexcept OSError as e:\n    raise"),
    ("D15", "async def f(): pass", "def f(): pass"),
    ("D15", "class A:\n    def __del__(self): pass", "class A:\n    def __len__(self): pass"),
    (
        "D16",
        "import msgspec\nx = msgspec.json.encode(1)",
        "import msgspec\nx = msgspec.json.encode(1, order='sorted')",
    ),
    (
        "D16",
        "from msgspec.json import Encoder\nx = Encoder(order='deterministic')",
        "from msgspec.json import Encoder\nx = Encoder(order='sorted')",
    ),
]


def rules(code: str) -> set[str]:
    return {finding.rule for finding in lint.check_source(code, package="product")}


@pytest.mark.parametrize(("rule", "bad", "_good"), TABLE)
def test_breaking_the_rule_is_found(rule: str, bad: str, _good: str) -> None:
    assert rules(bad) == {rule}


@pytest.mark.parametrize(("_rule", "_bad", "good"), TABLE)
def test_a_near_miss_is_not_found(_rule: str, _bad: str, good: str) -> None:
    assert rules(good) == set()


def test_every_rule_of_the_docstring_has_a_row() -> None:
    documented = set(re.findall(r"^    (D\d\d)  ", lint.__doc__ or "", re.MULTILINE))
    assert documented == {rule for rule, _, _ in TABLE}


def test_the_finding_names_the_place() -> None:
    (finding,) = lint.check_source("x = 1\ny = 2 / x\n", "voucher.py")
    assert str(finding) == "voucher.py:2:5: D03 true division makes a float: // or divmod"


def test_a_module_may_import_its_own_package(tmp_path: Path) -> None:
    package = tmp_path / "product"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from product import b\nimport elsewhere\n")
    assert [finding.text for finding in lint.check([package])] == ["elsewhere is not on the allow-list"]


@pytest.mark.parametrize(("code", "status"), [("x = 1\n", 0), ("x = 1.5\n", 1)])
def test_the_command_answers_by_its_exit_status(tmp_path: Path, code: str, status: int) -> None:
    file = tmp_path / "module.py"
    file.write_text(code)
    ran = subprocess.run(
        [sys.executable, "-m", "chaincode.shim.lint", str(file)], capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, "D02" in ran.stdout) == (status, bool(status))


def test_a_missing_path_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint.main([str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
