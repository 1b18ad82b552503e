import hashlib

import pytest
from tallystick.fabric import Hash


@pytest.mark.parametrize("option", Hash)
def test_equal_data_has_equal_digests(option: Hash) -> None:
    assert option.digest(b"conga") == option.digest(b"conga")


@pytest.mark.parametrize("option", Hash)
def test_different_data_has_different_digests(option: Hash) -> None:
    assert option.digest(b"conga") != option.digest(b"congo")


def test_none_returns_the_data_itself() -> None:
    assert Hash.NONE.digest(b"conga") == b"conga"


@pytest.mark.parametrize("option", [Hash.SHA256, Hash.SHA384, Hash.SHA3_256, Hash.SHA3_384])
def test_digest_is_the_named_function(option: Hash) -> None:
    assert option.digest(b"conga") == hashlib.new(option.value, b"conga").digest()
