"""The first block of the channel: its form, its policies, and that both kinds of network get the same."""

from hashlib import sha256
from pathlib import Path

import pytest
from fabric_protos.common import common_pb2, configtx_pb2, configuration_pb2, policies_pb2
from fabric_protos.msp import identities_pb2, msp_config_pb2, msp_principal_pb2
from fabric_protos.orderer import configuration_pb2 as orderer_pb2
from fabric_protos.orderer.etcdraft import configuration_pb2 as raft_pb2
from fabric_protos.orderer.smartbft import configuration_pb2 as smartbft_pb2
from fabric_protos.peer import configuration_pb2 as peer_pb2

from network import topology as topologies
from network.channel import config, consensus
from network.channel.config import ConfigError
from network.identity.enrolment import Enrolment, enrol, revoke
from network.identity.identities import establish, load_node
from tests.network.conftest import Established
from tests.network.test_topology import UPSTREAM


@pytest.fixture(scope="module")
def group(established: Established) -> configtx_pb2.ConfigGroup:
    return config.parse(established.genesis).channel_group


def _meta(group: configtx_pb2.ConfigGroup, name: str) -> str:
    policy = group.policies[name].policy
    assert policy.type == policies_pb2.Policy.IMPLICIT_META
    meta = policies_pb2.ImplicitMetaPolicy.FromString(policy.value)
    return f"{policies_pb2.ImplicitMetaPolicy.Rule.Name(meta.rule)} {meta.sub_policy}"


def _signature(group: configtx_pb2.ConfigGroup, name: str) -> policies_pb2.SignaturePolicyEnvelope:
    policy = group.policies[name].policy
    assert policy.type == policies_pb2.Policy.SIGNATURE
    return policies_pb2.SignaturePolicyEnvelope.FromString(policy.value)


def _roles(envelope: policies_pb2.SignaturePolicyEnvelope) -> tuple[int, list[str]]:
    """n and the role principals of an n-out-of policy, as configtxgen writes them: X.admin."""
    kind = msp_principal_pb2.MSPRole.MSPRoleType
    roles = [msp_principal_pb2.MSPRole.FromString(p.principal) for p in envelope.identities]
    assert [rule.signed_by for rule in envelope.rule.n_out_of.rules] == list(range(len(roles)))
    return envelope.rule.n_out_of.n, [f"{r.msp_identifier}.{kind.Name(r.role).lower()}" for r in roles]


def test_the_block_is_block_zero_in_fabrics_form(established: Established) -> None:
    block = common_pb2.Block.FromString(established.genesis)
    assert (block.header.number, block.header.previous_hash) == (0, b"")
    assert block.header.data_hash == sha256(b"".join(block.data.data)).digest()
    assert list(block.metadata.metadata) == [bytes.fromhex("0a020a00"), b"", b"", b"", b""]
    envelope = common_pb2.Envelope.FromString(block.data.data[0])
    payload = common_pb2.Payload.FromString(envelope.payload)
    header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
    signature_header = common_pb2.SignatureHeader.FromString(payload.header.signature_header)
    assert envelope.signature == b"" and signature_header.creator == b""
    assert (header.type, header.version, header.channel_id, header.epoch) == (common_pb2.CONFIG, 1, "scf", 0)
    assert len(signature_header.nonce) == 24
    assert header.tx_id == sha256(signature_header.nonce).hexdigest()
    assert header.timestamp.seconds > 1_700_000_000
    change = configtx_pb2.ConfigEnvelope.FromString(payload.data)
    assert change.config.sequence == 0 and not change.HasField("last_update")
    assert config.channel_id(established.genesis) == "scf"


def test_two_blocks_of_one_topology_hold_the_same_configuration(established: Established) -> None:
    other = config.genesis_block(established.topology, established.home)
    assert other != established.genesis
    assert config.parse(other) == config.parse(established.genesis)


