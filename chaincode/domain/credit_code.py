"""The unified social credit code of a company: 18 characters, the last one a check character (GB 32100-2015)."""

import re
from typing import Final

from chaincode.domain.error import DomainError

_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_WEIGHTS: Final = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)


def check_character(first_17: str) -> str:
    """Check character of the first 17 characters."""
    weighted = sum(weight * _ALPHABET.index(letter) for weight, letter in zip(_WEIGHTS, first_17, strict=True))
    return _ALPHABET[(31 - weighted % 31) % 31]


def check(code: str) -> str:
    """The code itself when form and check character are right. Raises ``INVALID credit_code_invalid``."""
    if not re.fullmatch(f"[{_ALPHABET}]{{18}}", code) or check_character(code[:17]) != code[17]:
        raise DomainError("credit_code_invalid", code=code)
    return code
