"""Every row of the table of validation codes, key-level and collection policies: a spoilt part, and its code."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import chaincode_event_pb2, collection_pb2, policy_pb2, proposal_pb2, transaction_pb2

from network.channel import policy
from network.embedded.rwset import RwSetBuilder
from network.embedded.validator import VALIDATION_PARAMETER
from tests.network.embedded.transactions import ALL, MAJORITY, Chain, Channel, Draft, Signatory

Code = transaction_pb2.TxValidationCode
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
Type = common_pb2.HeaderType


def writing(namespace: str = "trade", key: str = "k", value: bytes = b"v") -> RwSetBuilder:
    builder = RwSetBuilder()
    builder.write(namespace, key, value)
    return builder


def high_s(signature: bytes) -> bytes:
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, max(s, P256_ORDER - s))


def other_bytes(signature: bytes) -> bytes:
    return signature[:-1] + bytes((signature[-1] ^ 1,))


def _action(**changes: Any) -> bytes:
    action = proposal_pb2.ChaincodeAction(results=writing().build()[0])
    action.chaincode_id.name, action.chaincode_id.version = "trade", "1"
    for name, value in changes.items():
        action.ClearField(name) if value is None else setattr(action, name, value)
    return action.SerializeToString()


def _foreign(channel: Channel) -> bytes:
    certificate = identities_pb2.SerializedIdentity.FromString(channel.admins["CoreMSP"].serialized).id_bytes
    return identities_pb2.SerializedIdentity(mspid="NobodyMSP", id_bytes=certificate).SerializeToString()


def _twice() -> bytes:
    message = rwset_pb2.TxReadWriteSet.FromString(writing().build()[0])
    message.ns_rwset.append(message.ns_rwset[0])
    return message.SerializeToString()


LIFECYCLE = writing("_lifecycle").build()[0]
EMPTY_HEADER = common_pb2.SignatureHeader().SerializeToString()
EVENT = chaincode_event_pb2.ChaincodeEvent
SPOILT: list[tuple[str, dict[str, Any], str]] = [
    ("nothing", {}, "VALID"),
    ("3 unknown header type", {"header_type": Type.MESSAGE}, "BAD_COMMON_HEADER"),
    ("3 orderer transaction", {"header_type": Type.ORDERER_TRANSACTION}, "BAD_COMMON_HEADER"),
    ("3 epoch", {"epoch": 1}, "BAD_COMMON_HEADER"),
    ("3 nonce", {"nonce": b""}, "BAD_COMMON_HEADER"),
    ("3 creator", {"creator_bytes": b""}, "BAD_COMMON_HEADER"),
    ("4 creator unreadable", {"creator_bytes": b"\x00"}, "BAD_CREATOR_SIGNATURE"),
    ("4 other channel", {"channel_id": "other"}, "BAD_CREATOR_SIGNATURE"),
    ("4 signature of another message", {"spoil_signature": other_bytes}, "BAD_CREATOR_SIGNATURE"),
    ("4 no signature", {"spoil_signature": lambda _: b""}, "BAD_CREATOR_SIGNATURE"),
    ("4 high S", {"spoil_signature": high_s}, "BAD_CREATOR_SIGNATURE"),
    ("5 transaction id", {"transaction_id": "0" * 64}, "BAD_PROPOSAL_TXID"),
    ("5 any other id", {"transaction_id": "UPPER"}, "BAD_PROPOSAL_TXID"),
    ("6 no action", {"actions": 0}, "INVALID_ENDORSER_TRANSACTION"),
    ("6 two actions", {"actions": 2}, "INVALID_ENDORSER_TRANSACTION"),
    ("6 action header empty", {"action_header": EMPTY_HEADER}, "INVALID_ENDORSER_TRANSACTION"),
    ("6 action header unreadable", {"action_header": b"\x00"}, "INVALID_ENDORSER_TRANSACTION"),
    ("6 proposal hash", {"proposal_hash": b"\x00" * 32}, "INVALID_ENDORSER_TRANSACTION"),
    ("6 response unreadable", {"response_bytes": b"\x00"}, "INVALID_ENDORSER_TRANSACTION"),
    ("6 response empty", {"response_bytes": b""}, "INVALID_ENDORSER_TRANSACTION"),
    ("7 config update", {"header_type": Type.CONFIG_UPDATE}, "UNSUPPORTED_TX_PAYLOAD"),
    ("7 config", {"header_type": Type.CONFIG}, "INVALID_CONFIG_TRANSACTION"),
    ("9 extension unreadable", {"extension": b"\x00"}, "BAD_HEADER_EXTENSION"),
    ("10 action missing", {"action_bytes": b""}, "BAD_RESPONSE_PAYLOAD"),
    ("10 action unreadable", {"action_bytes": b"\x00"}, "BAD_RESPONSE_PAYLOAD"),
    ("10 results unreadable", {"results": b"\x00"}, "BAD_RWSET"),
    ("11 no chaincode in extension", {"extension": b""}, "INVALID_OTHER_REASON"),
    ("11 no chaincode in action", {"action_bytes": _action(chaincode_id=None)}, "INVALID_OTHER_REASON"),
    ("11 event of another", {"event": EVENT(chaincode_id="account", event_name="e")}, "INVALID_OTHER_REASON"),
    ("11 event unreadable", {"action_bytes": _action(events=b"\x00")}, "INVALID_OTHER_REASON"),
    ("11 own event", {"event": EVENT(chaincode_id="trade", event_name="e")}, "VALID"),
    ("12 names differ", {"named": "account"}, "INVALID_CHAINCODE"),
    ("12 empty name", {"chaincode": "", "named": ""}, "INVALID_CHAINCODE"),
    ("12 no version", {"version": ""}, "INVALID_CHAINCODE"),
    ("13 namespace twice", {"results": _twice()}, "ILLEGAL_WRITESET"),
    ("14 written namespace undefined", {"results": writing("nobody").build()[0]}, "INVALID_CHAINCODE"),
    ("14 invoked chaincode undefined", {"chaincode": "nobody"}, "INVALID_CHAINCODE"),
    ("14 lscc is not defined", {"results": writing("lscc").build()[0]}, "INVALID_CHAINCODE"),
    ("15 no endorsement", {"endorsers": ()}, "ENDORSEMENT_POLICY_FAILURE"),
    ("15 two of four", {"endorsers": ALL[:2]}, "ENDORSEMENT_POLICY_FAILURE"),
    ("15 one counted three times", {"endorsers": ["CoreMSP"] * 3}, "ENDORSEMENT_POLICY_FAILURE"),
    ("15 bad endorsements", {"spoil_endorsement": other_bytes}, "ENDORSEMENT_POLICY_FAILURE"),
    ("15 high S endorsements", {"spoil_endorsement": high_s}, "ENDORSEMENT_POLICY_FAILURE"),
    ("15 lifecycle by two", {"results": LIFECYCLE, "endorsers": ALL[:2]}, "ENDORSEMENT_POLICY_FAILURE"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in SPOILT], ids=[row[0] for row in SPOILT])
def test_each_row_of_the_table(chain: Chain, changes: dict[str, Any], expected: str) -> None:
    draft = chain.draft(
        changes.get("results", writing().build()[0]), **{k: v for k, v in changes.items() if k != "results"}
    )
    committed = chain.commit_block([draft])
    [(transaction_id, code)] = committed.transactions
    assert Code.Name(code) == expected, committed.reasons
    assert (chain.ledger.current.state("trade", b"k") is not None) == (expected == "VALID")
    if transaction_id:
        entry = chain.ledger.transaction(transaction_id)
        assert entry is not None and entry.code == code, "invalid transactions are found by id too"


RAW = [
    ("1 envelope unreadable", b"\x00", "INVALID_OTHER_REASON"),
    ("2 payload unreadable", common_pb2.Envelope(payload=b"\x00").SerializeToString(), "BAD_PAYLOAD"),
    ("3 no header", b"", "BAD_COMMON_HEADER"),
    (
        "3 header unreadable",
        common_pb2.Envelope(
            payload=common_pb2.Payload(header=common_pb2.Header(channel_header=b"\x00")).SerializeToString()
        ).SerializeToString(),
        "BAD_COMMON_HEADER",
    ),
]


@pytest.mark.parametrize(("data", "expected"), [row[1:] for row in RAW], ids=[row[0] for row in RAW])
def test_unreadable_envelopes_stay_in_the_block(chain: Chain, data: bytes, expected: str) -> None:
    codes = chain.commit([data, chain.draft(writing())])
    assert [Code.Name(code) for code in codes] == [expected, "VALID"]
    block = common_pb2.Block.FromString(chain.ledger.block(chain.ledger.height - 1) or b"")
    assert block.data.data[0] == data
    assert block.metadata.metadata[2] == bytes(codes)


def test_creator_of_unknown_organisation(chain: Chain) -> None:
    creator = Signatory(_foreign(chain.channel), chain.channel.admins["CoreMSP"].sign)
    assert chain.commit([chain.draft(writing(), creator=creator)]) == [Code.BAD_CREATOR_SIGNATURE]


# --- duplicates ---------------------------------------------------------------------------------------------------


def test_duplicate_in_the_ledger_also_of_an_invalid_one(chain: Chain) -> None:
    valid, invalid = chain.draft(writing()), chain.draft(writing(), endorsers=())
    assert chain.commit([valid, invalid]) == [0, Code.ENDORSEMENT_POLICY_FAILURE]
    assert chain.commit([valid, invalid]) == [Code.DUPLICATE_TXID, Code.DUPLICATE_TXID]
    assert valid.transaction_id is not None and invalid.transaction_id is not None
    first = chain.ledger.transaction(valid.transaction_id)
    assert first is not None and (first.block, first.index, first.code) == (chain.ledger.height - 2, 0, 0)


def test_duplicate_in_one_block_marks_the_later(chain: Chain) -> None:
    draft = chain.draft(writing())
    assert chain.commit([draft, draft]) == [0, Code.DUPLICATE_TXID]
    entry = chain.ledger.transaction(draft.transaction_id or "")
    assert entry is not None and (entry.index, entry.code) == (0, 0)


def test_duplicate_of_an_invalid_one_in_the_same_block_is_not_marked(chain: Chain) -> None:
    bad = chain.draft(writing(), endorsers=())
    good = chain.draft(writing(), nonce=bad.nonce)
    assert good.transaction_id == bad.transaction_id
    assert chain.commit([bad, good]) == [Code.ENDORSEMENT_POLICY_FAILURE, 0]
    entry = chain.ledger.transaction(bad.transaction_id or "")
    assert entry is not None and entry.code == Code.ENDORSEMENT_POLICY_FAILURE, "the index keeps the first in the block"


def test_duplicate_is_found_before_its_action_is_read(chain: Chain) -> None:
    draft = chain.draft(writing())
    again = chain.draft(b"\x00", nonce=draft.nonce)
    assert chain.commit([draft]) == [0]
    assert chain.commit([again]) == [Code.DUPLICATE_TXID]


# --- policies -----------------------------------------------------------------------------------------------------


def signed_by(*msp_ids: str) -> bytes:
    """A SignaturePolicyEnvelope that asks for a peer of each of these organisations."""
    return policy.n_out_of(len(msp_ids), [policy.role(msp_id, "peer") for msp_id in msp_ids]).SerializeToString()


def application(*msp_ids: str) -> bytes:
    rule = policy.n_out_of(len(msp_ids), [policy.role(msp_id, "peer") for msp_id in msp_ids])
    return policy_pb2.ApplicationPolicy(signature_policy=rule).SerializeToString()


def guarded(chain: Chain, key: str = "k", *msp_ids: str) -> None:
    """Commit a key with a policy of its own."""
    builder = writing(key=key)
    builder.write_metadata("trade", key, {VALIDATION_PARAMETER: signed_by(*msp_ids)})
    assert chain.commit([chain.draft(builder)]) == [0]


def test_key_policy_replaces_the_chaincode_policy(chain: Chain) -> None:
    guarded(chain, "k", "BankMSP")
    assert chain.commit([chain.draft(writing(), endorsers=MAJORITY)]) == [Code.ENDORSEMENT_POLICY_FAILURE]
    assert chain.commit([chain.draft(writing(), endorsers=["BankMSP"])]) == [0], "the bank alone, less than a majority"


def test_each_written_key_needs_its_own_policy(chain: Chain) -> None:
    guarded(chain, "k", "BankMSP")
    both = writing()
    both.write("trade", "other", b"v")
    assert chain.commit([chain.draft(both, endorsers=["BankMSP"])]) == [Code.ENDORSEMENT_POLICY_FAILURE]
    assert chain.commit([chain.draft(both, endorsers=ALL)]) == [0]


def test_metadata_write_is_judged_by_the_old_policy(chain: Chain) -> None:
    guarded(chain, "k", "BankMSP")
    builder = RwSetBuilder()
    builder.write_metadata("trade", "k", {VALIDATION_PARAMETER: signed_by("CoreMSP")})
    assert chain.commit([chain.draft(builder, endorsers=["CoreMSP"])]) == [Code.ENDORSEMENT_POLICY_FAILURE]
    assert chain.commit([chain.draft(builder, endorsers=["BankMSP"])]) == [0]
    assert chain.commit([chain.draft(writing(), endorsers=["CoreMSP"])]) == [0]


def test_delete_ends_the_key_policy(chain: Chain) -> None:
    guarded(chain, "k", "BankMSP")
    assert chain.commit([chain.draft(writing(value=b""), endorsers=["BankMSP"])]) == [0]
    assert chain.commit([chain.draft(writing(), endorsers=["BankMSP"])]) == [Code.ENDORSEMENT_POLICY_FAILURE]
    assert chain.commit([chain.draft(writing(), endorsers=MAJORITY)]) == [0]


def test_key_whose_policy_changes_earlier_in_the_block_is_refused(chain: Chain) -> None:
    guarded(chain, "k", "BankMSP")
    change = RwSetBuilder()
    change.write_metadata("trade", "k", {VALIDATION_PARAMETER: signed_by("BankMSP")})
    drafts = [chain.draft(change, endorsers=ALL), chain.draft(writing(), endorsers=ALL)]
    assert chain.commit(drafts) == [0, Code.ENDORSEMENT_POLICY_FAILURE]


def test_policy_change_counts_even_if_it_later_fails_mvcc(chain: Chain) -> None:
    guarded(chain, "k", "BankMSP")
    change = RwSetBuilder()
    change.read("trade", "k", None)  # stale
    change.write_metadata("trade", "k", {VALIDATION_PARAMETER: signed_by("BankMSP")})
    drafts = [chain.draft(change, endorsers=ALL), chain.draft(writing(), endorsers=ALL)]
    assert chain.commit(drafts) == [Code.MVCC_READ_CONFLICT, Code.ENDORSEMENT_POLICY_FAILURE]


def test_policy_change_without_endorsement_does_not_count(chain: Chain) -> None:
    guarded(chain, "k", "BankMSP")
    change = RwSetBuilder()
    change.write_metadata("trade", "k", {VALIDATION_PARAMETER: signed_by("CoreMSP")})
    drafts = [chain.draft(change, endorsers=["CoreMSP"]), chain.draft(writing(), endorsers=ALL)]
    assert chain.commit(drafts) == [Code.ENDORSEMENT_POLICY_FAILURE, 0]


def test_policy_change_passes_per_namespace(chain: Chain) -> None:
    """Endorsed for trade, not for account: the transaction fails, its change of trade's key still counts."""
    change = RwSetBuilder()
    change.write_metadata("trade", "k", {VALIDATION_PARAMETER: signed_by("CoreMSP")})
    change.write("account", "a", b"v")
    guarded(chain, "k", "CoreMSP")
    drafts = [chain.draft(change, endorsers=["CoreMSP"]), chain.draft(writing(), endorsers=ALL)]
    assert chain.commit(drafts) == [Code.ENDORSEMENT_POLICY_FAILURE] * 2


