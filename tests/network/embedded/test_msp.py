"""Which certificates are identities, what roles they have, and which signatures count."""

import base64
import random
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fabric_protos.common import configtx_pb2
from fabric_protos.msp import identities_pb2, msp_config_pb2, msp_principal_pb2

from network.channel import config, policy
from network.embedded import msp as msps
from network.embedded.certificate import CURVE_ORDERS
from network.embedded.msp import Identity, IdentityError, MspError, MspManager
from network.identity.authority import Authority
from network.identity.enrolment import authority_folder
from network.identity.identities import load_node, load_person
from tests.network.conftest import Established
from tests.network.embedded import identity_cases
from tests.network.embedded.identity_cases import Case, certificate, sign_with, with_certificate_s

MESSAGE = b"a message"


@pytest.fixture(scope="module")
def manager(established: Established) -> MspManager:
    return MspManager.from_config(config.parse(established.genesis))


@pytest.fixture(scope="module")
def cases(established: Established) -> list[Case]:
    return identity_cases.cases(established.home, established.topology)


def _serialized(pem: bytes, msp_id: str = "CoreMSP") -> bytes:
    return identities_pb2.SerializedIdentity(mspid=msp_id, id_bytes=pem).SerializeToString()


def _core(established: Established) -> Authority:
    return Authority.load(authority_folder(established.home, "core"))


def _changed(established: Established, change: "dict[str, object]", msp_id: str = "CoreMSP") -> configtx_pb2.Config:
    """The channel's configuration with fields of one organisation's MSP definition replaced."""
    configuration = config.parse(established.genesis)
    for section in ("Orderer", "Application"):
        value = configuration.channel_group.groups[section].groups[msp_id].values["MSP"]
        definition = msp_config_pb2.MSPConfig.FromString(value.value)
        fabric = msp_config_pb2.FabricMSPConfig.FromString(definition.config)
        for name, entry in change.items():
            fabric.ClearField(name)  # type: ignore[arg-type]
            if isinstance(entry, list):
                getattr(fabric, name).extend(entry)
            elif entry is not None:
                getattr(fabric, name).CopyFrom(entry)
        definition.config = fabric.SerializeToString()
        value.value = definition.SerializeToString()
    return configuration


def test_verdicts_are_those_of_a_fabric_peer(manager: MspManager, cases: list[Case]) -> None:
    def verdict(case: Case) -> str:
        try:
            identity = manager.identity(case.serialized)
        except IdentityError as error:
            return "malformed" if error.malformed else "refused"
        return "accepted" if manager.verify(identity, MESSAGE, case.sign(MESSAGE)) else "refused"

    assert {case.name: verdict(case) for case in cases} == {case.name: case.verdict for case in cases}


def test_refused_identities_name_the_organisation_and_the_reason(manager: MspManager, cases: list[Case]) -> None:
    texts = {
        "an unknown MSP": "MSP NobodyMSP is not defined on channel",
        "no SerializedIdentity": "could not deserialize a SerializedIdentity",
        "no PEM": "could not decode the PEM structure",
        "another organisation's authority": "signed by unknown authority",
        "two role OUs": "not a combination of them",
        "no OU": "the identity does not have an OU that resolves to client, peer, orderer, or admin role",
        "a CA certificate": "cannot be used as an identity",
        "client with RSA": "RSA is not supported",
    }
    for case in (case for case in cases if case.name in texts):
        with pytest.raises(IdentityError, match=texts[case.name]) as caught:
            manager.identity(case.serialized)
        assert caught.value.malformed or caught.value.msp_id == "CoreMSP"


def test_roles_come_from_the_organisational_unit(established: Established, manager: MspManager) -> None:
    core = established.topology.organisation("core")
    serialized = {
        "peer": load_node(established.home, core, core.peers[0]).serialized,
        "orderer": load_node(established.home, core, core.orderers[0]).serialized,
        "admin": load_person(established.home, core, "admin").serialized,
        "client": load_person(established.home, core, "user").serialized,
    }
    for role, creator in serialized.items():
        identity = manager.identity(creator)
        assert identity.roles == {"member", role}
        for name in ("member", "admin", "client", "peer", "orderer"):
            expected = name in ("member", role)
            assert manager.satisfies(identity, policy.role("CoreMSP", name)) is expected
            assert identity.has_role("CoreMSP", name) is expected
            assert not manager.satisfies(identity, policy.role("BankMSP", name))


