"""A contract: evaluate and submit its transactions. What is repeated, and when, is in `tallystick.fabric.contract`."""

from collections.abc import Mapping, Sequence

from tallystick.aio.commit import SubmittedTransaction
from tallystick.aio.proposal import Proposal
from tallystick.fabric._core import TransactionCore
from tallystick.fabric._retry import Retry
from tallystick.fabric.contract import Calls, Timeout


class Contract(Calls):
    """A contract of a chaincode; `chaincode` and `name` are what it was made with.

    Arguments are bytes or text (sent as UTF-8). With a contract name the function sent is `name:function`. `timeout` in
    seconds is a budget for the whole call, repeats and commit included; give `Timeouts` to bound each stage instead.
    """

    async def evaluate(
        self,
        name: str,
        *arguments: bytes | str,
        transient: Mapping[str, bytes | str] | None = None,
        endorsing_organizations: Sequence[str] = (),
        timeout: Timeout = None,
        retry: Retry | None = None,
    ) -> bytes:
        """Run a transaction on one peer and return the contract's answer; nothing is written. Raises EvaluateError."""
        steps = self._evaluated(
            lambda: self._proposed(name, arguments, transient, endorsing_organizations), timeout, retry
        )
        result: bytes = await self._settings.edge.run(steps)
        return result

    async def submit(
        self,
        name: str,
        *arguments: bytes | str,
        transient: Mapping[str, bytes | str] | None = None,
        endorsing_organizations: Sequence[str] = (),
        timeout: Timeout = None,
        retry: Retry | None = None,
    ) -> bytes:
        """Endorse, order and wait until it is committed as valid; returns the contract's answer.

        Raises EndorseError, SubmitError, CommitStatusError, CommitError: one per stage, so it is clear what is safe
        next.
        """
        steps = self._committed(
            lambda: self._proposed(name, arguments, transient, endorsing_organizations), timeout, retry
        )
        result: bytes = await self._settings.edge.run(steps)
        return result

    async def submit_async(
        self,
        name: str,
        *arguments: bytes | str,
        transient: Mapping[str, bytes | str] | None = None,
        endorsing_organizations: Sequence[str] = (),
        timeout: Timeout = None,
        retry: Retry | None = None,
    ) -> SubmittedTransaction:
        """Endorse and order without waiting for the commit: the result is known, `status()` tells whether it is true.

        Raises EndorseError, SubmitError.
        """
        steps = self._submitted(
            lambda: self._proposed(name, arguments, transient, endorsing_organizations), timeout, retry
        )
        transaction: TransactionCore = await self._settings.edge.run(steps)
        return SubmittedTransaction(self._settings, transaction.status_request, transaction.result)

    def new_proposal(
        self,
        name: str,
        *arguments: bytes | str,
        transient: Mapping[str, bytes | str] | None = None,
        endorsing_organizations: Sequence[str] = (),
    ) -> Proposal:
        """A proposal to evaluate or endorse step by step, or to be signed elsewhere. No call is made."""
        proposed = self._proposed(name, arguments, transient, endorsing_organizations)
        return Proposal(self._settings, proposed)
