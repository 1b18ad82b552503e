"""A network in a process of its own, started with the command that a user would type."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.network.embedded.conftest import small_topology

REPOSITORY = Path(__file__).parents[3]
COMMAND = (sys.executable, "-m", "network.cli")
START_SECONDS = 40.0
_LOOK_SECONDS = 0.002


def until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Wait for a condition, not for ever."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} seconds: {what}"
        pause.wait(_LOOK_SECONDS)


def command(
    verb: str, home: Path, *arguments: str, prefix: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `tallystick network <verb>` to its end; `prefix` is a program that runs it."""
    return subprocess.run(
        [*prefix, *COMMAND, verb, "--home", str(home), *arguments],
        cwd=REPOSITORY,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def verified(home: Path) -> dict[str, Any]:
    """What `verify` says of a home whose ledger is sound."""
    done = command("verify", home, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Process:
    """`tallystick network up`, in a process group of its own. The home is made with the tests' small topology.

    As a context manager it is stopped at the end, in whatever state it is."""

    def __init__(self, home: Path) -> None:
        arguments = ["--json"]
        if not (home / "topology.toml").exists():
            chosen = home.with_name(f"{home.name}-topology.toml")
            if not chosen.exists():
                small_topology().save(chosen)
            arguments += ["--topology", str(chosen)]
        self.home = home
        self._output = _appended(home, "out")
        self._log = _appended(home, "log")
        self._begin = self._output.tell()
        self._log_begin = self._log.tell()
        self._child = subprocess.Popen(
            [*COMMAND, "up", "--home", str(home), *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._log,
            start_new_session=True,
        )

    @classmethod
    def started(cls, home: Path) -> Self:
        """A process that answers."""
        process = cls(home)
        try:
            process.wait_until_ready()
        except BaseException:
            process.kill()
            raise
        return process

    @property
    def pid(self) -> int:
        """Its process id, which is that of its group too."""
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    @property
    def log(self) -> str:
        """What it has written to standard error."""
        return _written(self._log, self._log_begin)

    @property
    def _said(self) -> str:
        return _written(self._output, self._begin)

    def wait_until_ready(self) -> None:
        """Return when it says that it runs; all ports answer then."""
        until(lambda: "\n" in self._said or not self.is_alive, "it says that it runs")
        assert '"state": "running"' in self._said and self.is_alive, self._said + self.log

    def kill(self) -> None:
        """Kill -9, and be sure that it is gone."""
        if self.is_alive:
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait(10)
        self._close()

    def stop(self) -> int:
        """Stop it as Ctrl-C would, and answer its exit code."""
        if self.is_alive:
            self._child.terminate()
        try:
            return self._child.wait(30)
        finally:
            self.kill()

    def _close(self) -> None:
        self._output.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _appended(home: Path, ending: str) -> IO[bytes]:
    file = home.with_name(f"{home.name}.{ending}").open("ab")
    file.seek(0, os.SEEK_END)
    return file


def _written(file: IO[bytes], begin: int) -> str:
    return Path(file.name).read_bytes()[begin:].decode(errors="replace")
