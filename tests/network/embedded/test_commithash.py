"""COMMIT_HASH against an independent encoding of Fabric's message, and the rule from block to block."""

from hashlib import sha256
from typing import Any

from fabric_protos.common import common_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from network.embedded.commithash import commit_hash, updates_bytes
from network.embedded.mvcc import Updates
from network.embedded.rwset import RwSetBuilder, position
from tests.network.embedded.transactions import Chain


def _message() -> Any:
    """Fabric's unpublished `Updates` (core/ledger/kvledger/txmgmt/txmgr/updates.proto), declared at run time."""
    file = descriptor_pb2.FileDescriptorProto(name="updates_for_test.proto", package="test", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    write = file.message_type.add(name="KVWrite")
    types = [
        field.TYPE_STRING,
        field.TYPE_STRING,
        field.TYPE_BYTES,
        field.TYPE_BOOL,
        field.TYPE_BYTES,
        field.TYPE_BYTES,
    ]
    for number, (name, kind) in enumerate(
        zip(["namespace", "collection", "key", "isDelete", "value", "version_bytes"], types, strict=True), 1
    ):
        write.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)
    updates = file.message_type.add(name="Updates")
    updates.field.add(
        name="kvwrites", number=1, type=field.TYPE_MESSAGE, label=field.LABEL_REPEATED, type_name=".test.KVWrite"
    )
    pool: Any = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Updates"))


def test_updates_encode_like_fabrics_message() -> None:
    updates = Updates()
    updates.put("b", b"k2", (b"v" * 200, b"metadata", position(300, 1)))
    updates.put("b", b"", (b"empty key", None, position(300, 0)))
    updates.put("b", b"k1", (None, None, position(0, 0)))
    updates.put("", b"config", (b"skipped", None, position(0, 0)))
    updates.put_hashed("b", "c2", b"\xff" * 32, (b"h" * 32, None, position(65536, 256)))
    updates.put_hashed("b", "c1", b"\x01" * 32, (None, None, position(1, 2)))
    updates.put_hashed("b", "c1", b"\x02" * 32, (b"h" * 32, None, position(1, 2)))
    updates.put_hashed("a", "c", b"\x03" * 32, (b"h" * 32, None, position(1, 2)))
    expected = _message()()
    add = expected.kvwrites.add
    add(namespace="a", collection="c", key=b"\x03" * 32, value=b"h" * 32, version_bytes=b"\x01\x01\x01\x02")
    add(namespace="b", value=b"empty key", version_bytes=b"\x02\x01\x2c\x00")
    add(key=b"k1", isDelete=True, version_bytes=b"\x00\x00")
    add(key=b"k2", value=b"v" * 200, version_bytes=b"\x02\x01\x2c\x01\x01")
    add(collection="c1", key=b"\x01" * 32, isDelete=True, version_bytes=b"\x01\x01\x01\x02")
    add(key=b"\x02" * 32, value=b"h" * 32, version_bytes=b"\x01\x01\x01\x02")
    add(collection="c2", key=b"\xff" * 32, value=b"h" * 32, version_bytes=b"\x03\x01\x00\x00\x02\x01\x00")
    assert updates_bytes(updates) == expected.SerializeToString(deterministic=True)


def test_rule_of_the_running_hash() -> None:
    assert (
        commit_hash(b"\x00" * 200, Updates(), b"previous") == sha256(b"\xc8\x01" + b"\x00" * 200 + b"previous").digest()
    )


def _stored(chain: Chain, number: int) -> bytes:
    block = common_pb2.Block.FromString(chain.ledger.block(number) or b"")
    return common_pb2.Metadata.FromString(block.metadata.metadata[4]).value


def test_block_zero_has_none_and_each_block_builds_on_the_one_before(chain: Chain) -> None:
    genesis = common_pb2.Block.FromString(chain.ledger.block(0) or b"")
    assert genesis.metadata.metadata[4] == b"" and genesis.metadata.metadata[2] == b"\x00"
    builder = RwSetBuilder()
    builder.write("trade", "k", b"v")
    builder.write("trade", "", b"w")
    stale = RwSetBuilder()
    stale.read("trade", "k", None)
    stale.write("trade", "x", b"not counted")
    before = _stored(chain, chain.ledger.height - 1)
    codes = chain.commit([chain.draft(builder), chain.draft(stale)])
    number = chain.ledger.height - 1
    expected = Updates()
    expected.put("trade", b"k", (b"v", None, position(number, 0)))
    expected.put("trade", b"", (b"w", None, position(number, 0)))
    assert codes == [0, 11]
    assert _stored(chain, number) == commit_hash(bytes(codes), expected, before) == chain.ledger.commit_hash
    assert before == _stored(chain, number - 1) != b""
