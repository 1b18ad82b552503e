"""The chaincode as a service, dialled by a peer of a few lines over real gRPC on loopback."""

import datetime
import ipaddress
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fabric_protos.peer.chaincode_pb2 import ChaincodeAdditionalParams, ChaincodeID

from chaincode.shim.server import MESSAGE_BYTES_MAX, Server, ServerSettings, Tls
from chaincode.shim.stub import ChaincodeMessage, Exchange, Limits
from chaincode.shim.testing.exchange import StateExchange, error, response, transaction

from .programs import slow

M = ChaincodeMessage
STOCK = ChaincodeAdditionalParams(
    use_write_batch=True, max_size_write_batch=1000, use_get_multiple_keys=True, max_size_get_multiple_keys=1000
).SerializeToString()


class Peer:
    """One stream of a peer: answers requests by an exchange and keeps the completed transactions."""

    def __init__(self, port: int, exchange: Exchange | None = None, credentials: grpc.ChannelCredentials | None = None):
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX), ("grpc.enable_http_proxy", 0)]
        address = f"127.0.0.1:{port}"
        self.channel = (
            grpc.secure_channel(address, credentials, options)
            if credentials
            else grpc.insecure_channel(address, options)
        )
        self.exchange = exchange or StateExchange()
        self.outbox: queue.SimpleQueue[M | None] = queue.SimpleQueue()
        self.completed: queue.SimpleQueue[M] = queue.SimpleQueue()
        self.requests: list[M] = []
        self.ended = threading.Event()
        connect: Any = self.channel.stream_stream(
            "/protos.Chaincode/Connect", request_serializer=M.SerializeToString, response_deserializer=M.FromString
        )
        self.call = connect(iter(self.outbox.get, None))
        self.registered = next(self.call)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.call.cancel()
        self.outbox.put(None)
        self.channel.close()

    def handshake(self, parameters: bytes = STOCK) -> Self:
        self.outbox.put(M(type=M.REGISTERED))
        self.outbox.put(M(type=M.READY, payload=parameters))
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def run(self, message: M) -> M:
        self.outbox.put(message)
        return self.completed.get(timeout=20)

    def _read(self) -> None:
        try:
            for message in self.call:
                if message.type == M.COMPLETED:
                    self.completed.put(message)
                else:
                    self.requests.append(message)
                    self.outbox.put(self.exchange(message))
        except grpc.RpcError:
            pass
        finally:
            self.ended.set()


@contextmanager
def serving(**changes: Any) -> Iterator[Server]:
    slow.gate.clear()
    settings = ServerSettings(package_id="slow:1", msp_id="Org1MSP", address="127.0.0.1:0", **changes)
    server = Server(slow.chaincode, settings)
    server.start()
    try:
        yield server
    finally:
        slow.gate.set()
        server.stop(5)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most ten seconds."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        threading.Event().wait(0.005)


def test_a_peer_registers_and_runs_a_transaction() -> None:
    state = StateExchange({("", "a"): b"value"})
    with serving() as server, Peer(server.port, state).handshake() as peer:
        assert (peer.registered.type, ChaincodeID.FromString(peer.registered.payload).name) == (M.REGISTER, "slow:1")
        done = peer.run(transaction("copy", "a", "b"))
        assert (response(done).payload, done.chaincode_event.event_name) == (b"value", "copied")
        assert [record.key for record in state.writes] == ["b"]
        assert response(peer.run(transaction("organisation", nonce=b"2"))).payload == b"Org1MSP"


def test_two_peers_run_the_same_transaction_on_their_own_streams() -> None:
    first, second = StateExchange({("", "a"): b"1"}), StateExchange({("", "a"): b"2"})
    message = transaction("copy", "a", "b")
    with serving() as server, Peer(server.port, first).handshake() as one, Peer(server.port, second).handshake() as two:
        one.outbox.put(message)
        two.outbox.put(message)
        answers = [response(peer.completed.get(timeout=20)).payload for peer in (one, two)]
    assert answers == [b"1", b"2"]


def test_many_transactions_run_beside_each_other() -> None:
    with serving() as server, Peer(server.port).handshake() as peer:
        for number in range(20):
            peer.outbox.put(transaction("wait", nonce=str(number).encode()))
        until(lambda: server.running == 20)
        assert response(peer.run(transaction("organisation"))).status == 200
        slow.gate.set()
        assert [response(peer.completed.get(timeout=20)).payload for _ in range(20)] == [b"done"] * 20
        until(lambda: server.running == 0)


