"""Models and ratings: recorded by one person, approved by another, enforced through the member's grade."""

from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from chaincode.contract.page import Listing, indexed, records
from chaincode.contract.registry import TRADE
from chaincode.contract.step import Step, read, write
from chaincode.domain import member, model, rating
from chaincode.domain.model import BasisPoints, GradeName, Model, ScaleStep
from chaincode.domain.policy import RatingPolicy
from chaincode.domain.rating import NOTCHES_MAX, Rating
from chaincode.domain.record import Digest, Id, Input, Label, MemberId, NewId, Reason
from chaincode.ledger import member as members
from chaincode.ledger.member import MEMBERS
from chaincode.ledger.rating import MEMBER_RATINGS, MODELS, RATINGS
from chaincode.ledger.store import Store
from chaincode.shim.contract import Contract

Explanation = Annotated[str, Meta(max_length=500, description="Why the model was overridden; empty when it was not")]


class ProposeModel(Input, frozen=True, kw_only=True):
    """Argument of ``model:propose``."""

    model_digest: Digest
    target: Label
    horizon_days: Annotated[int, Meta(ge=1, le=3_660, description="Days that the probability covers")]
    scale: Annotated[tuple[ScaleStep, ...], Meta(min_length=1, max_length=20)]
    feature_digest: Digest
    card_digest: Digest
    reason_codes_max: Annotated[int, Meta(ge=0, le=1_000, description="Highest reason code of the model's table")]
    valid_until: date


class NamedModel(Input, frozen=True, kw_only=True):
    """Argument of ``model:approve``."""

    model_digest: Digest


class RetireModel(Input, frozen=True, kw_only=True):
    """Argument of ``model:retire``."""

    model_digest: Digest
    reason: Reason


class GetModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``model:get``."""

    model_digest: Digest


class ModelPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of models by digest."""

    items: tuple[Model, ...]
    next: str | None


class RecordRating(Input, frozen=True, kw_only=True):
    """Argument of ``rating:record``."""

    rating_id: NewId
    member_id: MemberId
    model_digest: Digest
    grade: GradeName
    pd_bp: BasisPoints
    as_of_date: date
    as_of_block: Annotated[int, Meta(ge=0, le=2**53 - 1, description="Block up to which events were read")]
    as_of_hash: Digest
    valid_until: date
    input_digest: Digest
    reason_codes: Annotated[tuple[Annotated[int, Meta(ge=0, le=1_000)], ...], Meta(max_length=4)]
    notches: Annotated[int, Meta(ge=-NOTCHES_MAX, le=NOTCHES_MAX, description="Grades moved by an override")] = 0
    override_reason: Explanation = ""
    default_id: Id | None = None


class NamedRating(Input, frozen=True, kw_only=True):
    """Argument of ``rating:approve``."""

    rating_id: Id


