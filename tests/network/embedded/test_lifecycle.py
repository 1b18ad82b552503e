"""Definitions on the ledger: the keys and reads of Fabric, every refusal, and the road from approval to commit."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
from fabric_protos.common import policies_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.msp import msp_principal_pb2
from fabric_protos.peer import collection_pb2, policy_pb2, proposal_pb2, proposal_response_pb2
from fabric_protos.peer.lifecycle import db_pb2, lifecycle_pb2
from google.protobuf.message import Message

from network.channel import policy
from network.embedded import lifecycle
from network.embedded.host import package_id
from network.embedded.lifecycle import LifecycleError, collection_config, collection_policy, definition
from tests.network.embedded.ground import LEDGER, MSP_IDS, OTHER, Ground

Approve = lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs
Response = proposal_response_pb2.ProposalResponse
NEXT = replace(OTHER, name="next")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A channel with `ledger` committed, `other` approved by three and `next` by nobody."""
    made = Ground(tmp_path_factory.mktemp("home"), (LEDGER, OTHER, NEXT))
    made.define(LEDGER)
    for organisation in ("core", "warehouse", "bank"):
        assert made.approve(organisation, made.approval(OTHER)) == [0]
    yield made
    made.close()


def public_set(response: Response, namespace: str = "_lifecycle") -> rwset_pb2.NsReadWriteSet:
    payload = proposal_response_pb2.ProposalResponsePayload.FromString(response.payload)
    results = proposal_pb2.ChaincodeAction.FromString(payload.extension).results
    sets = {each.namespace: each for each in rwset_pb2.TxReadWriteSet.FromString(results).ns_rwset}
    return sets[namespace]


def keys(rows: object) -> list[str]:
    return [row.key for row in rows]  # type: ignore[attr-defined]


# --- what the transactions read and write ---


def test_an_approval_makes_six_hashed_writes_and_reads_what_fabric_reads(ground: Ground) -> None:
    response = ground.lifecycle("ApproveChaincodeDefinitionForMyOrg", ground.approval(NEXT))
    assert response.response.status == 200, response.response.message
    found = public_set(response)
    public = kv_rwset_pb2.KVRWSet.FromString(found.rwset)
    assert keys(public.reads) == ["namespaces/fields/next/Sequence", "namespaces/metadata/next"]
    assert not public.writes
    assert [each.collection_name for each in found.collection_hashed_rwset] == ["_implicit_org_CoreMSP"]
    hashed = kv_rwset_pb2.HashedRWSet.FromString(found.collection_hashed_rwset[0].hashed_rwset)
    assert len(hashed.hashed_writes) == 6
    legacy = kv_rwset_pb2.KVRWSet.FromString(public_set(response, "lscc").rwset)
    assert keys(legacy.reads) == ["next"]


def test_a_commit_writes_metadata_and_four_fields(ground: Ground) -> None:
    response = ground.lifecycle("CommitChaincodeDefinition", ground.commitment(OTHER))
    public = kv_rwset_pb2.KVRWSet.FromString(public_set(response).rwset)
    written = {write.key: write.value for write in public.writes}
    assert list(written) == [
        "namespaces/fields/other/Collections",
        "namespaces/fields/other/EndorsementInfo",
        "namespaces/fields/other/Sequence",
        "namespaces/fields/other/ValidationInfo",
        "namespaces/metadata/other",
    ]
    metadata = db_pb2.StateMetadata.FromString(written["namespaces/metadata/other"])
    assert metadata.datatype == "ChaincodeDefinition"
    assert list(metadata.fields) == ["Sequence", "EndorsementInfo", "ValidationInfo", "Collections"]
    assert db_pb2.StateData.FromString(written["namespaces/fields/other/Sequence"]).Int64 == 1
    # Without collections the field is there and empty, as Go's serializer leaves it.
    assert written["namespaces/fields/other/Collections"] == b"\x12\x00"
    assert keys(kv_rwset_pb2.KVRWSet.FromString(public_set(response, "lscc").rwset).reads) == ["other"]
    assert {each.collection_name for each in public_set(response).collection_hashed_rwset} == {
        f"_implicit_org_{msp_id}" for msp_id in MSP_IDS
    }


