"""Wrong requests that are well made: Fabric's own status and text, at the local peer and at another organisation's.

What one request to one check can show stands in tests/network/embedded; these need other people's certificates, a
second network, a whole round trip, or a very large message. Another organisation's peer is remote to the gateway: gRPC
has dropped its answer and put its own words before the text (embedded-network.md A.2)."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import transaction_pb2
from tallystick.fabric import Identity, signers

from network.identity import key as keys
from network.identity.authority import Authority
from network.identity.identities import establish
from tests.network.drills.load import height, placed
from tests.network.drills.process import Process, verified
from tests.network.embedded.conftest import small_topology
from tests.network.embedded.wire import Client, Failure, Person, Proposal, blocks_from, failure, high_s

Code = grpc.StatusCode
Status = common_pb2.Status
VALID = transaction_pb2.TxValidationCode.VALID
REMOTE = "rpc error: code = Unknown desc = "
NOT_EVALUATED = "failed to evaluate transaction, see attached details for more info"
NOT_ENDORSED = "failed to endorse transaction, see attached details for more info"
TOO_FEW = "failed to collect enough transaction endorsements, see attached details for more info"
NOT_ORDERED = "insufficient number of orderers could successfully process transaction to satisfy quorum requirement"
NOT_A_WRITER = (
    "implicit policy evaluation failed - 0 sub-policies were satisfied, but this policy requires 1 of the 'Writers' "
    "sub-policies to be satisfied: permission denied"
)
NOT_A_READER = (
    "Failed evaluating policy on signed data during check policy on channel [scf] with policy "
    "[/Channel/Application/Readers]: [implicit policy evaluation failed - 0 sub-policies were satisfied, but this "
    "policy requires 1 of the 'Readers' sub-policies to be satisfied]"
)
DENIED = "error validating proposal: access denied: channel [scf] creator org [CoreMSP]"
UNKNOWN_CREATOR = "error validating proposal: access denied: channel [scf] creator org unknown, creator is malformed"
ORGANISATIONS = ["CoreMSP", "WarehouseMSP", "LogisticsMSP", "BankMSP"]


# -- who asks ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a running network, which is sound when all tests are through."""
    place = tmp_path_factory.mktemp("bad-input") / "home"
    with Process.started(place) as process:
        yield place
        assert "Traceback" not in process.log
    assert verified(place)["state"] == "sound"


@pytest.fixture(scope="module")
def core(home: Path) -> Iterator[Client]:
    """A user of the core enterprise at its gateway."""
    client = Client(home, "core")
    yield client
    client.close()


@pytest.fixture(scope="module")
def bank(home: Path) -> Iterator[Client]:
    """A user of the bank at its gateway."""
    client = Client(home, "bank")
    yield client
    client.close()


def certified(
    authority: Authority, msp_id: str, now: datetime | None = None, not_after: datetime | None = None
) -> Person:
    """Somebody with a new certificate of an authority."""
    key = keys.generate()
    certificate = authority.issue(key.public_key(), "somebody", ou="client", now=now, not_after=not_after)
    return Person(msp_id, Identity.x509(msp_id, certificate).serialized, signers.from_key(key))


@pytest.fixture
def expired(home: Path) -> Iterator[Client]:
    """A user whose certificate of the core enterprise's own authority ended an hour ago."""
    now = datetime.now(UTC)
    authority = Authority.load(home / "organisations" / "core" / "ca")
    # An authority issues nothing from before its own time, so the certificate begins with it and ends at once.
    begin = authority.certificate.not_valid_before_utc
    client = Client(home, "core")
    client.person = certified(authority, "CoreMSP", now=begin, not_after=begin + timedelta(seconds=2))
    assert begin + timedelta(seconds=2) < now
    yield client
    client.close()


@pytest.fixture(scope="module")
def other_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys and authorities of another network of the same organisations."""
    place = tmp_path_factory.mktemp("other") / "home"
    establish(place, small_topology())
    return place


@pytest.fixture(params=["CoreMSP", "StrangerMSP"])
def foreign(home: Path, other_network: Path, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A user of the other network's core enterprise, under its name and under one that nobody knows."""
    client = Client(home, "core")
    authority = Authority.load(other_network / "organisations" / "core" / "ca")
    client.person = certified(authority, request.param)
    yield client
    client.close()


