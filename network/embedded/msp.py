"""Membership: which certificates are identities of which organisation, and what roles they have.

Built from the MSP definitions in the channel configuration, with the rules and the order of checks of Fabric's MSP at
capability V3_0 (msp/mspimpl.go, mspimplvalidate.go, identities.go; bccsp/sw/ecdsa.go): a chain judged at notBefore
+ 1 s, so that expiry never invalidates a transaction at commit; revocation lists; exactly one NodeOU role; low-S
signatures only. All objects may be used from several threads."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, Generic, Self, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from fabric_protos.common import configtx_pb2, configuration_pb2
from fabric_protos.msp import identities_pb2, msp_config_pb2, msp_principal_pb2
from google.protobuf.message import DecodeError

from network.embedded import certificate as certificates
from network.embedded.certificate import PublicKey

Test = Callable[["Identity"], bool]

# Fabric keeps 100 parsed identities for each MSP; here one cache serves all organisations and many more users.
_IDENTITIES_CACHED: Final = 4_096
# A signature is checked at the proposal, at ordering and at commit; blocks of 500 with 5 signatures stay well inside.
_VERIFICATIONS_CACHED: Final = 65_536
_PRINCIPALS_CACHED: Final = 1_024
_MEMBER: Final = "member"
_ADMIN: Final = "admin"
_FABRIC_MSP: Final = 0
_ED25519_CAPABILITY: Final = "V3_0"


class IdentityError(Exception):
    """Bytes that are no valid identity of the channel.

    `malformed` tells Fabric's two stages apart: True when not even an identity of a known organisation could be made of
    the bytes (its answer then says "creator org unknown, creator is malformed"), False when one could but is not valid
    (revoked, wrong roles, a CA certificate); `msp_id` is then the organisation it claims."""

    def __init__(self, text: str, *, malformed: bool = True, msp_id: str = "") -> None:
        super().__init__(text)
        self.malformed = malformed
        self.msp_id = msp_id


class MspError(Exception):
    """An MSP definition in the channel configuration cannot be used; the text names the MSP."""


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """A valid identity.

    `certificate_hash` is SHA-256 over the certificate with its signature in low-S form, which makes two spellings of
    one certificate the same identity; `expires_at` is UTC and never part of validity; `roles` holds "member" and what
    the certificate's NodeOU adds: "client", "peer", "admin" or "orderer"; `certifiers` identifies the chain above."""

    msp_id: str
    certificate: x509.Certificate
    certificate_hash: bytes
    expires_at: datetime
    roles: frozenset[str]
    organizational_units: tuple[str, ...]
    certifiers: bytes
    public_key: PublicKey

    def has_role(self, msp_id: str, role: str) -> bool:
        """Whether this is an identity of that organisation with that role ("member", "admin", …)."""
        return self.msp_id == msp_id and role in self.roles


