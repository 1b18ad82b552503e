"""A real network for tests: Fabric's own orderers and peers on loopback, with our identities, channel, shim and client.

One orderer (SmartBFT) and one peer per organisation, each chaincode served by threads of this process, one service per
organisation. `running` brings it up in a folder and stops every program it started. It offers what the embedded
network offers to tests: `home`, `topology`, `connection`, `stop_peer`, `start_peer`."""

import gzip
import io
import json
import tarfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.peer import collection_pb2
from fabric_protos.peer.lifecycle import lifecycle_pb2
from tallystick import fabric
from tallystick.fabric import EndorseError, EvaluateError, Identity, signers
from tallystick.fabric.block import header_hash

from chaincode.shim.server import Server, ServerSettings
from network.channel import config, policy
from network.identity.enrolment import authority_folder
from network.identity.identities import establish, load_person
from network.topology import ChaincodeSpec, Node, Organisation, Topology, load
from tests.network import builder
from tests.network.channel import programs

_START_SECONDS = 60
_ENDORSE_SECONDS = 60
_MEET_SECONDS = 60
_NOT_YET = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED)
_MODE = 0o644
_CHANNELS = "/participation/v1/channels"
T = TypeVar("T")


@dataclass(frozen=True)
class Package:
    """A chaincode's package: the same bytes, and so the same id, for every organisation."""

    spec: ChaincodeSpec
    content: bytes

    @property
    def label(self) -> str:
        return f"{self.spec.name}_{self.spec.version}"

    @property
    def id(self) -> str:
        return f"{self.label}:{sha256(self.content).hexdigest()}"

    @classmethod
    def of(cls, spec: ChaincodeSpec) -> "Package":
        """A package whose address each peer's builder fills in, under the chaincode's name."""
        connection = {"address": f"{{{{.{spec.name}}}}}", "dial_timeout": "10s", "tls_required": False}
        code = _archive({"connection.json": json.dumps(connection).encode()})
        metadata = {"type": "ccaas", "label": f"{spec.name}_{spec.version}"}
        return cls(spec, _archive({"metadata.json": json.dumps(metadata).encode(), "code.tar.gz": code}))


