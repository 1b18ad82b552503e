"""Byte exchange with the official Node client, both ways: an independent reading of every message we build.

Skipped, with the reason, where Node or the packages cannot be had.
"""

import json
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from tallystick import fabric
from tallystick.testing import Endorsed, Proposed, StubGateway

from tests.client import material
from tests.node.packages import node_folder

HERE = Path(__file__).parent
VERSIONS = {"@grpc/grpc-js": "1.14.7", "@hyperledger/fabric-gateway": "1.12.1"}
HALF_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 >> 1

LOADERS = [
    "proposal",
    "transaction",
    "commit",
    "chaincode_events_request",
    "block_events_request",
    "filtered_block_events_request",
    "block_and_private_data_events_request",
]
every_object = pytest.mark.parametrize("kind", LOADERS)


def test_versions_are_exact_and_the_lock_names_no_registry() -> None:
    assert json.loads((HERE / "package.json").read_text())["dependencies"] == VERSIONS
    lock = (HERE / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    packages = json.loads(lock)["packages"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in VERSIONS} == VERSIONS
    assert all("integrity" in entry for name, entry in packages.items() if name)


class Node:
    """The Node process: a request, an answer."""

    def __init__(self, target: str, folder: Path, packages: Path) -> None:
        (folder / "certificate.pem").write_bytes(material.certificate())
        (folder / "key.pem").write_bytes(material.key_pem(material.private_key()))
        command = ["node", "--no-warnings", "exchange.mjs", target]
        command += [str(folder / "certificate.pem"), str(folder / "key.pem")]
        self._process = subprocess.Popen(
            command, cwd=packages, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, action: str, **fields: Any) -> dict[str, Any]:
        """Bytes go out and come back in base64."""
        request = {name: _text(value) if isinstance(value, bytes) else value for name, value in fields.items()}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"action": action, **request}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


def _text(value: bytes) -> str:
    return b64encode(value).decode()


@pytest.fixture(scope="module")
def stub() -> Iterator[StubGateway]:
    """One stub that both clients drive."""
    with StubGateway() as gateway:
        gateway.evaluate.answer(b"evaluated")
        gateway.endorse.answer(Endorsed(b"endorsed", "voucher.issued", b"payload"))
        yield gateway


