"""A chaincode as a service: the gRPC server that peers dial (Fabric calls it CCaaS).

One process serves one chaincode for one organisation; each peer that dials has a stream of its own. Transactions run
in a pool of threads, so a contract may block without stopping its neighbours. What the pool cannot take soon is
refused at once: a peer whose request is kept waiting reports a broken chaincode instead of a busy one.
"""

import logging
import queue
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

import grpc
from fabric_protos.peer import proposal_response_pb2

from chaincode.shim.errors import DeadlineExceeded, StreamLost
from chaincode.shim.execute import Program, execute
from chaincode.shim.stream import REGISTERED_SECONDS_MAX, ChaincodeStream, Close, Deliver, Phase, Run, Send
from chaincode.shim.stub import DEFAULT_LIMITS, ChaincodeMessage, Exchange, Limits

logger = logging.getLogger(__name__)

MESSAGE_BYTES_MAX: Final = 100 * 1024 * 1024
"""As on the peer's side. With gRPC's own 4 MiB one large value ends the stream and every transaction on it."""

STREAMS_MAX: Final = 16
"""Peers connected at the same time; each holds one thread of the gRPC server."""

STATUS_UNAVAILABLE: Final = 503

_SIGNAL_SECONDS: Final = 0.2

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # The peer pings an idle stream every 60 s; by default gRPC takes that for abuse and ends the stream after 180 s.
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A second process on the same port must fail, not take every other connection.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM texts of the server's key and certificate chain; with `client_authority` peers must show a certificate."""

    private_key: bytes = field(repr=False)
    certificate: bytes
    client_authority: bytes | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """The credentials for a secure port."""
        return grpc.ssl_server_credentials(
            [(self.private_key, self.certificate)],
            root_certificates=self.client_authority,
            require_client_auth=self.client_authority is not None,
        )


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How a chaincode is served. Raises ValueError when one of the three ids is empty.

    Without `msp_id` a contract could not tell whose peer runs it, and would guard private data against nobody.
    """

    package_id: str
    """As installed on the peers: `label:hash`."""
    msp_id: str
    """The organisation whose peers dial."""
    address: str
    """Where to listen, `host:port`; never taken from the environment. Port 0 lets the system choose."""
    tls: Tls | None = None
    threads: int = 24
    waiting_max: int = 200
    """Transactions that may wait for a thread."""
    limits: Limits = DEFAULT_LIMITS
    registered_seconds: float = REGISTERED_SECONDS_MAX

    def __post_init__(self) -> None:
        for name in ("package_id", "msp_id", "address"):
            if not getattr(self, name):
                raise ValueError(f"a chaincode server needs its {name}")


class Server:
    """The running service. `start` binds the port, `stop` ends it gently."""

    def __init__(self, chaincode: Program, settings: ServerSettings) -> None:
        self.chaincode = chaincode
        self.settings = settings
        self.port = 0
        """The port bound; 0 before `start`."""
        self.is_stopping = False
        self._running = 0
        self._changed = threading.Condition()
        self._readers: set[threading.Thread] = set()
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="transaction")
        self._grpc = grpc.server(
            ThreadPoolExecutor(STREAMS_MAX, thread_name_prefix="stream"),
            options=_OPTIONS,
            maximum_concurrent_rpcs=STREAMS_MAX,
        )
        handler = grpc.stream_stream_rpc_method_handler(
            self._connect,
            request_deserializer=ChaincodeMessage.FromString,
            response_serializer=ChaincodeMessage.SerializeToString,
        )
        self._grpc.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("protos.Chaincode", {"Connect": handler}),)
        )

    @property
    def running(self) -> int:
        """Transactions that run or wait for a thread."""
        return self._running

    def start(self) -> None:
        """Bind the address and serve. Raises OSError when it cannot be bound."""
        settings = self.settings
        try:
            if settings.tls is None:
                self.port = self._grpc.add_insecure_port(settings.address)
            else:
                self.port = self._grpc.add_secure_port(settings.address, settings.tls.credentials())
        except RuntimeError as error:
            raise OSError(f"cannot listen on {settings.address}") from error
        self._grpc.start()
        logger.info("chaincode %s serves %s on port %d", settings.package_id, settings.msp_id, self.port)

    def stop(self, seconds: float = 30.0) -> None:
        """Refuse new transactions, wait at most so long for the running ones, then end every stream."""
        with self._changed:
            self.is_stopping = True
            self._changed.wait_for(lambda: not self._running, timeout=seconds)
        self._grpc.stop(grace=1.0).wait(5.0)
        # A reader that still logs while the interpreter ends would abort the process.
        for reader in list(self._readers):
            reader.join(5.0)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def submit(self, session: "_Session", run: Run) -> None:
        """Run a transaction in the pool, or answer at once that it cannot be run now."""
        with self._changed:
            if self.is_stopping:
                refusal = "INTERNAL stopping: the chaincode is being stopped"
            elif self._running >= self.settings.threads + self.settings.waiting_max:
                refusal = "INTERNAL overloaded: too many transactions wait already"
            else:
                refusal = ""
                self._running += 1
        if refusal:
            session.complete(_refused(run.message, refusal))
        else:
            self._pool.submit(self._run, session, run, time.monotonic())

    def _run(self, session: "_Session", run: Run, started_at: float) -> None:
        try:
            completed = execute(
                self.chaincode,
                run.message,
                session.exchange(started_at + self.settings.limits.seconds),
                msp_id=self.settings.msp_id,
                settings=run.settings,
                limits=self.settings.limits,
                started_at=started_at,
            )
            session.complete(completed)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _connect(
        self, requests: Iterator[ChaincodeMessage], context: grpc.ServicerContext
    ) -> Iterator[ChaincodeMessage]:
        session = _Session(self)
        context.add_callback(session.end)
        reader = threading.Thread(target=self._read, args=(session, requests), name="reader", daemon=True)
        self._readers.add(reader)
        reader.start()
        return session.outgoing()

    def _read(self, session: "_Session", requests: Iterator[ChaincodeMessage]) -> None:
        try:
            session.read(requests)
        finally:
            self._readers.discard(threading.current_thread())


class _Session:
    """One stream: the state machine under a lock, and the queue of its one writer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._outbox: queue.SimpleQueue[ChaincodeMessage | None] = queue.SimpleQueue()
        self._stream = ChaincodeStream[queue.SimpleQueue[ChaincodeMessage | None]](
            server.settings.package_id,
            opened_at=time.monotonic(),
            registered_seconds=server.settings.registered_seconds,
        )

    def outgoing(self) -> Iterator[ChaincodeMessage]:
        """The messages to the peer, until the stream ends."""
        yield self._stream.register()
        while True:
            silent = self._stream.phase is Phase.CREATED
            patience = max(self._stream.registered_until - time.monotonic(), 0.0) if silent else None
            try:
                message = self._outbox.get(timeout=patience)
            except queue.Empty:
                with self._lock:
                    close = self._stream.check(time.monotonic())
                if close is not None:
                    logger.error("stream closed: %s", close.reason)
                    self.end()
                continue
            if message is None:
                return
            yield message

    def read(self, requests: Iterator[ChaincodeMessage]) -> None:
        """Feed the peer's messages to the state machine until the stream ends."""
        try:
            for message in requests:
                with self._lock:
                    actions = self._stream.feed(message)
                for action in actions:
                    self._do(action)
        except grpc.RpcError as error:
            logger.info("stream ended: %s", type(error).__name__)
        finally:
            self.end()

    def end(self) -> None:
        """Release every transaction that waits for the peer, and the writer."""
        with self._lock:
            lost = self._stream.close()
        for deliver in lost:
            deliver.waiter.put(None)
        self._outbox.put(None)

    def complete(self, completed: ChaincodeMessage) -> None:
        """Send a COMPLETED message, if anybody is there to hear it."""
        with self._lock:
            send = self._stream.finish(completed)
        if send is not None:
            self._outbox.put(send.message)

    def exchange(self, deadline: float) -> Exchange:
        """The exchange of one transaction, which gives up at `deadline` (monotonic seconds)."""
        inbox: queue.SimpleQueue[ChaincodeMessage | None] = queue.SimpleQueue()

        def exchange(message: ChaincodeMessage) -> ChaincodeMessage:
            with self._lock:
                send = self._stream.request(message, inbox)
            self._outbox.put(send.message)
            try:
                answer = inbox.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty as error:
                raise DeadlineExceeded("the peer did not answer in time") from error
            if answer is None:
                raise StreamLost("the stream to the peer has ended")
            return answer

        return exchange

    def _do(self, action: Run | Deliver[queue.SimpleQueue[ChaincodeMessage | None]] | Send | Close) -> None:
        match action:
            case Run():
                self._server.submit(self, action)
            case Deliver():
                action.waiter.put(action.message)
            case Send():
                self._outbox.put(action.message)
            case Close():
                logger.error("stream closed: %s", action.reason)
                self.end()


def _refused(message: ChaincodeMessage, text: str) -> ChaincodeMessage:
    response = proposal_response_pb2.Response(status=STATUS_UNAVAILABLE, message=text, payload=text.encode())
    return ChaincodeMessage(
        type=ChaincodeMessage.COMPLETED,
        txid=message.txid,
        channel_id=message.channel_id,
        payload=response.SerializeToString(),
    )


def serve(chaincode: Program, settings: ServerSettings, *, stop_seconds: float = 30.0) -> None:
    """Serve until SIGTERM or SIGINT, then stop gently. Must be called in the main thread."""
    server = Server(chaincode, settings)
    received: list[int] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, receive)
    server.start()
    while not received:
        # The system may give the signal to another thread, which does not wake this one: so no endless wait.
        time.sleep(_SIGNAL_SECONDS)
    server.stop(stop_seconds)
