"""The state as one transaction sees it: reads once, keeps its own writes in memory, writes all at the end.

Fabric never shows a transaction its own writes; this store does, so that a batch of rows sees what the rows before it
did. ``mark`` and ``undo`` drop the writes of a row that was refused.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from chaincode.domain.error import DomainError
from chaincode.shim.contract import Transaction

INDEX: Final = b"\x00"
"""Value of every key that is only an index."""

VALUE_BYTES_MAX: Final = 64 * 1024
"""Largest record: a large value slows down the reads of its neighbours in a peer's database."""

Mark = Mapping[str, bytes | None]


class Version(NamedTuple):
    """One committed value of a key, with the transaction that wrote it and its time (RFC 3339, UTC, whole seconds)."""

    transaction_id: str
    recorded_at: str
    value: bytes


def recorded_at(seconds: int) -> str:
    """A transaction's time as text: RFC 3339, UTC, whole seconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


class Store:
    """Reads and staged writes of one transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._read: dict[str, bytes | None] = {}
        self._staged: dict[str, bytes | None] = {}

    def key(self, word: str, attributes: Sequence[str]) -> str:
        """The composite key of a word and its attributes."""
        return self._tx.create_composite_key(word, attributes)

    def get(self, key: str) -> bytes | None:
        """The value of a key with this transaction's own writes applied."""
        if key in self._staged:
            return self._staged[key]
        if key not in self._read:
            self._read[key] = self._tx.get_state(key)
        return self._read[key]

    def put(self, key: str, value: bytes) -> None:
        """Stage a write. Raises ``INVALID record_too_large``."""
        if len(value) > VALUE_BYTES_MAX:
            raise DomainError("record_too_large", limit=VALUE_BYTES_MAX)
        self._staged[key] = value

    def delete(self, key: str) -> None:
        """Stage the removal of an index key; records are closed by state instead."""
        self._staged[key] = None

    def mark(self) -> Mark:
        """The writes staged so far, to come back to."""
        return dict(self._staged)

    def undo(self, mark: Mark) -> None:
        """Drop the writes staged since the mark."""
        self._staged = dict(mark)

    def flush(self) -> None:
        """Hand all staged writes to the peer, in the order of their first staging."""
        for key, value in self._staged.items():
            if value is None:
                self._tx.delete_state(key)
            else:
                self._tx.put_state(key, value)

    def rows(
        self, word: str, attributes: Sequence[str], after: Sequence[str] | None, limit: int
    ) -> list[tuple[list[str], bytes]]:
        """At most ``limit`` committed rows below a prefix as (attributes, value), beyond a whole key when one is given.

        Does not see staged writes: a transaction reads its ranges before it writes.
        """
        begin = None if after is None else self.key(word, after)
        found: list[tuple[list[str], bytes]] = []
        with self._tx.get_state_by_partial_composite_key(word, attributes, after=begin) as rows:
            for key, value in rows:
                found.append((self._tx.split_composite_key(key)[1], value))
                if len(found) == limit:
                    break
        return found

    def history(self, key: str, limit: int) -> list[Version]:
        """At most ``limit`` committed values of a key, newest first; for reading transactions only."""
        found: list[Version] = []
        with self._tx.get_history_for_key(key) as entries:
            for entry in entries:
                if entry.value is not None:
                    found.append(Version(entry.transaction_id, recorded_at(entry.timestamp.seconds), entry.value))
                if len(found) == limit:
                    break
        return found