def test_all_peers_agree_about_a_commit(ground: Ground) -> None:
    admin = ground.person("core", "admin")
    arguments = ("CommitChaincodeDefinition", ground.commitment(OTHER).SerializeToString())
    parts = ground.parts("_lifecycle", arguments, admin)
    assert len({ground.endorse(parts, name).payload for name in ("core", "warehouse", "bank")}) == 1


# --- the reader ---


def test_the_definition_that_was_committed(ground: Ground) -> None:
    with ground.ledger.snapshot() as snapshot:
        found = definition(snapshot.get_state, "ledger")
        assert definition(snapshot.get_state, "other") is None
        assert lifecycle.sequence(snapshot.get_state, "ledger") == 1
        assert lifecycle.sequence(snapshot.get_state, "other") == 0
    assert found is not None
    assert (found.name, found.version, found.sequence, found.init_required) == ("ledger", "1.0", 1, False)
    assert found.validation_parameter == policy.endorsement(LEDGER, ground.topology)
    assert list(found.collections) == ["shared", "open", "banked"]


def test_the_lifecycle_itself_is_defined_without_a_read() -> None:
    def never(*_: str) -> bytes | None:
        raise AssertionError("a read")

    found = definition(never, "_lifecycle")
    assert found is not None
    reference = policy_pb2.ApplicationPolicy.FromString(found.validation_parameter)
    assert reference.channel_config_policy_reference == "/Channel/Application/LifecycleEndorsement"


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (
            {"namespaces/metadata/x": b"\xff"},
            "could not unmarshal metadata for namespace namespaces/x: proto: cannot parse invalid wire-format data",
        ),
        (
            {"namespaces/metadata/x": db_pb2.StateMetadata(datatype="Other").SerializeToString()},
            "not a chaincode type: Other",
        ),
        (
            {
                "namespaces/metadata/x": db_pb2.StateMetadata(datatype="ChaincodeDefinition").SerializeToString(),
                "namespaces/fields/x/Sequence": db_pb2.StateData(String="1").SerializeToString(),
            },
            "expected key namespaces/fields/x/Sequence to encode a value of type Int64, "
            "but was *lifecycle.StateData_String",
        ),
        (
            {
                "namespaces/metadata/x": db_pb2.StateMetadata(datatype="ChaincodeDefinition").SerializeToString(),
                "namespaces/fields/x/EndorsementInfo": db_pb2.StateData(Int64=1).SerializeToString(),
            },
            "expected key namespaces/fields/x/EndorsementInfo to encode a value of type []byte, "
            "but was *lifecycle.StateData_Int64",
        ),
    ],
)
def test_what_is_no_definition_is_an_error(stored: Mapping[str, bytes], text: str) -> None:
    with pytest.raises(LifecycleError) as caught:
        definition(lambda _, key: stored.get(key), "x")
    assert str(caught.value) == text


def test_collections_and_the_policies_that_judge_them(ground: Ground) -> None:
    with ground.ledger.snapshot() as snapshot:
        found = definition(snapshot.get_state, "ledger")
    assert found is not None
    groups = {msp_id: msp_id for msp_id in MSP_IDS}
    assert collection_policy(found, "open", groups) == found.validation_parameter
    own = found.collections["banked"].endorsement_policy.SerializeToString()
    assert collection_policy(found, "banked", groups) == own != found.validation_parameter
    implicit = policy_pb2.ApplicationPolicy.FromString(collection_policy(found, "_implicit_org_BankMSP", groups))
    assert implicit.channel_config_policy_reference == "/Channel/Application/BankMSP/Endorsement"
    with pytest.raises(LifecycleError, match=r"^no such collection 'none'$"):
        collection_policy(found, "none", groups)
    with pytest.raises(LifecycleError, match=r"^no org found in channel with MSPID 'X'$"):
        collection_policy(found, "_implicit_org_X", groups)
    config = collection_config(found, "_implicit_org_BankMSP")
    assert config is not None and config.name == "_implicit_org_BankMSP" and not config.member_only_read
    assert collection_config(found, "none") is None