def test_channel_values_and_capabilities(group: configtx_pb2.ConfigGroup) -> None:
    assert set(group.values) == {"HashingAlgorithm", "BlockDataHashingStructure", "Capabilities"}
    assert configuration_pb2.HashingAlgorithm.FromString(group.values["HashingAlgorithm"].value).name == "SHA256"
    structure = configuration_pb2.BlockDataHashingStructure.FromString(group.values["BlockDataHashingStructure"].value)
    assert structure.width == 4_294_967_295
    sections = {"": group, **{name: group.groups[name] for name in ("Orderer", "Application")}}
    capabilities = {
        name: list(configuration_pb2.Capabilities.FromString(section.values["Capabilities"].value).capabilities)
        for name, section in sections.items()
    }
    assert capabilities == {"": ["V3_0"], "Orderer": ["V2_0"], "Application": ["V2_5"]}
    # No ACLs: the peers' defaults hold.
    assert set(group.groups["Application"].values) == {"Capabilities"}


def test_every_element_is_at_version_zero_and_changed_by_admins(group: configtx_pb2.ConfigGroup) -> None:
    def walk(entry: configtx_pb2.ConfigGroup) -> None:
        for part in (entry, *entry.values.values(), *entry.policies.values()):
            assert (part.version, part.mod_policy) == (0, "Admins")
        for inner in entry.groups.values():
            walk(inner)

    walk(group)


def test_policies_of_all_levels(group: configtx_pb2.ConfigGroup) -> None:
    common = {"Readers": "ANY Readers", "Writers": "ANY Writers", "Admins": "MAJORITY Admins"}
    orderer, application = group.groups["Orderer"], group.groups["Application"]
    assert {name: _meta(group, name) for name in group.policies} == common
    assert {name: _meta(orderer, name) for name in common} == common
    assert set(orderer.policies) == {*common, "BlockValidation"}
    endorsement = dict.fromkeys(("Endorsement", "LifecycleEndorsement"), "MAJORITY Endorsement")
    assert {name: _meta(application, name) for name in application.policies} == {**common, **endorsement}
    for section in (orderer, application):
        assert set(section.groups) == {"CoreMSP", "WarehouseMSP", "LogisticsMSP", "BankMSP"}
        bank = section.groups["BankMSP"]
        assert {name: _roles(_signature(bank, name)) for name in bank.policies} == {
            "Readers": (1, ["BankMSP.admin", "BankMSP.peer", "BankMSP.client", "BankMSP.orderer"]),
            "Writers": (1, ["BankMSP.admin", "BankMSP.client", "BankMSP.orderer"]),
            "Admins": (1, ["BankMSP.admin"]),
            "Endorsement": (1, ["BankMSP.peer"]),
        }


def test_blocks_need_three_of_the_four_pinned_consenters(
    established: Established, group: configtx_pb2.ConfigGroup
) -> None:
    validation = _signature(group.groups["Orderer"], "BlockValidation")
    assert validation.rule.n_out_of.n == 3
    assert [rule.signed_by for rule in validation.rule.n_out_of.rules] == [0, 1, 2, 3]
    pinned = [identities_pb2.SerializedIdentity.FromString(entry.principal) for entry in validation.identities]
    kinds = {entry.principal_classification for entry in validation.identities}
    assert kinds == {msp_principal_pb2.MSPPrincipal.IDENTITY}
    nodes = [(o, load_node(established.home, o, node)) for o, node in established.topology.orderers()]
    assert [(entry.mspid, entry.id_bytes) for entry in pinned] == [(o.msp_id, node.certificate) for o, node in nodes]
    mapping = configuration_pb2.Orderers.FromString(group.groups["Orderer"].values["Orderers"].value).consenter_mapping
    assert [(c.id, c.msp_id, c.host, c.port) for c in mapping] == [
        (1, "CoreMSP", "127.0.0.1", 7051),
        (2, "WarehouseMSP", "127.0.0.1", 7151),
        (3, "LogisticsMSP", "127.0.0.1", 7251),
        (4, "BankMSP", "127.0.0.1", 7351),
    ]
    assert [(c.identity, c.client_tls_cert, c.server_tls_cert) for c in mapping] == [
        (node.certificate, node.tls_certificate, node.tls_certificate) for _, node in nodes
    ]


def test_quorums_are_those_of_smartbft() -> None:
    assert [consensus.quorum(n) for n in range(1, 11)] == [1, 2, 2, 3, 4, 4, 5, 6, 6, 7]


