"""What a call may end with: a gRPC code, Fabric's text and one detail per node that failed.

Kept apart from grpc.aio so that the gateway's rules stay plain functions that raise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
from fabric_protos.gateway import gateway_pb2
from google.protobuf.message import DecodeError, Message

DETAILS_TRAILER: Final = "grpc-status-details-bin"
_ERROR_DETAIL_URL: Final = b"type.googleapis.com/gateway.ErrorDetail"
_WIRE_FORMAT: Final = "proto: cannot parse invalid wire-format data"

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Detail:
    """One node's failure inside a call: its advertised address, its organisation and its own text."""

    address: str
    msp_id: str
    message: str


class RpcError(Exception):
    """The call fails with this status. `details` keep the order in which the nodes answered."""

    def __init__(self, code: grpc.StatusCode, message: str, details: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)

    def trailer(self) -> tuple[tuple[str, bytes], ...]:
        """The trailing metadata: google.rpc.Status with the details, or nothing when there are none."""
        if not self.details:
            return ()
        return ((DETAILS_TRAILER, status(self.code, self.message, self.details)),)


def status(code: grpc.StatusCode, message: str, details: Sequence[Detail]) -> bytes:
    """Serialise google.rpc.Status{code, message, repeated Any details}.

    The message is not in the published Fabric protos; three fields do not deserve a descriptor pool."""
    number, _ = code.value
    parts = [b"\x08" + varint(number), field(2, message.encode())]
    for detail in details:
        body = gateway_pb2.ErrorDetail(address=detail.address, msp_id=detail.msp_id, message=detail.message)
        parts.append(field(3, field(1, _ERROR_DETAIL_URL) + field(2, body.SerializeToString())))
    return b"".join(parts)


def varint(value: int) -> bytes:
    """Encode a non-negative whole number in protobuf's base-128 form."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: bytes) -> bytes:
    """Encode one length-delimited protobuf field (number 1 to 15), present even when empty."""
    return bytes((number << 3 | 2,)) + varint(len(value)) + value


class Unreadable(Exception):
    """Bytes that are no message of the expected type; the text is what protoutil of Fabric says."""


def read(kind: type[M], data: bytes, name: str = "") -> M:
    """Parse a message. Raises `Unreadable`, prefixed with `error unmarshalling <name>` when a name is given."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        prefix = f"error unmarshalling {name}: " if name else ""
        raise Unreadable(prefix + _WIRE_FORMAT) from error
