"""Credit models as the ledger knows them: digest, scale and expiry, proposed by one person and approved by another."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.record import Record, Trace, check_other_person, check_state

STATES: Final = ("proposed", "approved", "retired")

PD_BP_MAX: Final = 10_000
"""A probability of 1, in basis points."""

DEFAULT_GRADE: Final = "D"
"""The grade of a company in default; no model gives it."""

BasisPoints = Annotated[int, Meta(ge=0, le=PD_BP_MAX, description="Probability of default in basis points")]
GradeName = Annotated[str, Meta(pattern=r"^[A-Z][0-9]?$", description="Grade")]


class ScaleStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One grade of the master scale with the highest probability that it covers."""

    grade: GradeName
    pd_bp_max: BasisPoints


class Model(Record, frozen=True, kw_only=True):
    """One model by the digest of its manifest."""

    model_digest: str
    state: str
    target: str
    horizon_days: int
    scale: tuple[ScaleStep, ...]
    feature_digest: str
    card_digest: str
    reason_codes_max: int
    valid_until: date
    proposed_by: str
    changed: Trace

    def grade_of(self, pd_bp: int) -> str:
        """The grade of a probability on the model's scale."""
        return next(step.grade for step in self.scale if pd_bp <= step.pd_bp_max)


def check_scale(scale: Sequence[ScaleStep]) -> None:
    """Refuse a scale whose limits do not rise to 10,000, repeats a grade or names D: ``scale_invalid``."""
    previous = -1
    named: list[str] = []
    for step in scale:
        if step.pd_bp_max <= previous or step.grade in named or step.grade == DEFAULT_GRADE:
            raise DomainError("scale_invalid")
        previous = step.pd_bp_max
        named.append(step.grade)
    if previous != PD_BP_MAX:
        raise DomainError("scale_invalid")


def propose(model: Model, today: date) -> Model:
    """A proposed model, unless it has expired already. Raises ``INVALID expiry_passed``."""
    if model.valid_until <= today:
        raise DomainError("expiry_passed", date=model.valid_until.isoformat(), today=today.isoformat())
    return model


def approve(model: Model, trace: Trace) -> Model:
    """Approve a proposed model, by another person. Raises ``state_wrong``, then ``same_person``."""
    check_state(model.model_digest, model.state, "approve", ("proposed",))
    check_other_person(trace.user_id, model.proposed_by)
    return replace(model, state="approved", changed=trace)


def retire(model: Model, trace: Trace) -> Model:
    """Retire a model; nothing is rated with it any more. Raises ``state_wrong``."""
    check_state(model.model_digest, model.state, "retire", ("proposed", "approved"))
    return replace(model, state="retired", changed=trace)


def check_usable(model: Model, today: date) -> None:
    """Refuse a model that is not approved or has expired. Raises ``CONFLICT model_not_approved``."""
    if model.state != "approved" or model.valid_until < today:
        raise DomainError("model_not_approved", id=model.model_digest, state=model.state)
