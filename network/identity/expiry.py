"""When certificates end: Fabric writes a log line a week ahead and nothing else (fabric-network.md §9)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from network.identity.authority import AuthorityError

_SECONDS_PER_DAY: Final = 86_400
_FOLDERS: Final = ("organisations", "identities")
_SUFFIXES: Final = (".pem", ".crt")


@dataclass(frozen=True, slots=True)
class Expiry:
    """One certificate or revocation list of a home: its file (relative to the home), subject, end (UTC) and days left.

    `days_left` counts whole days and is negative once it has ended. For a revocation list the subject is its issuer and
    the end its next update."""

    path: str
    subject: str
    not_after: datetime
    days_left: int


def report(home: Path, *, now: datetime | None = None) -> list[Expiry]:
    """Every certificate and revocation list of a home's identities, the one that ends first at the head.

    Empty without any. Raises AuthorityError, which names the file, for one that cannot be read."""
    moment = now or datetime.now(UTC)
    found = []
    # Nodes keep ledgers under the home too; only these folders hold certificates.
    paths = (path for folder in _FOLDERS for path in (home / folder).rglob("*") if path.suffix in _SUFFIXES)
    for path in sorted(paths):
        try:
            ends = _ends(path.read_bytes())
        except ValueError as error:
            raise AuthorityError(f"{path}: not a certificate or revocation list in PEM") from error
        for subject, end in ends:
            days = (end - moment).total_seconds() // _SECONDS_PER_DAY
            found.append(Expiry(path.relative_to(home).as_posix(), subject, end, int(days)))
    return sorted(found, key=lambda expiry: (expiry.not_after, expiry.path))


def _ends(pem: bytes) -> list[tuple[str, datetime]]:
    if b"BEGIN X509 CRL" in pem:
        crl = x509.load_pem_x509_crl(pem)
        return [(crl.issuer.rfc4514_string(), crl.next_update_utc)] if crl.next_update_utc else []
    if b"BEGIN CERTIFICATE" not in pem:
        return []
    certificates = x509.load_pem_x509_certificates(pem)
    return [(certificate.subject.rfc4514_string(), certificate.not_valid_after_utc) for certificate in certificates]
