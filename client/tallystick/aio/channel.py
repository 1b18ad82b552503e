"""gRPC channels to a peer for asyncio; the settings are those of `tallystick.fabric.channel`."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import grpc.aio

from tallystick.fabric.channel import IN_FLIGHT_MAX, channel_options, refuse_tls, tls_credentials


class Channel:
    """A connection to one peer, shared by any number of gateways; made by `channel`, closed by whoever made it.

    It belongs to the event loop it was made in. Use it in an `async with` block or await `close`. `raw` is the gRPC
    channel, `tls_certificate_hash` the SHA-256 of the client certificate's DER (empty without mutual TLS).
    """

    def __init__(self, raw: grpc.aio.Channel, tls_certificate_hash: bytes = b"") -> None:
        self.raw = raw
        self.tls_certificate_hash = tls_certificate_hash
        self.slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self.lock = threading.Lock()
        self.open_streams = 0
        self._methods: dict[str, Callable[..., Awaitable[bytes]]] = {}

    def unary(self, method: str) -> Callable[..., Awaitable[bytes]]:
        """The unary method of that path, from bytes to awaitable bytes."""
        call = self._methods.get(method)
        if call is None:
            call = self._methods[method] = self.raw.unary_unary(method, None, None)
        return call

    def stream(self, method: str) -> Callable[..., Any]:
        """The server-streaming method of that path, from bytes to a call with `read` and `cancel`."""
        call: Callable[..., Any] = self.raw.unary_stream(method, None, None)
        return call

    async def close(self) -> None:
        """Close the connection; calls and streams that use it end with an error."""
        await self.raw.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def channel(
    target: str,
    *,
    tls_ca: bytes | str | None = None,
    client_certificate: bytes | str | None = None,
    client_key: bytes | str | None = None,
    server_name: str | None = None,
    keepalive: float = 120.0,
    insecure: bool = False,
) -> Channel:
    """Channel to a peer's gateway at `host:port`; call it inside the running event loop. It connects at the first call.

    tls_ca is the PEM of the TLS certificate authority (without it the system's authorities decide). client_certificate
    and client_key, in PEM, are for mutual TLS. server_name is checked in place of the host in the server's certificate.
    keepalive is in seconds, at least 60. Without encryption only if `insecure=True` says so.
    Raises IdentityError for a certificate or key that cannot be read, ValueError for settings that contradict.
    """
    options = channel_options(target, server_name, keepalive)
    try:
        asyncio.get_running_loop()
    except RuntimeError as error:
        raise RuntimeError("an asyncio channel is made inside a running event loop, in a coroutine") from error
    if insecure:
        refuse_tls(tls_ca, client_certificate, client_key)
        return Channel(grpc.aio.insecure_channel(target, options))
    credentials, certificate_hash = tls_credentials(tls_ca, client_certificate, client_key)
    return Channel(grpc.aio.secure_channel(target, credentials, options), certificate_hash)
