"""The embedded network as a whole: makes a home or opens it, joins all parts, and serves every peer's port.

`EmbeddedNetwork` runs its own event loop in a thread, so that commands and tests stay plain code. This module is where
the parts meet; none of them knows another beyond what it is given here."""

import asyncio
import json
import logging
import random
import threading
from collections import Counter
from collections.abc import Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

from fabric_protos.common import common_pb2
from fabric_protos.peer import proposal_response_pb2
from tallystick.fabric.errors import IdentityError as UnusableIdentity
from tallystick.fabric.signer import Signer

from network.channel import config, policy
from network.channel.config import ConfigError
from network.channel.consensus import BFT
from network.embedded import block, lifecycle
from network.embedded.chain import Chain, Committed
from network.embedded.committer import Committer
from network.embedded.deliver import (
    Delivery,
    PrivateReads,
    Sender,
    blocks_with_private_data,
    filtered_blocks,
    full_blocks,
    ordered_blocks,
)
from network.embedded.deploy import Admin, DeployError, Wanted, deploy
from network.embedded.endorser import Endorser
from network.embedded.events import ChaincodeEvents
from network.embedded.gateway import Gateway, Network
from network.embedded.host import EXECUTE_SECONDS, Host, package_id
from network.embedded.layout import Peer, Peers
from network.embedded.ledger import Ledger
from network.embedded.msp import IdentityError, MspError, MspManager
from network.embedded.orderer import Intake, Orderer
from network.embedded.ownership import ForeignLedger, check_home
from network.embedded.plan import PlanError, Planner
from network.embedded.policy import PolicyManager
from network.embedded.program import ProgramError
from network.embedded.server import OrderingServices, PeerServices, Server, Tls
from network.embedded.simulations import Simulations
from network.embedded.store import LedgerError
from network.home import CONNECTION, LEDGER, TOPOLOGY, HomeLock
from network.identity import identities
from network.identity.authority import AuthorityError
from network.identity.enrolment import authority_folder
from network.identity.key import KeyFileError
from network.topology import Node, Organisation, Topology, TopologyError, load

_LOG = logging.getLogger(__name__)

# Simulations are Python code and share one interpreter lock; more threads only wait for chaincode services.
_SIMULATIONS: Final = 4
_SIMULATIONS_WITH_SERVICES: Final = 32
_PLANS_KEPT: Final = 1024
# Names come from clients; a stranger's made-up ones must not fill the memory.
_RUNS_KEPT: Final = 4096
_READERS: Final = 4
_GRACE_SECONDS: Final = 0.2
_START_SECONDS: Final = 30.0


