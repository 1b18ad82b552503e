"""A channel's policy as an access rule, and who may read (core/aclmgmt and core/policy of Fabric v3.1.5)."""

from typing import Final

from network.embedded.policy import PolicyError, PolicyManager, SignedData

READERS: Final = "/Channel/Application/Readers"
WRITERS: Final = "/Channel/Application/Writers"


class AccessError(Exception):
    """The request may not be answered; the text is the peer's own."""


def check_readers(policies: PolicyManager, channel: str, requested: str, signed: SignedData) -> None:
    """Let pass what a reader of the channel signed (commit status, chaincode events, block events).

    Raises `AccessError` for another channel, an unreadable or invalid identity, a bad signature and a non-reader."""
    if not requested:
        raise AccessError(
            "Invalid channel ID name during check policy on signed data. Name must be different from nil."
        )
    check_policy(policies, channel, requested, READERS, signed)


def check_policy(policies: PolicyManager, channel: str, requested: str, path: str, signed: SignedData) -> None:
    """Let pass what satisfies a policy of our channel. Raises `AccessError`, also when another channel is meant."""
    if requested != channel:
        raise AccessError(f"Failed to get policy manager for channel [{requested}]")
    try:
        policies.policy(path).evaluate([signed])
    except PolicyError as error:
        raise AccessError(
            f"Failed evaluating policy on signed data during check policy on channel [{channel}] "
            f"with policy [{path}]: [{error}]"
        ) from error
