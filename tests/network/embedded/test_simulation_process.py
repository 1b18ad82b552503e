"""The second process for simulations: it answers as the first one does, and nothing is lost when it fails."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import transaction_pb2

from network.embedded.network import EmbeddedNetwork
from network.embedded.simulation_child import READY, Answer, Request, Transient, frame, frames
from network.embedded.simulation_process import STALL_SECONDS, SimulationProcess
from network.topology import Topology
from tests.network.embedded.conftest import small_topology
from tests.network.embedded.wire import Client, failure

VALID = transaction_pb2.TxValidationCode.VALID
IMPLICIT = "_implicit_org_CoreMSP"


def programs_only() -> Topology:
    """The tests' topology without the chaincode service."""
    topology = small_topology()
    return replace(topology, chaincodes=tuple(each for each in topology.chaincodes if each.program is not None))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNetwork]:
    """A network that may start a second process."""
    with EmbeddedNetwork.running(tmp_path_factory.mktemp("apart") / "home", programs_only()) as running:
        yield running


@pytest.fixture(scope="module")
def core(network: EmbeddedNetwork) -> Iterator[Client]:
    """A user of the core enterprise."""
    client = Client(network.home, "core")
    yield client
    client.close()


def process_of(network: EmbeddedNetwork) -> SimulationProcess:
    """The second process as the network sees it."""
    assert network.apart is not None
    return network.apart


def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition, for a bounded time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


@contextmanager
def busy(network: EmbeddedNetwork, client: Client) -> Iterator[SimulationProcess]:
    """Keep the serving process busy with one proposal after the other, and the second one ready for gateway calls."""
    over = threading.Event()

    def repeat(first: str) -> None:
        seconds = first
        while not over.is_set():
            client.endorser.ProcessProposal(client.propose("wait", seconds).signed, timeout=20)
            seconds = "2"

    # One ends in the middle of the other, so that there is always one.
    threads = [threading.Thread(target=repeat, args=(seconds,)) for seconds in "12"]
    for thread in threads:
        thread.start()
    process = process_of(network)
    try:
        # A query that comes beside the long ones starts the process.
        until(lambda: client.evaluate(client.propose("who")) and process.is_ready)
        yield process
    finally:
        over.set()
        for thread in threads:
            thread.join()


FAILING: Final = {
    "absent": ("evaluate", "get", "absent"),
    "crash": ("evaluate", "crash"),
    "refuse": ("endorse", "refuse", "no"),
    "disagree": ("endorse", "disagree"),
    "refuse_in": ("endorse", "refuse_in", "BankMSP"),
    "unknown": ("endorse", "no_such_function"),
    "unreadable": ("unreadable",),
}


def failing(client: Client, name: str) -> Any:
    """How one of the calls that fail does it."""
    method, *args = FAILING[name]
    if method == "unreadable":
        raw = client.link.unary_unary("/gateway.Gateway/Evaluate", lambda data: data, lambda data: data)
        return failed(raw, b"\xff", timeout=5)
    return failed(getattr(client, method), client.propose(*args, chaincode="both"))


@pytest.fixture(scope="module")
def here(core: Client) -> dict[str, Any]:
    """How calls fail that are simulated in the serving process."""
    return {name: failing(core, name) for name in FAILING}


@pytest.fixture(scope="module")
def crowd(network: EmbeddedNetwork, core: Client, here: dict[str, Any]) -> Iterator[SimulationProcess]:
    """The second process, which gets every gateway call while the tests of this module run."""
    assert len(here) == len(FAILING)
    with busy(network, core) as process:
        yield process


def _evaluation(proposal: Any) -> Any:
    return gateway_pb2.EvaluateRequest(
        transaction_id=proposal.transaction_id, channel_id=proposal.channel, proposed_transaction=proposal.signed
    )


