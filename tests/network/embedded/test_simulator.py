"""What a chaincode may read and write, and Fabric's refusals word for word."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fabric_protos.peer import collection_pb2

from network.channel import policy
from network.embedded.rwset import RwSetBuilder, parse, position
from network.embedded.simulator import SimulationError, Simulator
from tests.network.embedded.transactions import ALL, Chain, Channel

OWN = "_implicit_org_CoreMSP"
READ_ONLY = "txid [T]: unsuppored transaction. "


@contextmanager
def simulating(chain: Chain, msp_id: str = "CoreMSP") -> Iterator[Simulator]:
    with chain.ledger.snapshot() as snapshot:
        yield Simulator(snapshot, msp_id, "T")


def secret(chain: Chain, key: str = "p", value: bytes = b"secret", collection: str = OWN) -> None:
    builder = RwSetBuilder()
    builder.write_private("trade", collection, key, value)
    assert chain.commit([chain.draft(builder, endorsers=ALL)]) == [0]


def test_own_writes_are_not_read_back(chain: Chain) -> None:
    chain.put(k=b"committed")
    with simulating(chain) as simulator:
        simulator.set_state("trade", "k", b"new")
        simulator.set_state("trade", "k2", b"new")
        assert simulator.get_state("trade", "k") == b"committed"
        assert simulator.get_state("trade", "k2") is None
        assert [key for key, _ in simulator.range("trade", "k", "")] == ["k"]
        simulator.delete_state("trade", "k")
        assert simulator.get_state_multiple("trade", ["k", "none"]) == [b"committed", None]


def test_written_key_is_not_a_read_but_its_policy_is_noted(chain: Chain) -> None:
    builder = RwSetBuilder()
    builder.write("trade", "k", b"v")
    builder.write_metadata("trade", "k", {"VALIDATION_PARAMETER": b"policy"})
    assert chain.commit([chain.draft(builder)]) == [0]
    with simulating(chain) as simulator:
        simulator.set_state("trade", "k", b"new")
        result = simulator.result()
    [item] = parse(result.public)
    assert not item.public.reads
    assert result.written_metadata == {("trade", "", "k"): {"VALIDATION_PARAMETER": b"policy"}}
    assert result.touched == (("trade", ()),) and result.private is None


def test_metadata_read_is_a_read_of_the_key(chain: Chain) -> None:
    version = chain.put(k=b"v")
    with simulating(chain) as simulator:
        assert simulator.get_metadata("trade", "k") == {}
        [item] = parse(simulator.result().public)
    assert position(item.public.reads[0].version.block_num, item.public.reads[0].version.tx_num) == version


def test_any_key_is_accepted_as_the_leveldb_peer_does(chain: Chain) -> None:
    builder = RwSetBuilder()
    for key in ("", "\0simple", "\0composite\0a\0"):
        builder.write("trade", key, b"v")
    assert chain.commit([chain.draft(builder)]) == [0]
    with simulating(chain) as simulator:
        assert [key for key, _ in simulator.range("trade", "", "")] == ["", "\0composite\0a\0", "\0simple"]
        assert simulator.get_state("trade", "") == b"v"


def test_long_range_is_read_in_order_across_fetches(chain: Chain) -> None:
    chain.put("trade", **{f"k{number:04}": str(number).encode() for number in range(250)})
    with simulating(chain) as simulator:
        assert list(simulator.range("trade", "k", "l")) == [
            (f"k{number:04}", str(number).encode()) for number in range(250)
        ]


def test_closed_iterator_ends_without_reaching_the_end(chain: Chain) -> None:
    chain.put(a=b"1", b=b"2")
    with simulating(chain) as simulator:
        rows = simulator.range("trade", "a", "z")
        assert next(rows) == ("a", b"1")
        rows.close()
        assert list(rows) == []
        [info] = parse(simulator.result().public)[0].public.range_queries_info
    assert (info.end_key, info.itr_exhausted) == ("a", False)


# --- pages --------------------------------------------------------------------------------------------------------


def test_pages_follow_their_bookmarks(chain: Chain) -> None:
    chain.put(a=b"1", b=b"2", c=b"3", d=b"4", e=b"5")
    with simulating(chain) as simulator:
        pages, bookmark = [], ""
        while True:
            rows, bookmark = simulator.range_page("trade", "a", "e", 2, bookmark)
            pages.append([key for key, _ in rows])
            if not bookmark:
                break
        assert pages == [["a", "b"], ["c", "d"]]
        infos = parse(simulator.result().public)[0].public.range_queries_info
    assert [(info.start_key, info.end_key, info.itr_exhausted) for info in infos] == [
        ("a", "b", False),
        ("c", "d", False),
    ]


def test_page_that_is_not_filled_ran_off_the_end(chain: Chain) -> None:
    chain.put(a=b"1")
    with simulating(chain) as simulator:
        assert simulator.range_page("trade", "a", "e", 2, "") == ([("a", b"1")], "")
        [info] = parse(simulator.result().public)[0].public.range_queries_info
    assert (info.end_key, info.itr_exhausted) == ("e", True)


WRITES: list[Callable[[Simulator], None]] = [
    lambda s: s.set_state("trade", "k", b"v"),
    lambda s: s.delete_state("trade", "k"),
    lambda s: s.set_metadata("trade", "k", {}),
    lambda s: s.set_private("trade", OWN, "k", b"v"),
    lambda s: s.purge_private("trade", OWN, "k"),
    lambda s: s.set_private_metadata("trade", OWN, "k", {}),
]


@pytest.mark.parametrize("write", WRITES)
def test_pages_and_writes_exclude_each_other(chain: Chain, write: Callable[[Simulator], None]) -> None:
    with simulating(chain) as simulator:
        simulator.range_page("trade", "", "", 1, "")
        with pytest.raises(SimulationError) as refused:
            write(simulator)
        text = "Transaction has already performed a paginated query. Writes are not allowed"
        assert str(refused.value) == READ_ONLY + text
    with simulating(chain) as simulator:
        write(simulator)
        with pytest.raises(SimulationError) as refused:
            simulator.range_page("trade", "", "", 1, "")
        assert str(refused.value) == READ_ONLY + "Paginated queries are supported only in a read-only transaction"


@pytest.mark.parametrize("write", WRITES)
def test_private_ranges_and_writes_exclude_each_other(chain: Chain, write: Callable[[Simulator], None]) -> None:
    with simulating(chain) as simulator:
        simulator.private_range("trade", OWN, "", "")
        with pytest.raises(SimulationError) as refused:
            write(simulator)
        text = "Transaction has already performed queries on pvt data. Writes are not allowed"
        assert str(refused.value) == READ_ONLY + text
    with simulating(chain) as simulator:
        write(simulator)
        with pytest.raises(SimulationError) as refused:
            simulator.private_range("trade", OWN, "", "")
        assert str(refused.value) == READ_ONLY + "Queries on pvt data is supported only in a read-only transaction"


# --- private data -------------------------------------------------------------------------------------------------


def test_only_the_owner_reads_a_value_and_everybody_its_hash(chain: Chain) -> None:
    secret(chain)
    with simulating(chain) as simulator:
        assert simulator.get_private("trade", OWN, "p") == b"secret"
        assert [simulator.get_private("trade", OWN, key) for key in ("p", "none")] == [b"secret", None]
        assert list(simulator.private_range("trade", OWN, "", "")) == [("p", b"secret")]
        hashed = simulator.get_private_hash("trade", OWN, "p")
        result = simulator.result()
        assert result.private_reads == {("trade", OWN)}
        assert result.touched == (("_lifecycle", ()), ("trade", (OWN,)))
    with simulating(chain, "BankMSP") as simulator:
        assert simulator.get_private_hash("trade", OWN, "p") == hashed is not None
        assert simulator.result().private_reads == frozenset()
    number = chain.ledger.height - 1
    with simulating(chain, "BankMSP") as simulator, pytest.raises(SimulationError) as refused:
        simulator.get_private("trade", OWN, "p")
    assert str(refused.value) == (
        "private data matching public hash version is not available. "
        f"Public hash version = {{BlockNum: {number}, TxNum: 0}}, Private data version = <nil>"
    )


def test_looking_up_a_collection_reads_the_definition(chain: Chain) -> None:
    with simulating(chain) as simulator:
        simulator.set_private("trade", OWN, "p", b"v")
        read = [each.key for each in parse(simulator.result().public)[0].public.reads]
    fields = [
        f"namespaces/fields/trade/{name}" for name in ("Collections", "EndorsementInfo", "Sequence", "ValidationInfo")
    ]
    assert read == [*fields, "namespaces/metadata/trade"]


@pytest.mark.parametrize("collection", ["nowhere", "_implicit_org_NobodyMSP"])
def test_unknown_collection(chain: Chain, collection: str) -> None:
    with simulating(chain) as simulator, pytest.raises(SimulationError) as refused:
        simulator.get_private("trade", collection, "p")
    text = f"collection [{collection}] not defined in the collection config for chaincode [trade]"
    assert str(refused.value) == text


def test_collection_of_an_undefined_chaincode(chain: Chain) -> None:
    with simulating(chain) as simulator, pytest.raises(SimulationError, match="collection config not defined for"):
        simulator.set_private("nobody", OWN, "p", b"v")


def test_private_metadata_is_kept_by_hash(chain: Chain) -> None:
    secret(chain)
    with simulating(chain) as simulator:
        simulator.set_private_metadata("trade", OWN, "p", {"m": b"1"})
        result = simulator.result()
        assert result.written_metadata == {("trade", OWN, "p"): {}}
    assert chain.commit([chain.draft(result.public)]) == [0]
    with simulating(chain, "BankMSP") as simulator:
        assert simulator.get_private_metadata("trade", OWN, "p") == {"m": b"1"}


def test_simulation_ends_once(chain: Chain) -> None:
    with simulating(chain) as simulator:
        simulator.result()
        with pytest.raises(SimulationError, match="should only be called once"):
            simulator.result()
        with pytest.raises(SimulationError, match="should not be used after calling Done"):
            simulator.get_state("trade", "k")


# --- history ------------------------------------------------------------------------------------------------------


def test_history_is_newest_first_with_deletes_and_without_invalid_writes(chain: Chain) -> None:
    for value in (b"1", b"", b"3"):
        builder = RwSetBuilder()
        builder.write("trade", "k", value)
        builder.write("account", "k", b"other")
        assert chain.commit([chain.draft(builder), chain.draft(builder, endorsers=())]) == [0, 10]
    with simulating(chain) as simulator:
        found = list(simulator.history("trade", "k"))
        assert simulator.result().public == b"", "history is not part of the set"
    assert [(each.value, each.is_delete) for each in found] == [(b"3", False), (b"", True), (b"1", False)]
    for each in found:
        info = chain.ledger.transaction(each.tx_id)
        assert info is not None and info.code == 0
        assert each.timestamp.seconds == 1_767_225_600


def test_history_of_two_writes_in_one_block(chain: Chain) -> None:
    drafts = []
    for value in (b"1", b"2"):
        builder = RwSetBuilder()
        builder.write("trade", "k", value)
        drafts.append(chain.draft(builder))
    assert chain.commit(drafts) == [0, 0]
    with simulating(chain) as simulator:
        assert [each.value for each in simulator.history("trade", "k")] == [b"2", b"1"]


def test_members_of_a_named_collection_share_its_values(channel: Channel) -> None:
    package = collection_pb2.CollectionConfigPackage()
    config = package.config.add().static_collection_config
    config.name = "shared"
    config.member_orgs_policy.signature_policy.CopyFrom(
        policy.n_out_of(1, [policy.role("CoreMSP", "member"), policy.role("BankMSP", "member")])
    )
    chain = Chain(channel, None, collections={"trade": package.SerializeToString()})
    try:
        secret(chain, collection="shared")
        for msp_id in ("CoreMSP", "BankMSP"):
            with simulating(chain, msp_id) as simulator:
                assert simulator.get_private("trade", "shared", "p") == b"secret"
        with simulating(chain, "LogisticsMSP") as simulator, pytest.raises(SimulationError, match="not available"):
            simulator.get_private("trade", "shared", "p")
    finally:
        chain.close()
