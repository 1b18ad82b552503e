"""Programs in this process: their own modules per organisation, time-outs, lost threads, and calls between them."""

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fabric_protos.peer import proposal_response_pb2

from network.embedded.handler import ChaincodeMessage, TransactionContext
from network.embedded.host import Host, package_id
from network.embedded.program import ProgramError, load
from network.embedded.stream import TIMED_OUT, ExecutionError
from network.topology import ChaincodeSpec
from tests.network.embedded import programs
from tests.network.embedded.ground import LEDGER, OTHER, Ground


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("home"), timeout_seconds=0.4, threads=3)
    made.define()
    yield made
    made.close()


# --- loading ---


def test_each_owner_has_modules_of_its_own() -> None:
    first, second = (
        load("tests.network.embedded.programs:ledger", "A"),
        load("tests.network.embedded.programs:ledger", "B"),
    )
    types = {type(first), type(second), programs.Ledger}
    assert len(types) == 3
    modules = [sys.modules[each.__module__] for each in types]
    assert len({id(module) for module in modules}) == 3
    assert all(module.calls == 0 for module in modules)


def test_copies_keep_the_modules_that_they_import_to_themselves() -> None:
    """A module reached by another import statement is the same copy; the shim is everybody's."""
    loaded = load("tests.network.embedded.importing:program", "A")
    module = sys.modules[type(loaded).__module__]
    assert module.by_name is module.from_package
    assert module.by_name is sys.modules[module.by_name.__name__]
    assert module.by_name is not programs
    assert module.ContractError is __import__("chaincode.shim.errors", fromlist=["x"]).ContractError
    assert module.shim_keys is sys.modules["chaincode.shim.keys"]
    assert module.late().__name__ == module.by_name.__name__
    # msgspec finds an annotation in the module that the class says it is from.
    assert module.decoded() is module.Inner


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("tests.network", "program 'tests.network' is not of the form module:attribute"),
        (":x", "program ':x' is not of the form module:attribute"),
        ("tests.nowhere:x", "program 'tests.nowhere:x' cannot be imported: No module named 'tests.nowhere'"),
        (
            "tests.network.embedded.programs:nothing",
            "program 'tests.network.embedded.programs:nothing' is no chaincode: nothing has no invoke",
        ),
        (
            "tests.network.embedded.programs:no_program",
            "program 'tests.network.embedded.programs:no_program' is no chaincode: no_program has no invoke",
        ),
    ],
)
def test_a_program_that_cannot_be_loaded_is_named(program: str, text: str) -> None:
    with pytest.raises(ProgramError) as caught:
        load(program, "A")
    assert str(caught.value) == text


def test_package_ids_depend_on_what_is_run_and_not_on_where() -> None:
    service = ChaincodeSpec("x", "1", services={"core": "127.0.0.1:1"})
    assert package_id(service) == package_id(replace(service, services={"core": "127.0.0.1:2"}))
    assert package_id(service) != package_id(replace(service, version="2"))
    assert package_id(LEDGER) != package_id(replace(LEDGER, program="other:program"))
    assert package_id(service).startswith("x_1:")
    assert len(package_id(service)) == len("x_1:") + 64


def test_packages_are_those_that_an_organisation_can_run(ground: Ground) -> None:
    only_bank = ChaincodeSpec("x", "1", services={"bank": "127.0.0.1:1"})
    host = Host((LEDGER, only_bank), ground.topology.organisations)
    assert [package.label for package in host.packages("CoreMSP")] == ["ledger_1.0"]
    assert [package.label for package in host.packages("BankMSP")] == ["ledger_1.0", "x_1"]
    assert host.packages("NobodyMSP") == ()
    host.close()


# --- running ---


def message(ground: Ground, *args: str, txid: str = "T") -> ChaincodeMessage:
    parts = ground.propose("ledger", *args)
    from fabric_protos.peer import proposal_pb2

    return ChaincodeMessage(
        type=ChaincodeMessage.TRANSACTION,
        payload=parts.spec.chaincode_spec.input.SerializeToString(),
        txid=txid,
        channel_id="scf",
        proposal=proposal_pb2.SignedProposal.FromString(parts.signed()),
    )


def run(host: Host, ground: Ground, *args: str, txid: str = "T", msp_id: str = "CoreMSP") -> tuple[int, bytes]:
    context = TransactionContext(None, "ledger", channel_id="scf", transaction_id=txid)
    answer = host.invoke("peer", msp_id, package_id(LEDGER), message(ground, *args, txid=txid), context)
    response = proposal_response_pb2.Response.FromString(answer.payload)
    return response.status, response.payload


def test_a_program_keeps_its_variables_and_shares_none(ground: Ground) -> None:
    host = Host((LEDGER,), ground.topology.organisations)
    assert [run(host, ground, "count") for _ in range(3)] == [(200, b"1"), (200, b"2"), (200, b"3")]
    assert run(host, ground, "count", msp_id="BankMSP") == (200, b"1")
    host.close()


def test_what_is_not_installed_cannot_be_launched(ground: Ground) -> None:
    context = TransactionContext(None, "x", channel_id="scf", transaction_id="T")
    with pytest.raises(ExecutionError) as caught:
        ground.host.invoke("peer", "CoreMSP", "x:1", message(ground, "empty"), context)
    assert str(caught.value) == "could not launch chaincode x:1: chaincode is not installed"


