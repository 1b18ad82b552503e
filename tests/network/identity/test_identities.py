"""All identities of a network: made once, complete after an interruption, found again; and their expiry report."""

import stat
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from fabric_protos.msp import identities_pb2

from network import topology as topologies
from network.identity import expiry
from network.identity.authority import AuthorityError, attributes_of
from network.identity.enrolment import Enrolment, enrol, revoke
from network.identity.identities import establish, load_node, load_person
from tests.network.conftest import Established


def _files(home: Path) -> dict[str, bytes]:
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def test_node_folders_are_what_fabric_reads(established: Established) -> None:
    core = established.home / "organisations" / "core"
    peer = core / "peers" / "peer.core"
    found = {path.relative_to(peer).as_posix() for path in peer.rglob("*") if path.is_file()}
    assert found == {
        "msp/cacerts/ca.pem",
        "msp/config.yaml",
        "msp/keystore/key.pem",
        "msp/signcerts/cert.pem",
        "msp/tlscacerts/tlsca.pem",
        "tls/ca.crt",
        "tls/server.crt",
        "tls/server.key",
    }
    assert (peer / "msp/cacerts/ca.pem").read_bytes() == (core / "ca/certificate.pem").read_bytes()
    assert (peer / "tls/ca.crt").read_bytes() == (core / "tlsca/certificate.pem").read_bytes()
    assert (peer / "msp/config.yaml").read_text().splitlines()[:5] == [
        "NodeOUs:",
        "  Enable: true",
        "  ClientOUIdentifier:",
        "    Certificate: cacerts/ca.pem",
        "    OrganizationalUnitIdentifier: client",
    ]


def test_every_private_key_is_for_its_owner_only(established: Established) -> None:
    paths = [path for path in established.home.rglob("*") if path.is_file()]
    private = [path for path in paths if b"PRIVATE KEY" in path.read_bytes()]
    # Four organisations with two authorities, two nodes with two keys each, and six people.
    assert len(private) == 4 * (2 + 2 * 2 + 6)
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


def test_roles_of_nodes_and_people(established: Established) -> None:
    for organisation in established.topology.organisations:
        units = {}
        for node in (*organisation.peers, *organisation.orderers):
            units[node.name] = load_node(established.home, organisation, node).certificate
        for name in ("admin", "service", "user", "user-work", "colleague", "approver"):
            units[name] = load_person(established.home, organisation, name).certificate
        roles = {
            name: [
                u.value
                for u in x509.load_pem_x509_certificate(pem).subject.get_attributes_for_oid(
                    NameOID.ORGANIZATIONAL_UNIT_NAME
                )
            ]
            for name, pem in units.items()
        }
        people = {name: ["client"] for name in ("service", "user", "user-work", "colleague", "approver")}
        nodes = {f"peer.{organisation.name}": ["peer"], f"orderer.{organisation.name}": ["orderer"]}
        assert roles == {**nodes, **people, "admin": ["admin"]}
        service = attributes_of(x509.load_pem_x509_certificate(units["service"]))
        assert service["roles"] == "service"
        person = organisation.people[0]
        user = attributes_of(x509.load_pem_x509_certificate(units["user"]))
        assert (user["roles"], user["user_id"], user["member_id"]) == (
            ",".join(person.roles),
            person.user_id,
            organisation.member_id,
        )


def test_a_loaded_identity_signs_for_its_certificate(established: Established) -> None:
    core = established.topology.organisation("core")
    digest = sha256(b"message").digest()
    for loaded in (load_node(established.home, core, core.orderers[0]), load_person(established.home, core, "user")):
        creator = identities_pb2.SerializedIdentity.FromString(loaded.serialized)
        assert (creator.mspid, creator.id_bytes) == ("CoreMSP", loaded.certificate)
        public = x509.load_pem_x509_certificate(loaded.certificate).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        public.verify(loaded.signer(digest), digest, ec.ECDSA(Prehashed(SHA256())))


def test_only_the_embedded_network_says_that_one_operator_holds_all_keys(tmp_path: Path) -> None:
    for kind, expected in (("embedded", "Embedded evaluation network"), ("fabric", "Core enterprise")):
        home = tmp_path / kind
        establish(home, topologies.load(kind=kind))
        for authority in ("ca", "tlsca"):
            pem = (home / "organisations/core" / authority / "certificate.pem").read_bytes()
            subject = x509.load_pem_x509_certificate(pem).subject
            assert [a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == [expected]


def test_establishing_again_changes_nothing_and_completes_what_is_missing(tmp_path: Path) -> None:
    topology = topologies.load()
    establish(tmp_path, topology)
    before = _files(tmp_path)
    establish(tmp_path, topology)
    assert _files(tmp_path) == before
    lost = [
        name for name in before if name.endswith(("cert.pem", "server.crt", "identities/core/user/certificate.pem"))
    ]
    for name in lost:
        (tmp_path / name).unlink()
    establish(tmp_path, topology)
    after = _files(tmp_path)
    assert {name for name in after if after[name] != before[name]} == set(lost)
    core = topology.organisation("core")
    user = load_person(tmp_path, core, "user")
    assert user.signer.public_key == x509.load_pem_x509_certificate(user.certificate).public_key()  # type: ignore[attr-defined]


def test_the_expiry_report_lists_everything_that_ends_soonest_first(tmp_path: Path) -> None:
    establish(tmp_path, topologies.load())
    assert expiry.report(tmp_path / "identities" / "core" / "nobody") == []
    listed = expiry.report(tmp_path)
    certificates = [p for p, content in _files(tmp_path).items() if b"BEGIN CERTIFICATE" in content]
    assert sorted(entry.path for entry in listed) == sorted(certificates)
    assert [entry.not_after for entry in listed] == sorted(entry.not_after for entry in listed)
    user = next(entry for entry in listed if entry.path == "identities/core/user/certificate.pem")
    assert (user.subject, user.days_left) == ("CN=user,OU=client", 364)
    late = expiry.report(tmp_path, now=user.not_after + timedelta(hours=1))
    assert next(entry for entry in late if entry.path == user.path).days_left == -1
    authority = next(entry for entry in late if entry.path == "organisations/core/ca/certificate.pem")
    assert authority.days_left > 3 * 365
    revoke(tmp_path, "core", (enrol(tmp_path, "core", Enrolment("gone")) / "certificate.pem").read_bytes())
    paths = [entry.path for entry in expiry.report(tmp_path)]
    assert "organisations/core/ca/crl.pem" in paths
    (tmp_path / "identities/core/user/certificate.pem").write_text("-----BEGIN CERTIFICATE-----\nno\n")
    with pytest.raises(AuthorityError, match=r"identities/core/user/certificate\.pem: not a certificate"):
        expiry.report(tmp_path)


def test_a_home_that_lacks_an_identity_is_said_by_path(tmp_path: Path) -> None:
    core = topologies.load().organisation("core")
    with pytest.raises(FileNotFoundError, match=r"identities/core/user/certificate\.pem"):
        load_person(tmp_path, core, "user")
    with pytest.raises(FileNotFoundError, match=r"peers/peer\.core"):
        load_node(tmp_path, core, core.peers[0])
