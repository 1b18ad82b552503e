"""The entry: connect an identity to a peer's Gateway service."""

from types import TracebackType
from typing import Self

import grpc

from tallystick.fabric import _core
from tallystick.fabric._core import DEFAULT_TIMEOUTS, Settings, Timeouts
from tallystick.fabric._edge import Edge
from tallystick.fabric._retry import NO_RETRY, Retry
from tallystick.fabric.channel import Channel
from tallystick.fabric.commit import Commit
from tallystick.fabric.events import (
    BlockAndPrivateDataEventsRequest,
    BlockEventsRequest,
    ChaincodeEventsRequest,
    FilteredBlockEventsRequest,
    LiveSources,
)
from tallystick.fabric.hashing import Hash
from tallystick.fabric.identity import Identity
from tallystick.fabric.network import Network
from tallystick.fabric.proposal import Proposal
from tallystick.fabric.signer import Signer
from tallystick.fabric.transaction import Transaction


def connect(
    channel: Channel | grpc.Channel,
    identity: Identity,
    signer: Signer | None = None,
    *,
    hash: Hash | None = None,
    tls_certificate_hash: bytes | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    retry: Retry = NO_RETRY,
) -> "Gateway":
    """Gateway for an identity over a channel that the caller owns and may share between many gateways. Makes no call.

    Without a signer every object has to be signed elsewhere. hash is by default what goes with the certificate's key.
    tls_certificate_hash, SHA-256 of the DER of the TLS client certificate, is by default the channel's own.
    Raises IdentityError when the signer holds another key than the identity's certificate.
    """
    if not isinstance(channel, Channel | grpc.Channel):
        raise TypeError("connect takes a channel of tallystick.fabric here (the other interface has its own)")
    own = channel if isinstance(channel, Channel) else Channel(channel)
    certificate_hash = own.tls_certificate_hash if tls_certificate_hash is None else tls_certificate_hash
    edge = Edge(own, signer)
    return Gateway(_core.gateway_settings(identity, signer, hash, certificate_hash, timeouts, retry, edge))


class Gateway:
    """One identity's view of a peer's Gateway service.

    Thread-safe. Closing it ends its event streams and refuses later calls; the channel stays open.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._live = LiveSources()

    @property
    def identity(self) -> Identity:
        """Who acts."""
        return self._settings.identity

    def network(self, name: str, *, network_id: str | None = None) -> Network:
        """The channel of that name. network_id, if it is known, spares asking the peer for it."""
        return Network(self._settings, name, network_id, self._live)

    def proposal(self, data: bytes, signature: bytes | None = None) -> Proposal:
        """A proposal from its bytes, with a signature made elsewhere. Raises DecodeError."""
        return Proposal(self._settings, _core.read_proposal(data, signature))

    def transaction(self, data: bytes, signature: bytes | None = None) -> Transaction:
        """An endorsed transaction from its bytes, with a signature made elsewhere. Raises DecodeError."""
        return Transaction(self._settings, _core.read_transaction(data, signature))

    def commit(self, data: bytes, signature: bytes | None = None) -> Commit:
        """A commit status request from its bytes, with a signature made elsewhere. Raises DecodeError."""
        return Commit(self._settings, _core.read_commit(data, signature))

    def chaincode_events_request(self, data: bytes, signature: bytes | None = None) -> ChaincodeEventsRequest:
        """A request for chaincode events from its bytes, with a signature made elsewhere. Raises DecodeError."""
        return ChaincodeEventsRequest(self._settings, *_core.read_chaincode_events_request(data, signature))

    def block_events_request(self, data: bytes, signature: bytes | None = None) -> BlockEventsRequest:
        """A request for blocks from its bytes, with a signature made elsewhere. Raises DecodeError."""
        return BlockEventsRequest(self._settings, *_core.read_block_events_request(data, signature))

    def filtered_block_events_request(self, data: bytes, signature: bytes | None = None) -> FilteredBlockEventsRequest:
        """A request for filtered blocks from its bytes, with a signature made elsewhere. Raises DecodeError."""
        return FilteredBlockEventsRequest(self._settings, *_core.read_block_events_request(data, signature))

    def block_and_private_data_events_request(
        self, data: bytes, signature: bytes | None = None
    ) -> BlockAndPrivateDataEventsRequest:
        """A request for blocks with private data from its bytes, with a signature made elsewhere.

        Raises DecodeError.
        """
        return BlockAndPrivateDataEventsRequest(self._settings, *_core.read_block_events_request(data, signature))

    def close(self) -> None:
        """End the event streams that were opened through this gateway; later calls through it are refused.

        The channel stays open; closing twice is fine.
        """
        self._settings.edge.closed = True
        for stream in tuple(self._settings.edge.streams):
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