# --- refusals ---


def refusal(ground: Ground, function: str, message: Message, **extra: str) -> str:
    response = ground.lifecycle(function, message, **extra).response
    assert response.status == 500
    prefix = f"failed to invoke backing implementation of '{function}': "
    assert response.message.startswith(prefix)
    return response.message.removeprefix(prefix)


def named(**changes: object) -> Callable[[Approve], None]:
    def change(message: Approve) -> None:
        for name, value in changes.items():
            setattr(message, name, value)

    return change


def static(message: Approve) -> collection_pb2.StaticCollectionConfig:
    """A collection that would be accepted, added to the request."""
    config = message.collections.config.add().static_collection_config
    config.name = "fine"
    config.maximum_peer_count = 1
    config.member_orgs_policy.signature_policy.CopyFrom(member("CoreMSP"))
    return config


def member(msp_id: str, n: int = 1) -> policies_pb2.SignaturePolicyEnvelope:
    role = msp_principal_pb2.MSPRole(msp_identifier=msp_id, role=msp_principal_pb2.MSPRole.MEMBER)
    rule = policies_pb2.SignaturePolicy(
        n_out_of=policies_pb2.SignaturePolicy.NOutOf(n=n, rules=[policies_pb2.SignaturePolicy(signed_by=0)])
    )
    principal = msp_principal_pb2.MSPPrincipal(principal=role.SerializeToString())
    return policies_pb2.SignaturePolicyEnvelope(rule=rule, identities=[principal])


def nameless_collection(message: Approve) -> None:
    static(message).name = "_bad"


def same_twice(message: Approve) -> None:
    static(message), static(message)


def too_few_peers(message: Approve) -> None:
    static(message).required_peer_count = 2


def negative(message: Approve) -> None:
    config = static(message)
    config.required_peer_count, config.maximum_peer_count = -1, 0


def no_members(message: Approve) -> None:
    static(message).ClearField("member_orgs_policy")


def empty_members(message: Approve) -> None:
    static(message).member_orgs_policy.ClearField("signature_policy")


def bad_index(message: Approve) -> None:
    config = static(message)
    config.member_orgs_policy.signature_policy.rule.n_out_of.rules[0].signed_by = 7


def both_members(message: Approve) -> None:
    static(message).member_orgs_policy.signature_policy.CopyFrom(member("CoreMSP", 2))


def stranger(message: Approve) -> None:
    static(message).member_orgs_policy.signature_policy.CopyFrom(member("NobodyMSP"))


def no_type(message: Approve) -> None:
    message.collections.config.add()


