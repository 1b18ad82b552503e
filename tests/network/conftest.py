"""One home with all identities for the tests that only read them; making it takes a tenth of a second."""

from pathlib import Path
from typing import NamedTuple

import pytest

from network import topology as topologies
from network.channel import config
from network.identity.identities import establish
from network.topology import Topology


class Established(NamedTuple):
    """The shipped topology, a home with its identities, and the first block of its channel."""

    topology: Topology
    home: Path
    genesis: bytes


@pytest.fixture(scope="session")
def established(tmp_path_factory: pytest.TempPathFactory) -> Established:
    topology = topologies.load()
    home = tmp_path_factory.mktemp("home")
    establish(home, topology)
    return Established(topology, home, config.genesis_block(topology, home))
