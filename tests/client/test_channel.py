"""Channels: TLS, mutual TLS and its hash, settings that are refused."""

import hashlib
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fabric_protos.common import common_pb2
from tallystick.fabric import EvaluateError, IdentityError
from tallystick.fabric.channel import MESSAGE_BYTES_MAX, channel_options
from tallystick.testing import END, StubGateway

from .material import certificate, key_pem, private_key
from .sides import Side

SERVER = certificate("P-256", "peer", server=True)
SERVER_KEY = key_pem(private_key("P-256", "peer"))
CLIENT = certificate("P-256", "tls client", server=True)
CLIENT_KEY = key_pem(private_key("P-256", "tls client"))


def _contract(side: Side, target: str, **options: Any) -> Any:
    return side.connect(side.channel(target, **options)).network("scf").contract("trade")


def test_tls(side: Side) -> None:
    with StubGateway(tls=(SERVER, SERVER_KEY)) as stub:
        stub.evaluate.answer(b"over TLS")
        contract = _contract(side, stub.target, tls_ca=SERVER, server_name="peer.bank.example")
        assert contract.evaluate("get") == b"over TLS"


def test_tls_takes_text(side: Side) -> None:
    with StubGateway(tls=(SERVER, SERVER_KEY)) as stub:
        _contract(side, stub.target, tls_ca=SERVER.decode(), server_name="localhost").evaluate("get")


@pytest.mark.parametrize(
    "options", [{"tls_ca": CLIENT, "server_name": "localhost"}, {"tls_ca": SERVER, "server_name": "x"}]
)
def test_tls_refuses_a_wrong_authority_or_name(side: Side, options: dict[str, Any]) -> None:
    with StubGateway(tls=(SERVER, SERVER_KEY)) as stub, pytest.raises(EvaluateError) as caught:
        _contract(side, stub.target, **options).evaluate("get")
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def _mutual(side: Side, stub: StubGateway) -> Any:
    return side.channel(
        stub.target, tls_ca=SERVER, server_name="localhost", client_certificate=CLIENT, client_key=CLIENT_KEY
    )


def test_mutual_tls_sends_the_hash_of_the_certificates_der(side: Side) -> None:
    with StubGateway(tls=(SERVER, SERVER_KEY), client_ca=CLIENT) as stub:
        network = side.connect(_mutual(side, stub)).network("scf")
        network.contract("trade").evaluate("get")
        with network.block_events(start_block=0) as blocks:
            next(blocks)
        der = x509.load_pem_x509_certificate(CLIENT).public_bytes(Encoding.DER)
        assert stub.deliver.requests[0].tls_certificate_hash == hashlib.sha256(der).digest()


def test_the_hash_may_be_given(side: Side) -> None:
    with StubGateway(tls=(SERVER, SERVER_KEY), client_ca=CLIENT) as stub:
        gateway = side.connect(_mutual(side, stub), tls_certificate_hash=b"other")
        with gateway.network("scf").block_events(start_block=0) as blocks:
            next(blocks)
        assert stub.deliver.requests[0].tls_certificate_hash == b"other"


def test_a_gateway_with_mutual_tls_refuses_clients_without_a_certificate(side: Side) -> None:
    with StubGateway(tls=(SERVER, SERVER_KEY), client_ca=CLIENT) as stub, pytest.raises(EvaluateError):
        _contract(side, stub.target, tls_ca=SERVER, server_name="localhost").evaluate("get")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"keepalive": 59.0}, ValueError, "keepalive"),
        ({"client_certificate": CLIENT}, ValueError, "both"),
        ({"client_key": CLIENT_KEY}, ValueError, "both"),
        ({"tls_ca": b"no certificate"}, IdentityError, "authority"),
        ({"client_certificate": b"no certificate", "client_key": CLIENT_KEY}, IdentityError, "client certificate"),
        ({"insecure": True, "tls_ca": SERVER}, ValueError, "insecure"),
    ],
)
def test_settings_that_are_refused(side: Side, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        side.channel("127.0.0.1:1", **options)


def test_limits_are_fabrics() -> None:
    options = dict(channel_options(None, 120.0))
    assert options["grpc.max_receive_message_length"] == MESSAGE_BYTES_MAX == 104_857_600
    assert options["grpc.max_send_message_length"] == MESSAGE_BYTES_MAX
    assert options["grpc.keepalive_time_ms"] == 120_000


def test_large_answers_arrive(side: Side, stub: StubGateway) -> None:
    answer = bytes(6 * 1024 * 1024)  # beyond gRPC's own 4 MB
    stub.evaluate.answer(answer)
    assert _contract(side, stub.target, insecure=True).evaluate("get", answer) == answer


def test_blocks_up_to_fabrics_limit_arrive(side: Side, stub: StubGateway) -> None:
    envelope = bytes(99 * 1024 * 1024)
    block = common_pb2.Block(
        header=common_pb2.BlockHeader(number=7),
        data=common_pb2.BlockData(data=[envelope]),
        metadata=common_pb2.BlockMetadata(metadata=[b"", b"", b"\x01"]),
    )
    stub.deliver.answer([block.SerializeToString(), END])
    network = side.connect(side.channel(stub.target, insecure=True)).network("scf")
    with network.block_events(start_block=7, timeout=60) as blocks:
        assert len(next(blocks).transactions[0].envelope) == len(envelope)
