"""The embedded network as a whole: makes a home or opens it, joins all parts, and serves every peer's port.

`EmbeddedNetwork` runs its own event loop in a thread, so that commands and tests stay plain code. This module is where
the parts meet; none of them knows another beyond what it is given here."""

import asyncio
import json
import logging
import threading
from collections.abc import Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

from fabric_protos.common import common_pb2
from fabric_protos.peer import proposal_response_pb2
from tallystick.fabric.errors import IdentityError as UnusableIdentity

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
from network.embedded.endorsing import Endorsing, Place
from network.embedded.events import ChaincodeEvents
from network.embedded.gateway import Gateway, Network
from network.embedded.host import EXECUTE_SECONDS, package_id
from network.embedded.layout import Peer
from network.embedded.ledger import Ledger
from network.embedded.msp import IdentityError, MspError
from network.embedded.orderer import Intake, Orderer
from network.embedded.ownership import ForeignLedger, check_home
from network.embedded.program import ProgramError
from network.embedded.server import OrderingServices, PeerServices, Server, Tls
from network.embedded.simulation_process import SimulationProcess
from network.embedded.simulations import Simulations
from network.embedded.store import LedgerError
from network.home import CONNECTION, LEDGER, TOPOLOGY, HomeLock, cannot_use
from network.identity import identities
from network.identity.authority import AuthorityError
from network.identity.enrolment import authority_folder
from network.identity.key import KeyFileError
from network.topology import Organisation, Topology, TopologyError, load

_LOG = logging.getLogger(__name__)

# Simulations are Python code and share one interpreter lock; more threads only wait for chaincode services.
_SIMULATIONS: Final = 4
_SIMULATIONS_WITH_SERVICES: Final = 32
_READERS: Final = 4
_GRACE_SECONDS: Final = 0.2
_START_SECONDS: Final = 30.0


class NetworkError(Exception):
    """The network cannot be made, opened or served; the text says why and what to do."""


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
        self.endorsing = Endorsing(home, topology, ledger, configuration)
        self.msps, self.policies = self.endorsing.msps, self.endorsing.policies
        self._places = self.endorsing.places
        served = {place.node.address for place in self._places.values()}
        self._orderers_apart = {
            node.name: (organisation, node) for organisation, node in topology.orderers() if node.address not in served
        }
        self.committer = Committer(ledger, self.policies, self.msps, lifecycle.definition)
        self._consenters = [
            block.Consenter(id=number, sign=identities.load_node(home, organisation, node).signer)
            for number, (organisation, node) in enumerate(topology.orderers(), start=1)
        ]
        self.servers: dict[str, Server] = {}
        has_services = any(chaincode.services for chaincode in topology.chaincodes)
        at_once = _SIMULATIONS_WITH_SERVICES if has_services else _SIMULATIONS
        self._simulations = Simulations(at_once, EXECUTE_SECONDS)
        # Calls of chaincode services wait for these; the streams to them are held by this process.
        self.apart = None if has_services else SimulationProcess(home, self.endorsing, ledger.keep_transient)
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
        except ProgramError as error:
            raise NetworkError(f"{error}. The chaincodes of this network stand in {home / TOPOLOGY}.") from error
        except (ConfigError, DeployError, ForeignLedger, LedgerError, MspError, TopologyError) as error:
            raise NetworkError(str(error)) from error
        except (AuthorityError, IdentityError, KeyFileError, UnusableIdentity) as error:
            raise NetworkError(
                f"A key or certificate in {home} cannot be used: {error}. Restore it from a backup."
            ) from error
        except OSError as error:
            raise NetworkError(cannot_use(home, error)) from error

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
        self.endorsing.host.start()
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
            raise NetworkError(cannot_use(self.home, error)) from error

    def stop(self) -> None:
        """End open calls, stop cutting blocks and close the ledger; accepted transactions are ordered next time."""
        if self._loop is not None and self._ended is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)
        if self._thread is not None:
            self._thread.join()
        self._simulations.close()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self.endorsing.host.close()
        self.committer.close()
        self.ledger.close()
        self._lock.release()

    def stop_peer(self, name: str) -> None:
        """Close one peer's port and ask it for nothing more, as if its machine were off; for trying out failures."""
        self.endorsing.peers.stop(name)
        self._on_loop(self.servers.pop(name).stop(0))

    def start_peer(self, name: str) -> None:
        """Serve a stopped peer again."""
        self._on_loop(self._open(name))
        self.endorsing.peers.start(name)

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
            if self.apart is not None:
                await self.apart.stop()
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
            chain=chain,
            policies=self.policies,
            orderer=orderer,
            orderers=[
                Peer(organisation.msp_id, node.name, node.advertised) for organisation, node in self.topology.orderers()
            ],
        )

    def _peer_server(self, place: Place) -> Server:
        shared = self._shared
        chain = shared.chain
        private = PrivateReads(self.ledger, self.policies, place.msp_id)
        services = PeerServices(
            name=place.name,
            gateway=Gateway(place.peer, self.endorsing.endorsers, shared),
            events=ChaincodeEvents(self.topology.channel, chain, self.ledger, self.policies),
            deliver=self._delivery(full_blocks(chain)),
            deliver_filtered=self._delivery(filtered_blocks(chain)),
            deliver_with_private_data=self._delivery(blocks_with_private_data(chain, private)),
            endorse=lambda signed: self.process(place.peer, signed, None).SerializeToString(),
        )
        tls = self._tls(place.organisation, place.identity)
        return Server(place.node.address, tls, self._ordering(), services, self._simulations, self.apart)

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
        return self.endorsing.process(peer, signed, snapshot)

    def _write_block(self, made: common_pb2.Block) -> Committed:
        """Commit a block on the ledger's thread. One that writes definitions or approvals ends what is kept of them."""
        committed = self.committer.commit(made)
        if lifecycle.NAMESPACE in committed.namespaces:
            self.endorsing.redefined(committed.number)
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