def test_organisations_define_the_same_msp_in_both_groups(
    established: Established, group: configtx_pb2.ConfigGroup
) -> None:
    orderer, application = group.groups["Orderer"].groups, group.groups["Application"].groups
    for name in application:
        assert orderer[name].values["MSP"].value == application[name].values["MSP"].value
    definition = msp_config_pb2.MSPConfig.FromString(application["CoreMSP"].values["MSP"].value)
    assert definition.type == 0
    fabric = msp_config_pb2.FabricMSPConfig.FromString(definition.config)
    folder = established.home / "organisations" / "core"
    ca = (folder / "ca/certificate.pem").read_bytes()
    assert (fabric.name, list(fabric.root_certs)) == ("CoreMSP", [ca])
    assert list(fabric.tls_root_certs) == [(folder / "tlsca/certificate.pem").read_bytes()]
    assert not (fabric.admins or fabric.intermediate_certs or fabric.revocation_list)
    crypto = fabric.crypto_config
    assert (crypto.signature_hash_family, crypto.identity_identifier_hash_function) == ("SHA2", "SHA256")
    assert fabric.fabric_node_ous.enable
    for role in ("client", "peer", "admin", "orderer"):
        identifier = getattr(fabric.fabric_node_ous, f"{role}_ou_identifier")
        assert (identifier.organizational_unit_identifier, identifier.certificate) == (role, ca)


def test_endpoints_and_anchor_peers_are_the_advertised_addresses(group: configtx_pb2.ConfigGroup) -> None:
    orderer, application = (group.groups[name].groups["BankMSP"].values for name in ("Orderer", "Application"))
    endpoints = configuration_pb2.OrdererAddresses.FromString(orderer["Endpoints"].value)
    anchors = peer_pb2.AnchorPeers.FromString(application["AnchorPeers"].value)
    assert list(endpoints.addresses) == ["127.0.0.1:7351"]
    assert [(peer.host, peer.port) for peer in anchors.anchor_peers] == [("127.0.0.1", 7351)]


def _orderer(tmp_path: Path, kind: str, consensus_name: str = "BFT") -> configtx_pb2.ConfigGroup:
    text = topologies.SHIPPED.read_text().replace('consensus = "BFT"', f'consensus = "{consensus_name}"')
    path = tmp_path / "topology.toml"
    path.write_text(text)
    topology = topologies.load(path, kind=kind)
    establish(tmp_path, topology)
    return config.channel_group(topology, tmp_path).groups["Orderer"]


@pytest.mark.parametrize(("kind", "count", "interval"), [("embedded", 500, "10ms"), ("fabric", 100, "200ms")])
def test_the_rhythm_of_blocks_is_said_twice_and_alike(tmp_path: Path, kind: str, count: int, interval: str) -> None:
    orderer = _orderer(tmp_path, kind)
    size = orderer_pb2.BatchSize.FromString(orderer.values["BatchSize"].value)
    kind_of = orderer_pb2.ConsensusType.FromString(orderer.values["ConsensusType"].value)
    options = smartbft_pb2.Options.FromString(kind_of.metadata)
    assert kind_of.type == "BFT"
    assert size.max_message_count == options.request_batch_max_count == count
    assert size.absolute_max_bytes == options.request_batch_max_bytes == options.request_max_bytes == 10_485_760
    timeout = orderer_pb2.BatchTimeout.FromString(orderer.values["BatchTimeout"].value).timeout
    assert timeout == options.request_batch_max_interval == interval
    assert orderer.values["ChannelRestrictions"].value == b""
    assert (options.request_forward_timeout, options.request_complain_timeout) == ("300ms", "3s")
    assert (options.view_change_resend_interval, options.view_change_timeout) == ("2s", "10s")
    assert (options.leader_heartbeat_timeout, options.leader_heartbeat_count) == ("5s", 10)
    assert not options.sync_on_start
    # Rotation that is switched on is refused by Fabric; unspecified is what configtxgen leaves.
    assert options.leader_rotation == smartbft_pb2.Options.ROTATION_UNSPECIFIED
    assert options.decisions_per_leader == 0


def test_raft_by_a_setting_of_the_topology(tmp_path: Path) -> None:
    orderer = _orderer(tmp_path, "fabric", "etcdraft")
    kind = orderer_pb2.ConsensusType.FromString(orderer.values["ConsensusType"].value)
    metadata = raft_pb2.ConfigMetadata.FromString(kind.metadata)
    assert kind.type == "etcdraft" and "Orderers" not in orderer.values
    assert [(c.host, c.port) for c in metadata.consenters] == [("127.0.0.1", port) for port in (7050, 7150, 7250, 7350)]
    assert all(c.client_tls_cert == c.server_tls_cert != b"" for c in metadata.consenters)
    assert (metadata.options.tick_interval, metadata.options.election_tick) == ("500ms", 10)
    msp_ids = ("CoreMSP", "WarehouseMSP", "LogisticsMSP", "BankMSP")
    assert _roles(_signature(orderer, "BlockValidation")) == (1, [f"{msp_id}.orderer" for msp_id in msp_ids])


