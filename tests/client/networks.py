"""The networks the client is tried on: the embedded one always, a real one where Fabric's programs are present."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tallystick import fabric
from tallystick.fabric import Identity, signers

from network.embedded.network import EmbeddedNetwork
from network.identity.authority import Authority
from network.identity.enrolment import authority_folder
from tests.network import real
from tests.network.channel import programs
from tests.network.embedded.conftest import small_topology
from tests.network.real import RealNetwork

Network = EmbeddedNetwork | RealNetwork

_REAL = pytest.param(
    "real",
    marks=[
        pytest.mark.fabric,
        pytest.mark.skipif(programs.missing() is not None, reason=f"Fabric's programs: {programs.missing()}"),
    ],
)
KINDS = ("embedded", _REAL)
"""The values of the fixture `running`."""


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Network]:
    """A network with the tests' own chaincodes; the bank's peer demands client certificates."""
    topology = small_topology()
    basic = topology.chaincode("basic")
    storing = replace(basic, name="storing", program="tests.chaincode.shim.programs.storing:chaincode")
    if kind == "embedded":
        topology = replace(topology, chaincodes=(basic, storing))
        with EmbeddedNetwork.running(folder / "home", topology, mutual_tls=["bank"]) as embedded:
            yield embedded
    else:
        with real.running(folder, [basic, storing], mutual_tls=["bank"]) as network:
            yield network


class Place:
    """One organisation of the network: where its peer is and who its people are."""

    def __init__(self, network: Network, name: str) -> None:
        (entry,) = (each for each in network.connection["organisations"] if each["name"] == name)
        self.home: Path = network.home
        self.name = name
        self.msp_id: str = entry["msp_id"]
        self.target: str = entry["gateway"]
        self.tls_ca = (self.home / entry["tls_ca_file"]).read_bytes()

    def person(self, name: str) -> tuple[Identity, fabric.Signer]:
        """Identity and signer of someone in the home."""
        folder = self.home / "identities" / self.name / name
        identity = Identity.x509(self.msp_id, (folder / "certificate.pem").read_bytes())
        return identity, signers.from_pem((folder / "private_key.pem").read_bytes())

    def newcomer(self, key: Any) -> Identity:
        """An identity for a key, by the organisation's own authority."""
        authority = Authority.load(authority_folder(self.home, self.name))
        return Identity.x509(self.msp_id, authority.issue(key.public_key(), "newcomer", ou="client"))
