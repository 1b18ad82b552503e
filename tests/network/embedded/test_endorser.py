"""The endorser: filters, unpacking, validation, access, the form of the answer, and the interest."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256

import pytest
from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import chaincode_event_pb2, chaincode_pb2, proposal_pb2, proposal_response_pb2

from network.embedded.endorser import EndorserError, build_interest
from network.embedded.host import package_id
from network.embedded.proposal import go_duration, rfc3339
from network.embedded.simulator import SimulationResult
from network.topology import ChaincodeSpec
from tests.network.embedded.ground import LEDGER, OTHER, Ground, Parts
from tests.network.embedded.service import ChaincodeMessage, Service, Session, answering

WIRE = "proto: cannot parse invalid wire-format data"
BAD = b"\xff\xff"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("home"), (LEDGER, OTHER, replace(OTHER, name="absent")))
    made.define(LEDGER, OTHER)
    yield made
    made.close()


def refused(ground: Ground, signed: bytes, at: str = "core") -> EndorserError:
    with pytest.raises(EndorserError) as caught:
        ground.endorser.process(ground.peers[at], signed)
    return caught.value


def action_of(response: proposal_response_pb2.ProposalResponse) -> proposal_pb2.ChaincodeAction:
    payload = proposal_response_pb2.ProposalResponsePayload.FromString(response.payload)
    return proposal_pb2.ChaincodeAction.FromString(payload.extension)


def wrap(header: common_pb2.Header, payload: bytes) -> bytes:
    data = proposal_pb2.Proposal(header=header.SerializeToString(), payload=payload).SerializeToString()
    return proposal_pb2.SignedProposal(proposal_bytes=data, signature=b"s").SerializeToString()


# --- A.3 ---


def test_unreadable_proposals_are_refused_by_the_filters(ground: Ground) -> None:
    parts = ground.propose("ledger", "empty")
    good = parts.header()
    signature = good.signature_header
    rows = {
        b"\x0a\x02" + BAD: f"failed parsing proposal: error unmarshalling Proposal: {WIRE}",
        wrap_raw(BAD): f"failed parsing header: error unmarshalling Header: {WIRE}",
        wrap(common_pb2.Header(signature_header=BAD), b""): (
            f"failed parsing signature header: error unmarshalling SignatureHeader: {WIRE}"
        ),
        wrap(common_pb2.Header(signature_header=signature, channel_header=BAD), b""): (
            f"failed parsing channel header: error unmarshalling ChannelHeader: {WIRE}"
        ),
    }
    for signed, text in rows.items():
        error = refused(ground, signed)
        assert (str(error), error.has_response) == (text, False)


def wrap_raw(header: bytes) -> bytes:
    data = proposal_pb2.Proposal(header=header).SerializeToString()
    return proposal_pb2.SignedProposal(proposal_bytes=data).SerializeToString()


def test_expired_identity_is_refused_before_the_clock_is_looked_at(ground: Ground) -> None:
    parts = ground.propose("ledger", "empty")
    before = ground.now_ns
    try:
        ground.now_ns += 100 * 366 * 86_400 * 10**9
        error = refused(ground, parts.signed())
    finally:
        ground.now_ns = before
    assert (str(error), error.has_response) == ("proposal client identity expired", False)


@pytest.mark.parametrize("offset", [-61, 61])
def test_time_outside_the_window_is_refused(ground: Ground, offset: int) -> None:
    parts = ground.propose("ledger", "empty")
    parts.timestamp_ns = ground.now_ns + offset * 10**9
    error = refused(ground, parts.signed())
    expected = (
        f"request unauthorized due to incorrect timestamp {rfc3339(parts.timestamp_ns // 10**9)}, "
        f"peer time {rfc3339(ground.now_ns // 10**9)}, peer.authentication.timewindow 1m0s"
    )
    assert (str(error), error.has_response) == (expected, False)


@pytest.mark.parametrize("offset", [-60, 60])
def test_time_at_the_edge_of_the_window_passes(ground: Ground, offset: int) -> None:
    parts = ground.propose("ledger", "empty")
    parts.timestamp_ns = ground.now_ns + offset * 10**9
    assert ground.endorse(parts).response.status == 200


def test_missing_timestamp_is_read_as_1970(ground: Ground) -> None:
    parts = ground.propose("ledger", "empty")
    parts.timestamp_ns = None
    assert "incorrect timestamp 1970-01-01T00:00:00Z, peer time " in str(refused(ground, parts.signed()))


def test_a_proposal_kept_from_an_earlier_call_is_judged_by_the_clock_again(ground: Ground) -> None:
    signed = ground.propose("ledger", "empty").signed()
    ground.endorser.process(ground.peers["core"], signed)
    ground.now_ns += 120 * 10**9
    try:
        assert "request unauthorized" in str(refused(ground, signed))
    finally:
        ground.now_ns -= 120 * 10**9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_868_799, "2000-02-29T23:59:59Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (253_402_300_800, "10000-01-01T00:00:00Z"),
        (-62_135_596_801, "0000-12-31T23:59:59Z"),
    ],
)
def test_times_are_printed_as_go_prints_them(seconds: int, text: str) -> None:
    assert rfc3339(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(60, "1m0s"), (900, "15m0s"), (3600, "1h0m0s"), (30, "30s"), (1.5, "1.5s"), (0, "0s")]
)
def test_durations_are_printed_as_go_prints_them(seconds: float, text: str) -> None:
    assert go_duration(round(seconds * 10**9)) == text


# --- B.1 ---


def no_chaincode_id(parts: Parts) -> None:
    parts.chaincode = None


def empty_name(parts: Parts) -> None:
    parts.chaincode = ""


def no_spec(parts: Parts) -> None:
    parts.spec.ClearField("chaincode_spec")


def no_input(parts: Parts) -> None:
    parts.spec.chaincode_spec.ClearField("input")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (no_chaincode_id, "ChaincodeHeaderExtension.ChaincodeId is nil"),
        (empty_name, "ChaincodeHeaderExtension.ChaincodeId.Name is empty"),
        (no_spec, "chaincode invocation spec did not contain chaincode spec"),
        (no_input, "chaincode input did not contain any input"),
    ],
)
def test_incomplete_proposals_are_refused_with_a_response(
    ground: Ground, change: Callable[[Parts], None], text: str
) -> None:
    parts = ground.propose("ledger", "empty")
    change(parts)
    if change is empty_name:
        header = parts.header()
        channel_header = common_pb2.ChannelHeader.FromString(header.channel_header)
        # A chaincode id that is there and empty: a tag and no content.
        channel_header.extension = b"\x12\x00"
        header.channel_header = channel_header.SerializeToString()
        signed = wrap(header, b"")
    else:
        signed = parts.signed()
    error = refused(ground, signed)
    assert str(error) == text
    assert error.response is not None
    assert (error.response.response.status, error.response.response.message) == (500, text)


def test_unreadable_inner_parts_are_named(ground: Ground) -> None:
    header = ground.propose("ledger", "empty").header()
    spoiled = common_pb2.ChannelHeader.FromString(header.channel_header)
    spoiled.extension = BAD
    other = common_pb2.Header(channel_header=spoiled.SerializeToString(), signature_header=header.signature_header)
    payload = proposal_pb2.ChaincodeProposalPayload(input=BAD).SerializeToString()
    rows = {
        wrap(other, b""): f"error unmarshalling ChaincodeHeaderExtension: {WIRE}",
        wrap(header, BAD): f"error unmarshalling ChaincodeProposalPayload: {WIRE}",
        wrap(header, payload): f"error unmarshalling ChaincodeInvocationSpec: {WIRE}",
    }
    for signed, text in rows.items():
        error = refused(ground, signed)
        assert (str(error), error.has_response) == (text, True)


def test_the_header_extension_names_the_chaincode_that_runs(ground: Ground) -> None:
    parts = ground.propose("other", "put", "named", "x")
    parts.spec.chaincode_spec.chaincode_id.name = "ledger"
    assert action_of(ground.endorse(parts)).chaincode_id.name == "other"


def test_the_proposal_hash_leaves_transient_data_out(ground: Ground) -> None:
    parts = ground.propose("ledger", "put", "k", "v", transient={"secret": b"s"})
    payload = proposal_response_pb2.ProposalResponsePayload.FromString(ground.endorse(parts).payload)
    public = proposal_pb2.ChaincodeProposalPayload(input=parts.spec.SerializeToString()).SerializeToString()
    header = parts.header()
    assert payload.proposal_hash == sha256(header.channel_header + header.signature_header + public).digest()


# --- B.2 ---


def wrong_type(parts: Parts) -> None:
    parts.kind = common_pb2.MESSAGE


def unknown_type(parts: Parts) -> None:
    parts.kind = 99


def epoch(parts: Parts) -> None:
    parts.epoch = 1


def no_nonce(parts: Parts) -> None:
    parts.nonce = b""


def no_creator(parts: Parts) -> None:
    parts.person = replace(parts.person, serialized=b"")


def wrong_id(parts: Parts) -> None:
    parts.transaction_id = "a" * 64


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (wrong_type, "invalid header type MESSAGE"),
        (unknown_type, "invalid header type 99"),
        (epoch, "epoch is non-zero"),
        (no_nonce, "nonce is empty"),
        (no_creator, "creator is empty"),
    ],
)
def test_validation_rows(ground: Ground, change: Callable[[Parts], None], text: str) -> None:
    parts = ground.propose("ledger", "empty")
    change(parts)
    error = refused(ground, parts.signed())
    assert str(error) == f"error validating proposal: {text}"
    assert error.response is not None and error.response.response.message == str(error)


def test_validation_goes_in_fabrics_order(ground: Ground) -> None:
    """Each fault is mended in turn, and the next one shows."""
    parts = ground.propose("ledger", "empty")
    good = replace(parts)
    for change in (wrong_type, epoch, no_nonce, no_creator, wrong_id):
        change(parts)
    steps = [
        ("kind", "invalid header type MESSAGE"),
        ("epoch", "epoch is non-zero"),
        ("nonce", "nonce is empty"),
        ("person", "creator is empty"),
        ("transaction_id", "incorrectly computed txid"),
    ]
    for name, text in steps:
        assert str(refused(ground, parts.signed(b""))).startswith(f"error validating proposal: {text}")
        setattr(parts, name, getattr(good, name))
    assert str(refused(ground, parts.signed(b""))) == "error validating proposal: empty signature bytes"


def test_wrong_transaction_id_names_both(ground: Ground) -> None:
    parts = ground.propose("ledger", "empty")
    right = parts.transaction_id
    parts.transaction_id = "ab"
    text = f"error validating proposal: incorrectly computed txid 'ab' -- expected '{right}'"
    assert str(refused(ground, parts.signed())) == text


def test_config_type_passes(ground: Ground) -> None:
    parts = ground.propose("ledger", "empty")
    parts.kind = common_pb2.CONFIG
    assert ground.endorse(parts).response.status == 200


def test_unknown_creator_is_malformed(ground: Ground) -> None:
    parts = ground.propose("ledger", "empty")
    for serialized in (
        identities_pb2.SerializedIdentity(mspid="NobodyMSP", id_bytes=b"x").SerializeToString(),
        b"no identity",
    ):
        parts.person = replace(parts.person, serialized=serialized)
        parts.transaction_id = sha256(parts.nonce + serialized).hexdigest()
        assert str(refused(ground, parts.signed())) == (
            "error validating proposal: access denied: channel [scf] creator org unknown, creator is malformed"
        )


def high_s(signature: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, ORDER - s)


def test_bad_and_high_s_signatures_name_the_organisation(ground: Ground) -> None:
    parts = ground.propose("ledger", "empty", by="bank")
    good = parts.person.signer(sha256(parts.proposal()).digest())
    other = ground.person("core").signer(sha256(parts.proposal()).digest())
    for signature in (high_s(good), other, b"nonsense"):
        assert str(refused(ground, parts.signed(signature))) == (
            "error validating proposal: access denied: channel [scf] creator org [BankMSP]"
        )


def test_unknown_channel_is_a_response_and_no_error(ground: Ground) -> None:
    response = ground.endorse(ground.propose("ledger", "empty", channel="elsewhere"))
    assert (response.response.status, response.response.message) == (500, "channel 'elsewhere' not found")
    assert not response.payload


def test_duplicate_transaction_is_refused(ground: Ground) -> None:
    parts = ground.propose("ledger", "put", "once", "1")
    assert ground.submit(parts) == [0]
    creator = parts.person.serialized.hex()
    assert str(refused(ground, parts.signed())) == (
        f"duplicate transaction found [{parts.transaction_id}]. Creator [{creator}]"
    )


def test_only_writers_may_propose(ground: Ground) -> None:
    parts = ground.propose("ledger", "empty")
    peer = ground.peers["bank"]
    parts.person = replace(parts.person, serialized=peer.serialized, signer=peer.signer)
    parts.transaction_id = sha256(parts.nonce + peer.serialized).hexdigest()
    error = refused(ground, parts.signed())
    assert str(error) == (
        "Failed evaluating policy on signed data during check policy on channel [scf] with policy "
        "[/Channel/Application/Writers]: [implicit policy evaluation failed - 0 sub-policies were satisfied, but this "
        "policy requires 1 of the 'Writers' sub-policies to be satisfied]"
    )
    assert error.has_response


# --- B.6 ---


def test_success_is_endorsed_with_the_peers_own_key(ground: Ground) -> None:
    parts = ground.propose("ledger", "put", "k", "v")
    responses = {name: ground.endorse(parts, name) for name in ground.peers}
    assert len({response.payload for response in responses.values()}) == 1
    for name, response in responses.items():
        peer = ground.peers[name]
        assert response.version == 1
        assert response.endorsement.endorser == peer.serialized
        identity = ground.msps.identity(peer.serialized)
        assert ground.msps.verify(identity, response.payload + peer.serialized, response.endorsement.signature)
    action = action_of(responses["core"])
    assert (action.chaincode_id.name, action.chaincode_id.version) == ("ledger", "1.0")
    assert action.response == responses["core"].response
    assert action.response.payload == b"stored"


def test_application_calls_read_the_sequence_of_their_definition(ground: Ground) -> None:
    parts = ground.propose("ledger", "call", "other", "", "put", "k", "v")
    results = rwset_pb2.TxReadWriteSet.FromString(action_of(ground.endorse(parts)).results)
    sets = {each.namespace: each.rwset for each in results.ns_rwset}
    from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2

    reads = [read.key for read in kv_rwset_pb2.KVRWSet.FromString(sets["_lifecycle"]).reads]
    assert reads == ["namespaces/fields/ledger/Sequence", "namespaces/fields/other/Sequence"]
    assert set(sets) == {"_lifecycle", "ledger", "other"}


def test_event_is_the_last_one_with_the_hosts_names(ground: Ground) -> None:
    parts = ground.propose("ledger", "announce", "second")
    event = chaincode_event_pb2.ChaincodeEvent.FromString(action_of(ground.endorse(parts)).events)
    assert (event.chaincode_id, event.tx_id, event.event_name, event.payload) == (
        "ledger",
        parts.transaction_id,
        "second",
        b"payload",
    )


def test_an_event_of_a_called_chaincode_is_dropped(ground: Ground) -> None:
    parts = ground.propose("ledger", "call", "other", "", "announce", "inner")
    assert action_of(ground.endorse(parts)).events == b""


def test_refusal_below_500_is_a_response_only(ground: Ground) -> None:
    response = ground.endorse(ground.propose("ledger", "refuse", "409", "CONFLICT taken: it is"))
    assert (response.response.status, response.response.message) == (409, "CONFLICT taken: it is")
    assert not response.payload and not response.HasField("endorsement") and not response.HasField("interest")


def test_failure_from_500_has_a_payload_and_an_interest_but_no_endorsement(ground: Ground) -> None:
    response = ground.endorse(ground.propose("ledger", "refuse", "500", "INTERNAL x: y"))
    assert (response.response.status, response.response.message) == (500, "INTERNAL x: y")
    assert response.payload and response.HasField("interest") and not response.HasField("endorsement")
    assert action_of(response).events == b""


def test_unknown_chaincode(ground: Ground) -> None:
    response = ground.endorse(ground.propose("nothing", "x"))
    assert (response.response.status, response.payload) == (500, b"")
    assert response.response.message == (
        "make sure the chaincode nothing has been successfully defined on channel scf and try again: "
        "chaincode nothing not found"
    )


def test_system_chaincodes_have_their_own_version_and_no_interest(ground: Ground) -> None:
    parts = ground.parts("qscc", ("GetChainInfo", "scf"), ground.person("core"))
    response = ground.endorse(parts)
    assert action_of(response).chaincode_id.version == "syscc"
    assert response.HasField("endorsement") and not response.HasField("interest")
    assert action_of(response).results == b""


def test_calls_without_channel_are_answered_without_endorsement(ground: Ground) -> None:
    parts = ground.propose("cscc", "GetChannels", channel="")
    response = ground.endorse(parts)
    assert response.response.status == 200
    assert not response.payload and not response.HasField("endorsement")
    foreign = ground.propose("cscc", "GetChannels", channel="", by="bank")
    assert str(refused(ground, foreign.signed())) == (
        "error validating proposal: access denied: channel [] creator org unknown, creator is malformed"
    )
    application = ground.endorse(ground.propose("ledger", "empty", channel=""))
    assert application.response.message == (
        "make sure the chaincode ledger has been successfully defined on channel  and try again: "
        "could not get channel config for channel ''"
    )


def test_organisations_do_not_share_a_programs_variables(ground: Ground) -> None:
    first = [ground.endorse(ground.propose("ledger", "count"), name).response.payload for name in ground.peers]
    assert len(set(first)) == 1


def test_one_snapshot_serves_all_peers_of_a_call(ground: Ground) -> None:
    parts = ground.propose("ledger", "get", "snapshot")
    with ground.ledger.snapshot() as snapshot:
        before = ground.endorser.process(ground.peers["core"], parts.signed(), snapshot)
        assert ground.submit(ground.propose("ledger", "put", "snapshot", "new")) == [0]
        after = ground.endorser.process(ground.peers["bank"], parts.signed(), snapshot)
    assert before.payload == after.payload
    assert ground.endorse(ground.propose("ledger", "get", "snapshot")).response.payload == b"new"


# --- answers that only a foreign shim gives ---

RAW = ChaincodeSpec(
    name="raw",
    version="1",
    services=dict.fromkeys(("core", "warehouse", "logistics", "bank"), "127.0.0.1:1"),
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A channel whose one chaincode does what its first argument says."""

    def answer(session: Session, message: ChaincodeMessage) -> None:
        what, *rest = chaincode_pb2.ChaincodeInput.FromString(message.payload).args
        if what == b"status":
            session.complete(message, int(rest[0]), "text", b"payload")
        elif what == b"event":
            response = proposal_response_pb2.Response(status=int(rest[0]))
            event = chaincode_event_pb2.ChaincodeEvent(chaincode_id="forged", tx_id="forged", event_name="happened")
            session.outgoing.put(
                ChaincodeMessage(
                    type=ChaincodeMessage.COMPLETED,
                    payload=response.SerializeToString(),
                    txid=message.txid,
                    channel_id=message.channel_id,
                    chaincode_event=event,
                )
            )
        elif what == b"error":
            session.send(ChaincodeMessage.ERROR, b"it broke", message)
        elif what == b"garbage":
            session.send(ChaincodeMessage.COMPLETED, BAD, message)
        elif what == b"die":
            session.end()
        # Anything else: no answer at all.

    with Service(answering(package_id(RAW), answer)) as service:
        spec = replace(RAW, services=dict.fromkeys(RAW.services or (), service.address))
        made = Ground(tmp_path_factory.mktemp("raw"), (spec,), timeout_seconds=0.5)
        made.define()
        yield made
        made.close()


