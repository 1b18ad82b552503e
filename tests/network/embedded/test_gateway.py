"""The gateway over gRPC: one row for each line of embedded-network.md A.1 and A.2, in the order of the checks."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from fabric_protos.common import common_pb2, ledger_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, transaction_pb2

from network.embedded.network import EmbeddedNetwork
from tests.network.embedded.wire import Client, Failure, Proposal, failure, high_s

Code = grpc.StatusCode
VALID = transaction_pb2.TxValidationCode.VALID
MVCC = transaction_pb2.TxValidationCode.MVCC_READ_CONFLICT
WIRE_FORMAT = "proto: cannot parse invalid wire-format data"
BROKEN = b"\xff\xff\xff"


def failed(call: Callable[..., Any], *args: Any, **named: Any) -> Failure:
    """The failure of a call that must fail."""
    with pytest.raises(grpc.RpcError) as raised:
        call(*args, **named)
    return failure(raised.value)


def signed(data: bytes) -> Proposal:
    """A proposal of any bytes; its signature is never looked at."""
    return Proposal("", proposal_pb2.SignedProposal(proposal_bytes=data, signature=b"-"), "scf")


def layered(header: bytes = b"", payload: bytes = b"") -> Proposal:
    """A proposal whose header or payload is given as bytes."""
    return signed(proposal_pb2.Proposal(header=header, payload=payload).SerializeToString())


def spec(**fields: Any) -> bytes:
    """A ChaincodeInvocationSpec."""
    return chaincode_pb2.ChaincodeInvocationSpec(**fields).SerializeToString()


UNREADABLE = [
    pytest.param(signed(BROKEN), "Proposal", id="proposal"),
    pytest.param(layered(header=BROKEN), "Header", id="header"),
    pytest.param(
        layered(header=common_pb2.Header(channel_header=BROKEN).SerializeToString()),
        "ChannelHeader",
        id="channel-header",
    ),
    pytest.param(layered(payload=BROKEN), "ChaincodeProposalPayload", id="payload"),
    pytest.param(
        layered(payload=proposal_pb2.ChaincodeProposalPayload(input=BROKEN).SerializeToString()),
        "ChaincodeInvocationSpec",
        id="spec",
    ),
]


# -- evaluate ----------------------------------------------------------------------------------------------------------


def test_evaluate_needs_a_signed_proposal(core: Client) -> None:
    found = failed(core.evaluate, signed(b""))
    assert found == Failure(
        Code.INVALID_ARGUMENT, "failed to unpack transaction proposal: a signed proposal is required", ()
    )


@pytest.mark.parametrize(("proposal", "name"), UNREADABLE)
def test_evaluate_refuses_unreadable_layers(core: Client, proposal: Proposal, name: str) -> None:
    found = failed(core.evaluate, proposal)
    assert found.code is Code.INVALID_ARGUMENT
    assert found.message == f"failed to unpack transaction proposal: error unmarshalling {name}: {WIRE_FORMAT}"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        pytest.param({"channel": ""}, "no channel id provided", id="channel"),
        pytest.param({"spec": b""}, "no chaincode spec is provided, channel id [scf]", id="spec"),
        pytest.param(
            {"spec": spec(chaincode_spec=chaincode_pb2.ChaincodeSpec())},
            "no chaincode id is provided, channel id [scf]",
            id="id",
        ),
        pytest.param({"chaincode": ""}, "no chaincode name is provided, channel id [scf]", id="name"),
    ],
)
def test_evaluate_needs_channel_and_chaincode(core: Client, changes: dict[str, Any], text: str) -> None:
    found = failed(core.evaluate, core.propose("get", "a", **changes))
    assert found == Failure(Code.INVALID_ARGUMENT, f"failed to unpack transaction proposal: {text}", ())


def test_evaluate_refuses_an_unknown_channel(core: Client) -> None:
    found = failed(core.evaluate, core.propose("get", "a", channel="other"))
    text = "failed to get config for channel [other]: could not get last config for channel other"
    assert found == Failure(Code.UNAVAILABLE, text, ())


def test_evaluate_refuses_an_unknown_chaincode(core: Client) -> None:
    found = failed(core.evaluate, core.propose("get", "a", chaincode="nothing"))
    assert found == Failure(
        Code.FAILED_PRECONDITION, "no peers available to evaluate chaincode nothing in channel scf", ()
    )


def test_evaluate_keeps_transient_data_in_the_organisation(core: Client) -> None:
    found = failed(core.evaluate, core.propose("who", chaincode="elsewhere", transient={"a": b"b"}))
    assert found.code is Code.FAILED_PRECONDITION
    assert found.message == (
        "no endorsers found in the gateway's organization; retry specifying target organization(s) to protect "
        "transient data: no peers available to evaluate chaincode elsewhere in channel scf"
    )
    assert core.evaluate(core.propose("who", transient={"a": b"b"})).payload == b"CoreMSP"


def test_evaluate_asks_the_local_organisation_first(core: Client, bank: Client) -> None:
    assert core.evaluate(core.propose("who")).payload == b"CoreMSP"
    assert bank.evaluate(bank.propose("who")).payload == b"BankMSP"


def test_evaluate_asks_the_targets_named(core: Client) -> None:
    assert core.evaluate(core.propose("who"), targets=["LogisticsMSP"]).payload == b"LogisticsMSP"
    assert core.evaluate(core.propose("who"), targets=["LogisticsMSP", "CoreMSP"]).payload == b"CoreMSP"


def test_evaluate_stops_at_the_contracts_own_error(core: Client) -> None:
    text = "chaincode response 404, NOT_FOUND no_such_key: absent"
    found = failed(core.evaluate, core.propose("get", "absent"))
    assert found.code is Code.UNKNOWN
    assert found.message == f"evaluate call to endorser returned error: {text}"
    assert found.details == ((core.address, "CoreMSP", text),)


def test_evaluate_stops_at_the_local_peers_refusal(core: Client) -> None:
    """From the local peer a bad signature is FAILED_PRECONDITION and final."""
    text = "error validating proposal: access denied: channel [scf] creator org [CoreMSP]"
    found = failed(core.evaluate, core.propose("get", "a", signature=b"wrong"))
    assert found.code is Code.FAILED_PRECONDITION
    assert found.message == f"evaluate call to endorser returned error: {text}"
    assert found.details == ((core.address, "CoreMSP", text),)


def test_evaluate_sees_a_remote_peers_refusal_as_unavailable(core: Client, bank: Client) -> None:
    """gRPC drops a remote peer's response, so the same refusal may be tried elsewhere."""
    text = "rpc error: code = Unknown desc = error validating proposal: access denied: channel [scf] creator org "
    found = failed(core.evaluate, core.propose("get", "a", signature=b"wrong"), targets=["BankMSP"])
    assert found.code is Code.UNAVAILABLE
    assert found.message == "failed to evaluate transaction, see attached details for more info"
    assert found.details == ((bank.address, "BankMSP", f"{text}[CoreMSP]"),)


