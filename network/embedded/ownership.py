"""Whether a ledger is the one of its home: the channel in block 0 names the home's own orderers.

A ledger of another network is sound in itself, but what this home's keys signed on top of it would be worth nothing."""

from pathlib import Path

from fabric_protos.common import configtx_pb2, configuration_pb2

from network.identity import identities
from network.topology import Topology


class ForeignLedger(Exception):
    """The ledger is another network's; the text is a sentence for the operator."""


def check_home(home: Path, topology: Topology, configuration: configtx_pb2.Config) -> None:
    """Raise `ForeignLedger` unless the channel's consenters are the home's orderers, certificate by certificate.

    Raises OSError when an orderer's certificate is not in the home."""
    value = configuration.channel_group.groups["Orderer"].values["Orderers"].value
    declared = [bytes(entry.identity) for entry in configuration_pb2.Orderers.FromString(value).consenter_mapping]
    own = [identities.node_certificate(home, organisation, node) for organisation, node in topology.orderers()]
    if declared != own:
        raise ForeignLedger(
            "the ledger file is that of another network, whose orderers have other keys; nothing was changed, put this "
            "network's own ledger file back"
        )
