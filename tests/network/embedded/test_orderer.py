"""Ordering: the broadcast checks of C.2 over gRPC, and the cutter and the queue of C.3 and H on a test's ledger."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from fabric_protos.common import common_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import transaction_pb2
from tallystick.fabric import Identity, signers

from network.embedded.chain import Chain
from network.embedded.network import EmbeddedNetwork
from network.embedded.orderer import (
    ACCEPTED,
    ALREADY_EXISTS,
    ALREADY_PROCESSED,
    PROCESSED_KEPT,
    Answer,
    Intake,
    Orderer,
)
from network.topology import BatchSettings
from tests.network.embedded.test_block import CONSENTERS
from tests.network.embedded.wire import Client, Person, high_s, load_person

Status = common_pb2.Status
NOT_A_WRITER = (
    "implicit policy evaluation failed - 0 sub-policies were satisfied, but this policy requires 1 of the 'Writers' "
    "sub-policies to be satisfied: permission denied"
)


# -- C.2 over gRPC -----------------------------------------------------------------------------------------------------


def broadcast(client: Client, *envelopes: common_pb2.Envelope) -> list[tuple[int, str]]:
    """Send envelopes on one stream and collect (status, info)."""
    return [(answer.status, answer.info) for answer in client.orderer.Broadcast(iter(envelopes), timeout=10)]


def envelope_of(
    person: Person,
    *,
    channel: str = "scf",
    kind: int = common_pb2.HeaderType.ENDORSER_TRANSACTION,
    data: bytes = b"rubbish",
    sign: Callable[[bytes], bytes] | None = None,
) -> common_pb2.Envelope:
    """An envelope with proper headers and any data, without a timestamp."""
    payload = common_pb2.Payload(data=data)
    payload.header.channel_header = common_pb2.ChannelHeader(type=kind, channel_id=channel).SerializeToString()
    payload.header.signature_header = common_pb2.SignatureHeader(
        creator=person.serialized, nonce=secrets.token_bytes(24)
    ).SerializeToString()
    content = payload.SerializeToString()
    return common_pb2.Envelope(payload=content, signature=(sign or person.sign)(content))


def test_a_proper_transaction_is_accepted_and_committed(core: Client) -> None:
    proposal = core.propose("put", "broadcast", "1")
    assert broadcast(core, core.sign_envelope(core.endorse(proposal))) == [(Status.SUCCESS, "")]
    assert core.status(proposal.transaction_id)[0] == transaction_pb2.TxValidationCode.VALID


def test_an_unknown_channel_is_refused(core: Client) -> None:
    found = broadcast(core, envelope_of(core.person, channel="other"))
    assert found == [(Status.BAD_REQUEST, "channel does not exist")]


def test_an_envelope_without_header_is_refused(core: Client) -> None:
    refusal = [(Status.BAD_REQUEST, "could not determine channel ID: header not set")]
    assert broadcast(core, common_pb2.Envelope()) == refusal
    assert broadcast(core, common_pb2.Envelope(payload=common_pb2.Payload(data=b"x").SerializeToString())) == refusal


def test_an_unreadable_payload_is_refused(core: Client) -> None:
    text = "could not determine channel ID: error unmarshalling Payload: proto: cannot parse invalid wire-format data"
    assert broadcast(core, common_pb2.Envelope(payload=b"\xff")) == [(Status.BAD_REQUEST, text)]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param(common_pb2.HeaderType.CONFIG, "message is of type that cannot be processed directly", id="config"),
        pytest.param(
            common_pb2.HeaderType.ORDERER_TRANSACTION, "message is of type that is no longer supported", id="orderer"
        ),
        pytest.param(
            common_pb2.HeaderType.CONFIG_UPDATE,
            "embedded network: channel config updates are not supported",
            id="config-update",
        ),
        pytest.param(common_pb2.HeaderType.MESSAGE, "embedded network: header type 0 is not supported", id="message"),
    ],
)
def test_other_header_types_are_refused(core: Client, kind: int, text: str) -> None:
    assert broadcast(core, envelope_of(core.person, kind=kind)) == [(Status.BAD_REQUEST, text)]


def test_an_oversize_message_is_refused(core: Client, network: EmbeddedNetwork) -> None:
    envelope = envelope_of(core.person, data=b"x" * network.topology.batch.absolute_max_bytes)
    size = len(envelope.payload) + len(envelope.signature)
    text = f"message payload is {size} bytes and exceeds maximum allowed 10485760 bytes"
    assert broadcast(core, envelope) == [(Status.BAD_REQUEST, text)]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda signature: b"wrong", id="bad"),
        pytest.param(lambda signature: b"", id="missing"),
        pytest.param(high_s, id="high-s"),
    ],
)
def test_a_wrong_signature_is_refused(core: Client, change: Callable[[bytes], bytes]) -> None:
    envelope = envelope_of(core.person, sign=lambda content: change(core.person.sign(content)))
    assert broadcast(core, envelope) == [(Status.FORBIDDEN, NOT_A_WRITER)]


def test_who_is_no_writer_is_refused(core: Client, network: EmbeddedNetwork) -> None:
    """A peer is a reader of the channel, not a writer."""
    folder = network.home / "organisations" / "core" / "peers" / "peer.core" / "msp"
    certificate = (folder / "signcerts" / "cert.pem").read_bytes()
    peer = Person(
        "CoreMSP",
        Identity.x509("CoreMSP", certificate).serialized,
        signers.from_pem((folder / "keystore" / "key.pem").read_bytes()),
    )
    assert broadcast(core, envelope_of(peer)) == [(Status.FORBIDDEN, NOT_A_WRITER)]


def test_garbage_with_a_good_signature_is_ordered_and_judged_by_the_peers(core: Client) -> None:
    assert broadcast(core, envelope_of(core.person)) == [(Status.SUCCESS, "")]
    core.transact("put", "after-garbage", "1")


def test_the_stream_goes_on_after_success_and_ends_at_a_refusal(core: Client) -> None:
    envelopes = [core.sign_envelope(core.endorse(core.propose("put", f"stream-{n}", "1"))) for n in range(2)]
    refused = envelope_of(core.person, channel="other")
    found = broadcast(core, *envelopes, refused, envelopes[0])
    assert [status for status, _ in found] == [Status.SUCCESS, Status.SUCCESS, Status.BAD_REQUEST]


def test_an_expired_certificate_is_refused(network: EmbeddedNetwork) -> None:
    """The clock is the check's argument: the same envelope, looked at in a hundred years."""
    person = load_person(network.home, "core", "CoreMSP", "user")
    later = datetime(2126, 1, 1, tzinfo=UTC)
    intake = Intake("scf", network.policies, network.msps, 10_000, clock=lambda: later)
    found = intake.check(envelope_of(person, sign=lambda content: b"expiry is tested before the signature"))
    assert found == Answer(Status.BAD_REQUEST, "broadcast client identity expired")


