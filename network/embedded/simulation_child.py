"""The process that only simulates: answers the Evaluate and Endorse calls which the serving process hands over.

Python runs one thread at a time, so a second process is what a second core needs. This one has the same gateways on the
same home; it reads the ledger file through a connection of its own and writes nothing: private write sets travel back
with the answer, and the serving process keeps them before it passes the endorsement on. It runs one call after the
other in one thread. What does not end in an answer of the gateway is sent back undone, to be done over there.

Frames on the socket are a length (4 bytes, little-endian) and that many bytes of MessagePack."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import msgspec
from fabric_protos.gateway import gateway_pb2

from network.channel import config
from network.embedded.endorsing import Endorsing
from network.embedded.gateway import Call, EndorsingGateway
from network.embedded.ledger import LedgerReader
from network.embedded.rpc import RpcError, read
from network.embedded.store import LedgerError
from network.home import LEDGER, TOPOLOGY
from network.topology import load

_LOG = logging.getLogger(__name__)

EVALUATE: Final = "evaluate"
ENDORSE: Final = "endorse"
LENGTH_BYTES: Final = 4
# The number of the frame that says the process is ready; calls are numbered from 1.
READY: Final = 0
_RECEIVE_BYTES: Final = 1 << 18
_PARENT_SECONDS: Final = 1.0


class Request(msgspec.Struct, array_like=True, frozen=True):
    """One call: its method, the peer whose gateway got it, and what the serving process knows that the ledger does not
    say: the block of the last change of definitions and which peers are stopped. `data` is the request as it came."""

    number: int
    method: str
    peer: str
    defined_at: int
    stopped: tuple[str, ...]
    data: bytes


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """An `RpcError`: the number of its code, its text, and address, MSP id and text of each detail."""

    code: int
    message: str
    details: tuple[tuple[str, str, str], ...]


class Transient(msgspec.Struct, array_like=True, frozen=True):
    """A private write set (TxPvtReadWriteSet) to be kept for an organisation until its transaction commits."""

    transaction_id: str
    msp_id: str
    private: bytes


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """What became of a call: the response's bytes, or a failure; neither when it has to be done over there."""

    number: int
    data: bytes | None = None
    failure: Failure | None = None
    transient: tuple[Transient, ...] = ()


def frame(message: Request | Answer) -> bytes:
    """A message with its length in front."""
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "little") + data


def frames(received: bytearray) -> Iterator[bytes]:
    """Take the whole frames out of what was received; the rest stays."""
    begin = 0
    while len(received) >= begin + LENGTH_BYTES:
        end = begin + LENGTH_BYTES + int.from_bytes(received[begin : begin + LENGTH_BYTES], "little")
        if len(received) < end:
            break
        yield bytes(received[begin + LENGTH_BYTES : end])
        begin = end
    del received[:begin]


class _Ledger(LedgerReader):
    """The ledger as this process has it: private write sets are collected for the answer."""

    def __init__(self, home: Path, msp_ids: list[str]) -> None:
        super().__init__(home / LEDGER, msp_ids)
        self.transient: list[Transient] = []

    def keep_transient(self, transaction_id: str, msp_id: str, private: bytes) -> "Future[None]":
        """Collect; the serving process keeps it."""
        self.transient.append(Transient(transaction_id, msp_id, private))
        done: Future[None] = Future()
        done.set_result(None)
        return done


class Child:
    """The gateways of one home's network, asked over a socket."""

    def __init__(self, home: Path) -> None:
        topology = load(home / TOPOLOGY)
        self._ledger = _Ledger(home, [organisation.msp_id for organisation in topology.organisations])
        genesis = self._ledger.block(0)
        if genesis is None:
            raise LedgerError(f"the ledger in {home} has no block 0")
        self._endorsing = Endorsing(home, topology, self._ledger, config.parse(genesis))
        self._gateways = {
            name: EndorsingGateway(place.peer, self._endorsing.endorsers)
            for name, place in self._endorsing.places.items()
        }

    def serve(self, connection: socket.socket) -> None:
        """Answer calls until the other side closes the socket."""
        connection.sendall(frame(Answer(READY)))
        decoder = msgspec.msgpack.Decoder(Request)
        received = bytearray()
        while part := connection.recv(_RECEIVE_BYTES):
            received += part
            for data in frames(received):
                connection.sendall(frame(self.answer(decoder.decode(data))))

    def answer(self, request: Request) -> Answer:
        """Run one call."""
        self._endorsing.redefined(request.defined_at)
        self._endorsing.peers.stop_only(request.stopped)
        self._ledger.transient.clear()
        try:
            data = self._run(self._gateways[request.peer], request)
        except RpcError as error:
            details = tuple((detail.address, detail.msp_id, detail.message) for detail in error.details)
            failure = Failure(error.code.value[0], error.message, details)
            return Answer(request.number, failure=failure, transient=tuple(self._ledger.transient))
        except Exception:  # whatever it is, the serving process meets it too and knows how to answer
            _LOG.exception("a call could not be simulated")
            return Answer(request.number)
        return Answer(request.number, data, transient=tuple(self._ledger.transient))

    @staticmethod
    def _run(gateway: EndorsingGateway, request: Request) -> bytes:
        if request.method == EVALUATE:
            return gateway.evaluate(read(gateway_pb2.EvaluateRequest, request.data), Call()).SerializeToString()
        return gateway.endorse(read(gateway_pb2.EndorseRequest, request.data), Call()).SerializeToString()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, even in the middle of a contract that does not return."""
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os._exit(0)


def main() -> None:
    """`python -m network.embedded.simulation_child HOME SOCKET PARENT`: descriptor of the socket, parent's number."""
    home, descriptor, parent = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    # Ctrl-C in a terminal reaches every process of the group; the parent decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()
    Child(home).serve(socket.socket(fileno=descriptor))
    # Without closing the ledger: if the parent was killed, finishing its log is the business of the next one.
    os._exit(0)


if __name__ == "__main__":
    main()
