"""From an endorsed transaction to its verdict."""

import hashlib
from typing import Any

import grpc
import pytest
from tallystick.fabric import (
    CommitError,
    CommitStatusError,
    GatewayError,
    Hash,
    Status,
    SubmitError,
    Timeouts,
    ValidationCode,
)
from tallystick.testing import Refusal, StubGateway, Verdict

from .material import identity
from .sides import Side


def test_submit_returns_the_answer(stub: StubGateway, contract: Any) -> None:
    stub.endorse.answer(b"result")
    assert contract.submit("issue") == b"result"


def test_submit_async_knows_the_answer_and_the_id(stub: StubGateway, contract: Any) -> None:
    stub.endorse.answer(b"result")
    submitted = contract.submit_async("issue")
    assert submitted.result == b"result"
    assert submitted.transaction_id == stub.submit.requests[0].transaction_id
    assert not stub.commit_status.requests


def test_stage_by_stage(stub: StubGateway, contract: Any) -> None:
    stub.endorse.answer(b"result")
    transaction = contract.new_proposal("issue").endorse()
    assert transaction.result == b"result"
    submitted = transaction.submit()
    assert submitted.result == b"result"
    assert submitted.status() == Status(ValidationCode.VALID, transaction.transaction_id, 1)


@pytest.mark.parametrize("call", ["submit", "submit_async"])
def test_a_refused_submit_is_a_submit_error(stub: StubGateway, contract: Any, call: str) -> None:
    stub.submit.answer(Refusal(grpc.StatusCode.ABORTED, "orderer says no"))
    with pytest.raises(SubmitError, match="orderer says no") as caught:
        getattr(contract, call)("issue")
    assert caught.value.transaction_id == stub.endorse.requests[0].transaction_id
    assert caught.value.code is grpc.StatusCode.ABORTED


def test_a_refused_status_is_a_commit_status_error(stub: StubGateway, contract: Any) -> None:
    stub.commit_status.answer(Refusal(grpc.StatusCode.PERMISSION_DENIED, "no reader"))
    with pytest.raises(CommitStatusError, match="no reader") as caught:
        contract.submit("issue")
    assert caught.value.transaction_id == stub.endorse.requests[0].transaction_id
    assert isinstance(caught.value, GatewayError)


def test_an_invalid_transaction_is_a_commit_error(stub: StubGateway, contract: Any) -> None:
    stub.commit_status.answer(Verdict(ValidationCode.MVCC_READ_CONFLICT, 17))
    with pytest.raises(CommitError, match="MVCC_READ_CONFLICT") as caught:
        contract.submit("issue")
    assert (caught.value.code, caught.value.block_number) == (ValidationCode.MVCC_READ_CONFLICT, 17)
    assert caught.value.transaction_id == stub.endorse.requests[0].transaction_id


def test_an_invalid_transaction_is_a_value_of_status(stub: StubGateway, contract: Any) -> None:
    stub.commit_status.answer(Verdict(ValidationCode.MVCC_READ_CONFLICT, 17))
    status = contract.submit_async("issue").status()
    assert (status.code, status.successful) == (ValidationCode.MVCC_READ_CONFLICT, False)


def test_a_valid_transaction_is_successful(contract: Any) -> None:
    assert contract.submit_async("issue").status().successful


def test_status_has_the_block_number(stub: StubGateway, contract: Any) -> None:
    stub.commit_status.answer(Verdict(0, 2**64 - 1))
    assert contract.submit_async("issue").status().block_number == 2**64 - 1


def test_status_in_block_zero(stub: StubGateway, contract: Any) -> None:
    stub.commit_status.answer(Verdict(0, 0))
    assert contract.submit_async("issue").status().block_number == 0


def test_unknown_validation_codes_are_kept(stub: StubGateway, contract: Any) -> None:
    stub.commit_status.answer(Verdict(199))
    status = contract.submit_async("issue").status()
    assert (int(status.code), status.code.name, status.successful) == (199, "UNKNOWN_199", False)


def test_submit_carries_channel_and_id(stub: StubGateway, contract: Any) -> None:
    contract.submit("issue")
    submitted, asked = stub.submit.requests[0], stub.commit_status.requests[0]
    assert (submitted.channel, asked.channel) == ("scf", "scf")
    assert submitted.transaction_id == asked.transaction_id == stub.endorse.requests[0].transaction_id


def test_status_is_asked_as_the_identity(stub: StubGateway, contract: Any) -> None:
    contract.submit("issue")
    assert stub.commit_status.requests[0].identity == identity()


