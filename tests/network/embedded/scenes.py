"""Blocks that try every rule of validation and commit, as data: what goes in, and the code that each must get.

`SCENES` are simulated and endorsed like anybody's transactions; the scenes follow one another on one ledger. What no
peer would endorse, and no orderer would order, is in `malformed`."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import chaincode_event_pb2, proposal_response_pb2

from network.topology import ChaincodeSpec, Collection, Rule
from tests.network.embedded.shadow import Code, Endorsements, Tx
from tests.network.embedded.transactions import ALL, Channel, Draft
from tests.network.embedded.wire import high_s

PROGRAM = "tests.network.embedded.fixtures.script:chaincode"
IMPLICIT = "_implicit_org_CoreMSP"
CHAINCODES = (
    ChaincodeSpec(
        name="script",
        version="1.0",
        program=PROGRAM,
        collections=(
            Collection("shared", members=Rule(1, ("core", "bank"))),
            Collection("strict", members=Rule(1, ("core", "bank")), endorsement=Rule(1, ("bank",))),
            Collection("short", members=Rule(1, ("core", "bank")), block_to_live=2),
        ),
    ),
    ChaincodeSpec(name="both", version="1.0", program=PROGRAM, endorsement=Rule(2, ("core", "bank"))),
)

CORE, WAREHOUSE, LOGISTICS, BANK = "CoreMSP", "WarehouseMSP", "LogisticsMSP", "BankMSP"
_MVCC, _PHANTOM, _POLICY = Code.MVCC_READ_CONFLICT, Code.PHANTOM_READ_CONFLICT, Code.ENDORSEMENT_POLICY_FAILURE

Block = Sequence[Tx]


def _twice(endorsements: Endorsements) -> Endorsements:
    """The first endorsement three times: one organisation, not three."""
    return [endorsements[0]] * 3


def _second_spoilt(endorsements: Endorsements) -> Endorsements:
    other = proposal_response_pb2.Endorsement(
        endorser=endorsements[1].endorser, signature=_flipped(endorsements[1].signature)
    )
    return [endorsements[0], other, *endorsements[2:]]


def _all_high(endorsements: Endorsements) -> Endorsements:
    return [
        proposal_response_pb2.Endorsement(endorser=each.endorser, signature=high_s(each.signature))
        for each in endorsements
    ]


def _flipped(signature: bytes) -> bytes:
    return signature[:-1] + bytes((signature[-1] ^ 1,))


SCENES: Mapping[str, Sequence[Block]] = {
    "reads and writes of one block": (
        (Tx([["put", "a", "1"]]), Tx([["put", "a", "2"]]), Tx([["get", "a"], ["put", "b", "1"]], _MVCC)),
        (Tx([["get", "a"], ["put", "a", "3"]]), Tx([["get", "a"], ["put", "a", "4"]], _MVCC), Tx([["delete", "a"]])),
        (Tx([["get", "a"], ["put", "a", "5"]]), Tx([["delete", "never"]]), Tx([["get", "never"]], _MVCC)),
        (Tx(), Tx([["get", "a"]]), Tx([["put", "zwölf", "12"], ["put", "🧾", "x"], ["put", "\uffff", "y"]])),
    ),
    "a duplicate in one block and in a later one": (
        (Tx([["put", "c", "1"]], label="c"), Tx(again="c", expected=Code.DUPLICATE_TXID)),
        (Tx(again="c", expected=Code.DUPLICATE_TXID), Tx([["put", "c", "2"]])),
        (
            Tx([["put", "late", "1"]], _POLICY, at=(CORE,), label="late"),
            Tx(again="late", expected=_POLICY),
        ),
        (Tx(again="late", expected=Code.DUPLICATE_TXID),),
    ),
    "ranges with raw results": (
        (Tx([["fill", "r", 10]]),),
        (
            Tx([["range", "r", "s", 100], ["put", "seen", "10"]]),
            Tx([["put", "r0003x", "new"]]),
            Tx([["range", "r", "s", 100], ["put", "seen", "11"]], _PHANTOM),
            Tx([["range", "r", "r0003", 100]]),
        ),
        (Tx([["delete", "r0005"]]), Tx([["range", "r", "s", 100]], _PHANTOM), Tx([["range", "r0006", "s", 100]])),
        (
            Tx([["put", "r0007", "changed"]]),
            Tx([["range", "r0006", "s", 1]], _PHANTOM),
            Tx([["range", "", "", 100]], _PHANTOM),
        ),
        (Tx([["range", "x", "y", 5]]), Tx([["put", "x1", "1"]]), Tx([["range", "x", "y", 5]], _PHANTOM)),
        (Tx([["put", "x2", "1"]]), Tx([["delete", "x2"]]), Tx([["range", "x", "y", 5]])),
    ),
    "ranges with a summary": (
        (Tx([["fill", "m", 120]]), Tx([["fill", "n", 3000]])),
        (
            Tx([["range", "m", "n", 200]]),
            Tx([["range", "m", "m0051", 200]]),
            Tx([["range", "m", "m0050", 200]]),
            Tx([["range", "m", "n", 10]]),
            Tx([["range", "n", "o", 2900]]),
            Tx([["put", "n2500", "changed"]]),
            Tx([["range", "n", "o", 2900]], _PHANTOM),
            Tx([["range", "n", "o", 2000]]),
        ),
        (
            Tx([["delete", "m0119"]]),
            Tx([["range", "m", "n", 200]], _PHANTOM),
            Tx([["range", "m", "n", 10]]),
            Tx([["put", "m0100x", "between"]]),
            Tx([["range", "m", "n", 110]], _PHANTOM),
        ),
    ),
    "key policies": (
        (Tx([["put", "k", "1"], ["policy", "k", [BANK]]]), Tx([["put", "k", "2"]], _POLICY, at=ALL)),
        (Tx([["put", "k", "3"]], _POLICY), Tx([["put", "k", "4"]], at=(BANK,)), Tx([["delete", "q"]])),
        (
            Tx([["policy", "k", [BANK, CORE]]], at=(BANK,)),
            Tx([["put", "k", "5"]], _POLICY, at=(BANK, CORE)),
            Tx([["put", "other", "1"]]),
        ),
        (
            Tx([["get", "a"], ["policy", "k", [CORE]]], at=(BANK, CORE)),
            Tx([["put", "a", "6"]]),
            Tx([["put", "k", "6"]], _POLICY, at=(BANK, CORE)),
        ),
        # The first loses by MVCC but had passed endorsement, so the second is refused all the same.
        (
            Tx([["put", "a", "7"]]),
            Tx([["get", "a"], ["policy", "k", [WAREHOUSE]]], _MVCC, at=(CORE,)),
            Tx([["put", "k", "7"]], _POLICY, at=(CORE,)),
        ),
        # The first fails its endorsement, so the second is judged by the committed policy.
        (Tx([["policy", "k", [WAREHOUSE]]], _POLICY, at=(BANK,)), Tx([["put", "k", "8"]], at=(CORE,))),
        (Tx([["policy", "k", []]], at=(CORE,)),),
        (Tx([["put", "k", "9"]], _POLICY, at=(CORE,)), Tx([["put", "k", "10"]])),
        (Tx([["policy", "absent", [BANK]]]), Tx([["policy", "absent", [BANK]], ["put", "k", "11"]], _POLICY)),
        (Tx([["put", "absent", "1"]]), Tx([["put", "mixed", "1"], ["policy", "mixed", [LOGISTICS]]])),
        # One key by its own policy, one by the chaincode's.
        (
            Tx([["put", "mixed", "2"], ["put", "plain", "1"]], _POLICY, at=(LOGISTICS,)),
            Tx([["put", "mixed", "2"]], at=(LOGISTICS,)),
            Tx([["put", "mixed", "3"], ["put", "plain", "1"]], at=(CORE, BANK, LOGISTICS)),
        ),
        # What is deleted and written again in one block has lost its policy.
        (Tx([["delete", "mixed"]], at=(LOGISTICS,)), Tx([["put", "mixed", "4"]], at=(LOGISTICS,))),
        (Tx([["put", "mixed", "5"]], _POLICY, at=(LOGISTICS,)), Tx([["policy", "mixed", [LOGISTICS]]])),
        (Tx([["delete", "mixed"]], at=(LOGISTICS,)),),
        (Tx([["put", "mixed", "6"]], _POLICY, at=(LOGISTICS,)), Tx([["put", "mixed", "7"]])),
    ),
    "private data": (
        (
            Tx([["put_private", "shared", "p", "1"]]),
            Tx([["put_private", IMPLICIT, "p", "1"]], at=(CORE,)),
            Tx([["put_private", IMPLICIT, "q", "1"]], _POLICY, at=(BANK, WAREHOUSE, LOGISTICS)),
            Tx([["put_private", "strict", "p", "1"]], at=(BANK,)),
            Tx([["put_private", "strict", "q", "1"]], _POLICY, at=(CORE, WAREHOUSE, LOGISTICS)),
            Tx([["put_private", "strict", "r", "1"], ["put", "pub", "1"]], _POLICY, at=(BANK,)),
            Tx([["put_private", "short", "s", "1"], ["put_private", "short", "t", "1"]]),
        ),
        (
            Tx([["private_hash", "shared", "p"], ["put", "pub", "2"]], at=(CORE, BANK, WAREHOUSE)),
            Tx([["get_private", "shared", "p"], ["put_private", "shared", "p", "2"]], at=(CORE,), expected=_POLICY),
            Tx([["private_hash", "shared", "p"], ["put_private", "shared", "p", "3"]]),
            Tx([["private_hash", "shared", "p"], ["put_private", "shared", "p", "4"]], _MVCC),
            Tx([["delete_private", "shared", "p"]]),
            Tx([["private_hash", "short", "s"], ["put", "kept", "1"]]),
        ),
        (
            Tx([["private_hash", "shared", "p"], ["put_private", "shared", "p", "5"]]),
            Tx([["purge", IMPLICIT, "p"]], at=(CORE,)),
            Tx([["private_hash", IMPLICIT, "p"]], _MVCC),
            Tx([["private_hash", "short", "s"], ["put", "kept", "2"]]),
            Tx([["put_private", "short", "t", "again"]]),
        ),
        (
            Tx([["private_hash", "short", "s"], ["put", "kept", "3"]]),
            Tx([["private_hash", "short", "t"], ["put", "kept", "4"]]),
            Tx([["purge", "shared", "p"], ["purge", "shared", "never"]]),
        ),
        # `s` has expired with the last block: its hash is gone.
        (
            Tx([["private_hash", "short", "s"], ["put", "kept", "5"]]),
            Tx([["private_hash", "short", "t"], ["put", "kept", "6"]]),
            Tx([["private_policy", "shared", "p", [BANK]]]),
        ),
        (Tx([["put_private", "shared", "g", "1"], ["private_policy", "shared", "g", [WAREHOUSE]]]),),
        (
            Tx([["put_private", "shared", "g", "2"]], _POLICY, at=(CORE, BANK)),
            Tx([["put_private", "shared", "g", "2"]], at=(WAREHOUSE,)),
            Tx([["private_policy", "shared", "g", [CORE]]], at=(WAREHOUSE,)),
            Tx([["put_private", "shared", "g", "3"]], _POLICY, at=(WAREHOUSE,)),
        ),
        (Tx([["put_private", "shared", "g", "4"]], at=(CORE,)), Tx([["purge", "shared", "g"]], at=(CORE,))),
        (Tx([["put_private", "shared", "g", "5"]]), Tx([["private_policy", "shared", "p", []]])),
        (Tx([["put_private", "shared", "e", "1"], ["put_private", IMPLICIT, "e", "1"], ["put", "e", "1"]]),),
    ),
    "calls of another chaincode": (
        (
            Tx([["put", "d", "1"], ["call", "both", [["put", "d", "1"]]]], at=ALL),
            Tx([["put", "d", "2"], ["call", "both", [["put", "d", "2"]]]], _POLICY, at=(CORE, WAREHOUSE, LOGISTICS)),
            Tx([["put", "d", "3"], ["call", "both", [["put", "d", "3"]]]], _POLICY, at=(CORE, BANK)),
        ),
        # Only read there: the other chaincode's policy is not asked. Only written there: both are.
        (
            Tx([["call", "both", [["get", "d"]]], ["put", "d", "4"]], at=(CORE, WAREHOUSE, LOGISTICS)),
            Tx([["call", "both", [["put", "d", "5"]]]], _POLICY, at=(CORE, BANK)),
            Tx([["call", "both", [["get", "d"]]], ["event", "called"]]),
        ),
        (
            Tx([["call", "both", [["get", "d"], ["put", "d", "7"]]]], at=ALL),
            Tx([["put", "d", "8"]], chaincode="both", at=(CORE, BANK)),
        ),
    ),
    "signatures": (
        (
            Tx([["put", "z", "1"]], Code.BAD_CREATOR_SIGNATURE, spoil_signature=high_s),
            Tx([["put", "z", "2"]], Code.BAD_CREATOR_SIGNATURE, spoil_signature=_flipped),
            Tx([["put", "z", "4"]], _POLICY, at=(CORE, BANK)),
            Tx([["put", "z", "5"]], _POLICY, spoil_endorsements=_twice),
            Tx([["put", "z", "6"]], _POLICY, spoil_endorsements=_second_spoilt),
            Tx([["put", "z", "7"]], at=ALL, spoil_endorsements=_second_spoilt),
            Tx([["put", "z", "8"]], _POLICY, spoil_endorsements=_all_high),
            Tx([["put", "z", "9"]], _POLICY, spoil_endorsements=lambda _: []),
            Tx([["put", "z", "10"]], at=ALL, spoil_endorsements=lambda given: [*given, *given]),
            Tx([["event", "only an event"]]),
        ),
    ),
}  # fmt: skip


def malformed(channel: Channel) -> list[tuple[str, Draft, int]]:
    """Transactions that no peer would endorse as they are: a name, the draft, and the code it must get.

    Each wants a block of its own: a real peer never ends the block in which another follows one it cannot read."""
    results = kv("malformed")

    def draft(**changes: Any) -> Draft:
        return Draft(channel, **{"results": results, "chaincode": "script", "version": "1.0"} | changes)

    def event(of: str) -> chaincode_event_pb2.ChaincodeEvent:
        return chaincode_event_pb2.ChaincodeEvent(chaincode_id=of, event_name="made")

    twice = rwset_pb2.TxReadWriteSet.FromString(results)
    twice.ns_rwset.append(twice.ns_rwset[0])
    unknown = rwset_pb2.TxReadWriteSet.FromString(results)
    unknown.ns_rwset.add(namespace="ghost", rwset=unknown.ns_rwset[0].rwset)
    read_only = rwset_pb2.TxReadWriteSet.FromString(results)
    read_only.ns_rwset.add(
        namespace="ghost",
        rwset=kv_rwset_pb2.KVRWSet(reads=[kv_rwset_pb2.KVRead(key="never")]).SerializeToString(),
    )
    return [
        ("as it should be", draft(), Code.VALID),
        ("an event", draft(event=event("script")), Code.VALID),
        ("empty results", draft(results=b""), Code.VALID),
        ("reads where nothing is defined", draft(results=read_only.SerializeToString()), Code.VALID),
        ("type MESSAGE", draft(header_type=common_pb2.HeaderType.MESSAGE), Code.BAD_COMMON_HEADER),
        ("type of orderers", draft(header_type=common_pb2.HeaderType.ORDERER_TRANSACTION), Code.BAD_COMMON_HEADER),
        ("type unknown", draft(header_type=99), Code.BAD_COMMON_HEADER),
        ("type CONFIG_UPDATE", draft(header_type=common_pb2.HeaderType.CONFIG_UPDATE), Code.UNSUPPORTED_TX_PAYLOAD),
        ("epoch", draft(epoch=1), Code.BAD_COMMON_HEADER),
        ("no nonce", draft(nonce=b""), Code.BAD_COMMON_HEADER),
        ("no creator", draft(creator_bytes=b""), Code.BAD_COMMON_HEADER),
        ("another channel", draft(channel_id="other"), Code.BAD_CREATOR_SIGNATURE),
        ("creator without certificate", draft(creator_bytes=b"\x0a\x07CoreMSP\x12\x03PEM"), Code.BAD_CREATOR_SIGNATURE),
        ("creator of nobody", draft(creator_bytes=b"\x0a\x08OtherMSP\x12\x03PEM"), Code.BAD_CREATOR_SIGNATURE),
        ("creator unreadable", draft(creator_bytes=b"\xff\xff"), Code.BAD_CREATOR_SIGNATURE),
        ("id of nothing", draft(transaction_id="00" * 32), Code.BAD_PROPOSAL_TXID),
        ("no id", draft(transaction_id=""), Code.BAD_PROPOSAL_TXID),
        ("two actions", draft(actions=2), Code.INVALID_ENDORSER_TRANSACTION),
        ("no action", draft(actions=0), Code.INVALID_ENDORSER_TRANSACTION),
        ("action without header", draft(action_header=b""), Code.INVALID_ENDORSER_TRANSACTION),
        ("another proposal hash", draft(proposal_hash=b"other"), Code.INVALID_ENDORSER_TRANSACTION),
        ("response unreadable", draft(response_bytes=b"\xff"), Code.INVALID_ENDORSER_TRANSACTION),
        ("response empty", draft(response_bytes=b""), Code.INVALID_ENDORSER_TRANSACTION),
        ("extension unreadable", draft(extension=b"\xff"), Code.BAD_HEADER_EXTENSION),
        ("extension empty", draft(extension=b""), Code.INVALID_OTHER_REASON),
        ("extension without name", draft(extension=b"\x12\x00"), Code.INVALID_CHAINCODE),
        ("action unreadable", draft(action_bytes=b"\xff"), Code.BAD_RESPONSE_PAYLOAD),
        ("action empty", draft(action_bytes=b""), Code.BAD_RESPONSE_PAYLOAD),
        ("action without chaincode", draft(action_bytes=b"\x1a\x00"), Code.INVALID_OTHER_REASON),
        ("results unreadable", draft(results=b"\xff"), Code.BAD_RWSET),
        ("results of an empty namespace", draft(results=b"\x12\x05\x0a\x01a\x12\x00"), Code.VALID),
        ("results of a spoilt namespace", draft(results=b"\x12\x06\x0a\x01a\x12\x01\xff"), Code.BAD_RWSET),
        ("results not in UTF-8", draft(results=b"\x12\x04\x0a\x02\xc3\x28"), Code.BAD_RWSET),
        ("event of another chaincode", draft(event=event("both")), Code.INVALID_OTHER_REASON),
        ("two chaincodes", draft(named="both"), Code.INVALID_CHAINCODE),
        ("no version", draft(version=""), Code.INVALID_CHAINCODE),
        ("another version", draft(version="7"), Code.VALID),
        ("a namespace twice", draft(results=twice.SerializeToString()), Code.ILLEGAL_WRITESET),
        ("writes where nothing is defined", draft(results=unknown.SerializeToString()), Code.INVALID_CHAINCODE),
        ("invoked without definition", draft(chaincode="ghost"), Code.INVALID_CHAINCODE),
        ("invoked without definition, no writes", draft(chaincode="ghost", results=b""), Code.INVALID_CHAINCODE),
        ("lifecycle without writes", draft(chaincode="_lifecycle", results=b""), Code.VALID),
        ("lscc", draft(chaincode="lscc"), Code.INVALID_CHAINCODE),
        ("qscc", draft(chaincode="qscc", results=b""), Code.INVALID_CHAINCODE),
        ("one peer three times", draft(endorsers=(CORE, CORE, CORE)), _POLICY),
        ("a collection twice", draft(results=collection("shared", "shared"), endorsers=ALL), Code.VALID),
        ("collection of nobody", draft(results=collection("_implicit_org_OtherMSP"), endorsers=ALL), _POLICY),
    ]


def kv(key: str, namespace: str = "script") -> bytes:
    """A read-write set with one write."""
    content = kv_rwset_pb2.KVRWSet(writes=[kv_rwset_pb2.KVWrite(key=key, value=b"1")]).SerializeToString()
    message = rwset_pb2.TxReadWriteSet()
    message.ns_rwset.add(namespace=namespace, rwset=content)
    return message.SerializeToString()


def collection(*names: str) -> bytes:
    """A read-write set with one private write, by its hashes, in an entry for each of the names."""
    write = kv_rwset_pb2.KVWriteHash(key_hash=sha256(b"k").digest(), value_hash=sha256(b"v").digest())
    hashed = kv_rwset_pb2.HashedRWSet(hashed_writes=[write]).SerializeToString()
    message = rwset_pb2.TxReadWriteSet()
    space = message.ns_rwset.add(namespace="script")
    for name in names:
        space.collection_hashed_rwset.add(
            collection_name=name, hashed_rwset=hashed, pvt_rwset_hash=sha256(b"").digest()
        )
    return message.SerializeToString()