def test_an_expired_certificate_stays_an_identity_and_shows_when_it_ended(
    established: Established, manager: MspManager
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _core(established)
    begun = authority.certificate.not_valid_before_utc
    ended = begun + timedelta(seconds=30)
    late = authority.issue(key.public_key(), "late", ou="client", now=begun, not_after=ended)
    identity = manager.identity(_serialized(late))
    assert identity.expires_at == ended < datetime.now(UTC)
    assert manager.verify(identity, MESSAGE, sign_with(key)(MESSAGE))


def test_two_spellings_of_one_certificate_are_one_identity(established: Established, manager: MspManager) -> None:
    pem = certificate(_core(established), ec.generate_private_key(ec.SECP256R1()).public_key(), "client")
    high, low = (manager.identity(_serialized(with_certificate_s(pem, high=high))) for high in (True, False))
    assert high.certificate.signature != low.certificate.signature
    assert high.certificate_hash == low.certificate_hash == sha256(_der(low)).digest()


def _der(identity: Identity) -> bytes:
    return identity.certificate.public_bytes(serialization.Encoding.DER)


def test_a_revoked_certificate_is_no_identity(established: Established) -> None:
    authority = _core(established)
    keys = [ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(2)]
    pems = [authority.issue(key, "a", ou="client") for key in keys]
    authority.revoke(pems[0])
    manager = MspManager.from_config(_changed(established, {"revocation_list": [authority.crl()]}))
    with pytest.raises(IdentityError, match="The certificate has been revoked") as caught:
        manager.identity(_serialized(pems[0]))
    assert (caught.value.malformed, caught.value.msp_id) == (False, "CoreMSP")
    assert manager.identity(_serialized(pems[1])).roles == {"member", "client"}


def test_a_revocation_list_that_the_authority_did_not_sign_counts_for_nothing(established: Established) -> None:
    authority = _core(established)
    pem = authority.issue(ec.generate_private_key(ec.SECP256R1()).public_key(), "a", ou="client")
    forger = Authority(authority.certificate, ec.generate_private_key(ec.SECP256R1()), {})
    forger.revoke(pem)
    manager = MspManager.from_config(_changed(established, {"revocation_list": [forger.crl()]}))
    assert manager.identity(_serialized(pem)).has_role("CoreMSP", "client")


def test_a_listed_administrator_is_an_admin_whatever_the_unit(established: Established) -> None:
    pem = load_person(established.home, established.topology.organisation("core"), "user").certificate
    manager = MspManager.from_config(_changed(established, {"admins": [pem]}))
    assert manager.identity(_serialized(pem)).roles == {"member", "client", "admin"}


def test_without_node_ous_every_certificate_of_the_authority_is_a_member(established: Established) -> None:
    pem = certificate(_core(established), ec.generate_private_key(ec.SECP256R1()).public_key())
    admin = load_person(established.home, established.topology.organisation("core"), "admin").certificate
    manager = MspManager.from_config(_changed(established, {"fabric_node_ous": None, "admins": [admin]}))
    assert manager.identity(_serialized(pem)).roles == {"member"}
    assert manager.identity(_serialized(admin)).roles == {"member", "admin"}


def test_a_node_ou_of_another_authority_gives_no_role(established: Established) -> None:
    other = Authority.create("core", "ca", legal_name="second")
    node_ous = msp_config_pb2.FabricNodeOUs(enable=True)
    for role in ("client", "peer", "admin", "orderer"):
        identifier = getattr(node_ous, f"{role}_ou_identifier")
        identifier.certificate, identifier.organizational_unit_identifier = other.certificate_pem, role
    first = _core(established)
    change = {"root_certs": [first.certificate_pem, other.certificate_pem], "fabric_node_ous": node_ous}
    manager = MspManager.from_config(_changed(established, change))
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    assert manager.identity(_serialized(other.issue(key, "a", ou="client"))).has_role("CoreMSP", "client")
    with pytest.raises(IdentityError, match="certifiersIdentifier does not match"):
        manager.identity(_serialized(first.issue(key, "a", ou="client")))


def test_an_intermediate_authority_issues_and_its_root_then_does_not(established: Established) -> None:
    # Our own authorities may have none below them; a member's own hierarchy has such a root.
    top_key, below_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    top = _self_signed(top_key)
    by_top = Authority(x509.load_pem_x509_certificate(top), top_key, {})
    below = certificate(by_top, below_key.public_key(), ca=True, name="below")
    change = {"root_certs": [top], "intermediate_certs": [below], "fabric_node_ous": _node_ous(below)}
    manager = MspManager.from_config(_changed(established, change))
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    by_below = Authority(x509.load_pem_x509_certificate(below), below_key, {})
    assert manager.identity(_serialized(certificate(by_below, key, "client"))).has_role("CoreMSP", "client")
    with pytest.raises(IdentityError, match="Parent certificate should be a leaf of the certification tree"):
        manager.identity(_serialized(certificate(by_top, key, "client")))


def _self_signed(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "top")])
    start = datetime.now(UTC) - timedelta(hours=1)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, start, start + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _node_ous(pem: bytes) -> msp_config_pb2.FabricNodeOUs:
    node_ous = msp_config_pb2.FabricNodeOUs(enable=True)
    for role in ("client", "peer", "admin", "orderer"):
        identifier = getattr(node_ous, f"{role}_ou_identifier")
        identifier.certificate, identifier.organizational_unit_identifier = pem, role
    return node_ous


