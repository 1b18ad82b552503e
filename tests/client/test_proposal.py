"""Both stages that send a proposal: what arrives, and what comes back."""

import hashlib
import re
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from fabric_protos.common.common_pb2 import ChannelHeader, Header
from fabric_protos.peer.chaincode_pb2 import ChaincodeInvocationSpec
from fabric_protos.peer.proposal_pb2 import ChaincodeHeaderExtension, ChaincodeProposalPayload, Proposal
from tallystick.fabric import DecodeError, EndorseError, EvaluateError, Hash, SigningError, Timeouts
from tallystick.testing import Endorsed, Proposed, Refusal, StubGateway

from .material import identity, private_key
from .sides import Side

Propose = Callable[..., Proposed]


def test_evaluate_returns_the_answer(stub: StubGateway, contract: Any) -> None:
    stub.evaluate.answer(b"result")
    assert contract.evaluate("get") == b"result"
    assert contract.new_proposal("get").evaluate() == b"result"


def test_endorse_knows_the_answer(stub: StubGateway, contract: Any) -> None:
    stub.endorse.answer(b"result")
    assert contract.new_proposal("issue").endorse().result == b"result"


@pytest.mark.parametrize(("stage", "kind"), [("evaluate", EvaluateError), ("endorse", EndorseError)])
def test_a_refusal_is_the_error_of_its_stage(
    stub: StubGateway, contract: Any, stage: str, kind: type[EvaluateError]
) -> None:
    getattr(stub, stage).answer(Refusal(grpc.StatusCode.FAILED_PRECONDITION, "no endorsers"))
    proposal = contract.new_proposal("get")
    with pytest.raises(kind, match="no endorsers") as caught:
        getattr(proposal, stage)()
    assert type(caught.value) is kind
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.transaction_id == proposal.transaction_id
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_channel_name(propose: Propose, contract: Any) -> None:
    assert propose(contract).channel == "scf"


def test_chaincode_name(propose: Propose, contract: Any) -> None:
    request = propose(contract)
    header = Header.FromString(Proposal.FromString(request.proposal).header)
    extension = ChaincodeHeaderExtension.FromString(ChannelHeader.FromString(header.channel_header).extension)
    assert request.chaincode == extension.chaincode_id.name == "trade"


def test_transaction_name_of_the_default_contract(propose: Propose, contract: Any) -> None:
    assert propose(contract, "get").arguments == (b"get",)


def test_transaction_name_of_a_named_contract(propose: Propose, network: Any) -> None:
    assert propose(network.contract("trade", "voucher"), "get").arguments == (b"voucher:get",)


def test_text_arguments_are_utf8(propose: Propose, contract: Any) -> None:
    assert propose(contract, "get", "one", "凭证").arguments == (b"get", b"one", "凭证".encode())


def test_bytes_arguments_are_unchanged(propose: Propose, contract: Any) -> None:
    assert propose(contract, "get", b"\x00\xff", bytearray(b"two")).arguments == (b"get", b"\x00\xff", b"two")


@pytest.mark.parametrize("wrong", [5, {}, None, ["a"]])
def test_arguments_of_other_kinds_are_refused(contract: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match="bytes or text"):
        contract.new_proposal("get", wrong)
    with pytest.raises(TypeError, match="bytes or text"):
        contract.new_proposal("get", transient={"price": wrong})


def test_transient_bytes(propose: Propose, contract: Any) -> None:
    assert propose(contract, transient={"price": b"\x01"}).transient == {"price": b"\x01"}


def test_transient_text(propose: Propose, contract: Any) -> None:
    assert propose(contract, transient={"price": "九"}).transient == {"price": "九".encode()}


def test_no_transient_data_by_default(propose: Propose, contract: Any) -> None:
    assert propose(contract).transient == {}


def test_endorsing_organizations(propose: Propose, contract: Any) -> None:
    names = ["BankMSP", "CoreMSP"]
    assert propose(contract, endorsing_organizations=names).endorsing_organizations == ("BankMSP", "CoreMSP")


def test_no_endorsing_organizations_by_default(propose: Propose, contract: Any) -> None:
    assert propose(contract).endorsing_organizations == ()


def test_endorsing_organizations_are_not_one_text(contract: Any) -> None:
    with pytest.raises(TypeError, match="MSP ids"):
        contract.new_proposal("get", endorsing_organizations="BankMSP")


@pytest.mark.parametrize("call", ["evaluate", "submit", "submit_async"])
def test_whole_calls_pass_everything_on(stub: StubGateway, contract: Any, call: str) -> None:
    getattr(contract, call)("do", "it", transient={"price": b"9"}, endorsing_organizations=["BankMSP"])
    request = (stub.evaluate if call == "evaluate" else stub.endorse).requests[0]
    assert request.arguments == (b"do", b"it")
    assert request.transient == {"price": b"9"}
    assert request.endorsing_organizations == ("BankMSP",)


def test_signature_is_the_signers(propose: Propose, side: Side, stub: StubGateway) -> None:
    digests: list[bytes] = []

    def signer(digest: bytes) -> bytes:
        digests.append(digest)
        return b"signature"

    request = propose(side.connect(stub, signer=signer).network("scf").contract("trade"))
    assert request.signature == b"signature"
    assert digests == [hashlib.sha256(request.proposal).digest()]


