"""Models under (``model``, digest), ratings under (``rating``, id); (``member_rating``, member, id) lists them."""

from typing import Final

from chaincode.domain.model import Model
from chaincode.domain.rating import Rating
from chaincode.ledger.repository import Index, Repository

MODELS: Final = Repository("model", Model, "model_not_found", "model_exists")
RATINGS: Final = Repository("rating", Rating, "rating_not_found", "rating_exists")
MEMBER_RATINGS: Final = Index("member_rating")
