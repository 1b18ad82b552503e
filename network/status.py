"""How the network of a home is: for `tallystick network status`, and for waiting until a start is done."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import grpc
from fabric_protos.common import ledger_pb2
from tallystick.fabric import Identity, channel, connect, signers
from tallystick.fabric.errors import FabricError

from network.home import LEDGER, TOPOLOGY, read_connection, running_pid
from network.identity.expiry import Expiry, report

EXPIRY_WARNING_DAYS: Final = 30
_ANSWER_SECONDS: Final = 3.0

State = Literal["absent", "stopped", "running", "unreachable"]


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One organisation's gateway: its address, and the ledger height it answers with, None when it does not answer."""

    organisation: str
    address: str
    height: int | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """A home's network as a whole. `pid` is None unless a process holds the home."""

    home: str
    state: State
    pid: int | None
    network_id: str | None
    channel: str | None
    chaincodes: tuple[str, ...]
    peers: tuple[PeerStatus, ...]
    expiring: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def inspect(home: Path) -> Status:
    """Look at a home: what it holds, who runs it, and what each gateway answers to its organisation's service user.

    Raises OSError when the home may not be read, AuthorityError when a certificate in it cannot be."""
    pid = running_pid(home)
    connection = read_connection(home)
    peers: tuple[PeerStatus, ...] = ()
    state: State = "stopped" if any((home / name).exists() for name in (TOPOLOGY, LEDGER)) else "absent"
    if pid is not None:
        organisations = connection["organisations"] if connection else []
        with ThreadPoolExecutor(max_workers=max(1, len(organisations))) as pool:
            peers = tuple(pool.map(lambda entry: _ask(home, connection or {}, entry), organisations))
        state = "running" if peers and all(peer.height is not None for peer in peers) else "unreachable"
    return Status(
        home=str(home),
        state=state,
        pid=pid,
        network_id=connection["network_id"] if connection else None,
        channel=connection["channel"] if connection else None,
        chaincodes=tuple(connection["chaincodes"]) if connection else (),
        peers=peers,
        expiring=tuple(_expiry_line(entry) for entry in report(home) if entry.days_left < EXPIRY_WARNING_DAYS),
    )


def _ask(home: Path, connection: Mapping[str, Any], entry: Mapping[str, Any]) -> PeerStatus:
    """Ask one gateway for the height of the channel; this goes the whole way of a query."""
    folder = home / "identities" / entry["name"] / "service"
    try:
        identity = Identity.x509(entry["msp_id"], (folder / "certificate.pem").read_bytes())
        sign = signers.from_pem((folder / "private_key.pem").read_bytes())
        tls_ca = (home / entry["tls_ca_file"]).read_bytes()
        with (
            closing(channel(entry["gateway"], tls_ca=tls_ca)) as link,
            connect(link, identity, sign) as gateway,
        ):
            contract = gateway.network(connection["channel"]).contract("qscc")
            answer = contract.evaluate("GetChainInfo", connection["channel"], timeout=_ANSWER_SECONDS)
    except (FabricError, grpc.RpcError, OSError) as error:
        return PeerStatus(entry["name"], entry["gateway"], None, str(error))
    return PeerStatus(entry["name"], entry["gateway"], ledger_pb2.BlockchainInfo.FromString(answer).height)


def _expiry_line(entry: Expiry) -> str:
    return f"{entry.path} {'expires' if entry.days_left >= 0 else 'expired'} on {entry.not_after:%Y-%m-%d}"
