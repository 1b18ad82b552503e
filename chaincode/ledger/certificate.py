"""Certificates under (``certificate``, fingerprint); (``member_certificate``, member, fingerprint) lists a member's."""

from typing import Final

from chaincode.domain.certificate import Certificate
from chaincode.ledger.repository import Index, Repository
from chaincode.ledger.store import Store

CERTIFICATES: Final = Repository("certificate", Certificate, "certificate_not_found", "certificate_exists")
MEMBER_CERTIFICATES: Final = Index("member_certificate")


def create(store: Store, certificate: Certificate) -> None:
    """Stage a new certificate with its index key."""
    save(store, certificate)
    MEMBER_CERTIFICATES.put(store, certificate.member_id, certificate.fingerprint)


def save(store: Store, certificate: Certificate) -> None:
    """Stage a certificate."""
    CERTIFICATES.save(store, certificate, certificate.fingerprint)