def test_large_messages_pass_in_both_directions() -> None:
    size = 8 * 1024 * 1024
    with serving() as server, Peer(server.port, StateExchange({("", "large"): bytes(size)})).handshake() as peer:
        assert len(response(peer.run(transaction("large", str(size)))).payload) == 2 * size


def test_an_old_peer_gets_single_writes() -> None:
    def exchange(request: M) -> M:
        return M(type=M.RESPONSE, txid=request.txid, channel_id=request.channel_id, payload=b"v")

    with serving() as server, Peer(server.port, exchange).handshake(b"") as peer:
        assert response(peer.run(transaction("copy", "a", "b"))).status == 200
        assert [request.type for request in peer.requests] == [M.GET_STATE, M.PUT_STATE]


def test_an_error_at_the_flush_fails_the_transaction_and_not_the_stream() -> None:
    def exchange(request: M) -> M:
        if request.type == M.WRITE_BATCH_STATE:
            return error(request, "Writes are not allowed")
        return M(type=M.RESPONSE, txid=request.txid, channel_id=request.channel_id, payload=b"v")

    with serving() as server, Peer(server.port, exchange).handshake() as peer:
        assert "Writes are not allowed" in response(peer.run(transaction("copy", "a", "b"))).message
        assert response(peer.run(transaction("organisation", nonce=b"2"))).status == 200


def test_keepalive_is_echoed() -> None:
    with serving() as server, Peer(server.port) as peer:
        peer.outbox.put(M(type=M.KEEPALIVE))
        assert next(peer.call).type == M.KEEPALIVE


@pytest.mark.parametrize("moment", ["before registered", "before ready", "at a read", "at the flush", "while it runs"])
def test_a_stream_lost_at_any_moment_leaves_the_service_well(moment: str) -> None:
    reached = threading.Event()

    def exchange(request: M) -> M:
        if moment == "at a read" or request.type == M.WRITE_BATCH_STATE:
            reached.set()
            raise grpc.RpcError
        return M(type=M.RESPONSE, txid=request.txid, channel_id=request.channel_id, payload=b"v")

    with serving() as server:
        with Peer(server.port, exchange) as peer:
            if moment == "before ready":
                peer.outbox.put(M(type=M.REGISTERED))
            elif moment == "while it runs":
                peer.handshake().outbox.put(transaction("wait"))
                until(lambda: server.running == 1)
            elif moment != "before registered":
                peer.handshake().outbox.put(transaction("copy", "a", "b"))
                assert reached.wait(10)
        slow.gate.set()
        until(lambda: server.running == 0)
        with Peer(server.port).handshake() as again:
            assert response(again.run(transaction("organisation"))).status == 200


def test_a_peer_that_never_answers_meets_the_deadline() -> None:
    with serving(limits=Limits(seconds=0.3)) as server, Peer(server.port) as peer:
        peer.outbox.put(M(type=M.REGISTERED))
        peer.outbox.put(M(type=M.READY))
        peer.outbox.put(transaction("copy", "a", "b"))
        assert next(peer.call).type == M.GET_STATE
        assert "deadline_exceeded" in response(next(peer.call)).message


def test_a_silent_peer_means_a_wrong_package_id() -> None:
    with serving(registered_seconds=0.2) as server, Peer(server.port) as peer:
        assert list(peer.call) == []


def test_a_handshake_out_of_order_ends_the_stream() -> None:
    with serving() as server, Peer(server.port) as peer:
        peer.outbox.put(M(type=M.READY))
        assert list(peer.call) == []


def test_what_cannot_run_soon_is_refused_at_once() -> None:
    with serving(threads=1, waiting_max=1) as server, Peer(server.port).handshake() as peer:
        for number in range(2):
            peer.outbox.put(transaction("wait", nonce=str(number).encode()))
        until(lambda: server.running == 2)
        answer = response(peer.run(transaction("organisation")))
        assert (answer.status, answer.message) == (503, "INTERNAL overloaded: too many transactions wait already")
        assert answer.payload
        slow.gate.set()
        assert [response(peer.completed.get(timeout=20)).status for _ in range(2)] == [200, 200]


