"""Seeded changes to protobuf messages, by someone who knows the wire format and nothing of what it says."""

import base64
import random
from dataclasses import dataclass, replace

BEGIN = b"-----BEGIN CERTIFICATE-----\n"
END = b"-----END CERTIFICATE-----\n"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ODD_NUMBERS = (0, 1, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_ODD_BYTES = (b"", b"\x00", b"\xff", b"\xc3\x28", b"\x08", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 64, b"\x0a\x00" * 300)


@dataclass(frozen=True, slots=True)
class Field:
    """One field as it stands on the wire: a number, or the bytes of a text, a message or whatever it is."""

    number: int
    kind: int
    value: int | bytes


def mutated(chance: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """The message with one to three changes somewhere inside; `other` is a message to take pieces from."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        data = _mutated_once(chance, data, other)
    return data


def _mutated_once(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Go down into a random field, as long as there are fields, and change it or its neighbourhood there."""
    fields = read(data)
    if not fields or chance.random() < 0.12:
        return _bytes_changed(chance, data)
    if chance.random() < 0.3:
        return write(_fields_changed(chance, fields, other))
    place = chance.randrange(len(fields))
    chosen = fields[place]
    if isinstance(chosen.value, int):
        value: int | bytes = chance.choice((*_ODD_NUMBERS, chosen.value ^ 1 << chance.randrange(63)))
    else:
        value = _mutated_once(chance, chosen.value, other)
    fields[place] = replace(chosen, value=value)
    return write(fields)


def _fields_changed(chance: random.Random, fields: list[Field], other: bytes) -> list[Field]:
    """Swap, drop, repeat, rename or replace fields of one message."""
    one, two = chance.randrange(len(fields)), chance.randrange(len(fields))
    changed = list(fields)
    match chance.randrange(7):
        case 0:
            changed[one], changed[two] = (
                replace(fields[one], number=fields[two].number),
                replace(fields[two], number=fields[one].number),
            )
        case 1:
            del changed[one]
        case 2:
            changed.insert(two, fields[one])
        case 3:
            changed[one] = replace(fields[one], number=chance.choice((1, 2, 3, 4, 5, 6, 7, 15, 16, 2047, 2**29 - 1)))
        case 4:
            changed[one] = Field(fields[one].number, _BYTES, chance.choice(_ODD_BYTES))
        case 5:
            changed[one] = Field(fields[one].number, _VARINT, chance.choice(_ODD_NUMBERS))
        case _:
            changed[one] = chance.choice(read(other) or fields)
    return changed


def _bytes_changed(chance: random.Random, data: bytes) -> bytes:
    """Cut, flip, insert or repeat bytes. Of a certificate mostly the inside is changed, so that it is still PEM."""
    if data.startswith(BEGIN) and chance.random() < 0.8:
        inside = base64.b64decode(data.removeprefix(BEGIN).split(b"-----")[0])
        changed = _bytes_changed(chance, inside)
        return BEGIN + base64.encodebytes(changed) + END
    place = chance.randrange(len(data) + 1)
    match chance.randrange(6):
        case 0:
            return data[:place]
        case 1 if data:
            place = chance.randrange(len(data))
            return data[:place] + bytes((data[place] ^ 1 << chance.randrange(8),)) + data[place + 1 :]
        case 2:
            return data[:place] + chance.randbytes(chance.randint(1, 8)) + data[place:]
        case 3:
            return data[:place] + data[place + chance.randint(1, 8) :]
        case 4:
            return data + data[place:]
        case _:
            return chance.choice((*_ODD_BYTES, chance.randbytes(len(data)), nested(chance.choice((50, 99, 101, 5000)))))


def nested(depth: int) -> bytes:
    """A message inside a message inside a message …"""
    data = b""
    for _ in range(depth):
        data = write([Field(1, _BYTES, data)])
    return data


def read(data: bytes) -> list[Field]:
    """The fields of a message; empty for bytes that are none."""
    found: list[Field] = []
    place = 0
    try:
        while place < len(data):
            tag, place = _read_varint(data, place)
            kind = tag & 7
            if tag >> 3 == 0:
                return []
            value: int | bytes
            if kind == _VARINT:
                value, place = _read_varint(data, place)
            else:
                length = {_FIXED64: 8, _FIXED32: 4}.get(kind)
                if kind == _BYTES:
                    length, place = _read_varint(data, place)
                if length is None or place + length > len(data):
                    return []
                value = data[place : place + length]
                place += length
            found.append(Field(tag >> 3, kind, value))
    except IndexError:
        return []
    return found


def write(fields: list[Field]) -> bytes:
    """The message of some fields; a number under a kind that has none is written as a varint, whatever it is then."""
    parts = []
    for field in fields:
        parts.append(_varint(field.number << 3 | field.kind))
        if isinstance(field.value, int):
            parts.append(_varint(field.value))
        else:
            parts.append((_varint(len(field.value)) if field.kind == _BYTES else b"") + field.value)
    return b"".join(parts)


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value & (1 << 64) - 1, place


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
