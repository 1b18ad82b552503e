"""One peer's port: health, what is not there, unreadable messages, sizes, TLS, and ports that are taken."""

import hashlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fabric_protos.common import common_pb2
from fabric_protos.peer import proposal_response_pb2

from network.embedded.network import EmbeddedNetwork, NetworkError
from network.embedded.rpc import RpcError
from network.embedded.server import LIMITS, MESSAGE_BYTES_MAX, OPTIONS, Limit
from tests.network.embedded.conftest import small_topology
from tests.network.embedded.test_orderer import broadcast, envelope_of
from tests.network.embedded.wire import Client, blocks_from, failure

Code = grpc.StatusCode
SERVING = b"\x08\x01"


def call(client: Client, method: str, request: bytes = b"") -> bytes:
    """A unary call of bytes."""
    answer: bytes = client.link.unary_unary(method, None, None)(request, timeout=5)
    return answer


def failed(run: Callable[[], Any]) -> tuple[Code, str]:
    """Code and text of a call that must fail."""
    with pytest.raises(grpc.RpcError) as raised:
        run()
    found = failure(raised.value)
    return found.code, found.message


# -- health ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "service", ["", "gateway.Gateway", "protos.Deliver", "protos.Endorser", "orderer.AtomicBroadcast"]
)
def test_every_service_is_serving(core: Client, service: str) -> None:
    request = b"\x0a" + bytes([len(service)]) + service.encode()
    assert call(core, "/grpc.health.v1.Health/Check", request) == SERVING
    watch = core.link.unary_stream("/grpc.health.v1.Health/Watch", None, None)(request, timeout=5)
    assert next(watch) == SERVING
    watch.cancel()


def test_health_without_a_service_is_that_of_the_server(core: Client) -> None:
    assert call(core, "/grpc.health.v1.Health/Check") == SERVING


def test_an_unknown_service_has_no_health(core: Client) -> None:
    request = b"\x0a\x05other"
    assert failed(lambda: call(core, "/grpc.health.v1.Health/Check", request)) == (Code.NOT_FOUND, "unknown service")
    watch = core.link.unary_stream("/grpc.health.v1.Health/Watch", None, None)(request, timeout=5)
    assert next(watch) == b"\x08\x03"
    watch.cancel()


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["/discovery.Discovery/Discover", "/protos.Snapshot/Generate", "/gateway.Gateway/X"])
def test_what_is_not_offered_is_unimplemented(core: Client, method: str) -> None:
    assert failed(lambda: call(core, method))[0] is Code.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["Evaluate", "Endorse", "Submit", "CommitStatus"])
def test_an_unreadable_request_is_an_internal_error(core: Client, method: str) -> None:
    text = "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"
    assert failed(lambda: call(core, f"/gateway.Gateway/{method}", b"\xff")) == (Code.INTERNAL, text)


def test_an_unreadable_request_ends_a_stream(core: Client) -> None:
    text = "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"
    events = core.link.unary_stream("/gateway.Gateway/ChaincodeEvents", None, None)
    assert failed(lambda: next(events(b"\xff", timeout=5))) == (Code.INTERNAL, text)
    broadcast = core.link.stream_stream("/orderer.AtomicBroadcast/Broadcast", None, None)
    assert failed(lambda: next(broadcast(iter([b"\xff"]), timeout=5))) == (Code.INTERNAL, text)


def test_large_messages_go_both_ways(core: Client, network: EmbeddedNetwork) -> None:
    """Beyond gRPC's own 4 MB: an envelope comes in, and its block goes out."""
    height = network.ledger.height
    live = core.deliver.Deliver(iter([core.seek(blocks_from(height, height))]), timeout=10)
    assert broadcast(core, envelope_of(core.person, data=b"x" * (6 << 20))) == [(common_pb2.Status.SUCCESS, "")]
    assert next(live).block.ByteSize() > 6 << 20


def test_sizes_and_keepalive_are_fabrics() -> None:
    options = dict(OPTIONS)
    assert options["grpc.max_receive_message_length"] == options["grpc.max_send_message_length"] == MESSAGE_BYTES_MAX
    assert MESSAGE_BYTES_MAX == 104_857_600
    assert options["grpc.http2.min_ping_interval_without_data_ms"] == 60_000
    assert options["grpc.keepalive_time_ms"] == 7_200_000
    assert options["grpc.keepalive_timeout_ms"] == 20_000
    assert LIMITS == {"gateway.Gateway": 500, "protos.Deliver": 2500, "protos.Endorser": 2500}


