"""Reads, ranges and hashed reads against earlier blocks and earlier transactions; what valid writes leave behind."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import transaction_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from network.embedded import lifecycle
from network.embedded.rwset import RwSetBuilder, decode_metadata, position
from network.embedded.simulator import Simulator
from tests.network.embedded.transactions import ALL, Chain, Channel, Draft

Code = transaction_pb2.TxValidationCode
Write = Callable[[Simulator], None]


def simulate(chain: Chain, work: Callable[[Simulator], object], msp_id: str = "CoreMSP", **changes: object) -> Draft:
    """A draft of what this work reads and writes now."""
    with chain.ledger.snapshot() as snapshot:
        simulator = Simulator(snapshot, msp_id)
        work(simulator)
        result = simulator.result()
    draft = chain.draft(result.public, **changes)
    if result.private is not None:
        assert draft.transaction_id is not None
        chain.ledger.keep_transient(draft.transaction_id, msp_id, result.private).result()
    return draft


def put(key: str, value: bytes = b"new") -> Write:
    return lambda simulator: simulator.set_state("trade", key, value)


def test_read_of_unchanged_key_is_valid(chain: Chain) -> None:
    chain.put(a=b"1")
    assert chain.commit([simulate(chain, lambda s: (s.get_state("trade", "a"), put("a")(s)))]) == [Code.VALID]


def test_read_of_key_changed_in_an_earlier_block_conflicts(chain: Chain) -> None:
    chain.put(a=b"1")
    draft = simulate(chain, lambda s: (s.get_state("trade", "a"), put("b")(s)))
    chain.put(a=b"1")  # the same value again is another version
    assert chain.commit([draft]) == [Code.MVCC_READ_CONFLICT]
    assert chain.ledger.current.get_state("trade", "b") is None


def test_of_two_that_read_and_write_one_key_in_a_block_the_first_wins(chain: Chain) -> None:
    chain.put(a=b"1")
    drafts = [simulate(chain, lambda s: (s.get_state("trade", "a"), put("a")(s))) for _ in range(2)]
    assert chain.commit(drafts) == [Code.VALID, Code.MVCC_READ_CONFLICT]


def test_blind_writes_of_one_key_in_a_block_are_all_valid_and_the_last_stays(chain: Chain) -> None:
    assert chain.commit([simulate(chain, put("a", b"1")), simulate(chain, put("a", b"2"))]) == [0, 0]
    row = chain.ledger.current.state("trade", b"a")
    assert row is not None and (row.value, row.version) == (b"2", position(chain.ledger.height - 1, 1))


def test_write_of_an_invalid_transaction_does_not_conflict(chain: Chain) -> None:
    chain.put(a=b"1", b=b"1")
    stale = simulate(chain, lambda s: (s.get_state("trade", "a"), put("b")(s)))
    chain.put(a=b"2")
    reader = simulate(chain, lambda s: (s.get_state("trade", "b"), put("c")(s)))
    assert chain.commit([stale, reader]) == [Code.MVCC_READ_CONFLICT, Code.VALID]


def test_absent_key_read_as_absent_is_valid_and_conflicts_once_created(chain: Chain) -> None:
    drafts = [simulate(chain, lambda s: (s.get_state("trade", "a"), put("a")(s))) for _ in range(2)]
    assert chain.commit(drafts[:1]) == [Code.VALID]
    assert chain.commit(drafts[1:]) == [Code.MVCC_READ_CONFLICT]


def test_key_deleted_earlier_in_the_block_conflicts(chain: Chain) -> None:
    chain.put(a=b"1")
    reader = simulate(chain, lambda s: (s.get_state("trade", "a"), put("b")(s)))
    assert chain.commit([simulate(chain, put("a", b"")), reader]) == [Code.VALID, Code.MVCC_READ_CONFLICT]


def test_changed_definition_invalidates_calls_under_way(chain: Chain) -> None:
    draft = simulate(chain, lambda s: (lifecycle.sequence(s.get_state, "trade"), put("a")(s)))
    builder = RwSetBuilder()
    builder.write("_lifecycle", "namespaces/fields/trade/Sequence", b"\x08\x02")
    assert chain.commit([chain.draft(builder, chaincode="_lifecycle"), draft]) == [0, Code.MVCC_READ_CONFLICT]


# --- ranges -------------------------------------------------------------------------------------------------------


def scan(count: int | None = None, start: str = "k", end: str = "l") -> Write:
    """Read `count` rows of the range (None: run off its end), then write a key outside of it."""

    def work(simulator: Simulator) -> None:
        rows = simulator.range("trade", start, end)
        if count is None:
            list(rows)
        else:
            for _ in range(count):
                next(rows)
        simulator.set_state("trade", "z", b"scanned")

    return work


def fill(chain: Chain, count: int) -> None:
    chain.put("trade", **{f"k{number:04}": b"v" for number in range(0, 2 * count, 2)})


SIZES = pytest.mark.parametrize("size", [3, 50, 51, 120])


@SIZES
def test_unchanged_range_is_valid(chain: Chain, size: int) -> None:
    fill(chain, size)
    assert chain.commit([simulate(chain, put("a")), simulate(chain, scan())]) == [0, 0]


@SIZES
@pytest.mark.parametrize("key", ["k0001", "k9999"], ids=["inside", "after the last"])
def test_key_inserted_into_a_range_is_a_phantom(chain: Chain, size: int, key: str) -> None:
    fill(chain, size)
    in_block, across = simulate(chain, scan()), simulate(chain, scan())
    assert chain.commit([simulate(chain, put(key)), in_block]) == [0, Code.PHANTOM_READ_CONFLICT]
    assert chain.commit([across]) == [Code.PHANTOM_READ_CONFLICT]


@SIZES
def test_key_deleted_from_a_range_is_a_phantom(chain: Chain, size: int) -> None:
    fill(chain, size)
    in_block, across = simulate(chain, scan()), simulate(chain, scan())
    assert chain.commit([simulate(chain, put("k0002", b"")), in_block]) == [0, Code.PHANTOM_READ_CONFLICT]
    assert chain.commit([across]) == [Code.PHANTOM_READ_CONFLICT]


@SIZES
def test_key_rewritten_in_a_range_is_a_phantom(chain: Chain, size: int) -> None:
    fill(chain, size)
    in_block, across = simulate(chain, scan()), simulate(chain, scan())
    assert chain.commit([simulate(chain, put("k0000", b"v")), in_block]) == [0, Code.PHANTOM_READ_CONFLICT]
    assert chain.commit([across]) == [Code.PHANTOM_READ_CONFLICT]


@pytest.mark.parametrize("key", ["j", "l", "l0"])
def test_keys_outside_the_range_do_not_matter(chain: Chain, key: str) -> None:
    fill(chain, 3)
    assert chain.commit([simulate(chain, put(key)), simulate(chain, scan())]) == [0, 0]


@pytest.mark.parametrize("count", [2, 60])
def test_range_read_in_part_is_protected_up_to_the_last_key_read(chain: Chain, count: int) -> None:
    fill(chain, 100)
    last = f"k{2 * (count - 1):04}"
    drafts = [simulate(chain, scan(count)) for _ in range(3)]
    assert chain.commit([simulate(chain, put(last + "x")), drafts[0]]) == [0, 0], "behind the last key read"
    assert chain.commit([simulate(chain, put(last)), drafts[1]]) == [0, Code.PHANTOM_READ_CONFLICT]
    assert chain.commit([drafts[2]]) == [Code.PHANTOM_READ_CONFLICT]


def test_last_key_read_in_part_and_deleted_is_a_phantom(chain: Chain) -> None:
    fill(chain, 5)
    drafts = [simulate(chain, scan(2)) for _ in range(2)]
    assert chain.commit([simulate(chain, put("k0002", b"")), drafts[0]]) == [0, Code.PHANTOM_READ_CONFLICT]
    assert chain.commit([drafts[1]]) == [Code.PHANTOM_READ_CONFLICT]


def test_empty_end_is_an_open_end(chain: Chain) -> None:
    fill(chain, 3)
    drafts = [simulate(chain, scan(None, "k", "")) for _ in range(2)]
    assert chain.commit(drafts[:1]) == [0]
    assert chain.commit(drafts[1:]) == [Code.PHANTOM_READ_CONFLICT], "the first one wrote z, inside the open range"


def test_empty_range_that_stays_empty_is_valid(chain: Chain) -> None:
    assert chain.commit([simulate(chain, scan())]) == [0]


def test_insert_and_delete_of_one_key_in_a_block_leave_no_phantom(chain: Chain) -> None:
    fill(chain, 3)
    reader = simulate(chain, scan())
    assert chain.commit([simulate(chain, put("k0001")), simulate(chain, put("k0001", b"")), reader]) == [0, 0, 0]


def test_key_that_came_and_went_again_is_no_phantom(chain: Chain) -> None:
    """Created in a block that the reader has not seen, deleted earlier in the reader's own block."""
    fill(chain, 3)
    reader = simulate(chain, scan())
    chain.put(k0001=b"v")
    assert chain.commit([simulate(chain, put("k0001", b"")), reader]) == [0, 0]


