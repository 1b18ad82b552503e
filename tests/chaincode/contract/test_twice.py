"""Every transaction of both chaincodes, taken and refused, is repeated in processes with other hash seeds.

The table is the scenes', so a transaction is here as soon as it has a scene. The steps that bring a world to its scene
are repeated once as well, and so is each call of ``account:post``, by itself and within the transaction that makes it.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest
from fabric_protos.peer import chaincode_pb2

from chaincode.shim.execute import Program, execute
from chaincode.shim.stub import ChaincodeMessage, Exchange
from chaincode.shim.testing.twice import VARIANTS, Twice, Variant
from network import topology
from tests.chaincode.contract.scene import Call, Case, Scene, chaincode_of
from tests.chaincode.contract.scenes import SCENES
from tests.chaincode.contract.test_steps import EACH, REFUSALS, label, refusal
from tests.chaincode.contract.world import PROGRAMS, World

# Two processes put a set of two texts in one order half the time: more of them leave less to luck.
PROCESSES = (*VARIANTS, *(Variant(f"seed {seed}", {"PYTHONHASHSEED": str(seed)}) for seed in (3, 4)))


class Repeated:
    """Runs transactions in all the processes and keeps the names of those that were compared, the latest last."""

    def __init__(self, twice: Twice) -> None:
        self._twice = twice
        self.is_on = True
        self.names: list[str] = []

    def execute(
        self, chaincode: Program, message: ChaincodeMessage, exchange: Exchange, /, *, msp_id: str
    ) -> ChaincodeMessage:
        """As ``Twice.execute``; a transaction that agrees is noted when it ends, so a called one before its caller."""
        if not self.is_on:
            return execute(chaincode, message, exchange, msp_id=msp_id)
        before = self._twice.count
        completed = self._twice.execute(chaincode, message, exchange, msp_id=msp_id)
        if self._twice.count > before:
            function = chaincode_pb2.ChaincodeInput.FromString(message.payload).args[0].decode()
            self.names.append(f"{getattr(chaincode, 'name', '')}.{function}")
        return completed


@pytest.fixture(scope="session")
def repeated() -> Iterator[Repeated]:
    """The processes, started once; they load the programs that the network loads."""
    programs = {spec.name: spec.program for spec in topology.load().chaincodes if spec.program is not None}
    with Twice(programs, PROCESSES) as twice:
        yield Repeated(twice)


def play(repeated: Repeated, scene: Scene, case: Case | None = None) -> str:
    """Play a scene to its end, valid or as a case has it; answers the reason of the refusal, empty for none."""
    repeated.names.clear()
    with closing(World(execute=repeated.execute)) as world:
        # The way to a refusal begins as the way to the valid call, which is repeated there: most of the time, spared.
        repeated.is_on = case is None
        if scene.is_founded:
            world.found()
        call: Call = scene.ready(world)
        repeated.is_on = True
        reason = refusal(world, scene, call if case is None else case.apply(world, call))
    assert repeated.names[-1] == f"{chaincode_of(scene)}.{scene.transaction}"
    return reason


@pytest.mark.parametrize("scene", EACH)
def test_a_valid_call_is_the_same_everywhere(repeated: Repeated, scene: Scene) -> None:
    assert play(repeated, scene) == ""


@pytest.mark.parametrize(("scene", "case"), REFUSALS)
def test_a_refusal_is_the_same_everywhere(repeated: Repeated, scene: Scene, case: Case) -> None:
    assert play(repeated, scene, case) == case.reason


def test_a_called_transaction_is_repeated_by_itself(repeated: Repeated) -> None:
    [scene] = [scene for scene in SCENES if label(scene) == "trade.member:found"]
    play(repeated, scene)
    assert repeated.names == ["account.account:post", "trade.member:found"]


def test_the_processes_run_what_the_scenes_run() -> None:
    found = {spec.name: spec.program for spec in topology.load().chaincodes if spec.name in PROGRAMS}
    assert found == {name: f"chaincode.contract.{name}:chaincode" for name in PROGRAMS}
