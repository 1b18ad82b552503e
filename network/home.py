"""A network's home: the files in it, and the right to run it, which one process has at a time."""

import errno
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, Final, Self

CONNECTION: Final = "connection.json"
PID_FILE: Final = "network.pid"
TOPOLOGY: Final = "topology.toml"
LEDGER: Final = "ledger.sqlite"
LOG: Final = "network.log"
# Holds the process number while the network is founded and serves.
READY: Final = "network.ready"

_CONNECTION_KEYS: Final = frozenset({"network_id", "channel", "chaincodes", "organisations"})
_LOCK_ATTEMPTS: Final = 10
_LOCK_PAUSE_SECONDS: Final = 0.02


class HomeInUse(Exception):
    """The network of this home runs already; `pid` is its process, 0 when it has not written it yet."""

    def __init__(self, home: Path, pid: int) -> None:
        super().__init__(
            f"The network in {home} is already running (process {pid}). Use it as it is, or stop it first with "
            f"`tallystick network down --home {home}`."
        )
        self.pid = pid


class HomeLock:
    """The exclusive right to run a home's network. The kernel frees it when the process ends, however that happens."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, home: Path) -> Self:
        """Lock the home and write this process's number into the pid file. Raises `HomeInUse`."""
        descriptor = os.open(home / PID_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, home)
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Give the home free; twice does nothing."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1


def running_pid(home: Path) -> int | None:
    """The process that runs the home's network, 0 when it is just starting; None when there is none.

    Raises OSError when the home may not be looked into."""
    try:
        descriptor = os.open(home / PID_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        # A shared lock can be had exactly when nobody runs the network; it is given back by the close.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _pid(descriptor)
    finally:
        os.close(descriptor)
    return None


def read_connection(home: Path) -> dict[str, Any] | None:
    """The home's connection.json, None when there is none that can be read; each start writes it anew."""
    try:
        found = json.loads((home / CONNECTION).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) and _CONNECTION_KEYS <= found.keys() else None


def cannot_use(home: Path, error: OSError) -> str:
    """The sentence for a home that the system does not let us read or write."""
    where = f" ({error.filename})" if error.filename else ""
    return f"The home {home} cannot be used: {error.strerror}{where}."


def _lock(descriptor: int, home: Path) -> None:
    """Take the exclusive lock. A look by `running_pid` holds it for a moment too, so a few attempts are made."""
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            pid = _pid(descriptor)
            if pid or attempt == _LOCK_ATTEMPTS - 1:
                raise HomeInUse(home, pid) from error
            time.sleep(_LOCK_PAUSE_SECONDS)


def _pid(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isdigit() else 0
