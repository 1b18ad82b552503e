"""Node and the locked npm packages of a folder here, or a skip that says what is missing."""

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# A first installation downloads some ten megabytes.
INSTALL_SECONDS = 300


def node_folder(name: str) -> Path:
    """The folder `tests/node/<name>` with its packages installed as its lock says; skips the test where that cannot be.

    Two test processes may ask at once: one installs, the other waits.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not on this machine")
    folder = HERE / name
    digest = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules" / ".installed"
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == digest:
            return folder
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        installed = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
        if installed.returncode:
            pytest.skip(f"npm ci found no packages: {installed.stderr.strip().splitlines()[-1:]}")
        stamp.write_text(digest)
    return folder
