"""The stub gateway that users test with."""

from typing import Any

import grpc
import pytest
from tallystick.fabric import EvaluateError, ValidationCode
from tallystick.testing import Refusal, StubGateway

from .sides import Side


def test_answers_are_used_in_order_and_the_last_one_stays(stub: StubGateway, contract: Any) -> None:
    stub.evaluate.answer(b"one", b"two")
    assert [contract.evaluate("get") for _ in range(3)] == [b"one", b"two", b"two"]


def test_an_answer_may_depend_on_the_request(stub: StubGateway, contract: Any) -> None:
    stub.evaluate.answer(lambda request: b"|".join(request.arguments))
    assert contract.evaluate("get", "a", "b") == b"get|a|b"


def test_a_function_may_refuse(stub: StubGateway, contract: Any) -> None:
    stub.evaluate.answer(lambda request: Refusal(grpc.StatusCode.NOT_FOUND, request.arguments[0].decode()))
    with pytest.raises(EvaluateError, match="NOT_FOUND: get"):
        contract.evaluate("get")


def test_unscripted_it_commits_everything(stub: StubGateway, contract: Any) -> None:
    status = contract.submit_async("issue").status()
    assert (status.code, status.block_number) == (ValidationCode.VALID, 1)


def test_stubs_are_different_networks() -> None:
    with StubGateway(network_name="a") as first, StubGateway(network_name="b") as second, StubGateway() as third:
        assert len({first.network_id, second.network_id, third.network_id}) == 3


def test_it_can_keep_nothing(side: Side) -> None:
    with StubGateway(record=False) as stub:
        contract = side.connect(stub).network("scf").contract("trade")
        contract.evaluate("get")
        contract.submit("issue")
        assert (stub.evaluate.requests, stub.submit.requests) == ([], [])
        assert side.connect(stub).network("scf").chain_info().height == 1


def test_ledger_queries_that_find_nothing(network: Any) -> None:
    with pytest.raises(EvaluateError):
        network.block(99)
    with pytest.raises(EvaluateError):
        network.contract("qscc").evaluate("NoSuchFunction", "scf")
