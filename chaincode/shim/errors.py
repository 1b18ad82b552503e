"""What can go wrong between a contract and its peer.

    Exception
    +-- ContractError       the contract says no: becomes the response, with its own status and message
    +-- StubError           the stub refuses a call before the peer sees it
    |   +-- KeyRefused          empty, not UTF-8, too long, in the composite range, or a malformed composite key
    |   +-- ValueRefused        empty or too large
    |   +-- WriteRefused        a write or an event inside a query, or beside a paginated or private range read
    |   +-- RangeLimitExceeded  a range read passed its row limit
    |   +-- CallRefused         wrong thread, a second request at once, a finished transaction, an unopened range
    +-- PeerError           the peer answered ERROR
    BaseException
    +-- DeadlineExceeded    the transaction ran out of time
    +-- StreamLost          the peer is gone

The last two derive from BaseException so that an `except Exception` of a contract cannot swallow them: nothing that
the contract does afterwards could still be of use.
"""

STATUS_OK = 200
STATUS_REFUSED_MIN = 400
STATUS_INTERNAL = 500
STATUS_MAX = 599


class ContractError(Exception):
    """The contract refuses the transaction.

    `message` becomes the response's message, by convention `CODE reason: sentence`; clients see nothing else of a
    failed transaction. `status` is 400 to 499 for a refusal and 500 to 599 for a fault; anything else becomes 500,
    because a peer would sign an answer below 200 and commit one below 400.
    """

    def __init__(self, message: str, status: int = STATUS_REFUSED_MIN) -> None:
        super().__init__(message)
        self.message = message
        self.status = status if STATUS_REFUSED_MIN <= status <= STATUS_MAX else STATUS_INTERNAL


class StubError(Exception):
    """The stub refuses a call before the peer sees it; the text is fixed and holds no value of the caller."""


class KeyRefused(StubError):
    """A key that Fabric would store but nobody could read back unambiguously."""


class ValueRefused(StubError):
    """A value that is empty (Fabric takes it for a delete) or larger than the limit."""


class WriteRefused(StubError):
    """A write or an event where none may be: in a query, or beside a read that is not protected against phantoms."""


class RangeLimitExceeded(StubError):
    """A range read passed its row limit; a peer cuts long ranges at a limit of its own without any sign."""


class CallRefused(StubError):
    """A call on the transaction at the wrong time or from the wrong thread."""


class PeerError(Exception):
    """The peer answered a request with ERROR (or with something that is no answer to it); the text is the peer's.

    A contract may catch it and go on, and then commits what it did so far: rarely what is meant.
    """


class DeadlineExceeded(BaseException):
    """The transaction passed its deadline, which lies below the peer's own, so the peer still hears an answer."""


class StreamLost(BaseException):
    """The stream to the peer ended while the transaction ran; no answer can reach anybody."""
