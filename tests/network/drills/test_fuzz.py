"""More than ten thousand broken requests against a running network: it answers each one and nothing changes.

Half of the changed messages are signed anew by their sender, so that they reach what lies behind the signature check.
A failure names the seed's number; the same number makes the same request again."""

import base64
import hashlib
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import proposal_pb2, transaction_pb2

from tests.network.drills.load import VALID, height
from tests.network.drills.mutation import BEGIN, END, mutated
from tests.network.drills.process import Process, verified
from tests.network.embedded.wire import CHANNEL, Client, blocks_from

SEED = "fuzz"
OPEN = 60
WORKERS = 12
# A wait for what never comes is a proper answer to a request that asks for it; nobody stays longer than this.
WAIT_SECONDS = 0.25
ANSWER_SECONDS = 20.0
SUCCESS = common_pb2.Status.SUCCESS

# A call with the request's bytes: the answers' bytes, or RpcError.
Call = Callable[[bytes], list[bytes]]


@dataclass(frozen=True, slots=True)
class Target:
    """A method, the good requests for it as (content, signature) pairs, how a request is made of these, and how many
    changed ones it gets."""

    method: str
    kind: str
    wrap: Callable[[bytes, bytes], bytes]
    contents: list[bytes]
    count: int
    waits: bool = False


@dataclass(slots=True)
class Ground:
    """A running network with something on its ledger, and endorsed transactions that nobody has submitted: the payload
    of each by its id."""

    process: Process
    core: Client
    bank: Client
    targets: list[Target]
    open: dict[str, bytes]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    home = tmp_path_factory.mktemp("fuzz") / "home"
    with Process.started(home) as process:
        core, bank = Client(home, "core"), Client(home, "bank")
        committed = [core.propose(*call) for call in (("put", "a", "1"), ("increment", "b"), ("emit", "said", "c"))]
        hidden = core.propose("keep_private", "_implicit_org_CoreMSP", "secret", transient={"value": b"hidden"})
        waiting = [core.propose("put", f"open-{number}", "1") for number in range(OPEN)]
        envelopes = [core.sign_envelope(core.endorse(proposal)) for proposal in (*committed, hidden, *waiting)]
        for proposal, envelope in zip((*committed, hidden), envelopes, strict=False):
            core.submit(envelope)
            assert core.status(proposal.transaction_id)[0] == VALID
        proposals = [proposal.signed.proposal_bytes for proposal in (*committed, hidden, waiting[0])]
        proposals += fresh_proposals(core)
        payloads = [envelope.payload for envelope in envelopes]
        targets = targets_of(core, proposals, payloads, committed[0].transaction_id)
        unsubmitted = dict(zip((each.transaction_id for each in waiting), payloads[-OPEN:], strict=True))
        yield Ground(process, core, bank, targets, unsubmitted)
        core.close()
        bank.close()


def fresh_proposals(core: Client) -> list[bytes]:
    """Proposals that no transaction was made of, of each kind that the endorser treats differently."""
    hash_of_nothing = "0" * 32
    made = [
        core.propose("get", "a"),
        core.propose("put", "never", "submitted", transient={"x": b"y"}),
        core.propose("get_private", "shared", "secret"),
        core.propose("increment", "b", chaincode="both"),
        core.propose("GetBlockByNumber", CHANNEL, "1", chaincode="qscc"),
        core.propose("GetBlockByHash", CHANNEL, hash_of_nothing, chaincode="qscc"),
        core.propose("GetTransactionByID", CHANNEL, "none", chaincode="qscc"),
        core.propose("GetConfigBlock", CHANNEL, chaincode="cscc"),
        core.propose("QueryChaincodeDefinition", "\n\x05basic", chaincode="_lifecycle"),
        core.propose("CheckCommitReadiness", "\x08\x02\x12\x05basic", chaincode="_lifecycle"),
        core.propose("ApproveChaincodeDefinitionForMyOrg", "\x08\x02\x12\x05basic", chaincode="_lifecycle"),
        core.propose("GetChannels", chaincode="cscc", channel=""),
    ]
    return [proposal.signed.proposal_bytes for proposal in made]