# -- how it ends -------------------------------------------------------------------------------------------------------


def failed(call: Callable[..., Any], *args: Any, **named: Any) -> Failure:
    """The failure of a call that must fail."""
    with pytest.raises(grpc.RpcError) as raised:
        call(*args, **named)
    return failure(raised.value)


def said_by(found: Failure) -> dict[str, str]:
    """The text of each organisation in a failure's details."""
    return {msp_id: text for _, msp_id, text in found.details}


def refused_by_endorsers(client: Client, make: Callable[[], Proposal], text: str, *, by_filter: bool) -> None:
    """The four ways to an endorser: Evaluate and Endorse, at the local peer and at the bank's.

    A refusal by an auth filter comes without a response, so that even the local peer's is UNAVAILABLE and every other
    peer is tried; any other refusal by the local peer is final."""
    evaluated = failed(client.evaluate, make())
    if by_filter:
        assert (evaluated.code, evaluated.message) == (Code.UNAVAILABLE, NOT_EVALUATED)
        assert list(said_by(evaluated)) == ORGANISATIONS
    else:
        assert evaluated.code is Code.FAILED_PRECONDITION
        assert_text(evaluated.message.removeprefix("evaluate call to endorser returned error: "), text)
        assert list(said_by(evaluated)) == ["CoreMSP"]
    for msp_id, said in said_by(evaluated).items():
        assert_text(said, text if msp_id == "CoreMSP" else REMOTE + text)

    evaluated = failed(client.evaluate, make(), targets=["BankMSP"])
    assert (evaluated.code, evaluated.message) == (Code.UNAVAILABLE, NOT_EVALUATED)
    assert list(said_by(evaluated)) == ["BankMSP"]
    assert_text(said_by(evaluated)["BankMSP"], REMOTE + text)

    endorsed = failed(client.endorse, make())
    assert (endorsed.code, endorsed.message, list(said_by(endorsed))) == (Code.ABORTED, NOT_ENDORSED, ["CoreMSP"])
    assert_text(said_by(endorsed)["CoreMSP"], text)

    endorsed = failed(client.endorse, make(), organisations=["BankMSP"])
    assert (endorsed.code, endorsed.message, list(said_by(endorsed))) == (Code.ABORTED, TOO_FEW, ["BankMSP"])
    assert_text(said_by(endorsed)["BankMSP"], REMOTE + text)

    direct = failed(client.endorser.ProcessProposal, make().signed, timeout=5)
    assert direct.code is Code.UNKNOWN
    assert_text(direct.message, text)


TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def assert_text(said: str, text: str) -> None:
    """Byte for byte, but for the times of day, which stand as <time>."""
    assert re.sub(TIME, "<time>", said) == text


def refused_by_the_orderer(client: Client, envelope: common_pb2.Envelope, status: int, info: str) -> None:
    """At the gateway's Submit, with the orderers' words in the details, and at the ordering service itself."""
    found = failed(client.submit, envelope)
    assert (found.code, found.message) == (Code.UNAVAILABLE, NOT_ORDERED)
    # Upstream stops at the second failure of four, when a quorum of three is out of reach.
    assert [text for *_, text in found.details] == [
        f"received unsuccessful response from orderer: status={Status.Name(status)}, info={info}"
    ] * 2
    (answer,) = client.orderer.Broadcast(iter([envelope]), timeout=10)
    assert (answer.status, answer.info) == (status, info)


def last_status(client: Client, seek: common_pb2.Envelope) -> int:
    """How a delivery ended."""
    *_, last = client.deliver.Deliver(iter([seek]), timeout=10)
    return int(last.status)


def signed_anew(person: Person, envelope: common_pb2.Envelope) -> common_pb2.Envelope:
    """The same transaction under another creator's name and signature."""
    payload = common_pb2.Payload.FromString(envelope.payload)
    header = common_pb2.SignatureHeader.FromString(payload.header.signature_header)
    header.creator = person.serialized
    payload.header.signature_header = header.SerializeToString()
    content = payload.SerializeToString()
    return common_pb2.Envelope(payload=content, signature=person.sign(content))


