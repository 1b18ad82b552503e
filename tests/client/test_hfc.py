"""The calls of hfc's own tutorial, on the adapter."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from tallystick.fabric import Block, ChainInfo, CommitError, EvaluateError, FabricError, IdentityError, ValidationCode
from tallystick.fabric.block import BlockTransaction
from tallystick.fabric.hfc import Client, identity_from, identity_from_wallet
from tallystick.testing import Refusal, StubGateway

from .material import certificate, identity, key_pem, private_key

SERVER = certificate("P-256", "peer", server=True)
PEERS = ["peer0.org1.example.com"]


@pytest.fixture
def stub() -> Iterator[StubGateway]:
    """A stub with TLS, as the tutorial's peers have it."""
    with StubGateway(tls=(SERVER, key_pem(private_key("P-256", "peer")))) as gateway:
        yield gateway


@pytest.fixture
def profile(stub: StubGateway, tmp_path: Path) -> Path:
    """A connection profile of hfc's form, with its certificates beside it."""
    (tmp_path / "tls.pem").write_bytes(SERVER)
    (tmp_path / "cert.pem").write_bytes(certificate())
    (tmp_path / "key.pem").write_bytes(key_pem(private_key()))
    path = tmp_path / "network.json"
    user = {"Admin": {"cert": "cert.pem", "private_key": "key.pem"}}
    organization = {"mspid": "Org1MSP", "peers": ["peer0.org1.example.com", "peer1.org1.example.com"], "users": user}
    peer = {
        "url": stub.target,
        "grpcOptions": {"grpc.ssl_target_name_override": "localhost", "grpc.http2.keepalive_time": 15},
        "tlsCACerts": {"path": "tls.pem"},
    }
    org2 = {"mspid": "Org2MSP", "peers": ["peer0.org2.example.com"]}
    content = {
        "organizations": {"org1.example.com": organization, "org2.example.com": org2, "empty": {"mspid": "X"}},
        "peers": {"peer0.org1.example.com": peer, "peer0.org2.example.com": peer},
    }
    path.write_text(json.dumps(content))
    return path


