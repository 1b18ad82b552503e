"""The stored form of chaincode definitions: one metadata key and one key per field, public or in a private collection.

Only what changed is written, and an organisation's approval is compared by hashes alone, as every peer can see them.
Source: core/chaincode/lifecycle/serializer.go and the structures of lifecycle.go.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fabric_protos.peer import collection_pb2
from fabric_protos.peer.lifecycle import chaincode_definition_pb2, db_pb2, lifecycle_pb2

from network.embedded.lifecycle import (
    ENDORSEMENT_REFERENCE,
    NAMESPACE,
    NAMESPACES,
    SOURCES,
    Definition,
    LifecycleError,
    LifecycleState,
    NotDefined,
    field_key,
    implicit_collection,
    int_field,
    message_field,
    metadata_key,
    parse,
    reference,
)

_PARAMETER_FIELDS = ("EndorsementInfo", "ValidationInfo", "Collections")


@dataclass(frozen=True, slots=True)
class Place:
    """Where structures are kept: the public state, or one organisation's implicit collection."""

    state: LifecycleState
    collection: str = ""

    def get(self, key: str) -> bytes | None:
        """The committed value, None when absent."""
        if self.collection:
            return self.state.get_private(NAMESPACE, self.collection, key) or None
        return self.state.get_state(NAMESPACE, key) or None

    def put(self, key: str, value: bytes) -> None:
        """Write a key."""
        if self.collection:
            self.state.set_private(NAMESPACE, self.collection, key, value)
        else:
            self.state.set_state(NAMESPACE, key, value)

    def delete(self, key: str) -> None:
        """Delete a key."""
        if self.collection:
            self.state.delete_private(NAMESPACE, self.collection, key)
        else:
            self.state.delete_state(NAMESPACE, key)

    def names(self, section: str) -> dict[str, bytes]:
        """The stored metadata by name, sorted."""
        prefix = f"{section}/metadata/"
        end = prefix + "\x7f"
        rows = (
            self.state.private_range(NAMESPACE, self.collection, prefix, end)
            if self.collection
            else self.state.range(NAMESPACE, prefix, end)
        )
        return {key.removeprefix(prefix): value for key, value in rows}


@dataclass(frozen=True, slots=True)
class Structure:
    """A Go structure as the serializer sees it: its type's name and each field as a serialised StateData."""

    type_name: str
    fields: Mapping[str, bytes]

    def metadata(self) -> bytes:
        """The StateMetadata that is stored beside the fields."""
        return db_pb2.StateMetadata(datatype=self.type_name, fields=list(self.fields)).SerializeToString()


def read_metadata(place: Place, section: str, name: str) -> db_pb2.StateMetadata | None:
    """The stored StateMetadata of a structure, None when there is none; raises LifecycleError when unreadable."""
    data = place.get(metadata_key(name, section))
    if data is None:
        return None
    return parse(db_pb2.StateMetadata, data, f"could not unmarshal metadata for namespace {section}/{name}")


def write(place: Place, section: str, name: str, structure: Structure) -> None:
    """Store a structure: only changed fields are written, the metadata only when the shape changes."""
    metadata = read_metadata(place, section, name) or db_pb2.StateMetadata()
    existing = {key: place.get(key) for key in (field_key(name, each, section) for each in metadata.fields)}
    for field_name, data in structure.fields.items():
        key = field_key(name, field_name, section)
        if existing.pop(key, None) != data:
            place.put(key, data)
    if existing or metadata.datatype != structure.type_name or len(metadata.fields) != len(structure.fields):
        place.put(metadata_key(name, section), structure.metadata())
    for key in existing:
        place.delete(key)


def mismatches_of(hash_of: Callable[[str], bytes | None], name: str, structure: Structure) -> list[str]:
    """What differs between a structure and the hashes an organisation stored for it; empty when they agree."""
    keys = {each: field_key(name, each) for each in structure.fields}
    hashes = {each: hash_of(key) for each, key in keys.items()}
    if hash_of(metadata_key(name)) != hashlib.sha256(structure.metadata()).digest():
        return [structure.type_name]
    return [each for each, data in structure.fields.items() if hashes[each] != hashlib.sha256(data).digest()]


