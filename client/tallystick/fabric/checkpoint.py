"""Checkpointers: where a reader of events goes on after it stopped.

Record an event or block *after* it has been dealt with; then after a crash it comes again, never gets lost. A position
belongs to one network: opening a stream of another network with it raises CheckpointError instead of waiting forever.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tallystick.fabric.block import ChaincodeEvent
from tallystick.fabric.errors import CheckpointError

__all__ = ["Checkpointer", "FileCheckpointer", "HookCheckpointer", "InMemoryCheckpointer", "Position"]


@dataclass(frozen=True, slots=True)
class Position:
    """A place on the ledger: the block to go on in, and the last transaction of it that is done (None: none of it is).

    network_id is the header hash of block 0 in lower-case hex. All three None: nothing was recorded yet.
    """

    block_number: int | None = None
    transaction_id: str | None = None
    network_id: str | None = None


class Checkpointer(Protocol):
    """What an event stream needs of a checkpointer; implement it to keep the position in a database."""

    @property
    def block_number(self) -> int | None:
        """The block to start with, or None when nothing is recorded."""

    @property
    def transaction_id(self) -> str | None:
        """The last transaction of that block that is done, or None."""

    @property
    def network_id(self) -> str | None:
        """The network that the position belongs to, or None when not known."""

    def bind(self, network_id: str) -> None:
        """Called once with the network's id when the position has none; keep it with the next position."""


class _Recorder:
    """What all checkpointers here do; subclasses keep the position."""

    def __init__(self, position: Position) -> None:
        self._position = position

    @property
    def block_number(self) -> int | None:
        """The block to start with, or None when nothing is recorded."""
        return self._position.block_number

    @property
    def transaction_id(self) -> str | None:
        """The last transaction of that block that is done, or None."""
        return self._position.transaction_id

    @property
    def network_id(self) -> str | None:
        """The network that the position belongs to, or None when not known."""
        return self._position.network_id

    def checkpoint_block(self, number: int) -> None:
        """The whole block is done: go on with the next."""
        self._record(number + 1, None)

    def checkpoint_transaction(self, block_number: int, transaction_id: str) -> None:
        """This transaction is done: go on after it. For event streams record only transactions with an event."""
        self._record(block_number, transaction_id)

    def checkpoint_chaincode_event(self, event: ChaincodeEvent) -> None:
        """This event is done: go on after its transaction."""
        self._record(event.block_number, event.transaction_id)

    def bind(self, network_id: str) -> None:
        """Keep the network's id with the position. Raises CheckpointError when the position is of another network."""
        check_network(self, network_id)
        if self._position.network_id is None:
            self._keep(replace(self._position, network_id=network_id))

    def _record(self, block_number: int, transaction_id: str | None) -> None:
        self._keep(Position(block_number, transaction_id, self._position.network_id))

    def _keep(self, position: Position) -> None:
        self._save(position)
        self._position = position  # only once it is saved: a failed write must not move the position

    def _save(self, position: Position) -> None:
        """Make the position durable."""


def check_network(checkpoint: Checkpointer, network_id: str) -> None:
    """Raise CheckpointError when the checkpoint is of another network."""
    if checkpoint.network_id is not None and checkpoint.network_id != network_id:
        raise CheckpointError(
            f"the checkpoint is of network {checkpoint.network_id}, this is {network_id}: the network was reset or"
            " replaced. Rebuild from block 0 with a fresh checkpoint"
        )


class InMemoryCheckpointer(_Recorder):
    """A position that lives as long as the process: to reopen an interrupted stream."""

    def __init__(self, position: Position | None = None) -> None:
        super().__init__(position or Position())


class HookCheckpointer(_Recorder):
    """A position kept by two functions of yours, for example in the database transaction that applies the event.

    load returns the stored position or None; save is called with each new one and may raise, then the position stays.
    """

    def __init__(self, load: Callable[[], Position | None], save: Callable[[Position], None]) -> None:
        super().__init__(load() or Position())
        self._hook = save

    def _save(self, position: Position) -> None:
        self._hook(position)


class FileCheckpointer(_Recorder):
    """A position in a JSON file: `{"blockNumber": 7, "transactionId": "ab…", "networkId": "3f9a…"}`.

    Reads the files of the official clients too (Go: zero values for unset, Node: text, Java: numbers), and they read
    ours. Written atomically and durably; a lock file beside it (same name and `.lock`) keeps a second process out.
    Use it in a `with` block. Raises CheckpointError for a file that is broken, in use or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = _lock(self._path.with_name(self._path.name + ".lock"))
        try:
            super().__init__(_read(self._path))
        except CheckpointError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the lock file."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _save(self, position: Position) -> None:
        if self._lock is None:
            raise CheckpointError(f"the checkpoint {self._path} is closed")
        fields = {
            "blockNumber": position.block_number,
            "transactionId": position.transaction_id,
            "networkId": position.network_id,
        }
        text = json.dumps({name: value for name, value in fields.items() if value is not None})
        try:
            _write_atomically(self._path, text.encode())
        except OSError as error:
            raise CheckpointError(f"the checkpoint {self._path} cannot be written: {error.strerror}") from error


def _read(path: Path) -> Position:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Position()
    except OSError as error:
        raise CheckpointError(f"the checkpoint {path} cannot be read: {error.strerror}") from error
    if not data:
        return Position()  # the official clients make an empty file first
    try:
        return _parse(json.loads(data))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"the checkpoint {path} is broken: {error}") from error


def _parse(fields: object) -> Position:
    if not isinstance(fields, dict):
        raise TypeError("not a JSON object")
    transaction_id, network_id = fields.get("transactionId"), fields.get("networkId")
    if not isinstance(transaction_id, str | None) or not isinstance(network_id, str | None):
        raise TypeError("transactionId and networkId are text")
    block = fields.get("blockNumber")
    if block == 0 and transaction_id == "":
        block = None  # how Go writes that nothing is recorded
    return Position(None if block is None else _block_number(block), transaction_id or None, network_id or None)


def _block_number(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("blockNumber is a whole number")
    if not 0 <= value < 2**64:
        raise ValueError("blockNumber is 0 to 2**64 - 1")
    return value


def _write_atomically(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=path.name + ".", suffix=".new", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
    if sys.platform != "win32":  # there a folder cannot be opened, and the rename is durable by itself
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _lock(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CheckpointError(f"the lock file {path} cannot be made: {error.strerror}") from error
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise CheckpointError(
            f"the checkpoint is in use, by another process or elsewhere in this one (lock file {path})"
        ) from error
    return descriptor
