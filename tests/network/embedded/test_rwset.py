"""Golden bytes of read-write sets, and the Merkle summary of long ranges."""

from hashlib import sha256

import pytest
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2

from network.embedded import rwset
from network.embedded.rwset import RangeResults, RwSetBuilder, RwSetError, position


def test_public_set_has_fabrics_bytes() -> None:
    builder = RwSetBuilder()
    builder.write("trade", "k2", b"v2")
    builder.write("trade", "k1", b"")
    builder.read("trade", "k1", position(5, 3))
    builder.read("trade", "absent", None)
    builder.read("_lifecycle", "namespaces/fields/trade/Sequence", position(0, 0))
    builder.write_metadata("trade", "k2", {"b": b"2", "a": b"1"})
    public, private = builder.build()
    assert private is None
    # Written down once from the message definitions: namespaces sorted, reads 1, writes 3, metadata writes 4.
    lifecycle = bytes.fromhex("0a24") + b"\x0a\x20namespaces/fields/trade/Sequence" + b"\x12\x00"
    trade = (
        b"\x0a\x08\x0a\x06absent"
        b"\x0a\x0a\x0a\x02k1\x12\x04\x08\x05\x10\x03"
        b"\x1a\x06\x0a\x02k1\x10\x01"
        b"\x1a\x08\x0a\x02k2\x1a\x02v2"
        b"\x22\x14\x0a\x02k2\x12\x06\x0a\x01a\x12\x011\x12\x06\x0a\x01b\x12\x012"
    )
    expected = b"".join(
        b"\x12" + bytes((len(part),)) + part
        for part in (
            b"\x0a\x0a_lifecycle\x12" + bytes((len(lifecycle),)) + lifecycle,
            b"\x0a\x05trade\x12" + bytes((len(trade),)) + trade,
        )
    )
    assert public == expected


def test_version_of_block_zero_is_present_and_of_absent_key_is_not() -> None:
    assert rwset.key_read("k", 0).HasField("version")
    assert not rwset.key_read("k", None).HasField("version")


def test_last_write_and_last_read_version_win() -> None:
    builder = RwSetBuilder()
    builder.write("n", "k", b"1")
    builder.write("n", "k", b"2")
    builder.read("n", "k", position(1, 0))
    builder.read("n", "k", position(2, 0))
    [item] = rwset.parse(builder.build()[0])
    assert [write.value for write in item.public.writes] == [b"2"]
    assert [rwset.from_wire(read.version) for read in item.public.reads] == [position(2, 0)]


def test_keys_sort_by_utf8_bytes_beyond_the_basic_plane() -> None:
    keys = ["\U0001f600", "\uffee", "z", ""]
    builder = RwSetBuilder()
    for key in keys:
        builder.write("n", key, b"v")
        builder.write(key, "k", b"v")
    sets = rwset.parse(builder.build()[0])
    [namespace] = [item for item in sets if item.name == "n"]
    ordered = sorted(keys, key=lambda key: key.encode())
    assert ordered == ["", "z", "\uffee", "\U0001f600"]
    assert [write.key for write in namespace.public.writes] == ordered
    assert [item.name for item in sets] == sorted([*keys, "n"], key=lambda key: key.encode())


def test_private_writes_leave_hashes_and_the_hash_of_the_set() -> None:
    builder = RwSetBuilder()
    builder.write_private("n", "c", "key", b"value")
    builder.write_private("n", "c", "gone", b"", purge=True)
    builder.read_private("n", "c", "key", None)
    builder.write_private_metadata("n", "c", "key", {"VALIDATION_PARAMETER": b"p"})
    public, private = builder.build()
    assert private is not None
    [item] = rwset.parse(public)
    [collection] = item.collections
    hashed = collection.hashed
    assert [write.key_hash for write in hashed.hashed_writes] == [sha256(b"gone").digest(), sha256(b"key").digest()]
    assert hashed.hashed_writes[0].is_delete and hashed.hashed_writes[0].is_purge
    assert hashed.hashed_writes[1].value_hash == sha256(b"value").digest()
    assert hashed.metadata_writes[0].entries[0].value == b"p"
    [plain] = rwset.parse_private(private)
    assert sha256(plain.data).digest() == collection.private_hash
    assert [(write.key, write.value, write.is_delete) for write in plain.writes.writes] == [
        ("gone", b"", True),
        ("key", b"value", False),
    ]
    assert not plain.writes.metadata_writes[0].entries, "plain metadata is never kept"
    assert rwset.join_private([plain]) == private


