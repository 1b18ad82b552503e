"""Clients that keep a network busy and write down exactly what it promised them."""

import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from fabric_protos.common import common_pb2, ledger_pb2
from fabric_protos.peer import transaction_pb2

from tests.network.embedded.wire import CHANNEL, Client, blocks_from, failure

VALID = transaction_pb2.TxValidationCode.VALID
DUPLICATE = transaction_pb2.TxValidationCode.DUPLICATE_TXID
COUNTER = "counter"
ORGANISATIONS = ("core", "warehouse", "logistics", "bank")
_CLIENTS = 6
_IN_FLIGHT_MAX = 4


@dataclass(frozen=True, slots=True)
class Sent:
    """A signed transaction as it went to the network: the key it writes is COUNTER for an increment."""

    envelope: common_pb2.Envelope
    key: str


@dataclass(slots=True)
class Promises:
    """What the network said. `sent` holds all; of some the outcome is unknown: their Submit never answered."""

    sent: dict[str, Sent] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    acknowledged: dict[str, tuple[int, int]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    @property
    def unknown(self) -> list[str]:
        """Ids of transactions whose Submit ended without an answer."""
        return [transaction_id for transaction_id in self.sent if transaction_id not in self.accepted]

    def add(self, other: "Promises") -> None:
        """Join another record to this one."""
        self.sent |= other.sent
        self.accepted |= other.accepted
        self.acknowledged |= other.acknowledged
        self.refusals += other.refusals


class Load:
    """Several clients at the four gateways at once, each with a few transactions in flight, until the block ends.

    A client ends at its first failed call; failures before `ending` is set are kept as refusals."""

    def __init__(self, home: Path, seed: str, *, value: str = "v", status_seconds: float = 10.0) -> None:
        self.promises = Promises()
        self.ending = threading.Event()
        self._home = home
        self._value = value
        self._status_seconds = status_seconds
        self._threads = [
            threading.Thread(target=self._work, args=(f"{seed}-{number}", ORGANISATIONS[number % 4]))
            for number in range(_CLIENTS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads)

    @property
    def is_working(self) -> bool:
        """Whether some client goes on."""
        return any(thread.is_alive() for thread in self._threads)

    def _work(self, name: str, organisation: str) -> None:
        chance = random.Random(name)
        client = Client(self._home, organisation)
        try:
            number = 0
            while not self.ending.is_set():
                ids = []
                for _ in range(chance.randint(1, _IN_FLIGHT_MAX)):
                    number += 1
                    ids.append(self._submit(client, COUNTER if chance.random() < 0.1 else f"{name}-{number}"))
                for transaction_id in ids:
                    self.promises.acknowledged[transaction_id] = client.status(transaction_id, self._status_seconds)
        except grpc.RpcError as error:
            if not self.ending.is_set():
                self.promises.refusals.append(str(error))
        finally:
            client.close()

    def _submit(self, client: Client, key: str) -> str:
        proposal = client.propose("increment", key) if key == COUNTER else client.propose("put", key, self._value)
        envelope = client.sign_envelope(client.endorse(proposal))
        self.promises.sent[proposal.transaction_id] = Sent(envelope, key)
        client.submit(envelope, proposal.transaction_id)
        self.promises.accepted.add(proposal.transaction_id)
        return proposal.transaction_id


def send_again(client: Client, sent: Sent) -> None:
    """Send an envelope of unknown fate once more as it is. That it is processed already is as good as accepted."""
    try:
        client.submit(sent.envelope)
    except grpc.RpcError as error:
        if not any("request already processed" in text for _, _, text in failure(error).details):
            raise


def height(client: Client) -> int:
    """The height of the chain as the client's gateway answers it."""
    answer = client.evaluate(client.propose("GetChainInfo", CHANNEL, chaincode="qscc"))
    return ledger_pb2.BlockchainInfo.FromString(answer.payload).height


def placed(client: Client, first: int, stop: int) -> list[tuple[str, int, int]]:
    """(transaction id, code, block) of every transaction of some blocks, in order."""
    found = []
    for answer in client.deliver.DeliverFiltered(iter([client.seek(blocks_from(first, stop))]), timeout=30):
        block = answer.filtered_block
        found += [(entry.txid, entry.tx_validation_code, block.number) for entry in block.filtered_transactions]
    return found


def check(promises: Promises, transactions: Sequence[tuple[str, int, int]]) -> Counter[int]:
    """Hold the chain against the promises: each accepted transaction has exactly one verdict, the promised one.

    `transactions` are those of the blocks since the promises began. Answers how often each code was given."""
    verdicts: dict[str, tuple[int, int]] = {}
    codes: Counter[int] = Counter()
    for transaction_id, code, block in transactions:
        # The same envelope sent again after a restart may be ordered again; it is then marked and changes nothing.
        if code != DUPLICATE:
            assert transaction_id not in verdicts, f"{transaction_id} was judged twice"
            verdicts[transaction_id] = (code, block)
        codes[code] += 1
    lost = [transaction_id for transaction_id in promises.accepted if transaction_id not in verdicts]
    assert not lost, f"{len(lost)} of {len(promises.accepted)} accepted transactions are not on the ledger"
    changed = {
        transaction_id: (promised, verdicts.get(transaction_id))
        for transaction_id, promised in promises.acknowledged.items()
        if verdicts.get(transaction_id) != promised
    }
    assert not changed, f"{len(changed)} acknowledged transactions are not as they were acknowledged: {changed}"
    return codes