def targets_of(core: Client, proposals: list[bytes], payloads: list[bytes], known: str) -> list[Target]:
    """Every method of the network that reads what a client made."""

    def signed_proposal(content: bytes, signature: bytes) -> proposal_pb2.SignedProposal:
        return proposal_pb2.SignedProposal(proposal_bytes=content, signature=signature)

    def envelope(content: bytes, signature: bytes) -> common_pb2.Envelope:
        return common_pb2.Envelope(payload=content, signature=signature)

    seeks = [
        core.seek(blocks_from(0, 1)).payload,
        core.seek(blocks_from(2, 1 << 62, behavior=ab_pb2.SeekInfo.FAIL_IF_NOT_READY)).payload,
        core.seek(blocks_from(1, 3, content_type=ab_pb2.SeekInfo.HEADER_WITH_SIG)).payload,
        core.seek(
            ab_pb2.SeekInfo(
                start=ab_pb2.SeekPosition(oldest=ab_pb2.SeekOldest()),
                stop=ab_pb2.SeekPosition(newest=ab_pb2.SeekNewest()),
            )
        ).payload,
    ]
    statuses = [core.status_request(known).request, core.status_request("00" * 32).request]
    events = [
        gateway_pb2.ChaincodeEventsRequest(
            channel_id=CHANNEL,
            chaincode_id="basic",
            identity=core.person.serialized,
            start_position=ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=1)),
            after_transaction_id=after,
        ).SerializeToString()
        for after in ("", known)
    ]

    def evaluate(content: bytes, signature: bytes) -> bytes:
        request = gateway_pb2.EvaluateRequest(
            proposed_transaction=signed_proposal(content, signature), channel_id=CHANNEL
        )
        return request.SerializeToString()

    def endorse(content: bytes, signature: bytes) -> bytes:
        request = gateway_pb2.EndorseRequest(
            proposed_transaction=signed_proposal(content, signature), channel_id=CHANNEL
        )
        return request.SerializeToString()

    def submit(content: bytes, signature: bytes) -> bytes:
        request = gateway_pb2.SubmitRequest(prepared_transaction=envelope(content, signature), channel_id=CHANNEL)
        return request.SerializeToString()

    def commit_status(content: bytes, signature: bytes) -> bytes:
        return gateway_pb2.SignedCommitStatusRequest(request=content, signature=signature).SerializeToString()

    def chaincode_events(content: bytes, signature: bytes) -> bytes:
        return gateway_pb2.SignedChaincodeEventsRequest(request=content, signature=signature).SerializeToString()

    def process(content: bytes, signature: bytes) -> bytes:
        return signed_proposal(content, signature).SerializeToString()

    def enveloped(content: bytes, signature: bytes) -> bytes:
        return envelope(content, signature).SerializeToString()

    return [
        Target("/gateway.Gateway/Evaluate", "unary_unary", evaluate, proposals, 1800),
        Target("/gateway.Gateway/Endorse", "unary_unary", endorse, proposals, 1800),
        Target("/protos.Endorser/ProcessProposal", "unary_unary", process, proposals, 1500),
        Target("/gateway.Gateway/Submit", "unary_unary", submit, payloads, 1500),
        Target("/orderer.AtomicBroadcast/Broadcast", "stream_stream", enveloped, payloads, 1500),
        Target("/gateway.Gateway/CommitStatus", "unary_unary", commit_status, statuses, 1000, waits=True),
        Target("/gateway.Gateway/ChaincodeEvents", "unary_stream", chaincode_events, events, 500, waits=True),
        Target("/protos.Deliver/Deliver", "stream_stream", enveloped, seeks, 300, waits=True),
        Target("/protos.Deliver/DeliverFiltered", "stream_stream", enveloped, seeks, 300, waits=True),
        Target("/protos.Deliver/DeliverWithPrivateData", "stream_stream", enveloped, seeks, 300, waits=True),
        Target("/orderer.AtomicBroadcast/Deliver", "stream_stream", enveloped, seeks, 300, waits=True),
    ]


def caller(link: grpc.Channel, target: Target) -> Call:
    """A call of bytes; answers end with the stream, or when nothing has come for a while."""
    seconds = WAIT_SECONDS if target.waits else ANSWER_SECONDS
    method: Any = getattr(link, target.kind)(target.method, None, None)
    if target.kind == "unary_unary":
        return lambda request: [method(request, timeout=seconds)]
    if target.kind == "unary_stream":
        return lambda request: list(method(request, timeout=seconds))
    return lambda request: list(method(iter([request]), timeout=seconds))


def changed_requests(client: Client, target: Target) -> Iterator[tuple[str, bytes]]:
    """The seeded requests of a target, each with the name that says how to make it again."""
    for number in range(target.count):
        name = f"{SEED} {target.method} {number}"
        chance = random.Random(name)
        content, other = chance.choice(target.contents), chance.choice(target.contents)
        way = chance.random()
        if way < 0.5:
            content = mutated(chance, content, other)
            yield name, target.wrap(content, client.person.sign(content))
        elif way < 0.7:
            yield name, target.wrap(mutated(chance, content, other), client.person.sign(content))
        else:
            request = target.wrap(content, client.person.sign(content))
            yield name, mutated(chance, request, target.wrap(other, b""))