def test_signature_verifies(propose: Propose, contract: Any) -> None:
    request = propose(contract)
    public = private_key().public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    digest = hashlib.sha256(request.proposal).digest()
    public.verify(request.signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))


@pytest.mark.parametrize("option", Hash)
def test_the_chosen_hash_is_signed(propose: Propose, side: Side, stub: StubGateway, option: Hash) -> None:
    digests: list[bytes] = []
    gateway = side.connect(stub, signer=lambda digest: digests.append(digest) or b"s", hash=option)
    request = propose(gateway.network("scf").contract("trade"))
    assert digests == [option.digest(request.proposal)]


@pytest.mark.parametrize(("kind", "option"), [("P-256", Hash.SHA256), ("P-384", Hash.SHA256), ("Ed25519", Hash.NONE)])
def test_the_default_hash_follows_the_key(
    propose: Propose, side: Side, stub: StubGateway, kind: str, option: Hash
) -> None:
    digests: list[bytes] = []
    gateway = side.connect(stub, identity(kind), lambda digest: digests.append(digest) or b"s")
    request = propose(gateway.network("scf").contract("trade"))
    assert digests == [option.digest(request.proposal)]


def test_signed_only_once(propose: Propose, side: Side, stub: StubGateway) -> None:
    digests: list[bytes] = []
    gateway = side.connect(stub, signer=lambda digest: digests.append(digest) or b"s")
    proposal = gateway.network("scf").contract("trade").new_proposal("get")
    proposal.evaluate()
    proposal.evaluate()
    proposal.endorse()
    assert len(digests) == 1


def test_creator_is_the_identity(propose: Propose, contract: Any) -> None:
    request = propose(contract)
    assert request.identity == identity()
    assert request.creator == identity().serialized


def test_transaction_id_is_the_hash_of_nonce_and_creator(propose: Propose, contract: Any) -> None:
    request = propose(contract)
    assert len(request.nonce) == 24
    assert request.transaction_id == hashlib.sha256(request.nonce + request.creator).hexdigest()


def test_transaction_id_is_sha256_whatever_the_hash(propose: Propose, side: Side, stub: StubGateway) -> None:
    gateway = side.connect(stub, signer=lambda digest: b"s", hash=Hash.SHA3_384)
    request = propose(gateway.network("scf").contract("trade"))
    assert request.transaction_id == hashlib.sha256(request.nonce + request.creator).hexdigest()


def test_every_proposal_has_its_own_transaction_id(contract: Any) -> None:
    ids = {contract.new_proposal("get").transaction_id for _ in range(20)}
    assert len(ids) == 20
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in ids)


def test_header_has_type_epoch_and_present_time(propose: Propose, contract: Any) -> None:
    proposal = Proposal.FromString(propose(contract).proposal)
    header = ChannelHeader.FromString(Header.FromString(proposal.header).channel_header)
    assert (header.type, header.epoch, header.version) == (3, 0, 0)
    assert abs(header.timestamp.seconds - time.time()) < 60


def test_payload_is_an_invocation_of_the_chaincode(propose: Propose, contract: Any) -> None:
    payload = ChaincodeProposalPayload.FromString(Proposal.FromString(propose(contract, "get", "1").proposal).payload)
    spec = ChaincodeInvocationSpec.FromString(payload.input).chaincode_spec
    assert (spec.chaincode_id.name, list(spec.input.args)) == ("trade", [b"get", b"1"])


def test_timeout_of_one_call(propose: Propose, contract: Any) -> None:
    assert propose(contract, timeout=33).timeout == pytest.approx(33, abs=3)


@pytest.mark.parametrize(("stage", "seconds"), [("evaluate", 5), ("endorse", 15)])
def test_default_timeouts(stub: StubGateway, contract: Any, stage: str, seconds: float) -> None:
    getattr(contract.new_proposal("get"), stage)()
    assert getattr(stub, stage).requests[0].timeout == pytest.approx(seconds, abs=3)


@pytest.mark.parametrize("stage", ["evaluate", "endorse"])
def test_timeouts_of_the_gateway(side: Side, stub: StubGateway, stage: str) -> None:
    timeouts = Timeouts(evaluate=101, endorse=102)
    contract = side.connect(stub, timeouts=timeouts).network("scf").contract("trade")
    getattr(contract.new_proposal("get"), stage)()
    assert getattr(stub, stage).requests[0].timeout == pytest.approx(100, abs=4)
    getattr(contract.new_proposal("get"), stage)(timeout=50)
    getattr(contract.new_proposal("get"), stage)()
    assert [round(request.timeout / 50) for request in getattr(stub, stage).requests] == [2, 1, 2]


def test_an_answer_of_another_channel_is_refused(stub: StubGateway, contract: Any) -> None:
    stub.endorse.answer(Endorsed(b"r", channel="other"))
    with pytest.raises(DecodeError, match="other"):
        contract.new_proposal("issue").endorse()


def test_awaitable_signers(side: Side, stub: StubGateway) -> None:
    async def sign(digest: bytes) -> bytes:
        return b"remote"

    contract = side.connect(stub, signer=sign).network("scf").contract("trade")
    if side.name == "aio":
        contract.submit("issue")
        assert [stub.endorse.requests[0].signature, stub.submit.requests[0].signature] == [b"remote", b"remote"]
    else:
        with pytest.raises(SigningError, match=r"tallystick\.aio"):
            contract.submit("issue")