def test_each_range_of_a_block_sees_the_writes_before_it(chain: Chain) -> None:
    fill(chain, 3)
    readers = [simulate(chain, scan()) for _ in range(2)]
    drafts = [simulate(chain, put("a")), readers[0], simulate(chain, put("k0001")), readers[1]]
    assert chain.commit(drafts) == [0, 0, 0, Code.PHANTOM_READ_CONFLICT]


def test_forged_summary_with_bad_degree_conflicts(chain: Chain) -> None:
    info = kv_rwset_pb2.RangeQueryInfo(start_key="k", end_key="l", itr_exhausted=True)
    info.reads_merkle_hashes.max_degree = 1
    inner = kv_rwset_pb2.KVRWSet(range_queries_info=[info]).SerializeToString()
    results = rwset_pb2.TxReadWriteSet(ns_rwset=[rwset_pb2.NsReadWriteSet(namespace="trade", rwset=inner)])
    assert chain.commit([chain.draft(results.SerializeToString())]) == [Code.PHANTOM_READ_CONFLICT]


# --- order of the checks ------------------------------------------------------------------------------------------


def test_reads_are_judged_before_ranges_and_namespaces_in_order(chain: Chain) -> None:
    fill(chain, 3)
    chain.put("account", a=b"1")

    def both(simulator: Simulator) -> None:
        simulator.get_state("trade", "k0000")
        scan()(simulator)

    stale = simulate(chain, both)
    chain.put(k0000=b"2")
    assert chain.commit([stale]) == [Code.MVCC_READ_CONFLICT]

    def ranges_first(simulator: Simulator) -> None:
        list(simulator.range("account", "a", "z"))
        simulator.get_state("trade", "k0000")
        put("y")(simulator)

    stale = simulate(chain, ranges_first)
    chain.put("account", b=b"1")
    chain.put(k0000=b"3")
    assert chain.commit([stale]) == [Code.PHANTOM_READ_CONFLICT], "account stands before trade"