def _run(profile: Path, scenario: Callable[[Client, Any], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        async with Client(net_profile=profile) as client:
            client.new_channel("businesschannel")
            return await scenario(client, client.get_user(org_name="org1.example.com", name="Admin"))

    with asyncio.Runner() as runner:
        return runner.run(main())


def _invoke(client: Client, user: Any, **options: Any) -> Coroutine[Any, Any, str]:
    return client.chaincode_invoke(
        requestor=user,
        channel_name="businesschannel",
        peers=PEERS,
        args=["a", "b", "100"],
        cc_name="example_cc",
        **options,
    )


def _query(client: Client, user: Any, **options: Any) -> Coroutine[Any, Any, str]:
    return client.chaincode_query(
        requestor=user, channel_name="businesschannel", peers=PEERS, args=["b"], cc_name="example_cc", **options
    )


def test_invoke(profile: Path, stub: StubGateway) -> None:
    stub.endorse.answer(b"moved")
    assert _run(profile, lambda client, user: _invoke(client, user, wait_for_event=True)) == "moved"
    request = stub.endorse.requests[0]
    assert (request.channel, request.chaincode, request.arguments) == (
        "businesschannel",
        "example_cc",
        (b"invoke", b"a", b"b", b"100"),
    )
    assert request.endorsing_organizations == ("Org1MSP",)
    assert request.identity == identity()
    assert len(stub.commit_status.requests) == 1


def test_invoke_without_waiting(profile: Path, stub: StubGateway) -> None:
    stub.endorse.answer(b"moved")
    assert _run(profile, lambda client, user: _invoke(client, user)) == "moved"
    assert not stub.commit_status.requests


def test_invoke_names_the_function_and_passes_transient_data(profile: Path, stub: StubGateway) -> None:
    _run(profile, lambda client, user: _invoke(client, user, fcn="transfer", transient_map={"price": "9"}))
    assert (stub.endorse.requests[0].arguments[0], stub.endorse.requests[0].transient) == (b"transfer", {"price": b"9"})


def test_query(profile: Path, stub: StubGateway) -> None:
    stub.evaluate.answer(b"300")
    assert _run(profile, lambda client, user: _query(client, user)) == "300"
    assert stub.evaluate.requests[0].arguments == (b"query", b"b")
    assert not stub.endorse.requests


def test_peers_of_one_organisation_count_once(profile: Path, stub: StubGateway) -> None:
    peers = ["peer0.org1.example.com", SimpleNamespace(name="peer1.org1.example.com"), "peer0.org2.example.com"]
    call = lambda client, user: client.chaincode_invoke(user, "c", peers, [], "cc")  # noqa: E731
    _run(profile, call)
    assert stub.endorse.requests[0].endorsing_organizations == ("Org1MSP", "Org2MSP")


def test_errors_are_raised(profile: Path, stub: StubGateway) -> None:
    stub.evaluate.answer(Refusal(grpc.StatusCode.UNKNOWN, "chaincode response 500, no such account"))
    with pytest.raises(EvaluateError, match="no such account"):
        _run(profile, lambda client, user: _query(client, user))
    stub.code = ValidationCode.MVCC_READ_CONFLICT
    with pytest.raises(CommitError):
        _run(profile, lambda client, user: _invoke(client, user, wait_for_event=True))


def test_errors_as_results_are_a_warning(profile: Path, stub: StubGateway) -> None:
    stub.evaluate.answer(Refusal(grpc.StatusCode.UNKNOWN, "chaincode response 500, no such account"))
    with pytest.warns(DeprecationWarning, match="raise_on_error"):
        assert _run(profile, lambda client, user: _query(client, user, raise_on_error=False)) == "no such account"


def test_ledger_queries(profile: Path, stub: StubGateway) -> None:
    async def scenario(client: Client, user: Any) -> None:
        await _invoke(client, user, wait_for_event=True)
        transaction_id = stub.submit.requests[0].transaction_id
        where = {"requestor": user, "channel_name": "businesschannel", "peers": PEERS}
        info = await client.query_info(**where)
        assert isinstance(info, ChainInfo)
        assert info.height == 2
        block = await client.query_block(**where, block_number=1)
        assert isinstance(block, Block)
        assert block.hash == info.current_hash
        assert await client.query_block_by_txid(**where, tx_id=transaction_id) == block
        assert await client.query_block_by_hash(**where, block_hash=block.hash) == block
        assert await client.query_block_by_hash(**where, block_hash=block.hash.hex()) == block
        transaction = await client.query_transaction(**where, tx_id=transaction_id)
        assert isinstance(transaction, BlockTransaction)
        assert (transaction.transaction_id, transaction.successful) == (transaction_id, True)
        assert await client.query_block(**where, block_number="1", decode=False) == block.data

    _run(profile, scenario)


@pytest.mark.parametrize("name", ["channel_create", "chaincode_install", "chaincode_instantiate", "chaincode_upgrade"])
def test_what_is_gone_says_what_to_do(profile: Path, name: str) -> None:
    with pytest.raises(FabricError, match=r"lifecycle|genesis block"):
        getattr(Client(profile), name)("anything", at="all")


def test_profiles_that_lack_something(profile: Path, tmp_path: Path) -> None:
    client = Client(profile)
    with pytest.raises(IdentityError, match="nobody"):
        client.get_user("org1.example.com", "nobody")
    with pytest.raises(IdentityError, match="nowhere"):
        client.get_user("nowhere", "Admin")
    with pytest.raises(IdentityError, match="stranger"):
        _run(profile, lambda client, user: client.chaincode_invoke(user, "c", ["stranger"], [], "cc"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(IdentityError, match="JSON"):
        Client(tmp_path / "broken.json")
    with pytest.raises(IdentityError, match="cannot be read"):
        Client(tmp_path / "missing.json")


def test_wallet(tmp_path: Path) -> None:
    folder = tmp_path / "user1"
    folder.mkdir()
    (folder / "private_sk").write_bytes(key_pem(private_key()))
    (folder / "enrollmentCert.pem").write_bytes(certificate())
    found, signer = identity_from_wallet(tmp_path, "user1", "Org1MSP")
    assert found == identity()
    assert signer(bytes(32))
    with pytest.raises(IdentityError, match="cannot be read"):
        identity_from_wallet(tmp_path, "user2", "Org1MSP")


@pytest.mark.parametrize("key", [private_key(), key_pem(private_key()), key_pem(private_key()).decode()])
def test_enrolments(key: Any) -> None:
    enrollment = SimpleNamespace(cert=certificate(), private_key=key)
    assert identity_from(enrollment, "Org1MSP")[0] == identity()
    user = SimpleNamespace(enrollment=enrollment, msp_id="Org1MSP")
    assert identity_from(user)[0] == identity()
    with pytest.raises(IdentityError, match="MSP id"):
        identity_from(enrollment)


def test_nothing_of_hfc_is_imported() -> None:
    code = "import sys, tallystick.fabric.hfc; print([name for name in sys.modules if name.split('.')[0] == 'hfc'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
