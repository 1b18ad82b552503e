"""PEM as users hand it over, and what to say when it is something else."""

import re

from tallystick.fabric.errors import IdentityError

_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")


def pem_bytes(value: object, what: str) -> bytes:
    """PEM as bytes. Raises IdentityError for what is neither bytes nor text."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise IdentityError(f"{what} must be given as PEM, bytes or text, not as {type(value).__name__}{_READ_IT}")


_READ_IT = ": read the file first, for example with Path(…).read_bytes()"


def instead(data: bytes) -> str:
    """What the bytes are in place of the PEM that was wanted, as the end of a sentence; empty when that is unknown."""
    label = _LABEL.search(data)
    if label:
        return f": it holds a {label[1].decode().lower()}"
    if not data.strip():
        return ": it is empty"
    if len(data) < 1024 and b"\n" not in data.strip() and (b"/" in data or b"\\" in data or b"." in data):
        return f": it looks like a path{_READ_IT}"
    return ""
