"""Read-write sets: what a simulation read and wrote, in Fabric's canonical bytes.

A version is kept as one integer, `position(block, transaction)`, so that equality is one comparison and the store
needs one column; the wire form with two numbers is made only here. Keys are text on the wire and sorted by their
UTF-8 bytes; Python orders text by code point, which is the same order.

Source: embedded-network.md B.5; Fabric core/ledger/kvledger/txmgmt/rwsetutil.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from google.protobuf.message import DecodeError

TRANSACTION_BITS = 20  # a block holds at most 2**20 transactions; the batch settings stay far below
TRANSACTION_MASK = (1 << TRANSACTION_BITS) - 1
RANGE_DEGREE = 50  # results of a range kept raw, and children of one Merkle node
HASH_OF_NOTHING = sha256(b"").digest()


class RwSetError(ValueError):
    """The bytes are not a read-write set."""


def position(block: int, transaction: int) -> int:
    """The version of what transaction number `transaction` of block `block` writes, as one ordered integer."""
    return block << TRANSACTION_BITS | transaction


def split(version: int) -> tuple[int, int]:
    """Block and transaction number of a version."""
    return version >> TRANSACTION_BITS, version & TRANSACTION_MASK


def to_wire(version: int) -> kv_rwset_pb2.Version:
    """The version as a message; a message with both numbers zero is present and means block 0, transaction 0."""
    return kv_rwset_pb2.Version(block_num=version >> TRANSACTION_BITS, tx_num=version & TRANSACTION_MASK)


def from_wire(version: kv_rwset_pb2.Version) -> int:
    """The version as an integer; -1, which no committed key has, when the transaction number is out of range."""
    number = version.tx_num
    return version.block_num << TRANSACTION_BITS | number if number <= TRANSACTION_MASK else -1


def show(version: int | None) -> str:
    """The version as Go prints it in Fabric's error texts."""
    if version is None:
        return "<nil>"
    return f"{{BlockNum: {version >> TRANSACTION_BITS}, TxNum: {version & TRANSACTION_MASK}}}"


def encode_metadata(entries: Iterable[kv_rwset_pb2.KVMetadataEntry]) -> bytes | None:
    """Metadata of one key as stored; None when there are no entries (metadata deleted)."""
    return kv_rwset_pb2.KVMetadataWrite(entries=entries).SerializeToString() or None


def decode_metadata(stored: bytes | None) -> dict[str, bytes]:
    """Metadata of one key by name; empty when none is stored."""
    if not stored:
        return {}
    return {entry.name: entry.value for entry in kv_rwset_pb2.KVMetadataWrite.FromString(stored).entries}


def is_delete(write: kv_rwset_pb2.KVWrite) -> bool:
    """An empty value deletes, whatever the flag says."""
    return write.is_delete or not write.value


def is_hashed_delete(write: kv_rwset_pb2.KVWriteHash) -> bool:
    """As `is_delete` for a private write: the hash of an empty value deletes too."""
    return write.is_delete or not write.value_hash or write.value_hash == HASH_OF_NOTHING


def key_read(key: str, version: int | None) -> kv_rwset_pb2.KVRead:
    """One read; no version when the key was absent."""
    if version is None:
        return kv_rwset_pb2.KVRead(key=key)
    return kv_rwset_pb2.KVRead(key=key, version=to_wire(version))


