"""Runs one transaction: from a TRANSACTION message to its COMPLETED message, whatever the contract does.

Never ERROR: a peer that gets ERROR has the client's gateway try the other organisations, and the text is lost.
"""

import decimal
import logging
import time
import traceback
from typing import Protocol

from fabric_protos.peer import proposal_response_pb2

from chaincode.shim.context import ContextError
from chaincode.shim.errors import (
    STATUS_INTERNAL,
    STATUS_OK,
    ContractError,
    DeadlineExceeded,
    PeerError,
    StreamLost,
    StubError,
)
from chaincode.shim.stub import (
    DEFAULT_LIMITS,
    STOCK_PEER,
    ChaincodeMessage,
    Exchange,
    Limits,
    PeerSettings,
    Transaction,
)

logger = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 4096
"""Longest message of a failed transaction in UTF-8: it travels in gRPC trailers, which are small."""

# One arithmetic for every thread: a context set at import is not seen in a pool's threads, and one that a contract
# changes would leak into the thread's next transaction.
_DECIMAL = decimal.Context(
    prec=28,
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=-999999,
    Emax=999999,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)


class Program(Protocol):
    """What can be executed: `contract.Chaincode`, or anything that turns a transaction into a payload."""

    def invoke(self, tx: Transaction, /) -> bytes:
        """Run the transaction and return the response's payload; refuse by raising ContractError."""
        ...


def execute(
    chaincode: Program,
    message: ChaincodeMessage,
    exchange: Exchange,
    *,
    msp_id: str,
    settings: PeerSettings = STOCK_PEER,
    limits: Limits = DEFAULT_LIMITS,
    started_at: float | None = None,
) -> ChaincodeMessage:
    """Run one TRANSACTION (or INIT, taken for one) and return its COMPLETED message.

    `msp_id` is the organisation of the peer; `started_at` (monotonic seconds, default now) is when the message came,
    if it waited. Status 200 with the payload; the contract's own 400 to 599 and message; or 500 with a message
    `INTERNAL reason: sentence` and a payload, because a gateway takes a bare 500 for a broken peer and asks another.
    The sentence of an unexpected exception is its type alone. A failed transaction sends no writes and no event.
    """
    deadline = (time.monotonic() if started_at is None else started_at) + limits.seconds
    event = None
    try:
        with decimal.localcontext(_DECIMAL):
            tx = Transaction(message, exchange, msp_id=msp_id, settings=settings, limits=limits, deadline=deadline)
            try:
                tx.check_alive()
                payload = chaincode.invoke(tx)
                tx.check_alive()
                response = proposal_response_pb2.Response(status=STATUS_OK, payload=payload)
                tx.flush()
                event = tx.event
            finally:
                tx.close()
    except ContractError as error:
        response = _failure(error.status, error.message)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        response = _failure(STATUS_INTERNAL, _internal(error))
        _log(message, error)
    return ChaincodeMessage(
        type=ChaincodeMessage.COMPLETED,
        payload=response.SerializeToString(),
        txid=message.txid,
        channel_id=message.channel_id,
        chaincode_event=event,
    )


def _failure(status: int, message: str) -> proposal_response_pb2.Response:
    # A lone surrogate in the message would fail in protobuf, where nobody could answer any more.
    text = str(message).encode("utf-8", "replace")[:MESSAGE_BYTES_MAX].decode("utf-8", "ignore")
    payload = (text or "failed").encode() if status >= STATUS_INTERNAL else b""
    return proposal_response_pb2.Response(status=status, message=text, payload=payload)


def _internal(error: BaseException) -> str:
    match error:
        case DeadlineExceeded():
            return "INTERNAL deadline_exceeded: the transaction took too long"
        case StreamLost():
            return "INTERNAL stream_lost: the connection to the peer ended"
        case PeerError():
            return f"INTERNAL peer_error: {error}"
        case StubError():
            return f"INTERNAL stub_refused: {error}"
        case ContextError():
            return f"INTERNAL proposal_malformed: {error}"
        case _:
            return f"INTERNAL unexpected: {type(error).__name__}"


def _log(message: ChaincodeMessage, error: BaseException) -> None:
    """Where it happened, without the exception's text: that may hold arguments or private values."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("transaction %s failed: %s\n%s", message.txid, type(error).__name__, frames)