INVALID = "error validating chaincode definition: "


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            named(name="a b"),
            INVALID + "invalid chaincode name 'a b'. Names can only consist of alphanumerics, '_', and '-' and can "
            "only begin with alphanumerics",
        ),
        (named(name="a" * 100_000 + "!"), INVALID + "invalid chaincode name '" + "a" * 100_000 + "!'."),
        (named(name="qscc"), INVALID + "chaincode name 'qscc' is the name of a system chaincode"),
        (
            named(version="1 0"),
            INVALID + "invalid chaincode version '1 0'. Versions can only consist of alphanumerics, '_', '-', '+', "
            "and '.'",
        ),
        (nameless_collection, INVALID + "invalid collection name '_bad'. Names can only consist of alphanumerics"),
        (same_twice, INVALID + "collection-name: fine -- found duplicate in collection configuration"),
        (
            too_few_peers,
            INVALID + "collection-name: fine -- maximum peer count (1) cannot be less than the required peer count (2)",
        ),
        (negative, INVALID + "collection-name: fine -- requiredPeerCount (-1) cannot be less than zero"),
        (no_members, INVALID + "collection member policy is not set for collection 'fine'"),
        (empty_members, INVALID + "collection member org policy is empty for collection 'fine'"),
        (
            bad_index,
            INVALID + "invalid member org policy for collection 'fine': identity index out of range, requested 7, but "
            "identities length is 1",
        ),
        (
            both_members,
            INVALID + "collection-name: fine -- error in member org policy: signature policy is not an OR "
            "concatenation, NOutOf 2",
        ),
        (stranger, INVALID + "collection-name: fine -- collection member 'NobodyMSP' is not part of the channel"),
        (no_type, INVALID + "collection config contains unexpected payload type: <nil>"),
        (
            named(endorsement_plugin="mine"),
            INVALID + "embedded network: the endorsement plugin 'mine' is not supported",
        ),
        (named(validation_plugin="mine"), INVALID + "embedded network: the validation plugin 'mine' is not supported"),
        (named(sequence=0), "requested sequence is 0, but first definable sequence number is 1"),
        (named(sequence=5), "requested sequence 5 is larger than the next available sequence number 1"),
    ],
)
def test_approvals_that_are_refused(ground: Ground, change: Callable[[Approve], None], text: str) -> None:
    message = Approve.FromString(ground.approval(NEXT).SerializeToString())
    change(message)
    assert refusal(ground, "ApproveChaincodeDefinitionForMyOrg", message).startswith(text)


def test_approvals_against_what_is_committed(ground: Ground) -> None:
    message = Approve.FromString(ground.approval(LEDGER).SerializeToString())
    function = "ApproveChaincodeDefinitionForMyOrg"
    assert refusal(ground, function, message) == (
        "attempted to redefine the current committed sequence (1) for namespace ledger"
    )
    other_version = Approve.FromString(message.SerializeToString())
    other_version.version = "9"
    assert refusal(ground, function, other_version) == (
        "attempted to redefine the current committed sequence (1) for namespace ledger with different parameters: "
        "expected Version '1.0' does not match passed Version '9'"
    )
    init = Approve.FromString(message.SerializeToString())
    init.init_required = True
    assert refusal(ground, function, init).endswith(
        "expected InitRequired 'false' does not match passed InitRequired 'true'"
    )
    lost = Approve.FromString(message.SerializeToString())
    lost.collections.Clear()
    assert refusal(ground, function, lost) == (
        INVALID + "the proposed collection config does not contain previously defined collections"
    )
    missing = Approve.FromString(message.SerializeToString())
    del missing.collections.config[1]
    assert refusal(ground, function, missing) == (
        INVALID + "existing collection [open] missing in the proposed collection configuration"
    )
    lives = Approve.FromString(message.SerializeToString())
    lives.collections.config[0].static_collection_config.block_to_live = 3
    assert refusal(ground, function, lives) == (
        INVALID + "the BlockToLive in an existing collection [shared] modified. Existing value [0]"
    )
    # A new package for the committed sequence is no redefinition.
    again = Approve.FromString(ground.approval(LEDGER, package="new:1").SerializeToString())
    assert ground.lifecycle(function, again).response.status == 200


def test_an_unchanged_approval_is_refused(ground: Ground) -> None:
    assert refusal(ground, "ApproveChaincodeDefinitionForMyOrg", ground.approval(OTHER)) == (
        "attempted to redefine uncommitted sequence (1) for namespace other with unchanged content"
    )


