"""A contract: evaluate and submit its transactions. The loops below are the only place that repeats a call.

They never pay twice: a new proposal is made only where nothing was ordered or where the ledger holds the old one as
invalid; in every other case the same transaction id is asked for and only the same signed envelope is sent again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from tallystick.fabric._core import (
    CommitCore,
    Deadline,
    Pause,
    ProposalCore,
    Settings,
    Steps,
    Timeouts,
    TransactionCore,
    new_proposal,
)
from tallystick.fabric._retry import Next, Retry, after
from tallystick.fabric._wire import ProposedTransaction
from tallystick.fabric.commit import SubmittedTransaction
from tallystick.fabric.errors import CommitError, CommitStatusError, EndorseError, GatewayError, SubmitError
from tallystick.fabric.proposal import Proposal
from tallystick.fabric.status import Status

T = TypeVar("T")
Timeout = float | Timeouts | None
Propose = Callable[[], ProposedTransaction]


class Calls:
    """What contracts of both interfaces share: the names, and the steps of a whole call."""

    def __init__(self, settings: Settings, channel: str, chaincode: str, name: str | None) -> None:
        self._settings = settings
        self._channel = channel
        self.chaincode = chaincode
        self.name = name

    def _proposed(
        self,
        name: str,
        arguments: Sequence[bytes | str],
        transient: Mapping[str, bytes | str] | None,
        endorsing_organizations: Sequence[str],
    ) -> ProposedTransaction:
        function = name if self.name is None else f"{self.name}:{name}"
        return new_proposal(
            self._settings,
            self._channel,
            self.chaincode,
            [_bytes(value) for value in (function, *arguments)],
            {key: _bytes(value) for key, value in transient.items()} if transient else {},
            _names(endorsing_organizations),
        )

    def _evaluated(self, propose: Propose, timeout: Timeout, retry: Retry | None) -> Steps[bytes]:
        timeouts, budget = _budget(self._settings, timeout)
        chosen = self._settings.retry if retry is None else retry
        return _repeated(
            lambda: ProposalCore(self._settings, propose())._evaluation(budget.left(timeouts.evaluate)),
            Next.PROPOSE_AGAIN,
            chosen,
            budget,
        )

    def _submitted(self, propose: Propose, timeout: Timeout, retry: Retry | None) -> Steps[TransactionCore]:
        """Endorse and hand over, without waiting for the commit."""
        flow = _Flow(self._settings, propose, timeout, retry)
        transaction = yield from flow.racing(flow.endorsed)
        yield from flow.ordered(transaction, CommitCore(self._settings, transaction.status_request))
        return transaction

    def _committed(self, propose: Propose, timeout: Timeout, retry: Retry | None) -> Steps[bytes]:
        """Endorse, hand over and wait for the commit. Returns the contract's answer."""
        flow = _Flow(self._settings, propose, timeout, retry)
        transaction = yield from flow.racing(flow.committed)
        return transaction.result


class _Flow:
    """One submit call: what its stages have in common."""

    def __init__(self, settings: Settings, propose: Propose, timeout: Timeout, retry: Retry | None) -> None:
        self._settings = settings
        self._propose = propose
        self._timeouts, self._budget = _budget(settings, timeout)
        self._retry = settings.retry if retry is None else retry

    def racing(self, attempt: Callable[[], Steps[T]]) -> Steps[T]:
        """The attempt, again with a new proposal after a lost race, as often as the caller allows."""
        races = 0
        while True:
            try:
                return (yield from attempt())
            except (EndorseError, CommitError) as error:
                if after(error) is not Next.LOST_RACE or races >= self._retry.on_conflict or self._budget.spent:
                    raise
            yield Pause(self._budget.at_most(self._retry.pause(races)))
            races += 1

    def endorsed(self) -> Steps[TransactionCore]:
        """A freshly proposed transaction, endorsed. Nothing is ordered before this returns."""
        prepared = yield from _repeated(
            lambda: ProposalCore(self._settings, self._propose())._endorsement(
                self._budget.left(self._timeouts.endorse)
            ),
            Next.PROPOSE_AGAIN,
            self._retry,
            self._budget,
        )
        return TransactionCore(self._settings, prepared)

    def ordered(self, transaction: TransactionCore, commit: CommitCore) -> Steps[Status | None]:
        """Hand the transaction over. The answer is its verdict if that was learnt on the way."""
        unknown: SubmitError | None = None
        repeat = 0
        while True:
            try:
                yield from transaction._submission(self._budget.left(self._timeouts.submit))
                return None
            except SubmitError as error:
                if self._retry.attempts and error.outcome_unknown:
                    unknown = error
                    status = yield from self._asked(commit)
                    if status is not None:
                        return status
                if after(error) is not Next.SAME_ENVELOPE or repeat >= self._retry.attempts or self._budget.spent:
                    # A refusal of the second copy says nothing about the first.
                    if unknown is not None and unknown is not error:
                        raise unknown from error
                    raise
            yield Pause(self._budget.at_most(self._retry.pause(repeat)))
            repeat += 1

    def _asked(self, commit: CommitCore) -> Steps[Status | None]:
        """The status of a transaction that may never have been ordered, or None if it cannot be had soon."""
        try:
            return (yield from commit._outcome(self._budget.at_most(self._retry.ask)))
        except CommitStatusError:
            return None

    def committed(self) -> Steps[TransactionCore]:
        """Endorse, hand over, wait. Raises CommitError when the transaction is invalid."""
        transaction = yield from self.endorsed()
        commit = CommitCore(self._settings, transaction.status_request)
        status = yield from self.ordered(transaction, commit)
        if status is None:
            status = yield from _repeated(
                lambda: commit._outcome(self._budget.left(self._timeouts.commit_status)),
                Next.ASK_AGAIN,
                self._retry,
                self._budget,
            )
        if not status.successful:
            raise CommitError(status.code, status.transaction_id, status.block_number)
        return transaction


def _repeated(attempt: Callable[[], Steps[T]], again: Next, retry: Retry, budget: Deadline) -> Steps[T]:
    """The attempt, repeated after errors for which the table says `again`."""
    repeat = 0
    while True:
        try:
            return (yield from attempt())
        except GatewayError as error:
            if after(error) is not again or repeat >= retry.attempts or budget.spent:
                raise
        yield Pause(budget.at_most(retry.pause(repeat)))
        repeat += 1


def _budget(settings: Settings, timeout: Timeout) -> tuple[Timeouts, Deadline]:
    if isinstance(timeout, Timeouts):
        return timeout, Deadline(None)
    return settings.timeouts, Deadline(timeout)


def _bytes(value: bytes | str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    # bytes(5) would be five zeros, and bytes of an empty mapping nothing.
    raise TypeError(f"arguments and transient values are bytes or text, not {type(value).__name__}: encode it first")


def _names(organizations: Sequence[str]) -> Sequence[str]:
    if isinstance(organizations, str):
        raise TypeError("endorsing_organizations is a sequence of MSP ids, not one text")
    return organizations


class Contract(Calls):
    """A contract of a chaincode; `chaincode` and `name` are what it was made with.

    Arguments are bytes or text (sent as UTF-8). With a contract name the function sent is `name:function`. `timeout` in
    seconds is a budget for the whole call, repeats and commit included; give `Timeouts` to bound each stage instead.
    """

    def evaluate(
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
        result: bytes = self._settings.edge.run(steps)
        return result

    def submit(
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
        result: bytes = self._settings.edge.run(steps)
        return result

    def submit_async(
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
        transaction: TransactionCore = self._settings.edge.run(steps)
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
