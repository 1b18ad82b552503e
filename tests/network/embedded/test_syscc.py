"""The system chaincodes: every call of table F, its texts, and who may ask."""

from collections.abc import Iterator

import pytest
from fabric_protos.common import common_pb2, configtx_pb2, ledger_pb2
from fabric_protos.peer import proposal_response_pb2, query_pb2, transaction_pb2

from network.channel import config
from tests.network.embedded.ground import LEDGER, Ground


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("home"), (LEDGER,))
    made.define()
    yield made
    made.close()


@pytest.fixture(scope="module")
def committed(ground: Ground) -> str:
    parts = ground.propose("ledger", "put", "k", "v")
    assert ground.submit(parts) == [0]
    return parts.transaction_id


def ask(
    ground: Ground, name: str, *args: str | bytes, by: str = "core", channel: str = "scf"
) -> proposal_response_pb2.Response:
    return ground.endorse(ground.propose(name, *args, by=by, channel=channel), by).response


def failure(ground: Ground, name: str, *args: str | bytes, **extra: str) -> str:
    response = ask(ground, name, *args, **extra)
    assert (response.status, response.payload) == (500, b"")
    return response.message


# --- qscc ---


def test_chain_info(ground: Ground, committed: str) -> None:
    info = ledger_pb2.BlockchainInfo.FromString(ask(ground, "qscc", "GetChainInfo", "scf").payload)
    block = ground.ledger.block(ground.ledger.height - 1)
    assert block is not None
    assert (info.height, info.currentBlockHash) == (ground.ledger.height, ground.ledger.tip_hash)
    assert info.previousBlockHash == common_pb2.Block.FromString(block).header.previous_hash


def test_blocks_by_number_hash_and_transaction(ground: Ground, committed: str) -> None:
    last = ground.ledger.height - 1
    block = ground.ledger.block(last)
    for args in (
        ("GetBlockByNumber", "scf", str(last)),
        ("GetBlockByNumber", "scf", f"000{last}"),
        ("GetBlockByNumber", "scf", str(2**64 - 1)),
        ("GetBlockByHash", "scf", ground.ledger.tip_hash),
        ("GetBlockByTxID", "scf", committed),
    ):
        assert ask(ground, "qscc", *args).payload == block
    metadata = common_pb2.Block.FromString(block or b"").metadata.metadata
    assert metadata[common_pb2.TRANSACTIONS_FILTER] == b"\0"


def test_transaction_by_id(ground: Ground, committed: str) -> None:
    payload = ask(ground, "qscc", "GetTransactionByID", "scf", committed).payload
    found = transaction_pb2.ProcessedTransaction.FromString(payload)
    assert found.validationCode == 0
    header = common_pb2.Payload.FromString(found.transactionEnvelope.payload).header
    assert common_pb2.ChannelHeader.FromString(header.channel_header).tx_id == committed


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "Incorrect number of arguments, 0"),
        (("GetChainInfo",), "Incorrect number of arguments, 1"),
        (("GetBlockByNumber", "scf"), "missing 3rd argument for GetBlockByNumber"),
        (("Other", "scf"), "missing 3rd argument for Other"),
        (("GetChainInfo", "nowhere"), "Invalid chain ID, nowhere"),
        (("Other", "scf", "x"), "access denied for [Other][scf]: [Unmapped policy for qscc/Other]"),
        (
            ("GetBlockByNumber", "scf", "999"),
            "Failed to get block number 999, error no such block number [999] in index",
        ),
        (
            ("GetBlockByNumber", "scf", "one"),
            'Failed to parse block number with error strconv.ParseUint: parsing "one": invalid syntax',
        ),
        (
            ("GetBlockByNumber", "scf", "-1"),
            'Failed to parse block number with error strconv.ParseUint: parsing "-1": invalid syntax',
        ),
        (
            ("GetBlockByNumber", "scf", str(2**64)),
            f'Failed to parse block number with error strconv.ParseUint: parsing "{2**64}": value out of range',
        ),
        (
            ("GetBlockByHash", "scf", b"ab"),
            "Failed to get block hash ab, error no such block hash [6162] in index",
        ),
        (
            ("GetTransactionByID", "scf", "none"),
            "Failed to get transaction with id none, error no such transaction ID [none] in index",
        ),
        (
            ("GetBlockByTxID", "scf", "none"),
            "Failed to get block for txID none, error no such transaction ID [none] in index",
        ),
    ],
)
def test_qscc_texts(ground: Ground, args: tuple[str | bytes, ...], text: str) -> None:
    assert failure(ground, "qscc", *args) == text


def test_a_number_of_ten_thousand_digits_is_out_of_range(ground: Ground) -> None:
    assert failure(ground, "qscc", "GetBlockByNumber", "scf", "9" * 10_000).endswith("value out of range")


def test_bytes_that_are_no_text_do_not_break_the_answer(ground: Ground) -> None:
    assert failure(ground, "qscc", "GetBlockByHash", "scf", b"\xff\xfe").endswith("[fffe] in index")