def test_evaluate_refuses_a_high_s_signature(core: Client) -> None:
    proposal = core.propose("get", "a")
    proposal.signed.signature = high_s(proposal.signed.signature)
    found = failed(core.evaluate, proposal)
    assert found.code is Code.FAILED_PRECONDITION
    assert found.message.endswith("access denied: channel [scf] creator org [CoreMSP]")


def test_evaluate_tries_every_peer_when_peers_fail(core: Client) -> None:
    """The time window is an auth filter: no response, so the local failure has no prefix and is retried too."""
    found = failed(core.evaluate, core.propose("get", "a", timestamp=-3600.0))
    assert found.code is Code.UNAVAILABLE
    assert found.message == "failed to evaluate transaction, see attached details for more info"
    assert [msp_id for _, msp_id, _ in found.details] == ["CoreMSP", "WarehouseMSP", "LogisticsMSP", "BankMSP"]
    local, *remote = [message for _, _, message in found.details]
    assert local.startswith("request unauthorized due to incorrect timestamp ")
    assert local.endswith("peer.authentication.timewindow 1m0s")
    assert all(message.startswith("rpc error: code = Unknown desc = request unauthorized") for message in remote)


def test_evaluate_passes_on_the_last_peers_own_error(core: Client) -> None:
    """The header extension names what runs, the spec what is looked for: a peer-made 500 is ABORTED and retried."""
    name = chaincode_pb2.ChaincodeID(name="nothing")
    extension = proposal_pb2.ChaincodeHeaderExtension(chaincode_id=name).SerializeToString()
    found = failed(core.evaluate, core.propose("get", "a", extension=extension))
    assert found.code is Code.ABORTED
    assert len(found.details) == 4
    assert all("make sure the chaincode nothing has been successfully" in text for *_, text in found.details)


