"""The range of versions that the package declares: its lower end works too, without any extra."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CLIENT = Path(__file__).resolve().parents[2] / "client"
SMOKE = Path(__file__).with_name("smoke.py")
SECONDS_MAX = 50
"""For each step. The packages are some 20 MB; a slower index is as good as none."""
_UNREACHABLE = re.compile(r"client error|Failed to fetch|dns error|timed out|network.*disabled|Connection refused")


def _lowest() -> dict[str, str]:
    """The lowest version of each dependency that pyproject.toml allows."""
    with (CLIENT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["dependencies"]
    parts = [re.fullmatch(r"([a-z-]+)[=>]=([^,]+)(?:,.*)?", each) for each in declared]
    return {part[1]: part[2] for part in parts if part}


def _uv(*arguments: str) -> None:
    """Run the environment's uv; skip where it cannot reach packages, fail for any other reason."""
    program = shutil.which("uv", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("uv is not in the environment (scripts/setup makes one with it)")
    command = [program, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"no package index answered within {SECONDS_MAX} seconds")
    if done.returncode and _UNREACHABLE.search(done.stderr):
        pytest.skip(f"no package index is reachable: {done.stderr.strip().splitlines()[-1:]}")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the lowest grpcio has no wheel for Python 3.14")
def test_the_lowest_versions_work(tmp_path: Path) -> None:
    # A copy, because building a wheel may leave files beside the sources.
    source = shutil.copytree(CLIENT, tmp_path / "client", ignore=shutil.ignore_patterns("__pycache__"))
    python = tmp_path / "venv" / "bin" / "python"
    _uv("venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv"))
    _uv("pip", "install", "--quiet", "--python", str(python), "--resolution", "lowest-direct", str(source))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ran = subprocess.run(
        [str(python), "-W", "error", str(SMOKE)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    used = dict(line.split() for line in ran.stdout.splitlines())
    for name, lowest in _lowest().items():
        assert re.sub(r"(\.0)+$", "", used[name]) == re.sub(r"(\.0)+$", "", lowest), name
    assert len(used) == len(_lowest())


def test_the_versions_of_this_environment_work(tmp_path: Path) -> None:
    """The upper end of the range is what requirements.lock holds."""
    ran = subprocess.run(
        [sys.executable, str(SMOKE)], cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