# --- hashed reads -------------------------------------------------------------------------------------------------

OWN = "_implicit_org_CoreMSP"


def put_private(key: str, value: bytes) -> Write:
    return lambda simulator: simulator.set_private("trade", OWN, key, value)


def test_hashed_read_conflicts_across_blocks_and_within_one(chain: Chain) -> None:
    assert chain.commit([simulate(chain, put_private("p", b"1"))]) == [0]
    readers = [
        simulate(chain, lambda s: (s.get_private_hash("trade", OWN, "p"), put("b")(s)), msp_id="BankMSP")
        for _ in range(3)
    ]
    assert chain.commit(readers[:1]) == [0]
    assert chain.commit([simulate(chain, put_private("p", b"2")), readers[1]]) == [0, Code.MVCC_READ_CONFLICT]
    assert chain.commit(readers[2:]) == [Code.MVCC_READ_CONFLICT]


def test_absent_private_key_read_as_absent(chain: Chain) -> None:
    readers = [simulate(chain, lambda s: (s.get_private("trade", OWN, "p"), put("b")(s))) for _ in range(2)]
    assert chain.commit(readers[:1]) == [0]
    assert chain.commit([simulate(chain, put_private("p", b"1"))]) == [0]
    assert chain.commit(readers[1:]) == [Code.MVCC_READ_CONFLICT]


# --- what writes leave behind -------------------------------------------------------------------------------------