class RangeResults:
    """Results of one range query: raw up to the degree, beyond it a Merkle summary.

    Every `degree + 1` reads are hashed as one leaf and every `degree + 1` nodes of a level as one node of the next.
    """

    def __init__(self, degree: int = RANGE_DEGREE) -> None:
        if degree < 2:
            raise RwSetError(f"maxDegree [{degree}] should not be less than 2 in the merkle tree")
        self._degree = degree
        self._pending: list[kv_rwset_pb2.KVRead] = []
        self._levels: dict[int, list[bytes]] = {}
        self._top = 1

    def add(self, read: kv_rwset_pb2.KVRead) -> None:
        """Add the next result in key order."""
        self._pending.append(read)
        if len(self._pending) > self._degree:
            self._hash_pending()

    def done(self) -> tuple[list[kv_rwset_pb2.KVRead], kv_rwset_pb2.QueryReadsMerkleSummary | None]:
        """The raw reads, or no reads and the summary once more than `degree` results were added."""
        if self._top == 1 and not self._levels.get(1):
            return self._pending, None
        if self._pending:
            self._hash_pending()
        self._complete()
        return [], self.summary()

    def summary(self) -> kv_rwset_pb2.QueryReadsMerkleSummary:
        """The highest level of the tree as far as it is built."""
        return kv_rwset_pb2.QueryReadsMerkleSummary(
            max_degree=self._degree, max_level=self._top, max_level_hashes=self._levels.get(self._top, [])
        )

    def _hash_pending(self) -> None:
        leaf = sha256(kv_rwset_pb2.QueryReads(kv_reads=self._pending).SerializeToString()).digest()
        self._pending = []
        level = 1
        self._levels.setdefault(level, []).append(leaf)
        while len(self._levels[level]) > self._degree:
            node = sha256(b"".join(self._levels.pop(level))).digest()
            level += 1
            self._levels.setdefault(level, []).append(node)
            self._top = max(self._top, level)

    def _complete(self) -> None:
        for level in range(1, self._top):
            hashes = self._levels.pop(level, [])
            if hashes:
                node = hashes[0] if len(hashes) == 1 else sha256(b"".join(hashes)).digest()
                self._levels.setdefault(level + 1, []).append(node)
        final = self._levels.get(self._top, [])
        if len(final) > self._degree:
            del self._levels[self._top]
            self._top += 1
            self._levels[self._top] = [sha256(b"".join(final)).digest()]


class RangeRecord:
    """What one range iterator was seen to return; goes into the set when the simulation ends."""

    def __init__(self, start: str, end: str) -> None:
        self._start = start
        self._requested_end = end
        self._end = ""
        self._exhausted = False
        self._results = RangeResults()

    def returned(self, key: str, version: int) -> None:
        """The iterator returned this key: the range read so far ends here."""
        self._results.add(key_read(key, version))
        self._end = key

    def exhausted(self) -> None:
        """The iterator ran off the end: the requested end is what was read."""
        self._exhausted = True
        self._end = self._requested_end

    def info(self) -> kv_rwset_pb2.RangeQueryInfo:
        """The record as a message."""
        reads, summary = self._results.done()
        info = kv_rwset_pb2.RangeQueryInfo(
            start_key=self._start, end_key=self._end, itr_exhausted=self._exhausted, reads_merkle_hashes=summary
        )
        if reads:
            info.raw_reads.kv_reads.extend(reads)
        return info


@dataclass(slots=True)
class _CollectionBuild:
    reads: dict[str, int | None]
    writes: dict[str, tuple[bytes, bool]]
    metadata: dict[str, Mapping[str, bytes]]


@dataclass(slots=True)
class _NamespaceBuild:
    reads: dict[str, int | None]
    writes: dict[str, bytes]
    metadata: dict[str, Mapping[str, bytes]]
    ranges: list[RangeRecord]
    collections: dict[str, _CollectionBuild]