def test_waiting_too_long_for_a_thread_is_answered_without_running() -> None:
    with serving(threads=1, limits=Limits(seconds=0.2)) as server, Peer(server.port).handshake() as peer:
        peer.outbox.put(transaction("wait"))
        until(lambda: server.running == 1)
        peer.outbox.put(transaction("copy", "a", "b", nonce=b"2"))
        until(lambda: server.running == 2)
        late_at = time.monotonic() + 0.3
        until(lambda: time.monotonic() > late_at)
        slow.gate.set()
        late = [response(peer.completed.get(timeout=20)).message for _ in range(2)]
        assert all("deadline_exceeded" in message for message in late)
        assert peer.requests == []


def test_stopping_refuses_new_transactions_and_waits_for_running_ones() -> None:
    with serving() as server, Peer(server.port).handshake() as peer:
        peer.outbox.put(transaction("wait"))
        until(lambda: server.running == 1)
        stopper = threading.Thread(target=server.stop, args=(10,))
        stopper.start()
        until(lambda: server.is_stopping)
        assert response(peer.run(transaction("organisation", nonce=b"2"))).message.startswith("INTERNAL stopping")
        slow.gate.set()
        assert response(peer.completed.get(timeout=20)).payload == b"done"
        stopper.join(10)
        assert peer.ended.wait(10)


def test_a_port_in_use_is_a_clear_error() -> None:
    with serving() as server:
        settings = ServerSettings(package_id="p:1", msp_id="Org1MSP", address=f"127.0.0.1:{server.port}")
        with pytest.raises(OSError, match="cannot listen"):
            Server(slow.chaincode, settings).start()


@pytest.mark.parametrize("missing", ["package_id", "msp_id", "address"])
def test_the_ids_are_needed(missing: str) -> None:
    given: dict[str, Any] = {"package_id": "p:1", "msp_id": "Org1MSP", "address": "127.0.0.1:0", missing: ""}
    with pytest.raises(ValueError, match=missing):
        ServerSettings(**given)


def test_sigterm_stops_gently() -> None:
    program = (
        "import logging, sys\n"
        "from chaincode.shim.server import ServerSettings, serve\n"
        f"from {slow.__name__} import chaincode\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')\n"
        "serve(chaincode, ServerSettings(package_id='p:1', msp_id='Org1MSP', address='127.0.0.1:0'))\n"
        "print('stopped', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline().rsplit(" ", 1)[1])
        with Peer(port).handshake() as peer:
            assert response(peer.run(transaction("organisation"))).payload == b"Org1MSP"
            process.send_signal(signal.SIGTERM)
            assert (process.wait(20), process.stdout.read().splitlines()[-1]) == (0, "stopped")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# -- TLS --------------------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority for one test."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        self.certificate = self._sign(self.name, self.key.public_key(), x509.BasicConstraints(True, None))

    def issue(self, common_name: str) -> tuple[bytes, bytes]:
        """Key and certificate of a node on loopback, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        san = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem, self._sign(name, key.public_key(), san)

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType) -> bytes:
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
        builder = x509.CertificateBuilder(
            self.name, name, key, x509.random_serial_number(), start, start + datetime.timedelta(hours=1)
        ).add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_server_tls() -> None:
    authority = Authority()
    with serving(tls=Tls(*authority.issue("server"))) as server:
        with Peer(server.port, credentials=grpc.ssl_channel_credentials(authority.certificate)).handshake() as peer:
            assert response(peer.run(transaction("organisation"))).status == 200
        with pytest.raises(grpc.RpcError):
            Peer(server.port)
        with pytest.raises(grpc.RpcError):
            Peer(server.port, credentials=grpc.ssl_channel_credentials(Authority().certificate))


def test_mutual_tls() -> None:
    authority, peers = Authority(), Authority()
    key, certificate = peers.issue("peer")
    foreign_key, foreign_certificate = Authority().issue("peer")
    tls = Tls(*authority.issue("server"), client_authority=peers.certificate)
    with serving(tls=tls) as server:
        root = authority.certificate
        with Peer(server.port, credentials=grpc.ssl_channel_credentials(root, key, certificate)).handshake() as peer:
            assert response(peer.run(transaction("organisation"))).status == 200
        for credentials in (
            grpc.ssl_channel_credentials(root),
            grpc.ssl_channel_credentials(root, foreign_key, foreign_certificate),
        ):
            with pytest.raises(grpc.RpcError):
                Peer(server.port, credentials=credentials)


def test_the_private_key_is_never_shown() -> None:
    assert "secret" not in repr(Tls(b"secret", b"certificate"))
