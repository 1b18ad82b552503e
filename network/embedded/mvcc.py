"""Does what a transaction read still hold? And what do the valid ones of a block leave behind?

Transactions are judged one after the other against the state before the block and the writes of the valid ones
before them. Source: embedded-network.md D.2; Fabric core/ledger/kvledger/txmgmt/validation.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import transaction_pb2

from network.embedded.rwset import (
    NamespaceSet,
    RangeResults,
    RwSetError,
    encode_metadata,
    from_wire,
    is_delete,
    is_hashed_delete,
    key_read,
)
from network.embedded.store import HashRow, Reader, StateRow

Code = transaction_pb2.TxValidationCode
RANGE_PAGE = 101  # rows fetched at once when a range is replayed

# value (None: deleted), stored metadata, version
Update = tuple[bytes | None, bytes | None, int]


class BlockView:
    """The state before a block, each row read once."""

    __slots__ = ("_hashed", "_rows", "reader")

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._rows: dict[tuple[str, bytes], StateRow | None] = {}
        self._hashed: dict[tuple[str, str, bytes], HashRow | None] = {}

    def state(self, namespace: str, key: bytes) -> StateRow | None:
        """A public key."""
        name = (namespace, key)
        if name not in self._rows:
            self._rows[name] = self.reader.state(namespace, key)
        return self._rows[name]

    def hashed(self, namespace: str, collection: str, key_hash: bytes) -> HashRow | None:
        """A private key by its hash."""
        name = (namespace, collection, key_hash)
        if name not in self._hashed:
            self._hashed[name] = self.reader.hashed(namespace, collection, key_hash)
        return self._hashed[name]

    def get_state(self, namespace: str, key: str) -> bytes | None:
        """Only the value of a public key."""
        row = self.state(namespace, key.encode())
        return None if row is None else row.value


class Updates:
    """The writes of a block's valid transactions so far: the last write of each key."""

    def __init__(self) -> None:
        self.public: dict[str, dict[bytes, Update]] = {}
        self.hashed: dict[str, dict[str, dict[bytes, Update]]] = {}
        self._sorted: dict[str, list[bytes]] = {}

    def of(self, namespace: str) -> dict[bytes, Update]:
        """Public updates of a namespace, by key."""
        return self.public.get(namespace, {})

    def of_collection(self, namespace: str, collection: str) -> dict[bytes, Update]:
        """Hashed updates of a collection, by key hash."""
        return self.hashed.get(namespace, {}).get(collection, {})

    def put(self, namespace: str, key: bytes, update: Update) -> None:
        """Set a public key."""
        self.public.setdefault(namespace, {})[key] = update
        self._sorted.pop(namespace, None)

    def put_hashed(self, namespace: str, collection: str, key_hash: bytes, update: Update) -> None:
        """Set a private key by its hash."""
        self.hashed.setdefault(namespace, {}).setdefault(collection, {})[key_hash] = update

    def keys(self, namespace: str, start: bytes, end: bytes) -> list[bytes]:
        """Updated public keys from `start` to `end` (exclusive; empty means open), sorted."""
        if namespace not in self.public:
            return []
        keys = self._sorted.get(namespace)
        if keys is None:
            keys = self._sorted[namespace] = sorted(self.public[namespace])
        return keys[bisect_left(keys, start) : bisect_left(keys, end) if end else len(keys)]


def validate(view: BlockView, updates: Updates, sets: Iterable[NamespaceSet]) -> int:
    """VALID, or the code of the first conflict: per namespace reads, then ranges, then hashed reads."""
    for item in sets:
        if not _reads_hold(view, updates, item):
            return Code.MVCC_READ_CONFLICT
        for query in item.public.range_queries_info:
            if not _range_holds(view, updates, item.name, query):
                return Code.PHANTOM_READ_CONFLICT
        if not _hashed_reads_hold(view, updates, item):
            return Code.MVCC_READ_CONFLICT
    return Code.VALID


def _reads_hold(view: BlockView, updates: Updates, item: NamespaceSet) -> bool:
    changed = updates.of(item.name)
    for read in item.public.reads:
        key = read.key.encode()
        if key in changed:
            return False
        row = view.state(item.name, key)
        expected = from_wire(read.version) if read.HasField("version") else None
        if (None if row is None else row.version) != expected:
            return False
    return True


def _hashed_reads_hold(view: BlockView, updates: Updates, item: NamespaceSet) -> bool:
    for collection in item.collections:
        changed = updates.of_collection(item.name, collection.name)
        for read in collection.hashed.hashed_reads:
            if read.key_hash in changed:
                return False
            row = view.hashed(item.name, collection.name, read.key_hash)
            expected = from_wire(read.version) if read.HasField("version") else None
            if (None if row is None else row.version) != expected:
                return False
    return True


def _range_holds(view: BlockView, updates: Updates, namespace: str, query: kv_rwset_pb2.RangeQueryInfo) -> bool:
    """Replay the query over the state before the block merged with the block's updates."""
    found = _merged(view, updates, namespace, query)
    if query.WhichOneof("reads_info") == "reads_merkle_hashes":
        return _summary_matches(found, query.reads_merkle_hashes)
    for read in query.raw_reads.kv_reads:
        row = next(found, None)
        if row is None or row[0] != read.key.encode() or row[1] != from_wire(read.version):
            return False
    return next(found, None) is None