def test_a_chaincode_that_does_not_return_in_time(ground: Ground) -> None:
    """The caller is answered, the context is dead, and the thread is used again when it comes back."""
    parts = ground.propose("ledger", "sleep", "0.6")
    response = ground.endorse(parts)
    assert response.response.message == (
        f"error in simulation: failed to execute transaction {parts.transaction_id}: error sending: "
        "timeout expired while executing transaction"
    )
    assert ground.endorse(ground.propose("ledger", "empty")).response.status == 200


def test_the_same_transaction_twice_at_one_peer(ground: Ground) -> None:
    host = Host((LEDGER,), ground.topology.organisations)
    asked, go_on = threading.Event(), threading.Event()

    class Waiting(TransactionContext):
        def handle(self, message: ChaincodeMessage) -> ChaincodeMessage:
            asked.set()
            assert go_on.wait(5)
            return super().handle(message)

    context = Waiting(None, "ledger", channel_id="scf", transaction_id="T")
    request = message(ground, "get", "k")
    first = threading.Thread(
        target=host.invoke, args=("peer", "CoreMSP", package_id(LEDGER), request, context), daemon=True
    )
    first.start()
    assert asked.wait(5)
    with pytest.raises(ExecutionError, match=r"^error sending: txid: T\(scf\) exists$"):
        run(host, ground, "empty")
    assert run(host, ground, "empty", txid="other") == (200, b"")
    go_on.set()
    first.join(5)
    assert run(host, ground, "empty") == (200, b"")
    host.close()


def test_calls_are_refused_when_all_threads_are_lost(ground: Ground) -> None:
    host = Host((LEDGER,), ground.topology.organisations, timeout_seconds=0.05, threads=2)
    for number in range(2):
        with pytest.raises(ExecutionError, match=TIMED_OUT):
            run(host, ground, "sleep", "0.5", txid=str(number))
    with pytest.raises(ExecutionError) as caught:
        run(host, ground, "empty", txid="late")
    assert str(caught.value) == (
        "error sending: embedded network: no chaincode thread is free, 2 have not returned in time"
    )
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert run(host, ground, "empty", txid="later") == (200, b"")
            break
        except ExecutionError:
            threading.Event().wait(0.02)
    else:
        pytest.fail("the threads did not come back")
    host.close()


def test_a_full_host_lets_a_call_wait_for_a_thread(ground: Ground) -> None:
    host = Host((LEDGER,), ground.topology.organisations, timeout_seconds=5, threads=1)
    first = threading.Thread(target=run, args=(host, ground, "sleep", "0.2"), kwargs={"txid": "one"})
    first.start()
    assert run(host, ground, "empty", txid="two") == (200, b"")
    first.join()
    host.close()


def test_many_calls_at_once(ground: Ground) -> None:
    host = Host((LEDGER,), ground.topology.organisations, threads=8)
    found: list[tuple[int, bytes]] = []

    def work(number: int) -> None:
        for each in range(20):
            found.append(run(host, ground, "empty", txid=f"{number}-{each}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(200, b"")] * 160
    host.close()


# --- one chaincode calls another ---


def test_a_call_returns_the_other_chaincodes_answer(ground: Ground) -> None:
    response = ground.endorse(ground.propose("ledger", "call", "other", "", "put", "k", "v"))
    assert response.response.payload == b"200  stored"
    response = ground.endorse(ground.propose("ledger", "call", "other:2.0/scf", "", "refuse", "409", "no"))
    assert response.response.payload == b"409 no "


@pytest.mark.parametrize(
    ("name", "channel", "text"),
    [
        (
            "nothing",
            "",
            "execute failed: invalid invocation: [channel scf] failed to get chaincode container info for nothing: "
            "chaincode nothing not found",
        ),
        ("other", "elsewhere", "Failed to get policy manager for channel [elsewhere]"),
        ("qscc", "elsewhere", "failed to find ledger for channel: elsewhere"),
        ("ledger", "", "execute failed: error sending: txid: {}(scf) exists"),
    ],
)
def test_calls_that_fabric_refuses(ground: Ground, name: str, channel: str, text: str) -> None:
    parts = ground.propose("ledger", "call", name, channel, "empty")
    response = ground.endorse(parts)
    expected = text.replace("{}", parts.transaction_id)
    assert response.response.message == (
        f"INTERNAL peer_error: INVOKE_CHAINCODE failed: transaction ID: {parts.transaction_id}: {expected}"
    )


def test_system_chaincodes_refuse_a_call_from_a_chaincode(ground: Ground) -> None:
    response = ground.endorse(ground.propose("ledger", "call", "qscc", "", "GetChainInfo", "scf"))
    assert response.response.payload == (
        b"500 Rejecting invoke of QSCC from another chaincode because of potential for deadlocks, "
        b"original invocation for 'ledger' "
    )
    response = ground.endorse(ground.propose("ledger", "call", "cscc", "", "GetChannels"))
    assert response.response.payload == (
        b"500 Rejecting invoke of CSCC from another chaincode, original invocation for 'ledger' "
    )


def test_called_chaincodes_are_held_to_their_callers_deadline(ground: Ground) -> None:
    parts = ground.propose("ledger", "call", "other", "", "sleep", "0.6")
    assert ground.endorse(parts).response.message.endswith("timeout expired while executing transaction")


def test_the_programs_of_the_ground_are_loaded_once(ground: Ground) -> None:
    assert ground.host.packages("CoreMSP")[0].package_id == package_id(LEDGER)
    assert ground.host.packages("CoreMSP")[1].package_id == package_id(OTHER)
