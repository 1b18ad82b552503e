"""The client against the stub, in a few seconds and without pytest: run as a program in an environment of any versions.

Prints the versions it ran with, one `name version` per line. Every interface, every stage, signed and verified.
"""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from tallystick import aio
from tallystick.fabric import CommitTracker, EndorseError, ErrorDetail, FileCheckpointer, Identity, connect, signers
from tallystick.testing import Endorsed, Refusal, StubGateway

DEPENDENCIES = ("cryptography", "grpcio", "hyperledger-fabric-protos", "msgspec", "protobuf")
REFUSED = Refusal(
    grpc.StatusCode.ABORTED, "see details", (ErrorDetail("peer", "BankMSP", "chaincode response 409, CONFLICT x: y"),)
)


def person() -> tuple[Identity, bytes]:
    """A self-signed identity and its key, encrypted with the password `secret`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "smoke")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    protection = serialization.BestAvailableEncryption(b"secret")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    return Identity.x509("BankMSP", certificate), pem


def synchronous(stub: StubGateway, identity: Identity, signer: signers.Signer) -> None:
    """Evaluate, submit, an error with details, the tracker, events with a checkpoint."""
    with stub.channel() as channel, connect(channel, identity, signer) as gateway:
        network = gateway.network("scf")
        contract = network.contract("trade", "voucher")
        stub.evaluate.answer(b"answer")
        assert contract.evaluate("get", "V-1", transient={"price": b"9"}) == b"answer"
        asked = stub.evaluate.requests[0]
        assert (asked.arguments, asked.transient) == ((b"voucher:get", b"V-1"), {"price": b"9"})
        public = identity.public_key
        assert isinstance(public, ec.EllipticCurvePublicKey)
        digest = hashlib.sha256(asked.proposal).digest()
        public.verify(asked.signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        stub.endorse.answer(Endorsed(b"done", "voucher.issued", b"payload"))
        assert contract.submit("issue", b"{}") == b"done"
        with CommitTracker(network) as tracker:
            assert tracker.submit(contract.new_proposal("issue").endorse()).successful
        with FileCheckpointer("smoke.cp") as checkpoint:
            with network.chaincode_events("trade", start_block=0, checkpoint=checkpoint) as events:
                assert next(events).payload == b"payload"
        stub.endorse.answer(REFUSED)
        try:
            contract.submit("issue")
        except EndorseError as error:
            assert error.contract_answer is not None
            assert error.contract_answer.status == 409
        else:
            raise AssertionError("the refusal was not raised")


async def asynchronous(stub: StubGateway, identity: Identity, signer: signers.Signer) -> None:
    """The same stages once more, awaited."""
    stub.endorse.answer(Endorsed(b"done"))
    async with stub.aio_channel() as channel, aio.connect(channel, identity, signer) as gateway:
        network = gateway.network("scf")
        contract = network.contract("trade")
        answers = await asyncio.gather(*(contract.evaluate("get") for _ in range(20)))
        assert set(answers) == {b"answer"}
        assert await contract.submit("issue") == b"done"
        async with network.block_events(start_block=1) as blocks:
            assert (await anext(blocks)).number == 1
        assert (await network.chain_info()).height == 4


def main() -> None:
    """Run everything."""
    identity, pem = person()
    with StubGateway() as stub:
        signer = signers.from_pem(pem, "secret")
        synchronous(stub, identity, signer)
        asyncio.run(asynchronous(stub, identity, signer))
    for name in DEPENDENCIES:
        print(name, version(name))


if __name__ == "__main__":
    main()