class MspManager:
    """The organisations of a channel: turns serialised identities into valid ones and checks their signatures."""

    def __init__(self, msps: Sequence["_Msp"]) -> None:
        self._msps = {msp.name: msp for msp in msps}
        self._identities: _Cache[bytes, Identity] = _Cache(_IDENTITIES_CACHED)
        self._verified: _Cache[bytes, bool] = _Cache(_VERIFICATIONS_CACHED)
        self._principals: _Cache[bytes, Test] = _Cache(_PRINCIPALS_CACHED)

    @classmethod
    def from_config(cls, config: configtx_pb2.Config) -> Self:
        """The organisations of a channel configuration. Raises MspError for a definition that Fabric would refuse."""
        group = config.channel_group
        # Asking a protobuf map for a key by index would put it there.
        declared = group.values["Capabilities"].value if "Capabilities" in group.values else b""
        capabilities = configuration_pb2.Capabilities.FromString(declared).capabilities
        ed25519_allowed = _ED25519_CAPABILITY in capabilities
        definitions: dict[str, bytes] = {}
        for section in (name for name in ("Orderer", "Application") if name in group.groups):
            for name, organisation in sorted(group.groups[section].groups.items()):
                if "MSP" not in organisation.values:
                    raise MspError(f"the organisation {name} in {section} has no MSP")
                definition = organisation.values["MSP"].value
                fabric = _fabric_config(name, definition)
                if definitions.setdefault(fabric.name, definition) != definition:
                    raise MspError(f"Attempted to define two different versions of MSP: {fabric.name}")
        return cls([_Msp(_fabric_config(name, value), ed25519_allowed) for name, value in definitions.items()])

    @property
    def msp_ids(self) -> tuple[str, ...]:
        """The MSP ids of the channel, sorted."""
        return tuple(sorted(self._msps))

    def identity(self, serialized: bytes) -> Identity:
        """The valid identity of SerializedIdentity bytes. Raises IdentityError."""
        cached = self._identities.get(serialized)
        if cached is not None:
            return cached
        try:
            message = identities_pb2.SerializedIdentity.FromString(serialized)
        except DecodeError as error:
            raise IdentityError(f"could not deserialize a SerializedIdentity: {error}") from error
        msp = self._msps.get(message.mspid)
        if msp is None:
            raise IdentityError(f"MSP {message.mspid} is not defined on channel", msp_id=message.mspid)
        identity = msp.identity(message.id_bytes)
        self._identities.put(serialized, identity)
        return identity

    def verify(self, identity: Identity, message: bytes, signature: bytes) -> bool:
        """Whether the identity made this signature over the message: ECDSA over SHA-256 in DER with low S, or Ed25519.

        True answers are remembered; a false one is worked out anew each time."""
        digest = sha256(message).digest()
        # The first two have a fixed length, so no other triple gives the same bytes.
        key = sha256(identity.certificate_hash + digest + signature).digest()
        if self._verified.get(key):
            return True
        valid = certificates.verify(identity.public_key, message, digest, signature)
        if valid:
            self._verified.put(key, True)
        return valid

    def satisfies(self, identity: Identity, principal: msp_principal_pb2.MSPPrincipal) -> bool:
        """Whether the identity is what the principal asks for; False too for a principal that cannot be read."""
        return self.test(principal)(identity)

    def test(self, principal: msp_principal_pb2.MSPPrincipal) -> Test:
        """`satisfies` for one principal, worked out once: a function from an identity to the answer."""
        key = principal.SerializeToString(deterministic=True)
        test = self._principals.get(key)
        if test is None:
            test = self._compile(principal)
            self._principals.put(key, test)
        return test

    def _compile(self, principal: msp_principal_pb2.MSPPrincipal) -> Test:
        kinds = msp_principal_pb2.MSPPrincipal
        compilers: dict[int, Callable[[bytes], Test]] = {
            kinds.ROLE: _role_test,
            kinds.ORGANIZATION_UNIT: _unit_test,
            kinds.IDENTITY: self._identity_test,
            kinds.ANONYMITY: _anonymity_test,
            kinds.COMBINED: self._combined_test,
        }
        compiler = compilers.get(principal.principal_classification)
        try:
            return compiler(principal.principal) if compiler else _never
        except DecodeError:
            return _never

    def _identity_test(self, value: bytes) -> Test:
        try:
            wanted = self.identity(value)
        except IdentityError:
            return _never
        return lambda identity: (
            identity.msp_id == wanted.msp_id and identity.certificate_hash == wanted.certificate_hash
        )

    def _combined_test(self, value: bytes) -> Test:
        parts = msp_principal_pb2.CombinedPrincipal.FromString(value).principals
        tests = [self._compile(part) for part in parts]
        return lambda identity: bool(tests) and all(test(identity) for test in tests)


def _never(_: Identity) -> bool:
    return False