def test_a_reader_may_ask_and_others_not(ground: Ground) -> None:
    parts = ground.propose("qscc", "GetChainInfo", "scf")
    assert ground.endorse(parts).response.status == 200
    orderer_reads = ask(ground, "qscc", "GetChainInfo", "scf", by="bank")
    assert orderer_reads.status == 200


# --- cscc ---


def test_channels(ground: Ground) -> None:
    for channel in ("scf", ""):
        payload = ask(ground, "cscc", "GetChannels", channel=channel).payload
        assert [each.channel_id for each in query_pb2.ChannelQueryResponse.FromString(payload).channels] == ["scf"]


def test_channels_are_for_members_of_the_peers_organisation(ground: Ground) -> None:
    response = ground.endorse(ground.propose("cscc", "GetChannels", by="bank"), "core").response
    assert response.message == (
        "access denied for [GetChannels]: Failed deserializing proposal creator during channelless check policy with "
        "policy [Members]: [expected MSP ID CoreMSP, received BankMSP]"
    )


def test_configuration(ground: Ground) -> None:
    assert ask(ground, "cscc", "GetConfigBlock", "scf").payload == ground.ledger.block(0)
    payload = ask(ground, "cscc", "GetChannelConfig", "scf").payload
    assert configtx_pb2.Config.FromString(payload) == config.parse(ground.genesis)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "Incorrect number of arguments, 0"),
        (("GetConfigBlock",), "Incorrect number of arguments, 1"),
        (("Other", "x"), "Requested function Other not found."),
        (("GetChannelConfig", ""), "empty channel name provided"),
        (
            ("GetConfigBlock", "nowhere"),
            "access denied for [GetConfigBlock][nowhere]: Failed to get policy manager for channel [nowhere]",
        ),
        (
            ("GetChannelConfig", "nowhere"),
            "access denied for [GetChannelConfig][nowhere]: Failed to get policy manager for channel [nowhere]",
        ),
        (
            ("JoinChain", "block"),
            "access denied for [JoinChain]: Failed verifying that proposal's creator satisfies local MSP principal "
            "during channelless check policy with policy [Admins]: [The identity is not an admin under this MSP "
            "[CoreMSP]: The identity does not contain OU [ADMIN], MSP: [CoreMSP]]",
        ),
    ],
)
def test_cscc_texts(ground: Ground, args: tuple[str, ...], text: str) -> None:
    assert failure(ground, "cscc", *args) == text


def test_joining_is_not_supported(ground: Ground) -> None:
    parts = ground.parts("cscc", ("JoinChain", "block"), ground.person("core", "admin"))
    assert ground.endorse(parts).response.message == "embedded network: joining channels is not supported"


def test_lscc_is_refused_by_name_and_escc_is_no_chaincode(ground: Ground) -> None:
    assert failure(ground, "lscc", "getid") == "embedded network: lscc is not supported"
    assert failure(ground, "escc", "x").endswith("try again: chaincode escc not found")


# --- the door to _lifecycle ---


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "lifecycle scc must be invoked with arguments"),
        (("One",), "lifecycle scc operations require exactly two arguments but received 1"),
        (("One", "2", "3"), "lifecycle scc operations require exactly two arguments but received 3"),
        (
            ("Other", ""),
            "Failed to authorize invocation due to failed ACL check: Unmapped policy for _lifecycle/Other",
        ),
        (
            ("QueryChaincodeDefinition", b"\xff\xff"),
            "failed to invoke backing implementation of 'QueryChaincodeDefinition': could not decode input arg for "
            "*lifecycle.Invocation.QueryChaincodeDefinition: proto: cannot parse invalid wire-format data",
        ),
    ],
)
def test_lifecycle_texts(ground: Ground, args: tuple[str | bytes, ...], text: str) -> None:
    assert failure(ground, "_lifecycle", *args) == text


def test_local_resources_are_for_admins_of_the_peers_organisation(ground: Ground) -> None:
    admin = ground.person("bank", "admin")
    parts = ground.parts("_lifecycle", ("QueryInstalledChaincodes", ""), admin)
    assert ground.endorse(parts, "bank").response.status == 200
    assert ground.endorse(parts, "core").response.message == (
        "Failed to authorize invocation due to failed ACL check: Failed deserializing proposal creator during "
        "channelless check policy with policy [Admins]: [expected MSP ID CoreMSP, received BankMSP]"
    )
    user = ground.propose("_lifecycle", "QueryInstalledChaincodes", "", by="bank")
    assert "[The identity is not an admin under this MSP [BankMSP]" in ground.endorse(user, "bank").response.message


def test_channel_resources_need_a_channel(ground: Ground) -> None:
    assert failure(ground, "_lifecycle", "QueryChaincodeDefinition", "", channel="") == (
        "Failed to authorize invocation due to failed ACL check: Failed getting local MSP principal during channelless "
        "check policy with policy [/Channel/Application/Writers]: "
        "[MSP Principal role [/Channel/Application/Writers] not recognized]"
    )
    parts = ground.parts("_lifecycle", ("QueryInstalledChaincodes", ""), ground.person("core", "admin"), channel="")
    assert ground.endorse(parts).response.status == 200
