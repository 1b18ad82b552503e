"""What may follow an error: the table of the specification as pure functions.

The loop that acts on it is in `contract.py`.
"""

import random
from dataclasses import dataclass
from enum import Enum, auto
from typing import Self

from tallystick.fabric.errors import (
    CommitError,
    CommitStatusError,
    EndorseError,
    EvaluateError,
    FabricError,
    SubmitError,
)
from tallystick.fabric.status import ValidationCode

_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a `Contract` repeats what is safe to repeat.

    attempts: repeats of one stage after an overload, an unreachable peer or an unknown outcome. on_conflict: new
    proposals after a lost race (it needs a signer, and a contract for which running again is right). delay and
    delay_max, in seconds, bound the pause before a repeat: a random part of delay · 2ⁿ. ask: seconds to wait for the
    status of a transaction whose submit had no answer, before the same signed envelope is sent again.
    """

    attempts: int = 0
    on_conflict: int = 0
    delay: float = 0.2
    delay_max: float = 2.0
    ask: float = 2.0

    @classmethod
    def none(cls) -> Self:
        """Never repeat, like the official clients."""
        return cls()

    @classmethod
    def safe(cls, on_conflict: int = 0, attempts: int = 2) -> Self:
        """Repeat what cannot happen twice; after a lost race propose again only `on_conflict` times."""
        return cls(attempts=attempts, on_conflict=on_conflict)

    def pause(self, repeat: int) -> float:
        """Seconds to wait before the repeat of that number (from 0): random, so that many clients spread out."""
        return _random.uniform(0, min(self.delay_max, self.delay * 2.0**repeat))


NO_RETRY = Retry.none()


class Next(Enum):
    """What may follow an error."""

    GIVE_UP = auto()
    """Nothing: raise it."""
    PROPOSE_AGAIN = auto()
    """Nothing was ordered: the same call again, freshly signed."""
    SAME_ENVELOPE = auto()
    """It may be ordered: ask for the status of the same transaction, send only the same signed envelope."""
    ASK_AGAIN = auto()
    """It is ordered: the same status request again."""
    LOST_RACE = auto()
    """It changed nothing: a new proposal, only if the caller allows it."""


_CONFLICTS = frozenset({ValidationCode.MVCC_READ_CONFLICT, ValidationCode.PHANTOM_READ_CONFLICT})


def after(error: FabricError) -> Next:
    """The decision of the specification's table for one error."""
    match error:
        case EndorseError(mismatch=True):
            return Next.LOST_RACE
        case EvaluateError(retryable=True) | EndorseError(retryable=True):
            return Next.PROPOSE_AGAIN
        case SubmitError(retryable=True):
            return Next.SAME_ENVELOPE
        case CommitStatusError(retryable=True):
            return Next.ASK_AGAIN
        case CommitError(code=code) if code in _CONFLICTS:
            return Next.LOST_RACE
    return Next.GIVE_UP