@dataclass(frozen=True, slots=True)
class Proposed:
    """A definition named by a request, with Fabric's defaults filled in (SetChaincodeDefinitionDefaults)."""

    sequence: int
    endorsement: chaincode_definition_pb2.ChaincodeEndorsementInfo
    validation: chaincode_definition_pb2.ChaincodeValidationInfo
    collections: collection_pb2.CollectionConfigPackage

    def parameters(self) -> Structure:
        """What an organisation stores when it approves."""
        parts = (self.endorsement, self.validation, self.collections)
        encoded = [db_pb2.StateData(Bytes=part.SerializeToString()).SerializeToString() for part in parts]
        return Structure("ChaincodeParameters", dict(zip(_PARAMETER_FIELDS, encoded, strict=True)))

    def definition(self) -> Structure:
        """What becomes public when the definition is committed."""
        number = db_pb2.StateData(Int64=self.sequence).SerializeToString()
        return Structure("ChaincodeDefinition", {"Sequence": number, **self.parameters().fields})

    def difference(self, other: "Proposed") -> str | None:
        """Why two sets of parameters are unequal, in the words of ChaincodeParameters.Equal; None when equal."""
        mine, theirs = self.endorsement, other.endorsement
        rules, others = self.validation, other.validation
        pairs: tuple[tuple[str, object, object], ...] = (
            ("Version", mine.version, theirs.version),
            ("EndorsementPlugin", mine.endorsement_plugin, theirs.endorsement_plugin),
            ("InitRequired", _go_bool(mine.init_required), _go_bool(theirs.init_required)),
            ("ValidationPlugin", rules.validation_plugin, others.validation_plugin),
            ("ValidationParameter", rules.validation_parameter.hex(), others.validation_parameter.hex()),
        )
        for what, expected, passed in pairs:
            if expected != passed:
                return f"expected {what} '{expected}' does not match passed {what} '{passed}'"
        return None if self.collections == other.collections else "Collections do not match"


def _go_bool(value: bool) -> str:
    return "true" if value else "false"


_DefinitionArgs = (
    lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs
    | lifecycle_pb2.CommitChaincodeDefinitionArgs
    | lifecycle_pb2.CheckCommitReadinessArgs
)


def from_request(args: _DefinitionArgs) -> Proposed:
    """The definition that a request carries."""
    return Proposed(
        args.sequence,
        chaincode_definition_pb2.ChaincodeEndorsementInfo(
            version=args.version,
            endorsement_plugin=args.endorsement_plugin or "escc",
            init_required=args.init_required,
        ),
        chaincode_definition_pb2.ChaincodeValidationInfo(
            validation_plugin=args.validation_plugin or "vscc",
            validation_parameter=args.validation_parameter or reference(ENDORSEMENT_REFERENCE),
        ),
        args.collections,
    )


def stored_parameters(place: Place, name: str) -> Proposed:
    """The parameters stored under a name; fields that are absent are empty. Raises LifecycleError when unreadable."""
    info, rules, package = (place.get(field_key(name, each)) for each in _PARAMETER_FIELDS)
    return Proposed(
        0,
        message_field(chaincode_definition_pb2.ChaincodeEndorsementInfo, info, name, "EndorsementInfo"),
        message_field(chaincode_definition_pb2.ChaincodeValidationInfo, rules, name, "ValidationInfo"),
        message_field(collection_pb2.CollectionConfigPackage, package, name, "Collections"),
    )


def stored_definition(place: Place, name: str) -> Proposed:
    """The committed definition of a namespace, read field by field."""
    metadata = read_metadata(place, NAMESPACES, name)
    if metadata is None:
        raise NotDefined(f"namespace {name} is not defined")
    if metadata.datatype != "ChaincodeDefinition":
        raise LifecycleError(
            f"could not deserialize namespace {name} as chaincode: "
            f"type name mismatch 'ChaincodeDefinition' != '{metadata.datatype}'"
        )
    number = int_field(place.get(field_key(name, "Sequence")), name, "Sequence")
    stored = stored_parameters(place, name)
    return Proposed(number, stored.endorsement, stored.validation, stored.collections)


def approved_package(
    of: Definition, hash_of: Callable[[str, str, str], bytes | None], msp_id: str, package_ids: Iterable[str]
) -> tuple[bool, str | None]:
    """Whether an organisation approved a committed definition, and which of `package_ids` it chose for it.

    `hash_of(namespace, collection, key)` answers the committed hash of a private value. The package is None when the
    organisation approved without a package, or with one that is not among `package_ids` (not installed).
    """
    collection = implicit_collection(msp_id)
    private_name = f"{of.name}#{of.sequence}"

    def stored_hash(key: str) -> bytes | None:
        return hash_of(NAMESPACE, collection, key)

    committed = Proposed(
        of.sequence,
        chaincode_definition_pb2.ChaincodeEndorsementInfo(
            version=of.version, endorsement_plugin=of.endorsement_plugin, init_required=of.init_required
        ),
        chaincode_definition_pb2.ChaincodeValidationInfo(
            validation_plugin=of.validation_plugin, validation_parameter=of.validation_parameter
        ),
        _package_of(of.collections.values()),
    )
    if mismatches_of(stored_hash, private_name, committed.parameters()):
        return False, None
    chosen = stored_hash(field_key(private_name, "PackageID", SOURCES))
    for package_id in package_ids:
        encoded = db_pb2.StateData(String=package_id).SerializeToString()
        if hashlib.sha256(encoded).digest() == chosen:
            return True, package_id
    return True, None


def _package_of(
    collections: Iterable[collection_pb2.StaticCollectionConfig],
) -> collection_pb2.CollectionConfigPackage:
    return collection_pb2.CollectionConfigPackage(
        config=[collection_pb2.CollectionConfig(static_collection_config=each) for each in collections]
    )