def test_each_stage_is_signed_over_its_own_bytes(side: Side, stub: StubGateway) -> None:
    digests: list[bytes] = []
    gateway = side.connect(stub, signer=lambda digest: digests.append(digest) or b"s%d" % len(digests))
    gateway.network("scf").contract("trade").submit("issue")
    signed = [
        stub.endorse.requests[0].proposal,
        stub.submit.requests[0].payload,
        stub.commit_status.requests[0].request,
    ]
    assert digests == [hashlib.sha256(data).digest() for data in signed]
    requests = [stub.endorse.requests[0], stub.submit.requests[0], stub.commit_status.requests[0]]
    assert [request.signature for request in requests] == [b"s1", b"s2", b"s3"]


@pytest.mark.parametrize("option", Hash)
def test_each_stage_uses_the_chosen_hash(side: Side, stub: StubGateway, option: Hash) -> None:
    digests: list[bytes] = []
    gateway = side.connect(stub, signer=lambda digest: digests.append(digest) or b"s", hash=option)
    gateway.network("scf").contract("trade").submit("issue")
    assert digests[1:] == [
        option.digest(stub.submit.requests[0].payload),
        option.digest(stub.commit_status.requests[0].request),
    ]


def test_status_is_signed_once(side: Side, stub: StubGateway) -> None:
    digests: list[bytes] = []
    gateway = side.connect(stub, signer=lambda digest: digests.append(digest) or b"s")
    submitted = gateway.network("scf").contract("trade").submit_async("issue")
    submitted.status()
    submitted.status()
    assert len(digests) == 3


def test_default_timeouts(stub: StubGateway, contract: Any) -> None:
    contract.submit("issue")
    assert stub.submit.requests[0].timeout == pytest.approx(5, abs=3)
    assert stub.commit_status.requests[0].timeout == pytest.approx(60, abs=3)


def test_timeouts_of_the_gateway(side: Side, stub: StubGateway) -> None:
    timeouts = Timeouts(submit=101, commit_status=201)
    side.connect(stub, timeouts=timeouts).network("scf").contract("trade").submit("issue")
    assert stub.submit.requests[0].timeout == pytest.approx(101, abs=3)
    assert stub.commit_status.requests[0].timeout == pytest.approx(201, abs=3)


def test_timeouts_of_single_calls(stub: StubGateway, contract: Any) -> None:
    contract.new_proposal("issue").endorse().submit(timeout=31).status(timeout=41)
    assert stub.submit.requests[0].timeout == pytest.approx(31, abs=3)
    assert stub.commit_status.requests[0].timeout == pytest.approx(41, abs=3)


def test_timeouts_of_one_whole_call(stub: StubGateway, contract: Any) -> None:
    contract.submit("issue", timeout=Timeouts(endorse=21, submit=31, commit_status=41))
    requests = [stub.endorse.requests[0], stub.submit.requests[0], stub.commit_status.requests[0]]
    assert [request.timeout for request in requests] == [pytest.approx(seconds, abs=3) for seconds in (21, 31, 41)]


def test_a_number_is_the_budget_of_the_whole_call(stub: StubGateway, contract: Any) -> None:
    contract.submit("issue", timeout=3)
    requests = [stub.endorse.requests[0], stub.submit.requests[0], stub.commit_status.requests[0]]
    assert all(0 < (request.timeout or 0) < 4 for request in requests)


def test_a_number_replaces_the_stages_own_timeouts(stub: StubGateway, contract: Any) -> None:
    contract.evaluate("get", timeout=33)
    contract.submit("issue", timeout=133)
    requests = [stub.endorse.requests[0], stub.submit.requests[0], stub.commit_status.requests[0]]
    assert stub.evaluate.requests[0].timeout == pytest.approx(33, abs=3)
    assert [request.timeout for request in requests] == [pytest.approx(133, abs=5)] * 3


def test_commit_by_transaction_id(stub: StubGateway, network: Any) -> None:
    stub.commit_status.answer(Verdict(0, 9))
    status = network.commit("ab" * 32).status()
    assert (status.transaction_id, status.block_number) == ("ab" * 32, 9)
    assert stub.commit_status.requests[0].transaction_id == "ab" * 32


RESET = "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))"
"""What is left of a call that a peer written in Go has reset at its deadline, before our own clock struck."""


@pytest.mark.parametrize("stage", ["endorse", "submit", "commit_status"])
@pytest.mark.parametrize(
    ("text", "code"), [(RESET, grpc.StatusCode.DEADLINE_EXCEEDED), ("by the user", grpc.StatusCode.CANCELLED)]
)
def test_a_peers_reset_is_a_passed_deadline(
    stub: StubGateway, contract: Any, stage: str, text: str, code: grpc.StatusCode
) -> None:
    getattr(stub, stage).answer(Refusal(grpc.StatusCode.CANCELLED, text))
    with pytest.raises(GatewayError, match="RST_STREAM" if text is RESET else text) as caught:
        contract.submit("issue")
    assert caught.value.code is code
