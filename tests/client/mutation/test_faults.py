"""Mutation controls: a suite that passes over these faults would prove nothing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tallystick

from .faults import FAULTS, Fault

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent.parent
PACKAGE = Path(tallystick.__file__).parent
SECONDS_MAX = 60
"""For one fault; all of them together take less on two cores."""


def apply(fault: Fault, package: Path) -> None:
    """Make the fault in a copy of the package. Each text must stand there exactly once."""
    for name, old, new in fault.edits:
        source = (package / name).read_text()
        assert source.count(old) == 1, f"{name} has {source.count(old)} times: {old}"
        (package / name).write_text(source.replace(old, new))


def failing(package: Path, tests: str, select: str) -> tuple[int, str]:
    """How many of these tests fail with that copy of the package, and what pytest said."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [str(TESTS / tests), "-k", select, "-s"]
    environment = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    counts = re.findall(r"(\d+) (?:failed|error)", done.stdout)
    return sum(map(int, counts)), done.stdout[-2000:] + done.stderr[-2000:]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package to make faults in."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "tallystick", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_fault_is_noticed(copy: Path, fault: Fault) -> None:
    apply(fault, copy)
    count, output = failing(copy, fault.tests, fault.select)
    assert count >= fault.failing > 0, f"{count} tests failed, recorded {fault.failing}\n{output}"


def test_without_a_fault_the_copy_passes_and_is_the_one_tested(copy: Path) -> None:
    package = copy / "fabric" / "__init__.py"
    package.write_text(package.read_text() + "\nprint('the copy is imported')\n")
    count, output = failing(copy, "test_hashing.py", "none")
    assert (count, "the copy is imported" in output) == (0, True), output
