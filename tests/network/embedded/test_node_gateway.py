"""The official Node Gateway client, unmodified, against the embedded network."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from network.embedded.network import EmbeddedNetwork
from tests.node.packages import node_folder

RUN_SECONDS = 60
PROGRAM = "gateway.mjs"
# gRPC codes as the Node client shows them.
UNKNOWN, DEADLINE_EXCEEDED, FAILED_PRECONDITION, ABORTED, UNAVAILABLE = 2, 4, 9, 10, 14
VALID, MVCC_READ_CONFLICT = 0, 11


@pytest.fixture(scope="module")
def seen(network: EmbeddedNetwork) -> dict[str, Any]:
    """What the client saw, told by itself."""
    folder = node_folder("client")
    command = ["node", "--no-deprecation", str(folder / PROGRAM), str(network.home), "core", "basic"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert told.returncode == 0, told.stderr
    result: dict[str, Any] = json.loads(told.stdout)
    return result


def gateway_of(network: EmbeddedNetwork, organisation: str) -> str:
    connection = json.loads((Path(network.home) / "connection.json").read_text())
    return next(each["gateway"] for each in connection["organisations"] if each["name"] == organisation)


def test_submit_and_evaluate(seen: dict[str, Any]) -> None:
    assert seen["submit"] == seen["evaluate"] == "apple"


def test_result_before_commit_and_status(seen: dict[str, Any]) -> None:
    assert seen["resultBeforeCommit"] == "one"
    assert seen["status"] == {"successful": True, "code": VALID}


def test_chaincode_events_are_replayed_from_a_block(seen: dict[str, Any]) -> None:
    assert seen["events"] == seen["replayed"] == ["first=one", "second=two", "third=three"]


def test_chaincode_events_go_on_after_a_checkpoint(seen: dict[str, Any]) -> None:
    assert seen["afterCheckpoint"] == ["second=two", "third=three"]
    assert seen["afterFileCheckpoint"] == ["third=three"]


def test_block_events(seen: dict[str, Any]) -> None:
    assert seen["blocks"] == [0, 1, 2]
    assert seen["linked"]
    assert seen["filteredExpected"] in seen["filtered"]
    assert seen["privateBlock"]


def test_offline_signing_of_every_object(seen: dict[str, Any]) -> None:
    assert seen["offline"]
    assert seen["offlineEvents"] == ["first=one"]
    assert seen["offlineBlocks"] == 1


def test_lost_races_are_mvcc_conflicts(seen: dict[str, Any]) -> None:
    assert seen["conflict"][0] == VALID
    assert set(seen["conflict"]) <= {VALID, MVCC_READ_CONFLICT}
    assert MVCC_READ_CONFLICT in seen["conflict"]


def test_contract_error_on_evaluate_has_the_endorsers_detail(seen: dict[str, Any], network: EmbeddedNetwork) -> None:
    error = seen["errors"]["evaluate"]
    text = "chaincode response 404, NOT_FOUND no_such_key: nothing"
    assert (error["name"], error["code"]) == ("GatewayError", UNKNOWN)
    assert error["message"] == f"2 UNKNOWN: evaluate call to endorser returned error: {text}"
    assert error["details"] == [{"address": gateway_of(network, "core"), "message": text, "mspId": "CoreMSP"}]


def test_contract_error_on_submit_has_the_endorsers_detail(seen: dict[str, Any], network: EmbeddedNetwork) -> None:
    error = seen["errors"]["endorse"]
    assert (error["name"], error["code"]) == ("EndorseError", ABORTED)
    assert error["message"].endswith("failed to endorse transaction, see attached details for more info")
    assert len(error["transactionId"]) == 64
    assert error["details"] == [
        {
            "address": gateway_of(network, "core"),
            "message": "chaincode response 409, CONFLICT busy: Later.",
            "mspId": "CoreMSP",
        }
    ]


def test_organisations_that_disagree_are_named(seen: dict[str, Any]) -> None:
    error = seen["errors"]["oneDisagrees"]
    assert (error["name"], error["code"]) == ("EndorseError", ABORTED)
    assert "failed to collect enough transaction endorsements" in error["message"]
    assert error["details"]
    assert {detail["message"] for detail in error["details"]} == {"ProposalResponsePayloads do not match"}
    assert "CoreMSP" not in {detail["mspId"] for detail in error["details"]}


@pytest.mark.parametrize(
    ("case", "code", "text"),
    [
        ("unknownChaincode", FAILED_PRECONDITION, "No metadata was found for chaincode nowhere in channel scf"),
        ("unknownChannel", UNAVAILABLE, "could not get last config for channel elsewhere"),
        ("wrongKey", FAILED_PRECONDITION, "access denied: channel [scf] creator org [CoreMSP]"),
        ("deadline", DEADLINE_EXCEEDED, "eadline"),
    ],
)
def test_refusals(seen: dict[str, Any], case: str, code: int, text: str) -> None:
    assert seen["errors"][case]["code"] == code
    assert text in seen["errors"][case]["message"]