class GetRating(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Argument of ``rating:get``."""

    rating_id: Id


class ListRatings(Listing, frozen=True, kw_only=True):
    """Argument of ``rating:list``."""

    member_id: MemberId


class RatingPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of a member's ratings by id."""

    items: tuple[Rating, ...]
    next: str | None


class ModelContract(Contract, name="model"):
    """Transactions of the word model."""

    @write("model:propose", TRADE, roles=("analyst",), event="model.proposed", to_state="proposed")
    def propose(self, step: Step, input: ProposeModel) -> None:
        """Propose a model by its digest, with the scale that turns its probability into a grade.

        Who: analyst of a member.
        Must hold: scale_invalid, model_exists, expiry_passed.
        Changes: the model is proposed.
        Event: model.proposed.
        """
        model.check_scale(input.scale)
        MODELS.check_new(step.store, input.model_digest)
        proposed = model.propose(
            Model(
                model_digest=input.model_digest,
                state="proposed",
                target=input.target,
                horizon_days=input.horizon_days,
                scale=input.scale,
                feature_digest=input.feature_digest,
                card_digest=input.card_digest,
                reason_codes_max=input.reason_codes_max,
                valid_until=input.valid_until,
                proposed_by=step.actor.user_id,
                changed=step.trace(),
            ),
            step.today,
        )
        _save_model(step, proposed, "model.proposed")

    @write(
        "model:approve",
        TRADE,
        roles=("analyst",),
        event="model.approved",
        from_states=("proposed",),
        to_state="approved",
    )
    def approve(self, step: Step, input: NamedModel) -> None:
        """Approve a proposed model.

        Who: analyst, another person than the proposer.
        Must hold: model_not_found, state_wrong, same_person.
        Changes: the model is approved.
        Event: model.approved.
        """
        known = MODELS.load(step.store, input.model_digest)
        _save_model(step, model.approve(known, step.trace()), "model.approved")

    @write(
        "model:retire",
        TRADE,
        roles=("analyst",),
        event="model.retired",
        from_states=("proposed", "approved"),
        to_state="retired",
    )
    def retire(self, step: Step, input: RetireModel) -> None:
        """Retire a model; ratings made with it run out by themselves.

        Who: analyst of a member.
        Must hold: model_not_found, state_wrong.
        Changes: the model is retired.
        Event: model.retired.
        """
        known = MODELS.load(step.store, input.model_digest)
        _save_model(step, model.retire(known, step.trace(input.reason)), "model.retired")

    @read("model:get")
    def get(self, store: Store, input: GetModel) -> Model:
        """One model.

        Who: everybody on the channel.
        Must hold: model_not_found.
        Changes: nothing.
        Event: none.
        """
        return MODELS.load(store, input.model_digest)

    @read("model:list")
    def list(self, store: Store, input: Listing) -> ModelPage:
        """Models by digest.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = records(MODELS, store, [], input)
        return ModelPage(items=items, next=following)


class RatingContract(Contract, name="rating"):
    """Transactions of the word rating."""

    @write("rating:record", TRADE, roles=("scorer",), event="rating.recorded", to_state="recorded")
    def record(self, step: Step, input: RecordRating) -> None:
        """Record a rating of a member by an approved model, or an explained override.

        Who: scorer of a member.
        Must hold: rating_exists, member_not_found, model_not_found, model_not_approved, policy_missing,
        reason_code_unknown, override_invalid, default_missing, grade_differs, as_of_invalid, validity_too_long.
        Changes: the rating is recorded and not yet in force.
        Event: rating.recorded.
        """
        RATINGS.check_new(step.store, input.rating_id)
        rated = MEMBERS.load(step.store, input.member_id)
        used = MODELS.load(step.store, input.model_digest)
        model.check_usable(used, step.today)
        days_max = step.policy("rating", RatingPolicy).days_max
        recorded = Rating(
            rating_id=input.rating_id,
            state="recorded",
            member_id=input.member_id,
            model_digest=input.model_digest,
            horizon_days=used.horizon_days,
            grade=input.grade,
            pd_bp=input.pd_bp,
            as_of_date=input.as_of_date,
            as_of_block=input.as_of_block,
            as_of_hash=input.as_of_hash,
            valid_until=input.valid_until,
            input_digest=input.input_digest,
            reason_codes=input.reason_codes,
            notches=input.notches,
            override_reason=input.override_reason,
            default_id=input.default_id,
            recorded_by=step.actor.user_id,
            changed=step.trace(),
        )
        previous = RATINGS.load(step.store, rated.grade.rating_id) if rated.grade else None
        MEMBER_RATINGS.put(step.store, recorded.member_id, recorded.rating_id)
        _save_rating(step, rating.check(recorded, used, previous, days_max, step.today), "rating.recorded")

    @write(
        "rating:approve",
        TRADE,
        roles=("scorer",),
        event="rating.approved",
        from_states=("recorded",),
        to_state="approved",
    )
    def approve(self, step: Step, input: NamedRating) -> None:
        """Put a recorded rating in force; the member's grade follows.

        Who: scorer, another person than the one who recorded it.
        Must hold: rating_not_found, model_not_approved, state_wrong, same_person, as_of_invalid.
        Changes: the rating is approved; the member has its grade until the rating runs out.
        Event: rating.approved, member.rated.
        """
        known = RATINGS.load(step.store, input.rating_id)
        model.check_usable(MODELS.load(step.store, known.model_digest), step.today)
        rated = MEMBERS.load(step.store, known.member_id)
        previous = RATINGS.load(step.store, rated.grade.rating_id) if rated.grade else None
        approved, grade = rating.approve(known, previous, step.today, step.trace())
        _save_rating(step, approved, "rating.approved")
        rated = member.rate(rated, grade, step.trace())
        members.save(step.store, rated)
        step.change("member", rated.member_id, "member.rated", rated)

    @read("rating:get")
    def get(self, store: Store, input: GetRating) -> Rating:
        """One rating.

        Who: everybody on the channel.
        Must hold: rating_not_found.
        Changes: nothing.
        Event: none.
        """
        return RATINGS.load(store, input.rating_id)

    @read("rating:list")
    def list(self, store: Store, input: ListRatings) -> RatingPage:
        """Ratings of a member by id.

        Who: everybody on the channel.
        Must hold: nothing more.
        Changes: nothing.
        Event: none.
        """
        items, following = indexed(MEMBER_RATINGS, RATINGS, store, [input.member_id], input)
        return RatingPage(items=items, next=following)


def _save_model(step: Step, record: Model, event: str) -> None:
    MODELS.save(step.store, record, record.model_digest)
    step.change("model", record.model_digest, event, record)


def _save_rating(step: Step, record: Rating, event: str) -> None:
    RATINGS.save(step.store, record, record.rating_id)
    step.change("rating", record.rating_id, event, record)
