"""The system chaincode `_lifecycle`: approvals, commits and the questions about them.

Reads, writes and texts are those of core/chaincode/lifecycle/{scc,lifecycle}.go, so a real peer makes the same
transactions. Packages do not exist here: a package id is registered by the topology (host.py), and installing one is
refused by name.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fabric_protos.common import policies_pb2
from fabric_protos.msp import msp_principal_pb2
from fabric_protos.peer import collection_pb2
from fabric_protos.peer.lifecycle import db_pb2, lifecycle_pb2
from google.protobuf.message import Message

from network.embedded.lifecycle import (
    NAMESPACE,
    NAMESPACES,
    NO_PACKAGES,
    SOURCES,
    Definition,
    InstalledPackage,
    LifecycleError,
    LifecycleState,
    definition,
    field_key,
    implicit_collection,
    metadata_key,
    parse,
    sequence,
    state_data,
)
from network.embedded.serializer import (
    Place,
    Proposed,
    Structure,
    from_request,
    mismatches_of,
    read_metadata,
    stored_definition,
    stored_parameters,
    write,
)

_SYSTEM_NAMES = frozenset({"cscc", "escc", "lscc", "qscc", "vscc"})
_NAME = re.compile(r"[a-zA-Z0-9]+([-_][a-zA-Z0-9]+)*")
_VERSION = re.compile(r"[A-Za-z0-9_.+-]+")
# The same names as Fabric's expression, which would backtrack without end in this engine.
_COLLECTION_NAME = re.compile(r"[A-Za-z0-9-][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The functions of `_lifecycle` on one channel.

    `msp_ids` are the application organisations in the order of the configuration; `is_identity` answers whether bytes
    are a serialised identity of the channel.
    """

    channel: str
    msp_ids: Sequence[str]
    is_identity: Callable[[bytes], bool]

    def invoke(
        self,
        function: str,
        argument: bytes,
        state: LifecycleState | None,
        msp_id: str,
        packages: Sequence[InstalledPackage],
    ) -> bytes:
        """Run one function for the peer of `msp_id` and answer the serialised result message.

        `state` is the transaction's simulator, None for a call without channel.

        Raises NotDefined (status 404) or LifecycleError (500), the text without Fabric's outer wording
        (`failed to invoke backing implementation of ...`, which the caller adds).
        """
        entry = _FUNCTIONS.get(function)
        if entry is None:
            raise LifecycleError(f"receiver *lifecycle.Invocation.{function} does not exist")
        kind, run = entry
        args = parse(kind, argument, f"could not decode input arg for *lifecycle.Invocation.{function}")
        result = run(_Call(self, state, msp_id, packages), args)
        # Maps in the results would otherwise come out in any order, and endorsers would disagree.
        return result.SerializeToString(deterministic=True)

    def validate(self, name: str, version: str, package: collection_pb2.CollectionConfigPackage) -> None:
        """Check the name, version and collections of a definition; raises LifecycleError with Fabric's text."""
        if not _NAME.fullmatch(name):
            raise LifecycleError(
                f"invalid chaincode name '{name}'. Names can only consist of alphanumerics, '_', and '-' "
                "and can only begin with alphanumerics"
            )
        if name in _SYSTEM_NAMES:
            raise LifecycleError(f"chaincode name '{name}' is the name of a system chaincode")
        if not _VERSION.fullmatch(version):
            raise LifecycleError(
                f"invalid chaincode version '{version}'. Versions can only consist of alphanumerics, "
                "'_', '-', '+', and '.'"
            )
        seen: set[str] = set()
        for entry in package.config:
            if not entry.HasField("static_collection_config"):
                raise LifecycleError("collection config contains unexpected payload type: <nil>")
        for entry in package.config:
            self._validate_collection(entry.static_collection_config, seen)

    def _validate_collection(self, config: collection_pb2.StaticCollectionConfig, seen: set[str]) -> None:
        name = config.name
        if not _COLLECTION_NAME.fullmatch(name):
            raise LifecycleError(
                f"invalid collection name '{name}'. Names can only consist of alphanumerics, '_', and '-' "
                "and cannot begin with '_'"
            )
        if name in seen:
            raise LifecycleError(f"collection-name: {name} -- found duplicate in collection configuration")
        seen.add(name)
        if config.maximum_peer_count < config.required_peer_count:
            raise LifecycleError(
                f"collection-name: {name} -- maximum peer count ({config.maximum_peer_count}) cannot be less than "
                f"the required peer count ({config.required_peer_count})"
            )
        if config.required_peer_count < 0:
            raise LifecycleError(
                f"collection-name: {name} -- requiredPeerCount ({config.required_peer_count}) cannot be less than zero"
            )
        if not config.HasField("member_orgs_policy"):
            raise LifecycleError(f"collection member policy is not set for collection '{name}'")
        if not config.member_orgs_policy.HasField("signature_policy"):
            raise LifecycleError(f"collection member org policy is empty for collection '{name}'")
        policy = config.member_orgs_policy.signature_policy
        problem = _policy_problem(policy.rule, len(policy.identities))
        if policy.version != 0:
            problem = f"This evaluator only understands messages of version 0, but version was {policy.version}"
        if problem is not None:
            raise LifecycleError(f"invalid member org policy for collection '{name}': {problem}")
        _only_alternatives(policy.rule, name)
        for principal in policy.identities:
            self._validate_member(principal, name)

    def _validate_member(self, principal: msp_principal_pb2.MSPPrincipal, name: str) -> None:
        kind = principal.principal_classification
        if kind == msp_principal_pb2.MSPPrincipal.IDENTITY:
            if not self.is_identity(principal.principal):
                raise LifecycleError(f"collection-name: {name} -- contains an identity that is not part of the channel")
            return
        if kind == msp_principal_pb2.MSPPrincipal.ROLE:
            problem = f"collection-name: {name} -- cannot unmarshal identity bytes into MSPRole"
            msp_id = parse(msp_principal_pb2.MSPRole, principal.principal, problem).msp_identifier
        elif kind == msp_principal_pb2.MSPPrincipal.ORGANIZATION_UNIT:
            problem = f"collection-name: {name} -- cannot unmarshal identity bytes into OrganizationUnit"
            msp_id = parse(msp_principal_pb2.OrganizationUnit, principal.principal, problem).msp_identifier
        else:
            label = msp_principal_pb2.MSPPrincipal.Classification.Name(kind)
            raise LifecycleError(f"collection-name: {name} -- principal type {label} is not supported")
        if msp_id not in self.msp_ids:
            raise LifecycleError(f"collection-name: {name} -- collection member '{msp_id}' is not part of the channel")


