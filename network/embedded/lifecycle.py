"""Chaincode definitions as they lie in the ledger, and what follows from them for collections.

The ledger keys, the reads and the texts are Fabric's (core/chaincode/lifecycle: serializer.go, lifecycle.go, scc.go,
deployedcc_infoprovider.go), so a real peer accepts the same transactions. Packages do not exist here: a package id is
registered by the topology (host.py), and installing one is refused by name.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, TypeVar

from fabric_protos.common import policies_pb2
from fabric_protos.msp import msp_principal_pb2
from fabric_protos.peer import collection_pb2, policy_pb2
from fabric_protos.peer.lifecycle import chaincode_definition_pb2, db_pb2
from google.protobuf.message import DecodeError, Message

NAMESPACE = "_lifecycle"
ENDORSEMENT_REFERENCE = "/Channel/Application/Endorsement"
LIFECYCLE_ENDORSEMENT_REFERENCE = "/Channel/Application/LifecycleEndorsement"
NO_PACKAGES = "embedded network: chaincode packages are not supported"
WIRE_FORMAT = "proto: cannot parse invalid wire-format data"

NAMESPACES = "namespaces"
SOURCES = "chaincode-sources"
_IMPLICIT = "_implicit_org_"
_DEFINITION_FIELDS = ("Sequence", "EndorsementInfo", "ValidationInfo", "Collections")

GetState = Callable[[str, str], bytes | None]
M = TypeVar("M", bound=Message)


class LifecycleError(Exception):
    """A refusal of `_lifecycle`; the text is Fabric's."""


class NotDefined(LifecycleError):
    """The namespace asked for has no committed definition (status 404 on the wire)."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A committed chaincode definition.

    `validation_parameter` is a serialised ApplicationPolicy, `collections` maps the name of each explicit collection
    to its StaticCollectionConfig in the order of the definition (implicit collections are not listed, see
    `collection_config`).
    """

    name: str
    version: str
    sequence: int
    validation_parameter: bytes
    collections: Mapping[str, collection_pb2.StaticCollectionConfig] = field(default_factory=dict)
    init_required: bool = False
    endorsement_plugin: str = "escc"
    validation_plugin: str = "vscc"


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """A package id that an organisation's peers can run, with the label shown by QueryInstalledChaincodes."""

    package_id: str
    label: str


class LifecycleState(Protocol):
    """What `_lifecycle` needs of a simulator (network.embedded.simulator.Simulator has it)."""

    def get_state(self, namespace: str, key: str) -> bytes | None: ...
    def set_state(self, namespace: str, key: str, value: bytes) -> None: ...
    def delete_state(self, namespace: str, key: str) -> None: ...
    def range(self, namespace: str, start: str, end: str) -> Iterable[tuple[str, bytes]]: ...
    def get_private(self, namespace: str, collection: str, key: str) -> bytes | None: ...
    def get_private_hash(self, namespace: str, collection: str, key: str) -> bytes | None: ...
    def set_private(self, namespace: str, collection: str, key: str, value: bytes) -> None: ...
    def delete_private(self, namespace: str, collection: str, key: str) -> None: ...
    def private_range(self, namespace: str, collection: str, start: str, end: str) -> Iterable[tuple[str, bytes]]: ...


def field_key(name: str, field_name: str, section: str = NAMESPACES) -> str:
    """The key of one field of a definition, for example `namespaces/fields/trade/Sequence`."""
    return f"{section}/fields/{name}/{field_name}"


def metadata_key(name: str, section: str = NAMESPACES) -> str:
    """The key that lists the fields of a definition, for example `namespaces/metadata/trade`."""
    return f"{section}/metadata/{name}"


def implicit_collection(msp_id: str) -> str:
    """The name of an organisation's implicit collection."""
    return _IMPLICIT + msp_id


def implicit_owner(collection: str) -> str | None:
    """The MSP id that owns an implicit collection; None when the name is not one of an implicit collection."""
    return collection.removeprefix(_IMPLICIT) if collection.startswith(_IMPLICIT) else None


def sequence(get_state: GetState, name: str) -> int:
    """The committed sequence of a chaincode, 0 when there is none; reads the one key that every call reads."""
    return int_field(get_state(NAMESPACE, field_key(name, "Sequence")), name, "Sequence")


def definition(get_state: GetState, name: str) -> Definition | None:
    """The committed definition of chaincode `name`, None when there is none.

    `get_state(namespace, key)` answers committed state; called with a simulator's method the reads become part of the
    transaction, as they are in Fabric when a collection is looked up (five keys). `_lifecycle` itself is defined
    without a read. Raises LifecycleError when the stored bytes are not a chaincode definition.
    """
    if name == NAMESPACE:
        return _LIFECYCLE
    metadata = get_state(NAMESPACE, metadata_key(name))
    if metadata is None:
        return None
    return _decode(name, metadata, *(get_state(NAMESPACE, field_key(name, each)) for each in _DEFINITION_FIELDS))


def collection_config(of: Definition, collection: str) -> collection_pb2.StaticCollectionConfig | None:
    """The configuration of an explicit or implicit collection, None when the definition has no such collection."""
    owner = implicit_owner(collection)
    return of.collections.get(collection) if owner is None else _implicit_config(owner)