def metadata_of(chain: Chain, key: str) -> dict[str, bytes] | None:
    row = chain.ledger.current.state("trade", key.encode())
    return None if row is None else decode_metadata(row.metadata)


def set_metadata(key: str, **values: bytes) -> Write:
    return lambda simulator: simulator.set_metadata("trade", key, values)


def test_value_alone_keeps_metadata(chain: Chain) -> None:
    assert chain.commit([simulate(chain, lambda s: (put("a")(s), set_metadata("a", m=b"1")(s)))]) == [0]
    assert metadata_of(chain, "a") == {"m": b"1"}
    assert chain.commit([simulate(chain, put("a", b"2"))]) == [0]
    assert metadata_of(chain, "a") == {"m": b"1"}


def test_metadata_alone_keeps_the_value_and_stamps_the_version(chain: Chain) -> None:
    before = chain.put(a=b"1")
    assert chain.commit([simulate(chain, set_metadata("a", m=b"1"))]) == [0]
    row = chain.ledger.current.state("trade", b"a")
    assert row is not None and row.value == b"1" and row.version > before
    assert metadata_of(chain, "a") == {"m": b"1"}


def test_metadata_of_an_absent_key_changes_nothing(chain: Chain) -> None:
    assert chain.commit([simulate(chain, set_metadata("a", m=b"1"))]) == [0]
    assert chain.ledger.current.state("trade", b"a") is None


def test_metadata_of_a_key_deleted_earlier_in_the_block_changes_nothing(chain: Chain) -> None:
    chain.put(a=b"1")
    assert chain.commit([simulate(chain, put("a", b"")), simulate(chain, set_metadata("a", m=b"1"))]) == [0, 0]
    assert chain.ledger.current.state("trade", b"a") is None


def test_delete_wins_over_metadata_of_the_same_transaction(chain: Chain) -> None:
    chain.put(a=b"1")
    draft = simulate(chain, lambda s: (put("a", b"")(s), set_metadata("a", m=b"1")(s)))
    assert chain.commit([draft]) == [0]
    assert chain.ledger.current.state("trade", b"a") is None


def test_delete_takes_metadata_along(chain: Chain) -> None:
    assert chain.commit([simulate(chain, lambda s: (put("a")(s), set_metadata("a", m=b"1")(s)))]) == [0]
    assert chain.commit([simulate(chain, put("a", b"")), simulate(chain, put("a"))]) == [0, 0]
    assert metadata_of(chain, "a") == {}


def test_empty_metadata_removes_it(chain: Chain) -> None:
    assert chain.commit([simulate(chain, lambda s: (put("a")(s), set_metadata("a", m=b"1")(s)))]) == [0]
    assert chain.commit([simulate(chain, set_metadata("a"))]) == [0]
    assert metadata_of(chain, "a") == {}


def test_metadata_rules_hold_for_private_keys_by_hash(chain: Chain) -> None:
    def work(simulator: Simulator) -> None:
        put_private("p", b"1")(simulator)
        simulator.set_private_metadata("trade", OWN, "p", {"m": b"1"})

    def only_metadata(simulator: Simulator) -> None:
        simulator.set_private_metadata("trade", OWN, "p", {"m": b"2"})
        simulator.set_private_metadata("trade", OWN, "absent", {"m": b"2"})

    assert chain.commit([simulate(chain, work)]) == [0]
    assert chain.commit([simulate(chain, only_metadata)]) == [0]
    row = chain.ledger.current.hashed("trade", OWN, sha256(b"p").digest())
    assert row is not None and decode_metadata(row.metadata) == {"m": b"2"}
    assert row.value_hash == sha256(b"1").digest()
    assert chain.ledger.current.hashed("trade", OWN, sha256(b"absent").digest()) is None
    with chain.ledger.snapshot() as snapshot:
        # The plain value follows the new version of its hash, or nobody could read it any more.
        assert Simulator(snapshot, "CoreMSP").get_private("trade", OWN, "p") == b"1"


