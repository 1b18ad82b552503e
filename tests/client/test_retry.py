"""Every row of the table of what may be repeated: the decision, and what the loop does about it."""

from typing import Any

import grpc
import pytest
from tallystick.fabric import (
    CommitError,
    CommitStatusError,
    EndorseError,
    ErrorDetail,
    EvaluateError,
    EventError,
    FabricError,
    GatewayError,
    Retry,
    SubmitError,
    ValidationCode,
)
from tallystick.fabric._retry import Next, after
from tallystick.testing import WAIT, Refusal, StubGateway, Verdict

from .sides import Side

Code = grpc.StatusCode
OVERLOAD = "too many requests for /gateway.Gateway, exceeding concurrency limit (500)"
MISMATCH = ErrorDetail("peer", "BankMSP", "ProposalResponsePayloads do not match")
REFUSED = ErrorDetail("peer", "BankMSP", "chaincode response 409, CONFLICT x: y")
TERMINATED = ErrorDetail("peer", "BankMSP", "error in simulation: chaincode stream terminated")
UNREACHABLE = ErrorDetail("peer", "BankMSP", "rpc error: code = Unavailable desc = connection error: dial tcp")
DENIED = ErrorDetail("peer", "BankMSP", "rpc error: code = Unknown desc = access denied: channel [scf] creator org [X]")
FAST = Retry(attempts=2, delay=0.0, ask=0.3)
RACING = Retry(attempts=2, on_conflict=2, delay=0.0, ask=0.3)


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        # evaluate
        (EvaluateError(Code.UNKNOWN, "chaincode response 404, NOT_FOUND x: y"), Next.GIVE_UP),
        (EvaluateError(Code.UNKNOWN, OVERLOAD), Next.PROPOSE_AGAIN),
        (EvaluateError(Code.UNAVAILABLE, "no peer"), Next.PROPOSE_AGAIN),
        (EvaluateError(Code.INVALID_ARGUMENT, "malformed"), Next.GIVE_UP),
        (EvaluateError(Code.FAILED_PRECONDITION, "access denied"), Next.GIVE_UP),
        (EvaluateError(Code.DEADLINE_EXCEEDED, "too slow"), Next.GIVE_UP),
        (EvaluateError(Code.ABORTED, "500"), Next.GIVE_UP),
        # endorse
        (EndorseError(Code.UNKNOWN, OVERLOAD), Next.PROPOSE_AGAIN),
        (EndorseError(Code.UNAVAILABLE, "no peer"), Next.PROPOSE_AGAIN),
        (EndorseError(Code.DEADLINE_EXCEEDED, "timeout"), Next.PROPOSE_AGAIN),
        (EndorseError(Code.ABORTED, "see details", [TERMINATED]), Next.PROPOSE_AGAIN),
        (EndorseError(Code.ABORTED, "see details", [UNREACHABLE]), Next.PROPOSE_AGAIN),
        (EndorseError(Code.ABORTED, "see details", [MISMATCH]), Next.LOST_RACE),
        (EndorseError(Code.ABORTED, "see details", [REFUSED]), Next.GIVE_UP),
        (EndorseError(Code.ABORTED, "see details", [REFUSED, UNREACHABLE]), Next.GIVE_UP),
        (EndorseError(Code.ABORTED, "see details", [DENIED]), Next.GIVE_UP),
        (EndorseError(Code.ABORTED, "see details"), Next.GIVE_UP),
        (EndorseError(Code.INVALID_ARGUMENT, "malformed"), Next.GIVE_UP),
        (EndorseError(Code.FAILED_PRECONDITION, "no endorsers"), Next.GIVE_UP),
        # submit
        (SubmitError(Code.UNKNOWN, OVERLOAD), Next.SAME_ENVELOPE),
        (SubmitError(Code.UNAVAILABLE, "gone"), Next.SAME_ENVELOPE),
        (SubmitError(Code.DEADLINE_EXCEEDED, "timeout"), Next.SAME_ENVELOPE),
        (SubmitError(Code.INTERNAL, "connection was reset"), Next.SAME_ENVELOPE),
        (SubmitError(Code.CANCELLED, "cancelled"), Next.SAME_ENVELOPE),
        (SubmitError(Code.ABORTED, "orderer refused"), Next.GIVE_UP),
        (SubmitError(Code.INVALID_ARGUMENT, "unsigned"), Next.GIVE_UP),
        (SubmitError(Code.FAILED_PRECONDITION, "unknown channel"), Next.GIVE_UP),
        # commit status
        (CommitStatusError(Code.DEADLINE_EXCEEDED, "not yet"), Next.ASK_AGAIN),
        (CommitStatusError(Code.UNAVAILABLE, "gone"), Next.ASK_AGAIN),
        (CommitStatusError(Code.UNKNOWN, OVERLOAD), Next.ASK_AGAIN),
        (CommitStatusError(Code.PERMISSION_DENIED, "no reader"), Next.GIVE_UP),
        (CommitStatusError(Code.INVALID_ARGUMENT, "malformed"), Next.GIVE_UP),
        # commit
        (CommitError(ValidationCode.MVCC_READ_CONFLICT, "tx", 1), Next.LOST_RACE),
        (CommitError(ValidationCode.PHANTOM_READ_CONFLICT, "tx", 1), Next.LOST_RACE),
        (CommitError(ValidationCode.ENDORSEMENT_POLICY_FAILURE, "tx", 1), Next.GIVE_UP),
        (CommitError(ValidationCode.DUPLICATE_TXID, "tx", 1), Next.GIVE_UP),
        # events
        (EventError(Code.UNAVAILABLE, "gone"), Next.GIVE_UP),
    ],
    ids=lambda value: f"{type(value).__name__} {value}" if isinstance(value, FabricError) else value.name,
)
def test_decision(error: FabricError, decision: Next) -> None:
    assert after(error) is decision