def events_of(client: Client, signature: bytes | None = None) -> gateway_pb2.SignedChaincodeEventsRequest:
    """A request for events from block 1 on."""
    request = gateway_pb2.ChaincodeEventsRequest(
        channel_id="scf",
        chaincode_id="basic",
        identity=client.person.serialized,
        start_position=ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=1)),
    ).SerializeToString()
    return gateway_pb2.SignedChaincodeEventsRequest(
        request=request, signature=client.person.sign(request) if signature is None else signature
    )


# -- channel and chaincode ---------------------------------------------------------------------------------------------


def test_a_wrong_channel_is_no_error_of_the_endorser_but_its_answer(core: Client) -> None:
    response = core.endorser.ProcessProposal(core.propose("get", "a", channel="other").signed, timeout=5)
    assert (response.response.status, response.response.message) == (500, "channel 'other' not found")
    assert not response.payload and not response.endorsement.signature


def test_a_wrong_channel_has_no_peers_of_anybody(core: Client) -> None:
    found = failed(core.endorse, core.propose("put", "a", "1", channel="other"), organisations=["CoreMSP", "BankMSP"])
    text = "failed to find any endorsing peers for org(s): CoreMSP, BankMSP"
    assert found == Failure(Code.UNAVAILABLE, text, ())


def test_an_unknown_chaincode_is_the_peers_answer(core: Client) -> None:
    response = core.endorser.ProcessProposal(core.propose("get", "a", chaincode="nothing").signed, timeout=5)
    assert response.response.status == 500
    assert response.response.message == (
        "make sure the chaincode nothing has been successfully defined on channel scf and try again: "
        "chaincode nothing not found"
    )


def test_an_unknown_chaincode_has_no_peers_anywhere(core: Client) -> None:
    found = failed(core.endorse, core.propose("put", "a", "1", chaincode="nothing"), organisations=["BankMSP"])
    assert found == Failure(Code.UNAVAILABLE, "failed to find any endorsing peers for org(s): BankMSP", ())
    found = failed(core.evaluate, core.propose("get", "a", chaincode="nothing"), targets=["BankMSP"])
    text = "no peers available to evaluate chaincode nothing in channel scf"
    assert found == Failure(Code.FAILED_PRECONDITION, text, ())


# -- certificates ------------------------------------------------------------------------------------------------------


def test_an_expired_certificate_is_refused_by_the_filters(expired: Client) -> None:
    text = "proposal client identity expired"
    refused_by_endorsers(expired, lambda: expired.propose("put", "a", "1"), text, by_filter=True)


def test_an_expired_certificate_is_refused_by_the_orderer(core: Client, expired: Client) -> None:
    envelope = signed_anew(expired.person, core.endorse(core.propose("put", "late", "1")))
    refused_by_the_orderer(expired, envelope, Status.BAD_REQUEST, "broadcast client identity expired")


def test_an_expired_certificate_is_refused_a_delivery(expired: Client) -> None:
    assert last_status(expired, expired.seek(blocks_from(0, 0))) == Status.FORBIDDEN


def test_an_expired_certificate_may_still_ask_for_what_became_of_a_transaction(core: Client, expired: Client) -> None:
    """Upstream looks at the validity of the chain only, which it judges at the certificate's beginning."""
    transaction_id, code, block = core.transact("put", "asked-later", "1")
    assert expired.status(transaction_id) == (code, block)
    stream = expired.gateway.ChaincodeEvents(events_of(expired), timeout=0.3)
    assert failed(lambda: list(stream)).code is Code.DEADLINE_EXCEEDED


def test_a_foreign_certificate_is_refused_by_the_endorsers(foreign: Client) -> None:
    """Upstream looks for the issuer while it reads an ECDSA certificate, so a stranger's is unreadable to it."""
    refused_by_endorsers(foreign, lambda: foreign.propose("put", "a", "1"), UNKNOWN_CREATOR, by_filter=False)


def test_a_foreign_certificate_is_refused_by_the_orderer(core: Client, foreign: Client) -> None:
    envelope = signed_anew(foreign.person, core.endorse(core.propose("put", "foreign", "1")))
    refused_by_the_orderer(foreign, envelope, Status.FORBIDDEN, NOT_A_WRITER)