def test_organisations_stand_where_they_have_nodes(tmp_path: Path) -> None:
    path = tmp_path / "topology.toml"
    path.write_text(UPSTREAM.replace('orderers = [{ name = "orderer3" }]\n', ""))
    topology = topologies.load(path)
    establish(tmp_path, topology)
    groups = config.parse(config.genesis_block(topology, tmp_path)).channel_group.groups
    assert set(groups["Application"].groups) == {"Org1MSP", "Org2MSP", "Org3MSP"}
    assert set(groups["Orderer"].groups) == {"Org1MSP", "Org3MSP"}
    value = groups["Orderer"].values["Orderers"].value
    mapping = configuration_pb2.Orderers.FromString(value).consenter_mapping
    assert [(c.id, c.msp_id) for c in mapping] == [(1, "Org1MSP"), (2, "Org1MSP"), (3, "Org3MSP")]
    assert len({c.identity for c in mapping}) == 3
    # Three tolerate no fault, and two of them make a block.
    assert _signature(groups["Orderer"], "BlockValidation").rule.n_out_of.n == 2
    anchors = groups["Application"].groups["Org1MSP"].values["AnchorPeers"].value
    assert [(p.host, p.port) for p in peer_pb2.AnchorPeers.FromString(anchors).anchor_peers] == [
        ("peer0.org1.example.com", 7051)
    ]


def test_a_revocation_list_goes_into_both_definitions(tmp_path: Path) -> None:
    topology = topologies.load()
    establish(tmp_path, topology)
    crl = revoke(tmp_path, "core", (enrol(tmp_path, "core", Enrolment("gone")) / "certificate.pem").read_bytes())
    groups = config.channel_group(topology, tmp_path).groups
    for section in ("Orderer", "Application"):
        value = groups[section].groups["CoreMSP"].values["MSP"].value
        fabric = msp_config_pb2.FabricMSPConfig.FromString(msp_config_pb2.MSPConfig.FromString(value).config)
        assert list(fabric.revocation_list) == [crl]


def test_durations_are_written_as_go_writes_them() -> None:
    given = (0, 10, 200, 999, 1_000, 1_500, 2_050, 60_000, 90_000, 180_000, 3_600_000, 5_400_500)
    assert [consensus.duration(ms) for ms in given] == [
        "0s", "10ms", "200ms", "999ms", "1s", "1.5s", "2.05s", "1m0s", "1m30s", "3m0s", "1h0m0s", "1h30m0.5s",
    ]  # fmt: skip


def test_bytes_that_are_no_configuration_are_refused(established: Established) -> None:
    block = common_pb2.Block.FromString(established.genesis)
    two = common_pb2.Block(data=common_pb2.BlockData(data=[block.data.data[0]] * 2))
    envelope = common_pb2.Envelope.FromString(block.data.data[0])
    payload = common_pb2.Payload.FromString(envelope.payload)
    header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
    header.type = common_pb2.ENDORSER_TRANSACTION
    payload.header.channel_header = header.SerializeToString()
    transaction = common_pb2.Envelope(payload=payload.SerializeToString()).SerializeToString()
    other = common_pb2.Block(data=common_pb2.BlockData(data=[transaction]))
    header.type = common_pb2.CONFIG
    payload.header.channel_header = header.SerializeToString()
    payload.data = b""
    empty = common_pb2.Envelope(payload=payload.SerializeToString()).SerializeToString()
    without = common_pb2.Block(data=common_pb2.BlockData(data=[empty]))
    for data, text in (
        (b"\xff\xff", "no configuration block"),
        (b"", "holds one envelope, not 0"),
        (two.SerializeToString(), "holds one envelope, not 2"),
        (other.SerializeToString(), "of type 3, not a configuration"),
        (without.SerializeToString(), "the configuration is missing"),
    ):
        with pytest.raises(ConfigError, match=text):
            config.parse(data)
