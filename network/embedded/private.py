"""Private data: who holds a collection, what a block does to plain values, and how they leave again.

Hashes of private keys and values are public state. The plain values lie per organisation: they wait in the transient
store from endorsement to commit and are copied to every member only when their hash equals the one in the block.
They leave by block-to-live (with the hashes) or by purge (everywhere, with what was kept of earlier blocks).

Source: embedded-network.md D.5; Fabric core/ledger/kvledger/txmgmt/{validation,pvtstatepurgemgmt}.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from fabric_protos.common import policies_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.msp import msp_principal_pb2
from fabric_protos.peer import collection_pb2
from google.protobuf.message import DecodeError

from network.embedded.rwset import (
    NamespaceSet,
    PrivateSet,
    RwSetError,
    is_delete,
    parse_private,
    position,
    split,
)
from network.embedded.store import Reader

# (namespace, collection, key hash) -> value hash (None when deleted) and version
HashedWrites = Mapping[tuple[str, str, bytes], tuple[bytes | None, int]]


@dataclass(slots=True)
class PrivateWrites:
    """What one block does to private data: rows to store and delete, plain sets to keep, keys to expire or purge.

    Rows are in the column order of the tables `private`, `private_set`, `private_trace` and `expiry`.
    """

    puts: list[tuple[str, str, str, bytes, bytes, bytes, int]] = field(default_factory=list)
    deletes: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    sets: list[tuple[int, str, str, str, bytes]] = field(default_factory=list)
    traces: list[tuple[str, str, bytes, int]] = field(default_factory=list)
    expiries: list[tuple[int, str, str, bytes, int]] = field(default_factory=list)
    purges: list[tuple[str, str, bytes, int]] = field(default_factory=list)


def members(config: collection_pb2.StaticCollectionConfig, msp_ids: Iterable[str]) -> tuple[str, ...]:
    """The organisations whose peer satisfies the collection's member policy, in the order given."""
    policy = config.member_orgs_policy.signature_policy
    return tuple(msp_id for msp_id in msp_ids if _satisfied(policy.rule, policy.identities, msp_id))


def _satisfied(
    rule: policies_pb2.SignaturePolicy, principals: Sequence[msp_principal_pb2.MSPPrincipal], msp_id: str
) -> bool:
    """Whether one peer of the organisation alone satisfies the rule; so of several parts it can serve only one."""
    if rule.WhichOneof("Type") == "signed_by":
        return 0 <= rule.signed_by < len(principals) and _is_peer_of(principals[rule.signed_by], msp_id)
    part = rule.n_out_of
    return part.n <= min(1, sum(_satisfied(each, principals, msp_id) for each in part.rules))


def _is_peer_of(principal: msp_principal_pb2.MSPPrincipal, msp_id: str) -> bool:
    if principal.principal_classification != msp_principal_pb2.MSPPrincipal.ROLE:
        return False
    try:
        role = msp_principal_pb2.MSPRole.FromString(principal.principal)
    except DecodeError:
        return False
    peer_roles = (msp_principal_pb2.MSPRole.MEMBER, msp_principal_pb2.MSPRole.PEER)
    return role.msp_identifier == msp_id and role.role in peer_roles


