"""All that endorses for the peers of one network: their identities, programs, policies and plans on one ledger.

The process that serves the network has one, and so has the process that only simulates (`simulation_child`): both run
the same gateway code on the same parts, and neither can answer what the other would not."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fabric_protos.common import configtx_pb2
from fabric_protos.peer import proposal_response_pb2
from tallystick.fabric.signer import Signer

from network.embedded import lifecycle
from network.embedded.endorser import Endorser
from network.embedded.gateway import Endorsers
from network.embedded.host import Host
from network.embedded.layout import Peer, Peers
from network.embedded.ledger import LedgerReader
from network.embedded.msp import MspManager
from network.embedded.plan import PlanError, Planner
from network.embedded.policy import PolicyManager
from network.identity import identities
from network.topology import Node, Organisation, Topology

_PLANS_KEPT: Final = 1024
# Names come from clients; a stranger's made-up ones must not fill the memory.
_RUNS_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """One peer: where it stands in the topology, and its identity. It is what the endorser signs as."""

    organisation: Organisation
    node: Node
    peer: Peer
    identity: identities.NodeIdentity

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def msp_id(self) -> str:
        return self.organisation.msp_id

    @property
    def serialized(self) -> bytes:
        return self.identity.serialized

    @property
    def signer(self) -> Signer:
        return self.identity.signer


class Endorsing:
    """Endorses as every peer of a home's network. Safe to call from many threads.

    Raises ProgramError, MspError, PolicyError and OSError for what the home lacks."""

    def __init__(
        self, home: Path, topology: Topology, ledger: LedgerReader, configuration: configtx_pb2.Config
    ) -> None:
        self._topology = topology
        self._ledger = ledger
        self.msps = MspManager.from_config(configuration)
        self.policies = PolicyManager(configuration, self.msps)
        self.places = {place.name: place for place in _places(home, topology)}
        # Whoever runs the calls bounds their time: `simulations` by threads, `simulation_process` by the process.
        self.host = Host(topology.chaincodes, topology.organisations, threads=0)
        self.endorser = Endorser(
            topology.channel,
            ledger,
            self.host,
            self.msps,
            self.policies,
            [organisation.msp_id for organisation in topology.organisations],
            time_window_seconds=topology.time_window_seconds,
        )
        self.peers = Peers([place.peer for place in self.places.values()], self._can_run)
        serialized: dict[str, list[bytes]] = {}
        for place in self.places.values():
            serialized.setdefault(place.msp_id, []).append(place.serialized)
        self._planner = Planner(topology.channel, self.policies, self.msps, serialized)
        self._defined_at = ledger.height - 1
        self._runs: dict[tuple[int, str, str], bool] = {}
        self._layouts: dict[tuple[int, bytes, tuple[tuple[str, int], ...]], list[Mapping[str, int]]] = {}

    @property
    def endorsers(self) -> Endorsers:
        """These endorsers as the gateways see them."""
        return Endorsers(
            channel=self._topology.channel,
            peers=self.peers,
            snapshot=self._ledger.snapshot,
            process=self.process,
            plan=self.plan,
        )

    @property
    def defined_at(self) -> int:
        """The last block that changed definitions or approvals, as far as known here; what is kept holds from there."""
        return self._defined_at

    def redefined(self, number: int) -> None:
        """Note that block `number` changed definitions or approvals: nothing that is kept of them holds any more."""
        if number != self._defined_at:
            self._defined_at = number
            self._runs.clear()
            self._layouts.clear()

    def process(self, peer: Peer, signed: bytes, snapshot: Any = None) -> proposal_response_pb2.ProposalResponse:
        """Answer a signed proposal as one peer, on a snapshot or the latest state. Raises EndorserError."""
        return self.endorser.process(self.places[peer.name], signed, snapshot)

    def plan(
        self, interest: proposal_response_pb2.ChaincodeInterest, snapshot: Any, preferred: str | None
    ) -> Sequence[Mapping[str, int]]:
        """The layouts for an interest that the running peers can fill. Raises PlanError."""
        count = Counter(peer.msp_id for peer in self.peers.running())
        since = self._defined_at
        key = (since, interest.SerializeToString(deterministic=True), tuple(sorted(count.items())))
        layouts = self._layouts.get(key)
        if layouts is None:
            layouts = self._planner.layouts(
                interest,
                lambda name: lifecycle.definition(snapshot.get_state, name),
                preferred,
                lambda msp_id, name: self.endorser.runs(msp_id, name, snapshot),
            )
            layouts = [layout for layout in layouts if all(size <= count[msp_id] for msp_id, size in layout.items())]
            if not layouts:
                raise PlanError("no peer combination can satisfy the endorsement policy")
            if snapshot.height > since:
                self._layouts[key] = layouts
                if len(self._layouts) > _PLANS_KEPT:
                    self._layouts.clear()
        # Equally good layouts take turns, so that no organisation is left out for good.
        shuffled = random.sample(layouts, len(layouts))
        return sorted(shuffled, key=lambda layout: preferred not in layout)

    def _can_run(self, peer: Peer, chaincode: str, snapshot: Any) -> bool:
        """Whether a peer can run a chaincode; asked four times a call, read from the ledger once a definition."""
        since = self._defined_at
        key = (since, peer.msp_id, chaincode)
        found = self._runs.get(key)
        if found is None:
            found = self.endorser.runs(peer.msp_id, chaincode, snapshot)
            if snapshot.height > since and len(self._runs) < _RUNS_KEPT:
                self._runs[key] = found
        return found


def _places(home: Path, topology: Topology) -> Iterator[Place]:
    for organisation in topology.organisations:
        for node in organisation.peers:
            yield Place(
                organisation=organisation,
                node=node,
                peer=Peer(msp_id=organisation.msp_id, name=node.name, address=node.advertised),
                identity=identities.load_node(home, organisation, node),
            )
