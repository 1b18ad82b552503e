"""A certificate authority of one organisation: issues certificates, revokes them, and signs the revocation list.

Each organisation has two, one for identities (`ca`) and one for TLS (`tlsca`): a stolen TLS key endorses nothing.
What a Fabric 3.1.5 MSP asks of the certificates: fabric-network.md §10.1."""

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, Self, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from network.identity import key as keys

NodeOU = Literal["client", "peer", "admin", "orderer"]
Kind = Literal["ca", "tlsca"]

# Clocks of the machines of a consortium differ; a certificate is needed the moment it is made.
BACKDATED: Final = timedelta(minutes=5)
VALIDITY: Final = timedelta(days=365)
# An authority outlives what it issues: replacing it takes a channel configuration update of every member.
AUTHORITY_VALIDITY: Final = timedelta(days=5 * 365)
# Fabric itself never looks at a list's next update; other readers of X.509 do.
_CRL_VALIDITY: Final = timedelta(days=365)
# Where Fabric CA puts attributes, as raw JSON (fabric-ca lib/attrmgr); peers' and shims' attribute readers look there.
ATTRIBUTES_OID: Final = ObjectIdentifier("1.2.3.4.5.6.7.8.1")
# Shown to everybody who looks at a certificate: here one operator holds all keys (embedded-network.md 0.8).
EMBEDDED_ORGANISATION: Final = "Embedded evaluation network"
_CERTIFICATE: Final = "certificate.pem"
_KEY: Final = "private_key.pem"
_CRL: Final = "crl.pem"


class AuthorityError(Exception):
    """A certificate cannot be issued or revoked as asked; the text says why."""


