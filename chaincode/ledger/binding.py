"""Bindings under (``binding``, id); (``member_binding``, member, id) lists a member's."""

from typing import Final

from chaincode.domain.binding import Binding
from chaincode.ledger.repository import Index, Repository

BINDINGS: Final = Repository("binding", Binding, "binding_not_found", "binding_exists")
MEMBER_BINDINGS: Final = Index("member_binding")
