"""Certificates as a Fabric MSP wants them, their attributes, and revocation."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from network.identity.authority import (
    ATTRIBUTES_OID,
    EMBEDDED_ORGANISATION,
    Authority,
    AuthorityError,
    attributes_of,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("core", legal_name=EMBEDDED_ORGANISATION, now=NOW)


def _public() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP256R1()).public_key()


def _load(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def test_an_authority_is_what_an_msp_asks_of_a_root(authority: Authority) -> None:
    certificate = authority.certificate
    extensions = certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (constraints.critical, constraints.value.ca) == (True, True)
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert certificate.subject.rfc4514_string() == "CN=ca.core,O=Embedded evaluation network"
    assert certificate.subject == certificate.issuer
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW - timedelta(minutes=5) + timedelta(days=5 * 365)
    assert isinstance(authority.key, ec.EllipticCurvePrivateKey) and authority.key.curve.name == "secp256r1"
    assert Authority.create("core", "tlsca").certificate.subject.rfc4514_string() == "CN=tlsca.core,O=core"


def test_an_identity_has_one_role_and_lasts_a_year(authority: Authority) -> None:
    certificate = _load(authority.issue(_public(), "alice", ou="client", now=NOW))
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert [unit.value for unit in units] == ["client"]
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "alice"
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (
        NOW - timedelta(minutes=5),
        NOW + timedelta(days=365),
    )
    extensions = certificate.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    issuer_key = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == issuer_key
    certificate.verify_directly_issued_by(authority.certificate)
    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_oid(ATTRIBUTES_OID)
    with pytest.raises(AuthorityError, match="'boss' is no NodeOU role"):
        authority.issue(_public(), "alice", ou="boss")  # type: ignore[arg-type]


def test_attributes_are_fabric_ca_json_as_it_stands(authority: Authority) -> None:
    attributes = {"roles": "approver,reviewer", "hf.EnrollmentID": "alice", "名": "值"}
    certificate = _load(authority.issue(_public(), "alice", ou="client", attributes=attributes))
    extension = certificate.extensions.get_extension_for_oid(ATTRIBUTES_OID)
    assert not extension.critical
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    # Not wrapped in any ASN.1 type: the attribute readers of peers and shims parse the bytes as JSON.
    assert json.loads(extension.value.value) == {"attrs": attributes}
    assert extension.value.value.startswith(b'{"attrs":{"hf.EnrollmentID":"alice","roles":"approver,reviewer",')
    assert attributes_of(certificate) == attributes
    assert attributes_of(_load(authority.issue(_public(), "bob", ou="client"))) == {}


def test_only_keys_that_fabric_verifies_are_certified(authority: Authority) -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
        assert _load(authority.issue(key.public_key(), "a", ou="client")).public_key() == key.public_key()
    for refused in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP521R1())):
        with pytest.raises(AuthorityError, match="P-256, P-384 or Ed25519"):
            authority.issue(refused.public_key(), "a", ou="client")


def test_a_certificate_never_outlives_or_predates_its_authority() -> None:
    short = Authority.create("core", now=NOW, not_after=NOW + timedelta(days=10))
    certificate = _load(short.issue(_public(), "a", ou="client", now=NOW))
    assert certificate.not_valid_after_utc == NOW + timedelta(days=10)
    later = _load(short.issue(_public(), "a", ou="client", now=NOW - timedelta(days=1), not_after=NOW))
    assert later.not_valid_before_utc == short.certificate.not_valid_before_utc
    with pytest.raises(AuthorityError, match="would end"):
        short.issue(_public(), "a", ou="client", now=NOW + timedelta(days=11))


def test_a_tls_certificate_serves_both_sides_and_names_addresses_as_addresses(authority: Authority) -> None:
    pem = authority.issue_tls(_public(), "peer.core", ["peer.core", "127.0.0.1", "localhost", "127.0.0.1", "::1"])
    extensions = _load(pem).extensions
    uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["peer.core", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_revocation_is_a_signed_list_that_is_kept(tmp_path: Path) -> None:
    authority = Authority.create("core", now=NOW)
    pems = [authority.issue(_public(), name, ou="client") for name in "abc"]
    folder = tmp_path / "ca"
    authority.save(folder)
    assert not (folder / "crl.pem").exists()
    authority.revoke(pems[0], now=NOW)
    authority.revoke(pems[0], now=NOW + timedelta(days=1))
    authority.save(folder)
    again = Authority.load(folder)
    again.revoke(pems[1], now=NOW)
    crl = x509.load_pem_x509_crl(again.crl(now=NOW))
    assert crl.is_signature_valid(authority.certificate.public_key())  # type: ignore[arg-type]
    assert {entry.serial_number: entry.revocation_date_utc for entry in crl} == {
        _load(pem).serial_number: NOW for pem in pems[:2]
    }
    key_identifier = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == key_identifier
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 2


def test_an_authority_revokes_only_what_it_issued(authority: Authority) -> None:
    foreign = Authority.create("bank").issue(_public(), "a", ou="client")
    impostor = Authority.create("core", legal_name=EMBEDDED_ORGANISATION).issue(_public(), "a", ou="client")
    for pem in (foreign, impostor):
        with pytest.raises(AuthorityError, match="not issued by this authority"):
            authority.revoke(pem)
    with pytest.raises(AuthorityError, match="not a certificate in PEM"):
        authority.revoke(b"hello")
    assert not authority.revoked


def test_a_saved_authority_is_the_same_and_its_key_private(tmp_path: Path, authority: Authority) -> None:
    authority.save(tmp_path)
    loaded = Authority.load(tmp_path)
    assert loaded.certificate == authority.certificate
    assert loaded.key.public_key() == authority.key.public_key()
    assert stat.S_IMODE((tmp_path / "private_key.pem").stat().st_mode) == 0o600
