"""The ledger in memory runs contracts under Fabric's rules: versions, no own reads, races, policies, calls, events."""

from collections.abc import Iterator

import pytest
from fabric_protos.peer import transaction_pb2

from chaincode.shim.contract import Chaincode, Contract, query, submit
from chaincode.shim.errors import ContractError
from chaincode.shim.stub import Transaction
from network.channel import policy
from network.embedded import rwset
from network.embedded.memory import START, MemoryLedger, Outcome
from tests.network.embedded.transactions import ALL, MAJORITY, Channel

Code = transaction_pb2.TxValidationCode


class Store(Contract, name="store"):
    """A few words that show one rule each."""

    @submit()
    def put(self, tx: Transaction, key: str, value: str) -> str:
        before = tx.get_state(key)
        tx.put_state(key, value.encode())
        after = tx.get_state(key)
        tx.set_event("put", value.encode())
        return f"{before!r} {after == before}"

    @query()
    def get(self, tx: Transaction, key: str) -> str:
        return (tx.get_state(key) or b"").decode()

    @submit()
    def guard(self, tx: Transaction, key: str) -> None:
        rule = policy.n_out_of(1, [policy.role("BankMSP", "peer")]).SerializeToString()
        tx.put_state(key, b"guarded")
        tx.set_state_validation_parameter(key, rule)

    @submit()
    def count(self, tx: Transaction, key: str) -> str:
        with tx.get_state_by_range("", "") as rows:
            number = sum(1 for _ in rows)
        tx.put_state(key, str(number).encode())
        return str(number)

    @submit()
    def refuse(self, tx: Transaction) -> None:
        tx.put_state("refused", b"x")
        raise ContractError("no", status=409)

    @submit()
    def post(self, tx: Transaction, value: str) -> str:
        return tx.invoke_chaincode("account", [b"store:put", b"posted", value.encode()]).payload.decode()

    @submit()
    def hide(self, tx: Transaction) -> None:
        tx.put_private_data("_implicit_org_BankMSP", "secret", tx.transient["value"])

    @query()
    def reveal(self, tx: Transaction) -> str:
        return (tx.get_private_data("_implicit_org_BankMSP", "secret") or b"").decode()

    @query()
    def about(self, tx: Transaction) -> str:
        seconds, _ = tx.timestamp
        return f"{tx.peer_msp_id} {tx.creator.msp_id} {seconds} {tx.outermost_chaincode}"


@pytest.fixture
def memory() -> Iterator[MemoryLedger]:
    with MemoryLedger([Chaincode("trade", "1.0", [Store]), Chaincode("account", "1.0", [Store])]) as made:
        yield made


@pytest.fixture
def creator(channel: Channel) -> bytes:
    return channel.admins["CoreMSP"].serialized


def text(outcome: Outcome) -> str:
    assert outcome.status == 200, outcome.message
    return outcome.payload.decode().strip('"')


def test_write_is_committed_and_read_back(memory: MemoryLedger, creator: bytes) -> None:
    first = memory.submit("trade", "store:put", ["k", "1"], creator=creator)
    assert first.is_valid and text(first) == "None True", "no own writes are read"
    assert first.event is not None and (first.event.event_name, first.event.chaincode_id) == ("put", "trade")
    assert first.event.tx_id == first.transaction_id
    assert text(memory.evaluate("trade", "store:get", ["k"], creator=creator)) == "1"
    assert memory.get_state("trade", "k") == b"1"
    assert text(memory.submit("trade", "store:put", ["k", "2"], creator=creator)) == "b'1' True"


def test_evaluation_commits_nothing(memory: MemoryLedger, creator: bytes) -> None:
    height = memory.ledger.height
    assert memory.evaluate("trade", "store:put", ["k", "1"], creator=creator).code is None
    assert memory.ledger.height == height and memory.get_state("trade", "k") is None


def test_refusal_is_not_ordered(memory: MemoryLedger, creator: bytes) -> None:
    height = memory.ledger.height
    outcome = memory.submit("trade", "store:refuse", creator=creator)
    assert (outcome.status, outcome.message, outcome.code, outcome.event) == (409, "no", None, None)
    assert memory.ledger.height == height


