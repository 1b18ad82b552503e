"""The channel's first block: its configuration, built from the topology and the identities in a home.

The result equals, as a message, what Fabric's configtxgen makes of the same settings (timestamp, nonce and transaction
id apart). Maps have no canonical order in protobuf, so the block is built once and its bytes are kept.
Source: internal/configtxgen/encoder and common/genesis of Fabric v3.1.5; embedded-network.md C.4, C.5."""

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fabric_protos.common import common_pb2, configtx_pb2, configuration_pb2, policies_pb2
from fabric_protos.msp import msp_config_pb2
from fabric_protos.orderer import configuration_pb2 as orderer_pb2
from fabric_protos.peer import configuration_pb2 as peer_pb2
from google.protobuf.message import DecodeError, Message
from tallystick.fabric.block import data_hash
from tallystick.fabric.hashing import Hash

from network.channel import consensus, policy
from network.identity.enrolment import authority_folder
from network.identity.identities import load_node
from network.topology import Organisation, Topology

CHANNEL_CAPABILITY: Final = "V3_0"
ORDERER_CAPABILITY: Final = "V2_0"
APPLICATION_CAPABILITY: Final = "V2_5"
_ADMINS: Final = "Admins"
_WHOLE_BLOCK_WIDTH: Final = 2**32 - 1
_NONCE_BYTES: Final = 24
_METADATA_SLOTS: Final = 5


class ConfigError(Exception):
    """A block is not a configuration block; the text says where reading it failed."""


def genesis_block(topology: Topology, home: Path) -> bytes:
    """The serialised common.Block number 0 of the topology's channel, from the certificates that `establish` made.

    Each call makes another block (time and nonce): keep the bytes. Raises OSError when an identity is not there."""
    envelope = _config_envelope(topology.channel, channel_group(topology, home)).SerializeToString()
    block = common_pb2.Block(
        header=common_pb2.BlockHeader(number=0, data_hash=data_hash([envelope])),
        data=common_pb2.BlockData(data=[envelope]),
    )
    last_config = common_pb2.OrdererBlockMetadata(last_config=common_pb2.LastConfig(index=0)).SerializeToString()
    slots = [b""] * _METADATA_SLOTS
    slots[common_pb2.SIGNATURES] = common_pb2.Metadata(value=last_config).SerializeToString()
    block.metadata.metadata.extend(slots)
    return block.SerializeToString()


def parse(block_bytes: bytes) -> configtx_pb2.Config:
    """The configuration in a configuration block. Raises ConfigError for any other bytes."""
    try:
        block = common_pb2.Block.FromString(block_bytes)
        if len(block.data.data) != 1:
            raise ConfigError(f"a configuration block holds one envelope, not {len(block.data.data)}")
        payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(block.data.data[0]).payload)
        header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
        if header.type != common_pb2.CONFIG:
            raise ConfigError(f"the envelope is of type {header.type}, not a configuration")
        envelope = configtx_pb2.ConfigEnvelope.FromString(payload.data)
    except DecodeError as error:
        raise ConfigError("the bytes are no configuration block") from error
    if not envelope.HasField("config"):
        raise ConfigError("the configuration is missing")
    return envelope.config


def channel_id(block_bytes: bytes) -> str:
    """The channel that a configuration block belongs to. Raises ConfigError when it is none."""
    parse(block_bytes)
    envelope = common_pb2.Envelope.FromString(common_pb2.Block.FromString(block_bytes).data.data[0])
    header = common_pb2.Payload.FromString(envelope.payload).header
    return common_pb2.ChannelHeader.FromString(header.channel_header).channel_id


def channel_group(topology: Topology, home: Path) -> configtx_pb2.ConfigGroup:
    """The configuration itself: the groups Orderer and Application under the channel's values and policies."""
    definitions = {org.msp_id: msp_definition(org, home) for org in topology.organisations}
    return _group(
        groups={
            "Orderer": _orderer_group(topology, home, definitions),
            "Application": _application_group(topology, definitions),
        },
        values={
            "HashingAlgorithm": configuration_pb2.HashingAlgorithm(name="SHA256"),
            "BlockDataHashingStructure": configuration_pb2.BlockDataHashingStructure(width=_WHOLE_BLOCK_WIDTH),
            "Capabilities": _capabilities(CHANNEL_CAPABILITY),
        },
        policies=_meta_policies(),
    )