def _role_test(value: bytes) -> Test:
    role = msp_principal_pb2.MSPRole.FromString(value)
    names = {number: name.lower() for name, number in msp_principal_pb2.MSPRole.MSPRoleType.items()}
    msp_id, name = role.msp_identifier, names.get(role.role)
    return lambda identity: identity.msp_id == msp_id and name in identity.roles


def _unit_test(value: bytes) -> Test:
    unit = msp_principal_pb2.OrganizationUnit.FromString(value)
    msp_id, name, certifiers = (
        unit.msp_identifier,
        unit.organizational_unit_identifier,
        unit.certifiers_identifier,
    )
    return lambda identity: (
        identity.msp_id == msp_id and name in identity.organizational_units and identity.certifiers == certifiers
    )


def _anonymity_test(value: bytes) -> Test:
    anonymity = msp_principal_pb2.MSPIdentityAnonymity.FromString(value).anonymity_type
    return lambda _: anonymity == msp_principal_pb2.MSPIdentityAnonymity.NOMINAL


@dataclass(frozen=True, slots=True)
class _NodeOu:
    """A NodeOU role: the organisational unit that gives it, and the only chain it may come from (empty: any)."""

    role: str
    unit: str
    certifiers: bytes


@dataclass(frozen=True, slots=True)
class _Crl:
    """A revocation list and the key identifier of its issuer."""

    list: x509.CertificateRevocationList
    issuer_key: bytes