def failed(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """How a call fails, without the transaction id."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return failure(caught.value)


# -- frames ------------------------------------------------------------------------------------------------------------


def test_frames_arrive_in_any_pieces() -> None:
    sent = frame(Answer(READY)) + frame(Answer(1, b"x" * 300)) + frame(Answer(2))
    received = bytearray()
    taken: list[bytes] = []
    for byte in sent:
        received.append(byte)
        taken.extend(frames(received))
    assert [len(each) for each in taken] == [len(each) for each in frames(bytearray(sent))]
    assert len(taken) == 3
    assert not received


def test_a_request_is_framed_with_its_length() -> None:
    data = frame(Request(1, "evaluate", "peer.core", 2, (), b"data"))
    assert int.from_bytes(data[:4], "little") == len(data) - 4
    assert Transient("id", "CoreMSP", b"set").private == b"set"


# -- the same answers --------------------------------------------------------------------------------------------------


def test_a_lone_caller_needs_no_second_process(tmp_path: Path) -> None:
    with EmbeddedNetwork.running(tmp_path / "home", programs_only()) as network:
        client = Client(network.home, "core")
        assert client.transact("put", "alone", "1")[1] == VALID
        client.close()
        assert process_of(network).pid is None


def test_a_network_with_chaincode_services_has_no_second_process(tmp_path: Path) -> None:
    network = EmbeddedNetwork.prepare(tmp_path / "home", small_topology())
    network.stop()
    assert network.apart is None


def test_a_crowd_is_answered_by_the_second_process(crowd: SimulationProcess, core: Client) -> None:
    before = crowd.answered
    assert core.transact("put", "crowded", "1")[1] == VALID
    assert crowd.answered == before + 1


def test_what_is_committed_is_seen_by_every_later_simulation(crowd: SimulationProcess, core: Client) -> None:
    before = crowd.answered
    for number in range(20):
        assert core.transact("increment", "seen")[1] == VALID
        assert core.evaluate(core.propose("get", "seen")).payload == str(number + 1).encode()
    assert crowd.answered == before + 40


@pytest.mark.parametrize("name", FAILING)
def test_failures_are_the_same_in_both_processes(
    crowd: SimulationProcess, core: Client, here: dict[str, Any], name: str
) -> None:
    before = crowd.answered
    assert failing(core, name) == here[name]
    assert crowd.answered == before + 1


def test_private_data_is_on_disk_before_its_endorsement_is_answered(
    crowd: SimulationProcess, network: EmbeddedNetwork, core: Client
) -> None:
    before = crowd.answered
    proposal = core.propose("keep_private", IMPLICIT, "secret", transient={"value": b"from apart"})
    envelope = core.endorse(proposal)
    assert crowd.answered == before + 1
    with network.ledger.snapshot() as snapshot:
        assert [msp_id for msp_id, _ in snapshot.transient(proposal.transaction_id)] == ["CoreMSP"]
    core.submit(core.sign_envelope(envelope), proposal.transaction_id)
    assert core.status(proposal.transaction_id)[0] == VALID
    assert core.evaluate(core.propose("get_private", IMPLICIT, "secret")).payload == b"from apart"


def test_a_stopped_peer_is_not_asked_by_the_second_process(
    crowd: SimulationProcess, network: EmbeddedNetwork, core: Client
) -> None:
    before = crowd.answered
    network.stop_peer("peer.bank")
    try:
        endorsed = core.endorse(core.propose("put", "without", "bank"))
    finally:
        network.start_peer("peer.bank")
    assert crowd.answered == before + 1
    assert sorted(_endorsers(endorsed)) == ["CoreMSP", "LogisticsMSP", "WarehouseMSP"]


def _endorsers(envelope: common_pb2.Envelope) -> list[str]:
    payload = common_pb2.Payload.FromString(envelope.payload)
    transaction = transaction_pb2.Transaction.FromString(payload.data)
    action = transaction_pb2.ChaincodeActionPayload.FromString(transaction.actions[0].payload).action
    return [identities_pb2.SerializedIdentity.FromString(each.endorser).mspid for each in action.endorsements]


# -- failures of the process -------------------------------------------------------------------------------------------


def test_a_call_survives_the_death_of_the_second_process(crowd: SimulationProcess, core: Client) -> None:
    pid = crowd.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    answer = core.gateway.Evaluate.future(_evaluation(core.propose("who")), timeout=10)
    os.kill(pid, signal.SIGKILL)
    assert answer.result().result.payload == b"CoreMSP"
    until(lambda: crowd.is_ready and crowd.pid != pid)
    before = crowd.answered
    assert core.evaluate(core.propose("who")).payload == b"CoreMSP"
    assert crowd.answered == before + 1


def test_a_silent_process_gives_its_calls_back(crowd: SimulationProcess, core: Client) -> None:
    pid = crowd.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = core.gateway.Evaluate(_evaluation(core.propose("who")), timeout=10)
        assert answer.result.payload == b"CoreMSP"
        assert crowd.is_stalled
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: not crowd.is_stalled)
    assert crowd.pid == pid


def test_calls_do_not_wait_behind_a_slow_one(crowd: SimulationProcess, core: Client) -> None:
    slow = core.gateway.Evaluate.future(_evaluation(core.propose("wait", "5")), timeout=20)
    begun = time.monotonic()
    # The first may stand behind the slow one; those that come later are simulated in the serving process.
    for _ in range(3):
        assert core.evaluate(core.propose("who")).payload == b"CoreMSP"
    assert time.monotonic() - begun < STALL_SECONDS + 1.5
    assert slow.result().result.payload == b"waited"
    until(lambda: not crowd.is_stalled)


def test_the_second_process_ends_with_the_network(tmp_path: Path) -> None:
    with EmbeddedNetwork.running(tmp_path / "home", programs_only()) as network:
        client = Client(network.home, "core")
        with busy(network, client) as process:
            pid = process.pid
        client.close()
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
