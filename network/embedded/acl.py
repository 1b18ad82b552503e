"""Who may propose what to a peer: the resources of table B.3 and the policy that each of them needs.

Commit status, chaincode events and block delivery ask for the channel's readers (access.py).

Source: core/aclmgmt/defaultaclprovider.go and core/policy/{policy,principal}.go of Fabric v3.1.5.
"""

from collections.abc import Mapping
from typing import Final

from network.embedded.access import READERS, WRITERS, AccessError, check_policy
from network.embedded.msp import IdentityError, MspManager
from network.embedded.policy import PolicyManager, SignedData

ADMINS: Final = "Admins"
MEMBERS: Final = "Members"

PROPOSE: Final = "peer/Propose"
CHAINCODE_TO_CHAINCODE: Final = "peer/ChaincodeToChaincode"

_LOCAL: Final[Mapping[str, str]] = {
    "_lifecycle/InstallChaincode": ADMINS,
    "_lifecycle/QueryInstalledChaincode": ADMINS,
    "_lifecycle/GetInstalledChaincodePackage": ADMINS,
    "_lifecycle/QueryInstalledChaincodes": ADMINS,
    "_lifecycle/ApproveChaincodeDefinitionForMyOrg": ADMINS,
    "_lifecycle/QueryApprovedChaincodeDefinition": ADMINS,
    "_lifecycle/QueryApprovedChaincodeDefinitions": ADMINS,
    "cscc/JoinChain": ADMINS,
    "cscc/JoinChainBySnapshot": ADMINS,
    "cscc/JoinBySnapshotStatus": ADMINS,
    "cscc/GetChannels": MEMBERS,
}
_CHANNEL: Final[Mapping[str, str]] = {
    "_lifecycle/CommitChaincodeDefinition": WRITERS,
    "_lifecycle/QueryChaincodeDefinition": WRITERS,
    "_lifecycle/QueryChaincodeDefinitions": WRITERS,
    "_lifecycle/CheckCommitReadiness": WRITERS,
    "qscc/GetChainInfo": READERS,
    "qscc/GetBlockByNumber": READERS,
    "qscc/GetBlockByHash": READERS,
    "qscc/GetTransactionByID": READERS,
    "qscc/GetBlockByTxID": READERS,
    "cscc/GetConfigBlock": READERS,
    "cscc/GetChannelConfig": READERS,
    PROPOSE: WRITERS,
    CHAINCODE_TO_CHAINCODE: WRITERS,
}
_ROLES: Final = {ADMINS: "admin", MEMBERS: "member"}


class AccessControl:
    """The access rules of one channel; local-MSP rules take the organisation of the peer that was asked."""

    def __init__(self, channel: str, policies: PolicyManager, msps: MspManager) -> None:
        self._channel = channel
        self._policies = policies
        self._msps = msps

    def check(self, resource: str, signed: SignedData, channel: str, msp_id: str) -> None:
        """Let pass what `signed` may do with `resource` on `channel` at a peer of `msp_id`; else raise AccessError.

        Resources of the peer itself (installing, approving) ask the peer's own MSP, whatever the channel; so does
        every resource when `channel` is empty.
        """
        policy = _LOCAL.get(resource)
        if policy is not None:
            self._check_local(policy, signed, msp_id)
            return
        policy = _CHANNEL.get(resource)
        if policy is None:
            raise AccessError(f"Unmapped policy for {resource}")
        if not channel:
            self._check_local(policy, signed, msp_id)
            return
        check_policy(self._policies, self._channel, channel, policy, signed)

    def _check_local(self, policy: str, signed: SignedData, msp_id: str) -> None:
        during = f"during channelless check policy with policy [{policy}]"
        try:
            identity = self._msps.identity(signed.identity_bytes)
            if identity.msp_id != msp_id:
                raise IdentityError(f"expected MSP ID {msp_id}, received {identity.msp_id}")
        except IdentityError as error:
            raise AccessError(f"Failed deserializing proposal creator {during}: [{error}]") from error
        role = _ROLES.get(policy)
        if role is None:
            raise AccessError(
                f"Failed getting local MSP principal {during}: [MSP Principal role [{policy}] not recognized]"
            )
        if not identity.has_role(msp_id, role):
            # A valid identity is a member, so it can only be the administrator's role that is missing.
            raise AccessError(
                f"Failed verifying that proposal's creator satisfies local MSP principal {during}: "
                f"[The identity is not an admin under this MSP [{msp_id}]: "
                f"The identity does not contain OU [ADMIN], MSP: [{msp_id}]]"
            )
        if not self._msps.verify(identity, signed.message, signed.signature):
            raise AccessError("The signature is invalid")
