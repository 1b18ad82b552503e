"""For those who come from hfc (fabric-sdk-py): its calls with its argument names, carried out by the Gateway client.

Nothing of hfc is imported: its copy of Fabric's messages cannot be in one process with the official ones. Two things
differ on purpose. Errors are raised by default, where hfc hands them back as the result (`raise_on_error=False` gives
hfc's text, with a DeprecationWarning). And the peer's Gateway collects endorsements: `peers` only says which
organisations endorse.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tallystick import aio
from tallystick.fabric import signer as signers
from tallystick.fabric._retry import NO_RETRY, Retry
from tallystick.fabric.block import Block, BlockTransaction, ChainInfo, processed_transaction
from tallystick.fabric.errors import FabricError, GatewayError, IdentityError
from tallystick.fabric.identity import Identity
from tallystick.fabric.network import LEDGER_CHAINCODE
from tallystick.fabric.signer import Signer

__all__ = ["Client", "User", "identity_from", "identity_from_wallet"]


@dataclass(frozen=True, slots=True)
class User:
    """A requestor: who acts and with which key, and the organisation of the profile whose peer is asked."""

    name: str
    organization: str
    identity: Identity
    signer: Signer


def identity_from(enrolled: Any, msp_id: str | None = None) -> tuple[Identity, Signer]:
    """Identity and signer from hfc's Enrollment (attributes `cert`, `private_key`) or User (`enrollment`, `msp_id`).

    Keys may be PEM or key objects. Raises IdentityError when something is missing or cannot be read.
    """
    enrollment = getattr(enrolled, "enrollment", None) or enrolled
    certificate, key = getattr(enrollment, "cert", None), getattr(enrollment, "private_key", None)
    chosen = msp_id or getattr(enrolled, "msp_id", None)
    if not (certificate and key and chosen):
        raise IdentityError("an enrolment needs a certificate (cert), a key (private_key) and an MSP id (msp_id)")
    is_key = isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey)
    return Identity.x509(chosen, certificate), signers.from_key(key) if is_key else signers.from_pem(key)


def identity_from_wallet(path: str | Path, enrollment_id: str, msp_id: str) -> tuple[Identity, Signer]:
    """Identity and signer from hfc's FileSystemWallet:

    `private_sk` and `enrollmentCert.pem` in the folder of that id.
    """
    folder = Path(path) / enrollment_id
    certificate = _file(folder / "enrollmentCert.pem")
    return Identity.x509(msp_id, certificate), signers.from_pem(_file(folder / "private_sk"))


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(f"{path} cannot be read: {error.strerror}") from error


class Client:
    """hfc's Client over a connection profile: the parts that have a meaning with the Gateway. Asyncio, as in hfc.

    net_profile is the path of the profile (JSON). Relative paths in it count from the current folder, as in hfc, and if
    there is nothing, from the profile's. Use it in an `async with` block or await `close`.
    """

    def __init__(self, net_profile: str | Path, *, retry: Retry = NO_RETRY) -> None:
        self._path = Path(net_profile)
        try:
            self._profile: dict[str, Any] = json.loads(_file(self._path))
        except ValueError as error:
            raise IdentityError(f"{net_profile} is not a connection profile in JSON") from error
        self._retry = retry
        self._channels: dict[str, aio.Channel] = {}

    async def close(self) -> None:
        """Close the connections."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def get_user(self, org_name: str, name: str) -> User:
        """A user of the profile with certificate and key. Raises IdentityError."""
        organization = self._entry("organizations", org_name)
        entry = organization.get("users", {}).get(name)
        if entry is None:
            raise IdentityError(f"the profile has no user {name!r} in organisation {org_name!r}")
        key = entry.get("private_key") or entry.get("key")
        identity = Identity.x509(organization.get("mspid", ""), self._pem(entry.get("cert")))
        return User(name, org_name, identity, signers.from_pem(self._pem(key)))

    def new_channel(self, name: str) -> str:
        """The name of a channel. hfc needs this call; here every call names its channel."""
        return name

    async def chaincode_invoke(
        self,
        requestor: User,
        channel_name: str,
        peers: Sequence[Any],
        args: Sequence[str | bytes],
        cc_name: str,
        fcn: str = "invoke",
        transient_map: Mapping[str, str | bytes] | None = None,
        wait_for_event: bool = False,
        wait_for_event_timeout: float = 30,
        raise_on_error: bool = True,
    ) -> str:
        """Submit a transaction and return the contract's answer as text; wait for its commit if wait_for_event.

        Raises the errors of `contract.submit`.
        """
        contract = self._network(requestor, channel_name).contract(cc_name)
        options: dict[str, Any] = {"transient": transient_map, "endorsing_organizations": self._organizations(peers)}
        try:
            if wait_for_event:
                return _text(await contract.submit(fcn, *args, timeout=float(wait_for_event_timeout), **options))
            return _text((await contract.submit_async(fcn, *args, **options)).result)
        except FabricError as error:
            return _handed_back(error, raise_on_error)

    async def chaincode_query(
        self,
        requestor: User,
        channel_name: str,
        peers: Sequence[Any],
        args: Sequence[str | bytes],
        cc_name: str,
        fcn: str = "query",
        transient_map: Mapping[str, str | bytes] | None = None,
        raise_on_error: bool = True,
    ) -> str:
        """Evaluate a transaction and return the contract's answer as text. Raises EvaluateError."""
        contract = self._network(requestor, channel_name).contract(cc_name)
        organizations = self._organizations(peers)
        try:
            answer = await contract.evaluate(fcn, *args, transient=transient_map, endorsing_organizations=organizations)
            return _text(answer)
        except FabricError as error:
            return _handed_back(error, raise_on_error)

    async def query_info(
        self, requestor: User, channel_name: str, peers: Sequence[Any] = (), decode: bool = True
    ) -> ChainInfo | bytes:
        """Height and hashes of the ledger; as bytes with decode=False. Raises EvaluateError."""
        answer = await self._ledger(requestor, channel_name, "GetChainInfo")
        return ChainInfo.from_bytes(answer) if decode else answer

    async def query_block(
        self,
        requestor: User,
        channel_name: str,
        peers: Sequence[Any] = (),
        block_number: int | str = 0,
        decode: bool = True,
    ) -> Block | bytes:
        """A block by its number. Raises EvaluateError."""
        answer = await self._ledger(requestor, channel_name, "GetBlockByNumber", str(block_number))
        return Block.from_bytes(answer) if decode else answer

    async def query_block_by_txid(
        self, requestor: User, channel_name: str, peers: Sequence[Any] = (), tx_id: str = "", decode: bool = True
    ) -> Block | bytes:
        """The block of a transaction. Raises EvaluateError."""
        answer = await self._ledger(requestor, channel_name, "GetBlockByTxID", tx_id)
        return Block.from_bytes(answer) if decode else answer

    async def query_block_by_hash(
        self,
        requestor: User,
        channel_name: str,
        peers: Sequence[Any] = (),
        block_hash: bytes | str = b"",
        decode: bool = True,
    ) -> Block | bytes:
        """The block with this header hash, as bytes or in hex. Raises EvaluateError."""
        digest = bytes.fromhex(block_hash) if isinstance(block_hash, str) else block_hash
        answer = await self._ledger(requestor, channel_name, "GetBlockByHash", digest)
        return Block.from_bytes(answer) if decode else answer

    async def query_transaction(
        self, requestor: User, channel_name: str, peers: Sequence[Any] = (), tx_id: str = "", decode: bool = True
    ) -> BlockTransaction | bytes:
        """A transaction by its id, with its verdict. Raises EvaluateError."""
        answer = await self._ledger(requestor, channel_name, "GetTransactionByID", tx_id)
        return processed_transaction(answer) if decode else answer

    def channel_create(self, *_: Any, **__: Any) -> NoReturn:
        """Gone since Fabric 2.3: there is no system channel."""
        raise FabricError("channels are made by joining orderers and peers to a genesis block (osnadmin, peer)")

    def chaincode_install(self, *_: Any, **__: Any) -> NoReturn:
        """Gone since Fabric 2.0."""
        raise FabricError("use the chaincode lifecycle: package, install, approve, commit")

    def chaincode_instantiate(self, *_: Any, **__: Any) -> NoReturn:
        """Gone since Fabric 2.0."""
        raise FabricError("use the chaincode lifecycle: approve the definition per organisation, then commit it")

    def chaincode_upgrade(self, *_: Any, **__: Any) -> NoReturn:
        """Gone since Fabric 2.0."""
        raise FabricError("use the chaincode lifecycle: approve and commit a definition with the next sequence")

    # ---- the profile

    def _network(self, requestor: User, channel_name: str) -> aio.Network:
        peers = self._entry("organizations", requestor.organization).get("peers", [])
        if not peers:
            raise IdentityError(f"the profile names no peer of organisation {requestor.organization!r}")
        channel = self._channels.get(peers[0])
        if channel is None:
            channel = self._channels[peers[0]] = self._connect(self._entry("peers", peers[0]))
        gateway = aio.connect(channel, requestor.identity, requestor.signer, retry=self._retry)
        return gateway.network(channel_name)

    def _connect(self, peer: dict[str, Any]) -> aio.Channel:
        scheme, _, target = str(peer["url"]).rpartition("://")
        authority = peer.get("tlsCACerts")
        if authority is None or scheme == "grpc":
            return aio.channel(target, insecure=True)
        options = peer.get("grpcOptions", {})
        name = options.get("grpc.ssl_target_name_override") or options.get("ssl-target-name-override")
        certificate, key = peer.get("clientCert"), peer.get("clientKey")
        return aio.channel(
            target,
            tls_ca=self._pem(authority),
            client_certificate=self._pem(certificate) if certificate else None,
            client_key=self._pem(key) if key else None,
            server_name=name,
        )

    async def _ledger(self, requestor: User, channel_name: str, function: str, *args: str | bytes) -> bytes:
        contract = self._network(requestor, channel_name).contract(LEDGER_CHAINCODE)
        return await contract.evaluate(function, channel_name, *args)

    def _organizations(self, peers: Sequence[Any]) -> list[str]:
        """MSP ids of the organisations that these peers (names, or objects with a name) belong to, each once."""
        names = [peer if isinstance(peer, str) else str(peer.name) for peer in peers]
        owners = {
            peer: organization.get("mspid", "")
            for organization in self._profile.get("organizations", {}).values()
            for peer in organization.get("peers", [])
        }
        unknown = [name for name in names if name not in owners]
        if unknown:
            raise IdentityError(f"the profile has no peer {unknown[0]!r}")
        return list(dict.fromkeys(owners[name] for name in names))

    def _entry(self, section: str, name: str) -> dict[str, Any]:
        entry = self._profile.get(section, {}).get(name)
        if not isinstance(entry, dict):
            raise IdentityError(f"the profile has no {name!r} in {section}")
        return entry

    def _pem(self, value: str | Mapping[str, Any] | None) -> bytes:
        """PEM from the profile's forms: a path, `{"path": …}` or `{"pem": …}`."""
        if isinstance(value, Mapping):
            if "pem" in value:
                return (
                    "\n".join(value["pem"]).encode() if isinstance(value["pem"], list) else str(value["pem"]).encode()
                )
            value = value.get("path")
        if not value:
            raise IdentityError("the profile leaves out a certificate or key")
        path = Path(value)
        return _file(path if path.is_absolute() or path.exists() else self._path.parent / path)


def _text(answer: bytes) -> str:
    return answer.decode(errors="replace")


def _handed_back(error: FabricError, raise_on_error: bool) -> str:
    if raise_on_error:
        raise error
    warnings.warn(
        "raise_on_error=False returns errors as results, where they are taken for answers: catch FabricError instead",
        DeprecationWarning,
        stacklevel=3,
    )
    answer = error.contract_answer if isinstance(error, GatewayError) else None
    return answer.message if answer else str(error)