def test_evaluate_ends_with_the_clients_deadline(core: Client) -> None:
    found = failed(core.evaluate, core.propose("wait", "2"), timeout=0.2)
    assert found.code is Code.DEADLINE_EXCEEDED


def test_evaluate_answers_the_contracts_result(core: Client) -> None:
    core.transact("put", "evaluated", "yes")
    answer = core.evaluate(core.propose("get", "evaluated"))
    assert (answer.status, answer.payload) == (200, b"yes")


def test_evaluate_reaches_system_chaincodes(core: Client, network: EmbeddedNetwork) -> None:
    answer = core.evaluate(core.propose("GetChainInfo", "scf", chaincode="qscc"))
    assert ledger_pb2.BlockchainInfo.FromString(answer.payload).height == network.ledger.height


# -- endorse -----------------------------------------------------------------------------------------------------------


def test_endorse_needs_a_signed_proposal(core: Client) -> None:
    found = failed(core.endorse, signed(b""))
    assert found == Failure(Code.INVALID_ARGUMENT, "the proposed transaction must contain a signed proposal", ())


@pytest.mark.parametrize(("proposal", "name"), UNREADABLE)
def test_endorse_refuses_unreadable_layers(core: Client, proposal: Proposal, name: str) -> None:
    found = failed(core.endorse, proposal)
    assert found == Failure(Code.INVALID_ARGUMENT, f"error unmarshalling {name}: {WIRE_FORMAT}", ())


def test_endorse_asks_the_organisations_named(core: Client) -> None:
    envelope = core.endorse(core.propose("put", "named", "1"), organisations=["BankMSP", "WarehouseMSP"])
    assert sorted(endorsers(envelope)) == ["BankMSP", "WarehouseMSP"]


def test_endorse_refuses_named_organisations_without_peers(core: Client) -> None:
    found = failed(core.endorse, core.propose("put", "a", "1"), organisations=["XMSP", "BankMSP", "YMSP"])
    text = "failed to find any endorsing peers for org(s): XMSP, YMSP"
    assert found == Failure(Code.UNAVAILABLE, text, ())


def test_endorse_keeps_transient_data_in_the_organisation(core: Client) -> None:
    found = failed(core.endorse, core.propose("who", chaincode="elsewhere", transient={"a": b"b"}))
    text = (
        "no endorsers found in the gateway's organization; retry specifying endorsing organization(s) to protect "
        "transient data"
    )
    assert found == Failure(Code.FAILED_PRECONDITION, text, ())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param(
            {"chaincode": "nothing"}, "No metadata was found for chaincode nothing in channel scf", id="chaincode"
        ),
        pytest.param({"channel": "other"}, "No metadata was found for chaincode basic in channel other", id="channel"),
        pytest.param(
            {"chaincode": "elsewhere"}, "required chaincodes are not installed on sufficient peers", id="installed"
        ),
    ],
)
def test_endorse_needs_a_plan(core: Client, changes: dict[str, Any], reason: str) -> None:
    found = failed(core.endorse, core.propose("put", "a", "1", **changes))
    text = f"no combination of peers can be derived which satisfy the endorsement policy: {reason}"
    assert found == Failure(Code.FAILED_PRECONDITION, text, ())


