"""The demo as a person starts it, from its command to its last line; again on the same home, beside a running one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO_SECONDS = 120


def demo(home: Path) -> "subprocess.CompletedProcess[str]":
    """Run `scripts/demo --exit` in a terminal wide enough not to wrap."""
    command = [sys.executable, str(ROOT / "scripts" / "demo"), "--exit", "--home", str(home), "--port-base", "0"]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, timeout=DEMO_SECONDS, env=environment, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "home"


def assert_told(told: "subprocess.CompletedProcess[str]") -> None:
    assert told.returncode == 0, told.stderr
    assert "Conserved: 3 parts, disjoint, sum 1,000,000.00 = issued 1,000,000.00." in told.stdout
    assert told.stdout.count("refused, as it must be") == 3
    for amount in ("120,000.00", "180,000.00", "700,000.00"):
        assert amount in told.stdout
    assert "Paid at maturity: 1,000,000.00 CNY, to every holder its part." in told.stdout
    assert "no difference" in told.stdout


def test_the_demo_ends_with_everything_conserved_and_verified(home: Path) -> None:
    assert_told(demo(home))
    assert not (home / "network.pid").exists() or (home / "network.pid").read_text() == ""


def test_the_demo_goes_on_with_the_ledger_it_finds(home: Path) -> None:
    assert_told(demo(home))


def test_the_demo_uses_a_network_that_runs_already(home: Path) -> None:
    tallystick = [sys.executable, "-m", "tallystick", "network"]
    subprocess.run([*tallystick, "up", "--detach", "--home", str(home)], check=True, capture_output=True, timeout=60)
    try:
        assert_told(demo(home))
        status = subprocess.run(
            [*tallystick, "status", "--home", str(home)], capture_output=True, text=True, timeout=30, check=False
        )
        assert status.returncode == 0, status.stdout
    finally:
        subprocess.run([*tallystick, "down", "--home", str(home)], check=True, capture_output=True, timeout=60)