def test_other_principals(established: Established, manager: MspManager) -> None:
    kinds = msp_principal_pb2.MSPPrincipal
    core = established.topology.organisation("core")
    user = load_person(established.home, core, "user")
    identity = manager.identity(user.serialized)

    def principal(kind: int, value: bytes) -> msp_principal_pb2.MSPPrincipal:
        return kinds(principal_classification=kind, principal=value)  # type: ignore[arg-type]

    def unit(name: str, certifiers: bytes) -> msp_principal_pb2.MSPPrincipal:
        value = msp_principal_pb2.OrganizationUnit(
            msp_identifier="CoreMSP", organizational_unit_identifier=name, certifiers_identifier=certifiers
        )
        return principal(kinds.ORGANIZATION_UNIT, value.SerializeToString())

    def combined(*parts: msp_principal_pb2.MSPPrincipal) -> msp_principal_pb2.MSPPrincipal:
        return principal(kinds.COMBINED, msp_principal_pb2.CombinedPrincipal(principals=parts).SerializeToString())

    client, admin = policy.role("CoreMSP", "client"), policy.role("CoreMSP", "admin")
    admins = load_person(established.home, core, "admin")
    verdicts = [
        (True, policy.identity("CoreMSP", user.certificate)),
        (False, policy.identity("CoreMSP", admins.certificate)),
        (False, policy.identity("BankMSP", user.certificate)),
        (True, unit("client", identity.certifiers)),
        (False, unit("client", b"")),
        (False, unit("peer", identity.certifiers)),
        (True, combined(client, policy.role("CoreMSP", "member"))),
        (False, combined(client, admin)),
        (False, combined()),
        (True, principal(kinds.ANONYMITY, b"")),
        (False, principal(kinds.ANONYMITY, b"\x08\x01")),
        (False, principal(kinds.ROLE, b"\xff")),
        (False, principal(17, b"")),
    ]
    assert [manager.satisfies(identity, asked) for _, asked in verdicts] == [expected for expected, _ in verdicts]