# -- the queue and the cutter ------------------------------------------------------------------------------------------


@dataclass
class Written:
    """A committed block as the chain is told of it."""

    number: int
    block_bytes: bytes
    transactions: list[tuple[str, int]]


@dataclass
class Ground:
    """A ledger that only counts: it stores pending envelopes and keeps blocks. `broken` makes every write fail."""

    height: int = 1
    tip_hash: bytes = b"t" * 32
    stored: list[bytes] = field(default_factory=list)
    blocks: list[list[bytes]] = field(default_factory=list)
    broken: str | None = None
    chain: Chain | None = None

    def block(self, number: int) -> bytes | None:
        return None

    def transaction(self, transaction_id: str) -> Any:
        return None

    def pending(self) -> list[bytes]:
        return list(self.stored)

    def add_pending(self, envelopes: list[bytes]) -> "Future[Any]":
        return self._write(lambda: self.stored.extend(envelopes))

    def commit(self, made: common_pb2.Block) -> "Future[Written]":
        def write() -> Written:
            self.blocks.append(list(made.data.data))
            self.stored = [envelope for envelope in self.stored if envelope not in made.data.data]
            self.height += 1
            return Written(made.header.number, b"", [])

        return self._write(write)

    def _write(self, write: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        if self.broken is not None:
            future.set_exception(OSError(self.broken))
        else:
            future.set_result(write())
        return future


class AllowAll:
    """Checks that let everything pass."""

    def check(self, envelope: common_pb2.Envelope) -> Answer:
        return ACCEPTED


@pytest.fixture
def readers() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def orderer_on(ground: Ground, readers: Executor, count: int = 500, size: int = 1000, interval: int = 5) -> Orderer:
    """An orderer whose blocks end at `count` envelopes, `size` bytes or `interval` milliseconds."""
    batch = BatchSettings(
        max_message_count=count, absolute_max_bytes=size, preferred_max_bytes=size, interval_ms=interval
    )
    chain = ground.chain = Chain(ground, readers)
    return Orderer(AllowAll(), ground, ground.commit, chain, CONSENTERS, batch)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, five seconds at most."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_block_is_cut_at_the_interval(readers: Executor) -> None:
    async def run() -> None:
        ground = Ground()
        orderer = orderer_on(ground, readers, interval=30)
        orderer.start()
        begin = asyncio.get_running_loop().time()
        assert await asyncio.gather(*(orderer.accept(b"%d" % n) for n in range(3))) == [ACCEPTED] * 3
        await until(lambda: bool(ground.blocks))
        assert asyncio.get_running_loop().time() - begin >= 0.03
        assert ground.blocks == [[b"0", b"1", b"2"]]
        await orderer.stop()

    with asyncio.Runner() as runner:
        runner.run(run())


def test_a_block_is_cut_at_the_count(readers: Executor) -> None:
    async def run() -> None:
        ground = Ground()
        orderer = orderer_on(ground, readers, count=2, interval=60_000)
        orderer.start()
        await asyncio.gather(*(orderer.accept(b"%d" % n) for n in range(5)))
        await until(lambda: len(ground.blocks) == 2)
        assert ground.blocks == [[b"0", b"1"], [b"2", b"3"]]
        await orderer.stop()
        assert ground.stored == [b"4"]

    with asyncio.Runner() as runner:
        runner.run(run())


def test_a_block_is_cut_at_the_bytes(readers: Executor) -> None:
    async def run() -> None:
        ground = Ground()
        orderer = orderer_on(ground, readers, size=100, interval=5)
        orderer.start()
        large = [bytes([n]) * 60 for n in range(3)]
        await asyncio.gather(*(orderer.accept(envelope) for envelope in large))
        await until(lambda: len(ground.blocks) == 3)
        assert ground.blocks == [[envelope] for envelope in large]
        await orderer.stop()

    with asyncio.Runner() as runner:
        runner.run(run())


def test_the_same_request_is_refused_while_pending_and_when_processed(readers: Executor) -> None:
    async def run() -> None:
        ground = Ground()
        orderer = orderer_on(ground, readers)
        orderer.start()
        first, second = await asyncio.gather(orderer.accept(b"same"), orderer.accept(b"same"))
        assert first == ACCEPTED
        assert second == Answer(Status.SERVICE_UNAVAILABLE, ALREADY_EXISTS)
        await until(lambda: ground.chain is not None and ground.chain.height == 2)
        assert await orderer.accept(b"same") == Answer(Status.SERVICE_UNAVAILABLE, ALREADY_PROCESSED)
        assert ground.blocks == [[b"same"]]
        await orderer.stop()

    with asyncio.Runner() as runner:
        runner.run(run())


def test_a_processed_request_is_forgotten_after_a_thousand_others(readers: Executor) -> None:
    async def run() -> None:
        ground = Ground()
        orderer = orderer_on(ground, readers)
        orderer.start()

        def settled() -> bool:
            return ground.chain is not None and not ground.stored and ground.chain.height == ground.height

        assert await orderer.accept(b"same") == ACCEPTED
        await until(settled)
        await asyncio.gather(*(orderer.accept(b"%d" % number) for number in range(PROCESSED_KEPT - 1)))
        await until(settled)
        assert await orderer.accept(b"same") == Answer(Status.SERVICE_UNAVAILABLE, ALREADY_PROCESSED)
        await orderer.accept(b"one more")
        await until(settled)
        assert await orderer.accept(b"same") == ACCEPTED
        await orderer.stop()

    with asyncio.Runner() as runner:
        runner.run(run())


def test_another_signature_makes_no_other_request(readers: Executor) -> None:
    """SmartBFT knows a request by the hash of nonce and creator, whatever else the envelope says."""

    async def run() -> None:
        ground = Ground()
        orderer = orderer_on(ground, readers)
        orderer.start()
        first, second = await asyncio.gather(
            orderer.accept(b"signed once", request_id=b"id"), orderer.accept(b"signed again", request_id=b"id")
        )
        assert first == ACCEPTED
        assert second == Answer(Status.SERVICE_UNAVAILABLE, ALREADY_EXISTS)
        await until(lambda: bool(ground.blocks))
        await orderer.stop()
        assert ground.blocks == [[b"signed once"]]

    with asyncio.Runner() as runner:
        runner.run(run())


def test_what_was_pending_is_ordered_at_the_next_start(readers: Executor) -> None:
    async def run() -> None:
        ground = Ground(stored=[b"left", b"behind"])
        orderer = orderer_on(ground, readers)
        orderer.start()
        await until(lambda: bool(ground.blocks))
        assert ground.blocks == [[b"left", b"behind"]]
        assert ground.stored == []
        await orderer.stop()

    with asyncio.Runner() as runner:
        runner.run(run())


def test_nothing_is_acknowledged_that_could_not_be_stored(readers: Executor) -> None:
    async def run() -> None:
        ground = Ground(broken="no space left on device")
        orderer = orderer_on(ground, readers)
        orderer.start()
        text = "embedded network: the ledger cannot be written: no space left on device"
        assert await orderer.accept(b"lost") == Answer(Status.SERVICE_UNAVAILABLE, text)
        assert await orderer.accept(b"later") == Answer(Status.SERVICE_UNAVAILABLE, text)
        ground.broken = None
        await until(lambda: orderer.failure is None)
        assert await orderer.accept(b"again") == ACCEPTED
        await until(lambda: bool(ground.blocks))
        assert ground.blocks == [[b"again"]]
        await orderer.stop()

    with asyncio.Runner() as runner:
        runner.run(run())


def test_a_block_that_cannot_be_written_is_tried_again_and_never_skipped(readers: Executor) -> None:
    async def run() -> None:
        ground = Ground()
        orderer = orderer_on(ground, readers)
        orderer.start()
        assert await orderer.accept(b"first") == ACCEPTED
        ground.broken = "disk full"
        await until(lambda: orderer.failure is not None)
        refused = await orderer.accept(b"second")
        assert refused.status == Status.SERVICE_UNAVAILABLE
        assert refused.info == "embedded network: block 1 cannot be written: disk full"
        ground.broken = None
        await until(lambda: bool(ground.blocks))
        await until(lambda: orderer.failure is None)
        assert ground.blocks == [[b"first"]]
        await orderer.stop()

    with asyncio.Runner() as runner:
        runner.run(run())


def test_deliver_of_the_orderer_shows_blocks_without_the_peers_slots(core: Client) -> None:
    _, _, number = core.transact("put", "ordered", "1")
    position = ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=number))
    seek = core.seek(ab_pb2.SeekInfo(start=position, stop=position))
    found = list(core.orderer.Deliver(iter([seek]), timeout=10))
    assert [answer.WhichOneof("Type") for answer in found] == ["block", "status"]
    slots = found[0].block.metadata.metadata
    assert slots[0]
    assert [slots[2], slots[3], slots[4]] == [b"", b"", b""]