def test_nothing_written_still_needs_the_chaincode_policy(chain: Chain) -> None:
    reading = RwSetBuilder()
    reading.read("trade", "absent", None)
    assert chain.commit([chain.draft(reading, endorsers=["CoreMSP"])]) == [Code.ENDORSEMENT_POLICY_FAILURE]
    assert chain.commit([chain.draft(reading)]) == [0]


def test_called_chaincode_is_judged_by_its_own_policy_and_the_invoked_one_always(channel: Channel) -> None:
    chain = Chain(channel, None, policies={"account": application("BankMSP")})
    try:
        assert chain.commit([chain.draft(writing("account"), endorsers=MAJORITY)]) == [Code.ENDORSEMENT_POLICY_FAILURE]
        assert chain.commit([chain.draft(writing("account"), endorsers=["BankMSP"])]) == [
            Code.ENDORSEMENT_POLICY_FAILURE
        ], "trade was invoked: its majority is needed though it wrote nothing"
        assert chain.commit([chain.draft(writing("account"), endorsers=ALL)]) == [0]
        assert chain.commit([chain.draft(writing("account"), chaincode="account", endorsers=["BankMSP"])]) == [0]
    finally:
        chain.close()


def test_key_policy_that_cannot_be_read_is_satisfied_by_nobody(chain: Chain) -> None:
    builder = writing()
    builder.write_metadata("trade", "k", {VALIDATION_PARAMETER: b"\x00"})
    assert chain.commit([chain.draft(builder)]) == [0]
    assert chain.commit([chain.draft(writing(), endorsers=ALL)]) == [Code.ENDORSEMENT_POLICY_FAILURE]