def test_overload_is_known_by_its_text() -> None:
    for kind in (EvaluateError, EndorseError, SubmitError, CommitStatusError, EventError):
        assert kind(Code.UNKNOWN, OVERLOAD).overloaded
        assert kind(Code.UNKNOWN, OVERLOAD).retryable
        assert not kind(Code.RESOURCE_EXHAUSTED, "message too large").overloaded
        assert not kind(Code.UNKNOWN, "chaincode response 500, too many").overloaded


def test_overload_leaves_no_unknown_outcome() -> None:
    assert not SubmitError(Code.UNKNOWN, OVERLOAD).outcome_unknown
    assert SubmitError(Code.UNAVAILABLE, "gone").outcome_unknown
    assert SubmitError(Code.DEADLINE_EXCEEDED, "slow").outcome_unknown
    assert not SubmitError(Code.ABORTED, "refused").outcome_unknown
    assert CommitStatusError(Code.UNAVAILABLE, "gone").outcome_unknown


def test_pauses_are_random_and_bounded() -> None:
    retry = Retry.safe()
    pauses = [retry.pause(repeat) for repeat in range(12) for _ in range(20)]
    assert len(set(pauses)) > 100
    assert 0 <= min(pauses) <= max(pauses) <= retry.delay_max
    assert max(retry.pause(0) for _ in range(50)) <= retry.delay


def _contract(side: Side, stub: StubGateway, retry: Retry) -> Any:
    return side.connect(stub, retry=retry).network("scf").contract("trade")


# ---- nothing is repeated unless it is asked for


@pytest.mark.parametrize("stage", ["evaluate", "endorse", "submit", "commit_status"])
def test_none_repeats_nothing(side: Side, stub: StubGateway, stage: str) -> None:
    contract = _contract(side, stub, Retry.none())
    getattr(stub, stage).answer(Refusal(Code.UNAVAILABLE, "gone"))
    with pytest.raises(GatewayError, match="gone"):
        contract.evaluate("get") if stage == "evaluate" else contract.submit("issue")
    assert len(getattr(stub, stage).requests) == 1
    if stage == "submit":
        assert not stub.commit_status.requests


def test_none_does_not_propose_again_after_a_lost_race(side: Side, stub: StubGateway) -> None:
    stub.commit_status.answer(Verdict(ValidationCode.MVCC_READ_CONFLICT))
    with pytest.raises(CommitError):
        _contract(side, stub, Retry.none()).submit("issue")
    assert len(stub.endorse.requests) == 1


