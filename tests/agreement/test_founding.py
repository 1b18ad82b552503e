"""The founding that the shipped topology describes is one that the contract takes."""

from datetime import UTC, datetime
from pathlib import Path

from network import topology
from network.identity import founding, identities
from tests.chaincode.contract.world import World


def test_shipped_topology_founds_a_network(tmp_path: Path) -> None:
    described = topology.load()
    identities.establish(tmp_path, described)
    now = datetime(2026, 11, 20, 4, tzinfo=UTC)
    world = World()
    world.ledger.now = now
    world.do("member:found", "core.admin", **founding.argument(tmp_path, described, now))
    assert world.read("business_date:get")["date"] == "2026-11-20"
    members = world.read("member:list")["items"]
    assert [member["member_id"] for member in members] == ["M-BANK", "M-CORE", "M-LOGISTICS", "M-WAREHOUSE"]
    people = world.read("certificate:list", member_id="M-CORE")["items"]
    assert len({certificate["user_id"] for certificate in people}) >= 3, "an issue takes three people"
