"""One embedded network for all tests of this folder, on ports chosen by the system."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from network.embedded.network import EmbeddedNetwork
from network.topology import ChaincodeSpec, Collection, Rule, Topology, load
from tests.network.conftest import Established
from tests.network.embedded.transactions import Chain, Channel
from tests.network.embedded.wire import Client

PROGRAM = "tests.network.embedded.fixtures.basic:chaincode"


def small_topology() -> Topology:
    """The shipped organisations with the tests' own chaincodes; `basic` by majority, `both` by two named ones.

    `elsewhere` is a service that only the bank could run, where nobody listens."""
    shared = Collection("shared", members=Rule(1, ("core", "bank")), member_only_read=True)
    return replace(
        load(None, 0),
        chaincodes=(
            ChaincodeSpec(name="basic", version="1.0", program=PROGRAM, collections=(shared,)),
            ChaincodeSpec(name="both", version="1.0", program=PROGRAM, endorsement=Rule(2, ("core", "bank"))),
            ChaincodeSpec(name="elsewhere", version="1.0", services={"bank": "127.0.0.1:1"}),
        ),
    )


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the tests' network."""
    return tmp_path_factory.mktemp("network") / "home"


@pytest.fixture(scope="session")
def network(home: Path) -> Iterator[EmbeddedNetwork]:
    """The running network."""
    with EmbeddedNetwork.running(home, small_topology()) as running:
        yield running


@pytest.fixture(scope="session")
def core(network: EmbeddedNetwork) -> Iterator[Client]:
    """A user of the core enterprise at its gateway."""
    client = Client(network.home, "core")
    yield client
    client.close()


@pytest.fixture(scope="session")
def bank(network: EmbeddedNetwork) -> Iterator[Client]:
    """A user of the bank at its gateway."""
    client = Client(network.home, "bank")
    yield client
    client.close()


@pytest.fixture(scope="session")
def channel(established: Established) -> Channel:
    """Identities and policies for tests that commit signed transactions without servers."""
    return Channel(established)


@pytest.fixture
def chain(channel: Channel) -> Iterator[Chain]:
    """A fresh ledger in memory."""
    made = Chain(channel, None)
    yield made
    made.close()