class PrivateUpdates:
    """Gathers the private side of one block, transaction by transaction in block order."""

    def __init__(self, reader: Reader, msp_ids: tuple[str, ...]) -> None:
        self._reader = reader
        self._msp_ids = msp_ids
        self._rows: dict[tuple[str, str, str, bytes], tuple[bytes | None, int]] = {}
        self._metadata_only: dict[tuple[str, str, bytes], tuple[str, ...]] = {}
        self._writes = PrivateWrites()

    def add(
        self,
        transaction_id: str,
        version: int,
        sets: Iterable[NamespaceSet],
        configs: Mapping[tuple[str, str], collection_pb2.StaticCollectionConfig],
    ) -> None:
        """Add one valid transaction; `configs` holds the configuration of each (namespace, collection) in it."""
        held: dict[tuple[str, str], list[PrivateSet]] | None = None
        for namespace in sets:
            for collection in namespace.collections:
                hashed = collection.hashed
                if not (hashed.hashed_writes or hashed.metadata_writes):
                    continue
                name = (namespace.name, collection.name)
                config = configs.get(name)
                if config is None:
                    continue
                self._schedule(name, hashed, config.block_to_live, version)
                if held is None:
                    held = self._held(transaction_id)
                plain = _matching(held.get(name, ()), collection.private_hash)
                if plain is not None:
                    self._keep(name, plain, members(config, self._msp_ids), config.block_to_live, version)

    def finish(self, hashed: HashedWrites) -> PrivateWrites:
        """The writes of the block, given its final hashed writes."""
        for (namespace, collection, key), holders in self._metadata_only.items():
            final = hashed.get((namespace, collection, sha256(key).digest()))
            if final is None or final[0] is None:
                continue
            for msp_id in holders:
                self._restamp((msp_id, namespace, collection, key), final[0], final[1])
        for (msp_id, namespace, collection, key), (value, version) in self._rows.items():
            if value is None:
                self._writes.deletes.append((msp_id, namespace, collection, key))
            else:
                self._writes.puts.append((msp_id, namespace, collection, key, sha256(key).digest(), value, version))
        return self._writes

    def _held(self, transaction_id: str) -> dict[tuple[str, str], list[PrivateSet]]:
        """Plain sets kept since endorsement, from whichever organisation endorsed."""
        held: dict[tuple[str, str], list[PrivateSet]] = {}
        for _, data in self._reader.transient(transaction_id):
            try:
                for item in parse_private(data):
                    held.setdefault((item.namespace, item.collection), []).append(item)
            except RwSetError:
                continue  # not ours to judge: only what hashes to the public hash counts
        return held

    def _schedule(
        self, name: tuple[str, str], hashed: kv_rwset_pb2.HashedRWSet, block_to_live: int, version: int
    ) -> None:
        for write in hashed.hashed_writes:
            if write.is_purge:
                self._writes.purges.append((*name, write.key_hash, version))
        if block_to_live:
            expiring = split(version)[0] + block_to_live + 1
            keys = [write.key_hash for write in hashed.hashed_writes]
            keys += [write.key_hash for write in hashed.metadata_writes]
            self._writes.expiries += [(expiring, *name, key_hash, version) for key_hash in keys]

    def _keep(
        self,
        name: tuple[str, str],
        plain: PrivateSet,
        holders: tuple[str, ...],
        block_to_live: int,
        version: int,
    ) -> None:
        namespace, collection = name
        writes = plain.writes
        for msp_id in holders:
            self._writes.sets.append((version, msp_id, namespace, collection, plain.data))
            for write in writes.writes:
                value = None if is_delete(write) else write.value
                self._rows[(msp_id, namespace, collection, write.key.encode())] = (value, version)
        for write in writes.writes:
            key_hash = sha256(write.key.encode()).digest()
            self._writes.traces.append((namespace, collection, key_hash, version))
        for metadata_write in writes.metadata_writes:
            self._metadata_only[(namespace, collection, metadata_write.key.encode())] = holders
            key_hash = sha256(metadata_write.key.encode()).digest()
            self._writes.traces.append((namespace, collection, key_hash, version))

    def _restamp(self, row: tuple[str, str, str, bytes], value_hash: bytes, version: int) -> None:
        """A metadata write raised the version of the hash: the plain value gets the same, if it is that value."""
        latest = self._rows.get(row) or self._reader.private(*row)
        if latest is None or latest[0] is None or latest[1] == version:
            return
        if sha256(latest[0]).digest() == value_hash:
            self._rows[row] = (latest[0], version)


def _matching(candidates: Iterable[PrivateSet], private_hash: bytes) -> PrivateSet | None:
    for candidate in candidates:
        if sha256(candidate.data).digest() == private_hash:
            return candidate
    return None


