"""What the ordering service is told in the channel configuration: SmartBFT or Raft, its members and its rhythm."""

from collections.abc import Sequence
from typing import Final

from fabric_protos.common import configuration_pb2, policies_pb2
from fabric_protos.orderer import configuration_pb2 as orderer_pb2
from fabric_protos.orderer.etcdraft import configuration_pb2 as raft_pb2
from fabric_protos.orderer.smartbft import configuration_pb2 as smartbft_pb2

from network.channel import policy
from network.topology import BatchSettings, Topology

_MIB: Final = 1024 * 1024
BFT: Final = "BFT"


def consensus_type(topology: Topology, consenters: Sequence[configuration_pb2.Consenter]) -> orderer_pb2.ConsensusType:
    """The ConsensusType value; for Raft the consenters stand in its metadata, for BFT in `Orderers`."""
    if topology.consensus == BFT:
        metadata = _smartbft(topology.batch).SerializeToString()
    else:
        metadata = _raft(consenters).SerializeToString()
    return orderer_pb2.ConsensusType(type=topology.consensus, metadata=metadata)


def block_validation(
    topology: Topology, consenters: Sequence[configuration_pb2.Consenter]
) -> policies_pb2.SignaturePolicyEnvelope:
    """Who must sign a block: a quorum of the pinned consenter identities, or under Raft any one orderer.

    Raft pins no identities; `ANY Writers` there would let every client of an orderer organisation vouch for blocks."""
    if topology.consensus != BFT:
        msp_ids = dict.fromkeys(consenter.msp_id for consenter in consenters)
        return policy.n_out_of(1, [policy.role(msp_id, "orderer") for msp_id in msp_ids])
    principals = [policy.identity(consenter.msp_id, consenter.identity) for consenter in consenters]
    return policy.n_out_of(quorum(len(consenters)), principals)


def quorum(consenters: int) -> int:
    """⌈(N + F + 1) / 2⌉ with F = ⌊(N − 1) / 3⌋: 3 of 4 (common/policies/bft.go)."""
    faulty = (consenters - 1) // 3
    return (consenters + faulty + 2) // 2


def duration(milliseconds: int) -> str:
    """A duration as Go writes it (time.Duration.String): `200ms`, `10s`, `1m0s`, `1.5s`."""
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 1000}.{rest % 1000:03d}".rstrip("0").rstrip(".")
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{seconds}s"


def _smartbft(batch: BatchSettings) -> smartbft_pb2.Options:
    # With these times a lost leader was replaced in 3 to 4 s on one machine (fabric-network.md §6); sync_on_start costs
    # 6 s at every start. Rotation stays unspecified, because Fabric refuses it when it is on.
    return smartbft_pb2.Options(
        request_batch_max_count=batch.max_message_count,
        request_batch_max_bytes=batch.absolute_max_bytes,
        request_batch_max_interval=duration(batch.interval_ms),
        incoming_message_buffer_size=200,
        request_pool_size=100_000,
        request_forward_timeout="300ms",
        request_complain_timeout="3s",
        request_auto_remove_timeout="3m0s",
        request_max_bytes=batch.absolute_max_bytes,
        view_change_resend_interval="2s",
        view_change_timeout="10s",
        leader_heartbeat_timeout="5s",
        leader_heartbeat_count=10,
        collect_timeout="1s",
        sync_on_start=False,
    )


def _raft(consenters: Sequence[configuration_pb2.Consenter]) -> raft_pb2.ConfigMetadata:
    members = [
        raft_pb2.Consenter(
            host=consenter.host,
            port=consenter.port,
            client_tls_cert=consenter.client_tls_cert,
            server_tls_cert=consenter.server_tls_cert,
        )
        for consenter in consenters
    ]
    options = raft_pb2.Options(
        tick_interval="500ms",
        election_tick=10,
        heartbeat_tick=1,
        max_inflight_blocks=5,
        snapshot_interval_size=16 * _MIB,
    )
    return raft_pb2.ConfigMetadata(consenters=members, options=options)