@pytest.fixture(scope="module")
def node(stub: StubGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The official client, connected to the stub."""
    process = Node(stub.target, tmp_path_factory.mktemp("node"), node_folder("client"))
    yield process
    process.close()


@pytest.fixture(scope="module")
def gateway(stub: StubGateway) -> Iterator[fabric.Gateway]:
    """Our client without a signer, connected to the stub."""
    with stub.channel() as channel, fabric.connect(channel, material.identity()) as made:
        yield made


SIGN = fabric.signers.from_key(material.private_key())


def _proposal(gateway: fabric.Gateway) -> fabric.Proposal:
    contract = gateway.network("scf").contract("trade", "voucher")
    return contract.new_proposal(
        "issue", "V-1", b"\x00\xff", transient={"price": "nine"}, endorsing_organizations=["BankMSP", "CoreMSP"]
    )


def _transaction(gateway: fabric.Gateway) -> fabric.Transaction:
    proposal = _proposal(gateway)
    return gateway.proposal(proposal.bytes, SIGN(proposal.digest)).endorse()


def _commit(gateway: fabric.Gateway) -> fabric.Commit:
    transaction = _transaction(gateway)
    return gateway.transaction(transaction.bytes, SIGN(transaction.digest)).submit()


MAKERS: dict[str, Callable[[fabric.Gateway], Any]] = {
    "proposal": _proposal,
    "transaction": _transaction,
    "commit": _commit,
    "chaincode_events_request": lambda g: g.network("scf").chaincode_events_request("trade", start_block=7),
    "block_events_request": lambda g: g.network("scf").block_events_request(start_block=7),
    "filtered_block_events_request": lambda g: g.network("scf").filtered_block_events_request(start_block=7),
    "block_and_private_data_events_request": lambda g: g.network("scf").block_and_private_data_events_request(
        start_block=7
    ),
}


def _same(theirs: dict[str, Any], ours: Any) -> None:
    assert b64decode(theirs["digest"]) == ours.digest
    assert b64decode(theirs["bytes"]) == ours.bytes
    if theirs["transactionId"] is not None:
        assert theirs["transactionId"] == ours.transaction_id


@every_object
def test_what_node_writes_loads_here(node: Node, gateway: fabric.Gateway, kind: str) -> None:
    theirs = node("make", kind=kind)
    _same(theirs, getattr(gateway, kind)(b64decode(theirs["bytes"])))


@every_object
def test_what_is_written_here_loads_in_node(node: Node, gateway: fabric.Gateway, kind: str) -> None:
    ours = MAKERS[kind](gateway)
    _same(node("load", kind=kind, data=ours.bytes), ours)


@every_object
def test_signed_objects_are_equal_on_both_sides(node: Node, gateway: fabric.Gateway, kind: str) -> None:
    ours = MAKERS[kind](gateway)
    signature = SIGN(ours.digest)
    signed = getattr(gateway, kind)(ours.bytes, signature)
    _same(node("load_signed", kind=kind, data=ours.bytes, signature=signature), signed)
    _same(node("load", kind=kind, data=signed.bytes), signed)


@every_object
def test_a_signature_of_node_verifies_here(node: Node, gateway: fabric.Gateway, kind: str) -> None:
    ours = MAKERS[kind](gateway)
    signature = b64decode(node("sign", digest=ours.digest)["signature"])
    public = material.private_key().public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signature, ours.digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    assert decode_dss_signature(signature)[1] <= HALF_ORDER
    assert fabric.signers.low_s(signature) == signature


def test_a_signature_made_here_verifies_in_node(node: Node) -> None:
    for number in range(10):
        message = b"message %d" % number
        digest = fabric.Hash.SHA256.digest(message)
        assert b64decode(node("sha256", message=message)["digest"]) == digest
        assert node("verify", message=message, signature=SIGN(digest))["valid"]


def test_node_sends_a_proposal_signed_here(node: Node, stub: StubGateway, gateway: fabric.Gateway) -> None:
    ours = _proposal(gateway)
    answer = node("send_proposal", data=ours.bytes, signature=SIGN(ours.digest))
    assert b64decode(answer["result"]) == b"evaluated"
    assert fabric.Hash.SHA256.digest(stub.evaluate.requests[-1].proposal) == ours.digest


def _online(stub: StubGateway, run: Callable[[fabric.Network], None]) -> None:
    with stub.channel() as channel, fabric.connect(channel, material.identity(), SIGN) as gateway:
        run(gateway.network("scf"))


def _alike(request: Proposed) -> tuple[Any, ...]:
    """Everything of a request but nonce, time and signature, down to the bytes of the payload."""
    from fabric_protos.common.common_pb2 import ChannelHeader, Header
    from fabric_protos.peer.proposal_pb2 import Proposal

    proposal = Proposal.FromString(request.proposal)
    header = ChannelHeader.FromString(Header.FromString(proposal.header).channel_header)
    header.ClearField("timestamp")
    header.tx_id = ""
    return proposal.payload, header.SerializeToString(), request.creator, request.endorsing_organizations


def test_both_send_equal_evaluate_requests(node: Node, stub: StubGateway) -> None:
    options: dict[str, Any] = {"transient": {"price": "nine"}, "endorsing_organizations": ["BankMSP"]}
    assert b64decode(node("evaluate")["result"]) == b"evaluated"
    _online(stub, lambda network: print(network.contract("trade", "voucher").evaluate("get", "V-1", **options)))
    theirs, ours = stub.evaluate.requests[-2:]
    assert _alike(theirs) == _alike(ours)


def test_both_send_equal_submit_requests(node: Node, stub: StubGateway) -> None:
    options: dict[str, Any] = {"transient": {"price": "nine"}, "endorsing_organizations": ["BankMSP"]}
    assert b64decode(node("submit")["result"]) == b"endorsed"
    _online(stub, lambda network: print(network.contract("trade", "voucher").submit("issue", "V-1", **options)))
    theirs, ours = stub.endorse.requests[-2:]
    assert _alike(theirs) == _alike(ours)
    for script in (stub.submit, stub.commit_status):
        first, second = script.requests[-2:]
        assert (first.transaction_id, second.transaction_id) == (theirs.transaction_id, ours.transaction_id)
        assert first.channel == second.channel
    assert stub.commit_status.requests[-2].identity == stub.commit_status.requests[-1].identity


def test_both_ask_for_events_alike_and_read_the_same(node: Node, stub: StubGateway) -> None:
    theirs = node("chaincode_events")
    events: list[fabric.ChaincodeEvent] = []

    def read(network: fabric.Network) -> None:
        with network.chaincode_events("trade", start_block=1) as stream:
            events.append(next(stream))

    _online(stub, read)
    event = events[0]
    payload = b64decode(theirs["payload"])
    assert (int(theirs["block"]), theirs["id"], theirs["name"]) == (
        event.block_number,
        event.transaction_id,
        event.name,
    )
    assert payload == event.payload
    first, second = stub.chaincode_events.requests[-2:]
    assert first.request == second.request


@pytest.mark.parametrize(
    ("kind", "script"), [("block", "deliver"), ("filtered", "deliver_filtered"), ("private", "deliver_private")]
)
def test_both_ask_for_blocks_alike(node: Node, stub: StubGateway, kind: str, script: str) -> None:
    node("blocks", kind=kind)
    names = {"block": "block_events", "filtered": "filtered_block_events", "private": "block_and_private_data_events"}

    def read(network: fabric.Network) -> None:
        with getattr(network, names[kind])(start_block=1) as stream:
            next(stream)

    _online(stub, read)
    theirs, ours = getattr(stub, script).requests[-2:]
    assert (theirs.channel, theirs.start_block, theirs.identity) == (ours.channel, ours.start_block, ours.identity)
    # Node counts in floating point and asks up to 2**53 - 1; both mean forever.
    assert (theirs.stop_block, ours.stop_block) == (2**53 - 1, 2**64 - 1)


def test_node_reads_our_checkpoint_file(node: Node, tmp_path: Path) -> None:
    with fabric.FileCheckpointer(tmp_path / "ours.cp") as checkpointer:
        checkpointer.bind("3f9a")
        checkpointer.checkpoint_transaction(7, "ab")
    assert node("checkpoint", path=str(tmp_path / "ours.cp")) == {"block": "7", "id": "ab"}


def test_we_read_nodes_checkpoint_file(node: Node, tmp_path: Path) -> None:
    node("checkpoint", path=str(tmp_path / "theirs.cp"), block=9, id="cd")
    with fabric.FileCheckpointer(tmp_path / "theirs.cp") as checkpointer:
        assert (checkpointer.block_number, checkpointer.transaction_id) == (9, "cd")
