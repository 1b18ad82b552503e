"""Enrolment and revocation of people: a key and certificate for them, or a certificate for the key they made.

The certificate says who someone is (Fabric CA's attributes) and can only narrow what the ledger lets them do
(ledger-conventions.md §5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from network.identity import key as keys
from network.identity.authority import Authority, AuthorityError, NodeOU


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a certificate says about its holder.

    `name` is the enrolment id and common name; `ou` the NodeOU role; `roles` the ledger roles it may narrow to;
    `member_id`, `user_id` (a pseudonym) and `use` ("work" or "payment") stand in the certificate when given."""

    name: str
    ou: NodeOU = "client"
    roles: Sequence[str] = ()
    member_id: str | None = None
    user_id: str | None = None
    use: str | None = None

    def attributes(self) -> dict[str, str]:
        """The certificate's attributes; the `hf.` ones are those Fabric CA adds by itself."""
        optional = {
            "member_id": self.member_id,
            "roles": ",".join(self.roles),
            "use": self.use,
            "user_id": self.user_id,
        }
        fixed = {"hf.Affiliation": "", "hf.EnrollmentID": self.name, "hf.Type": self.ou}
        return fixed | {name: value for name, value in optional.items() if value}


def authority_folder(home: Path, organisation: str, kind: str = "ca") -> Path:
    """Where an organisation's authority is kept: kind "ca" for identities, "tlsca" for TLS."""
    return home / "organisations" / organisation / kind


def person_folder(home: Path, organisation: str, name: str) -> Path:
    """Where a person's `certificate.pem` and `private_key.pem` are."""
    return home / "identities" / organisation / name


def enrol(home: Path, organisation: str, enrolment: Enrolment, *, password: bytes | None = None) -> Path:
    """Make a key and certificate for someone and answer their folder.

    The key is encrypted when a password is given. What is there already stays, so that repeating is safe: a key without
    a certificate (an interrupted enrolment) gets its certificate. Raises KeyFileError, OSError."""
    folder = person_folder(home, organisation, enrolment.name)
    key_path, certificate_path = folder / "private_key.pem", folder / "certificate.pem"
    if certificate_path.exists() and key_path.exists():
        return folder
    keys.write_new(key_path, keys.to_pem(keys.generate(), password), private=True)
    public_key = keys.from_pem(key_path.read_bytes(), password).public_key()
    authority = Authority.load(authority_folder(home, organisation))
    keys.write_new(certificate_path, _issue(authority, public_key, enrolment))
    return folder


def certify(
    home: Path, organisation: str, request: bytes, enrolment: Enrolment, *, not_after: datetime | None = None
) -> bytes:
    """A certificate (PEM) by the organisation's authority for a key that the user made and keeps.

    request is a certificate signing request or a public key, in PEM; of a request only the key is taken, after its
    signature shows that the user holds it. Raises AuthorityError."""
    public_key = _requested_key(request)
    return _issue(Authority.load(authority_folder(home, organisation)), public_key, enrolment, not_after)


def revoke(home: Path, organisation: str, certificate: bytes) -> bytes:
    """Revoke a certificate (PEM) of the organisation and answer its new revocation list (PEM), which is kept too.

    The list works once it stands in the channel configuration. Raises AuthorityError for a foreign certificate."""
    folder = authority_folder(home, organisation)
    authority = Authority.load(folder)
    authority.revoke(certificate)
    authority.save(folder)
    return (folder / "crl.pem").read_bytes()


def _issue(
    authority: Authority,
    public_key: CertificatePublicKeyTypes,
    enrolment: Enrolment,
    not_after: datetime | None = None,
) -> bytes:
    return authority.issue(
        public_key, enrolment.name, ou=enrolment.ou, attributes=enrolment.attributes(), not_after=not_after
    )


def _requested_key(request: bytes) -> CertificatePublicKeyTypes:
    try:
        if b"CERTIFICATE REQUEST" in request:
            signing_request = x509.load_pem_x509_csr(request)
            if not signing_request.is_signature_valid:
                raise AuthorityError("the signing request is not signed with the key it holds")
            return signing_request.public_key()
        public_key = serialization.load_pem_public_key(request)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AuthorityError("neither a certificate signing request nor a public key in PEM") from error
    # Authority.issue refuses every kind of key that an identity cannot have.
    return public_key  # type: ignore[return-value]
