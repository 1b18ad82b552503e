"""What an error says: stage, details, the contract's own answer, hints."""

import pickle
import traceback
from typing import Any

import grpc
import pytest
from tallystick.fabric import (
    CommitError,
    CommitStatusError,
    ContractAnswer,
    EndorseError,
    ErrorDetail,
    EvaluateError,
    EventError,
    FabricError,
    GatewayError,
    Hash,
    SubmitError,
    ValidationCode,
    errors,
)
from tallystick.testing import Refusal, StubGateway

from .sides import Side

DETAILS = (
    ErrorDetail("peer.bank:7051", "BankMSP", "chaincode response 409, CONFLICT voucher_state: it is settled"),
    ErrorDetail("peer.core:7051", "CoreMSP", "chaincode response 409, CONFLICT voucher_state: it is settled"),
)
STAGES = {
    "evaluate": (EvaluateError, lambda contract: contract.evaluate("get")),
    "endorse": (EndorseError, lambda contract: contract.submit("issue")),
    "submit": (SubmitError, lambda contract: contract.submit("issue")),
    "commit_status": (CommitStatusError, lambda contract: contract.submit("issue")),
}
every_stage = pytest.mark.parametrize("stage", STAGES)


def _caught(stub: StubGateway, contract: Any, stage: str, refusal: Refusal) -> Any:
    kind, call = STAGES[stage]
    getattr(stub, stage).answer(refusal)
    with pytest.raises(kind) as caught:
        call(contract)
    return caught.value


@every_stage
def test_details_of_every_node_arrive(stub: StubGateway, contract: Any, stage: str) -> None:
    error = _caught(stub, contract, stage, Refusal(grpc.StatusCode.ABORTED, "see details", DETAILS))
    assert error.details == DETAILS
    assert error.message == "see details"
    for detail in DETAILS:
        assert detail.address in str(error)
        assert detail.message in str(error)


@every_stage
def test_without_details_there_are_none(stub: StubGateway, contract: Any, stage: str) -> None:
    assert _caught(stub, contract, stage, Refusal(grpc.StatusCode.ABORTED, "no")).details == ()


@every_stage
def test_error_names_its_transaction(stub: StubGateway, contract: Any, stage: str) -> None:
    error = _caught(stub, contract, stage, Refusal(grpc.StatusCode.ABORTED, "no"))
    sent = (stub.evaluate if stage == "evaluate" else stub.endorse).requests[0]
    assert error.transaction_id == sent.transaction_id
    assert error.transaction_id in str(error)


@every_stage
def test_error_has_the_grpc_error_as_its_cause(stub: StubGateway, contract: Any, stage: str) -> None:
    error = _caught(stub, contract, stage, Refusal(grpc.StatusCode.INTERNAL, "no"))
    assert isinstance(error.__cause__, grpc.RpcError)
    assert isinstance(error, GatewayError)
    assert isinstance(error, FabricError)


@every_stage
@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_is_passed_on(stub: StubGateway, contract: Any, stage: str, code: grpc.StatusCode) -> None:
    assert _caught(stub, contract, stage, Refusal(code, "no")).code is code


@pytest.mark.parametrize("kind", ["chaincode_events", "block_events"])
def test_details_arrive_on_streams(stub: StubGateway, network: Any, kind: str) -> None:
    refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "see details", DETAILS)
    stub.chaincode_events.answer(refusal)
    stub.deliver.answer(refusal)
    arguments = ["trade"] if kind == "chaincode_events" else []
    with getattr(network, kind)(*arguments, start_block=0) as events, pytest.raises(EventError) as caught:
        next(events)
    assert caught.value.details == DETAILS


def test_the_contracts_answer_on_evaluate_is_in_the_message(stub: StubGateway, contract: Any) -> None:
    text = (
        "evaluate call to endorser returned error: chaincode response 404, NOT_FOUND voucher_unknown: no V-1,\nreally"
    )
    error = _caught(stub, contract, "evaluate", Refusal(grpc.StatusCode.UNKNOWN, text))
    assert error.contract_answer == ContractAnswer(404, "NOT_FOUND voucher_unknown: no V-1,\nreally")


def test_the_contracts_answer_on_submit_is_in_the_details(stub: StubGateway, contract: Any) -> None:
    error = _caught(stub, contract, "endorse", Refusal(grpc.StatusCode.ABORTED, "see details", DETAILS))
    assert error.contract_answer == ContractAnswer(409, "CONFLICT voucher_state: it is settled")
    assert len(error.contract_answers) == 1


def test_different_answers_of_the_contract_are_all_shown(stub: StubGateway, contract: Any) -> None:
    other = ErrorDetail("peer.w:7051", "WarehouseMSP", "chaincode response 404, NOT_FOUND voucher_unknown: no V-1")
    error = _caught(stub, contract, "endorse", Refusal(grpc.StatusCode.ABORTED, "see details", (*DETAILS, other)))
    assert [answer.status for answer in error.contract_answers] == [409, 404]