class NetworkError(Exception):
    """The network cannot be made, opened or served; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class _Place:
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


class EmbeddedNetwork:
    """The network of one home. `prepare` it, `start` it, `stop` it; or use `running` as a context manager.

    A stopped network is not started again: prepare a new one on the same home."""

    def __init__(
        self, home: Path, topology: Topology, ledger: Ledger, lock: HomeLock, mutual_tls: Collection[str]
    ) -> None:
        """Join the parts on an open ledger; callers use `prepare`."""
        self.home = home
        self.topology = topology
        self.ledger = ledger
        self._lock = lock
        self._mutual_tls = frozenset(mutual_tls)
        genesis = ledger.block(0)
        if genesis is None:
            raise NetworkError(f"the ledger in {home} has no block 0")
        configuration = config.parse(genesis)
        check_home(home, topology, configuration)
        self.msps = MspManager.from_config(configuration)
        self.policies = PolicyManager(configuration, self.msps)
        self._places = {place.name: place for place in _places(home, topology)}
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
        served = {place.node.address for place in self._places.values()}
        self._orderers_apart = {
            node.name: (organisation, node) for organisation, node in topology.orderers() if node.address not in served
        }
        self.committer = Committer(ledger, self.policies, self.msps, lifecycle.definition)
        self.peers = Peers([place.peer for place in self._places.values()], self._can_run)
        self._planner = Planner(
            topology.channel, self.policies, self.msps, _serialized_by_organisation(self._places.values())
        )
        self._consenters = [
            block.Consenter(id=number, sign=identities.load_node(home, organisation, node).signer)
            for number, (organisation, node) in enumerate(topology.orderers(), start=1)
        ]
        self.servers: dict[str, Server] = {}
        # The last block that changed definitions, as far as this process has seen; what is kept holds from there on.
        self._defined_at = ledger.height - 1
        self._runs: dict[tuple[int, str, str], bool] = {}
        self._layouts: dict[tuple[int, bytes, tuple[tuple[str, int], ...]], list[Mapping[str, int]]] = {}
        has_services = any(chaincode.services for chaincode in topology.chaincodes)
        at_once = _SIMULATIONS_WITH_SERVICES if has_services else _SIMULATIONS
        self._simulations = Simulations(at_once, EXECUTE_SECONDS)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._failure: Exception | None = None

    # -- making and opening --------------------------------------------------------------------------------------------

    @classmethod
    def prepare(cls, home: Path, topology: Topology | None = None, *, mutual_tls: Collection[str] = ()) -> Self:
        """Open the home's network, or make it from `topology` when the home has none yet.

        What an interrupted start left undone is completed; keys and block 0 are never made twice. The peers of the
        organisations in `mutual_tls` demand client certificates of the network's TLS authorities. Raises
        `NetworkError` for anything that stands in the way, `HomeInUse` when another process runs this home."""
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Whatever stops half-way gives back what was taken.
            with ExitStack() as taken:
                lock = HomeLock.take(home)
                taken.callback(lock.release)
                topology = _kept_topology(home, topology)
                if not (home / LEDGER).exists():
                    # Later a missing key is a fault to be told: another one in its place would fit no certificate.
                    _check_is_new(home)
                    identities.establish(home, topology)
                ledger = _open_ledger(home, topology)
                taken.callback(ledger.close)
                network = cls(home, topology, ledger, lock, mutual_tls)
                taken.callback(network.committer.close)
                network._deploy()
                taken.pop_all()
                return network
        except (ConfigError, DeployError, ForeignLedger, LedgerError, MspError, ProgramError, TopologyError) as error:
            raise NetworkError(str(error)) from error
        except (AuthorityError, IdentityError, KeyFileError, UnusableIdentity) as error:
            raise NetworkError(
                f"A key or certificate in {home} cannot be used: {error}. Restore it from a backup."
            ) from error
        except OSError as error:
            raise NetworkError(_cannot_use(home, error)) from error

    @classmethod
    @contextmanager
    def running(
        cls, home: Path, topology: Topology | None = None, *, mutual_tls: Collection[str] = ()
    ) -> Iterator[Self]:
        """A started network, stopped at the end of the block."""
        network = cls.prepare(home, topology, mutual_tls=mutual_tls)
        network.start()
        try:
            yield network
        finally:
            network.stop()

    @property
    def connection(self) -> dict[str, Any]:
        """What a client needs to connect; the content of connection.json. Paths are relative to the home."""
        return {
            "network_id": self.ledger.network_id,
            "channel": self.topology.channel,
            "chaincodes": [chaincode.name for chaincode in self.topology.chaincodes],
            "organisations": [
                {
                    "name": organisation.name,
                    "msp_id": organisation.msp_id,
                    "gateway": organisation.peers[0].advertised,
                    "tls_ca_file": f"organisations/{organisation.name}/tlsca/certificate.pem",
                    "tls_host_override": None,
                }
                for organisation in self.topology.organisations
                if organisation.peers
            ],
        }

    # -- running -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Serve every peer, and return when all ports answer. Raises `NetworkError`."""
        self.host.start()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="network", daemon=True)
        self._thread.start()
        if not ready.wait(_START_SECONDS):
            self._failure = NetworkError(f"the network did not start within {_START_SECONDS:.0f} seconds")
        if self._failure is not None:
            failure = self._failure
            self.stop()
            raise NetworkError(str(failure)) from failure
        try:
            _write_connection(self.home, self.connection)
        except OSError as error:
            self.stop()
            raise NetworkError(_cannot_use(self.home, error)) from error

    def stop(self) -> None:
        """End open calls, stop cutting blocks and close the ledger; accepted transactions are ordered next time."""
        if self._loop is not None and self._ended is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)
        if self._thread is not None:
            self._thread.join()
        self._simulations.close()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self.host.close()
        self.committer.close()
        self.ledger.close()
        self._lock.release()

    def stop_peer(self, name: str) -> None:
        """Close one peer's port and ask it for nothing more, as if its machine were off; for trying out failures."""
        self.peers.stop(name)
        self._on_loop(self.servers.pop(name).stop(0))

    def start_peer(self, name: str) -> None:
        """Serve a stopped peer again."""
        self._on_loop(self._open(name))
        self.peers.start(name)

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            raise NetworkError("the network is not running")
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _run(self, ready: threading.Event) -> None:
        """The network thread: one event loop for all peers."""
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                runner.run(self._serve(ready))
        except Exception as error:  # told to whoever waits for the start; later there is only the log
            self._failure = error
            if ready.is_set():
                _LOG.exception("the network has ended")
        finally:
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        self._ended = asyncio.Event()
        chain = Chain(self.ledger, self._readers)
        orderer = self._orderer(chain)
        self._shared = self._share(chain, orderer)
        try:
            for name in (*self._places, *self._orderers_apart):
                await self._open(name)
            orderer.start()
            ready.set()
            await self._ended.wait()
        finally:
            await asyncio.gather(*(server.stop(_GRACE_SECONDS) for server in self.servers.values()))
            await orderer.stop()

    async def _open(self, name: str) -> None:
        """Serve one node."""
        place = self._places.get(name)
        server = self._orderer_server(name) if place is None else self._peer_server(place)
        self.servers[name] = server
        await server.start()

    def _orderer(self, chain: Chain) -> Orderer:
        topology = self.topology
        intake = Intake(topology.channel, self.policies, self.msps, topology.batch.absolute_max_bytes)
        return Orderer(
            intake,
            self.ledger,
            lambda made: self.ledger.writer.call(self._write_block, made),
            chain,
            self._consenters,
            topology.batch,
        )

    def _share(self, chain: Chain, orderer: Orderer) -> Network:
        return Network(
            channel=self.topology.channel,
            chain=chain,
            peers=self.peers,
            policies=self.policies,
            orderer=orderer,
            orderers=[
                Peer(organisation.msp_id, node.name, node.advertised) for organisation, node in self.topology.orderers()
            ],
            snapshot=self.ledger.snapshot,
            process=self.process,
            plan=self._plan,
        )

    def _peer_server(self, place: _Place) -> Server:
        shared = self._shared
        chain = shared.chain
        private = PrivateReads(self.ledger, self.policies, place.msp_id)
        services = PeerServices(
            gateway=Gateway(place.peer, shared),
            events=ChaincodeEvents(shared.channel, chain, self.ledger, self.policies),
            deliver=self._delivery(full_blocks(chain)),
            deliver_filtered=self._delivery(filtered_blocks(chain)),
            deliver_with_private_data=self._delivery(blocks_with_private_data(chain, private)),
            endorse=lambda signed: self.process(place.peer, signed, None).SerializeToString(),
        )
        tls = self._tls(place.organisation, place.identity)
        return Server(place.node.address, tls, self._ordering(), services, self._simulations)

    def _orderer_server(self, name: str) -> Server:
        organisation, node = self._orderers_apart[name]
        identity = identities.load_node(self.home, organisation, node)
        return Server(node.address, self._tls(organisation, identity), self._ordering(), None, self._simulations)

    def _ordering(self) -> OrderingServices:
        return OrderingServices(self._shared.orderer, self._delivery(ordered_blocks(self._shared.chain)))

    def _delivery(self, send: Sender) -> Delivery:
        window = timedelta(seconds=self.topology.time_window_seconds)
        return Delivery(self.topology.channel, self._shared.chain, self.policies, self.msps, window, send)

    def _tls(self, organisation: Organisation, identity: identities.NodeIdentity) -> Tls:
        authorities = None
        if organisation.name in self._mutual_tls:
            folders = (authority_folder(self.home, each.name, "tlsca") for each in self.topology.organisations)
            authorities = b"".join((folder / "certificate.pem").read_bytes() for folder in folders)
        return Tls(key=identity.tls_key, certificate=identity.tls_certificate, client_authorities=authorities)

    # -- endorsing -----------------------------------------------------------------------------------------------------

    def process(self, peer: Peer, signed: bytes, snapshot: Any = None) -> proposal_response_pb2.ProposalResponse:
        """Answer a signed proposal as one peer, on a snapshot or the latest state. Raises EndorserError."""
        return self.endorser.process(self._places[peer.name], signed, snapshot)

    def _plan(
        self, interest: proposal_response_pb2.ChaincodeInterest, snapshot: Any, preferred: str | None
    ) -> Sequence[Mapping[str, int]]:
        """The layouts for an interest that the running peers can fill."""
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

    def _write_block(self, made: common_pb2.Block) -> Committed:
        """Commit a block on the ledger's thread. One that writes definitions or approvals ends what is kept of them."""
        committed = self.committer.commit(made)
        if lifecycle.NAMESPACE in committed.namespaces:
            self._defined_at = committed.number
            self._runs.clear()
            self._layouts.clear()
        return committed

    def _deploy(self) -> None:
        """Define the topology's chaincodes on the ledger where they are not defined as it says."""
        missing: dict[str, tuple[Wanted, int]] = {}
        with self.ledger.snapshot() as snapshot:
            for chaincode in self.topology.chaincodes:
                wanted = Wanted(
                    name=chaincode.name,
                    version=chaincode.version,
                    policy=policy.endorsement(chaincode, self.topology),
                    collections=policy.collections(chaincode, self.topology),
                    packages={
                        organisation.msp_id: package_id(chaincode) for organisation in self.topology.organisations
                    },
                )
                found = lifecycle.definition(snapshot.get_state, chaincode.name)
                if not wanted.is_met_by(found):
                    missing[chaincode.name] = (wanted, 1 if found is None else found.sequence + 1)
        admins = []
        for organisation in self.topology.organisations:
            admin = identities.load_person(self.home, organisation, "admin")
            peer = next(place.peer for place in self._places.values() if place.organisation == organisation)
            admins.append(Admin(serialized=admin.serialized, sign=admin.signer, peer=peer))
        deploy(self.topology.channel, missing, admins, self.process, self.commit_now)

    def commit_now(self, envelopes: Sequence[bytes]) -> list[int]:
        """Commit one block and answer the validation codes; only before `start`, when no orderer cuts blocks yet."""
        made = block.build(self.ledger.height, self.ledger.tip_hash, envelopes, self._consenters)
        committed: Committed = self.ledger.writer.call(self._write_block, made).result()
        return [code for _, code in committed.transactions]