class CountingKey:
    """A public key that notes what it is asked to verify."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self.curve = key.curve
        self.asked: list[bytes] = []
        self._key = key

    def verify(self, signature: bytes, data: bytes, algorithm: ec.EllipticCurveSignatureAlgorithm) -> None:
        self.asked.append(signature)
        self._key.verify(signature, data, algorithm)


def test_one_authority_in_two_organisations_makes_two_identities(established: Established) -> None:
    own, core = (established.home / "organisations" / name / "ca/certificate.pem" for name in ("bank", "core"))
    # The bank takes the core enterprise's people as its own members.
    both = [own.read_bytes(), core.read_bytes()]
    manager = MspManager.from_config(
        _changed(
            established, {"root_certs": both, "fabric_node_ous": None, "admins": [_bank_admin(established)]}, "BankMSP"
        )
    )
    pem = load_person(established.home, established.topology.organisation("core"), "user").certificate
    as_core, as_bank = (manager.identity(_serialized(pem, msp_id)) for msp_id in ("CoreMSP", "BankMSP"))
    assert as_core.certificate_hash == as_bank.certificate_hash
    assert (as_core.roles, as_bank.roles) == ({"member", "client"}, {"member"})
    principal = policy.identity("CoreMSP", pem)
    assert [manager.satisfies(identity, principal) for identity in (as_core, as_bank)] == [True, False]


def _bank_admin(established: Established) -> bytes:
    return load_person(established.home, established.topology.organisation("bank"), "admin").certificate


def test_only_true_verifications_are_remembered(established: Established, manager: MspManager) -> None:
    core = established.topology.organisation("core")
    user = load_person(established.home, core, "user")
    identity = manager.identity(user.serialized)
    assert isinstance(identity.public_key, ec.EllipticCurvePublicKey)
    key = CountingKey(identity.public_key)
    counted = replace(identity, public_key=key)  # type: ignore[arg-type]
    message = b"remembered"
    good, bad = user.signer(sha256(message).digest()), user.signer(sha256(b"another").digest())
    asked = [good, good, bad, bad, good]
    assert [manager.verify(counted, message, signature) for signature in asked] == [True, True, False, False, True]
    assert key.asked == [good, bad, bad]
    # What is remembered is this identity, this message and this signature, all three.
    admin = manager.identity(load_person(established.home, core, "admin").serialized)
    assert not manager.verify(admin, message, good)
    assert not manager.verify(identity, b"another message", good)


def test_damaged_bytes_are_refused_and_nothing_else_happens(established: Established, manager: MspManager) -> None:
    user = load_person(established.home, established.topology.organisation("core"), "user")
    der = x509.load_pem_x509_certificate(user.certificate).public_bytes(serialization.Encoding.DER)
    signature = user.signer(sha256(MESSAGE).digest())
    identity = manager.identity(user.serialized)
    chance = random.Random(20260301)

    def damaged(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(changed))
            kind = chance.choice(("change", "change", "drop", "insert"))
            if kind == "change":
                changed[place] ^= chance.randint(1, 255)
            elif kind == "drop" and len(changed) > 8:
                del changed[place : place + chance.randint(1, 4)]
            else:
                changed[place:place] = chance.randbytes(3)
        return bytes(changed)

    for _ in range(2_000):
        pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(damaged(der)) + b"-----END CERTIFICATE-----\n"
        for serialized in (_serialized(pem), damaged(user.serialized)):
            try:
                found = manager.identity(serialized)
            except IdentityError:
                continue
            # Damage outside the certificate, such as to the text around it, does no harm.
            assert found.certificate_hash == identity.certificate_hash
        other = damaged(MESSAGE)
        assert other == MESSAGE or not manager.verify(identity, other, signature)
        # What Go's reader ignores (bytes after the numbers) may be there; the numbers themselves may not change.
        bent = damaged(signature[:-4]) + signature[-4:]
        assert bent == signature or not manager.verify(identity, MESSAGE, bent)


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_the_orders_of_the_curves_are_right(curve: ec.EllipticCurve) -> None:
    # The order less one, as a private key, gives the generator's mirror image: the same x, another y.
    first = ec.derive_private_key(1, curve).public_key().public_numbers()
    last = ec.derive_private_key(CURVE_ORDERS[curve.name] - 1, curve).public_key().public_numbers()
    assert first.x == last.x and first.y != last.y


def test_caches_are_bounded_and_serve_threads() -> None:
    cache: msps._Cache[int, int] = msps._Cache(100)

    def work(start: int) -> None:
        for number in range(start, start + 5_000):
            cache.put(number, number + 1)
            found = cache.get(number)
            assert found in (None, number + 1)

    threads = [threading.Thread(target=work, args=(n * 1_000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache._values) == 100


def test_a_definition_that_fabric_would_refuse_is_refused(established: Established) -> None:
    leaf = load_person(established.home, established.topology.organisation("core"), "user").certificate
    for change, text in (
        ({"root_certs": []}, "expected at least one CA certificate"),
        ({"root_certs": [leaf]}, "did not have the CA attribute"),
        ({"root_certs": [b"no"]}, "a CA certificate cannot be read"),
        ({"revocation_list": [b"no"]}, "could not parse RevocationList"),
        ({"fabric_node_ous": None}, "administrators must be declared"),
    ):
        with pytest.raises(MspError, match=text):
            MspManager.from_config(_changed(established, dict(change)))


def test_the_two_groups_must_define_an_organisation_alike(established: Established) -> None:
    configuration = config.parse(established.genesis)
    admin = load_person(established.home, established.topology.organisation("core"), "admin").certificate
    changed = _changed(established, {"admins": [admin]})
    groups = configuration.channel_group.groups
    groups["Orderer"].groups["CoreMSP"].CopyFrom(changed.channel_group.groups["Orderer"].groups["CoreMSP"])
    with pytest.raises(MspError, match="Attempted to define two different versions of MSP: CoreMSP"):
        MspManager.from_config(configuration)


def test_reading_a_configuration_leaves_it_as_it_is(established: Established) -> None:
    configuration = config.parse(established.genesis)
    before = configuration.SerializeToString(deterministic=True)
    assert MspManager.from_config(configuration).msp_ids == ("BankMSP", "CoreMSP", "LogisticsMSP", "WarehouseMSP")
    assert configuration.SerializeToString(deterministic=True) == before