@dataclass(slots=True)
class Authority:
    """One certificate authority: its certificate, its key, and the serial numbers it has revoked with their time."""

    certificate: x509.Certificate
    key: keys.PrivateKey
    revoked: dict[int, datetime]

    @classmethod
    def create(
        cls,
        organisation: str,
        kind: Kind = "ca",
        *,
        legal_name: str | None = None,
        key: keys.PrivateKey | None = None,
        now: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Self:
        """A new self-signed authority called `<kind>.<organisation>`.

        legal_name is the O of its subject (the organisation's name by default; EMBEDDED_ORGANISATION in the embedded
        network); not_after by default five years on."""
        start = (now or datetime.now(UTC)) - BACKDATED
        private = key or keys.generate()
        subject = _name(f"{kind}.{organisation}", organisation=legal_name or organisation)
        builder = (
            _builder(subject, subject, private.public_key(), start, not_after or start + AUTHORITY_VALIDITY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        )
        return cls(builder.sign(private, _digest(private)), private, {})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The authority kept in a folder. Raises OSError, AuthorityError or KeyFileError when it is not whole."""
        certificate = _certificate((folder / _CERTIFICATE).read_bytes())
        private = keys.from_pem((folder / _KEY).read_bytes())
        crl = folder / _CRL
        if not crl.exists():
            return cls(certificate, private, {})
        entries = x509.load_pem_x509_crl(crl.read_bytes())
        return cls(certificate, private, {entry.serial_number: entry.revocation_date_utc for entry in entries})

    def save(self, folder: Path) -> None:
        """Keep the authority in a folder: certificate and key once, the revocation list anew when there is one."""
        keys.write_new(folder / _KEY, keys.to_pem(self.key), private=True)
        keys.write_new(folder / _CERTIFICATE, self.certificate_pem)
        if self.revoked:
            keys.replace_file(folder / _CRL, self.crl())

    @property
    def certificate_pem(self) -> bytes:
        """The authority's own certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        public_key: CertificatePublicKeyTypes,
        common_name: str,
        *,
        ou: NodeOU,
        attributes: Mapping[str, str] | None = None,
        san: Sequence[str] = (),
        now: datetime | None = None,
        not_after: datetime | None = None,
    ) -> bytes:
        """An identity certificate in PEM with exactly one NodeOU role, valid from five minutes ago for one year.

        attributes are strings under Fabric CA's extension. Raises AuthorityError for a role or a key that a peer would
        refuse."""
        if ou not in get_args(NodeOU):
            raise AuthorityError(f"{ou!r} is no NodeOU role: client, peer, admin or orderer")
        builder = self._leaf(public_key, _name(common_name, ou=ou), now, not_after)
        if san:
            builder = builder.add_extension(_alternative_names(san), critical=False)
        if attributes is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(ATTRIBUTES_OID, _attributes(attributes)), False)
        return self._signed(builder)

    def issue_tls(
        self,
        public_key: CertificatePublicKeyTypes,
        common_name: str,
        san: Sequence[str],
        *,
        now: datetime | None = None,
        not_after: datetime | None = None,
    ) -> bytes:
        """A TLS certificate in PEM for server and client alike, because orderers dial each other with it."""
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = self._leaf(public_key, _name(common_name), now, not_after)
        builder = builder.add_extension(usage, critical=False)
        return self._signed(builder.add_extension(_alternative_names(san), critical=False))

    def revoke(self, certificate: bytes, *, now: datetime | None = None) -> None:
        """Put a certificate (PEM) of this authority on its revocation list; again is no change.

        Raises AuthorityError for a certificate of another authority."""
        subject = _certificate(certificate)
        try:
            subject.verify_directly_issued_by(self.certificate)
        except Exception as error:
            raise AuthorityError("the certificate was not issued by this authority") from error
        self.revoked.setdefault(subject.serial_number, (now or datetime.now(UTC)).replace(microsecond=0))

    def crl(self, *, now: datetime | None = None) -> bytes:
        """The revocation list in PEM, signed now; the form an MSP's `revocation_list` takes."""
        moment = now or datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(moment - BACKDATED)
            .next_update(moment + _CRL_VALIDITY)
            .add_extension(self._key_identifier(), critical=False)
            .add_extension(x509.CRLNumber(len(self.revoked)), critical=False)
        )
        for serial, when in sorted(self.revoked.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, _digest(self.key)).public_bytes(serialization.Encoding.PEM)

    def _leaf(
        self,
        public_key: CertificatePublicKeyTypes,
        subject: x509.Name,
        now: datetime | None,
        not_after: datetime | None,
    ) -> x509.CertificateBuilder:
        _check_public_key(public_key)
        moment = now or datetime.now(UTC)
        # A certificate that outlives its authority would stop working without its own expiry saying so.
        end = min(not_after or moment + VALIDITY, self.certificate.not_valid_after_utc)
        # A peer checks the chain at notBefore + 1 s, when the authority has to exist already.
        start = max(moment - BACKDATED, self.certificate.not_valid_before_utc)
        if end <= start:
            raise AuthorityError(f"the certificate would end ({end:%Y-%m-%d}) before it begins ({start:%Y-%m-%d})")
        return (
            _builder(subject, self.certificate.subject, public_key, start, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        extension = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(extension.value)

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self.key, _digest(self.key)).public_bytes(serialization.Encoding.PEM)


def attributes_of(certificate: x509.Certificate) -> dict[str, str]:
    """The attributes of a certificate in Fabric CA's form; empty when there are none or they cannot be read."""
    try:
        extension = certificate.extensions.get_extension_for_oid(ATTRIBUTES_OID).value
        document = json.loads(extension.value) if isinstance(extension, x509.UnrecognizedExtension) else {}
    except (x509.ExtensionNotFound, ValueError):
        return {}
    found = document.get("attrs") if isinstance(document, dict) else None
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _attributes(attributes: Mapping[str, str]) -> bytes:
    # Go's encoder sorts map keys, so Fabric CA's own output has this order.
    return json.dumps({"attrs": dict(attributes)}, sort_keys=True, separators=(",", ":")).encode()


def _check_public_key(public_key: CertificatePublicKeyTypes) -> None:
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return
    if isinstance(public_key, ec.EllipticCurvePublicKey) and public_key.curve.name in ("secp256r1", "secp384r1"):
        return
    raise AuthorityError("a Fabric identity has a P-256, P-384 or Ed25519 key")


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AuthorityError("not a certificate in PEM") from error


def _name(common_name: str, *, ou: str | None = None, organisation: str | None = None) -> x509.Name:
    parts = ((NameOID.ORGANIZATION_NAME, organisation), (NameOID.ORGANIZATIONAL_UNIT_NAME, ou))
    attributes = [x509.NameAttribute(oid, value) for oid, value in parts if value]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: CertificatePublicKeyTypes, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(san: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alternative_name(name) for name in dict.fromkeys(san)])


def _alternative_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _digest(key: keys.PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