def test_a_call_may_choose_its_own_retry(side: Side, stub: StubGateway) -> None:
    stub.evaluate.answer(Refusal(Code.UNAVAILABLE, "gone"), b"result")
    assert _contract(side, stub, Retry.none()).evaluate("get", retry=FAST) == b"result"


# ---- evaluate and endorse: the same call again, freshly signed


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(Code.UNKNOWN, OVERLOAD),
        Refusal(Code.UNAVAILABLE, "failed to get config for channel [scf]"),
    ],
)
@pytest.mark.parametrize("stage", ["evaluate", "endorse"])
def test_transient_refusals_are_repeated(side: Side, stub: StubGateway, stage: str, refusal: Refusal) -> None:
    getattr(stub, stage).answer(refusal, refusal, b"result")
    contract = _contract(side, stub, FAST)
    assert (contract.evaluate("get") if stage == "evaluate" else contract.submit("issue")) == b"result"
    ids = [request.transaction_id for request in getattr(stub, stage).requests]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("stage", ["evaluate", "endorse"])
def test_repeats_are_bounded(side: Side, stub: StubGateway, stage: str) -> None:
    getattr(stub, stage).answer(Refusal(Code.UNAVAILABLE, "gone"))
    contract = _contract(side, stub, FAST)
    with pytest.raises(GatewayError, match="gone"):
        contract.evaluate("get") if stage == "evaluate" else contract.submit("issue")
    assert len(getattr(stub, stage).requests) == 3
    assert not stub.submit.requests


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(Code.UNKNOWN, "chaincode response 409, CONFLICT x: y"),
        Refusal(Code.INVALID_ARGUMENT, "malformed"),
        Refusal(Code.PERMISSION_DENIED, "no"),
        Refusal(Code.FAILED_PRECONDITION, "no endorsers"),
        Refusal(Code.ABORTED, "see details", (REFUSED,)),
        Refusal(Code.ABORTED, "see details", (DENIED,)),
    ],
)
@pytest.mark.parametrize("stage", ["evaluate", "endorse"])
def test_lasting_refusals_are_not_repeated(side: Side, stub: StubGateway, stage: str, refusal: Refusal) -> None:
    getattr(stub, stage).answer(refusal)
    contract = _contract(side, stub, RACING)
    with pytest.raises(GatewayError):
        contract.evaluate("get") if stage == "evaluate" else contract.submit("issue")
    assert len(getattr(stub, stage).requests) == 1


@pytest.mark.parametrize("detail", [TERMINATED, UNREACHABLE])
def test_unreachable_endorsers_are_asked_again(side: Side, stub: StubGateway, detail: ErrorDetail) -> None:
    stub.endorse.answer(Refusal(Code.ABORTED, "see details", (detail,)), b"result")
    assert _contract(side, stub, FAST).submit("issue") == b"result"


# ---- peers at different heights, or a contract that is not deterministic


def test_a_mismatch_is_proposed_again_only_if_allowed(side: Side, stub: StubGateway) -> None:
    refusal = Refusal(Code.ABORTED, "see details", (MISMATCH,))
    stub.endorse.answer(refusal)
    with pytest.raises(EndorseError):
        _contract(side, stub, FAST).submit("issue")
    assert len(stub.endorse.requests) == 1
    stub.endorse.answer(refusal, refusal, b"result")
    assert _contract(side, stub, RACING).submit("issue") == b"result"


def test_a_lasting_mismatch_is_reported_as_non_determinism(side: Side, stub: StubGateway) -> None:
    stub.endorse.answer(Refusal(Code.ABORTED, "see details", (MISMATCH,)))
    with pytest.raises(EndorseError) as caught:
        _contract(side, stub, RACING).submit("issue")
    assert len(stub.endorse.requests) == 3
    assert caught.value.mismatch
    assert "not deterministic" in (caught.value.hint or "")


# ---- submit: never pay twice