# -- the endorser service ----------------------------------------------------------------------------------------------


def test_process_proposal_answers_one_peers_endorsement(core: Client) -> None:
    response: proposal_response_pb2.ProposalResponse = core.endorser.ProcessProposal(
        core.propose("put", "direct", "1").signed, timeout=5
    )
    assert (response.response.status, response.response.payload) == (200, b"1")
    assert response.endorsement.signature


def test_process_proposal_drops_the_response_beside_an_error(core: Client) -> None:
    proposal = core.propose("put", "direct", "1", signature=b"wrong")
    found = failed(lambda: core.endorser.ProcessProposal(proposal.signed, timeout=5))
    text = "error validating proposal: access denied: channel [scf] creator org [CoreMSP]"
    assert found == (Code.UNKNOWN, text)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_limit_counts_what_is_open_and_frees_it_after_an_error() -> None:
    limit = Limit("gateway.Gateway", 1)
    with pytest.raises(KeyError), limit.slot():
        with pytest.raises(RpcError) as refused, limit.slot():
            pass
        assert refused.value.code is Code.UNKNOWN
        raise KeyError
    assert limit.open == 0


# -- transport ---------------------------------------------------------------------------------------------------------


def test_plain_text_is_not_answered(core: Client) -> None:
    with grpc.insecure_channel(core.address) as link:
        check = link.unary_unary("/grpc.health.v1.Health/Check", None, None)
        assert failed(lambda: check(b"", timeout=2))[0] in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


def test_each_organisation_shows_its_own_certificate(core: Client, bank: Client, network: EmbeddedNetwork) -> None:
    other = grpc.ssl_channel_credentials((network.home / bank.entry["tls_ca_file"]).read_bytes())
    with grpc.secure_channel(core.address, other) as link:
        check = link.unary_unary("/grpc.health.v1.Health/Check", None, None)
        assert failed(lambda: check(b"", timeout=2))[0] is Code.UNAVAILABLE


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    topology = small_topology()
    node = topology.organisations[1].peers[0]
    with socket.socket() as other:
        other.bind((node.host, node.port))
        other.listen()
        with pytest.raises(NetworkError, match=rf"{node.address} is in use by another program") as refused:
            EmbeddedNetwork.prepare(tmp_path / "home", topology).start()
    assert "--port-base" in str(refused.value)
    # Nothing is left behind: the same home starts as soon as the port is free.
    with EmbeddedNetwork.running(tmp_path / "home") as network:
        assert len(network.servers) == 4


# -- mutual TLS --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNetwork]:
    """A network whose core enterprise demands client certificates."""
    home = tmp_path_factory.mktemp("guarded") / "home"
    with EmbeddedNetwork.running(home, small_topology(), mutual_tls=["core"]) as network:
        yield network


@pytest.fixture
def certified(guarded: EmbeddedNetwork) -> Iterator[tuple[Client, bytes]]:
    """A client with a certificate of the bank's TLS authority, and the SHA-256 of that certificate."""
    folder = guarded.home / "organisations" / "bank" / "peers" / "peer.bank" / "tls"
    certificate = (folder / "server.crt").read_bytes()
    client = Client(guarded.home, "core")
    authority = (guarded.home / client.entry["tls_ca_file"]).read_bytes()
    client.connect(grpc.ssl_channel_credentials(authority, (folder / "server.key").read_bytes(), certificate))
    yield client, hashlib.sha256(x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)).digest()
    client.close()


def test_without_a_client_certificate_nothing_is_answered(guarded: EmbeddedNetwork) -> None:
    client = Client(guarded.home, "core")
    assert failed(lambda: call(client, "/grpc.health.v1.Health/Check"))[0] is Code.UNAVAILABLE
    client.close()


def test_only_deliver_asks_for_the_certificates_hash(certified: tuple[Client, bytes]) -> None:
    client, binding = certified
    assert client.evaluate(client.propose("who")).payload == b"CoreMSP"
    for given, expected in ((b"", common_pb2.Status.BAD_REQUEST), (binding, common_pb2.Status.SUCCESS)):
        seek = client.seek(blocks_from(0, 0), tls_cert_hash=given)
        *_, last = client.deliver.Deliver(iter([seek]), timeout=5)
        assert last.status == expected
