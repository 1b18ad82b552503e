"""What all client tests share: the interface under test and a stub gateway."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tallystick.testing import Proposed, StubGateway

from . import networks
from .sides import Side


@pytest.fixture(params=["sync", "aio"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    """Both interfaces, one after the other."""
    with ExitStack() as cleanup:
        yield Side(request.param, cleanup)


@pytest.fixture(scope="session", params=networks.KINDS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[networks.Network]:
    """A network, embedded and real one after the other."""
    with networks.running(request.param, tmp_path_factory.mktemp(request.param)) as network:
        yield network


@pytest.fixture
def stub() -> Iterator[StubGateway]:
    """A stub gateway of this test's own."""
    with StubGateway() as gateway:
        yield gateway


@pytest.fixture
def gateway(side: Side, stub: StubGateway) -> Any:
    """A gateway to the stub, with the defaults."""
    return side.connect(stub)


@pytest.fixture
def network(gateway: Any) -> Any:
    """The channel `scf`."""
    return gateway.network("scf")


@pytest.fixture
def contract(network: Any) -> Any:
    """The default contract of chaincode `trade`."""
    return network.contract("trade")


@pytest.fixture(params=["evaluate", "endorse"])
def propose(request: pytest.FixtureRequest, stub: StubGateway) -> Callable[..., Proposed]:
    """Both stages that send a proposal: call with a contract, a name and arguments; answers what the stub received."""

    def call(
        contract: Any, name: str = "get", *arguments: Any, timeout: float | None = None, **keywords: Any
    ) -> Proposed:
        proposal = contract.new_proposal(name, *arguments, **keywords)
        getattr(proposal, request.param)(timeout=timeout)
        return getattr(stub, request.param).requests[-1]

    return call


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether the condition becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