def collection_policy(of: Definition, collection: str, groups: Mapping[str, str]) -> bytes:
    """The serialised ApplicationPolicy that judges writes to a collection (CollectionValidationInfo).

    `groups` maps an MSP id to the name of its group in the channel configuration. An implicit collection asks its
    owner's Endorsement policy, an explicit one its own policy or else the chaincode's. Raises LifecycleError for an
    unknown collection or owner.
    """
    owner = implicit_owner(collection)
    if owner is not None:
        if owner not in groups:
            raise LifecycleError(f"no org found in channel with MSPID '{owner}'")
        return reference(f"/Channel/Application/{groups[owner]}/Endorsement")
    config = of.collections.get(collection)
    if config is None:
        raise LifecycleError(f"no such collection '{collection}'")
    return (
        config.endorsement_policy.SerializeToString()
        if config.HasField("endorsement_policy")
        else (of.validation_parameter)
    )


def reference(path: str) -> bytes:
    """The serialised ApplicationPolicy that refers to a policy of the channel configuration."""
    return policy_pb2.ApplicationPolicy(channel_config_policy_reference=path).SerializeToString()


@lru_cache(maxsize=64)
def _implicit_config(msp_id: str) -> collection_pb2.StaticCollectionConfig:
    role = msp_principal_pb2.MSPRole(msp_identifier=msp_id, role=msp_principal_pb2.MSPRole.MEMBER)
    principal = msp_principal_pb2.MSPPrincipal(principal=role.SerializeToString())
    rule = policies_pb2.SignaturePolicy(
        n_out_of=policies_pb2.SignaturePolicy.NOutOf(n=1, rules=[policies_pb2.SignaturePolicy(signed_by=0)])
    )
    member = policies_pb2.SignaturePolicyEnvelope(rule=rule, identities=[principal])
    return collection_pb2.StaticCollectionConfig(
        name=implicit_collection(msp_id),
        member_orgs_policy=collection_pb2.CollectionPolicyConfig(signature_policy=member),
    )


# Definitions are few and asked for with every transaction; equal stored bytes decode to one object.
@lru_cache(maxsize=512)
def _decode(
    name: str,
    metadata: bytes,
    number: bytes | None,
    endorsement: bytes | None,
    validation: bytes | None,
    collections: bytes | None,
) -> Definition:
    stored = parse(db_pb2.StateMetadata, metadata, f"could not unmarshal metadata for namespace namespaces/{name}")
    if stored.datatype != "ChaincodeDefinition":
        raise LifecycleError(f"not a chaincode type: {stored.datatype}")
    info = message_field(chaincode_definition_pb2.ChaincodeEndorsementInfo, endorsement, name, "EndorsementInfo")
    rules = message_field(chaincode_definition_pb2.ChaincodeValidationInfo, validation, name, "ValidationInfo")
    package = message_field(collection_pb2.CollectionConfigPackage, collections, name, "Collections")
    statics = [each.static_collection_config for each in package.config if each.HasField("static_collection_config")]
    return Definition(
        name=name,
        version=info.version,
        sequence=int_field(number, name, "Sequence"),
        validation_parameter=rules.validation_parameter,
        collections={each.name: each for each in statics},
        init_required=info.init_required,
        endorsement_plugin=info.endorsement_plugin,
        validation_plugin=rules.validation_plugin,
    )


_LIFECYCLE = Definition(NAMESPACE, "syscc", 1, reference(LIFECYCLE_ENDORSEMENT_REFERENCE))


def parse(kind: type[M], data: bytes, problem: str) -> M:
    """The message in `data`; raises LifecycleError with `problem` in front when there is none."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise LifecycleError(f"{problem}: {WIRE_FORMAT}") from error


def state_data(data: bytes | None, key: str) -> db_pb2.StateData:
    """The StateData stored under `key`, empty when absent."""
    return parse(db_pb2.StateData, data or b"", f"could not unmarshal state for key {key}")


def int_field(data: bytes | None, name: str, field_name: str) -> int:
    """A number stored as a field of definition `name`, 0 when absent."""
    stored = state_data(data, field_key(name, field_name))
    if stored.WhichOneof("Type") not in (None, "Int64"):
        kind = stored.WhichOneof("Type")
        raise LifecycleError(
            f"expected key {NAMESPACES}/fields/{name}/{field_name} to encode a value of type Int64, "
            f"but was *lifecycle.StateData_{kind}"
        )
    return stored.Int64


def _bytes_field(data: bytes | None, key: str) -> bytes:
    stored = state_data(data, key)
    if stored.WhichOneof("Type") not in (None, "Bytes"):
        kind = stored.WhichOneof("Type")
        raise LifecycleError(
            f"expected key {key} to encode a value of type []byte, but was *lifecycle.StateData_{kind}"
        )
    return stored.Bytes


def message_field(kind: type[M], data: bytes | None, name: str, field_name: str) -> M:
    """A message stored as a field of definition `name`, empty when absent."""
    key = field_key(name, field_name)
    return parse(kind, _bytes_field(data, key), f"could not unmarshal key {key} to *{kind.DESCRIPTOR.name}")