def test_a_foreign_certificate_may_read_nothing(foreign: Client) -> None:
    assert last_status(foreign, foreign.seek(blocks_from(0, 0))) == Status.FORBIDDEN
    assert failed(foreign.status, "00" * 32) == Failure(Code.PERMISSION_DENIED, NOT_A_READER, ())
    stream = foreign.gateway.ChaincodeEvents(events_of(foreign), timeout=5)
    assert failed(lambda: next(stream)) == Failure(Code.PERMISSION_DENIED, NOT_A_READER, ())


# -- signatures --------------------------------------------------------------------------------------------------------


def test_a_high_s_signature_on_a_proposal_is_refused(core: Client) -> None:
    def make() -> Proposal:
        proposal = core.propose("put", "a", "1")
        proposal.signed.signature = high_s(proposal.signed.signature)
        return proposal

    refused_by_endorsers(core, make, DENIED, by_filter=False)


def test_a_high_s_signature_on_an_envelope_is_refused(core: Client) -> None:
    envelope = core.sign_envelope(core.endorse(core.propose("put", "high", "1")))
    envelope.signature = high_s(envelope.signature)
    refused_by_the_orderer(core, envelope, Status.FORBIDDEN, NOT_A_WRITER)


def test_a_high_s_signature_may_read_nothing(core: Client) -> None:
    request = core.status_request("00" * 32)
    request.signature = high_s(request.signature)
    found = failed(core.gateway.CommitStatus, request, timeout=5)
    assert found == Failure(Code.PERMISSION_DENIED, NOT_A_READER, ())
    stream = core.gateway.ChaincodeEvents(events_of(core, high_s(events_of(core).signature)), timeout=5)
    assert failed(lambda: next(stream)) == Failure(Code.PERMISSION_DENIED, NOT_A_READER, ())
    seek = core.seek(blocks_from(0, 0))
    seek.signature = high_s(seek.signature)
    assert last_status(core, seek) == Status.FORBIDDEN


# -- once more ---------------------------------------------------------------------------------------------------------

PENDING = "failed to submit request: request already exists"
PROCESSED = "failed to submit request: request already processed"


def test_a_replayed_envelope_is_recognised_and_changes_nothing(core: Client, bank: Client) -> None:
    proposal = core.propose("increment", "replayed")
    envelope = core.sign_envelope(core.endorse(proposal))
    core.submit(envelope)
    code, block = core.status(proposal.transaction_id)
    assert code == VALID
    # Anybody who saw the block can send it again, whoever he is and wherever.
    assert failed(lambda: bank.submit(envelope)).code is Code.UNAVAILABLE
    (answer,) = core.orderer.Broadcast(iter([envelope]), timeout=10)
    assert (answer.status, answer.info) == (Status.SERVICE_UNAVAILABLE, PROCESSED)
    core.transact("put", "behind", "the replays")
    found = placed(core, block, height(core) - 1)
    assert [(code, number) for each, code, number in found if each == proposal.transaction_id] == [(VALID, block)]
    assert core.status(proposal.transaction_id) == bank.status(proposal.transaction_id) == (VALID, block)
    assert core.evaluate(core.propose("get", "replayed")).payload == b"1"


def test_two_envelopes_of_one_proposal_count_once(core: Client) -> None:
    """Another signature makes another envelope of the same request, before its block is cut and after."""
    proposal = core.propose("increment", "signed-twice")
    envelope = core.endorse(proposal)
    copies = [core.sign_envelope(common_pb2.Envelope(payload=envelope.payload)) for _ in range(3)]
    assert len({copy.signature for copy in copies}) == 3
    assert next(core.orderer.Broadcast(iter(copies[:1]), timeout=10)).status == Status.SUCCESS
    for copy in copies[1:]:
        answer = next(core.orderer.Broadcast(iter([copy]), timeout=10))
        assert (answer.status, answer.info) in {(Status.SERVICE_UNAVAILABLE, text) for text in (PENDING, PROCESSED)}
    _, block = core.status(proposal.transaction_id)
    core.transact("put", "behind", "the copies")
    found = placed(core, block, height(core) - 1)
    assert [code for each, code, _ in found if each == proposal.transaction_id] == [VALID]
    assert core.evaluate(core.propose("get", "signed-twice")).payload == b"1"


