"""What the network tells `member:found` about the first members and people."""

from dataclasses import replace
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from network.identity import founding
from network.identity.authority import attributes_of
from network.identity.identities import load_person
from tests.network.conftest import Established


def test_every_first_certificate_is_named_by_its_key_with_what_it_says(established: Established) -> None:
    topology = replace(established.topology, founding={"simulated_days": True, "first_date": "2026-03-02"})
    argument = founding.argument(established.home, topology)
    assert (argument["simulated_days"], argument["first_date"]) == (True, "2026-03-02")
    core = argument["organisations"][0]
    assert (core["member_id"], core["msp_id"], core["company_name"], core["user_id"]) == (
        "M-CORE",
        "CoreMSP",
        "Core enterprise",
        "U-CORE-1",
    )
    assert [len(entry["credit_code"]) for entry in argument["organisations"]] == [18] * 4
    assert len(argument["people"]) == sum(len(organisation.people) for organisation in topology.organisations)
    by_fingerprint = {person["fingerprint"]: person for person in argument["people"]}
    for organisation in topology.organisations:
        for person in organisation.people:
            pem = load_person(established.home, organisation, person.name).certificate
            entry = by_fingerprint[founding.fingerprint(pem)]
            said = attributes_of(x509.load_pem_x509_certificate(pem))
            assert entry["roles"] == said["roles"].split(",")
            assert {name: said[name] for name in ("member_id", "user_id", "use")} == {
                name: entry[name] for name in ("member_id", "user_id", "use")
            }


def test_a_fingerprint_is_over_the_key_alone(established: Established) -> None:
    core = established.topology.organisation("core")
    pem = load_person(established.home, core, "user").certificate
    der = (
        x509.load_pem_x509_certificate(pem)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    assert len(founding.fingerprint(pem)) == 64
    assert founding.fingerprint(pem) == sha256(der).hexdigest()


def test_organisations_without_people_are_no_members(established: Established) -> None:
    first, *others = established.topology.organisations
    topology = replace(established.topology, organisations=(replace(first, people=()), *others))
    argument = founding.argument(established.home, topology)
    assert [entry["member_id"] for entry in argument["organisations"]] == ["M-WAREHOUSE", "M-LOGISTICS", "M-BANK"]
    assert {entry["member_id"] for entry in argument["people"]} == {"M-WAREHOUSE", "M-LOGISTICS", "M-BANK"}
