"""Policies under (``policy``, name)."""

from typing import Final

from chaincode.domain.policy import Policy
from chaincode.ledger.repository import Repository

POLICIES: Final = Repository("policy", Policy, "policy_missing", "policy_missing")
