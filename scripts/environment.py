"""The environment of this checkout: makes `.venv` from `requirements.lock` and runs things inside it.

Needs nothing but Python 3.11 to 3.14 with the `venv` module. The packages come from whatever index pip is configured
for; every file is checked against the digests of the lock. Used by the other scripts, so that each of them works as
the first command on a fresh machine.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "tallystick-setup"
_INPUTS = (LOCK, ROOT / "pyproject.toml", ROOT / "client" / "pyproject.toml")


def ensure() -> None:
    """Make or update `.venv`; returns at once when nothing changed since the last time.

    Exits with status 3 and one sentence when the machine lacks something.
    """
    if not (3, 11) <= sys.version_info[:2] <= (3, 14):
        _stop(f"Tallystick needs Python 3.11 to 3.14; {sys.executable} is {sys.version.split()[0]}.")
    digest = _digest()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == digest:
        return
    print("setting up .venv (once; about a minute) ...", file=sys.stderr, flush=True)
    if not PYTHON.exists():
        _make_venv()
    _install_uv()
    uv = [str(VENV / "bin" / "uv"), "pip"]
    target = ["--python", str(PYTHON), "--quiet"]
    _run([*uv, "sync", *target, "--require-hashes", str(LOCK)], "the packages of requirements.lock")
    local = ["install", *target, "--no-deps", "--no-build-isolation", "-e", str(ROOT / "client"), "-e", str(ROOT)]
    _run([*uv, *local], "the project itself")
    STAMP.write_text(digest)


def replace(*arguments: str) -> NoReturn:
    """Go on as the environment's Python with these arguments (the calling process is replaced)."""
    ensure()
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execv(PYTHON, [str(PYTHON), *arguments])  # noqa: S606 - our own interpreter, no shell


def run(*arguments: str) -> int:
    """Run the environment's Python with these arguments in the root of the checkout; answers its exit status."""
    return subprocess.run([str(PYTHON), *arguments], cwd=ROOT, check=False).returncode


def _digest() -> str:
    content = b"\0".join(path.read_bytes() for path in _INPUTS)
    return hashlib.sha256(content + sys.version.encode() + str(ROOT).encode()).hexdigest()


def _make_venv() -> None:
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False)
    if made.returncode:
        _stop("Python's venv module does not work here; on Debian or Ubuntu: apt-get install python3-venv.")


def _install_uv() -> None:
    """Install the locked uv with plain pip: its block of the lock holds its version and digests."""
    block = re.search(r"^uv==[^\n]*\\\n(?:    [^\n]*\n)+", LOCK.read_text(), re.MULTILINE)
    if block is None:
        _stop("requirements.lock names no uv; run scripts/lock on a working checkout.")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirement:
        requirement.write(block.group())
        requirement.flush()
        pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--require-hashes", "-r", requirement.name], "uv")


def _run(command: list[str], what: str) -> None:
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        _stop(f"Could not install {what}; the lines above say why. Is a package index within reach?")


def _stop(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    raise SystemExit(3)
