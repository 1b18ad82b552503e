"""One spelling of a company name, so that two writings of the same name compare equal.

Full-width letters become half-width, brackets and middle dots get one form, spaces next to Chinese characters go,
letters
become upper case. Names that differ by a character stay different. Written as ranges of code points: the Unicode tables
of Python change with its version. Source: bank side specification, section 4.
"""

import re
from typing import Final

from chaincode.domain.error import DomainError
from chaincode.domain.role import ascii_upper

_ONE_FORM: Final = str.maketrans(
    {
        **dict.fromkeys("・•‧∙⋅．", "·"),
        **dict.fromkeys("〔【［", "("),
        **dict.fromkeys("〕】］", ")"),
        "\u3000": " ",
    }
)
_FULL_WIDTH: Final = str.maketrans({chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)})

_REFUSED: Final = (
    (0x00, 0x1F),
    (0x7F, 0x9F),
    (0xAD, 0xAD),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0xD800, 0xF8FF),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFF0, 0xFFFF),
    (0xE0000, 0x10FFFF),
)
"""Control, format, surrogate, private and unassigned ranges."""


def normalise(name: str) -> str:
    """The name in its one spelling.

    Raises ``INVALID company_name_invalid`` for control, format, private and unassigned characters and for an empty
    name.
    """
    if any(low <= ord(letter) <= high for letter in name for low, high in _REFUSED):
        raise DomainError("company_name_invalid")
    text = name.translate(_ONE_FORM).translate(_FULL_WIDTH)
    text = re.sub(r" +", " ", text, flags=re.ASCII).strip(" ")
    text = re.sub(r" ?([^\x00-\x7f]|[()]) ?", r"\1", text, flags=re.ASCII)
    if not text:
        raise DomainError("company_name_invalid")
    return ascii_upper(text)