def test_commits_that_are_refused(ground: Ground) -> None:
    function = "CommitChaincodeDefinition"
    assert refusal(ground, function, ground.commitment(OTHER, 2)) == (
        "requested sequence is 2, but new definition must be sequence 1"
    )
    assert refusal(ground, function, ground.commitment(OTHER), by="logistics") == (
        "chaincode definition not agreed to by this org (LogisticsMSP)"
    )
    assert refusal(ground, function, ground.commitment(NEXT)) == (
        "chaincode definition not agreed to by this org (CoreMSP)"
    )


def test_packages_are_not_supported(ground: Ground) -> None:
    for function, message in (
        ("InstallChaincode", lifecycle_pb2.InstallChaincodeArgs(chaincode_install_package=b"x")),
        ("GetInstalledChaincodePackage", lifecycle_pb2.GetInstalledChaincodePackageArgs(package_id="x")),
    ):
        response = ground.lifecycle(function, message).response
        assert (response.status, response.message) == (
            500,
            "embedded network: chaincode packages are not supported",
        )


# --- queries ---


def test_readiness_names_approvals_and_differences(ground: Ground) -> None:
    args = lifecycle_pb2.CheckCommitReadinessArgs.FromString(ground.commitment(OTHER).SerializeToString())
    payload = ground.lifecycle("CheckCommitReadiness", args).response.payload
    result = lifecycle_pb2.CheckCommitReadinessResult.FromString(payload)
    assert dict(result.approvals) == {
        "CoreMSP": True,
        "WarehouseMSP": True,
        "LogisticsMSP": False,
        "BankMSP": True,
    }
    assert {name: list(each.items) for name, each in result.mismatches.items()} == {
        "LogisticsMSP": ["ChaincodeParameters"]
    }
    args.version = "9"
    payload = ground.lifecycle("CheckCommitReadiness", args).response.payload
    result = lifecycle_pb2.CheckCommitReadinessResult.FromString(payload)
    assert list(result.mismatches["CoreMSP"].items) == ["EndorsementInfo"]


def test_the_definition_asked_for(ground: Ground) -> None:
    args = lifecycle_pb2.QueryChaincodeDefinitionArgs(name="ledger")
    response = ground.lifecycle("QueryChaincodeDefinition", args).response
    result = lifecycle_pb2.QueryChaincodeDefinitionResult.FromString(response.payload)
    assert (result.sequence, result.version, result.endorsement_plugin, result.validation_plugin) == (
        1,
        "1.0",
        "escc",
        "vscc",
    )
    assert dict(result.approvals) == dict.fromkeys(MSP_IDS, True)
    assert [each.static_collection_config.name for each in result.collections.config] == [
        "shared",
        "open",
        "banked",
    ]
    response = ground.lifecycle(
        "QueryChaincodeDefinition", lifecycle_pb2.QueryChaincodeDefinitionArgs(name="none")
    ).response
    assert (response.status, response.message) == (404, "namespace none is not defined")


def test_all_definitions(ground: Ground) -> None:
    payload = ground.lifecycle(
        "QueryChaincodeDefinitions", lifecycle_pb2.QueryChaincodeDefinitionsArgs()
    ).response.payload
    result = lifecycle_pb2.QueryChaincodeDefinitionsResult.FromString(payload)
    assert [(each.name, each.sequence, each.version) for each in result.chaincode_definitions] == [("ledger", 1, "1.0")]


def test_approvals_asked_for(ground: Ground) -> None:
    function = "QueryApprovedChaincodeDefinition"
    response = ground.lifecycle(function, lifecycle_pb2.QueryApprovedChaincodeDefinitionArgs(name="other")).response
    result = lifecycle_pb2.QueryApprovedChaincodeDefinitionResult.FromString(response.payload)
    assert (result.sequence, result.version) == (1, "2.0")
    assert result.source.local_package.package_id == package_id(OTHER)
    missing = lifecycle_pb2.QueryApprovedChaincodeDefinitionArgs(name="other", sequence=4)
    assert refusal(ground, function, missing) == (
        "could not fetch approved chaincode definition (name: 'other', sequence: '4') on channel 'scf'"
    )
    payload = ground.lifecycle(
        "QueryApprovedChaincodeDefinitions", lifecycle_pb2.QueryApprovedChaincodeDefinitionsArgs()
    ).response.payload
    every = lifecycle_pb2.QueryApprovedChaincodeDefinitionsResult.FromString(payload)
    assert [(each.name, each.sequence) for each in every.approved_chaincode_definitions] == [
        ("ledger", 1),
        ("other", 1),
    ]