def test_two_writes_of_one_key_in_a_collection_named_twice_make_none(chain: Chain) -> None:
    """Only hand-made sets have this. Fabric adds up what is done to a key in the whole transaction (mvcc.py)."""
    key_hash = sha256(b"k").digest()
    write = kv_rwset_pb2.KVWriteHash(key_hash=key_hash, value_hash=sha256(b"1").digest())
    results = rwset_pb2.TxReadWriteSet()
    space = results.ns_rwset.add(namespace="trade")
    for _ in range(2):
        hashed = kv_rwset_pb2.HashedRWSet(hashed_writes=[write]).SerializeToString()
        space.collection_hashed_rwset.add(collection_name="_implicit_org_CoreMSP", hashed_rwset=hashed)
    assert chain.commit([chain.draft(results.SerializeToString(), endorsers=ALL)]) == [Code.VALID]
    assert chain.ledger.current.hashed("trade", "_implicit_org_CoreMSP", key_hash) is None


def test_write_with_empty_value_deletes_without_the_flag(chain: Chain) -> None:
    chain.put(a=b"1")
    inner = kv_rwset_pb2.KVRWSet(writes=[kv_rwset_pb2.KVWrite(key="a")]).SerializeToString()
    results = rwset_pb2.TxReadWriteSet(ns_rwset=[rwset_pb2.NsReadWriteSet(namespace="trade", rwset=inner)])
    assert chain.commit([chain.draft(results.SerializeToString(), endorsers=ALL)]) == [0]
    assert chain.ledger.current.state("trade", b"a") is None


# --- against a naive model ----------------------------------------------------------------------------------------

KEYS = [f"k{number:02}" for number in range(70)]
KEY = st.sampled_from(KEYS)
STEP = st.one_of(
    st.tuples(st.just("read"), KEY),
    st.tuples(st.just("scan"), KEY, KEY),
    st.tuples(st.just("write"), KEY),
    st.tuples(st.just("delete"), KEY),
)
BLOCKS = st.lists(st.lists(st.lists(STEP, min_size=1, max_size=4), min_size=1, max_size=4), min_size=1, max_size=4)


@given(blocks=BLOCKS, lag=st.integers(0, 2))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_verdicts_agree_with_a_naive_model(channel: Channel, blocks: list[list[list[Any]]], lag: int) -> None:
    """Transactions are simulated `lag` blocks before they are ordered; what they saw must still be so."""
    chain = Chain(channel, None)
    try:
        chain.put("trade", **dict.fromkeys(KEYS[:60], b"v"))
        state = dict.fromkeys(KEYS[:60], chain.ledger.height - 1)
        waiting: list[list[tuple[Draft, list[Any], dict[str, int]]]] = []
        for block in [*blocks, *[[]] * lag]:
            waiting.append([(simulate(chain, run(steps)), steps, dict(state)) for steps in block])
            if len(waiting) <= lag:
                continue
            number, changed = chain.ledger.height, set[str]()
            drafts, expected = [], []
            for draft, steps, seen in waiting.pop(0):
                code = verdict(steps, seen, state, changed)
                drafts.append(draft)
                expected.append(code)
                if code == Code.VALID:
                    for step in steps:
                        if step[0] == "write":
                            state[step[1]] = number << 20 | len(drafts)
                        elif step[0] == "delete":
                            state.pop(step[1], None)
                        changed |= {step[1]} if step[0] in ("write", "delete") else set()
            assert chain.commit(drafts) == expected
    finally:
        chain.close()


def run(steps: list[Any]) -> Write:
    def work(simulator: Simulator) -> None:
        for step in steps:
            match step:
                case ("read", key):
                    simulator.get_state("trade", key)
                case ("scan", start, end):
                    list(simulator.range("trade", start, end))
                case ("write", key):
                    simulator.set_state("trade", key, b"w")
                case ("delete", key):
                    simulator.delete_state("trade", key)

    return work


def verdict(steps: list[Any], seen: dict[str, int], state: dict[str, int], changed: set[str]) -> int:
    """All reads first, then the ranges, as one namespace is judged."""
    if any(step[0] == "read" and (step[1] in changed or seen.get(step[1]) != state.get(step[1])) for step in steps):
        return Code.MVCC_READ_CONFLICT

    def rows(of: dict[str, int], start: str, end: str) -> list[tuple[str, int]]:
        return sorted(item for item in of.items() if start <= item[0] < end)

    if any(step[0] == "scan" and rows(seen, *step[1:]) != rows(state, *step[1:]) for step in steps):
        return Code.PHANTOM_READ_CONFLICT
    return Code.VALID
