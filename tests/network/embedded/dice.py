"""Random read-write sets on the latest state, signed by a random choice of peers: what nobody thought of.

Some things are left out because a real peer does not survive them (it panics or waits for ever):
a metadata write after a delete of the same key in one block, and metadata in one of several judged namespaces."""

import random
from collections.abc import Callable
from hashlib import sha256

from fabric_protos.common import policies_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.msp import msp_principal_pb2

from chaincode.shim.policy import all_of, any_of, out_of
from network.embedded.ledger import Ledger, Snapshot
from network.embedded.rwset import RangeRecord, RwSetBuilder, position, to_wire
from tests.network.embedded.transactions import ALL, Channel, Draft

KEYS = ("", "a", "a0", "b", "c", "d", "é", "🧾", "z")
COLLECTIONS = ("shared", "strict", "short", "_implicit_org_CoreMSP", "_implicit_org_BankMSP")
PARAMETER = "VALIDATION_PARAMETER"


class Dice:
    """Throws blocks of drafts for one channel; the same seed and ledger give the same throws."""

    def __init__(self, channel: Channel, seed: int) -> None:
        self._channel = channel
        self._random = random.Random(seed)
        self._policies = [
            b"",
            *(all_of(msp_id).envelope() for msp_id in ALL),
            all_of("CoreMSP", "BankMSP").envelope(),
            any_of("WarehouseMSP", "BankMSP").envelope(),
            out_of(2, *ALL).envelope(),
            # Greedy: the wide rule takes the one endorsement that the narrow rule needs.
            out_of(2, any_of(*ALL), "CoreMSP").envelope(),
            _role("CoreMSP", msp_principal_pb2.MSPRole.ADMIN),
            _role("CoreMSP", msp_principal_pb2.MSPRole.MEMBER),
        ]

    def block(self, ledger: Ledger, size: int) -> list[bytes]:
        """Envelopes for the next block."""
        with ledger.snapshot() as snapshot:
            deletable = frozenset(key for key in KEYS if self._random.random() < 0.5)
            return [self._draft(snapshot, deletable).envelope() for _ in range(size)]

    def _draft(self, snapshot: Snapshot, deletable: frozenset[str]) -> Draft:
        dice = self._random
        names = dice.choice((["script"], ["script"], ["both"], ["script", "both"], []))
        builder = RwSetBuilder()
        for name in names:
            for _ in range(dice.randint(1, 4)):
                self._step(builder, snapshot, name, deletable, with_metadata=len(names) == 1)
        results, _ = builder.build()
        if dice.random() < 0.15:
            results = self._disturbed(results, deletable)
        endorsers = dice.choices(ALL, k=dice.randint(0, 2)) + dice.sample(ALL, dice.choice((0, 1, 2, 3, 3, 4, 4)))
        dice.shuffle(endorsers)
        return Draft(
            self._channel,
            results,
            chaincode=names[0] if len(names) == 1 else dice.choice(("script", "both")),
            endorsers=endorsers,
            nonce=dice.randbytes(24),
            version="1.0",
        )

    def _step(
        self, builder: RwSetBuilder, snapshot: Snapshot, name: str, deletable: frozenset[str], *, with_metadata: bool
    ) -> None:
        dice = self._random
        key, collection = dice.choice(KEYS), dice.choice(COLLECTIONS)
        value = b"" if key in deletable and dice.random() < 0.5 else dice.randbytes(dice.randint(1, 3))
        metadata = dice.choice(({}, {"OTHER": b"x"}, *({PARAMETER: policy} for policy in self._policies)))
        may_change = with_metadata and key not in deletable
        steps: list[Callable[[], object]] = [
            lambda: builder.read(name, key, self._version(snapshot, name, key)),
            lambda: builder.write(name, key, value),
            lambda: builder.write(name, key, value),
            lambda: self._range(builder, snapshot, name),
            lambda: builder.read_private(name, collection, key, self._hashed(snapshot, name, collection, key)),
            lambda: builder.write_private(name, collection, key, value, purge=not value and dice.random() < 0.5),
        ]
        if name == "both":
            steps = steps[:4]
        if may_change:
            steps.append(lambda: builder.write_metadata(name, key, metadata))
            if name == "script":
                steps.append(lambda: builder.write_private_metadata(name, collection, key, metadata))
        dice.choice(steps)()

    def _version(self, snapshot: Snapshot, name: str, key: str) -> int | None:
        row = snapshot.state(name, key.encode())
        return self._or_another(None if row is None else row.version)

    def _hashed(self, snapshot: Snapshot, name: str, collection: str, key: str) -> int | None:
        row = snapshot.hashed(name, collection, sha256(key.encode()).digest())
        return self._or_another(None if row is None else row.version)

    def _or_another(self, version: int | None) -> int | None:
        if self._random.random() < 0.9:
            return version
        return self._random.choice((None, 0, position(4, 1), (version or 0) + 1))

    def _range(self, builder: RwSetBuilder, snapshot: Snapshot, name: str) -> None:
        """A range as a chaincode would read it, to its end or not."""
        start, end = self._random.choice(KEYS), self._random.choice(KEYS)
        record: RangeRecord = builder.range(name, start, end)
        rows = snapshot.state_range(name, start.encode(), end.encode(), 200)
        seen = self._random.randint(0, len(rows))
        for key, _, version in rows[:seen]:
            record.returned(key.decode(), version)
        if seen == len(rows) or self._random.random() < 0.1:
            record.exhausted()

    def _disturbed(self, results: bytes, deletable: frozenset[str]) -> bytes:
        """The set with something in it that no simulator writes: a key twice, other order, a flag without sense."""
        dice = self._random
        message = rwset_pb2.TxReadWriteSet.FromString(results)
        for space in message.ns_rwset:
            content = kv_rwset_pb2.KVRWSet.FromString(space.rwset)
            for write in content.writes:
                if write.key not in deletable and dice.random() < 0.5:
                    content.writes.add(key=write.key, value=b"second")
                elif write.value and write.key in deletable and dice.random() < 0.3:
                    write.is_delete = True
            for read in content.reads:
                if dice.random() < 0.3:
                    content.reads.add(key=read.key, version=to_wire(position(3, 0)))
            for change in content.metadata_writes:
                if dice.random() < 0.3:
                    content.metadata_writes.add(key=change.key, entries=change.entries)
            entries = list(content.writes)
            dice.shuffle(entries)
            del content.writes[:]
            content.writes.extend(entries)
            space.rwset = content.SerializeToString()
        spaces = list(message.ns_rwset)
        dice.shuffle(spaces)
        del message.ns_rwset[:]
        message.ns_rwset.extend(spaces)
        return message.SerializeToString()


def _role(msp_id: str, role: int) -> bytes:
    """A rule that one identity with this role satisfies."""
    principal = msp_principal_pb2.MSPPrincipal(
        principal=msp_principal_pb2.MSPRole(msp_identifier=msp_id, role=role).SerializeToString()
    )
    signed_by = policies_pb2.SignaturePolicy(signed_by=0)
    rule = policies_pb2.SignaturePolicy(n_out_of=policies_pb2.SignaturePolicy.NOutOf(n=1, rules=[signed_by]))
    return policies_pb2.SignaturePolicyEnvelope(rule=rule, identities=[principal]).SerializeToString()
