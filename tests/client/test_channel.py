"""Channels: TLS, mutual TLS and its hash, settings that are refused."""

import hashlib
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fabric_protos.common import common_pb2
from tallystick import aio
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
    assert ("tls_ca" if options["tls_ca"] is CLIENT else "server_name") in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("served", "options", "words"),
    [
        ({"tls": (SERVER, SERVER_KEY)}, {"insecure": True}, "a peer with TLS"),
        ({}, {"tls_ca": SERVER}, "does not speak TLS"),
        ({"tls": (SERVER, SERVER_KEY), "client_ca": CLIENT}, {"tls_ca": SERVER}, "client_certificate"),
    ],
)
def test_a_connection_that_fails_has_a_hint(
    side: Side, served: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    with StubGateway(**served) as stub, pytest.raises(EvaluateError) as caught:
        name = {} if "insecure" in options else {"server_name": "localhost"}
        _contract(side, stub.target, **options, **name).evaluate("get")
    assert words in (caught.value.hint or ""), str(caught.value)


@pytest.mark.parametrize(
    ("target", "words"), [("127.0.0.1:1", "Nothing listens"), ("no-such-host.invalid:7051", "name is not known")]
)
def test_a_target_that_is_not_there_has_a_hint(side: Side, target: str, words: str) -> None:
    with pytest.raises(EvaluateError) as caught:
        _contract(side, target, insecure=True).evaluate("get", timeout=20)
    assert words in (caught.value.hint or ""), str(caught.value)


@pytest.mark.parametrize("target", ["", "grpcs://peer.bank.example:7051", "HTTPS://peer.bank.example:7051"])
def test_a_target_is_no_url(side: Side, target: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        side.channel(target)


def test_an_asyncio_channel_is_made_inside_a_loop() -> None:
    with pytest.raises(RuntimeError, match="running event loop"):
        aio.channel("127.0.0.1:1", insecure=True)


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
        ({"tls_ca": Path("tls.pem")}, IdentityError, "authority must be given as PEM.*read the file"),
        ({"tls_ca": "organisations/bank/tlsca/certificate.pem"}, IdentityError, "looks like a path"),
        ({"client_certificate": CLIENT, "client_key": b"no key"}, IdentityError, "client key is not a private key"),
        ({"client_certificate": CLIENT, "client_key": CLIENT}, IdentityError, "it holds a certificate"),
        ({"client_certificate": CLIENT, "client_key": SERVER_KEY}, IdentityError, "does not belong"),
    ],
)
def test_settings_that_are_refused(side: Side, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        side.channel("127.0.0.1:1", **options)


def test_limits_are_fabrics() -> None:
    options = dict(channel_options("peer:7051", None, 120.0))
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