@pytest.mark.parametrize("status", [100, 200, 399])
def test_every_status_below_400_is_signed(raw: Ground, status: int) -> None:
    response = raw.endorse(raw.propose("raw", "status", str(status)))
    assert (response.response.status, response.response.payload) == (status, b"payload")
    assert response.HasField("endorsement") and response.HasField("interest")


def test_a_status_of_399_commits(raw: Ground) -> None:
    parts = raw.propose("raw", "status", "399")
    responses = [raw.endorse(parts, name) for name in ("core", "bank", "logistics")]
    assert raw.commit(raw.envelope(parts, responses)) == [0]


def test_an_event_below_400_gets_the_hosts_names_and_one_above_is_dropped(raw: Ground) -> None:
    parts = raw.propose("raw", "event", "399")
    event = chaincode_event_pb2.ChaincodeEvent.FromString(action_of(raw.endorse(parts)).events)
    assert (event.chaincode_id, event.tx_id, event.event_name) == ("raw", parts.transaction_id, "happened")
    assert action_of(raw.endorse(raw.propose("raw", "event", "500"))).events == b""


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("error", "error in simulation: transaction returned with failure: it broke"),
        (
            "garbage",
            f"error in simulation: failed to unmarshal response for transaction {{}}: {WIRE}",
        ),
        (
            "die",
            "error in simulation: failed to execute transaction {}: error sending: chaincode stream terminated",
        ),
        (
            "sleep",
            "error in simulation: failed to execute transaction {}: error sending: "
            "timeout expired while executing transaction",
        ),
    ],
)
def test_host_errors_are_500_without_payload(raw: Ground, function: str, text: str) -> None:
    parts = raw.propose("raw", function)
    response = raw.endorse(parts)
    expected = text.replace("{}", parts.transaction_id)
    assert (response.response.status, response.response.message) == (500, expected)
    assert not response.payload and not response.HasField("interest")


