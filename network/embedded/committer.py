"""Commit: judge an ordered block, fill its metadata, and hand everything it changes to the ledger in one piece.

Source: embedded-network.md D; Fabric core/ledger/kvledger/kv_ledger.go (commit).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fabric_protos.common import common_pb2
from fabric_protos.msp import msp_config_pb2
from fabric_protos.peer import collection_pb2, transaction_pb2
from tallystick.fabric.block import data_hash, header_hash

from network.channel import config as channel_config
from network.embedded import lifecycle, mvcc
from network.embedded.block import COMMIT_HASH, TRANSACTIONS_FILTER
from network.embedded.commithash import commit_hash
from network.embedded.ledger import BlockWrites, HashWrite, KeyWrite, Ledger
from network.embedded.mvcc import BlockView, Updates
from network.embedded.opening import pad
from network.embedded.private import PrivateUpdates
from network.embedded.rwset import NamespaceSet, position
from network.embedded.store import LedgerError
from network.embedded.validator import Candidate, Definitions, Msps, Policies, Validator

Code = transaction_pb2.TxValidationCode


class BlockError(LedgerError):
    """The block does not follow the last one; nothing was written."""


@dataclass(frozen=True, slots=True)
class CommittedBlock:
    """A block as committed: `block_bytes` with filled metadata, (transaction id, validation code) in block order.

    `namespaces` are those that the block wrote to, publicly or privately.
    """

    number: int
    header_hash: bytes
    block_bytes: bytes
    transactions: list[tuple[str, int]]
    reasons: list[str]
    namespaces: frozenset[str]


class Committer:
    """Commits blocks to one ledger. `definitions` finds chaincode definitions (`lifecycle.definition`)."""

    def __init__(
        self,
        ledger: Ledger,
        policies: Policies,
        msps: Msps,
        definitions: Definitions = lifecycle.definition,
    ) -> None:
        genesis = ledger.block(0)
        if genesis is None:
            raise LedgerError("the ledger holds no block 0")
        self._ledger = ledger
        self._definitions = definitions
        groups = application_groups(genesis)
        self._validator = Validator(channel_config.channel_id(genesis), policies, msps, definitions, groups)

    def commit(self, block: common_pb2.Block) -> CommittedBlock:
        """Judge and write a block; its metadata is filled in place. On the ledger's writer only.

        Raises BlockError when it does not follow the last block, LedgerError when it could not be written; the ledger
        is then as before.
        """
        prepared = self.prepare(block)
        self._ledger.append(prepared.writes)
        return CommittedBlock(
            block.header.number,
            prepared.writes.hash,
            block.SerializeToString(),
            [(candidate.transaction_id, candidate.code) for candidate in prepared.candidates],
            [candidate.reason for candidate in prepared.candidates],
            frozenset({row[0] for row in prepared.writes.state} | {row[0] for row in prepared.writes.hashed}),
        )

    def prepare(self, block: common_pb2.Block) -> "Prepared":
        """Judge a block and fill its metadata without writing it."""
        self._check_link(block)
        number = block.header.number
        view = BlockView(self._ledger.current)
        candidates = self._validator.validate(block.data.data, view)
        updates = Updates()
        private = PrivateUpdates(self._ledger.current, self._ledger.msp_ids)
        history: list[tuple[str, bytes, int]] = []
        for index, candidate in enumerate(candidates):
            if candidate.code != Code.VALID:
                continue
            code = mvcc.validate(view, updates, candidate.sets)
            if code != Code.VALID:
                candidate.reject(code, "what the transaction read has changed")
                continue
            version = position(number, index)
            mvcc.apply(view, updates, candidate.sets, version)
            history += _history(candidate.sets, version)
            if any(item.collections for item in candidate.sets):
                private.add(candidate.transaction_id, version, candidate.sets, self._configs(view, candidate.sets))
        codes = bytes(candidate.code for candidate in candidates)
        digest = commit_hash(codes, updates, self._ledger.commit_hash)
        _fill_metadata(block, codes, digest)
        hashed = {
            (namespace, collection, key): (update[0], update[2])
            for namespace, collections in updates.hashed.items()
            for collection, changes in collections.items()
            for key, update in changes.items()
        }
        writes = BlockWrites(
            block=block,
            hash=header_hash(number, block.header.previous_hash, block.header.data_hash),
            commit_hash=digest,
            entries=[
                (candidate.transaction_id, position(number, index), candidate.code)
                for index, candidate in enumerate(candidates)
                if candidate.transaction_id
            ],
            state=list(_key_writes(updates)),
            hashed=list(_hash_writes(updates)),
            history=history,
            private=private.finish(hashed),
        )
        return Prepared(writes, candidates)

    def close(self) -> None:
        """End the verifying thread."""
        self._validator.close()

    def _check_link(self, block: common_pb2.Block) -> None:
        header = block.header
        if header.number != self._ledger.height:
            raise BlockError(f"block {header.number} came where block {self._ledger.height} is next")
        if header.previous_hash != self._ledger.tip_hash:
            raise BlockError(f"block {header.number} does not name the last block as the one before it")
        if data_hash(block.data.data) != header.data_hash:
            raise BlockError(f"the header of block {header.number} does not name its data")

    def _configs(
        self, view: BlockView, sets: Iterable[NamespaceSet]
    ) -> dict[tuple[str, str], collection_pb2.StaticCollectionConfig]:
        found: dict[tuple[str, str], collection_pb2.StaticCollectionConfig] = {}
        for item in sets:
            definition = self._definitions(view.get_state, item.name) if item.collections else None
            for collection in item.collections if definition is not None else ():
                config = lifecycle.collection_config(definition, collection.name) if definition is not None else None
                if config is not None:
                    found[(item.name, collection.name)] = config
        return found


@dataclass(frozen=True, slots=True)
class Prepared:
    """A judged block: what it writes and the verdict on each of its transactions."""

    writes: BlockWrites
    candidates: Sequence[Candidate]


def application_groups(genesis: bytes) -> Mapping[str, str]:
    """MSP id -> name of the organisation's group under Application in the channel configuration of block 0."""
    application = channel_config.parse(genesis).channel_group.groups["Application"]
    found: dict[str, str] = {}
    for name, group in application.groups.items():
        definition = msp_config_pb2.MSPConfig.FromString(group.values["MSP"].value)
        found[msp_config_pb2.FabricMSPConfig.FromString(definition.config).name] = name
    return found


def _fill_metadata(block: common_pb2.Block, codes: bytes, digest: bytes) -> None:
    slots = pad(block.metadata.metadata)
    slots[TRANSACTIONS_FILTER] = codes
    slots[COMMIT_HASH] = common_pb2.Metadata(value=digest).SerializeToString()
    block.metadata.metadata[:] = slots


def _history(sets: Iterable[NamespaceSet], version: int) -> Iterable[tuple[str, bytes, int]]:
    return [(item.name, write.key.encode(), version) for item in sets for write in item.public.writes]


def _key_writes(updates: Updates) -> Iterable[KeyWrite]:
    for namespace, changes in updates.public.items():
        for key, (value, metadata, version) in changes.items():
            yield namespace, key, value, metadata, version


def _hash_writes(updates: Updates) -> Iterable[HashWrite]:
    for namespace, collections in updates.hashed.items():
        for collection, changes in collections.items():
            for key_hash, (value_hash, metadata, version) in changes.items():
                yield namespace, collection, key_hash, value_hash, metadata, version