def test_broken_requests_are_answered_and_change_nothing(ground: Ground) -> None:
    home = ground.process.home
    before, first = state(home), height(ground.core)
    answers: Counter[str] = Counter()
    begin = time.monotonic()
    accepted = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        for target in ground.targets:
            for organisation in (ground.core, ground.bank):
                call = caller(organisation.link, target)
                half = slice(0 if organisation is ground.core else 1, None, 2)
                requests = list(changed_requests(ground.core, target))[half]
                outcomes = pool.map(partial(ask, call), [request for _, request in requests])
                for (name, _), outcome in zip(requests, outcomes, strict=True):
                    assert outcome.startswith(PROPER), f"{name}: {outcome}"
                    answers[f"{target.method.rpartition('/')[2]} {outcome.partition(':')[0]}"] += 1
                    accepted += is_accepted(target, outcome)
            assert ground.process.is_alive, f"the network has ended: {ground.process.log}"
    seconds = time.monotonic() - begin
    print(f"\n{answers.total()} requests in {seconds:.0f} s, {accepted} accepted for ordering: {dict(answers)}")
    assert answers.total() >= 10_000
    settle(ground)
    check_growth(ground, first, accepted)
    assert "Traceback" not in ground.process.log
    assert changes(before, state(home)) == set()
    assert verified(home)["height"] == height(ground.core)


def test_every_bit_of_a_certificate_may_be_wrong(ground: Ground) -> None:
    """The creator's certificate is read before anything is known of him; all else about these requests is right.

    The endorser sees each bit flipped once, every other method one bit of each byte."""
    home, client = ground.process.home, ground.core
    before, chance = state(home), random.Random(SEED)
    identity = identities_pb2.SerializedIdentity.FromString(client.person.serialized)
    inside = x509.load_pem_x509_certificate(identity.id_bytes).public_bytes(Encoding.DER)
    every_bit = [(place, bit) for place in range(len(inside)) for bit in range(8)]
    one_bit = [(place, chance.randrange(8)) for place in range(len(inside))]
    for target in ground.targets:
        call = caller(client.link, target)
        bits = every_bit if target.method.endswith("/ProcessProposal") else one_bit
        requests = [request_of(client, target, flipped(identity.mspid, inside, *bit)) for bit in bits]
        with ThreadPoolExecutor(WORKERS) as pool:
            for bit, outcome in zip(bits, pool.map(partial(ask, call), requests), strict=True):
                assert outcome.startswith(PROPER), f"{target.method}, bit {bit} of the certificate: {outcome}"
    assert "Traceback" not in ground.process.log
    settle(ground)
    assert changes(before, state(home)) == set()


def flipped(msp_id: str, certificate: bytes, place: int, bit: int) -> bytes:
    """An identity whose certificate (DER) has one bit wrong."""
    wrong = certificate[:place] + bytes((certificate[place] ^ 1 << bit,)) + certificate[place + 1 :]
    pem = BEGIN + base64.encodebytes(wrong) + END
    return identities_pb2.SerializedIdentity(mspid=msp_id, id_bytes=pem).SerializeToString()


def request_of(client: Client, target: Target, creator: bytes) -> bytes:
    """A request that is right in everything but who it says it is from, signed with that one's key."""
    content = target.contents[0]
    if target.wrap.__name__ in ("evaluate", "endorse", "process"):
        content = client.propose("get", "a", creator=creator).signed.proposal_bytes
    else:
        content = content.replace(client.person.serialized, creator, 1)
    return target.wrap(content, client.person.sign(content))


# What a request may come to. A fault inside the server would be UNKNOWN with a text of gRPC's own.
PROPER = (
    "OK",
    "INVALID_ARGUMENT",
    "FAILED_PRECONDITION",
    "UNAVAILABLE: failed to ",
    "UNAVAILABLE: insufficient number of orderers ",
    "ABORTED",
    "PERMISSION_DENIED",
    "DEADLINE_EXCEEDED",
    "INTERNAL: grpc: error unmarshalling request: proto: cannot parse invalid wire-format data",
    "UNKNOWN: evaluate call to endorser returned error: ",
    # protos.Endorser answers every refusal before the simulation like this.
    "UNKNOWN: access denied",
    "UNKNOWN: error validating proposal: ",
    "UNKNOWN: error unmarshalling ",
    "UNKNOWN: failed parsing ",
    "UNKNOWN: proposal client identity expired",
    "UNKNOWN: request unauthorized due to incorrect timestamp ",
    "UNKNOWN: duplicate transaction found ",
    "UNKNOWN: Failed evaluating policy on signed data ",
    "UNKNOWN: ChaincodeHeaderExtension.",
    "UNKNOWN: chaincode in",
)


