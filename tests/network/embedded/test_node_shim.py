"""The official Node shim as witness: an unmodified `fabric-shim` runs a chaincode that our peers dial."""

import json
import os
import queue
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from fabric_protos.peer import chaincode_event_pb2, proposal_pb2, proposal_response_pb2

from chaincode.shim.policy import all_of, signed_by
from network.embedded.host import package_id
from network.topology import ChaincodeSpec
from tests.network.embedded.ground import OTHER, Ground
from tests.node.packages import node_folder

ORGANISATIONS = {"core": "CoreMSP", "warehouse": "WarehouseMSP", "bank": "BankMSP"}
NODE = ChaincodeSpec("node", "1", services=dict.fromkeys(ORGANISATIONS, "127.0.0.1:1"))
START_SECONDS = 30


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Process:
    """One chaincode process of one organisation, as a real network has it."""

    def __init__(self, folder: Path, address: str, msp_id: str) -> None:
        environment = {"PATH": os.environ["PATH"], "CORE_PEER_LOCALMSPID": msp_id}
        environment["CORE_CHAINCODE_LOGGING_LEVEL"] = "error"
        node = shutil.which("node") or "node"
        self.process = subprocess.Popen(
            [node, "chaincode.js", address, package_id(NODE)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self) -> None:
        """Until it listens."""
        first = self.lines.get(timeout=START_SECONDS)
        assert first.strip() == "listening", first

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.put(line)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A channel on which three organisations run the Node chaincode, each in a process of its own."""
    folder = node_folder("shim")
    services = {name: free_address() for name in ORGANISATIONS}
    with ExitStack() as stack:
        processes = [Process(folder, services[name], msp_id) for name, msp_id in ORGANISATIONS.items()]
        for process in processes:
            stack.callback(process.stop)
        for process in processes:
            process.wait()
        made = Ground(tmp_path_factory.mktemp("home"), (replace(NODE, services=services), OTHER))
        stack.callback(made.close)
        made.define()
        made.host.start()
        yield made


def ask(ground: Ground, *args: str, at: str = "core", **extra: object) -> str:
    response = ground.endorse(ground.propose("node", *args, **extra), at).response
    assert response.status == 200, response.message
    return response.payload.decode()


def write(ground: Ground, *args: str, **extra: object) -> proposal_response_pb2.ProposalResponse:
    """Endorse at all three organisations, which must agree, and commit."""
    parts = ground.propose("node", *args, **extra)
    responses = [ground.endorse(parts, name) for name in ORGANISATIONS]
    assert responses[0].response.status == 200, responses[0].response.message
    assert len({response.payload for response in responses}) == 1
    assert ground.commit(ground.envelope(parts, responses)) == [0]
    return responses[0]


def test_put_get_and_delete(ground: Ground) -> None:
    assert ask(ground, "get", "k") == "absent"
    write(ground, "put", "k", "v")
    assert ask(ground, "get", "k", at="bank") == "v"
    write(ground, "del", "k")
    assert ask(ground, "get", "k") == "absent"


def test_ranges_over_several_batches_and_pages(ground: Ground) -> None:
    write(ground, "fill", "row", "250")
    assert json.loads(ask(ground, "range", "row", "rox")) == [f"row{number:04d}" for number in range(250)]
    page = json.loads(ask(ground, "page", "row", "rox", "200", ""))
    assert (len(page["keys"]), page["count"], page["bookmark"]) == (200, 200, "row0200")
    page = json.loads(ask(ground, "page", "row", "rox", "200", page["bookmark"]))
    assert (len(page["keys"]), page["count"], page["bookmark"]) == (50, 50, "")


def test_composite_keys(ground: Ground) -> None:
    write(ground, "composite", "colour", "red", "one")
    write(ground, "composite", "colour", "red", "two")
    write(ground, "composite", "colour", "blue", "one")
    assert json.loads(ask(ground, "partial", "colour", "red")) == [["red", "one"], ["red", "two"]]


def test_history(ground: Ground) -> None:
    write(ground, "put", "told", "one")
    write(ground, "put", "told", "two")
    write(ground, "del", "told")
    assert json.loads(ask(ground, "history", "told")) == [[True, ""], [False, "two"], [False, "one"]]


def test_event(ground: Ground) -> None:
    response = write(ground, "event", "happened", "payload")
    payload = proposal_response_pb2.ProposalResponsePayload.FromString(response.payload)
    action = proposal_pb2.ChaincodeAction.FromString(payload.extension)
    event = chaincode_event_pb2.ChaincodeEvent.FromString(action.events)
    assert (event.chaincode_id, event.event_name, event.payload) == ("node", "happened", b"payload")


def test_transient_data(ground: Ground) -> None:
    assert ask(ground, "transient", "secret", transient={"secret": b"word"}) == "word"


def test_private_data(ground: Ground) -> None:
    collection = "_implicit_org_CoreMSP"
    write(ground, "hide", collection, "k", transient={"value": b"plain"})
    assert ask(ground, "reveal", collection, "k") == "plain"
    assert ask(ground, "hash", collection, "k", at="bank") == sha256(b"plain").hexdigest()
    refused = ground.endorse(ground.propose("node", "reveal", collection, "k"), "bank").response
    assert refused.status == 500
    assert "private data matching public hash version is not available" in refused.message
    write(ground, "purge", collection, "k")
    assert ask(ground, "reveal", collection, "k") == "absent"


def test_key_policies(ground: Ground) -> None:
    policy = all_of(signed_by("BankMSP")).envelope().hex()
    write(ground, "put", "guarded", "1")
    write(ground, "policy", "guarded", policy)
    parts = ground.propose("node", "put", "guarded", "2")
    call = ground.endorse(parts).interest.chaincodes[0]
    assert call.disregard_namespace_policy and len(call.key_policies) == 1


def test_errors_of_the_chaincode_and_of_the_peer(ground: Ground) -> None:
    response = ground.endorse(ground.propose("node", "refuse", "it says no"))
    assert (response.response.status, response.response.message) == (500, "it says no")
    assert response.payload
    parts = ground.propose("node", "call", "nothing", "x")
    message = ground.endorse(parts).response.message
    assert f"INVOKE_CHAINCODE failed: transaction ID: {parts.transaction_id}: execute failed" in message


def test_a_call_into_a_program_of_ours(ground: Ground) -> None:
    assert ask(ground, "call", "other", "empty") == "200 "
    parts = ground.propose("node", "call", "other", "put", "from-node", "v")
    assert [call.name for call in ground.endorse(parts).interest.chaincodes] == ["other"]


def test_what_the_shim_reads_from_the_proposal(ground: Ground) -> None:
    parts = ground.propose("node", "about", by="bank")
    for name, msp_id in ORGANISATIONS.items():
        about = json.loads(ground.endorse(parts, name).response.payload)
        assert about == {
            "channel": "scf",
            "creator": "BankMSP",
            "msp": msp_id,
            "seconds": ground.now_ns // 10**9,
            "transaction": parts.transaction_id,
        }


def test_a_chaincode_that_exits_and_comes_back(ground: Ground) -> None:
    parts = ground.propose("node", "exit")
    assert ground.endorse(parts, "warehouse").response.message == (
        f"error in simulation: failed to execute transaction {parts.transaction_id}: error sending: "
        "chaincode stream terminated"
    )
    services = ground.topology.chaincodes[0].services
    assert services is not None
    revived = Process(node_folder("shim"), services["warehouse"], "WarehouseMSP")
    try:
        revived.wait()
        deadline = time.monotonic() + START_SECONDS
        while ground.endorse(ground.propose("node", "get", "k"), "warehouse").response.status != 200:
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)
    finally:
        revived.stop()