def _summary_matches(found: Iterator[tuple[bytes, int]], expected: kv_rwset_pb2.QueryReadsMerkleSummary) -> bool:
    try:
        results = RangeResults(expected.max_degree)
    except RwSetError:
        return False
    for key, version in found:
        results.add(key_read(key.decode(), version))
    _, summary = results.done()
    return summary is not None and summary == expected


def _merged(
    view: BlockView, updates: Updates, namespace: str, query: kv_rwset_pb2.RangeQueryInfo
) -> Iterator[tuple[bytes, int]]:
    """Keys and versions of the range in key order; the recorded end belongs to it unless the reader ran off it."""
    start, end = query.start_key.encode(), query.end_key.encode()
    changed = updates.of(namespace)
    ours = iter(updates.keys(namespace, start, end))
    mine = next(ours, None)
    for key, version in _committed(view.reader, namespace, start, end):
        while mine is not None and mine < key:
            if changed[mine][0] is not None:
                yield mine, changed[mine][2]
            mine = next(ours, None)
        if mine == key:
            if changed[key][0] is not None:
                yield key, changed[key][2]
            mine = next(ours, None)
        else:
            yield key, version
    while mine is not None:
        if changed[mine][0] is not None:
            yield mine, changed[mine][2]
        mine = next(ours, None)
    if not query.itr_exhausted:
        update = changed.get(end)
        row = view.state(namespace, end) if update is None else None
        if update is not None and update[0] is not None:
            yield end, update[2]
        elif row is not None:
            yield end, row.version


def _committed(reader: Reader, namespace: str, start: bytes, end: bytes) -> Iterator[tuple[bytes, int]]:
    while True:
        rows = reader.version_range(namespace, start, end, RANGE_PAGE)
        yield from rows
        if len(rows) < RANGE_PAGE:
            return
        start = rows[-1][0] + b"\0"


# What a transaction does to one key, as flags that add up. Fabric adds instead of setting bits, so a key that stands
# twice in a hand-made set ends as another operation; adding here keeps the same result.
_UPSERT, _METADATA, _METADATA_DELETE, _DELETE = 1, 2, 4, 8


class _Operation:
    __slots__ = ("flags", "metadata", "value")

    def __init__(self) -> None:
        self.flags = 0
        self.value: bytes | None = None
        self.metadata: bytes | None = None

    def write(self, value: bytes, delete: bool) -> None:
        self.flags = (self.flags + (_DELETE if delete else _UPSERT)) & 0xFF
        if not delete:
            self.value = value

    def write_metadata(self, entries: Sequence[kv_rwset_pb2.KVMetadataEntry]) -> None:
        self.flags = (self.flags + (_METADATA if entries else _METADATA_DELETE)) & 0xFF
        if entries:
            self.metadata = encode_metadata(entries)

    def merge(self, latest: Update | StateRow | HashRow | None, version: int) -> Update | None:
        """The key's new state given its latest one; None when nothing changes (metadata of an absent key)."""
        flags = self.flags
        if flags & _DELETE:
            return None, None, version
        if flags & _UPSERT and flags & (_METADATA | _METADATA_DELETE):
            return self.value, self.metadata, version
        if flags | _UPSERT == _UPSERT:
            return self.value, None if latest is None else latest[1], version
        if latest is None or latest[0] is None:
            return None
        return latest[0], self.metadata, version


def apply(view: BlockView, updates: Updates, sets: Iterable[NamespaceSet], version: int) -> None:
    """Add the writes of a valid transaction: a delete wins over metadata, a value alone keeps the metadata."""
    for item in sets:
        _apply_public(view, updates, item, version)
        # Across all entries of the set: a hand-made one may name a collection twice.
        operations: dict[tuple[str, bytes], _Operation] = {}
        for collection in item.collections:
            for write in collection.hashed.hashed_writes:
                operation = operations.setdefault((collection.name, write.key_hash), _Operation())
                operation.write(write.value_hash, is_hashed_delete(write))
            for change in collection.hashed.metadata_writes:
                operations.setdefault((collection.name, change.key_hash), _Operation()).write_metadata(change.entries)
        for (name, key_hash), operation in operations.items():
            latest = updates.of_collection(item.name, name).get(key_hash) or view.hashed(item.name, name, key_hash)
            update = operation.merge(latest, version)
            if update is not None:
                updates.put_hashed(item.name, name, key_hash, update)


def _apply_public(view: BlockView, updates: Updates, item: NamespaceSet, version: int) -> None:
    operations: dict[bytes, _Operation] = {}
    for write in item.public.writes:
        operations.setdefault(write.key.encode(), _Operation()).write(write.value, is_delete(write))
    for change in item.public.metadata_writes:
        operations.setdefault(change.key.encode(), _Operation()).write_metadata(change.entries)
    before = updates.of(item.name)
    for key, operation in operations.items():
        update = operation.merge(before.get(key) or view.state(item.name, key), version)
        if update is not None:
            updates.put(item.name, key, update)