def ask(call: Call, request: bytes) -> str:
    """How a call ended: OK with the last answer, or its code and text."""
    try:
        answers = call(request)
    except grpc.RpcError as error:
        failed: Any = error
        return f"{failed.code().name}: {failed.details()}"
    return f"OK: {answers[-1].hex() if answers and len(answers[-1]) < 100 else ''}"


def is_accepted(target: Target, outcome: str) -> bool:
    """Whether the request was one to order a transaction, and was taken."""
    if target.method.endswith("/Submit"):
        return outcome.startswith("OK")
    success = ab_pb2.BroadcastResponse(status=SUCCESS).SerializeToString().hex()
    return target.method.endswith("/Broadcast") and outcome == f"OK: {success}"


def settle(ground: Ground) -> None:
    """The network answers everybody as ever, and what stood in the queue is in blocks."""
    for client in (ground.core, ground.bank):
        for _ in range(20):
            assert client.transact("put", "settled", "yes")[1] == VALID
        assert client.evaluate(client.propose("get", "settled")).payload == b"yes"


def check_growth(ground: Ground, first: int, accepted: int) -> None:
    """Only accepted envelopes are in the blocks, and of these only the one that its client could have submitted."""
    seek = ground.core.seek(blocks_from(first, height(ground.core) - 1))
    *blocks, last = ground.core.deliver.DeliverFiltered(iter([seek]), timeout=30)
    assert last.status == SUCCESS
    transactions = [entry for answer in blocks for entry in answer.filtered_block.filtered_transactions]
    ours = 2 * 20
    assert len(transactions) <= accepted + ours
    valid = [entry.txid for entry in transactions if entry.tx_validation_code == VALID]
    opened = [transaction_id for transaction_id in valid if transaction_id in ground.open]
    assert len(valid) - len(opened) == ours, "a changed transaction was found valid"
    assert len(opened) == len(set(opened)), "a transaction was found valid twice"
    for transaction_id in opened:
        assert parts_of(stored_payload(ground.core, transaction_id)) == parts_of(ground.open[transaction_id])
    print(f"{len(opened)} of {OPEN} unsubmitted transactions were submitted as they were")


def stored_payload(client: Client, transaction_id: str) -> bytes:
    """The payload of a transaction on the ledger."""
    answer = client.evaluate(client.propose("GetTransactionByID", CHANNEL, transaction_id, chaincode="qscc"))
    payload: bytes = transaction_pb2.ProcessedTransaction.FromString(answer.payload).transactionEnvelope.payload
    return payload


def parts_of(payload: bytes) -> tuple[bytes, ...]:
    """What a transaction says. What a client adds to it in fields that nobody reads is his affair."""
    read = common_pb2.Payload.FromString(payload)
    (action,) = transaction_pb2.Transaction.FromString(read.data).actions
    endorsed = transaction_pb2.ChaincodeActionPayload.FromString(action.payload).action.proposal_response_payload
    return read.header.channel_header, read.header.signature_header, endorsed


State = dict[tuple[object, ...], str]


def state(home: Path) -> State:
    """Everything that the chain's state consists of, by key: public, hashed and private values."""
    tables = {
        "state": "namespace, key",
        "hashed": "namespace, collection, key_hash",
        "private": "msp_id, namespace, collection, key",
    }
    found: State = {}
    with closing(sqlite3.connect(f"{(home / 'ledger.sqlite').as_uri()}?mode=ro", uri=True)) as connection:
        for table, key in tables.items():
            value = "value_hash" if table == "hashed" else "value"
            for *parts, data, version in connection.execute(f"SELECT {key}, {value}, version FROM {table}"):
                found[(table, *parts)] = f"{version} {hashlib.sha256(data).hexdigest()}"
    return found


def changes(before: State, after: State) -> set[tuple[object, ...]]:
    """The keys that differ, without those that the tests' own transactions write: the settled one, and what
    transactions write that a changed request happened to submit as they were."""
    differing = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    opened = {("state", "basic", b"open-%d" % number) for number in range(OPEN)}
    return differing - opened - {("state", "basic", b"settled")}