def msp_definition(organisation: Organisation, home: Path) -> msp_config_pb2.MSPConfig:
    """An organisation's MSP: its two authorities, NodeOUs, and its revocation list when one is kept in the home.

    The same bytes must stand in the Orderer and in the Application group (common/channelconfig/msp.go)."""
    folder = authority_folder(home, organisation.name)
    ca = (folder / "certificate.pem").read_bytes()
    tls_ca = (authority_folder(home, organisation.name, "tlsca") / "certificate.pem").read_bytes()
    crl = folder / "crl.pem"
    fabric = msp_config_pb2.FabricMSPConfig(
        name=organisation.msp_id,
        root_certs=[ca],
        tls_root_certs=[tls_ca],
        revocation_list=[crl.read_bytes()] if crl.exists() else [],
        crypto_config=msp_config_pb2.FabricCryptoConfig(
            signature_hash_family="SHA2", identity_identifier_hash_function="SHA256"
        ),
        fabric_node_ous=msp_config_pb2.FabricNodeOUs(
            enable=True,
            client_ou_identifier=_ou_identifier(ca, "client"),
            peer_ou_identifier=_ou_identifier(ca, "peer"),
            admin_ou_identifier=_ou_identifier(ca, "admin"),
            orderer_ou_identifier=_ou_identifier(ca, "orderer"),
        ),
    )
    return msp_config_pb2.MSPConfig(type=0, config=fabric.SerializeToString())


def _ou_identifier(ca: bytes, ou: str) -> msp_config_pb2.FabricOUIdentifier:
    return msp_config_pb2.FabricOUIdentifier(certificate=ca, organizational_unit_identifier=ou)


def _orderer_group(
    topology: Topology, home: Path, definitions: Mapping[str, msp_config_pb2.MSPConfig]
) -> configtx_pb2.ConfigGroup:
    consenters = _consenters(topology, home)
    batch = topology.batch
    values: dict[str, Message] = {
        "ConsensusType": consensus.consensus_type(topology, consenters),
        "BatchSize": orderer_pb2.BatchSize(
            max_message_count=batch.max_message_count,
            absolute_max_bytes=batch.absolute_max_bytes,
            preferred_max_bytes=batch.preferred_max_bytes,
        ),
        # SmartBFT goes by its own interval; the two are kept equal so that every reader sees the same.
        "BatchTimeout": orderer_pb2.BatchTimeout(timeout=consensus.duration(batch.interval_ms)),
        "ChannelRestrictions": orderer_pb2.ChannelRestrictions(),
        "Capabilities": _capabilities(ORDERER_CAPABILITY),
    }
    if topology.consensus == consensus.BFT:
        values["Orderers"] = configuration_pb2.Orderers(consenter_mapping=consenters)
    block_validation = consensus.block_validation(topology, consenters)
    return _group(
        groups={
            organisation.msp_id: _group(
                values={
                    "MSP": definitions[organisation.msp_id],
                    "Endpoints": configuration_pb2.OrdererAddresses(
                        addresses=[node.advertised for node in organisation.orderers]
                    ),
                },
                policies=_organisation_policies(organisation.msp_id),
            )
            for organisation in topology.organisations
            if organisation.orderers
        },
        values=values,
        policies={**_meta_policies(), "BlockValidation": block_validation},
    )


def _application_group(
    topology: Topology, definitions: Mapping[str, msp_config_pb2.MSPConfig]
) -> configtx_pb2.ConfigGroup:
    majority = policy.implicit_meta("MAJORITY", "Endorsement")
    return _group(
        groups={
            organisation.msp_id: _group(
                values={"MSP": definitions[organisation.msp_id], "AnchorPeers": _anchor_peers(organisation)},
                policies=_organisation_policies(organisation.msp_id),
            )
            for organisation in topology.organisations
            if organisation.peers
        },
        values={"Capabilities": _capabilities(APPLICATION_CAPABILITY)},
        policies={**_meta_policies(), "Endorsement": majority, "LifecycleEndorsement": majority},
    )


