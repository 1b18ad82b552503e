"""All seven objects signed elsewhere: bytes and digest out, bytes and signature back in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tallystick.fabric import DecodeError, Hash, SigningError
from tallystick.testing import StubGateway

from .sides import Side


@dataclass(frozen=True)
class Kind:
    """How one of the seven objects is made, sent, loaded, and where the stub records it."""

    name: str
    loader: str
    make: Callable[[Any], Any]
    send: Callable[[Any], Any]
    script: str
    signed: str


def _proposal(gateway: Any) -> Any:
    return gateway.network("scf").contract("trade").new_proposal("issue", "1", endorsing_organizations=["BankMSP"])


def _transaction(gateway: Any) -> Any:
    proposal = _proposal(gateway)
    return gateway.proposal(proposal.bytes, b"proposal signature").endorse()


def _commit(gateway: Any) -> Any:
    return gateway.transaction(_transaction(gateway).bytes, b"transaction signature").submit()


def _read_one(request: Any) -> Any:
    with request.events() as events:
        return next(events)


def _listen(request: Any) -> Any:
    with request.events() as events:
        return list(events)


KINDS = [
    Kind("evaluate", "proposal", _proposal, lambda o: o.evaluate(), "evaluate", "proposal"),
    Kind("endorse", "proposal", _proposal, lambda o: o.endorse(), "endorse", "proposal"),
    Kind("submit", "transaction", _transaction, lambda o: o.submit(), "submit", "payload"),
    Kind("commit", "commit", _commit, lambda o: o.status(), "commit_status", "request"),
    Kind(
        "chaincode events",
        "chaincode_events_request",
        lambda gateway: gateway.network("scf").chaincode_events_request("trade", start_block=0),
        _listen,
        "chaincode_events",
        "request",
    ),
    *(
        Kind(
            name,
            f"{name}_request",
            lambda gateway, name=name: getattr(gateway.network("scf"), f"{name}_request")(start_block=0),
            _read_one,
            script,
            "payload",
        )
        for name, script in [
            ("block_events", "deliver"),
            ("filtered_block_events", "deliver_filtered"),
            ("block_and_private_data_events", "deliver_private"),
        ]
    ),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture
def offline(side: Side, stub: StubGateway) -> Any:
    """A gateway without a signer."""
    from tallystick.testing import END

    stub.chaincode_events.answer([END])
    return side.connect(stub, signer=None)


def _sent(stub: StubGateway, kind: Kind) -> Any:
    return getattr(stub, kind.script).requests


@every_kind
def test_unsigned_without_a_signer_is_refused_before_any_call(stub: StubGateway, offline: Any, kind: Kind) -> None:
    made = kind.make(offline)
    before = len(_sent(stub, kind))
    with pytest.raises(SigningError, match="no signer"):
        kind.send(made)
    assert len(_sent(stub, kind)) == before


@every_kind
def test_the_signature_made_elsewhere_is_sent(stub: StubGateway, offline: Any, kind: Kind) -> None:
    loaded = getattr(offline, kind.loader)(kind.make(offline).bytes, b"MY_SIGNATURE")
    kind.send(loaded)
    assert _sent(stub, kind)[-1].signature == b"MY_SIGNATURE"


@every_kind
def test_the_signed_bytes_are_the_sent_bytes(stub: StubGateway, offline: Any, kind: Kind) -> None:
    made = kind.make(offline)
    kind.send(getattr(offline, kind.loader)(made.bytes, b"s"))
    assert Hash.SHA256.digest(getattr(_sent(stub, kind)[-1], kind.signed)) == made.digest


@every_kind
def test_the_signature_stays_in_the_bytes(stub: StubGateway, offline: Any, kind: Kind) -> None:
    signed = getattr(offline, kind.loader)(kind.make(offline).bytes, b"MY_SIGNATURE")
    kind.send(getattr(offline, kind.loader)(signed.bytes))
    assert _sent(stub, kind)[-1].signature == b"MY_SIGNATURE"


@every_kind
def test_a_new_signature_replaces_the_stored_one(stub: StubGateway, offline: Any, kind: Kind) -> None:
    signed = getattr(offline, kind.loader)(kind.make(offline).bytes, b"first")
    kind.send(getattr(offline, kind.loader)(signed.bytes, b"second"))
    assert _sent(stub, kind)[-1].signature == b"second"


@every_kind
def test_bytes_and_digest_survive_the_round_trip(offline: Any, kind: Kind) -> None:
    made = kind.make(offline)
    loaded = getattr(offline, kind.loader)(made.bytes)
    assert (loaded.bytes, loaded.digest) == (made.bytes, made.digest)


@every_kind
def test_the_digest_is_the_same_signed_or_not(offline: Any, kind: Kind) -> None:
    made = kind.make(offline)
    assert getattr(offline, kind.loader)(made.bytes, b"signature").digest == made.digest


@every_kind
def test_loading_computes_the_same_digest_on_another_gateway(
    side: Side, stub: StubGateway, offline: Any, kind: Kind
) -> None:
    made = kind.make(offline)
    other = side.connect(stub)
    assert getattr(other, kind.loader)(made.bytes).digest == made.digest


@every_kind
def test_an_unsigned_object_is_signed_by_the_gateway_that_loads_it(
    side: Side, stub: StubGateway, offline: Any, kind: Kind
) -> None:
    digests: list[bytes] = []
    made = kind.make(offline)
    online = side.connect(stub, signer=lambda digest: digests.append(digest) or b"loaded")
    kind.send(getattr(online, kind.loader)(made.bytes))
    assert _sent(stub, kind)[-1].signature == b"loaded"
    assert digests[0] == made.digest


@every_kind
def test_a_signed_object_is_not_signed_again(side: Side, stub: StubGateway, offline: Any, kind: Kind) -> None:
    signed = getattr(offline, kind.loader)(kind.make(offline).bytes, b"elsewhere")
    digests: list[bytes] = []
    online = side.connect(stub, signer=lambda digest: digests.append(digest) or b"here")
    kind.send(getattr(online, kind.loader)(signed.bytes))
    assert not digests


@pytest.mark.parametrize("kind", KINDS[:4], ids=lambda kind: kind.name)
def test_the_transaction_id_survives_the_round_trip(offline: Any, kind: Kind) -> None:
    made = kind.make(offline)
    assert getattr(offline, kind.loader)(made.bytes).transaction_id == made.transaction_id


@pytest.mark.parametrize("kind", KINDS[:2], ids=lambda kind: kind.name)
def test_endorsing_organizations_survive_the_round_trip(stub: StubGateway, offline: Any, kind: Kind) -> None:
    kind.send(offline.proposal(kind.make(offline).bytes, b"s"))
    assert _sent(stub, kind)[-1].endorsing_organizations == ("BankMSP",)


def test_the_result_survives_the_round_trip(stub: StubGateway, offline: Any) -> None:
    stub.endorse.answer(b"result")
    transaction = _transaction(offline)
    assert offline.transaction(transaction.bytes).result == transaction.result == b"result"


@pytest.mark.parametrize("loader", sorted({kind.loader for kind in KINDS}))
@pytest.mark.parametrize("junk", [b"", b"junk", b"\x0a\x03abc", b"\xff" * 40])
def test_bytes_of_something_else_are_refused(offline: Any, loader: str, junk: bytes) -> None:
    with pytest.raises(DecodeError):
        getattr(offline, loader)(junk)


@every_kind
@pytest.mark.parametrize(
    "loader", ["proposal", "transaction", "commit", "chaincode_events_request", "block_events_request"]
)
def test_bytes_of_another_kind_are_refused(offline: Any, kind: Kind, loader: str) -> None:
    if loader == kind.loader or (loader == "block_events_request" and "block" in kind.loader):
        return
    with pytest.raises(DecodeError):
        getattr(offline, loader)(kind.make(offline).bytes)


def test_a_failing_signer_is_a_signing_error(side: Side, stub: StubGateway) -> None:
    def broken(digest: bytes) -> bytes:
        raise OSError("the token was pulled out")

    gateway = side.connect(stub, signer=broken)
    with pytest.raises(SigningError, match="pulled out"):
        gateway.network("scf").contract("trade").submit("issue")
    assert not stub.endorse.requests


@pytest.mark.parametrize("answer", [b"", None, "text"])
def test_a_signer_that_returns_no_signature_is_a_signing_error(side: Side, stub: StubGateway, answer: object) -> None:
    gateway = side.connect(stub, signer=lambda digest: answer)
    with pytest.raises(SigningError, match="no signature"):
        gateway.network("scf").contract("trade").evaluate("get")
