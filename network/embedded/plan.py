"""Which organisations to ask: the smallest combinations of peers that satisfy every policy a transaction meets.

Fabric's discovery service computes layouts from principal sets (discovery/endorsement); with a handful of organisations
it is simpler, and exact, to try every combination against the policy code that will judge the transaction (B.7).
"""

import itertools
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from fabric_protos.peer import collection_pb2, policy_pb2, proposal_response_pb2

from network.embedded.lifecycle import Definition, collection_config, implicit_owner
from network.embedded.msp import Identity, MspManager
from network.embedded.policy import Policy, PolicyManager

# Beyond this many combinations only one peer of each organisation is considered.
_COMBINATIONS_MAX: Final = 4096


class PlanError(Exception):
    """No combination of peers can endorse; the text is the reason that Fabric's discovery service gives."""


class Planner:
    """Finds endorsers on one channel.

    `peers` maps each MSP id to the serialised identities of its peers. `seed` makes the order among equally good
    combinations repeatable. Safe to use from several threads.
    """

    def __init__(
        self,
        channel: str,
        policies: PolicyManager,
        msps: MspManager,
        peers: Mapping[str, Sequence[bytes]],
        seed: int | None = None,
    ) -> None:
        self._channel = channel
        self._policies = policies
        self._msps = msps
        self._peers: dict[str, list[Identity]] = {
            msp_id: [msps.identity(serialized) for serialized in identities] for msp_id, identities in peers.items()
        }
        # Spreads load over equally good combinations; nothing secret depends on it.
        self._random = random.Random(seed)  # noqa: S311

    def layouts(
        self,
        interest: proposal_response_pb2.ChaincodeInterest,
        definitions: Callable[[str], Definition | None],
        first: str | None,
        runs: Callable[[str, str], bool],
    ) -> list[Mapping[str, int]]:
        """Every minimal combination, as peers per MSP id: those with organisation `first` in front, else at random.

        `definitions(name)` answers the committed definition of a chaincode, `runs(msp_id, name)` whether the peers of
        an organisation can run it. Raises PlanError when there is no combination.
        """
        calls: list[tuple[proposal_response_pb2.ChaincodeCall, Definition]] = []
        allowed: Mapping[str, Sequence[Identity]] = self._peers
        for call in interest.chaincodes:
            definition = definitions(call.name)
            if definition is None:
                raise PlanError(f"No metadata was found for chaincode {call.name} in channel {self._channel}")
            if call.collection_names and not call.no_private_reads:
                allowed = self._members_only(allowed, call, definition)
            calls.append((call, definition))
        wanted = [policy for call, definition in calls for policy in self._required(call, definition)]
        if not wanted:
            raise PlanError("no principal sets remained after filtering")
        found = _minimal(allowed, wanted)
        if not found:
            raise PlanError("no peer combination can satisfy the endorsement policy")
        names = [call.name for call, _ in calls]
        runnable = [each for each in found if all(runs(msp_id, name) for msp_id in each for name in names)]
        if not runnable:
            raise PlanError("required chaincodes are not installed on sufficient peers")
        self._random.shuffle(runnable)
        return sorted(runnable, key=lambda each: first not in each)

    def _required(self, call: proposal_response_pb2.ChaincodeCall, definition: Definition) -> list[Policy]:
        """The policies that one call must satisfy (computePrincipalSets)."""
        data = self._chaincode_policies(call, definition)
        if call.disregard_namespace_policy:
            if len(data) == 1 and not call.key_policies:
                raise PlanError(
                    f"requested to disregard chaincode {call.name}'s policy but key and collection policies are "
                    "missing, either disable DisregardNamespacePolicy or specify at least one key policy or at least "
                    "one collection policy"
                )
            # Fabric takes the first for the chaincode's own policy, whatever it is.
            data = data[1:]
        policies = [self._policies.application_policy(each) for each in data]
        keys = (policy.SerializeToString() for policy in call.key_policies)
        policies.extend(self._policies.signature_policy(each) for each in dict.fromkeys(keys))
        return policies

    @staticmethod
    def _chaincode_policies(call: proposal_response_pb2.ChaincodeCall, definition: Definition) -> list[bytes]:
        if not call.collection_names:
            return [definition.validation_parameter]
        found = []
        for name in call.collection_names:
            config = collection_config(definition, name)
            if config is not None and config.HasField("endorsement_policy"):
                found.append(config.endorsement_policy.SerializeToString())
            elif config is not None and implicit_owner(name) is not None:
                # Discovery asks for any member of the owner (core/chaincode/lifecycle/metadata_provider.go).
                members = config.member_orgs_policy.signature_policy
                found.append(policy_pb2.ApplicationPolicy(signature_policy=members).SerializeToString())
            else:
                found.append(definition.validation_parameter)
        return list(dict.fromkeys(found))

    def _members_only(
        self, peers: Mapping[str, Sequence[Identity]], call: proposal_response_pb2.ChaincodeCall, definition: Definition
    ) -> dict[str, list[Identity]]:
        """The peers that may see every collection of a call."""
        configs = []
        for name in call.collection_names:
            config = collection_config(definition, name)
            if config is None:
                raise PlanError(f"collection {name} doesn't exist in collection config for chaincode {call.name}")
            configs.append(config)
        kept = {
            msp_id: [each for each in identities if all(self._is_member(each, config) for config in configs)]
            for msp_id, identities in peers.items()
        }
        return {msp_id: identities for msp_id, identities in kept.items() if identities}

    def _is_member(self, identity: Identity, config: collection_pb2.StaticCollectionConfig) -> bool:
        principals = config.member_orgs_policy.signature_policy.identities
        return any(self._msps.satisfies(identity, principal) for principal in principals)


def _minimal(peers: Mapping[str, Sequence[Identity]], wanted: Iterable[Policy]) -> list[dict[str, int]]:
    """The combinations that satisfy all policies and of which no smaller part does, smallest first."""
    policies = list(wanted)
    counts = {msp_id: len(identities) for msp_id, identities in peers.items() if identities}
    if math.prod(count + 1 for count in counts.values()) > _COMBINATIONS_MAX:
        counts = dict.fromkeys(counts, 1)
    found: list[tuple[int, ...]] = []
    for numbers in sorted(itertools.product(*(range(count + 1) for count in counts.values())), key=sum):
        if any(all(part <= number for part, number in zip(smaller, numbers, strict=True)) for smaller in found):
            continue
        identities = [
            identity for (msp_id, number) in zip(counts, numbers, strict=True) for identity in peers[msp_id][:number]
        ]
        if identities and all(policy.evaluate_identities(identities) for policy in policies):
            found.append(numbers)
    return [{msp_id: number for msp_id, number in zip(counts, numbers, strict=True) if number} for numbers in found]
