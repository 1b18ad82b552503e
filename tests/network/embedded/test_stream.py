"""The peer's end of the stream to a chaincode service: handshake, requests, loss, and dialling again."""

import datetime
import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2

from network.embedded.handler import ChaincodeMessage as M
from network.embedded.handler import TransactionContext
from network.embedded.simulator import Simulator
from network.embedded.stream import ChaincodeStream, ExecutionError, Tls
from tests.network.embedded.ground import LEDGER, Ground
from tests.network.embedded.service import Service, Session, answering

PACKAGE = "package_1:abc"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("home"), (LEDGER,))
    made.define()
    assert made.submit(made.propose("ledger", "put", "k", "committed")) == [0]
    yield made
    made.close()


@pytest.fixture
def execute(ground: Ground) -> Iterator[Callable[..., M]]:
    """Run one transaction on a stream with a fresh simulator."""
    with ground.ledger.snapshot() as snapshot:

        def run(stream: ChaincodeStream, txid: str = "T", seconds: float = 5.0) -> M:
            context = TransactionContext(
                Simulator(snapshot, "CoreMSP", txid), "ledger", channel_id="scf", transaction_id=txid
            )
            message = M(type=M.TRANSACTION, txid=txid, channel_id="scf", payload=b"")
            try:
                return stream.execute(message, context, time.monotonic() + seconds)
            finally:
                context.close()

        yield run


Execute = Callable[..., M]


def complete(session: Session, message: M) -> None:
    session.complete(message, 200)


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.01)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


# --- handshake ---


def test_registered_then_ready_with_the_batch_sizes(execute: Execute) -> None:
    seen: list[M] = []

    def talk(session: Session) -> None:
        session.register(PACKAGE)
        seen.extend((session.get(), session.get()))
        complete(session, session.get())

    with Service(talk) as service:
        stream = ChaincodeStream(service.address, PACKAGE)
        assert execute(stream).type == M.COMPLETED
        stream.close()
    assert [each.type for each in seen] == [M.REGISTERED, M.READY]
    params = chaincode_pb2.ChaincodeAdditionalParams.FromString(seen[1].payload)
    assert (params.use_write_batch, params.max_size_write_batch) == (True, 1000)
    assert (params.use_get_multiple_keys, params.max_size_get_multiple_keys) == (True, 1000)


def talk_nothing(session: Session) -> None:
    session.received.get(timeout=5)


def talk_empty_name(session: Session) -> None:
    session.register("")
    session.received.get(timeout=5)


def talk_other_name(session: Session) -> None:
    session.register("other:1")
    session.received.get(timeout=5)


def talk_unreadable_name(session: Session) -> None:
    session.send(M.REGISTER, b"\xff\xff")
    session.received.get(timeout=5)


def talk_too_soon(session: Session) -> None:
    session.send(M.GET_STATE)
    session.received.get(timeout=5)


@pytest.mark.parametrize(
    ("talk", "text"),
    [
        (talk_nothing, f"timeout expired while starting chaincode {PACKAGE} for transaction"),
        (
            talk_empty_name,
            "chaincode registration failed: error in handling register chaincode, chaincodeID name is empty",
        ),
        (
            talk_other_name,
            "chaincode registration failed: peer will not accept external chaincode connection other:1 "
            "(except in dev mode)",
        ),
        (talk_unreadable_name, "chaincode registration failed: could NOT unmarshal registration info"),
        (
            talk_too_soon,
            "chaincode registration failed: [] Fabric side handler cannot handle message (GET_STATE) "
            "while in created state",
        ),
        (
            lambda session: None,
            f"chaincode registration failed: connection to {PACKAGE} terminated",
        ),
    ],
)
def test_a_bad_handshake_is_refused_and_closed(execute: Execute, talk: Callable[[Session], None], text: str) -> None:
    with Service(talk) as service:
        stream = ChaincodeStream(service.address, PACKAGE, start_seconds=0.5)
        with pytest.raises(ExecutionError) as caught:
            execute(stream)
        assert str(caught.value) == f"could not launch chaincode {PACKAGE}: {text}"
        assert not stream.is_ready
        stream.close()


def test_nobody_listening_is_said_at_once(execute: Execute) -> None:
    address = free_address()
    stream = ChaincodeStream(address, PACKAGE)
    before = time.monotonic()
    with pytest.raises(ExecutionError) as caught:
        execute(stream)
    assert time.monotonic() - before < 1
    assert str(caught.value) == (
        f"could not launch chaincode {PACKAGE}: connection to {PACKAGE} failed: "
        f"error cannot create connection for {PACKAGE}: error creating grpc connection to {address}: "
        'failed to create new connection: connection error: desc = "transport: Error while dialing: '
        f'dial tcp {address}: connect: connection refused"'
    )
    stream.close()