# --- collections --------------------------------------------------------------------------------------------------


def private(collection: str, key: str = "p") -> RwSetBuilder:
    builder = RwSetBuilder()
    builder.write_private("trade", collection, key, b"secret")
    return builder


def package(**configs: Callable[[collection_pb2.StaticCollectionConfig], None]) -> bytes:
    made = collection_pb2.CollectionConfigPackage()
    for name, change in configs.items():
        config = made.config.add().static_collection_config
        config.name = name
        config.member_orgs_policy.signature_policy.CopyFrom(
            policy.n_out_of(1, [policy.role("CoreMSP", "member"), policy.role("BankMSP", "member")])
        )
        change(config)
    return made.SerializeToString()


def test_implicit_collection_asks_its_owner_only(chain: Chain) -> None:
    name = "_implicit_org_BankMSP"
    assert chain.commit([chain.draft(private(name), endorsers=MAJORITY)]) == [Code.ENDORSEMENT_POLICY_FAILURE]
    assert chain.commit([chain.draft(private(name), endorsers=["BankMSP"])]) == [0]


def test_named_collection_with_and_without_a_policy_of_its_own(channel: Channel) -> None:
    def own(config: collection_pb2.StaticCollectionConfig) -> None:
        config.endorsement_policy.ParseFromString(application("BankMSP"))

    chain = Chain(channel, None, collections={"trade": package(plain=lambda _: None, banked=own)})
    try:
        assert chain.commit([chain.draft(private("plain"), endorsers=["BankMSP"])]) == [Code.ENDORSEMENT_POLICY_FAILURE]
        assert chain.commit([chain.draft(private("plain"), endorsers=MAJORITY)]) == [0]
        assert chain.commit([chain.draft(private("banked"), endorsers=MAJORITY)]) == [Code.ENDORSEMENT_POLICY_FAILURE]
        assert chain.commit([chain.draft(private("banked"), endorsers=["BankMSP"])]) == [0]
    finally:
        chain.close()