def test_a_proposal_is_refused_once_it_is_committed(core: Client) -> None:
    proposal = core.propose("put", "proposed-twice", "1")
    core.submit(core.sign_envelope(core.endorse(proposal)))
    assert core.status(proposal.transaction_id)[0] == VALID
    creator = core.person.serialized.hex()
    text = f"duplicate transaction found [{proposal.transaction_id}]. Creator [{creator}]"
    refused_by_endorsers(core, lambda: proposal, text, by_filter=False)


# -- time --------------------------------------------------------------------------------------------------------------

WINDOW = "request unauthorized due to incorrect timestamp {}, peer time <time>, peer.authentication.timewindow 1m0s"


@pytest.mark.parametrize("seconds", [-62.0, 62.0, -1e6])
def test_a_stale_or_early_timestamp_is_refused(core: Client, seconds: float) -> None:
    def make() -> Proposal:
        return core.propose("put", "a", "1", timestamp=seconds)

    refused_by_endorsers(core, make, WINDOW.format("<time>"), by_filter=True)
    said = said_by(failed(core.evaluate, make()))["CoreMSP"]
    sent, now = (datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) for text in re.findall(TIME, said))
    assert abs((sent - now).total_seconds() - seconds) <= 2
    assert abs(now.timestamp() - time.time()) < 10


def test_a_missing_timestamp_is_that_of_1970(core: Client) -> None:
    def make() -> Proposal:
        return core.propose("put", "a", "1", timestamp=None)

    refused_by_endorsers(core, make, WINDOW.format("<time>"), by_filter=True)
    assert "incorrect timestamp 1970-01-01T00:00:00Z, peer time 2" in said_by(failed(core.endorse, make()))["CoreMSP"]


# -- size --------------------------------------------------------------------------------------------------------------

TRANSPORT_BYTES_MAX = 100 * 1024 * 1024
ENVELOPE_BYTES_MAX = 10 * 1024 * 1024


@pytest.mark.parametrize(
    "method", ["/gateway.Gateway/Evaluate", "/gateway.Gateway/Submit", "/protos.Endorser/ProcessProposal"]
)
def test_more_than_the_transport_takes_is_refused_by_it(core: Client, method: str) -> None:
    """The text is the transport library's: gRPC for Go says the same of the same two numbers in other words."""
    found = failed(core.link.unary_unary(method, None, None), bytes(TRANSPORT_BYTES_MAX + 1), timeout=30)
    assert found.code is Code.RESOURCE_EXHAUSTED
    assert f"({TRANSPORT_BYTES_MAX + 1} vs. {TRANSPORT_BYTES_MAX})" in found.message
    assert core.evaluate(core.propose("who")).payload == b"CoreMSP"


def test_more_than_an_envelope_may_have_is_refused_by_the_orderer(core: Client) -> None:
    envelope = core.endorse(core.propose("put", "small", "1"))
    payload = common_pb2.Payload.FromString(envelope.payload)
    payload.data += b"\x82\x7d" + b"\x80\x80\x80\x05" + bytes(ENVELOPE_BYTES_MAX)  # an unknown field of 10 MiB
    envelope = core.sign_envelope(common_pb2.Envelope(payload=payload.SerializeToString()))
    size = len(envelope.payload) + len(envelope.signature)
    info = f"message payload is {size} bytes and exceeds maximum allowed {ENVELOPE_BYTES_MAX} bytes"
    refused_by_the_orderer(core, envelope, Status.BAD_REQUEST, info)


def test_as_much_as_an_envelope_may_have_is_ordered(core: Client) -> None:
    """To the byte: what its sender pads out is his affair, and his peers find it unreadable or not."""
    proposal = core.propose("put", "padded", "1")
    payload = core.endorse(proposal).payload
    envelope = core.sign_envelope(common_pb2.Envelope(payload=payload))
    room = ENVELOPE_BYTES_MAX - len(payload) - len(envelope.signature)
    # Tag of field 2000, then a length of four bytes; a signature is 70 to 72 bytes long, so a few are left over.
    length = room - 16
    pad = b"\x82\x7d" + bytes(
        (length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14 & 0x7F | 0x80, length >> 21)
    )
    envelope = core.sign_envelope(common_pb2.Envelope(payload=payload + pad + bytes(length)))
    assert ENVELOPE_BYTES_MAX - 16 <= len(envelope.payload) + len(envelope.signature) <= ENVELOPE_BYTES_MAX
    core.submit(envelope)
    assert core.status(proposal.transaction_id)[0] == VALID
