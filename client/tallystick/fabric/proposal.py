"""The first stage: a transaction as proposed, to be evaluated or endorsed."""

from tallystick.fabric._core import ProposalCore
from tallystick.fabric.transaction import Transaction


class Proposal(ProposalCore):
    """A proposed transaction. Made by `contract.new_proposal`, or by `gateway.proposal` from stored bytes."""

    __slots__ = ()

    def evaluate(self, *, timeout: float | None = None) -> bytes:
        """Run it on one peer and return the contract's answer; nothing is ordered.

        Raises EvaluateError, SigningError.
        """
        result: bytes = self._settings.edge.run(self._evaluation(timeout))
        return result

    def endorse(self, *, timeout: float | None = None) -> Transaction:
        """Have the peers that the policy asks for run and sign it. Raises EndorseError, SigningError."""
        return Transaction(self._settings, self._settings.edge.run(self._endorsement(timeout)))