def test_a_lost_stream_is_dialled_again_by_the_next_call(raw: Ground) -> None:
    raw.endorse(raw.propose("raw", "die"))
    assert raw.endorse(raw.propose("raw", "status", "200")).response.status == 200


# --- the interest ---


def interest_of(ground: Ground, *args: str, **extra: object) -> list[tuple[object, ...]]:
    response = ground.endorse(ground.propose("ledger", *args, **extra))
    assert response.response.status == 200, response.response.message
    return [
        (
            call.name,
            tuple(call.collection_names),
            call.no_private_reads,
            len(call.key_policies),
            call.disregard_namespace_policy,
        )
        for call in response.interest.chaincodes
    ]


def test_a_namespace_that_was_only_read_needs_its_policy(ground: Ground) -> None:
    assert interest_of(ground, "get", "k") == [("ledger", (), False, 0, False)]


def test_each_called_chaincode_is_one_call(ground: Ground) -> None:
    assert interest_of(ground, "call", "other", "", "put", "k", "v") == [
        ("ledger", (), False, 0, False),
        ("other", (), False, 0, False),
    ]


def test_a_chaincode_that_touches_nothing_leaves_an_empty_interest(ground: Ground) -> None:
    assert interest_of(ground, "empty") == []


def test_key_policies_replace_the_namespaces_when_they_cover_every_write(ground: Ground) -> None:
    assert ground.submit(ground.propose("ledger", "put", "guarded", "1")) == [0]
    assert ground.submit(ground.propose("ledger", "guard", "guarded", "BankMSP")) == [0]
    assert interest_of(ground, "put", "guarded", "2") == [("ledger", (), False, 1, True)]
    assert interest_of(ground, "move", "guarded", "free") == [("ledger", (), False, 1, False)]


def test_collections_are_calls_of_their_own(ground: Ground) -> None:
    written = interest_of(ground, "secret", "open", "k", transient={"value": b"v"})
    assert written == [("ledger", ("open",), True, 0, False)]
    assert ground.submit(ground.propose("ledger", "secret", "open", "k", transient={"value": b"v"})) == [0]
    assert interest_of(ground, "reveal", "open", "k") == [
        ("ledger", (), False, 0, False),
        ("ledger", ("open",), False, 0, False),
    ]


def test_a_key_policy_that_cannot_be_read_is_an_error_in_simulation() -> None:
    from network.embedded.stream import ExecutionError

    result = SimulationResult(b"", None, (), frozenset(), {("cc", "", "k"): {"VALIDATION_PARAMETER": BAD}})
    with pytest.raises(ExecutionError, match=r"^error in simulation: error unmarshalling SignaturePolicy: "):
        build_interest(result)
