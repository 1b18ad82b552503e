"""Ratings: a grade and probability for an enterprise, by an approved model or an explained override."""

from datetime import date
from typing import Final

from msgspec.structs import replace

from chaincode.domain.error import DomainError
from chaincode.domain.member import Grade
from chaincode.domain.model import DEFAULT_GRADE, Model
from chaincode.domain.record import Record, Trace, check_other_person, check_state

STATES: Final = ("recorded", "approved")

NOTCHES_MAX: Final = 2
"""Grades that an override may move away from the model's."""


class Rating(Record, frozen=True, kw_only=True):
    """One rating; ``notches`` and ``override_reason`` are set for an override, ``default_id`` for grade D."""

    rating_id: str
    state: str
    member_id: str
    model_digest: str
    horizon_days: int
    grade: str
    pd_bp: int
    as_of_date: date
    as_of_block: int
    as_of_hash: str
    valid_until: date
    input_digest: str
    reason_codes: tuple[int, ...]
    notches: int
    override_reason: str
    default_id: str | None
    recorded_by: str
    changed: Trace


def check(rating: Rating, model: Model, previous: Rating | None, days_max: int, today: date) -> Rating:
    """The rating itself when it keeps the rules of the register.

    Raises ``reason_code_unknown``, ``override_invalid``, ``default_missing``, ``grade_differs``, ``as_of_invalid``,
    then ``validity_too_long``.
    """
    if any(code > model.reason_codes_max for code in rating.reason_codes):
        raise DomainError("reason_code_unknown", limit=model.reason_codes_max)
    is_override = rating.notches != 0
    if is_override is not bool(rating.override_reason):
        raise DomainError("override_invalid")
    if rating.grade == DEFAULT_GRADE and rating.default_id is None:
        raise DomainError("default_missing")
    _check_grade(rating, model)
    last = date.min if previous is None else previous.as_of_date
    if not last <= rating.as_of_date <= today:
        raise DomainError("as_of_invalid", date=rating.as_of_date.isoformat(), today=today.isoformat())
    limit = days_max // 2 if is_override else days_max
    held = rating.valid_until.toordinal() - rating.as_of_date.toordinal()
    if not 0 <= held <= limit:
        raise DomainError("validity_too_long", days=held, limit=limit)
    return rating


def _check_grade(rating: Rating, model: Model) -> None:
    """The grade is the scale's for the probability, moved by the notches of an override; D follows from a default."""
    if rating.grade == DEFAULT_GRADE:
        return
    grades = [step.grade for step in model.scale]
    place = grades.index(model.grade_of(rating.pd_bp)) + rating.notches
    expected = grades[max(0, min(len(grades) - 1, place))]
    if rating.grade != expected:
        raise DomainError("grade_differs", pd_bp=rating.pd_bp, expected=expected, grade=rating.grade)


def approve(rating: Rating, previous: Rating | None, today: date, trace: Trace) -> tuple[Rating, Grade]:
    """Put a recorded rating in force, by another person; answers the grade for the member too.

    Raises ``state_wrong``, ``same_person``, then ``as_of_invalid`` when a later one came into force meanwhile.
    """
    check_state(rating.rating_id, rating.state, "approve", ("recorded",))
    check_other_person(trace.user_id, rating.recorded_by)
    if previous is not None and rating.as_of_date < previous.as_of_date:
        raise DomainError("as_of_invalid", date=rating.as_of_date.isoformat(), today=today.isoformat())
    grade = Grade(grade=rating.grade, rating_id=rating.rating_id, valid_until=rating.valid_until)
    return replace(rating, state="approved", changed=trace), grade