def test_collection_only_read_has_no_private_set() -> None:
    builder = RwSetBuilder()
    builder.read_private("n", "c", "key", position(1, 1))
    public, private = builder.build()
    assert private is None
    assert rwset.parse(public)[0].collections[0].private_hash == b""


def test_same_range_twice_is_recorded_once_in_order_of_first_use() -> None:
    builder = RwSetBuilder()
    for start in ("b", "a", "b"):
        record = builder.range("n", start, "z")
        record.returned(start + "1", position(1, 0))
        record.exhausted()
    ranges = rwset.parse(builder.build()[0])[0].public.range_queries_info
    assert [(info.start_key, info.end_key, info.itr_exhausted) for info in ranges] == [
        ("b", "z", True),
        ("a", "z", True),
    ]


def test_range_not_read_to_its_end_is_recorded_up_to_the_last_key() -> None:
    builder = RwSetBuilder()
    record = builder.range("n", "a", "z")
    record.returned("a1", position(1, 0))
    [info] = rwset.parse(builder.build()[0])[0].public.range_queries_info
    assert (info.end_key, info.itr_exhausted, len(info.raw_reads.kv_reads)) == ("a1", False, 1)


def _reads(count: int) -> list[kv_rwset_pb2.KVRead]:
    return [rwset.key_read(f"k{number:06}", position(1, number)) for number in range(count)]


def _leaf(reads: list[kv_rwset_pb2.KVRead]) -> bytes:
    return sha256(kv_rwset_pb2.QueryReads(kv_reads=reads).SerializeToString()).digest()


@pytest.mark.parametrize("count", [0, 1, 50])
def test_range_is_raw_up_to_fifty(count: int) -> None:
    results = RangeResults()
    for read in _reads(count):
        results.add(read)
    reads, summary = results.done()
    assert (len(reads), summary) == (count, None)


def test_fifty_one_results_make_one_leaf() -> None:
    results = RangeResults()
    for read in _reads(51):
        results.add(read)
    reads, summary = results.done()
    assert reads == [] and summary is not None
    assert (summary.max_degree, summary.max_level) == (50, 1)
    assert list(summary.max_level_hashes) == [_leaf(_reads(51))]


def test_hashes_combine_upwards_like_fabrics_tree() -> None:
    # Degree 2: leaves of 3 reads, nodes of 3 children. 11 reads: leaves A B C -> node; D (2 reads) is lifted alone.
    reads = _reads(11)
    results = RangeResults(2)
    for read in reads:
        results.add(read)
    _, summary = results.done()
    leaves = [_leaf(reads[0:3]), _leaf(reads[3:6]), _leaf(reads[6:9]), _leaf(reads[9:11])]
    assert summary is not None and summary.max_level == 2
    assert list(summary.max_level_hashes) == [sha256(b"".join(leaves[:3])).digest(), leaves[3]]


def test_degree_below_two_is_refused() -> None:
    with pytest.raises(RwSetError, match="should not be less than 2"):
        RangeResults(1)


@pytest.mark.parametrize("data", [b"\x00", b"\x12\x05abc"])
def test_other_bytes_are_no_set(data: bytes) -> None:
    with pytest.raises(RwSetError):
        rwset.parse(data)
    with pytest.raises(RwSetError):
        rwset.parse_private(data)


def test_inner_bytes_that_are_no_set_are_refused() -> None:
    message = rwset_pb2.TxReadWriteSet(ns_rwset=[rwset_pb2.NsReadWriteSet(namespace="n", rwset=b"\x00")])
    with pytest.raises(RwSetError):
        rwset.parse(message.SerializeToString())


def test_transaction_number_out_of_range_equals_no_version() -> None:
    wire = kv_rwset_pb2.Version(block_num=0, tx_num=1 << rwset.TRANSACTION_BITS)
    assert rwset.from_wire(wire) == -1 != position(1, 0)
