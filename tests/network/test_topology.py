"""The topology file: what it resolves to for each kind of network, and one clear error for each bad entry."""

import re
import socket
import tomllib
from pathlib import Path

import pytest

from network import topology as topologies
from network.topology import Rule, TopologyError

SHIPPED = topologies.SHIPPED.read_text(encoding="utf-8")

UPSTREAM = """
schema = 1
channel = { name = "mychannel" }

[kinds.embedded]
host = "127.0.0.1"
port_base = 7000
ports = {}
batch = { max_message_count = 10, absolute_max_bytes = 103809024, preferred_max_bytes = 524288, interval_ms = 10 }

[[organisations]]
name = "Org1"
msp_id = "Org1MSP"
orderers = [{ name = "orderer1" }, { name = "orderer2" }]
peers = [
    { name = "peer0.org1.example.com", port = 7051, advertised = "peer0.org1.example.com:7051" },
    { name = "peer1.org1.example.com", port = 9051, advertised = "peer1.org1.example.com:9051" },
]

[[organisations]]
name = "Org2"
msp_id = "Org2MSP"
orderers = [{ name = "orderer3" }]
peers = [
    { name = "peer0.org2.example.com", port = 8051, advertised = "peer0.org2.example.com:8051" },
    { name = "peer1.org2.example.com", port = 10051, advertised = "peer1.org2.example.com:10051" },
]

[[organisations]]
name = "Org3"
msp_id = "Org3MSP"
orderers = [{ name = "orderer4" }]
peers = [{ name = "peer0.org3.example.com", port = 11051, advertised = "peer0.org3.example.com:11051" }]

[[chaincodes]]
name = "private"
version = "1"
services = { Org1 = "127.0.0.1:20001", Org2 = "127.0.0.1:20002", Org3 = "127.0.0.1:20003" }
endorsement = { n_of = 2, rules = ["Org1", "Org2", { any = ["Org3"] }] }

[[chaincodes.collections]]
name = "Shared"
members = { any = ["Org1", "Org3"] }
member_only_read = true
member_only_write = true

[[chaincodes.collections]]
name = "Org1Collection"
members = "Org1"
maximum_peer_count = 1
member_only_read = true
endorsement = "Org1"
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "topology.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_topology_is_four_organisations_with_a_peer_and_an_orderer_each() -> None:
    topology = topologies.load()
    assert [(o.name, o.msp_id) for o in topology.organisations] == [
        ("core", "CoreMSP"),
        ("warehouse", "WarehouseMSP"),
        ("logistics", "LogisticsMSP"),
        ("bank", "BankMSP"),
    ]
    assert topology.channel == "scf"
    assert (topology.consensus, topology.time_window_seconds) == ("BFT", 60)
    assert [node.name for _, node in topology.orderers()] == [f"orderer.{o.name}" for o in topology.organisations]
    assert topology.organisation("bank") is topology.organisation("BankMSP")
    trade, account = topology.chaincode("trade"), topology.chaincode("account")
    assert (trade.endorsement, trade.program) == (None, "chaincode.contract.trade:chaincode")
    assert account.endorsement == Rule(2, ("bank", Rule(1, ("core", "logistics", "warehouse"))))
    for unknown in (topology.organisation, topology.chaincode):
        with pytest.raises(KeyError):
            unknown("nobody")


def test_first_people_can_check_each_other_and_sign_with_both_uses() -> None:
    for organisation in topologies.load().organisations:
        by_use = {use: {p.user_id for p in organisation.people if p.use == use} for use in ("work", "payment")}
        # Register, approve and issue are for three different people.
        assert len(by_use["payment"]) == 3
        assert by_use["work"] & by_use["payment"]


def test_embedded_and_real_differ_in_addresses_and_blocks_only() -> None:
    embedded, fabric = topologies.load(), topologies.load(kind="fabric")
    assert (embedded.batch.max_message_count, embedded.batch.interval_ms) == (500, 10)
    assert (fabric.batch.max_message_count, fabric.batch.interval_ms) == (100, 200)
    assert embedded.embedded and not fabric.embedded
    for ours, real in zip(embedded.organisations, fabric.organisations, strict=True):
        assert (ours.msp_id, ours.member_id, ours.people) == (real.msp_id, real.member_id, real.people)
        # In the embedded network one port plays the organisation's peer and its orderer.
        assert ours.peers[0].port == ours.orderers[0].port
    ports = [(o.peers[0].port, o.peers[0].chaincode_port, o.orderers[0].port) for o in fabric.organisations]
    assert ports == [(7051, 7052, 7050), (7151, 7152, 7150), (7251, 7252, 7250), (7351, 7352, 7350)]
    bank = fabric.organisation("bank")
    assert (bank.orderers[0].admin_port, bank.orderers[0].operations_port, bank.peers[0].operations_port) == (
        7370,
        7380,
        7390,
    )
    assert fabric.chaincode("account").services == {
        "core": "127.0.0.1:7061",
        "warehouse": "127.0.0.1:7161",
        "logistics": "127.0.0.1:7261",
        "bank": "127.0.0.1:7361",
    }


def test_port_base_moves_every_port(tmp_path: Path) -> None:
    moved = topologies.load(port_base=12000)
    assert [o.peers[0].advertised for o in moved.organisations] == [f"127.0.0.1:{12051 + 100 * n}" for n in range(4)]
    explicit = topologies.load(_file(tmp_path, UPSTREAM), port_base=17000)
    assert [node.port for node in explicit.organisation("Org1").peers] == [17051, 19051]
    assert explicit.organisation("Org1").peers[0].advertised == "peer0.org1.example.com:7051"


def test_port_base_zero_takes_free_ports_that_a_restart_keeps(tmp_path: Path) -> None:
    for kind in ("embedded", "fabric"):
        topology = topologies.load(port_base=0, kind=kind)
        nodes = [node for o in topology.organisations for node in (*o.peers, *o.orderers)]
        ports = {port for n in nodes for port in (n.port, n.chaincode_port, n.admin_port, n.operations_port) if port}
        assert len(ports) == (4 if kind == "embedded" else 4 * 6)
        for port in ports:
            with socket.create_server(("127.0.0.1", port)):
                pass
        saved = tmp_path / "saved.toml"
        topology.save(saved)
        assert topologies.load(saved) == topology
        assert not list(tmp_path.glob("*.part"))


def test_the_upstream_test_network_is_expressible(tmp_path: Path) -> None:
    topology = topologies.load(_file(tmp_path, UPSTREAM))
    assert [len(o.peers) for o in topology.organisations] == [2, 2, 1]
    assert [o.msp_id for o, _ in topology.orderers()] == ["Org1MSP", "Org1MSP", "Org2MSP", "Org3MSP"]
    org1 = topology.organisation("Org1")
    assert (org1.peers[1].name, org1.peers[1].port) == ("peer1.org1.example.com", 9051)
    assert org1.peers[1].advertised == "peer1.org1.example.com:9051"
    assert [node.port for node in org1.orderers] == [7051, 7051]
    private = topology.chaincode("private")
    assert private.program is None
    assert private.endorsement == Rule(2, ("Org1", "Org2", Rule(1, ("Org3",))))
    assert private.endorsement.organisations() == ("Org1", "Org2", "Org3")
    shared, own = private.collections
    assert (shared.members, shared.member_only_read, shared.endorsement) == (Rule(1, ("Org1", "Org3")), True, None)
    assert (own.members, own.maximum_peer_count, own.endorsement) == (Rule(1, ("Org1",)), 1, Rule(1, ("Org1",)))


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    founding = '\n[founding]\nsimulated_days = true\nnote = "引号 \\" and \\\\"\ncalendar_years = [2026, 2027]\n'
    for text in (SHIPPED, UPSTREAM, UPSTREAM + founding):
        topology = topologies.load(_file(tmp_path, text))
        assert topologies.load(_file(tmp_path, topology.to_toml())) == topology
    assert topology.founding == tomllib.loads(founding)["founding"]


BAD: list[tuple[str, str, str, str]] = [
    ("not TOML", "schema = 1", "schema = ", "not TOML"),
    ("another schema", "schema = 1", "schema = 2", "schema: 2 is not 1"),
    ("a missing table", "[channel]\n", "[channels]\n", "file: Object missing required field `channel`|unknown field"),
    ("an unknown key", 'name = "scf"', 'nam = "scf"', "channel: Object"),
    ("a wrong type", "time_window_seconds = 60", 'time_window_seconds = "60"', "channel.time_window_seconds: Expected"),
    (
        "no time window",
        "time_window_seconds = 60",
        "time_window_seconds = 0",
        "channel.time_window_seconds: must be above",
    ),
    ("a channel name in capitals", 'name = "scf"', 'name = "SCF"', "channel.name: 'SCF' is no channel name"),
    ("an unknown consensus", '"BFT"', '"solo"', "channel.consensus: Invalid enum value 'solo'"),
    (
        "a batch of nothing",
        "max_message_count = 500",
        "max_message_count = 0",
        "kinds.embedded.batch.max_message_count",
    ),
    (
        "preferred over absolute",
        "preferred_max_bytes = 2097152, interval_ms = 10 ",
        "preferred_max_bytes = 99999999, interval_ms = 10 ",
        "kinds.embedded.batch.preferred_max_bytes",
    ),
    ("a name with a slash", 'name = "bank"', 'name = "ba/nk"', r"organisations\[3\].name: 'ba/nk' is no name"),
    (
        "a repeated organisation",
        'name = "bank"',
        'name = "core"',
        r"organisations\[3\].name: 'core' stands already at organisations\[0\].name",
    ),
    ("a repeated MSP", '"BankMSP"', '"CoreMSP"', r"organisations\[3\].msp_id: 'CoreMSP' stands already"),
    (
        "a repeated node",
        '"orderer.bank"',
        '"peer.core"',
        r"organisations\[3\].orderers\[0\].name: 'peer.core' stands already",
    ),
    (
        "a person called admin",
        'name = "colleague", user_id = "U-BANK-2"',
        'name = "admin", user_id = "U-BANK-2"',
        r"organisations\[3\].people\[2\].name: 'admin' is made for every organisation",
    ),
    (
        "a use that does not exist",
        '"approver", "final_officer", "treasury"], use = "payment"',
        '"approver", "final_officer", "treasury"], use = "both"',
        r"organisations\[3\].people\[2\].use: Invalid enum value 'both'",
    ),
    (
        "no nodes",
        'peers = [{ name = "peer.bank" }]\norderers = [{ name = "orderer.bank" }]\n',
        "",
        r"organisations\[3\]: 'bank' has neither peers nor orderers",
    ),
    (
        "an unknown organisation in a policy",
        'all = ["bank",',
        'all = ["bnk",',
        r"chaincodes\[1\].endorsement.all\[0\]: no organisation is called 'bnk'",
    ),
    ("an unknown form of policy", "{ all = [", "{ some = [", r"chaincodes\[1\].endorsement: expected a name"),
    (
        "an empty policy",
        '{ any = ["core", "logistics", "warehouse"] }',
        "{ any = [] }",
        r"chaincodes\[1\].endorsement.all\[1\].any: expected a list",
    ),
    (
        "more than all",
        '{ any = ["core", "logistics", "warehouse"] }',
        '{ n_of = 4, rules = ["core", "logistics", "warehouse"] }',
        r"chaincodes\[1\].endorsement.all\[1\].n_of: must be a number from 1 to 3",
    ),
    (
        "a program that is no program",
        'program = "chaincode.contract.account:chaincode"',
        'program = "account.py"',
        r"chaincodes\[1\].program: 'account.py' is not module:attribute",
    ),
    (
        "nothing to run",
        'program = "chaincode.contract.account:chaincode"',
        "",
        r"chaincodes\[1\]: 'account' needs a program or services",
    ),
    ("a repeated chaincode", 'name = "account"', 'name = "trade"', r"chaincodes\[1\].name: 'trade' stands already"),
    (
        "a port outside",
        "port_base = 7000\nports = { peer = 51 }",
        "port_base = 65400\nports = { peer = 51 }",
        r"organisations\[1\].peers\[0\].port: port 65551 is outside",
    ),
    (
        "a port taken",
        '{ name = "peer.bank" }',
        '{ name = "peer.bank", port = 7051 }',
        r"organisations\[3\].peers\[0\].port: port 7051 is taken by organisations\[0\].peers\[0\].port",
    ),
    (
        "an address without port",
        '{ name = "peer.bank" }',
        '{ name = "peer.bank", advertised = "peer.bank" }',
        r"organisations\[3\].peers\[0\].advertised: 'peer.bank' is not host:port",
    ),
]


@pytest.mark.parametrize(("case", "found", "replacement", "error"), BAD, ids=[row[0] for row in BAD])
def test_a_bad_topology_is_one_error_that_names_the_key(
    tmp_path: Path, case: str, found: str, replacement: str, error: str
) -> None:
    assert found in SHIPPED, case
    path = _file(tmp_path, SHIPPED.replace(found, replacement, 1))
    with pytest.raises(TopologyError, match=error) as caught:
        topologies.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_kind_is_said(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"cannot be read: No such file"):
        topologies.load(tmp_path / "absent.toml")
    with pytest.raises(TopologyError, match=r"kinds\.fabric: missing"):
        topologies.load(_file(tmp_path, UPSTREAM), kind="fabric")
    nowhere = re.sub(r'Org2 = "[^"]*"', 'Org2 = "127.0.0.1"', UPSTREAM)
    with pytest.raises(TopologyError, match=r"chaincodes\[0\]\.services\.Org2: '127\.0\.0\.1' is not host:port"):
        topologies.load(_file(tmp_path, nowhere))
    without = re.sub(r"services = .*\n", 'services = { Org9 = "127.0.0.1:1" }\n', UPSTREAM)
    with pytest.raises(TopologyError, match=r"chaincodes\[0\]\.services\.Org9: no organisation of that name"):
        topologies.load(_file(tmp_path, without))
