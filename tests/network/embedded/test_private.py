"""Plain private values: accepted only by their hash, copied to members, expired and purged."""

from collections.abc import Iterator
from hashlib import sha256

import pytest
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import collection_pb2

from network.channel import policy
from network.embedded import rwset
from network.embedded.private import members
from network.embedded.rwset import RwSetBuilder
from tests.network.embedded.transactions import ALL, Chain, Channel

NAMES = ("CoreMSP", "BankMSP")


@pytest.fixture
def chain(channel: Channel) -> Iterator[Chain]:
    """A ledger whose chaincode has a collection that lives for ever and one that lives for two blocks."""
    package = collection_pb2.CollectionConfigPackage()
    for name, block_to_live in (("kept", 0), ("brief", 2)):
        config = package.config.add().static_collection_config
        config.name = name
        config.block_to_live = block_to_live
        config.member_orgs_policy.signature_policy.CopyFrom(
            policy.n_out_of(1, [policy.role(each, "member") for each in NAMES])
        )
    made = Chain(channel, None, collections={"trade": package.SerializeToString()})
    yield made
    made.close()


def write(chain: Chain, collection: str, key: str, value: bytes, purge: bool = False, extra: str = "") -> str:
    builder = RwSetBuilder()
    builder.write_private("trade", collection, key, value, purge)
    if extra:
        builder.write_private("trade", collection, extra, b"extra")
    draft = chain.draft(builder)
    assert chain.commit([draft]) == [0]
    return draft.transaction_id or ""


def held(chain: Chain, collection: str, key: str) -> list[bytes | None]:
    """The value as each organisation holds it."""
    rows = [chain.ledger.current.private(each, "trade", collection, key.encode()) for each in ALL]
    return [None if row is None else row[0] for row in rows]


def hashed(chain: Chain, collection: str, key: str) -> bytes | None:
    row = chain.ledger.current.hashed("trade", collection, sha256(key.encode()).digest())
    return None if row is None else row.value_hash


def kept_keys(chain: Chain, block: int, msp_id: str = "CoreMSP") -> list[str]:
    sets = chain.ledger.private_write_sets(block, msp_id)
    return [write.key for data in sets.values() for item in rwset.parse_private(data) for write in item.writes.writes]


def test_members_get_a_copy_and_the_transient_store_is_emptied(chain: Chain) -> None:
    transaction_id = write(chain, "kept", "p", b"secret")
    assert held(chain, "kept", "p") == [b"secret", None, None, b"secret"]
    assert chain.ledger.current.transient(transaction_id) == []
    block = chain.ledger.height - 1
    assert kept_keys(chain, block) == ["p"] == kept_keys(chain, block, "BankMSP")
    assert chain.ledger.private_write_sets(block, "LogisticsMSP") == {}


def test_value_whose_hash_is_not_in_the_block_is_not_stored(chain: Chain) -> None:
    builder = RwSetBuilder()
    builder.write_private("trade", "kept", "p", b"agreed")
    forged = RwSetBuilder()
    forged.write_private("trade", "kept", "p", b"forged")
    _, private = forged.build()
    draft = chain.draft(builder)
    assert draft.transaction_id is not None and private is not None
    chain.ledger.keep_transient(draft.transaction_id, "CoreMSP", private).result()
    assert chain.commit([draft]) == [0]
    assert held(chain, "kept", "p") == [None] * 4
    assert hashed(chain, "kept", "p") == sha256(b"agreed").digest()


def test_one_honest_organisation_is_enough(chain: Chain) -> None:
    builder = RwSetBuilder()
    builder.write_private("trade", "kept", "p", b"agreed")
    draft = chain.draft(builder)
    assert draft.transaction_id is not None
    chain.ledger.keep_transient(draft.transaction_id, "BankMSP", b"\x00").result()
    assert chain.commit([draft]) == [0]
    assert held(chain, "kept", "p")[0] == b"agreed"


def test_invalid_transaction_leaves_nothing(chain: Chain) -> None:
    builder = RwSetBuilder()
    builder.write_private("trade", "kept", "p", b"secret")
    draft = chain.draft(builder, endorsers=())
    assert chain.commit([draft]) == [10]
    assert held(chain, "kept", "p") == [None] * 4 and hashed(chain, "kept", "p") is None
    assert chain.ledger.current.transient(draft.transaction_id or "") == []


def test_two_writes_in_one_block_leave_the_last(chain: Chain) -> None:
    drafts = []
    for value in (b"1", b"2"):
        builder = RwSetBuilder()
        builder.write_private("trade", "kept", "p", value)
        drafts.append(chain.draft(builder))
    assert chain.commit(drafts) == [0, 0]
    assert held(chain, "kept", "p")[0] == b"2"


def test_delete_removes_value_and_hash_and_keeps_the_past(chain: Chain) -> None:
    write(chain, "kept", "p", b"secret")
    block = chain.ledger.height - 1
    write(chain, "kept", "p", b"")
    assert held(chain, "kept", "p") == [None] * 4 and hashed(chain, "kept", "p") is None
    assert kept_keys(chain, block) == ["p"]