def _policy_problem(rule: policies_pb2.SignaturePolicy, identities: int) -> str | None:
    """Why a rule cannot be compiled (common/cauthdsl), None when it can."""
    kind = rule.WhichOneof("Type")
    if kind is None:
        return "Unknown type: <nil>:<nil>"
    if kind == "signed_by":
        if 0 <= rule.signed_by < identities:
            return None
        return f"identity index out of range, requested {rule.signed_by}, but identities length is {identities}"
    problems = (_policy_problem(each, identities) for each in rule.n_out_of.rules)
    return next((problem for problem in problems if problem is not None), None)


def _only_alternatives(rule: policies_pb2.SignaturePolicy, name: str) -> None:
    if rule.WhichOneof("Type") != "n_out_of":
        return
    if rule.n_out_of.n != 1:
        raise LifecycleError(
            f"collection-name: {name} -- error in member org policy: "
            f"signature policy is not an OR concatenation, NOutOf {rule.n_out_of.n}"
        )
    for each in rule.n_out_of.rules:
        _only_alternatives(each, name)


@dataclass(frozen=True, slots=True)
class _Call:
    """One invocation: the functions of scc.go, each from its argument message to its result message."""

    lifecycle: Lifecycle
    _state: LifecycleState | None
    msp_id: str
    packages: Sequence[InstalledPackage]

    @property
    def state(self) -> LifecycleState:
        if self._state is None:
            raise LifecycleError("could not get channelconfig for channel ''")
        return self._state

    def _public(self) -> Place:
        return Place(self.state)

    def _own(self) -> Place:
        return Place(self.state, implicit_collection(self.msp_id))

    def _sequence(self, name: str) -> int:
        try:
            return sequence(self.state.get_state, name)
        except LifecycleError as error:
            raise LifecycleError(f"could not get current sequence: {error}") from error

    def _check_input(
        self,
        args: lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs | lifecycle_pb2.CommitChaincodeDefinitionArgs,
    ) -> None:
        try:
            self.lifecycle.validate(args.name, args.version, args.collections)
            _only_builtin("endorsement", args.endorsement_plugin, "escc")
            _only_builtin("validation", args.validation_plugin, "vscc")
            committed = definition(self.state.get_state, args.name)
            if committed is None:
                # Fabric falls back to the legacy definition here; the read is part of the transaction.
                self.state.get_state("lscc", args.name)
                return
            _keeps_collections(args.collections, committed)
        except LifecycleError as error:
            raise LifecycleError(f"error validating chaincode definition: {error}") from error

    def approve(self, args: lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs) -> Message:
        self._check_input(args)
        current, requested = self._sequence(args.name), args.sequence
        if requested == 0 and current == 0:
            raise LifecycleError("requested sequence is 0, but first definable sequence number is 1")
        if requested < current:
            raise LifecycleError(f"currently defined sequence {current} is larger than requested sequence {requested}")
        if requested > current + 1:
            raise LifecycleError(
                f"requested sequence {requested} is larger than the next available sequence number {current + 1}"
            )
        proposed = from_request(args)
        package_id = args.source.local_package.package_id
        private_name = f"{args.name}#{requested}"
        if requested == current:
            committed = stored_definition(self._public(), args.name)
            difference = committed.difference(proposed)
            if difference is not None:
                raise LifecycleError(
                    f"attempted to redefine the current committed sequence ({current}) for namespace {args.name} "
                    f"with different parameters: {difference}"
                )
        if self._is_repeated(private_name, proposed, package_id):
            raise LifecycleError(
                f"attempted to redefine the current committed sequence ({current}) for namespace {args.name}"
                if requested == current
                else f"attempted to redefine uncommitted sequence ({requested}) for namespace {args.name} "
                "with unchanged content"
            )
        write(self._own(), NAMESPACES, private_name, proposed.parameters())
        source = db_pb2.StateData(String=package_id).SerializeToString()
        write(self._own(), SOURCES, private_name, Structure("ChaincodeLocalPackage", {"PackageID": source}))
        return lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgResult()

    def _is_repeated(self, private_name: str, proposed: Proposed, package_id: str) -> bool:
        own = self._own()
        if read_metadata(own, NAMESPACES, private_name) is None:
            return False
        if stored_parameters(own, private_name).difference(proposed) is not None:
            return False
        return read_metadata(own, SOURCES, private_name) is not None and self._source(private_name) == package_id

    def _source(self, private_name: str) -> str:
        key = field_key(private_name, "PackageID", SOURCES)
        return state_data(self._own().get(key), key).String

    def check_readiness(self, args: lifecycle_pb2.CheckCommitReadinessArgs) -> Message:
        approvals, mismatches = self._readiness(args)
        return lifecycle_pb2.CheckCommitReadinessResult(
            approvals=approvals,
            mismatches={
                msp_id: lifecycle_pb2.CheckCommitReadinessResult.Mismatches(items=items)
                for msp_id, items in mismatches.items()
            },
        )

    def _readiness(
        self, args: lifecycle_pb2.CheckCommitReadinessArgs | lifecycle_pb2.CommitChaincodeDefinitionArgs
    ) -> tuple[dict[str, bool], dict[str, list[str]]]:
        current = self._sequence(args.name)
        if args.sequence != current + 1:
            raise LifecycleError(
                f"requested sequence is {args.sequence}, but new definition must be sequence {current + 1}"
            )
        return self._approvals(args.name, from_request(args))

    def _approvals(self, name: str, proposed: Proposed) -> tuple[dict[str, bool], dict[str, list[str]]]:
        private_name = f"{name}#{proposed.sequence}"
        approvals: dict[str, bool] = {}
        mismatches: dict[str, list[str]] = {}
        for msp_id in self.lifecycle.msp_ids:
            collection = implicit_collection(msp_id)

            def hash_of(key: str, collection: str = collection) -> bytes | None:
                return self.state.get_private_hash(NAMESPACE, collection, key)

            items = mismatches_of(hash_of, private_name, proposed.parameters())
            approvals[msp_id] = not items
            if items:
                mismatches[msp_id] = items
        return approvals, mismatches

    def commit(self, args: lifecycle_pb2.CommitChaincodeDefinitionArgs) -> Message:
        self._check_input(args)
        approvals, _ = self._readiness(args)
        write(self._public(), NAMESPACES, args.name, from_request(args).definition())
        if not approvals.get(self.msp_id):
            raise LifecycleError(f"chaincode definition not agreed to by this org ({self.msp_id})")
        return lifecycle_pb2.CommitChaincodeDefinitionResult()

    def query_definition(self, args: lifecycle_pb2.QueryChaincodeDefinitionArgs) -> Message:
        stored = stored_definition(self._public(), args.name)
        approvals, _ = self._approvals(args.name, stored)
        return lifecycle_pb2.QueryChaincodeDefinitionResult(
            sequence=stored.sequence,
            version=stored.endorsement.version,
            endorsement_plugin=stored.endorsement.endorsement_plugin,
            validation_plugin=stored.validation.validation_plugin,
            validation_parameter=stored.validation.validation_parameter,
            init_required=stored.endorsement.init_required,
            collections=stored.collections,
            approvals=approvals,
        )

    def query_definitions(self, _args: lifecycle_pb2.QueryChaincodeDefinitionsArgs) -> Message:
        result = lifecycle_pb2.QueryChaincodeDefinitionsResult()
        for name, data in self._public().names(NAMESPACES).items():
            problem = f"error unmarshalling metadata for key {metadata_key(name)}"
            if parse(db_pb2.StateMetadata, data, problem).datatype != "ChaincodeDefinition":
                continue
            stored = stored_definition(self._public(), name)
            result.chaincode_definitions.add(
                name=name,
                sequence=stored.sequence,
                version=stored.endorsement.version,
                endorsement_plugin=stored.endorsement.endorsement_plugin,
                validation_plugin=stored.validation.validation_plugin,
                validation_parameter=stored.validation.validation_parameter,
                init_required=stored.endorsement.init_required,
                collections=stored.collections,
            )
        return result

    def query_approved(self, args: lifecycle_pb2.QueryApprovedChaincodeDefinitionArgs) -> Message:
        number = args.sequence
        if number == 0:
            number = self._sequence(args.name)
            if read_metadata(self._own(), NAMESPACES, f"{args.name}#{number + 1}") is not None:
                number += 1
        private_name = f"{args.name}#{number}"
        metadata = read_metadata(self._own(), NAMESPACES, private_name)
        if metadata is None:
            raise LifecycleError(
                f"could not fetch approved chaincode definition (name: '{args.name}', sequence: '{number}') "
                f"on channel '{self.lifecycle.channel}'"
            )
        stored, source = self._approved(private_name, metadata)
        return lifecycle_pb2.QueryApprovedChaincodeDefinitionResult(
            sequence=number,
            version=stored.endorsement.version,
            endorsement_plugin=stored.endorsement.endorsement_plugin,
            validation_plugin=stored.validation.validation_plugin,
            validation_parameter=stored.validation.validation_parameter,
            init_required=stored.endorsement.init_required,
            collections=stored.collections,
            source=source,
        )

    def _approved(
        self, private_name: str, metadata: db_pb2.StateMetadata
    ) -> tuple[Proposed, lifecycle_pb2.ChaincodeSource]:
        if metadata.datatype != "ChaincodeParameters":
            raise LifecycleError(f"not a chaincode parameters type: {metadata.datatype}")
        stored = stored_parameters(self._own(), private_name)
        if read_metadata(self._own(), SOURCES, private_name) is None:
            raise LifecycleError(f"could not fetch chaincode-source metadata for {private_name}")
        package_id = self._source(private_name)
        if package_id:
            return stored, lifecycle_pb2.ChaincodeSource(
                local_package=lifecycle_pb2.ChaincodeSource.Local(package_id=package_id)
            )
        return stored, lifecycle_pb2.ChaincodeSource(unavailable=lifecycle_pb2.ChaincodeSource.Unavailable())

    def query_all_approved(self, _args: lifecycle_pb2.QueryApprovedChaincodeDefinitionsArgs) -> Message:
        result = lifecycle_pb2.QueryApprovedChaincodeDefinitionsResult()
        for private_name, data in self._own().names(NAMESPACES).items():
            name, _, number = private_name.partition("#")
            problem = f"error unmarshalling metadata for key {metadata_key(private_name)}"
            stored, source = self._approved(private_name, parse(db_pb2.StateMetadata, data, problem))
            result.approved_chaincode_definitions.add(
                name=name,
                sequence=int(number),
                version=stored.endorsement.version,
                endorsement_plugin=stored.endorsement.endorsement_plugin,
                validation_plugin=stored.validation.validation_plugin,
                validation_parameter=stored.validation.validation_parameter,
                init_required=stored.endorsement.init_required,
                collections=stored.collections,
                source=source,
            )
        return result

    def query_installed(self, args: lifecycle_pb2.QueryInstalledChaincodeArgs) -> Message:
        for package in self.packages:
            if package.package_id == args.package_id:
                return lifecycle_pb2.QueryInstalledChaincodeResult(package_id=package.package_id, label=package.label)
        raise LifecycleError(f"could not find chaincode with package id '{args.package_id}'")

    def query_all_installed(self, _args: lifecycle_pb2.QueryInstalledChaincodesArgs) -> Message:
        result = lifecycle_pb2.QueryInstalledChaincodesResult()
        for package in self.packages:
            result.installed_chaincodes.add(package_id=package.package_id, label=package.label)
        return result

    def refuse_package(self, _args: Message) -> Message:
        raise LifecycleError(NO_PACKAGES)


