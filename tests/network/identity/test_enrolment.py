"""Enrolling people: with a key of ours, with their own, under a password; and revoking them."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from network.identity import key as keys
from network.identity.authority import Authority, AuthorityError, attributes_of
from network.identity.enrolment import Enrolment, authority_folder, certify, enrol, person_folder, revoke
from network.identity.key import KeyFileError

ALICE = Enrolment("alice", roles=("reviewer", "approver"), member_id="M-1", user_id="U-7", use="payment")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    Authority.create("core").save(authority_folder(tmp_path, "core"))
    return tmp_path


def _request(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, name: str = "somebody else") -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, name),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "admin"),
            ]
        )
    )
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM)


def test_enrolment_makes_a_key_and_a_certificate_that_says_who_and_what(home: Path) -> None:
    folder = enrol(home, "core", ALICE)
    assert folder == person_folder(home, "core", "alice")
    certificate = x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())
    key = keys.from_pem((folder / "private_key.pem").read_bytes())
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=alice,OU=client"
    assert attributes_of(certificate) == {
        "hf.Affiliation": "",
        "hf.EnrollmentID": "alice",
        "hf.Type": "client",
        "member_id": "M-1",
        "roles": "reviewer,approver",
        "use": "payment",
        "user_id": "U-7",
    }


def test_what_is_not_known_does_not_stand_in_the_certificate(home: Path) -> None:
    folder = enrol(home, "core", Enrolment("boss", ou="admin"))
    certificate = x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())
    assert attributes_of(certificate) == {"hf.Affiliation": "", "hf.EnrollmentID": "boss", "hf.Type": "admin"}


def test_enrolling_again_changes_nothing_and_finishes_what_was_interrupted(home: Path) -> None:
    folder = enrol(home, "core", ALICE)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    enrol(home, "core", Enrolment("alice", roles=("auditor",)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "certificate.pem").unlink()
    enrol(home, "core", ALICE)
    assert (folder / "private_key.pem").read_bytes() == before["private_key.pem"]
    certificate = x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())
    assert certificate.public_key() == keys.from_pem(before["private_key.pem"]).public_key()


def test_a_key_can_be_under_a_password(home: Path) -> None:
    folder = enrol(home, "core", ALICE, password=b"secret")
    pem = (folder / "private_key.pem").read_bytes()
    assert b"ENCRYPTED PRIVATE KEY" in pem
    certificate = x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())
    assert keys.from_pem(pem, b"secret").public_key() == certificate.public_key()
    (folder / "certificate.pem").unlink()
    with pytest.raises(KeyFileError, match="wrong or missing password"):
        enrol(home, "core", ALICE, password=b"other")


@pytest.mark.parametrize(
    "key", [keys.generate(), ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()]
)
def test_a_user_made_key_is_certified_from_a_request_or_a_public_key(
    home: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
) -> None:
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for request in (_request(key), public):
        certificate = x509.load_pem_x509_certificate(certify(home, "core", request, ALICE))
        assert certificate.public_key() == key.public_key()
        # Who somebody is, is for the authority to say, not for the request.
        assert certificate.subject.rfc4514_string() == "CN=alice,OU=client"
        assert attributes_of(certificate)["user_id"] == "U-7"
    assert not person_folder(home, "core", "alice").exists()


def test_a_request_must_be_signed_with_its_own_key(home: Path) -> None:
    request = _request(keys.generate())
    der = bytearray(x509.load_pem_x509_csr(request).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    tampered = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(AuthorityError, match="not signed with the key it holds"):
        certify(home, "core", tampered, ALICE)
    with pytest.raises(AuthorityError, match="neither a certificate signing request nor a public key"):
        certify(home, "core", b"hello", ALICE)
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    pem = rsa_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(AuthorityError, match="P-256, P-384 or Ed25519"):
        certify(home, "core", pem, ALICE)


def test_revoking_keeps_every_earlier_revocation(home: Path) -> None:
    pems = [(enrol(home, "core", Enrolment(name)) / "certificate.pem").read_bytes() for name in ("a", "b", "c")]
    for pem in pems[:2]:
        kept = revoke(home, "core", pem)
    serials = {x509.load_pem_x509_certificate(pem).serial_number for pem in pems[:2]}
    assert {entry.serial_number for entry in x509.load_pem_x509_crl(kept)} == serials
    assert (authority_folder(home, "core") / "crl.pem").read_bytes() == kept
