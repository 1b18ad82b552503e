"""Which peers to ask for an endorsement, and what to do when one of them fails (B.7).

Source: `plan` in internal/pkg/gateway/endorsement.go of Fabric v3.1.5, with one group per organisation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fabric_protos.peer import proposal_response_pb2

from network.embedded.rpc import Detail

_MISMATCH: Final = "ProposalResponsePayloads do not match"


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer of the channel: its organisation, its node name and the address it advertises."""

    msp_id: str
    name: str
    address: str

    def failed(self, message: str) -> Detail:
        """The detail that says what this peer answered."""
        return Detail(address=self.address, msp_id=self.msp_id, message=message)


class Peers:
    """The channel's peers and which of them can run a chaincode, which for a system chaincode is every peer.

    A stopped peer is as good as not there."""

    def __init__(self, peers: Sequence[Peer], can_run: Callable[[Peer, str, Any], bool]) -> None:
        self._peers = tuple(peers)
        self._can_run = can_run
        self._stopped: frozenset[str] = frozenset()

    def stop(self, name: str) -> None:
        """Take a peer out of every later choice."""
        self._stopped |= {name}

    def start(self, name: str) -> None:
        """Offer a stopped peer again."""
        self._stopped -= {name}

    @property
    def stopped(self) -> frozenset[str]:
        """The names of the peers that are taken out."""
        return self._stopped

    def stop_only(self, names: Iterable[str]) -> None:
        """Take out exactly these."""
        self._stopped = frozenset(names)

    def running(self) -> list[Peer]:
        """All peers that are not stopped, in the topology's order."""
        return [peer for peer in self._peers if peer.name not in self._stopped]

    def by_organisation(self, chaincode: str, local: Peer, snapshot: Any) -> dict[str, list[Peer]]:
        """The peers that can run a chaincode, per MSP id; the local peer stands first in its organisation.

        All peers are at one ledger height here, so upstream's order by height leaves the topology's order."""
        found: dict[str, list[Peer]] = {}
        for peer in self.running():
            if self._can_run(peer, chaincode, snapshot):
                found.setdefault(peer.msp_id, []).append(peer)
        for peers in found.values():
            peers.sort(key=lambda peer: peer != local)
        return found


@dataclass(slots=True)
class _Layout:
    """One combination that satisfies the policies: how many peers of which organisation are still missing."""

    required: dict[str, int]
    endorsements: list[proposal_response_pb2.Endorsement] = field(default_factory=list)


class Layouts:
    """Collects endorsements until one of the layouts is complete; layouts are tried in the order given."""

    def __init__(self, layouts: Iterable[Mapping[str, int]], peers: Mapping[str, Sequence[Peer]]) -> None:
        self._layouts = [_Layout(dict(required)) for required in layouts]
        self._peers = {msp_id: list(available) for msp_id, available in peers.items()}
        self._complete: _Layout | None = None
        self.payload: bytes | None = None
        self.details: list[Detail] = []

    @property
    def complete(self) -> bool:
        """Whether the endorsements of some layout are all there."""
        return self._complete is not None

    @property
    def endorsements(self) -> list[proposal_response_pb2.Endorsement]:
        """The endorsements of the complete layout, one per endorser; empty before that."""
        if self._complete is None:
            return []
        return list({bytes(entry.endorser): entry for entry in reversed(self._complete.endorsements)}.values())[::-1]

    def next_peers(self) -> list[Peer]:
        """The peers that the next possible layout still needs; empty when no layout is left."""
        while self._layouts:
            required = self._layouts[0].required
            if all(count <= len(self._peers.get(msp_id, ())) for msp_id, count in required.items()):
                return [self._peers[msp_id].pop(0) for msp_id, count in required.items() for _ in range(count)]
            self._layouts.pop(0)
        return []

    def next_in_organisation(self, peer: Peer) -> Peer | None:
        """Another peer of the same organisation, to be asked in this one's place."""
        others = self._peers.get(peer.msp_id)
        return others.pop(0) if others else None

    def abandon(self, organisations: Iterable[str]) -> None:
        """Drop the layout just tried, and every other one that needs an organisation with no peer left to ask."""
        gone = set(organisations)
        self._layouts = [layout for layout in self._layouts[1:] if not gone & layout.required.keys()]

    def add(self, peer: Peer, response: proposal_response_pb2.ProposalResponse) -> bool:
        """Count a peer's endorsement in every layout that uses its organisation.

        False, with a detail, when the peer computed another result than the first one."""
        available = self._peers.get(peer.msp_id, [])
        if peer in available:
            available.remove(peer)
        if self.payload is None:
            self.payload = response.payload
        elif self.payload != response.payload:
            self.details.append(peer.failed(_MISMATCH))
            return False
        for layout in self._layouts:
            if peer.msp_id in layout.required:
                layout.endorsements.append(response.endorsement)
                layout.required[peer.msp_id] -= 1
                if layout.required[peer.msp_id] == 0:
                    del layout.required[peer.msp_id]
                    if not layout.required:
                        self._complete = layout
                        return True
        return True