def _consenters(topology: Topology, home: Path) -> list[configuration_pb2.Consenter]:
    consenters = []
    for number, (organisation, node) in enumerate(topology.orderers(), start=1):
        loaded = load_node(home, organisation, node)
        host, _, port = node.advertised.rpartition(":")
        consenters.append(
            configuration_pb2.Consenter(
                id=number,
                host=host,
                port=int(port),
                msp_id=organisation.msp_id,
                identity=loaded.certificate,
                client_tls_cert=loaded.tls_certificate,
                server_tls_cert=loaded.tls_certificate,
            )
        )
    return consenters


def _anchor_peers(organisation: Organisation) -> peer_pb2.AnchorPeers:
    host, _, port = organisation.peers[0].advertised.rpartition(":")
    return peer_pb2.AnchorPeers(anchor_peers=[peer_pb2.AnchorPeer(host=host, port=int(port))])


def _meta_policies() -> dict[str, Message]:
    rules = {"Readers": "ANY", "Writers": "ANY", _ADMINS: "MAJORITY"}
    return {name: policy.implicit_meta(rule, name) for name, rule in rules.items()}


def _organisation_policies(msp_id: str) -> dict[str, Message]:
    # Peers do not write. SmartBFT judges its consenters' votes by Writers, hence the orderers there.
    return {
        "Readers": policy.any_role(msp_id, "admin", "peer", "client", "orderer"),
        "Writers": policy.any_role(msp_id, "admin", "client", "orderer"),
        _ADMINS: policy.any_role(msp_id, "admin"),
        "Endorsement": policy.any_role(msp_id, "peer"),
    }


def _group(
    *,
    values: Mapping[str, Message],
    policies: Mapping[str, Message],
    groups: Mapping[str, configtx_pb2.ConfigGroup] | None = None,
) -> configtx_pb2.ConfigGroup:
    """A group at version 0 whose every element only the group's Admins may change."""
    group = configtx_pb2.ConfigGroup(mod_policy=_ADMINS)
    for name, inner in (groups or {}).items():
        group.groups[name].CopyFrom(inner)
    for name, value in values.items():
        group.values[name].value = value.SerializeToString(deterministic=True)
        group.values[name].mod_policy = _ADMINS
    for name, rule in policies.items():
        entry = group.policies[name]
        entry.mod_policy = _ADMINS
        meta = isinstance(rule, policies_pb2.ImplicitMetaPolicy)
        entry.policy.type = policies_pb2.Policy.IMPLICIT_META if meta else policies_pb2.Policy.SIGNATURE
        entry.policy.value = rule.SerializeToString()
    return group


def _capabilities(*names: str) -> configuration_pb2.Capabilities:
    return configuration_pb2.Capabilities(capabilities={name: configuration_pb2.Capability() for name in names})


def _config_envelope(channel: str, group: configtx_pb2.ConfigGroup) -> common_pb2.Envelope:
    """The unsigned envelope of a first configuration: nobody yet exists who could sign it."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    channel_header = common_pb2.ChannelHeader(
        type=common_pb2.CONFIG, version=1, channel_id=channel, tx_id=Hash.SHA256.digest(nonce).hex()
    )
    channel_header.timestamp.seconds = int(time.time())
    header = common_pb2.Header(
        channel_header=channel_header.SerializeToString(),
        signature_header=common_pb2.SignatureHeader(nonce=nonce).SerializeToString(),
    )
    envelope = configtx_pb2.ConfigEnvelope(config=configtx_pb2.Config(channel_group=group))
    payload = common_pb2.Payload(header=header, data=envelope.SerializeToString(deterministic=True))
    return common_pb2.Envelope(payload=payload.SerializeToString())
