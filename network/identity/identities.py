"""All identities of a network in its home folder: made once, found again at every start.

Layout under the home (nothing there is ever overwritten):
`organisations/<organisation>/{ca,tlsca}/{certificate,private_key}.pem`,
`organisations/<organisation>/{peers,orderers}/<node>/{msp,tls}/…` as Fabric's own programs read them,
`identities/<organisation>/<person>/{certificate,private_key}.pem`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from tallystick.fabric import signer as signers
from tallystick.fabric.identity import Identity
from tallystick.fabric.signer import Signer

from network.identity import key as keys
from network.identity.authority import EMBEDDED_ORGANISATION, Authority, Kind, NodeOU
from network.identity.enrolment import Enrolment, authority_folder, enrol, person_folder
from network.topology import Node, Organisation, Topology

# The same four names that the channel configuration declares.
NODE_OUS: Final[tuple[NodeOU, ...]] = ("client", "peer", "admin", "orderer")
_LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A peer's or orderer's identity: what it shows, what it signs with, and its TLS material (all PEM)."""

    msp_id: str
    certificate: bytes
    serialized: bytes
    signer: Signer
    tls_certificate: bytes
    tls_key: bytes
    tls_ca: bytes


@dataclass(frozen=True, slots=True)
class PersonIdentity:
    """A person's identity: certificate (PEM), SerializedIdentity bytes, and the signer of their key."""

    msp_id: str
    certificate: bytes
    serialized: bytes
    signer: Signer


def establish(home: Path, topology: Topology) -> None:
    """Make every authority, node and first person of the topology that is not there yet.

    Safe to repeat and to resume: keys come before their certificates, each file is whole or absent, and what is there
    stays. Raises KeyFileError, AuthorityError or OSError for a home that cannot be used."""
    for organisation in topology.organisations:
        authority = _authority(home, topology, organisation, "ca")
        tls_authority = _authority(home, topology, organisation, "tlsca")
        for nodes, ou in ((organisation.peers, "peer"), (organisation.orderers, "orderer")):
            for node in nodes:
                folder = _node_folder(home, organisation, f"{ou}s", node)
                _node_msp(folder / "msp", authority, tls_authority, node.name, "peer" if ou == "peer" else "orderer")
                _node_tls(folder / "tls", tls_authority, node)
        for enrolment in _first_people(organisation):
            enrol(home, organisation.name, enrolment)


def load_node(home: Path, organisation: Organisation, node: Node) -> NodeIdentity:
    """The identity of a peer or an orderer that `establish` made. Raises OSError when it is not there, KeyFileError or
    IdentityError when it cannot be used."""
    folder = _node_folder(home, organisation, _group_of(organisation, node), node)
    certificate = node_certificate(home, organisation, node)
    return NodeIdentity(
        msp_id=organisation.msp_id,
        certificate=certificate,
        serialized=Identity.x509(organisation.msp_id, certificate).serialized,
        signer=signers.from_pem((folder / "msp" / "keystore" / "key.pem").read_bytes()),
        tls_certificate=(folder / "tls" / "server.crt").read_bytes(),
        tls_key=_tls_key(folder / "tls" / "server.key"),
        tls_ca=(folder / "tls" / "ca.crt").read_bytes(),
    )


def node_certificate(home: Path, organisation: Organisation, node: Node) -> bytes:
    """The identity certificate (PEM) of a peer or an orderer. Raises OSError when it is not there."""
    folder = _node_folder(home, organisation, _group_of(organisation, node), node)
    return (folder / "msp" / "signcerts" / "cert.pem").read_bytes()


def load_person(home: Path, organisation: Organisation, name: str, password: bytes | None = None) -> PersonIdentity:
    """The identity of a person: "admin", "service" or a name of the topology. Raises OSError when it is not there."""
    folder = person_folder(home, organisation.name, name)
    certificate = (folder / "certificate.pem").read_bytes()
    return PersonIdentity(
        msp_id=organisation.msp_id,
        certificate=certificate,
        serialized=Identity.x509(organisation.msp_id, certificate).serialized,
        signer=signers.from_pem((folder / "private_key.pem").read_bytes(), password),
    )


def _first_people(organisation: Organisation) -> list[Enrolment]:
    people = [
        Enrolment(
            person.name,
            roles=person.roles,
            member_id=organisation.member_id,
            user_id=person.user_id,
            use=person.use,
        )
        for person in organisation.people
    ]
    # The service certificate is the web app's and the projector's: `roles=service` is what lets it register members.
    return [Enrolment("admin", ou="admin"), Enrolment("service", roles=("service",)), *people]


def _authority(home: Path, topology: Topology, organisation: Organisation, kind: Kind) -> Authority:
    folder = authority_folder(home, organisation.name, kind)
    if not (folder / "certificate.pem").exists():
        legal_name = EMBEDDED_ORGANISATION if topology.embedded else organisation.display_name
        key = keys.load_or_generate(folder / "private_key.pem")
        Authority.create(organisation.name, kind, legal_name=legal_name, key=key).save(folder)
    return Authority.load(folder)


def _group_of(organisation: Organisation, node: Node) -> str:
    return "peers" if any(peer.name == node.name for peer in organisation.peers) else "orderers"


def _node_folder(home: Path, organisation: Organisation, group: str, node: Node) -> Path:
    return home / "organisations" / organisation.name / group / node.name


def _node_msp(folder: Path, authority: Authority, tls_authority: Authority, name: str, ou: NodeOU) -> None:
    """An MSP folder as Fabric's programs load it (msp/configbuilder.go)."""
    key = keys.load_or_generate(folder / "keystore" / "key.pem")
    if not (folder / "signcerts" / "cert.pem").exists():
        keys.write_new(folder / "signcerts" / "cert.pem", authority.issue(key.public_key(), name, ou=ou))
    keys.write_new(folder / "cacerts" / "ca.pem", authority.certificate_pem)
    keys.write_new(folder / "tlscacerts" / "tlsca.pem", tls_authority.certificate_pem)
    keys.write_new(folder / "config.yaml", _node_ous_yaml())


def _node_tls(folder: Path, tls_authority: Authority, node: Node) -> None:
    key = keys.load_or_generate(folder / "server.key")
    if not (folder / "server.crt").exists():
        names = (node.name, node.host, node.advertised.rpartition(":")[0], *_LOCAL_NAMES)
        keys.write_new(folder / "server.crt", tls_authority.issue_tls(key.public_key(), node.name, names))
    keys.write_new(folder / "ca.crt", tls_authority.certificate.public_bytes(serialization.Encoding.PEM))


def _tls_key(path: Path) -> bytes:
    """The key's PEM. It is read here, because gRPC says of a key it cannot use that the port is taken."""
    pem = path.read_bytes()
    try:
        keys.from_pem(pem)
    except keys.KeyFileError as error:
        raise keys.KeyFileError(f"{path}: {error}") from error
    return pem


def _node_ous_yaml() -> bytes:
    lines = ["NodeOUs:", "  Enable: true"]
    for ou in NODE_OUS:
        lines += [f"  {ou.capitalize()}OUIdentifier:", "    Certificate: cacerts/ca.pem"]
        lines.append(f"    OrganizationalUnitIdentifier: {ou}")
    return ("\n".join(lines) + "\n").encode()