def test_a_listener_that_is_no_grpc_server_costs_the_dial_time(execute: Execute) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        stream = ChaincodeStream(f"127.0.0.1:{silent.getsockname()[1]}", PACKAGE, dial_seconds=0.3)
        with pytest.raises(ExecutionError, match="context deadline exceeded"):
            execute(stream)
        stream.close()


# --- requests ---


def test_requests_are_answered_from_the_context(execute: Execute) -> None:
    def answer(session: Session, message: M) -> None:
        request = chaincode_shim_pb2.GetState(key="k").SerializeToString()
        found = session.ask(message, M.GET_STATE, request)
        session.complete(message, 200, payload=found.payload)

    with Service(answering(PACKAGE, answer)) as service:
        stream = ChaincodeStream(service.address, PACKAGE)
        assert b"committed" in execute(stream).payload
        stream.close()


def test_a_second_request_while_one_is_pending_is_dropped(ground: Ground) -> None:
    """The answer to the first request is held back until the second has certainly arrived."""
    hold, second_sent = threading.Event(), threading.Event()
    got: list[M] = []

    class Slow(TransactionContext):
        def handle(self, message: M) -> M:
            assert second_sent.wait(5)
            hold.wait(0.3)
            return super().handle(message)

    def answer(session: Session, message: M) -> None:
        request = chaincode_shim_pb2.GetState(key="k").SerializeToString()
        session.send(M.GET_STATE, request, message)
        session.send(M.GET_STATE, request, message)
        second_sent.set()
        got.append(session.get())
        with pytest.raises(queue.Empty):
            session.get(0.5)
        complete(session, message)

    with Service(answering(PACKAGE, answer)) as service, ground.ledger.snapshot() as snapshot:
        stream = ChaincodeStream(service.address, PACKAGE)
        context = Slow(Simulator(snapshot, "CoreMSP", "T"), "ledger", channel_id="scf", transaction_id="T")
        message = M(type=M.TRANSACTION, txid="T", channel_id="scf")
        stream.execute(message, context, time.monotonic() + 5)
        stream.close()
    assert [each.payload for each in got] == [b"committed"]


def test_keepalive_is_ignored(execute: Execute) -> None:
    def answer(session: Session, message: M) -> None:
        session.send(M.KEEPALIVE)
        complete(session, message)

    with Service(answering(PACKAGE, answer)) as service:
        stream = ChaincodeStream(service.address, PACKAGE)
        assert execute(stream).type == M.COMPLETED
        stream.close()


def test_an_unknown_type_ends_the_stream_and_its_transactions(execute: Execute) -> None:
    def answer(session: Session, message: M) -> None:
        session.send(M.REGISTER, b"", message)
        session.received.get(timeout=5)

    with Service(answering(PACKAGE, answer)) as service:
        stream = ChaincodeStream(service.address, PACKAGE)
        with pytest.raises(ExecutionError, match=r"^error sending: chaincode stream terminated$"):
            execute(stream)
        assert not stream.is_ready
        stream.close()


def test_requests_after_the_time_out_have_no_ledger_context(execute: Execute) -> None:
    late: list[M] = []

    def answer(session: Session, message: M) -> None:
        if message.txid == "slow":
            threading.Event().wait(0.3)
            late.append(session.ask(message, M.GET_STATE, b""))
            late.append(session.ask(message, M.INVOKE_CHAINCODE, b""))
            complete(session, message)
        else:
            complete(session, message)

    with Service(answering(PACKAGE, answer)) as service:
        stream = ChaincodeStream(service.address, PACKAGE)
        with pytest.raises(ExecutionError, match=r"^error sending: timeout expired while executing transaction$"):
            execute(stream, "slow", 0.1)
        wait_until(lambda: len(late) == 2)
        # The stream is unharmed, and the late COMPLETED harms nobody.
        assert execute(stream, "next").type == M.COMPLETED
        stream.close()
    assert [each.payload.decode() for each in late] == [
        "GET_STATE failed: transaction ID: slow: no ledger context",
        "INVOKE_CHAINCODE failed: transaction ID: slow: could not get valid transaction",
    ]


def test_the_same_transaction_twice_on_one_stream(execute: Execute) -> None:
    going, finish = threading.Event(), threading.Event()

    def answer(session: Session, message: M) -> None:
        going.set()
        assert finish.wait(5)
        complete(session, message)

    with Service(answering(PACKAGE, answer)) as service:
        stream = ChaincodeStream(service.address, PACKAGE)
        first = threading.Thread(target=execute, args=(stream,))
        first.start()
        assert going.wait(5)
        with pytest.raises(ExecutionError, match=r"^error sending: txid: T\(scf\) exists$"):
            execute(stream)
        finish.set()
        first.join()
        stream.close()