def without_key(data: bytes, key_hash: bytes) -> bytes:
    """A private write set (KVRWSet bytes) without the writes of one key."""
    before = kv_rwset_pb2.KVRWSet.FromString(data)
    after = kv_rwset_pb2.KVRWSet(
        writes=[item for item in before.writes if sha256(item.key.encode()).digest() != key_hash],
        metadata_writes=[item for item in before.metadata_writes if sha256(item.key.encode()).digest() != key_hash],
    )
    return after.SerializeToString()


def store_writes(connection: sqlite3.Connection, number: int, writes: PrivateWrites) -> None:
    """Store the private side of block `number` inside its SQLite transaction, after its hashed writes."""
    many = connection.executemany
    if writes.puts or writes.deletes or writes.sets:
        many("INSERT OR REPLACE INTO private VALUES(?, ?, ?, ?, ?, ?, ?)", writes.puts)
        many("DELETE FROM private WHERE msp_id=? AND namespace=? AND collection=? AND key=?", writes.deletes)
        many("INSERT OR REPLACE INTO private_set VALUES(?, ?, ?, ?, ?)", writes.sets)
        many("INSERT OR IGNORE INTO private_trace VALUES(?, ?, ?, ?)", writes.traces)
    if writes.expiries:
        many("INSERT OR IGNORE INTO expiry VALUES(?, ?, ?, ?, ?)", writes.expiries)
    expire(connection, number)
    for each in writes.purges:
        purge(connection, *each)


_THIS_KEY = "namespace=? AND collection=? AND key_hash=?"


def expire(connection: sqlite3.Connection, number: int) -> None:
    """Delete what expires with block `number`: hashes and plain values not written since, and kept plain sets.

    What this very block writes has its new version already, so it stays.
    """
    rows = connection.execute(
        "SELECT namespace, collection, key_hash, version FROM expiry WHERE block=?", (number,)
    ).fetchall()
    if not rows:
        return
    for namespace, collection, key_hash, version in rows:
        key = (namespace, collection, key_hash)
        block, _ = split(version)
        where = (*key, position(block, 0), position(block + 1, 0) - 1)
        connection.execute(f"DELETE FROM hashed WHERE {_THIS_KEY} AND version BETWEEN ? AND ?", where)  # noqa: S608
        connection.execute(f"DELETE FROM private WHERE {_THIS_KEY} AND version BETWEEN ? AND ?", where)  # noqa: S608
        connection.execute(f"DELETE FROM private_trace WHERE {_THIS_KEY} AND version=?", (*key, version))  # noqa: S608
        connection.execute(
            "DELETE FROM private_set WHERE version=? AND namespace=? AND collection=?", (version, *key[:2])
        )
    connection.execute("DELETE FROM expiry WHERE block=?", (number,))


def purge(connection: sqlite3.Connection, namespace: str, collection: str, key_hash: bytes, version: int) -> None:
    """Erase every plain trace of a private key written up to and including `version`, in every organisation."""
    where = (namespace, collection, key_hash, version)
    connection.execute(f"DELETE FROM private WHERE {_THIS_KEY} AND version<=?", where)  # noqa: S608
    traces = connection.execute(
        f"SELECT version FROM private_trace WHERE {_THIS_KEY} AND version<=?",  # noqa: S608
        where,
    ).fetchall()
    for (place,) in traces:
        holders = connection.execute(
            "SELECT msp_id, data FROM private_set WHERE version=? AND namespace=? AND collection=?",
            (place, namespace, collection),
        ).fetchall()
        for msp_id, data in holders:
            connection.execute(
                "UPDATE private_set SET data=? WHERE version=? AND msp_id=? AND namespace=? AND collection=?",
                (without_key(data, key_hash), place, msp_id, namespace, collection),
            )
    connection.execute(f"DELETE FROM private_trace WHERE {_THIS_KEY} AND version<=?", where)  # noqa: S608