class _Msp:
    """One organisation's membership rules, from its definition in the channel configuration."""

    def __init__(self, config: msp_config_pb2.FabricMSPConfig, ed25519_allowed: bool) -> None:
        self.name = config.name
        self._ed25519_allowed = ed25519_allowed
        if not config.root_certs:
            raise MspError(f"MSP {self.name}: expected at least one CA certificate")
        self._roots = [self._authority(pem) for pem in config.root_certs]
        self._intermediates = [self._authority(pem) for pem in config.intermediate_certs]
        self._crls = [self._crl(data) for data in config.revocation_list]
        self._inner = self._inner_nodes()
        self._listed_units = {
            (entry.organizational_unit_identifier, self._certifiers_of(entry.certificate))
            for entry in config.organizational_unit_identifiers
        }
        self._node_ous = self._read_node_ous(config.fabric_node_ous) if config.HasField("fabric_node_ous") else []
        self._admins = {self._pinned(pem) for pem in config.admins}
        if not self._admins and not any(ou.role == _ADMIN for ou in self._node_ous):
            raise MspError(f"MSP {self.name}: administrators must be declared when no admin ou classification is set")

    def identity(self, pem: bytes) -> Identity:
        """The valid identity of a certificate in PEM. Raises IdentityError."""
        try:
            certificate = certificates.from_pem(pem)
            public_key = certificate.public_key()
        except (ValueError, UnsupportedAlgorithm) as error:
            raise IdentityError(str(error), msp_id=self.name) from error
        if not isinstance(public_key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
            raise IdentityError("failed to import certificate's public key", msp_id=self.name)
        der, chain = self._canonical(certificate)
        checked_key = self._check_key(public_key)
        if certificates.is_ca(certificate):
            raise self._invalid(
                "could not obtain certification chain: An X509 certificate with Basic Constraint: "
                "Certificate Authority equals true cannot be used as an identity"
            )
        if chain[1] in self._inner:
            raise self._invalid(
                "could not obtain certification chain: invalid validation chain. "
                "Parent certificate should be a leaf of the certification tree"
            )
        self._check_revocation(certificate, chain[1])
        units = tuple(
            str(unit.value) for unit in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
        )
        certifiers = certificates.chain_hash(chain[1:])
        certificate_hash = sha256(der).digest()
        roles = {_MEMBER, *self._unit_roles(units, certifiers)}
        if certificate_hash in self._admins:
            roles.add(_ADMIN)
        return Identity(
            msp_id=self.name,
            certificate=certificate,
            certificate_hash=certificate_hash,
            expires_at=certificate.not_valid_after_utc,
            roles=frozenset(roles),
            organizational_units=units,
            certifiers=certifiers,
            public_key=checked_key,
        )

    def _invalid(self, text: str) -> IdentityError:
        return IdentityError(text, malformed=False, msp_id=self.name)

    def _check_key(self, public_key: PublicKey | rsa.RSAPublicKey) -> PublicKey:
        if isinstance(public_key, ec.EllipticCurvePublicKey) and public_key.curve.name in certificates.CURVE_ORDERS:
            return public_key
        if isinstance(public_key, ed25519.Ed25519PublicKey) and self._ed25519_allowed:
            return public_key
        names = {ed25519.Ed25519PublicKey: "Ed25519", rsa.RSAPublicKey: "RSA"}
        kind = next((name for kind, name in names.items() if isinstance(public_key, kind)), "this curve")
        raise self._invalid(f"could not validate identity's public key algorithm: {kind} is not supported")

    def _canonical(self, certificate: x509.Certificate) -> tuple[bytes, list[x509.Certificate]]:
        """The certificate's DER with a low-S signature, and its only chain. Raises IdentityError."""
        if certificates.is_ca(certificate) and certificates.issued_by(certificate, certificate):
            return certificates.low_s_der(certificate, certificate), [certificate, certificate]
        moment = certificate.not_valid_before_utc + timedelta(seconds=1)
        chains = list(self._chains([certificate], moment))
        if len(chains) != 1:
            reason = (
                "the supplied identity is not valid: x509: certificate signed by unknown authority"
                if not chains
                else f"this MSP only supports a single validation chain, got {len(chains)}"
            )
            # Fabric needs the chain this early only to bring an ECDSA signature into low-S form.
            raise IdentityError(reason, malformed=certificates.ecdsa_signed(certificate), msp_id=self.name)
        return certificates.low_s_der(certificate, chains[0][1]), chains[0]

    def _chains(self, chain: list[x509.Certificate], moment: datetime) -> Iterator[list[x509.Certificate]]:
        """Every chain from the last certificate to a root that Go's verifier would accept at the moment."""
        subject, between = chain[-1], len(chain) - 1
        if not certificates.usable(subject, moment):
            return
        for root in self._roots:
            if self._above(root, subject, between) and certificates.usable(root, moment):
                yield [*chain, root]
        for intermediate in self._intermediates:
            known = intermediate in chain
            if not known and self._above(intermediate, subject, between):
                yield from self._chains([*chain, intermediate], moment)

    @staticmethod
    def _above(issuer: x509.Certificate, subject: x509.Certificate, between: int) -> bool:
        return certificates.may_issue(issuer, between) and certificates.issued_by(subject, issuer)

    def _inner_nodes(self) -> list[x509.Certificate]:
        """The authorities that have an authority below them: they must not issue identities themselves."""
        return [above for intermediate in self._intermediates for above in self._canonical_or_fail(intermediate)[1:]]

    def _pinned(self, pem: bytes) -> bytes:
        """The hash of an administrator's certificate that the definition names."""
        try:
            return sha256(self._canonical(certificates.from_pem(pem))[0]).digest()
        except (IdentityError, ValueError) as error:
            raise MspError(f"MSP {self.name}: an admin certificate is invalid: {error}") from error

    def _canonical_or_fail(self, certificate: x509.Certificate) -> list[x509.Certificate]:
        try:
            return self._canonical(certificate)[1]
        except IdentityError as error:
            raise MspError(f"MSP {self.name}: {error}") from error

    def _check_revocation(self, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
        issuer_key = certificates.subject_key(issuer)
        for crl in self._crls:
            if crl.issuer_key != issuer_key:
                continue
            listed = crl.list.get_revoked_certificate_by_serial_number(certificate.serial_number)
            # Only a list that this very authority signed counts.
            if listed is not None and crl.list.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]
                raise self._invalid(
                    "could not validate identity against certification chain: The certificate has been revoked"
                )

    def _unit_roles(self, units: Sequence[str], certifiers: bytes) -> list[str]:
        """The one NodeOU role of these organisational units; empty where NodeOUs are off."""
        if self._listed_units and not any((unit, certifiers) in self._listed_units for unit in units):
            raise self._invalid(
                f"could not validate identity's OUs: none of the identity's organizational units "
                f"{list(units)} are in MSP {self.name}"
            )
        if not self._node_ous:
            return []
        found = []
        for unit in units:
            node_ou = next((ou for ou in self._node_ous if ou.unit == unit), None)
            if node_ou is None:
                continue
            if node_ou.certifiers and node_ou.certifiers != certifiers:
                raise self._invalid(
                    f"could not validate identity's OUs: certifiersIdentifier does not match: "
                    f"{list(units)}, MSP: [{self.name}]"
                )
            found.append(node_ou.role)
        if not found:
            raise self._invalid(
                "could not validate identity's OUs: the identity does not have an OU that resolves to client, peer, "
                f"orderer, or admin role. OUs: {list(units)}, MSP: [{self.name}]"
            )
        if len(found) > 1:
            raise self._invalid(
                "could not validate identity's OUs: the identity must have a client, a peer, an orderer, or an admin "
                f"OU role to be valid, not a combination of them. OUs: {list(units)}, MSP: [{self.name}]"
            )
        return found

    def _authority(self, pem: bytes) -> x509.Certificate:
        try:
            certificate = certificates.from_pem(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise MspError(f"MSP {self.name}: a CA certificate cannot be read") from error
        if not certificates.is_ca(certificate):
            raise MspError(f"MSP {self.name}: CA Certificate did not have the CA attribute")
        if not certificates.subject_key(certificate):
            raise MspError(f"MSP {self.name}: CA Certificate problem with Subject Key Identifier extension")
        return certificate

    def _crl(self, data: bytes) -> _Crl:
        try:
            pem = data.lstrip().startswith(b"-----BEGIN")
            crl = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
            issuer_key = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        except (ValueError, x509.ExtensionNotFound) as error:
            raise MspError(f"MSP {self.name}: could not parse RevocationList") from error
        return _Crl(crl, issuer_key or b"")

    def _read_node_ous(self, config: msp_config_pb2.FabricNodeOUs) -> list[_NodeOu]:
        if not config.enable:
            return []
        found = []
        for role in ("client", "peer", "admin", "orderer"):
            field = f"{role}_ou_identifier"
            if config.HasField(field):
                entry = getattr(config, field)
                certifiers = self._certifiers_of(entry.certificate) if entry.certificate else b""
                found.append(_NodeOu(role, entry.organizational_unit_identifier, certifiers))
        return found

    def _certifiers_of(self, pem: bytes) -> bytes:
        """The identifier of the chain that begins with this authority's certificate."""
        certificate = self._authority(pem)
        if certificate in self._roots:
            return certificates.chain_hash([certificate])
        if certificate not in self._intermediates:
            raise MspError(f"MSP {self.name}: Failed adding OU. Certificate not in root or intermediate certs.")
        return certificates.chain_hash(self._canonical_or_fail(certificate))


def _fabric_config(name: str, definition: bytes) -> msp_config_pb2.FabricMSPConfig:
    try:
        config = msp_config_pb2.MSPConfig.FromString(definition)
        if config.type != _FABRIC_MSP:
            raise MspError(f"the MSP of {name} is of type {config.type}; only X.509 MSPs are supported")
        return msp_config_pb2.FabricMSPConfig.FromString(config.config)
    except DecodeError as error:
        raise MspError(f"the MSP of {name} cannot be read") from error


_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class _Cache(Generic[_Key, _Value]):
    """The last `size` values used, for several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[_Key, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key) -> _Value | None:
        """The value, now the youngest, or None."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: _Key, value: _Value) -> None:
        """Keep a value and let go of the one not used for the longest time."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._size:
                self._values.popitem(last=False)
