"""Who acts: an MSP id and the certificate that its organisation issued."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from tallystick.fabric import _wire
from tallystick.fabric._pem import instead, pem_bytes
from tallystick.fabric.errors import IdentityError
from tallystick.fabric.hashing import Hash


@dataclass(frozen=True, slots=True)
class Identity:
    """A client identity: the MSP id and its credentials, an X.509 certificate in PEM."""

    msp_id: str
    credentials: bytes

    @classmethod
    def x509(cls, msp_id: str, certificate: bytes | str) -> "Identity":
        """Identity from a certificate in PEM. Raises IdentityError when it is not one or the MSP id is empty."""
        if not msp_id:
            raise IdentityError("an identity needs an MSP id")
        data = pem_bytes(certificate, f"the certificate of {msp_id}")
        identity = cls(msp_id, data)
        if identity.public_key is None:
            raise IdentityError(f"the certificate of {msp_id} is not a certificate in PEM{instead(data)}")
        return identity

    @property
    def serialized(self) -> bytes:
        """`SerializedIdentity` as it stands in every creator field."""
        return _wire.serialized_identity(self.msp_id, self.credentials)

    @property
    def public_key(self) -> CertificatePublicKeyTypes | None:
        """The certificate's public key, or None when the credentials are no readable certificate."""
        try:
            return x509.load_pem_x509_certificate(self.credentials).public_key()
        except (ValueError, UnsupportedAlgorithm):
            return None

    def default_hash(self) -> Hash:
        """The hash that goes with the certificate's key: NONE for Ed25519, SHA-256 for all else (never SHA-384)."""
        return Hash.NONE if isinstance(self.public_key, ed25519.Ed25519PublicKey) else Hash.SHA256

    def check_signer(self, signer: object) -> None:
        """Raise IdentityError when the signer is known to hold another key than the certificate's."""
        held, certified = getattr(signer, "public_key", None), self.public_key
        if held is None or certified is None:
            return
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        if held.public_bytes(*form) != certified.public_bytes(*form):
            raise IdentityError(f"the private key does not belong to the certificate of {self.msp_id}")