def _paid_once(stub: StubGateway) -> None:
    """One proposal, one transaction id in every request, and every envelope byte for byte the same."""
    assert len(stub.endorse.requests) == 1
    ids = {request.transaction_id for request in (*stub.submit.requests, *stub.commit_status.requests)}
    assert ids == {stub.endorse.requests[0].transaction_id}
    assert len({(request.payload, request.signature) for request in stub.submit.requests}) == 1


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.CANCELLED])
def test_after_an_unknown_outcome_the_status_is_asked_first(side: Side, stub: StubGateway, code: Code) -> None:
    stub.endorse.answer(b"result")
    stub.submit.answer(Refusal(code, "no answer"))
    stub.commit_status.answer(Verdict(ValidationCode.VALID, 7))
    assert _contract(side, stub, RACING).submit("issue") == b"result"
    assert (len(stub.submit.requests), len(stub.commit_status.requests)) == (1, 1)
    _paid_once(stub)


def test_an_unknown_outcome_that_turns_out_invalid_is_a_commit_error(side: Side, stub: StubGateway) -> None:
    stub.submit.answer(Refusal(Code.UNAVAILABLE, "no answer"))
    stub.commit_status.answer(Verdict(ValidationCode.BAD_CREATOR_SIGNATURE, 7))
    with pytest.raises(CommitError):
        _contract(side, stub, RACING).submit("issue")
    _paid_once(stub)


def test_if_the_status_is_not_known_the_same_envelope_is_sent_again(side: Side, stub: StubGateway) -> None:
    stub.endorse.answer(b"result")
    stub.submit.answer(Refusal(Code.UNAVAILABLE, "no answer"), None)
    stub.commit_status.answer(WAIT, Verdict(ValidationCode.VALID, 7))
    assert _contract(side, stub, RACING).submit("issue") == b"result"
    assert (len(stub.submit.requests), len(stub.commit_status.requests)) == (2, 2)
    _paid_once(stub)


@pytest.mark.parametrize("call", ["submit", "submit_async"])
def test_an_outcome_that_stays_unknown_is_said_so(side: Side, stub: StubGateway, call: str) -> None:
    stub.submit.answer(Refusal(Code.UNAVAILABLE, "no answer"))
    stub.commit_status.answer(Refusal(Code.UNAVAILABLE, "no answer"))
    with pytest.raises(SubmitError) as caught:
        getattr(_contract(side, stub, RACING), call)("issue")
    assert caught.value.outcome_unknown
    assert caught.value.transaction_id == stub.endorse.requests[0].transaction_id
    assert (len(stub.submit.requests), len(stub.commit_status.requests)) == (3, 3)
    _paid_once(stub)


def test_a_refusal_of_the_second_copy_does_not_hide_the_first(side: Side, stub: StubGateway) -> None:
    stub.submit.answer(Refusal(Code.UNAVAILABLE, "no answer"), Refusal(Code.ABORTED, "orderer refused"))
    stub.commit_status.answer(Refusal(Code.DEADLINE_EXCEEDED, "not yet"))
    with pytest.raises(SubmitError, match="no answer") as caught:
        _contract(side, stub, RACING).submit("issue")
    assert caught.value.outcome_unknown
    assert isinstance(caught.value.__cause__, SubmitError)
    _paid_once(stub)


def test_an_overloaded_submit_is_sent_again_without_asking(side: Side, stub: StubGateway) -> None:
    stub.submit.answer(Refusal(Code.UNKNOWN, OVERLOAD), None)
    _contract(side, stub, RACING).submit("issue")
    assert (len(stub.submit.requests), len(stub.commit_status.requests)) == (2, 1)
    _paid_once(stub)


@pytest.mark.parametrize("code", [Code.ABORTED, Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION])
def test_a_refused_submit_is_not_repeated(side: Side, stub: StubGateway, code: Code) -> None:
    stub.submit.answer(Refusal(code, "refused"))
    with pytest.raises(SubmitError, match="refused") as caught:
        _contract(side, stub, RACING).submit("issue")
    assert not caught.value.outcome_unknown
    assert (len(stub.submit.requests), len(stub.commit_status.requests)) == (1, 0)
    _paid_once(stub)


def test_submit_async_repeats_the_same_envelope_too(side: Side, stub: StubGateway) -> None:
    stub.submit.answer(Refusal(Code.UNAVAILABLE, "no answer"), None)
    stub.commit_status.answer(Refusal(Code.DEADLINE_EXCEEDED, "not yet"), Verdict(ValidationCode.VALID, 7))
    submitted = _contract(side, stub, RACING).submit_async("issue")
    assert submitted.status().block_number == 7
    _paid_once(stub)