def test_messages_beyond_grpcs_default_size(execute: Execute) -> None:
    with Service(
        answering(PACKAGE, lambda session, message: session.complete(message, payload=bytes(8 << 20)))
    ) as service:
        stream = ChaincodeStream(service.address, PACKAGE)
        assert len(execute(stream).payload) > 8 << 20
        stream.close()


def test_many_transactions_on_one_stream(execute: Execute) -> None:
    def talk(session: Session) -> None:
        """Collects ten transactions before it answers any, in the other order."""
        session.register(PACKAGE)
        session.get(), session.get()
        while True:
            waiting = []
            while len(waiting) < 10:
                message = session.received.get()
                if message is None:
                    return
                waiting.append(message)
            for message in reversed(waiting):
                complete(session, message)

    with Service(talk) as service, ThreadPoolExecutor(10) as pool:
        stream = ChaincodeStream(service.address, PACKAGE)
        answers = list(pool.map(lambda number: execute(stream, f"tx{number}"), range(40)))
        assert [answer.txid for answer in answers] == [f"tx{number}" for number in range(40)]
        assert service.connections == 1
        stream.close()


# --- loss and dialling again ---


def test_loss_fails_every_open_transaction_at_once(execute: Execute) -> None:
    opened = threading.Barrier(4)

    def talk(session: Session) -> None:
        session.register(PACKAGE)
        for _ in range(5):
            session.get()
        opened.wait(5)

    with Service(talk) as service, ThreadPoolExecutor(3) as pool:
        stream = ChaincodeStream(service.address, PACKAGE)
        running = [pool.submit(execute, stream, f"tx{number}") for number in range(3)]
        for _ in range(3):
            threading.Thread(target=opened.wait, args=(5,)).start()
        for each in running:
            with pytest.raises(ExecutionError, match=r"^error sending: chaincode stream terminated$"):
                each.result(timeout=5)
        stream.close()


def test_a_stopped_service_is_found_again_by_the_next_call(execute: Execute) -> None:
    address = free_address()
    stream = ChaincodeStream(address, PACKAGE)
    with Service(answering(PACKAGE, complete), address):
        assert execute(stream).type == M.COMPLETED
    wait_until(lambda: not stream.is_ready)
    with pytest.raises(ExecutionError, match="could not launch chaincode"):
        execute(stream)
    with Service(answering(PACKAGE, complete), address):
        assert execute(stream).type == M.COMPLETED
        stream.close()


def test_started_streams_dial_in_the_background_until_they_are_closed(execute: Execute) -> None:
    address = free_address()
    stream = ChaincodeStream(address, PACKAGE)
    stream.start()
    for _ in range(2):
        with Service(answering(PACKAGE, complete), address):
            wait_until(lambda: stream.is_ready, 10)
        wait_until(lambda: not stream.is_ready)
    stream.close()
    with Service(answering(PACKAGE, complete), address) as service:
        threading.Event().wait(0.3)
        assert service.connections == 0
        with pytest.raises(ExecutionError, match="chaincode stream terminated"):
            execute(stream)


def test_callers_share_one_attempt_to_dial(execute: Execute) -> None:
    release = threading.Event()

    def talk(session: Session) -> None:
        assert release.wait(5)
        answering(PACKAGE, complete)(session)

    with Service(talk) as service, ThreadPoolExecutor(5) as pool:
        stream = ChaincodeStream(service.address, PACKAGE)
        running = [pool.submit(execute, stream, f"tx{number}") for number in range(5)]
        wait_until(lambda: service.connections == 1)
        release.set()
        assert all(each.result(timeout=5).type == M.COMPLETED for each in running)
        assert service.connections == 1
        stream.close()


# --- TLS ---


def certificate_for_localhost() -> tuple[bytes, bytes]:
    """A self-signed server certificate and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chaincode")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def test_tls_and_mutual_tls(execute: Execute) -> None:
    certificate, key = certificate_for_localhost()
    client, client_key = certificate_for_localhost()
    plain = grpc.ssl_server_credentials([(key, certificate)])
    mutual = grpc.ssl_server_credentials([(key, certificate)], client, require_client_auth=True)
    with Service(answering(PACKAGE, complete), credentials=plain) as service:
        stream = ChaincodeStream(service.address, PACKAGE, tls=Tls(certificate))
        assert execute(stream).type == M.COMPLETED
        stream.close()
        stranger = ChaincodeStream(service.address, PACKAGE, tls=Tls(client), dial_seconds=0.5)
        with pytest.raises(ExecutionError, match="context deadline exceeded"):
            execute(stranger)
        stranger.close()
    with Service(answering(PACKAGE, complete), credentials=mutual) as service:
        stream = ChaincodeStream(service.address, PACKAGE, tls=Tls(certificate, client_key, client))
        assert execute(stream).type == M.COMPLETED
        stream.close()
