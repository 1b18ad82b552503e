"""A chaincode service that says what a test wants: the chaincode's end of the stream, message by message."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import grpc
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2, chaincode_shim_pb2_grpc, proposal_response_pb2

ChaincodeMessage = chaincode_shim_pb2.ChaincodeMessage
MESSAGE_BYTES = 100 * 1024 * 1024


class Session:
    """One stream as the chaincode sees it."""

    def __init__(self, incoming: Iterator[ChaincodeMessage]) -> None:
        self.received: queue.SimpleQueue[ChaincodeMessage | None] = queue.SimpleQueue()
        self.outgoing: queue.SimpleQueue[ChaincodeMessage | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(incoming,), daemon=True).start()

    def _read(self, incoming: Iterator[ChaincodeMessage]) -> None:
        try:
            for message in incoming:
                self.received.put(message)
        except Exception:
            pass
        self.received.put(None)

    def send(self, kind: int, payload: bytes = b"", like: ChaincodeMessage | None = None) -> None:
        txid, channel = ("", "") if like is None else (like.txid, like.channel_id)
        self.outgoing.put(ChaincodeMessage(type=kind, payload=payload, txid=txid, channel_id=channel))

    def get(self, seconds: float = 5.0) -> ChaincodeMessage:
        message = self.received.get(timeout=seconds)
        assert message is not None, "the stream ended"
        return message

    def ask(self, like: ChaincodeMessage, kind: int, payload: bytes = b"") -> ChaincodeMessage:
        self.send(kind, payload, like)
        return self.get()

    def register(self, package_id: str) -> None:
        self.send(ChaincodeMessage.REGISTER, chaincode_pb2.ChaincodeID(name=package_id).SerializeToString())

    def complete(self, like: ChaincodeMessage, status: int = 200, message: str = "", payload: bytes = b"") -> None:
        response = proposal_response_pb2.Response(status=status, message=message, payload=payload)
        self.send(ChaincodeMessage.COMPLETED, response.SerializeToString(), like)

    def end(self) -> None:
        self.outgoing.put(None)


class Service:
    """A server on a free port; `talk(session)` is run for every stream and the stream ends when it returns."""

    def __init__(
        self, talk: Callable[[Session], None], address: str = "127.0.0.1:0", credentials: object = None
    ) -> None:
        self._talk = talk
        self.connections = 0
        self._server = grpc.server(
            ThreadPoolExecutor(8),
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_send_message_length", MESSAGE_BYTES),
            ],
        )
        chaincode_shim_pb2_grpc.add_ChaincodeServicer_to_server(self, self._server)
        host = address.rpartition(":")[0]
        port = (
            self._server.add_insecure_port(address)
            if credentials is None
            else self._server.add_secure_port(address, credentials)
        )
        self.address = f"{host}:{port}"
        self._server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    def Connect(self, request_iterator: Iterator[ChaincodeMessage], _context: object) -> Iterator[ChaincodeMessage]:
        self.connections += 1
        session = Session(request_iterator)

        def run() -> None:
            try:
                self._talk(session)
            finally:
                session.end()

        threading.Thread(target=run, daemon=True).start()
        yield from iter(session.outgoing.get, None)


def answering(package_id: str, answer: Callable[[Session, ChaincodeMessage], None]) -> Callable[[Session], None]:
    """A well-behaved chaincode: registers, then answers each transaction in turn."""

    def talk(session: Session) -> None:
        session.register(package_id)
        assert session.get().type == ChaincodeMessage.REGISTERED
        assert session.get().type == ChaincodeMessage.READY
        while (message := session.received.get()) is not None:
            if message.type in (ChaincodeMessage.TRANSACTION, ChaincodeMessage.INIT):
                answer(session, message)

    return talk
