"""Blocks as the ordering service builds them: C.4."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from fabric_protos.common import common_pb2
from tallystick.fabric import signers

from network.embedded import block
from network.embedded.block import Consenter

KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(4)]
CONSENTERS = [Consenter(id=number, sign=signers.from_key(key)) for number, key in enumerate(KEYS, start=1)]
ENVELOPES = [b"first", b"second"]


def metadata_of(built: common_pb2.Block) -> common_pb2.Metadata:
    """The content of the signature slot."""
    return common_pb2.Metadata.FromString(built.metadata.metadata[block.SIGNATURES])


def der(number: int, previous: bytes, data: bytes) -> bytes:
    """The header's DER written out by hand for numbers below 128."""
    body = bytes((2, 1, number, 4, len(previous))) + previous + bytes((4, len(data))) + data
    return bytes((0x30, len(body))) + body


def test_data_hash_covers_the_plain_concatenation() -> None:
    built = block.build(1, b"p" * 32, ENVELOPES, CONSENTERS)
    assert built.header.data_hash == hashlib.sha256(b"firstsecond").digest()
    assert list(built.data.data) == ENVELOPES
    assert (built.header.number, built.header.previous_hash) == (1, b"p" * 32)


@pytest.mark.parametrize(("number", "view"), [(1, "1001"), (2, "10021801"), (300, "10ac0218ab02")])
def test_view_metadata_counts_decisions(number: int, view: str) -> None:
    value = metadata_of(block.build(number, b"", ENVELOPES, CONSENTERS)).value
    assert value == b"\n\x00\x12" + bytes((len(view) // 2,)) + bytes.fromhex(view)


def test_peer_slots_and_the_last_configuration_are_empty() -> None:
    slots = list(block.build(1, b"", ENVELOPES, CONSENTERS).metadata.metadata)
    assert len(slots) == 5
    assert slots[1:] == [b""] * 4


@pytest.mark.parametrize(
    ("number", "signers_expected"), [(1, [2, 3, 4]), (2, [3, 4, 1]), (3, [4, 1, 2]), (4, [1, 2, 3])]
)
def test_three_of_four_consenters_sign(number: int, signers_expected: list[int]) -> None:
    built = block.build(number, b"p" * 32, ENVELOPES, CONSENTERS)
    metadata = metadata_of(built)
    header = der(number, b"p" * 32, built.header.data_hash)
    found = []
    for entry in metadata.signatures:
        identifier = common_pb2.IdentifierHeader.FromString(entry.identifier_header)
        assert (len(identifier.nonce), entry.signature_header) == (24, b"")
        digest = hashlib.sha256(metadata.value + entry.identifier_header + header).digest()
        public = KEYS[identifier.identifier - 1].public_key()
        public.verify(entry.signature, digest, ec.ECDSA(Prehashed(SHA256())))
        found.append(identifier.identifier)
    assert found == signers_expected


def test_signed_by_answers_what_each_consenter_signed() -> None:
    built = block.build(7, b"p" * 32, ENVELOPES, CONSENTERS)
    for entry in block.signed_by(built):
        public = KEYS[entry.consenter - 1].public_key()
        public.verify(entry.signature, hashlib.sha256(entry.message).digest(), ec.ECDSA(Prehashed(SHA256())))


def test_the_orderers_view_hides_what_peers_write() -> None:
    built = block.build(1, b"", ENVELOPES, CONSENTERS)
    ordered = built.SerializeToString()
    built.metadata.metadata[block.TRANSACTIONS_FILTER] = b"\x00\x0b"
    built.metadata.metadata[block.COMMIT_HASH] = b"hash"
    assert block.as_ordered(built.SerializeToString()) == ordered