def _places(home: Path, topology: Topology) -> Iterator[_Place]:
    for organisation in topology.organisations:
        for node in organisation.peers:
            yield _Place(
                organisation=organisation,
                node=node,
                peer=Peer(msp_id=organisation.msp_id, name=node.name, address=node.advertised),
                identity=identities.load_node(home, organisation, node),
            )


def _serialized_by_organisation(places: Iterable[_Place]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for place in places:
        found.setdefault(place.peer.msp_id, []).append(place.identity.serialized)
    return found


def _kept_topology(home: Path, topology: Topology | None) -> Topology:
    """The home's own resolved topology; that of a first start is kept from then on."""
    stored = home / TOPOLOGY
    if stored.exists():
        topology = load(stored)
    elif (home / LEDGER).exists():
        raise NetworkError(
            f"{stored} is missing: it says which organisations, ports and chaincodes the network in {home} has. "
            "Restore it from a backup."
        )
    elif topology is None:
        raise NetworkError(f"There is no network in {home}. Make one with `tallystick network up --home {home}`.")
    if topology.consensus != BFT:
        raise NetworkError(
            f"The embedded network orders as SmartBFT does; consensus = {topology.consensus!r} cannot be."
        )
    if not stored.exists():
        topology.save(stored)
    return topology


def _check_is_new(home: Path) -> None:
    """A network that has run and lost its ledger must not begin a new one as if nothing had happened."""
    if (home / CONNECTION).exists():
        raise NetworkError(
            f"{home / LEDGER} is missing, although the network in {home} has run. Restore it from a backup, or begin "
            f"with an empty ledger: `tallystick network reset --home {home}`."
        )


def _cannot_use(home: Path, error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"The home {home} cannot be used: {error.strerror}{where}."


def _open_ledger(home: Path, topology: Topology) -> Ledger:
    path = home / LEDGER
    msp_ids = [organisation.msp_id for organisation in topology.organisations]
    if path.exists():
        return Ledger.open(path, msp_ids)
    return Ledger.create(path, config.genesis_block(topology, home), msp_ids)


def _write_connection(home: Path, connection: dict[str, Any]) -> None:
    part = home / f"{CONNECTION}.part"
    part.write_text(json.dumps(connection, indent=2) + "\n", encoding="utf-8")
    part.replace(home / CONNECTION)
