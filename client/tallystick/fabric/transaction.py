"""The second stage: a transaction as endorsed, to be handed to the ordering service."""

from tallystick.fabric._core import TransactionCore
from tallystick.fabric.commit import SubmittedTransaction


class Transaction(TransactionCore):
    """An endorsed transaction. Made by `proposal.endorse`, or by `gateway.transaction` from stored bytes.

    Submitting the same one again is safe: it is committed once at most.
    """

    __slots__ = ()

    def submit(self, *, timeout: float | None = None) -> SubmittedTransaction:
        """Hand it to the ordering service, without waiting for its commit. Raises SubmitError, SigningError."""
        self._settings.edge.run(self._submission(timeout))
        return SubmittedTransaction(self._settings, self.status_request, self.result)
