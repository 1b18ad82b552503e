"""A key that never leaves its PKCS#11 token: SoftHSM, through python-pkcs11."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from tallystick.fabric import IdentityError, SigningError, signers
from tallystick.testing import StubGateway

from .networks import Network, Place
from .sides import Side

pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11, the extra `hsm`, is not installed")

TOKEN, PIN = "tests", "1234"
FOLDERS = (
    "/usr/lib/softhsm",
    "/usr/lib/*/softhsm",
    "/usr/lib64/pkcs11",
    "/usr/local/lib/softhsm",
    "/opt/*/lib/softhsm",
)
CURVES = {"P-256": ("secp256r1", ec.SECP256R1()), "P-384": ("secp384r1", ec.SECP384R1())}
ORDER = {
    "P-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "P-384": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}
DIGEST = hashlib.sha256(b"message").digest()


def _library() -> str | None:
    root = Path("/")
    found = (path for folder in FOLDERS for path in root.glob(f"{folder[1:]}/libsofthsm2.so"))
    return next((str(path) for path in found), None)


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A token with a key pair per curve, labelled with its name; answers the library and the public keys.

    One per process: the library reads its settings once, when it is loaded.
    """
    library, command = _library(), shutil.which("softhsm2-util")
    if library is None or command is None:
        pytest.skip("SoftHSM is not on this machine (Debian: softhsm2)")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        label = ["--label", TOKEN, "--pin", PIN, "--so-pin", "5678"]
        subprocess.run([command, "--init-token", "--free", *label], check=True, capture_output=True, env=os.environ)
        with pkcs11.lib(library).get_token(token_label=TOKEN).open(rw=True, user_pin=PIN) as session:
            public = {kind: _generate(session, kind) for kind in CURVES}
    return SimpleNamespace(library=library, public=public)


def _generate(session: Any, kind: str) -> ec.EllipticCurvePublicKey:
    from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

    curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(CURVES[kind][0])}
    parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
    public, _ = parameters.generate_keypair(store=True, label=kind)
    key = load_der_public_key(encode_ec_public_key(public))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def _open(held: Any, key: str = "P-256", **other: Any) -> signers.Pkcs11Signer:
    chosen = {"token": TOKEN, "key": key, "pin": PIN, "curve": CURVES.get(key, CURVES["P-256"])[1], **other}
    return signers.pkcs11(held.library, **chosen)


@pytest.mark.parametrize("kind", CURVES)
def test_signatures_of_a_token_verify_and_have_low_s(token: Any, kind: str) -> None:
    with _open(token, kind) as signer:
        signatures = [signer(DIGEST) for _ in range(16)]
    for signature in signatures:
        token.public[kind].verify(signature, DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))
        assert decode_dss_signature(signature)[1] <= ORDER[kind] // 2


@pytest.mark.parametrize("kind", CURVES)
def test_a_network_takes_what_a_token_signs(token: Any, kind: str, side: Side, running: Network) -> None:
    core = Place(running, "core")
    identity = core.newcomer(SimpleNamespace(public_key=lambda: token.public[kind]))
    channel = side.channel(core.target, tls_ca=core.tls_ca)
    with _open(token, kind) as signer:
        contract = side.connect(channel, identity, signer).network("scf").contract("basic")
        assert contract.submit("put", "token", kind) == kind.encode()


def test_several_keys_of_one_session(token: Any) -> None:
    with pkcs11.lib(token.library).get_token(token_label=TOKEN).open(user_pin=PIN) as session:
        for kind, (_, curve) in CURVES.items():
            key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=kind)
            signature = signers.from_pkcs11_key(key, curve)(DIGEST)
            token.public[kind].verify(signature, DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"pin": "9999"}, "PIN is wrong"),
        ({"token": "another"}, "no token of that label"),
        ({"key": "another"}, "no private key 'another'"),
    ],
)
def test_what_cannot_be_opened_is_named(token: Any, wrong: dict[str, str], words: str) -> None:
    with pytest.raises(IdentityError, match=words):
        _open(token, **wrong)
    with _open(token) as signer:  # the failure has left no session behind
        assert signer(DIGEST)


def test_a_token_is_opened_once_in_a_process(token: Any) -> None:
    with _open(token), pytest.raises(IdentityError, match="from_pkcs11_key"):
        _open(token, "P-384")


def test_a_curve_that_is_not_the_keys_is_refused(token: Any) -> None:
    with _open(token, "P-384", curve=ec.SECP256R1()) as signer, pytest.raises(SigningError, match="secp256r1"):
        signer(DIGEST)


def test_a_closed_signer_is_a_signing_error(token: Any, side: Side, stub: StubGateway) -> None:
    with _open(token) as signer:
        contract = side.connect(stub, signer=signer).network("scf").contract("trade")
        assert contract.evaluate("get") == b""
    with pytest.raises(SigningError, match="the signer failed: SessionHandleInvalid"):
        contract.evaluate("get")
