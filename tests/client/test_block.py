"""Blocks as values: hashes, decoding, what cannot be decoded."""

import hashlib
import pickle
from datetime import UTC, datetime

import pytest
from fabric_protos.common import common_pb2, ledger_pb2
from fabric_protos.peer.transaction_pb2 import ProcessedTransaction, TxValidationCode
from tallystick.fabric import Block, ChainInfo, DecodeError, FilteredBlock, ValidationCode
from tallystick.fabric.block import data_hash, header_der, header_hash, processed_transaction
from tallystick.testing import Endorsed, StubGateway

from .sides import Side


@pytest.mark.parametrize(
    ("number", "integer"),
    [
        (0, "020100"),
        (1, "020101"),
        (127, "02017f"),
        (128, "02020080"),
        (256, "02020100"),
        (2**63, "0209008000000000000000"),
    ],
)
def test_header_der_has_minimal_integers(number: int, integer: str) -> None:
    content = bytes.fromhex(integer) + bytes.fromhex("0400") + b"\x04\x20" + b"d" * 32
    assert header_der(number, b"", b"d" * 32) == b"\x30" + bytes([len(content)]) + content


def test_header_der_writes_long_lengths() -> None:
    assert header_der(1, b"p" * 200, b"d" * 32)[:3] == b"\x30\x81\xf0"


def test_header_hash_is_sha256_of_the_der() -> None:
    assert header_hash(7, b"p" * 32, b"d" * 32) == hashlib.sha256(header_der(7, b"p" * 32, b"d" * 32)).digest()


def test_data_hash_is_sha256_of_the_envelopes() -> None:
    assert data_hash([b"one", b"two"]) == hashlib.sha256(b"onetwo").digest()
    assert data_hash([]) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("junk", [b"", b"junk", b"\xff" * 30, b"\x12\x00"])
def test_bytes_of_something_else_are_refused(junk: bytes) -> None:
    with pytest.raises(DecodeError):
        Block.from_bytes(junk)


def test_envelopes_that_cannot_be_read_stay_in_the_block() -> None:
    message = common_pb2.Block(
        header=common_pb2.BlockHeader(number=5, previous_hash=b"p", data_hash=b"d"),
        data=common_pb2.BlockData(data=[b"", b"\xff\xff", common_pb2.Envelope(payload=b"junk").SerializeToString()]),
        metadata=common_pb2.BlockMetadata(metadata=[b"", b"", b"\x01\xff\x02"]),
    )
    block = Block.from_bytes(message.SerializeToString())
    codes = [transaction.validation_code for transaction in block.transactions]
    assert codes == [ValidationCode.NIL_ENVELOPE, ValidationCode.INVALID_OTHER_REASON, ValidationCode.BAD_PAYLOAD]
    assert [transaction.index for transaction in block.transactions] == [0, 1, 2]
    assert {transaction.transaction_id for transaction in block.transactions} == {""}


def test_a_block_without_a_filter_is_not_validated() -> None:
    message = common_pb2.Block(header=common_pb2.BlockHeader(number=5), data=common_pb2.BlockData(data=[b"x"]))
    (transaction,) = Block.from_bytes(message.SerializeToString()).transactions
    assert transaction.validation_code is ValidationCode.NOT_VALIDATED
    assert not transaction.successful


def test_a_configuration_block_has_no_invocation() -> None:
    header = common_pb2.Header(
        channel_header=common_pb2.ChannelHeader(type=1, channel_id="scf", tx_id="t").SerializeToString(),
        signature_header=common_pb2.SignatureHeader(creator=b"").SerializeToString(),
    )
    envelope = common_pb2.Envelope(payload=common_pb2.Payload(header=header, data=b"config").SerializeToString())
    answer = ProcessedTransaction(transactionEnvelope=envelope, validationCode=0)
    transaction = processed_transaction(answer.SerializeToString())
    assert (transaction.type, transaction.channel, transaction.chaincode, transaction.function) == (1, "scf", "", "")
    assert (transaction.event, transaction.arguments, transaction.timestamp) == (None, (), None)


def test_blocks_pickle(side: Side, stub: StubGateway) -> None:
    stub.endorse.answer(Endorsed(b"r", "e", b"p"))
    network = side.connect(stub).network("scf")
    network.contract("trade").submit("issue")
    block = network.block(1)
    assert pickle.loads(pickle.dumps(block)) == block
    timestamp = block.transactions[0].timestamp
    assert timestamp is not None
    assert abs((datetime.now(UTC) - timestamp).total_seconds()) < 60
    assert (block.transactions[0].writes, block.transactions[0].endorsers) == ({}, ())


def test_chain_info() -> None:
    message = ledger_pb2.BlockchainInfo(height=7, currentBlockHash=b"c", previousBlockHash=b"p")
    assert ChainInfo.from_bytes(message.SerializeToString()) == ChainInfo(7, b"c", b"p")
    with pytest.raises(DecodeError):
        ChainInfo.from_bytes(b"junk")


def test_ledger_queries(side: Side, stub: StubGateway) -> None:
    network = side.connect(stub).network("scf")
    network.contract("trade").submit("issue")
    info = network.chain_info()
    assert (info.height, info.current_hash, info.previous_hash) == (2, network.block(1).hash, network.block(0).hash)
    assert network.network_id() == network.block(0).hash.hex() == stub.network_id


def test_filtered_block_from_bytes() -> None:
    with pytest.raises(DecodeError):
        FilteredBlock.from_bytes(b"junk")


def test_unknown_codes_are_kept() -> None:
    assert ValidationCode(77) == 77
    assert ValidationCode(77).name == "UNKNOWN_77"
    assert pickle.loads(pickle.dumps(ValidationCode(77))) == 77
    with pytest.raises(ValueError, match="not a valid"):
        ValidationCode("VALID")


def test_all_of_fabrics_codes_are_named() -> None:
    assert {code.name: int(code) for code in ValidationCode} == dict(TxValidationCode.items())
    assert len(ValidationCode) == 28
