"""Damaged and senseless messages, the same for the same seed; standard library only, so that a soak run can use it."""

import random
from collections.abc import Iterator

from chaincode.shim.stub import ChaincodeMessage

_TYPES = sorted(ChaincodeMessage.Type.values())


def damaged(data: bytes, seed: int) -> Iterator[bytes]:
    """Endless variants of `data`: cut off, bits flipped, parts removed, repeated, replaced or filled with noise."""
    source = random.Random(seed)  # noqa: S311 - repeatable noise, no secret
    while True:
        start = source.randrange(len(data) + 1)
        end = min(len(data), start + source.choice((1, 1, 2, 4, 16, len(data))))
        match source.randrange(6):
            case 0:
                yield data[:start]
            case 1:
                yield data[:start] + bytes(byte ^ (1 << source.randrange(8)) for byte in data[start:end]) + data[end:]
            case 2:
                yield data[:start] + data[end:]
            case 3:
                yield data[:end] + data[start:end] * source.randrange(1, 4) + data[end:]
            case 4:
                yield data[:start] + source.randbytes(end - start) + data[end:]
            case _:
                yield data[:start] + source.randbytes(source.randrange(1, 9)) + data[start:]


def messages(seed: int) -> Iterator[ChaincodeMessage]:
    """Endless stream messages of every type with payloads of noise, a few ids and sometimes a proposal."""
    source = random.Random(seed)  # noqa: S311 - repeatable noise, no secret
    while True:
        message = ChaincodeMessage(
            type=source.choice(_TYPES),
            payload=source.randbytes(source.choice((0, 1, 8, 64, 512))),
            txid=source.choice(("", "t1", "t2", "t3")),
            channel_id=source.choice(("", "c1", "c2")),
        )
        if source.randrange(2):
            message.proposal.proposal_bytes = source.randbytes(source.choice((0, 8, 64)))
        yield message
