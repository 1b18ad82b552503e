"""Fabric's own `orderer` and `peer` programs on this machine, started from our identities and our first block.

Just enough to ask them whether they accept what we make; running a real network is another matter."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPSConnection
from pathlib import Path
from ssl import create_default_context
from typing import Any, TypeVar

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, peer_pb2_grpc, proposal_pb2, proposal_response_pb2

from network.identity.enrolment import authority_folder
from network.identity.identities import PersonIdentity
from network.topology import Node, Organisation, Topology

PROGRAMS = ("orderer", "peer")
_SYSTEM_CHAINCODES = ("_lifecycle", "cscc", "lscc", "qscc")
_STOP_SECONDS = 10
T = TypeVar("T")


def find(name: str) -> str | None:
    """The path of a Fabric program in FABRIC_BIN or on PATH, or None."""
    return shutil.which(name, path=os.environ.get("FABRIC_BIN")) or shutil.which(name)


def missing() -> str | None:
    """Why these tests cannot run here, or None."""
    absent = [name for name in PROGRAMS if find(name) is None]
    return f"not found in FABRIC_BIN or PATH: {', '.join(absent)}" if absent else None


def poll(seconds: float, ask: Callable[[], T | None], process: "Process | None" = None) -> T:
    """The first answer that is not None; fails with the program's log when it ends or the time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = ask()
        if answer is not None:
            return answer
        if process is not None and process.running.poll() is not None:
            raise AssertionError(f"{process.name} ended:\n{process.log_tail()}")
        time.sleep(0.05)
    raise AssertionError(f"no answer in {seconds} s" + (f":\n{process.log_tail()}" if process else ""))


@dataclass(frozen=True)
class Process:
    """A started program and its log."""

    name: str
    running: subprocess.Popen[bytes]
    log: Path

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


