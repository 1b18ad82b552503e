"""Tariffs under (``tariff``, id); (``funder_tariff``, funder, id) lists a funder's."""

from typing import Final

from chaincode.domain.tariff import Tariff
from chaincode.ledger.repository import Index, Repository

TARIFFS: Final = Repository("tariff", Tariff, "tariff_not_found", "tariff_exists")
FUNDER_TARIFFS: Final = Index("funder_tariff")