def _only_builtin(what: str, plugin: str, builtin: str) -> None:
    # Fabric takes any name and fails every later transaction on a peer without such a plugin; here none ever has one.
    if plugin not in ("", builtin):
        raise LifecycleError(f"embedded network: the {what} plugin '{plugin}' is not supported")


def _keeps_collections(proposed: collection_pb2.CollectionConfigPackage, committed: Definition) -> None:
    if not committed.collections:
        return
    if not proposed.config:
        raise LifecycleError("the proposed collection config does not contain previously defined collections")
    offered = {each.static_collection_config.name: each.static_collection_config for each in proposed.config}
    for name, config in committed.collections.items():
        if name not in offered:
            raise LifecycleError(f"existing collection [{name}] missing in the proposed collection configuration")
        if offered[name].block_to_live != config.block_to_live:
            raise LifecycleError(
                f"the BlockToLive in an existing collection [{name}] modified. Existing value [{config.block_to_live}]"
            )


_FUNCTIONS: Mapping[str, tuple[type[Message], Callable[..., Message]]] = {
    "InstallChaincode": (lifecycle_pb2.InstallChaincodeArgs, _Call.refuse_package),
    "GetInstalledChaincodePackage": (lifecycle_pb2.GetInstalledChaincodePackageArgs, _Call.refuse_package),
    "QueryInstalledChaincode": (lifecycle_pb2.QueryInstalledChaincodeArgs, _Call.query_installed),
    "QueryInstalledChaincodes": (lifecycle_pb2.QueryInstalledChaincodesArgs, _Call.query_all_installed),
    "ApproveChaincodeDefinitionForMyOrg": (
        lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs,
        _Call.approve,
    ),
    "QueryApprovedChaincodeDefinition": (
        lifecycle_pb2.QueryApprovedChaincodeDefinitionArgs,
        _Call.query_approved,
    ),
    "QueryApprovedChaincodeDefinitions": (
        lifecycle_pb2.QueryApprovedChaincodeDefinitionsArgs,
        _Call.query_all_approved,
    ),
    "CheckCommitReadiness": (lifecycle_pb2.CheckCommitReadinessArgs, _Call.check_readiness),
    "CommitChaincodeDefinition": (lifecycle_pb2.CommitChaincodeDefinitionArgs, _Call.commit),
    "QueryChaincodeDefinition": (lifecycle_pb2.QueryChaincodeDefinitionArgs, _Call.query_definition),
    "QueryChaincodeDefinitions": (lifecycle_pb2.QueryChaincodeDefinitionsArgs, _Call.query_definitions),
}