def test_installed_packages(ground: Ground) -> None:
    payload = ground.lifecycle(
        "QueryInstalledChaincodes", lifecycle_pb2.QueryInstalledChaincodesArgs()
    ).response.payload
    result = lifecycle_pb2.QueryInstalledChaincodesResult.FromString(payload)
    assert [each.label for each in result.installed_chaincodes] == ["ledger_1.0", "other_2.0", "next_2.0"]
    one = lifecycle_pb2.QueryInstalledChaincodeArgs(package_id=package_id(OTHER))
    payload = ground.lifecycle("QueryInstalledChaincode", one).response.payload
    assert lifecycle_pb2.QueryInstalledChaincodeResult.FromString(payload).label == "other_2.0"
    none = lifecycle_pb2.QueryInstalledChaincodeArgs(package_id="none:1")
    assert refusal(ground, "QueryInstalledChaincode", none) == "could not find chaincode with package id 'none:1'"


# --- from a definition to an endorsement (on a channel of its own: these change it) ---


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("fresh"), (LEDGER, OTHER))
    yield made
    made.close()


def test_only_organisations_that_approved_and_installed_endorse(fresh: Ground) -> None:
    for organisation, package in (("core", None), ("warehouse", "unknown:1"), ("bank", "")):
        assert fresh.approve(organisation, fresh.approval(OTHER, package=package)) == [0]
    arguments = ("CommitChaincodeDefinition", fresh.commitment(OTHER).SerializeToString())
    assert fresh.submit(fresh.parts("_lifecycle", arguments, fresh.person("core", "admin"))) == [0]

    def outcome(organisation: str) -> str:
        return fresh.endorse(fresh.propose("other", "empty"), organisation).response.message

    prefix = "make sure the chaincode other has been successfully defined on channel scf and try again: "
    assert outcome("core") == ""
    assert outcome("logistics") == prefix + (
        "chaincode definition for 'other' at sequence 1 on channel 'scf' has not yet been approved by this org"
    )
    for organisation in ("warehouse", "bank"):
        assert outcome(organisation) == prefix + (
            "chaincode definition for 'other' exists, but chaincode is not installed"
        )
    # A later approval, also one that only changes the package, counts from the next block on.
    assert fresh.approve("logistics", fresh.approval(OTHER)) == [0]
    assert fresh.approve("bank", fresh.approval(OTHER)) == [0]
    assert outcome("logistics") == outcome("bank") == ""
    # So does one that names a package nobody has: the organisation stops to endorse.
    assert fresh.approve("core", fresh.approval(OTHER, package="unknown:2")) == [0]
    assert outcome("core").endswith("exists, but chaincode is not installed")
    assert fresh.approve("core", fresh.approval(OTHER)) == [0]
    with fresh.ledger.snapshot() as snapshot:
        runs = {msp_id: fresh.endorser.runs(msp_id, "other", snapshot) for msp_id in MSP_IDS}
    assert runs == {"CoreMSP": True, "WarehouseMSP": False, "LogisticsMSP": True, "BankMSP": True}