def test_other_failures_have_no_answer_of_the_contract(stub: StubGateway, contract: Any) -> None:
    error = _caught(stub, contract, "evaluate", Refusal(grpc.StatusCode.UNAVAILABLE, "no peer"))
    assert error.contract_answer is None
    assert error.contract_answers == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("access denied: channel [scf] creator org [BankMSP]", "SHA256"),
        ("access denied: channel [scf] creator org [BankMSP]", "high S"),
        ("access denied: channel [scf] creator org unknown, creator is malformed", "MSP id is not of this channel"),
        ("proposal client identity expired", "enrol"),
        ("request unauthorized due to incorrect timestamp 2026, peer time 2027", "clocks"),
        ("too many requests for /gateway.Gateway, exceeding concurrency limit (500)", "back-off"),
        ("ProposalResponsePayloads do not match", "deterministic"),
        ("no peers available to evaluate chaincode trade in channel scf", "chaincode"),
        ("no combination of peers can be derived which satisfy the endorsement policy: x", "endorsing_organizations"),
        ("failed to get config for channel [x]: could not get last config for channel x", "channel of that name"),
        ("Failed evaluating policy on signed data during check policy on channel [scf]", "reader"),
        ("anything else", None),
    ],
)
def test_hints(stub: StubGateway, contract: Any, text: str, words: str | None) -> None:
    error = _caught(stub, contract, "evaluate", Refusal(grpc.StatusCode.FAILED_PRECONDITION, text))
    assert (error.hint is None) if words is None else (words in (error.hint or ""))


def test_hints_look_into_details(stub: StubGateway, contract: Any) -> None:
    detail = ErrorDetail("peer", "BankMSP", "error validating proposal: access denied: channel [scf] creator org [X]")
    error = _caught(stub, contract, "endorse", Refusal(grpc.StatusCode.ABORTED, "see details", (detail,)))
    causes = ["hash", "high S", "expired", "capability"]
    places = [(error.hint or "").find(cause) for cause in causes]
    assert places == sorted(places)
    assert places[0] >= 0


def test_a_traceback_shows_the_hint(stub: StubGateway, contract: Any) -> None:
    error = _caught(stub, contract, "evaluate", Refusal(grpc.StatusCode.UNKNOWN, "proposal client identity expired"))
    assert error.hint is not None
    assert f"Hint: {error.hint}" in "".join(traceback.format_exception(error))
    assert error.hint in "".join(traceback.format_exception(EventError.from_deliver_status(403, error.hint)))


def test_a_detail_that_repeats_the_message_is_not_said_twice() -> None:
    said = "chaincode response 404, NOT_FOUND voucher_unknown: no V-1"
    error = EvaluateError(grpc.StatusCode.UNKNOWN, f"evaluate call: {said}", (ErrorDetail("p:1", "BankMSP", said),))
    assert str(error) == f"UNKNOWN: evaluate call: {said}; BankMSP p:1"


def test_past_the_deadline_of_a_status_the_hint_says_why() -> None:
    late = CommitStatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "context deadline exceeded", (), "tx")
    assert "never ordered" in (late.hint or "")
    assert CommitStatusError(grpc.StatusCode.UNAVAILABLE, "anything else").hint is None


def test_the_hint_names_the_hash_that_was_chosen(side: Side, stub: StubGateway) -> None:
    contract = side.connect(stub, signer=lambda digest: b"s", hash=Hash.SHA384).network("scf").contract("trade")
    refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "access denied: channel [scf] creator org [BankMSP]")
    assert "SHA384" in (_caught(stub, contract, "evaluate", refusal).hint or "")


def test_details_of_another_kind_are_left_out(stub: StubGateway, contract: Any) -> None:
    assert errors.status_details(b"\xff\xff") == []
    assert errors.status_details(errors.status_bytes(2, "m", [b"detail"])) == [b"detail"]


@pytest.mark.parametrize(
    "error",
    [
        EvaluateError(grpc.StatusCode.ABORTED, "message", DETAILS, "tx"),
        SubmitError(grpc.StatusCode.UNAVAILABLE, "message", (), "tx"),
        CommitError(ValidationCode.MVCC_READ_CONFLICT, "tx", 7),
    ],
)
def test_errors_pickle(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_the_tree_is_the_one_that_is_documented() -> None:
    documented = (errors.__doc__ or "").split("FabricError\n", 1)[1]
    names = [line.split("── ")[1].split()[0] for line in documented.splitlines() if "── " in line]
    made = {name for name in errors.__all__ if name.endswith("Error")}
    assert set(names) | {"FabricError"} == made
    assert all(issubclass(getattr(errors, name), FabricError) for name in names)