@pytest.mark.parametrize("name", ["nowhere", "_implicit_org_NobodyMSP"])
def test_unknown_collection_fails_its_policy(chain: Chain, name: str) -> None:
    assert chain.commit([chain.draft(private(name), endorsers=ALL)]) == [Code.ENDORSEMENT_POLICY_FAILURE]


def test_key_policy_of_a_private_key(chain: Chain) -> None:
    name = "_implicit_org_BankMSP"
    builder = private(name)
    builder.write_private_metadata("trade", name, "p", {VALIDATION_PARAMETER: signed_by("CoreMSP")})
    assert chain.commit([chain.draft(builder, endorsers=["BankMSP"])]) == [0]
    assert chain.commit([chain.draft(private(name), endorsers=["BankMSP"])]) == [Code.ENDORSEMENT_POLICY_FAILURE]
    row = chain.ledger.current.hashed("trade", name, sha256(b"p").digest())
    assert row is not None
    assert chain.commit([chain.draft(private(name), endorsers=["CoreMSP"])]) == [0]


def test_many_signatures_are_verified_in_two_threads_with_the_same_verdicts(chain: Chain) -> None:
    drafts: list[Draft | bytes] = [
        chain.draft(writing(key=f"k{number}"), spoil_endorsement=other_bytes if number % 3 == 0 else lambda each: each)
        for number in range(12)
    ]
    expected = [Code.ENDORSEMENT_POLICY_FAILURE if number % 3 == 0 else 0 for number in range(12)]
    assert chain.commit(drafts) == expected


def test_hand_made_set_with_one_key_twice_ends_as_in_fabric(chain: Chain) -> None:
    """Fabric adds the flags of the two writes, which makes them a metadata update: a present value stays."""
    chain.put(k=b"old")
    message = rwset_pb2.TxReadWriteSet.FromString(writing(value=b"new").build()[0])
    inner = message.ns_rwset[0]
    inner.rwset = inner.rwset + inner.rwset
    assert chain.commit([chain.draft(message.SerializeToString())]) == [0]
    assert chain.ledger.current.get_state("trade", "k") == b"old"