def test_an_upgrade_invalidates_what_was_simulated_before_it(fresh: Ground) -> None:
    fresh.define(OTHER)
    parts = fresh.propose("other", "put", "k", "v")
    responses = [fresh.endorse(parts, name) for name in ("core", "bank")]
    arguments = ("CommitChaincodeDefinition", fresh.commitment(OTHER, 2).SerializeToString())
    for organisation in fresh.peers:
        assert fresh.approve(organisation, fresh.approval(OTHER, 2)) == [0]
    assert fresh.submit(fresh.parts("_lifecycle", arguments, fresh.person("core", "admin"))) == [0]
    assert fresh.commit(fresh.envelope(parts, responses)) == [11]  # MVCC_READ_CONFLICT
    with fresh.ledger.snapshot() as snapshot:
        assert lifecycle.sequence(snapshot.get_state, "other") == 2
    assert fresh.endorse(fresh.propose("other", "put", "k", "v")).response.status == 200


def test_a_chaincode_that_must_be_initialised(fresh: Ground) -> None:
    for organisation in fresh.peers:
        message = Approve.FromString(fresh.approval(OTHER).SerializeToString())
        message.init_required = True
        assert fresh.approve(organisation, message) == [0]
    commitment = fresh.commitment(OTHER)
    commitment.init_required = True
    arguments = ("CommitChaincodeDefinition", commitment.SerializeToString())
    assert fresh.submit(fresh.parts("_lifecycle", arguments, fresh.person("core", "admin"))) == [0]

    def call(is_init: bool) -> tuple[str, object]:
        parts = fresh.propose("other", "put", "k", "v")
        parts.spec.chaincode_spec.input.is_init = is_init
        return fresh.endorse(parts).response.message.partition("invalid invocation: ")[2], parts

    assert call(False)[0] == ("chaincode 'other' has not been initialized for this version, must call as init first")
    text, parts = call(True)
    assert text == ""
    assert fresh.submit(parts, ("core", "bank")) == [0]  # type: ignore[arg-type]
    assert call(True)[0] == "chaincode 'other' is already initialized but called as init"
    assert call(False)[0] == ""


def test_init_of_a_chaincode_that_needs_none(fresh: Ground) -> None:
    fresh.define(OTHER)
    parts = fresh.propose("other", "put", "k", "v")
    parts.spec.chaincode_spec.input.is_init = True
    assert fresh.endorse(parts).response.message.endswith(
        "invalid invocation: chaincode 'other' does not require initialization but called as init"
    )


# --- collections of a committed definition ---


def test_member_only_collections_look_at_the_creator(ground: Ground) -> None:
    def outcome(*args: str, by: str) -> str:
        parts = ground.propose("ledger", *args, by=by, transient={"value": b"v"})
        return ground.endorse(parts, "core").response.message

    denied = "access permission on privatedata in chaincodeName:ledger collectionName: shared"
    assert outcome("secret", "shared", "k", by="bank") == ""
    assert f"tx creator does not have write {denied}" in outcome("secret", "shared", "k", by="warehouse")
    assert f"tx creator does not have read {denied}" in outcome("reveal", "shared", "k", by="logistics")
    assert outcome("secret", "open", "k", by="warehouse") == ""
    assert "collection scf/ledger/none could not be found" in outcome("secret", "none", "k", by="core")


def test_a_collection_lookup_reads_the_whole_definition(ground: Ground) -> None:
    parts = ground.propose("ledger", "secret", "open", "k", transient={"value": b"v"})
    public = kv_rwset_pb2.KVRWSet.FromString(public_set(ground.endorse(parts)).rwset)
    assert keys(public.reads) == [
        "namespaces/fields/ledger/Collections",
        "namespaces/fields/ledger/EndorsementInfo",
        "namespaces/fields/ledger/Sequence",
        "namespaces/fields/ledger/ValidationInfo",
        "namespaces/metadata/ledger",
    ]


def test_private_writes_wait_in_the_transient_store(ground: Ground) -> None:
    parts = ground.propose("ledger", "secret", "open", "kept", transient={"value": b"v"})
    ground.endorse(parts, "bank")
    with ground.ledger.snapshot() as snapshot:
        held = snapshot.transient(parts.transaction_id)
    assert [msp_id for msp_id, _ in held] == ["BankMSP"]