@contextmanager
def started(
    name: str,
    folder: Path,
    arguments: list[str],
    settings: Mapping[str, object],
    file: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """A program in a folder of its own with its settings file (YAML, of which JSON is a part), ended at the close.

    A folder that is there already is used again: the program goes on where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(settings))
    program = find(name)
    assert program is not None
    log = folder / "log"
    with ExitStack() as stack:
        output = stack.enter_context(log.open("ab"))
        variables = {"FABRIC_CFG_PATH": str(folder), "PATH": os.environ["PATH"], "FABRIC_LOGGING_SPEC": "info"}
        running = subprocess.Popen(
            [program, *arguments],
            cwd=folder,
            env={**variables, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Process(name, running, log)
        finally:
            running.terminate()
            try:
                running.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


@contextmanager
def orderer(home: Path, work: Path, organisation: Organisation, node: Node) -> Iterator[Process]:
    """One ordering node."""
    own = home / "organisations" / organisation.name / "orderers" / node.name
    tls = {
        "Enabled": True,
        "Certificate": str(own / "tls/server.crt"),
        "PrivateKey": str(own / "tls/server.key"),
        "RootCAs": [str(own / "tls/ca.crt")],
    }
    folder = work / node.name
    settings = {
        "General": {
            "ListenAddress": node.host,
            "ListenPort": node.port,
            "LocalMSPID": organisation.msp_id,
            "LocalMSPDir": str(own / "msp"),
            "TLS": tls,
        },
        "FileLedger": {"Location": str(folder / "ledger")},
        "Consensus": {"WALDir": str(folder / "wal"), "SnapDir": str(folder / "snap")},
        "Admin": {
            "ListenAddress": f"{node.host}:{node.admin_port}",
            "TLS": {**tls, "ClientAuthRequired": True, "ClientRootCAs": tls["RootCAs"]},
        },
        "ChannelParticipation": {"MaxRequestBodySize": 1_048_576},
        "Operations": {"ListenAddress": f"{node.host}:{node.operations_port}"},
        "Metrics": {"Provider": "disabled"},
    }
    with started("orderer", folder, [], settings, "orderer.yaml") as process:
        yield process


@contextmanager
def peer(home: Path, work: Path, organisation: Organisation, node: Node) -> Iterator[Process]:
    """One peer, without chaincodes of its own."""
    folder = work / node.name
    with started("peer", folder, ["node", "start"], peer_settings(home, folder, organisation, node), "core.yaml") as it:
        yield it


def peer_settings(home: Path, folder: Path, organisation: Organisation, node: Node) -> dict[str, Any]:
    """The smallest core.yaml of a peer that keeps its data in the folder."""
    own = home / "organisations" / organisation.name / "peers" / node.name
    return {
        "peer": {
            "id": node.name,
            "address": node.address,
            "listenAddress": node.address,
            "chaincodeListenAddress": f"{node.host}:{node.chaincode_port}",
            "localMspId": organisation.msp_id,
            "mspConfigPath": str(own / "msp"),
            "fileSystemPath": str(folder / "data"),
            "BCCSP": {"Default": "SW"},
            "tls": {
                "enabled": True,
                "cert": {"file": str(own / "tls/server.crt")},
                "key": {"file": str(own / "tls/server.key")},
                "rootcert": {"file": str(own / "tls/ca.crt")},
            },
            "gossip": {"externalEndpoint": node.address, "orgLeader": True},
            "authentication": {"timewindow": "60s"},
            "discovery": {"enabled": True},
            "handlers": {
                "authFilters": [{"name": "DefaultAuth"}, {"name": "ExpirationCheck"}, {"name": "TimeWindowCheck"}],
                "decorators": [{"name": "DefaultDecorator"}],
                "endorsers": {"escc": {"name": "DefaultEndorsement"}},
                "validators": {"vscc": {"name": "DefaultValidation"}},
            },
        },
        # A peer without docker wants at least one external builder; it is never run here.
        "chaincode": {
            "externalBuilders": [{"name": "none", "path": str(folder)}],
            "system": dict.fromkeys(_SYSTEM_CHAINCODES, "enable"),
        },
        "ledger": {"history": {"enableHistoryDatabase": True}},
        "operations": {"listenAddress": f"{node.host}:{node.operations_port}"},
        "metrics": {"provider": "disabled"},
    }


def rest(
    home: Path, organisation: Organisation, node: Node, method: str, path: str, block: bytes = b""
) -> tuple[int, bytes]:
    """A call of an orderer's channel participation interface over mutual TLS: status and body."""
    own = home / "organisations" / organisation.name / "orderers" / node.name / "tls"
    context = create_default_context(cafile=str(authority_folder(home, organisation.name, "tlsca") / "certificate.pem"))
    context.load_cert_chain(own / "server.crt", own / "server.key")
    connection = HTTPSConnection(node.host, node.admin_port, timeout=20, context=context)
    try:
        if not block:
            connection.request(method, path)
        else:
            head = b'--b\r\nContent-Disposition: form-data; name="config-block"; filename="block"\r\n\r\n'
            headers = {"Content-Type": "multipart/form-data; boundary=b"}
            connection.request(method, path, head + block + b"\r\n--b--\r\n", headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def grpc_channel(home: Path, organisation: Organisation, node: Node) -> grpc.Channel:
    """A TLS connection to a node."""
    root = (authority_folder(home, organisation.name, "tlsca") / "certificate.pem").read_bytes()
    return grpc.secure_channel(node.address, grpc.ssl_channel_credentials(root))


def header(person: PersonIdentity, kind: int, channel: str, extension: bytes = b"") -> common_pb2.Header:
    """A header of a new transaction by this person, now."""
    nonce = os.urandom(24)
    channel_header = common_pb2.ChannelHeader(
        type=kind, channel_id=channel, extension=extension, tx_id=sha256(nonce + person.serialized).hexdigest()
    )
    channel_header.timestamp.GetCurrentTime()
    signature_header = common_pb2.SignatureHeader(creator=person.serialized, nonce=nonce)
    return common_pb2.Header(
        channel_header=channel_header.SerializeToString(), signature_header=signature_header.SerializeToString()
    )


def system_call(
    connection: grpc.Channel,
    person: PersonIdentity,
    channel: str,
    chaincode: str,
    *arguments: bytes,
    signs_message: bool = False,
) -> proposal_response_pb2.Response:
    """Call a system chaincode of a peer; signs_message says that the signer takes the message, not its digest."""
    chaincode_id = chaincode_pb2.ChaincodeID(name=chaincode)
    spec = chaincode_pb2.ChaincodeSpec(
        type=chaincode_pb2.ChaincodeSpec.GOLANG,
        chaincode_id=chaincode_id,
        input=chaincode_pb2.ChaincodeInput(args=arguments),
    )
    invocation = chaincode_pb2.ChaincodeInvocationSpec(chaincode_spec=spec).SerializeToString()
    extension = proposal_pb2.ChaincodeHeaderExtension(chaincode_id=chaincode_id).SerializeToString()
    proposal = proposal_pb2.Proposal(
        header=header(person, common_pb2.ENDORSER_TRANSACTION, channel, extension).SerializeToString(),
        payload=proposal_pb2.ChaincodeProposalPayload(input=invocation).SerializeToString(),
    ).SerializeToString()
    signed = proposal_pb2.SignedProposal(
        proposal_bytes=proposal, signature=person.signer(proposal if signs_message else sha256(proposal).digest())
    )
    answer = peer_pb2_grpc.EndorserStub(connection).ProcessProposal(signed, timeout=30)
    return answer.response


def all_orderers(
    stack: ExitStack, home: Path, work: Path, topology: Topology
) -> list[tuple[Organisation, Node, Process]]:
    """Every orderer of the topology, with its admin interface answering."""
    nodes = [
        (organisation, node, stack.enter_context(orderer(home, work, organisation, node)))
        for organisation, node in topology.orderers()
    ]
    for organisation, node, process in nodes:
        poll(
            30,
            lambda o=organisation, n=node: answers(lambda: rest(home, o, n, "GET", "/participation/v1/channels")),
            process,
        )
    return nodes


def answers(call: Callable[[], T]) -> T | None:
    """What the call answers, or None while nobody listens yet."""
    try:
        return call()
    except (OSError, grpc.RpcError):
        return None
