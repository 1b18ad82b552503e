"""The first members and people as `member:found` takes them: from the topology and the certificates made for it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from network.identity.enrolment import person_folder
from network.topology import Organisation, Topology

# The network's civil day: mainland China has one zone and no summer time.
_BEIJING: Final = timezone(timedelta(hours=8))


def argument(home: Path, topology: Topology, now: datetime | None = None) -> dict[str, Any]:
    """The argument of `member:found` without its `request_id`: the topology's `founding` table, organisations, people.

    Without a `first_date` in the table it is the last business day up to `now`. An organisation's own `user_id` is that
    of its first person; organisations without people are left out. People are known by the fingerprint of their public
    key, so every certificate is an entry of its own. Raises OSError when an identity is not there."""
    founders = [organisation for organisation in topology.organisations if organisation.people]
    return {
        "first_date": _last_business_day(topology.founding, now or datetime.now(UTC)).isoformat(),
        **topology.founding,
        "organisations": [_organisation(organisation) for organisation in founders],
        "people": [person for organisation in founders for person in _people(home, organisation)],
    }


def fingerprint(certificate: bytes) -> str:
    """Lower-case hex SHA-256 of the public key (DER) in a certificate (PEM): how the ledger knows a key."""
    public_key = x509.load_pem_x509_certificate(certificate).public_key()
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return sha256(der).hexdigest()


def _last_business_day(founding: Mapping[str, Any], now: datetime) -> date:
    """The last day up to `now` that the founding calendars make a business day; the contract checks it again."""
    listed = [calendar["days"] for calendar in founding.get("calendars", ())]
    holidays, workdays = ({day for days in listed for day in days[kind]} for kind in ("holidays", "workdays"))
    day = now.astimezone(_BEIJING).date()
    while day.isoformat() not in workdays and (day.weekday() >= 5 or day.isoformat() in holidays):
        day -= timedelta(days=1)
    return day


def _organisation(organisation: Organisation) -> dict[str, Any]:
    return {
        "member_id": organisation.member_id,
        "msp_id": organisation.msp_id,
        "company_name": organisation.display_name,
        "credit_code": organisation.credit_code,
        "user_id": organisation.people[0].user_id,
    }


def _people(home: Path, organisation: Organisation) -> list[dict[str, Any]]:
    return [
        {
            "fingerprint": fingerprint(
                (person_folder(home, organisation.name, person.name) / "certificate.pem").read_bytes()
            ),
            "member_id": organisation.member_id,
            "user_id": person.user_id,
            "roles": list(person.roles),
            "use": person.use,
        }
        for person in organisation.people
    ]
