"""connect, gateway, network, contract: names, ownership, closing."""

from typing import Any

import grpc
import pytest
from tallystick import fabric
from tallystick.fabric import EvaluateError, EventError, Retry
from tallystick.testing import StubGateway

from .conftest import eventually
from .material import identity
from .sides import Side


def test_gateway_knows_its_identity(gateway: Any) -> None:
    assert gateway.identity == identity()


def test_network_has_its_name(gateway: Any) -> None:
    assert gateway.network("scf").name == "scf"


def test_default_contract_has_no_name(network: Any) -> None:
    contract = network.contract("trade")
    assert (contract.chaincode, contract.name) == ("trade", None)


def test_named_contract_has_both_names(network: Any) -> None:
    contract = network.contract("trade", "voucher")
    assert (contract.chaincode, contract.name) == ("trade", "voucher")


def test_connect_needs_a_channel_and_an_identity(side: Side) -> None:
    with pytest.raises(TypeError):
        side.package.connect()
    with pytest.raises(TypeError):
        side.package.connect(side.channel("127.0.0.1:1", insecure=True))


def test_connect_makes_no_call(side: Side) -> None:
    side.connect(side.channel("127.0.0.1:1", insecure=True)).network("scf").contract("trade")


def test_retry_is_off_by_default(side: Side, stub: StubGateway) -> None:
    assert Retry() == Retry.none()
    stub.stop()
    with pytest.raises(EvaluateError) as caught:
        side.connect(stub).network("scf").contract("trade").evaluate("get")
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_closing_the_gateway_leaves_the_channel_open(side: Side, stub: StubGateway) -> None:
    channel = side.channel(stub.target, insecure=True)
    with side.connect(channel):
        pass
    stub.evaluate.answer(b"still here")
    assert side.connect(channel).network("scf").contract("trade").evaluate("get") == b"still here"


def test_closing_the_gateway_ends_its_streams_and_no_others(side: Side, stub: StubGateway) -> None:
    channel = side.channel(stub.target, insecure=True)
    other = side.connect(channel).network("scf").block_events(start_block=0)
    assert next(other).number == 0
    with side.connect(channel) as gateway:
        mine = gateway.network("scf").block_events(start_block=0)
        assert next(mine).number == 0
        assert stub.open_streams == 2
    assert list(mine) == []
    assert eventually(lambda: stub.open_streams == 1)
    with pytest.raises(StopIteration):
        next(mine)
    other.close()


def test_a_closed_gateway_refuses_calls_and_streams(gateway: Any, stub: StubGateway) -> None:
    network = gateway.network("scf")
    gateway.close()
    with pytest.raises(EvaluateError, match="the gateway is closed") as caught:
        network.contract("trade").evaluate("get")
    assert caught.value.code is grpc.StatusCode.CANCELLED
    with pytest.raises(EventError, match="the gateway is closed"), network.block_events(start_block=0) as events:
        next(events)
    assert (stub.evaluate.requests, stub.deliver.requests) == ([], [])


def test_closing_twice_is_fine(gateway: Any) -> None:
    gateway.close()
    gateway.close()


def test_many_gateways_share_one_channel(side: Side, stub: StubGateway) -> None:
    channel = side.channel(stub.target, insecure=True)
    for name in ("a", "b", "c"):
        gateway = side.connect(channel, identity(msp_id=name))
        gateway.network("scf").contract("trade").evaluate("get")
    assert [request.identity.msp_id for request in stub.evaluate.requests] == ["a", "b", "c"]


def test_connect_takes_a_plain_grpc_channel(stub: StubGateway) -> None:
    with grpc.insecure_channel(stub.target) as channel:
        signer = fabric.signers.from_pem(_key())
        with fabric.connect(channel, identity(), signer) as gateway:
            assert gateway.network("scf").contract("trade").evaluate("get") == b""


def _key() -> bytes:
    from .material import key_pem, private_key

    return key_pem(private_key())


def test_a_call_over_a_closed_channel_is_a_stage_error(side: Side, stub: StubGateway) -> None:
    channel = side.channel(stub.target, insecure=True)
    contract = side.connect(channel).network("scf").contract("trade")
    channel.close()
    with pytest.raises(EvaluateError, match="closed") as caught:
        contract.evaluate("get")
    assert caught.value.code is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("wrong", ["the other interface's", "127.0.0.1:7051", None])
def test_connect_refuses_what_is_no_channel_of_its_own(side: Side, wrong: str | None) -> None:
    other = Side("aio" if side.name == "sync" else "sync", side._cleanup)
    channel = other.channel("127.0.0.1:1", insecure=True) if wrong and "interface" in wrong else wrong
    with pytest.raises(TypeError, match=f"channel of {side.package.__name__}"):
        side.connect(channel)


def test_connect_refuses_a_hash_that_is_none(side: Side) -> None:
    with pytest.raises(TypeError, match="member of Hash, not 'SHA384'"):
        side.connect(side.channel("127.0.0.1:1", insecure=True), hash="SHA384")