def test_endorse_aborts_when_the_first_endorsement_fails(core: Client) -> None:
    found = failed(core.endorse, core.propose("refuse", "CONFLICT not_now: later"))
    assert found.code is Code.ABORTED
    assert found.message == "failed to endorse transaction, see attached details for more info"
    assert found.details == ((core.address, "CoreMSP", "chaincode response 409, CONFLICT not_now: later"),)


def test_endorse_aborts_on_a_bad_signature(core: Client) -> None:
    found = failed(core.endorse, core.propose("put", "a", "1", signature=b"wrong"))
    text = "error validating proposal: access denied: channel [scf] creator org [CoreMSP]"
    assert found.code is Code.ABORTED
    assert found.details == ((core.address, "CoreMSP", text),)


def test_endorse_hides_what_an_unmeant_failure_says(core: Client) -> None:
    found = failed(core.endorse, core.propose("crash"))
    assert found.code is Code.ABORTED
    ((_, _, message),) = found.details
    assert message.startswith("chaincode response 500, ")
    assert "not meant to be seen" not in message


def test_endorse_takes_a_majority(core: Client) -> None:
    names = endorsers(core.endorse(core.propose("put", "majority", "1")))
    assert len(names) == 3
    assert "CoreMSP" in names


def test_endorse_follows_the_chaincodes_own_policy(bank: Client) -> None:
    envelope = bank.endorse(bank.propose("put", "both", "1", chaincode="both"))
    assert sorted(endorsers(envelope)) == ["BankMSP", "CoreMSP"]


def test_endorse_drops_a_first_endorsement_that_no_policy_needs(network: EmbeddedNetwork) -> None:
    client = Client(network.home, "warehouse")
    try:
        envelope = client.endorse(client.propose("put", "both", "2", chaincode="both"))
    finally:
        client.close()
    assert sorted(endorsers(envelope)) == ["BankMSP", "CoreMSP"]


def test_endorse_goes_round_a_failing_organisation(core: Client) -> None:
    envelope = core.endorse(core.propose("refuse_in", "BankMSP"))
    assert sorted(endorsers(envelope)) == ["CoreMSP", "LogisticsMSP", "WarehouseMSP"]


def test_endorse_aborts_when_no_layout_is_satisfied(core: Client, bank: Client) -> None:
    found = failed(core.endorse, core.propose("refuse_in", "BankMSP", chaincode="both"))
    assert found.code is Code.ABORTED
    assert found.message == "failed to collect enough transaction endorsements, see attached details for more info"
    assert found.details == ((bank.address, "BankMSP", "chaincode response 400, BankMSP does not want to"),)


def test_endorse_reports_results_that_differ(core: Client) -> None:
    found = failed(core.endorse, core.propose("disagree"))
    assert found.code is Code.ABORTED
    assert found.message == "failed to collect enough transaction endorsements, see attached details for more info"
    assert {text for *_, text in found.details} == {"ProposalResponsePayloads do not match"}


def test_endorse_ends_with_the_clients_deadline(core: Client) -> None:
    assert failed(core.endorse, core.propose("wait", "2"), timeout=0.2).code is Code.DEADLINE_EXCEEDED


def test_endorse_leaves_transient_data_out_of_the_transaction(core: Client) -> None:
    proposal = core.propose("keep_private", "_implicit_org_CoreMSP", "secret", transient={"value": b"only here"})
    envelope = core.endorse(proposal)
    assert endorsers(envelope) == ["CoreMSP"]
    assert b"only here" not in envelope.SerializeToString()


def test_endorse_asks_the_owner_of_an_implicit_collection(core: Client) -> None:
    proposal = core.propose("keep_private", "_implicit_org_BankMSP", "secret", transient={"value": b"x"})
    assert endorsers(core.endorse(proposal)) == ["BankMSP"]


