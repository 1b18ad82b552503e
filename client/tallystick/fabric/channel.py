"""gRPC channels to a peer, with the settings that Fabric needs."""

import hashlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tallystick.fabric._pem import instead, pem_bytes
from tallystick.fabric.errors import IdentityError

MESSAGE_BYTES_MAX = 100 * 1024 * 1024
"""Fabric's own limit; gRPC's 4 MB default fails on large blocks."""
KEEPALIVE_SECONDS_MIN = 60.0
"""A peer answers more frequent pings with GOAWAY too_many_pings and closes the connection."""
IN_FLIGHT_MAX = 200
"""Unary calls at one time on a channel. A peer takes 500 from all its clients together and refuses the rest."""
# Connection profiles hold URLs; gRPC would take the scheme for a part of the host's name.
_URL_SCHEMES = ("grpc://", "grpcs://", "http://", "https://")


class Channel:
    """A connection to one peer, shared by any number of gateways; made by `channel`, closed by whoever made it.

    Use it in a `with` block or call `close`. Create it after a fork, in the process that uses it. `raw` is the gRPC
    channel, `tls_certificate_hash` the SHA-256 of the client certificate's DER (empty without mutual TLS).
    """

    def __init__(self, raw: grpc.Channel, tls_certificate_hash: bytes = b"") -> None:
        self.raw = raw
        self.tls_certificate_hash = tls_certificate_hash
        self.slots = threading.BoundedSemaphore(IN_FLIGHT_MAX)
        self.lock = threading.Lock()
        self.open_streams = 0
        self._methods: dict[str, Any] = {}

    def unary(self, method: str) -> Callable[[bytes, float], bytes]:
        """The unary method of that path, from bytes to bytes. Raises ValueError on a closed channel."""
        call = self._methods.get(method)
        if call is None:
            call = self._methods[method] = self.raw.unary_unary(method, None, None)
        made: Callable[[bytes, float], bytes] = call
        return made

    def stream(self, method: str) -> Callable[[bytes, float | None], Any]:
        """The server-streaming method of that path, from bytes to an iterator of bytes with `cancel`."""
        call: Callable[[bytes, float | None], Any] = self.raw.unary_stream(method, None, None)
        return call

    def close(self) -> None:
        """Close the connection; calls and streams that use it end with an error."""
        self.raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
    """Channel to a peer's gateway at `host:port`. It connects at the first call.

    tls_ca is the PEM of the TLS certificate authority (without it the system's authorities decide). client_certificate
    and client_key, in PEM, are for mutual TLS. server_name is checked in place of the host in the server's certificate.
    keepalive is in seconds, at least 60. Without encryption only if `insecure=True` says so.
    Raises IdentityError for a certificate or key that cannot be read, ValueError for settings that contradict.
    """
    options = channel_options(target, server_name, keepalive)
    if insecure:
        refuse_tls(tls_ca, client_certificate, client_key)
        return Channel(grpc.insecure_channel(target, options))
    credentials, certificate_hash = tls_credentials(tls_ca, client_certificate, client_key)
    return Channel(grpc.secure_channel(target, credentials, options), certificate_hash)


def channel_options(target: str, server_name: str | None, keepalive: float) -> list[tuple[str, int | str]]:
    """The gRPC channel arguments for both sides. Raises ValueError for a target or an interval that cannot work."""
    if not target or target.lower().startswith(_URL_SCHEMES):
        raise ValueError(f"the target is `host:port`, without grpcs:// or https://, not {target!r}")
    if keepalive < KEEPALIVE_SECONDS_MIN:
        raise ValueError(
            f"keepalive must be at least {KEEPALIVE_SECONDS_MIN:.0f} seconds: peers close what pings more often"
        )
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.keepalive_time_ms", int(keepalive * 1000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
    ]
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    return options


def tls_credentials(
    tls_ca: bytes | str | None, client_certificate: bytes | str | None, client_key: bytes | str | None
) -> tuple[grpc.ChannelCredentials, bytes]:
    """Channel credentials and the hash of the client certificate (empty without one)."""
    if (client_certificate is None) != (client_key is None):
        raise ValueError("mutual TLS takes both a client certificate and its key")
    authorities = _pem(tls_ca, _AUTHORITY)
    certificate, key = _pem(client_certificate, _CERTIFICATE), _pem(client_key, _KEY)
    if authorities is not None:
        _certificate(authorities, _AUTHORITY)
    certificate_hash = b""
    if certificate is not None and key is not None:
        read = _certificate(certificate, _CERTIFICATE)
        _check_key(key, read)
        der = read.public_bytes(Encoding.DER)
        certificate_hash = hashlib.sha256(der).digest()
    return grpc.ssl_channel_credentials(authorities, key, certificate), certificate_hash


def refuse_tls(*material: object) -> None:
    """Raise ValueError when TLS material is given for a channel without encryption."""
    if any(value is not None for value in material):
        raise ValueError("an insecure channel takes no TLS certificates")


_AUTHORITY = "the TLS certificate authority"
_CERTIFICATE = "the TLS client certificate"
_KEY = "the TLS client key"


def _pem(value: bytes | str | None, what: str) -> bytes | None:
    return None if value is None else pem_bytes(value, what)


def _certificate(pem: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise IdentityError(f"{what} is not a certificate in PEM{instead(pem)}") from error


def _check_key(pem: bytes, certificate: x509.Certificate) -> None:
    """gRPC would only say at the first call that it could not make a handshaker."""
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{_KEY} is not a private key in PEM without a password{instead(pem)}") from error
    if key.public_key() != certificate.public_key():
        raise IdentityError(f"{_KEY} does not belong to {_CERTIFICATE}")