def test_purge_erases_the_past_of_that_key_only(chain: Chain) -> None:
    write(chain, "kept", "p", b"first", extra="q")
    first = chain.ledger.height - 1
    write(chain, "kept", "p", b"second")
    write(chain, "kept", "p", b"", purge=True)
    last = chain.ledger.height - 1
    assert held(chain, "kept", "p") == [None] * 4 and hashed(chain, "kept", "p") is None
    assert [kept_keys(chain, number, "BankMSP") for number in (first, first + 1, last)] == [["q"], [], []]
    assert held(chain, "kept", "q")[0] == b"extra"


def test_purge_by_one_who_holds_no_plain_set_still_erases(chain: Chain) -> None:
    """The purge reaches a member whose peer was not given the plain write of the purge itself."""
    write(chain, "kept", "p", b"first")
    builder = RwSetBuilder()
    builder.write_private("trade", "kept", "p", b"", purge=True)
    public, _ = builder.build()
    assert chain.commit([chain.draft(public)]) == [0]
    assert held(chain, "kept", "p") == [None] * 4


def test_write_after_a_purge_in_the_same_block_stays(chain: Chain) -> None:
    write(chain, "kept", "p", b"first")
    drafts = []
    for value, purge in ((b"", True), (b"again", False)):
        builder = RwSetBuilder()
        builder.write_private("trade", "kept", "p", value, purge)
        drafts.append(chain.draft(builder))
    assert chain.commit(drafts) == [0, 0]
    assert held(chain, "kept", "p")[0] == b"again"
    assert kept_keys(chain, chain.ledger.height - 1) == ["p"]


def advance(chain: Chain, blocks: int) -> None:
    for _ in range(blocks):
        chain.put(other=b"x")


def test_value_expires_with_the_block_after_its_life(chain: Chain) -> None:
    write(chain, "brief", "p", b"secret")
    block = chain.ledger.height - 1
    advance(chain, 2)
    assert held(chain, "brief", "p")[0] == b"secret"
    advance(chain, 1)  # block + 2 + 1
    assert chain.ledger.height - 1 == block + 3
    assert held(chain, "brief", "p") == [None] * 4 and hashed(chain, "brief", "p") is None
    assert chain.ledger.private_write_sets(block, "CoreMSP") == {}


def test_rewritten_value_lives_from_its_last_write(chain: Chain) -> None:
    write(chain, "brief", "p", b"1")
    advance(chain, 1)
    write(chain, "brief", "p", b"2")
    advance(chain, 2)
    assert held(chain, "brief", "p")[0] == b"2"
    advance(chain, 1)
    assert held(chain, "brief", "p")[0] is None


def test_value_written_by_the_very_block_of_its_expiry_stays(chain: Chain) -> None:
    write(chain, "brief", "p", b"1")
    advance(chain, 2)
    write(chain, "brief", "p", b"2")
    assert held(chain, "brief", "p")[0] == b"2" and hashed(chain, "brief", "p") == sha256(b"2").digest()


def test_expiry_is_not_part_of_the_commit_hash(chain: Chain, channel: Channel) -> None:
    """As in Fabric: the hash counts what transactions wrote, and versions of expiry are nobody's."""
    write(chain, "brief", "p", b"1")
    advance(chain, 2)
    before = chain.ledger.commit_hash
    committed = chain.commit_block([])
    assert chain.ledger.commit_hash == sha256(b"\x00" + before).digest()
    assert committed.transactions == [] and hashed(chain, "brief", "p") is None


def test_transient_data_never_committed_goes_after_a_thousand_blocks(chain: Chain) -> None:
    chain.ledger.keep_transient("lost", "CoreMSP", b"").result()
    for _ in range(1000):
        chain.commit_block([])
    assert chain.ledger.current.transient("lost") != []
    for _ in range(200):
        chain.commit_block([])
    assert chain.ledger.current.transient("lost") == []


def test_member_policy_names_who_holds_a_collection() -> None:
    config = collection_pb2.StaticCollectionConfig()
    either = policy.n_out_of(1, [policy.role("CoreMSP", "member"), policy.role("BankMSP", "peer")])
    config.member_orgs_policy.signature_policy.CopyFrom(either)
    assert members(config, ALL) == ("CoreMSP", "BankMSP")
    both = policy.n_out_of(2, [policy.role("CoreMSP", "member"), policy.role("BankMSP", "member")])
    config.member_orgs_policy.signature_policy.CopyFrom(both)
    assert members(config, ALL) == (), "no peer alone satisfies it"
    admins = policy.n_out_of(1, [policy.role("CoreMSP", "admin")])
    config.member_orgs_policy.signature_policy.CopyFrom(admins)
    assert members(config, ALL) == ()


def test_plain_metadata_is_dropped_with_its_key() -> None:
    from network.embedded.private import without_key

    data = kv_rwset_pb2.KVRWSet(
        writes=[kv_rwset_pb2.KVWrite(key="a", value=b"1")], metadata_writes=[kv_rwset_pb2.KVMetadataWrite(key="a")]
    ).SerializeToString()
    assert without_key(data, sha256(b"a").digest()) == b""