def test_races_in_one_block(memory: MemoryLedger, creator: bytes) -> None:
    two = [memory.prepare("trade", "store:put", ["k", each], creator=creator) for each in "12"]
    scan = memory.prepare("trade", "store:count", ["n"], creator=creator)
    codes = [outcome.code for outcome in memory.block([*two, scan])]
    assert codes == [Code.VALID, Code.MVCC_READ_CONFLICT, Code.PHANTOM_READ_CONFLICT]
    assert memory.get_state("trade", "k") == b"1"


def test_same_transaction_twice(memory: MemoryLedger, creator: bytes) -> None:
    prepared = memory.prepare("trade", "store:put", ["k", "1"], creator=creator)
    assert [each.code for each in memory.block([prepared, prepared])] == [0, Code.DUPLICATE_TXID]
    assert [each.code for each in memory.block([prepared])] == [Code.DUPLICATE_TXID]


def test_chaincode_policies_are_the_topologys(memory: MemoryLedger, creator: bytes) -> None:
    def code(chaincode: str, *peers: str) -> int | None:
        return memory.submit(chaincode, "store:put", ["k", "1"], creator=creator, peers=peers).code

    assert code("trade", "CoreMSP", "BankMSP") == Code.ENDORSEMENT_POLICY_FAILURE
    assert code("trade", *MAJORITY) == 0
    assert code("account", *MAJORITY) == Code.ENDORSEMENT_POLICY_FAILURE, "account needs the bank"
    assert code("account", "BankMSP", "LogisticsMSP") == 0


def test_key_policy(memory: MemoryLedger, creator: bytes) -> None:
    assert memory.submit("trade", "store:guard", ["k"], creator=creator).is_valid
    refused = memory.submit("trade", "store:put", ["k", "1"], creator=creator, peers=MAJORITY)
    assert refused.code == Code.ENDORSEMENT_POLICY_FAILURE and "a key of trade" in refused.reason
    assert memory.submit("trade", "store:put", ["k", "1"], creator=creator, peers=["BankMSP"]).is_valid


def test_called_chaincode_shares_the_transaction_and_loses_its_event(memory: MemoryLedger, creator: bytes) -> None:
    outcome = memory.submit("trade", "store:post", ["7"], creator=creator)
    assert outcome.is_valid and outcome.event is None
    assert memory.get_state("account", "posted") == b"7" and memory.get_state("trade", "posted") is None
    assert [item.name for item in rwset.parse(outcome.rwset)] == ["_lifecycle", "account"]
    refused = memory.submit("trade", "store:post", ["8"], creator=creator, peers=MAJORITY)
    assert refused.code == Code.ENDORSEMENT_POLICY_FAILURE, "account's own policy judges what it writes"


def test_private_values_stay_with_their_owner(memory: MemoryLedger, creator: bytes) -> None:
    hidden = memory.submit(
        "trade", "store:hide", creator=creator, transient={"value": b"s"}, peers=["BankMSP", *MAJORITY]
    )
    assert hidden.is_valid and b"_implicit_org_BankMSP" in (hidden.private or b"")
    assert text(memory.evaluate("trade", "store:reveal", creator=creator, peer="BankMSP")) == "s"
    other = memory.evaluate("trade", "store:reveal", creator=creator, peer="CoreMSP")
    assert other.status == 500 and "private data matching public hash version is not available" in other.message


def test_context_of_a_call(memory: MemoryLedger, creator: bytes) -> None:
    seconds = int(START.timestamp())
    assert text(memory.evaluate("trade", "store:about", creator=creator)) == f"CoreMSP CoreMSP {seconds} trade"
    assert text(memory.evaluate("trade", "store:about", creator=creator, peer="BankMSP")).startswith("BankMSP CoreMSP")


def test_creator_may_hold_any_certificate_but_must_be_one(memory: MemoryLedger) -> None:
    outcome = memory.submit("trade", "store:put", ["k", "1"], creator=b"nobody")
    assert outcome.code is None or outcome.code == Code.BAD_CREATOR_SIGNATURE


def test_two_runs_give_the_same_ledger(creator: bytes) -> None:
    def run() -> tuple[bytes, bytes]:
        with MemoryLedger([Chaincode("trade", "1.0", [Store])]) as made:
            for number in range(5):
                made.submit("trade", "store:put", [f"k{number}", "1"], creator=creator)
            return made.ledger.tip_hash, made.ledger.commit_hash

    assert run() == run()


def test_all_organisations_endorse_by_default(memory: MemoryLedger) -> None:
    assert memory.msp_ids == ALL