class RwSetBuilder:
    """Collects reads and writes of one simulation. A key read twice is kept once, of two writes the last stays."""

    def __init__(self) -> None:
        self._namespaces: dict[str, _NamespaceBuild] = {}

    def read(self, namespace: str, key: str, version: int | None) -> None:
        """A key was read; `version` None means it was absent."""
        self._namespace(namespace).reads[key] = version

    def write(self, namespace: str, key: str, value: bytes) -> None:
        """A key is written; an empty value deletes it."""
        self._namespace(namespace).writes[key] = value

    def write_metadata(self, namespace: str, key: str, metadata: Mapping[str, bytes]) -> None:
        """Metadata of a key is replaced; empty removes it."""
        self._namespace(namespace).metadata[key] = metadata

    def range(self, namespace: str, start: str, end: str) -> RangeRecord:
        """Begin the record of a range query, in order of first use."""
        record = RangeRecord(start, end)
        self._namespace(namespace).ranges.append(record)
        return record

    def read_private(self, namespace: str, collection: str, key: str, version: int | None) -> None:
        """A private key, or its hash, was read."""
        self._collection(namespace, collection).reads[key] = version

    def write_private(self, namespace: str, collection: str, key: str, value: bytes, purge: bool = False) -> None:
        """A private key is written, deleted (empty value) or purged with its history."""
        self._collection(namespace, collection).writes[key] = (value, purge)

    def write_private_metadata(self, namespace: str, collection: str, key: str, metadata: Mapping[str, bytes]) -> None:
        """Metadata of a private key is replaced; it is stored by the key's hash only."""
        self._collection(namespace, collection).metadata[key] = metadata

    def touched(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Namespaces in the set, each with its collections, both sorted."""
        return tuple((name, tuple(sorted(build.collections))) for name, build in sorted(self._namespaces.items()))

    def build(self) -> tuple[bytes, bytes | None]:
        """TxReadWriteSet, and TxPvtReadWriteSet or None when nothing private was written."""
        public = rwset_pb2.TxReadWriteSet(data_model=rwset_pb2.TxReadWriteSet.KV)
        private = rwset_pb2.TxPvtReadWriteSet(data_model=rwset_pb2.TxReadWriteSet.KV)
        for name, build in sorted(self._namespaces.items()):
            collections: list[rwset_pb2.CollectionHashedReadWriteSet] = []
            plain: list[rwset_pb2.CollectionPvtReadWriteSet] = []
            for collection_name, collection in sorted(build.collections.items()):
                digest = b""
                if collection.writes or collection.metadata:
                    data = _private_set(collection).SerializeToString()
                    digest = sha256(data).digest()
                    plain.append(rwset_pb2.CollectionPvtReadWriteSet(collection_name=collection_name, rwset=data))
                collections.append(
                    rwset_pb2.CollectionHashedReadWriteSet(
                        collection_name=collection_name,
                        hashed_rwset=_hashed_set(collection).SerializeToString(),
                        pvt_rwset_hash=digest,
                    )
                )
            public.ns_rwset.add(
                namespace=name, rwset=_public_set(build).SerializeToString(), collection_hashed_rwset=collections
            )
            if plain:
                private.ns_pvt_rwset.add(namespace=name, collection_pvt_rwset=plain)
        return public.SerializeToString(), private.SerializeToString() if private.ns_pvt_rwset else None

    def _namespace(self, name: str) -> _NamespaceBuild:
        build = self._namespaces.get(name)
        if build is None:
            build = self._namespaces[name] = _NamespaceBuild({}, {}, {}, [], {})
        return build

    def _collection(self, namespace: str, name: str) -> _CollectionBuild:
        collections = self._namespace(namespace).collections
        build = collections.get(name)
        if build is None:
            build = collections[name] = _CollectionBuild({}, {}, {})
        return build


def _entries(metadata: Mapping[str, bytes]) -> list[kv_rwset_pb2.KVMetadataEntry]:
    return [kv_rwset_pb2.KVMetadataEntry(name=name, value=value) for name, value in sorted(metadata.items())]


def _public_set(build: _NamespaceBuild) -> kv_rwset_pb2.KVRWSet:
    ranges: dict[tuple[str, str, bool], kv_rwset_pb2.RangeQueryInfo] = {}
    for record in build.ranges:
        info = record.info()
        ranges.setdefault((info.start_key, info.end_key, info.itr_exhausted), info)
    return kv_rwset_pb2.KVRWSet(
        reads=[key_read(key, version) for key, version in sorted(build.reads.items())],
        range_queries_info=list(ranges.values()),
        writes=[
            kv_rwset_pb2.KVWrite(key=key, is_delete=not value, value=value)
            for key, value in sorted(build.writes.items())
        ],
        metadata_writes=[
            kv_rwset_pb2.KVMetadataWrite(key=key, entries=_entries(metadata))
            for key, metadata in sorted(build.metadata.items())
        ],
    )


def _hashed_set(build: _CollectionBuild) -> kv_rwset_pb2.HashedRWSet:
    # Sorted by the plain keys, not by their hashes: this is Fabric's order.
    return kv_rwset_pb2.HashedRWSet(
        hashed_reads=[
            kv_rwset_pb2.KVReadHash(
                key_hash=sha256(key.encode()).digest(), version=None if version is None else to_wire(version)
            )
            for key, version in sorted(build.reads.items())
        ],
        hashed_writes=[
            kv_rwset_pb2.KVWriteHash(
                key_hash=sha256(key.encode()).digest(),
                is_delete=not value,
                value_hash=sha256(value).digest() if value else b"",
                is_purge=purge,
            )
            for key, (value, purge) in sorted(build.writes.items())
        ],
        metadata_writes=[
            kv_rwset_pb2.KVMetadataWriteHash(key_hash=sha256(key.encode()).digest(), entries=_entries(metadata))
            for key, metadata in sorted(build.metadata.items())
        ],
    )


def _private_set(build: _CollectionBuild) -> kv_rwset_pb2.KVRWSet:
    return kv_rwset_pb2.KVRWSet(
        writes=[
            kv_rwset_pb2.KVWrite(key=key, is_delete=not value, value=value)
            for key, (value, _) in sorted(build.writes.items())
        ],
        metadata_writes=[kv_rwset_pb2.KVMetadataWrite(key=key) for key in sorted(build.metadata)],
    )


@dataclass(frozen=True, slots=True)
class CollectionSet:
    """Hashed reads and writes of one collection and the hash of its private write set (empty when none)."""

    name: str
    hashed: kv_rwset_pb2.HashedRWSet
    private_hash: bytes


@dataclass(frozen=True, slots=True)
class NamespaceSet:
    """Reads and writes of one namespace."""

    name: str
    public: kv_rwset_pb2.KVRWSet
    collections: tuple[CollectionSet, ...]

    @property
    def writes(self) -> bool:
        """Whether anything is written here, privately or publicly, values or metadata."""
        if self.public.writes or self.public.metadata_writes:
            return True
        return any(item.hashed.hashed_writes or item.hashed.metadata_writes for item in self.collections)


@dataclass(frozen=True, slots=True)
class PrivateSet:
    """Plain writes of one collection of one transaction; `data` are the bytes whose hash is in the block."""

    namespace: str
    collection: str
    data: bytes

    @property
    def writes(self) -> kv_rwset_pb2.KVRWSet:
        """The decoded writes."""
        return kv_rwset_pb2.KVRWSet.FromString(self.data)


def parse(results: bytes) -> tuple[NamespaceSet, ...]:
    """Decode a TxReadWriteSet in the order of the bytes; raises RwSetError when they are no such message."""
    try:
        message = rwset_pb2.TxReadWriteSet.FromString(results)
        return tuple(
            NamespaceSet(
                item.namespace,
                kv_rwset_pb2.KVRWSet.FromString(item.rwset),
                tuple(
                    CollectionSet(
                        collection.collection_name,
                        kv_rwset_pb2.HashedRWSet.FromString(collection.hashed_rwset),
                        collection.pvt_rwset_hash,
                    )
                    for collection in item.collection_hashed_rwset
                ),
            )
            for item in message.ns_rwset
        )
    except DecodeError as error:
        raise RwSetError(f"not a read-write set: {error}") from error


def parse_private(data: bytes) -> tuple[PrivateSet, ...]:
    """Decode a TxPvtReadWriteSet; raises RwSetError when the bytes are no such message."""
    try:
        message = rwset_pb2.TxPvtReadWriteSet.FromString(data)
        sets = tuple(
            PrivateSet(namespace.namespace, item.collection_name, item.rwset)
            for namespace in message.ns_pvt_rwset
            for item in namespace.collection_pvt_rwset
        )
        for item in sets:
            kv_rwset_pb2.KVRWSet.FromString(item.data)
    except DecodeError as error:
        raise RwSetError(f"not a private read-write set: {error}") from error
    return sets


def join_private(sets: Sequence[PrivateSet]) -> bytes:
    """Encode private sets, given in namespace order, as one TxPvtReadWriteSet."""
    message = rwset_pb2.TxPvtReadWriteSet(data_model=rwset_pb2.TxReadWriteSet.KV)
    for item in sets:
        if not message.ns_pvt_rwset or message.ns_pvt_rwset[-1].namespace != item.namespace:
            message.ns_pvt_rwset.add(namespace=item.namespace)
        message.ns_pvt_rwset[-1].collection_pvt_rwset.add(collection_name=item.collection, rwset=item.data)
    return message.SerializeToString()