def test_endorse_sends_transient_data_to_members_only(core: Client) -> None:
    """Two organisations own the collection, and its writes need the chaincode's majority of three."""
    found = failed(core.endorse, core.propose("keep_private", "shared", "secret", transient={"value": b"x"}))
    assert found.code is Code.FAILED_PRECONDITION
    assert found.message == (
        "requires endorsement from organisation(s) that are not in the distribution policy of the private data "
        "collection(s): [shared]; retry specifying trusted endorsing organizations to protect transient data"
    )


# -- submit ------------------------------------------------------------------------------------------------------------


def test_submit_needs_a_transaction(core: Client) -> None:
    found = failed(core.submit, None)
    assert found == Failure(Code.INVALID_ARGUMENT, "a prepared transaction is required", ())


def test_submit_needs_a_signature(core: Client) -> None:
    found = failed(core.submit, core.endorse(core.propose("put", "a", "1")))
    assert found == Failure(Code.INVALID_ARGUMENT, "prepared transaction must be signed", ())


def test_submit_refuses_an_unknown_channel(core: Client) -> None:
    envelope = core.sign_envelope(core.endorse(core.propose("put", "a", "1")))
    found = failed(core.submit, envelope, channel="other")
    text = "failed to get config for channel [other]: could not get last config for channel other"
    assert found == Failure(Code.FAILED_PRECONDITION, text, ())


def test_submit_passes_on_the_orderers_refusal(core: Client, network: EmbeddedNetwork) -> None:
    """Upstream stops at the second failure of four, when a quorum of three is out of reach."""
    envelope = core.endorse(core.propose("put", "a", "1"))
    envelope.signature = b"wrong"
    found = failed(core.submit, envelope)
    assert found.code is Code.UNAVAILABLE
    assert found.message == (
        "insufficient number of orderers could successfully process transaction to satisfy quorum requirement"
    )
    text = (
        "received unsuccessful response from orderer: status=FORBIDDEN, info=implicit policy evaluation failed - 0 "
        "sub-policies were satisfied, but this policy requires 1 of the 'Writers' sub-policies to be satisfied: "
        "permission denied"
    )
    orderers = [(node.advertised, organisation.msp_id) for organisation, node in network.topology.orderers()]
    assert found.details == tuple((address, msp_id, text) for address, msp_id in orderers[:2])


def test_submit_takes_a_transaction_once(core: Client) -> None:
    """While it waits for its block the same request is as good as accepted; afterwards the orderers say so."""
    proposal = core.propose("put", "twice", "1")
    envelope = core.sign_envelope(core.endorse(proposal))
    core.submit(envelope)
    core.submit(envelope)
    code, block = core.status(proposal.transaction_id)
    found = failed(core.submit, envelope)
    assert found.code == Code.UNAVAILABLE
    text = (
        "received unsuccessful response from orderer: status=SERVICE_UNAVAILABLE, "
        "info=failed to submit request: request already processed"
    )
    assert [detail[2] for detail in found.details] == [text] * 2
    core.transact("put", "after", "1")
    assert core.status(proposal.transaction_id) == (code, block)
    assert code == VALID


# -- commit status -----------------------------------------------------------------------------------------------------


def test_commit_status_needs_a_request(core: Client) -> None:
    found = failed(core.gateway.CommitStatus, gateway_pb2.SignedCommitStatusRequest(), timeout=5)
    assert found == Failure(Code.INVALID_ARGUMENT, "a commit status request is required", ())


