"""Founds the members of a new network: the one transaction that every other step of the contracts waits for.

It goes through the gateway like anybody's, signed by an admin (ledger-conventions.md §5). What the members, policies
and calendars are stands in the topology; this module knows the transaction's name and nothing of its meaning."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tallystick.fabric import Contract, Identity, Retry, channel, connect, signers
from tallystick.fabric.errors import FabricError, GatewayError

from network.identity import founding
from network.topology import Topology

_CHAINCODE: Final = "trade"
_QUERY: Final = "business_date:get"
_TRANSACTION: Final = "member:found"
_FOUNDED_BEFORE: Final = "network_founded"


class FoundingError(Exception):
    """The network runs but could not be founded; the text says what refused it."""


def found(home: Path, topology: Topology, connection: Mapping[str, Any], *, simulated_days: bool | None = None) -> bool:
    """Found the network unless it is founded, or has nothing to found with; answers whether this call did it.

    `simulated_days` replaces the topology's own setting. Safe to repeat, also after an interruption. Raises
    `FoundingError`."""
    names = {chaincode.name for chaincode in topology.chaincodes}
    if not topology.founding or _CHAINCODE not in names:
        return False
    entry = connection["organisations"][0]
    folder = home / "identities" / entry["name"] / "admin"
    identity = Identity.x509(entry["msp_id"], (folder / "certificate.pem").read_bytes())
    sign = signers.from_pem((folder / "private_key.pem").read_bytes())
    tls_ca = (home / entry["tls_ca_file"]).read_bytes()
    with (
        channel(entry["gateway"], tls_ca=tls_ca, server_name=entry["tls_host_override"]) as link,
        connect(link, identity, sign, retry=Retry.safe()) as gateway,
    ):
        contract = gateway.network(connection["channel"]).contract(_CHAINCODE)
        return not _is_founded(contract) and _found(contract, home, topology, connection, simulated_days)


def _is_founded(contract: Contract) -> bool:
    """Whether there is a business date, which founding sets first."""
    try:
        contract.evaluate(_QUERY, b"{}")
    except GatewayError as error:
        if error.contract_answer is None:
            raise FoundingError(f"The network does not answer whether it is founded: {error}") from error
        return False
    return True


def _found(
    contract: Contract, home: Path, topology: Topology, connection: Mapping[str, Any], simulated_days: bool | None
) -> bool:
    argument = founding.argument(home, topology) | {"request_id": f"found-{connection['network_id'][:32]}"}
    if simulated_days is not None:
        argument["simulated_days"] = simulated_days
    try:
        contract.submit(_TRANSACTION, json.dumps(argument))
    except FabricError as error:
        answer = error.contract_answer if isinstance(error, GatewayError) else None
        if answer is not None and _FOUNDED_BEFORE in answer.message:
            return False
        text = answer.message if answer is not None else str(error)
        raise FoundingError(f"{_TRANSACTION} was refused: {text}") from error
    return True