# ---- commit status: the same request again


@pytest.mark.parametrize(
    "refusal",
    [Refusal(Code.DEADLINE_EXCEEDED, "not yet"), Refusal(Code.UNAVAILABLE, "gone"), Refusal(Code.UNKNOWN, OVERLOAD)],
)
def test_the_status_is_asked_again(side: Side, stub: StubGateway, refusal: Refusal) -> None:
    stub.commit_status.answer(refusal, refusal, Verdict(ValidationCode.VALID, 7))
    _contract(side, stub, RACING).submit("issue")
    assert len({(request.request, request.signature) for request in stub.commit_status.requests}) == 1
    assert len(stub.commit_status.requests) == 3
    _paid_once(stub)


def test_a_status_that_cannot_be_had_is_said_so(side: Side, stub: StubGateway) -> None:
    stub.commit_status.answer(Refusal(Code.UNAVAILABLE, "gone"))
    with pytest.raises(CommitStatusError) as caught:
        _contract(side, stub, RACING).submit("issue")
    assert caught.value.outcome_unknown
    assert len(stub.commit_status.requests) == 3
    _paid_once(stub)


def test_a_refused_status_is_not_asked_again(side: Side, stub: StubGateway) -> None:
    stub.commit_status.answer(Refusal(Code.PERMISSION_DENIED, "no reader"))
    with pytest.raises(CommitStatusError):
        _contract(side, stub, RACING).submit("issue")
    assert len(stub.commit_status.requests) == 1


# ---- a lost race: a new proposal, if the caller says so


@pytest.mark.parametrize("code", [ValidationCode.MVCC_READ_CONFLICT, ValidationCode.PHANTOM_READ_CONFLICT])
def test_a_lost_race_is_proposed_again(side: Side, stub: StubGateway, code: ValidationCode) -> None:
    stub.endorse.answer(b"first", b"second", b"third")
    stub.commit_status.answer(Verdict(code), Verdict(code), Verdict(ValidationCode.VALID, 9))
    assert _contract(side, stub, RACING).submit("issue", "1") == b"third"
    assert len({request.transaction_id for request in stub.endorse.requests}) == 3
    assert {request.arguments for request in stub.endorse.requests} == {(b"issue", b"1")}


def test_lost_races_are_bounded(side: Side, stub: StubGateway) -> None:
    stub.commit_status.answer(Verdict(ValidationCode.MVCC_READ_CONFLICT))
    with pytest.raises(CommitError):
        _contract(side, stub, RACING).submit("issue")
    assert len(stub.endorse.requests) == 3


def test_safe_alone_does_not_repeat_lost_races(side: Side, stub: StubGateway) -> None:
    stub.commit_status.answer(Verdict(ValidationCode.MVCC_READ_CONFLICT))
    with pytest.raises(CommitError):
        _contract(side, stub, Retry.safe()).submit("issue")
    assert len(stub.endorse.requests) == 1


@pytest.mark.parametrize("code", [ValidationCode.ENDORSEMENT_POLICY_FAILURE, ValidationCode.DUPLICATE_TXID])
def test_other_invalid_transactions_are_not_proposed_again(side: Side, stub: StubGateway, code: ValidationCode) -> None:
    stub.commit_status.answer(Verdict(code))
    with pytest.raises(CommitError):
        _contract(side, stub, RACING).submit("issue")
    assert len(stub.endorse.requests) == 1


# ---- the budget bounds everything


@pytest.mark.parametrize("stage", ["evaluate", "endorse", "commit_status"])
def test_a_spent_budget_ends_the_repeats(side: Side, stub: StubGateway, stage: str) -> None:
    getattr(stub, stage).answer(WAIT)
    contract = _contract(side, stub, Retry(attempts=1000, delay=0.0, ask=0.1))
    with pytest.raises(GatewayError) as caught:
        contract.evaluate("get", timeout=0.4) if stage == "evaluate" else contract.submit("issue", timeout=0.4)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert len(getattr(stub, stage).requests) < 10