def _archive(files: Mapping[str, bytes]) -> bytes:
    """A tar.gz whose bytes depend on the files alone: no times, no owners, stored without compression."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), _MODE
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), compresslevel=0, mtime=0)


class RealNetwork:
    """The running network."""

    def __init__(self, folder: Path, topology: Topology, mutual_tls: Collection[str], stack: ExitStack) -> None:
        self.home = folder / "home"
        self.topology = topology
        self.steps: dict[str, float] = {}
        """Seconds that each step of the start took."""
        establish(self.home, topology)
        self.genesis = config.genesis_block(topology, self.home)
        self._work = folder / "nodes"
        self._builder = builder.write(folder / "builder")
        self._mutual_tls = frozenset(mutual_tls)
        self._stack = stack
        self._packages = [Package.of(spec) for spec in topology.chaincodes]
        self._services: dict[str, dict[str, str]] = {}
        self._peers: dict[str, tuple[programs.Process, ExitStack]] = {}
        self._orderers: list[programs.Process] = []

    @property
    def connection(self) -> dict[str, Any]:
        """As in the connection.json of an embedded network."""
        header = common_pb2.Block.FromString(self.genesis).header
        return {
            "network_id": header_hash(header.number, header.previous_hash, header.data_hash).hex(),
            "channel": self.topology.channel,
            "chaincodes": [spec.name for spec in self.topology.chaincodes],
            "organisations": [
                {
                    "name": organisation.name,
                    "msp_id": organisation.msp_id,
                    "gateway": organisation.peers[0].advertised,
                    "tls_ca_file": f"organisations/{organisation.name}/tlsca/certificate.pem",
                    "tls_host_override": None,
                }
                for organisation in self.topology.organisations
            ],
        }

    def start(self) -> None:
        """Start every program, join the channel and define the chaincodes; each step bounded in time."""
        organisations = self.topology.organisations
        self._stack.callback(self._stop)
        self._step("services", lambda: self._each(organisations, self._serve))
        self._step("orderers", self._start_orderers)
        self._step("peers", lambda: self._each(organisations, self._start_peer))
        self._step("join", lambda: self._each(organisations, self._join))
        self._step("install", lambda: self._each(organisations, self._install))
        self._step("define", self._define)
        self._step("meet", lambda: self._each(organisations, self._meet))

    def stop_peer(self, name: str) -> None:
        """End one peer's program."""
        _, stack = self._peers.pop(name)
        stack.close()

    def start_peer(self, name: str) -> None:
        """Start a stopped peer again, on the ledger that it has."""
        self._start_peer(next(each for each in self.topology.organisations if each.peers[0].name == name))

    # -- programs ------------------------------------------------------------------------------------------------------

    def _step(self, name: str, work: Callable[[], object]) -> None:
        began = time.monotonic()
        work()
        self.steps[name] = time.monotonic() - began

    def _each(self, organisations: Iterable[Organisation], work: Callable[[Organisation], T]) -> list[T]:
        """Do it for all organisations at the same time."""
        with ThreadPoolExecutor(max_workers=4) as pool:
            return list(pool.map(work, organisations))

    def _serve(self, organisation: Organisation) -> None:
        """One service per chaincode; the ports are free ones, told to the organisation's peer through its builder."""
        addresses = self._services[organisation.name] = {}
        for package in self._packages:
            module, _, attribute = (package.spec.program or "").partition(":")
            program = getattr(import_module(module), attribute)
            server = Server(program, ServerSettings(package.id, organisation.msp_id, "127.0.0.1:0"))
            server.start()
            self._stack.callback(server.stop, 1.0)
            addresses[package.spec.name] = f"127.0.0.1:{server.port}"

    def _start_orderers(self) -> None:
        nodes = programs.all_orderers(self._stack, self.home, self._work, self.topology)
        self._orderers = [process for _, _, process in nodes]

        def join(entry: tuple[Organisation, Node, programs.Process]) -> None:
            organisation, node, process = entry
            status, body = programs.rest(self.home, organisation, node, "POST", _CHANNELS, self.genesis)
            assert status == 201, (body, process.log_tail())

        with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
            list(pool.map(join, nodes))

    def _start_peer(self, organisation: Organisation) -> None:
        node = organisation.peers[0]
        folder = self._work / node.name
        environment = {builder.SETTINGS: json.dumps(self._services[organisation.name])}
        stack = ExitStack()
        self._stack.callback(stack.close)
        process = stack.enter_context(
            programs.started(
                "peer", folder, ["node", "start"], self._settings(organisation, folder), "core.yaml", environment
            )
        )
        self._peers[node.name] = process, stack
        with self._connected(organisation) as connection:
            admin = load_person(self.home, organisation, "admin")
            programs.poll(
                _START_SECONDS,
                lambda: programs.answers(
                    lambda: programs.system_call(connection.raw, admin, "", "cscc", b"GetChannels")
                ),
                process,
            )

    def _settings(self, organisation: Organisation, folder: Path) -> dict[str, Any]:
        """core.yaml: the smallest one, with gossip that finds the others soon, a builder, and Fabric's own limits."""
        settings = programs.peer_settings(self.home, folder, organisation, organisation.peers[0])
        peer, chaincode = settings["peer"], settings["chaincode"]
        peer["gossip"] |= {
            "reconnectInterval": "1s",
            "publishStateInfoInterval": "1s",
            "requestStateInfoInterval": "1s",
            "pvtData": {
                "pullRetryThreshold": "2s",
                "skipPullingInvalidTransactionsDuringCommit": True,
                "transientstoreMaxBlockRetention": 1000,
                "pushAckTimeout": "3s",
                "btlPullMargin": 10,
                "reconcileBatchSize": 10,
                "reconcileSleepInterval": "1s",
                "reconciliationEnabled": True,
            },
        }
        peer["limits"] = {
            "concurrency": {"endorserService": 2500, "deliverService": 2500, "gatewayService": 500},
        }
        if organisation.name in self._mutual_tls:
            authorities = [
                str(authority_folder(self.home, each.name, "tlsca") / "certificate.pem")
                for each in self.topology.organisations
            ]
            peer["tls"] |= {"clientAuthRequired": True, "clientRootCAs": {"files": authorities}}
        chaincode["externalBuilders"] = [
            {"name": "ccaas", "path": str(self._builder), "propagateEnvironment": [builder.SETTINGS]}
        ]
        chaincode["runtimeParams"] = {
            "useWriteBatch": True,
            "maxSizeWriteBatch": 1000,
            "useGetMultipleKeys": True,
            "maxSizeGetMultipleKeys": 1000,
        }
        settings["ledger"]["state"] = {"totalQueryLimit": 100_000}
        return settings

    def _stop(self) -> None:
        """Ask all programs to end at once; whoever started each one waits for it afterwards."""
        for process in [*(process for process, _ in self._peers.values()), *self._orderers]:
            process.running.terminate()

    # -- channel and chaincodes ----------------------------------------------------------------------------------------

    def _connected(self, organisation: Organisation) -> fabric.Channel:
        """A channel to the organisation's peer, with a client certificate for the case that it demands one."""
        node = organisation.peers[0]
        tls = self.home / "organisations" / organisation.name / "peers" / node.name / "tls"
        return fabric.channel(
            node.address,
            tls_ca=(tls / "ca.crt").read_bytes(),
            client_certificate=(tls / "server.crt").read_bytes(),
            client_key=(tls / "server.key").read_bytes(),
        )

    def _admin_call(self, organisation: Organisation, chaincode: str, *arguments: bytes) -> bytes:
        """Have the organisation's admin call a system chaincode of its own peer, outside any channel."""
        admin = load_person(self.home, organisation, "admin")
        with self._connected(organisation) as connection:
            answer = programs.system_call(connection.raw, admin, "", chaincode, *arguments)
        assert answer.status == 200, (answer, self._peers[organisation.peers[0].name][0].log_tail())
        return answer.payload

    def _join(self, organisation: Organisation) -> None:
        self._admin_call(organisation, "cscc", b"JoinChain", self.genesis)

    def _install(self, organisation: Organisation) -> None:
        for package in self._packages:
            arguments = lifecycle_pb2.InstallChaincodeArgs(chaincode_install_package=package.content)
            answer = self._admin_call(organisation, "_lifecycle", b"InstallChaincode", arguments.SerializeToString())
            installed = lifecycle_pb2.InstallChaincodeResult.FromString(answer)
            assert installed.package_id == package.id, installed

    def _define(self) -> None:
        """Every organisation approves through its own gateway, the first one commits."""
        organisations = self.topology.organisations
        with ExitStack() as stack:
            lifecycles = [self._contract(stack, organisation, "_lifecycle") for organisation in organisations]
            approved = [
                lifecycle.submit_async(
                    "ApproveChaincodeDefinitionForMyOrg",
                    self._approval(package).SerializeToString(),
                    endorsing_organizations=[organisation.msp_id],
                )
                for package in self._packages
                for organisation, lifecycle in zip(organisations, lifecycles, strict=True)
            ]
            for transaction in approved:
                assert transaction.status(timeout=_ENDORSE_SECONDS).successful
            for package in self._packages:
                self._commit(lifecycles[0], package)

    def _meet(self, organisation: Organisation) -> None:
        """Wait until the organisation's gateway has heard of every peer, so that it can ask any of them."""
        with ExitStack() as stack:
            ledger = self._contract(stack, organisation, "qscc")
            for other in self.topology.organisations:

                def met(msp_id: str = other.msp_id) -> bool | None:
                    try:
                        ledger.evaluate("GetChainInfo", self.topology.channel, endorsing_organizations=[msp_id])
                    except EvaluateError:
                        return None
                    return True

                programs.poll(_MEET_SECONDS, met)

    def _contract(self, stack: ExitStack, organisation: Organisation, chaincode: str) -> fabric.Contract:
        """A chaincode through the organisation's gateway, as its admin sees it; closed with the stack."""
        admin = self.home / "identities" / organisation.name / "admin"
        gateway = fabric.connect(
            stack.enter_context(self._connected(organisation)),
            Identity.x509(organisation.msp_id, (admin / "certificate.pem").read_bytes()),
            signers.from_pem((admin / "private_key.pem").read_bytes()),
        )
        return stack.enter_context(gateway).network(self.topology.channel).contract(chaincode)

    def _commit(self, lifecycle: fabric.Contract, package: Package) -> None:
        """Commit a definition, as soon as the peers know enough of each other to endorse it."""
        arguments = lifecycle_pb2.CommitChaincodeDefinitionArgs(**self._definition(package)).SerializeToString()

        end = time.monotonic() + _ENDORSE_SECONDS

        def endorsed() -> fabric.Transaction | None:
            try:
                return lifecycle.new_proposal("CommitChaincodeDefinition", arguments).endorse()
            except EndorseError as error:
                # No peers known yet; or one of them lags behind the approvals that another one knows.
                if error.code in _NOT_YET and time.monotonic() < end:
                    return None
                raise

        transaction = programs.poll(2 * _ENDORSE_SECONDS, endorsed)
        assert transaction.submit().status(timeout=_ENDORSE_SECONDS).successful

    def _approval(self, package: Package) -> lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs:
        local = lifecycle_pb2.ChaincodeSource.Local(package_id=package.id)
        source = lifecycle_pb2.ChaincodeSource(local_package=local)
        return lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs(source=source, **self._definition(package))

    def _definition(self, package: Package) -> dict[str, Any]:
        """What approvals and the commit must say alike."""
        collections = policy.collections(package.spec, self.topology)
        return {
            "sequence": 1,
            "name": package.spec.name,
            "version": package.spec.version,
            "endorsement_plugin": "escc",
            "validation_plugin": "vscc",
            "validation_parameter": policy.endorsement(package.spec, self.topology),
            "collections": collection_pb2.CollectionConfigPackage.FromString(collections),
        }


@contextmanager
def running(
    folder: Path, chaincodes: Sequence[ChaincodeSpec], *, mutual_tls: Collection[str] = ()
) -> Iterator[RealNetwork]:
    """A network in a folder with these programs as its chaincodes, stopped at the end of the block.

    The peers of the organisations in `mutual_tls` demand client certificates."""
    topology = replace(load(port_base=0, kind="fabric"), chaincodes=tuple(chaincodes))
    with ExitStack() as stack:
        network = RealNetwork(folder, topology, mutual_tls, stack)
        network.start()
        yield network