def test_commit_status_needs_a_readable_request(core: Client) -> None:
    found = failed(core.gateway.CommitStatus, gateway_pb2.SignedCommitStatusRequest(request=BROKEN), timeout=5)
    assert found == Failure(Code.INVALID_ARGUMENT, f"invalid status request: {WIRE_FORMAT}", ())


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("identity", "no identity provided"),
        ("channel_id", "no channel ID provided"),
        ("transaction_id", "transaction ID should not be empty"),
    ],
)
def test_commit_status_needs_every_field(core: Client, field: str, text: str) -> None:
    empty = b"" if field == "identity" else ""
    request = core.status_request("ab", **{field: empty})
    found = failed(core.gateway.CommitStatus, request, timeout=5)
    assert found == Failure(Code.INVALID_ARGUMENT, text, ())


def test_commit_status_refuses_who_may_not_read(core: Client) -> None:
    request = core.status_request("ab")
    request.signature = b"wrong"
    found = failed(core.gateway.CommitStatus, request, timeout=5)
    assert found.code is Code.PERMISSION_DENIED
    assert found.message == (
        "Failed evaluating policy on signed data during check policy on channel [scf] with policy "
        "[/Channel/Application/Readers]: [implicit policy evaluation failed - 0 sub-policies were satisfied, but this "
        "policy requires 1 of the 'Readers' sub-policies to be satisfied]"
    )


def test_commit_status_refuses_an_unknown_channel(core: Client) -> None:
    found = failed(core.gateway.CommitStatus, core.status_request("ab", channel_id="other"), timeout=5)
    assert found == Failure(Code.PERMISSION_DENIED, "Failed to get policy manager for channel [other]", ())


def test_commit_status_waits_for_an_id_until_the_deadline(core: Client) -> None:
    found = failed(core.status, "00" * 32, timeout=0.3)
    assert found.code is Code.DEADLINE_EXCEEDED


def test_commit_status_answers_before_and_after_the_commit(core: Client) -> None:
    proposal = core.propose("put", "waited", "1")
    envelope = core.sign_envelope(core.endorse(proposal))
    answers: list[tuple[int, int]] = []
    waiter = threading.Thread(target=lambda: answers.append(core.status(proposal.transaction_id)))
    waiter.start()
    core.submit(envelope)
    waiter.join(10)
    assert answers == [core.status(proposal.transaction_id)]
    assert answers[0][0] == VALID


def test_commit_status_tells_a_lost_race(core: Client, bank: Client) -> None:
    proposals = [core.propose("increment", "counter"), core.propose("increment", "counter")]
    envelopes = [core.sign_envelope(core.endorse(proposal)) for proposal in proposals]
    for envelope in envelopes:
        core.submit(envelope)
    codes = [bank.status(proposal.transaction_id)[0] for proposal in proposals]
    assert codes == [VALID, MVCC]


def test_commit_status_is_not_changed_by_who_only_claims_the_id(core: Client, bank: Client) -> None:
    """Another client's envelope under the same id is invalid, and says nothing about the first one."""
    transaction_id, code, block = core.transact("put", "claimed", "1")
    payload = common_pb2.Payload(data=b"nothing")
    payload.header.channel_header = common_pb2.ChannelHeader(
        type=common_pb2.HeaderType.ENDORSER_TRANSACTION, channel_id="scf", tx_id=transaction_id
    ).SerializeToString()
    payload.header.signature_header = common_pb2.SignatureHeader(
        creator=bank.person.serialized, nonce=b"n" * 24
    ).SerializeToString()
    bank.submit(bank.sign_envelope(common_pb2.Envelope(payload=payload.SerializeToString())))
    assert core.status(transaction_id) == (code, block) == (VALID, block)
    bank.transact("put", "after-claim", "1")
    assert core.status(transaction_id) == (VALID, block)


def endorsers(envelope: common_pb2.Envelope) -> list[str]:
    """The MSP ids that endorsed a transaction."""
    payload = common_pb2.Payload.FromString(envelope.payload)
    action = transaction_pb2.Transaction.FromString(payload.data).actions[0]
    endorsed = transaction_pb2.ChaincodeActionPayload.FromString(action.payload).action
    return [identities_pb2.SerializedIdentity.FromString(each.endorser).mspid for each in endorsed.endorsements]
