"""As much DER as algorithm identifiers and names need: a strict reader of definite lengths (X.690 section 10.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ipsecha.model.errors import CryptoError

INTEGER = 0x02
NULL = 0x05
OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30
SET = 0x31
CONTEXT_0 = 0xA0  # constructed, as explicit tags are


class Element(NamedTuple):
    tag: int
    content: bytes


def read_elements(data: bytes) -> Iterator[Element]:
    """The elements that ``data`` consists of; raises CryptoError where it is anything else than that."""
    offset = 0
    while offset < len(data):
        tag, start, end = _read_header(data, offset)
        yield Element(tag, data[start:end])
        offset = end


def read_single(data: bytes, tag: int) -> bytes:
    """The content of the one element with ``tag`` that ``data`` is; raises CryptoError otherwise."""
    elements = list(read_elements(data))
    if len(elements) != 1 or elements[0].tag != tag:
        raise CryptoError(f"expected one DER element with tag {tag:#04x}")
    return elements[0].content


def read_unsigned(content: bytes) -> int:
    """The content of an INTEGER that is small and not negative; raises CryptoError otherwise."""
    if not 0 < len(content) <= 4 or content[0] & 0x80 or (len(content) > 1 and content[0] == 0 and content[1] < 0x80):
        raise CryptoError("a DER integer is out of range or not minimal")
    return int.from_bytes(content, "big")


def _read_header(data: bytes, offset: int) -> tuple[int, int, int]:
    """Tag, start of the content and its end."""
    if offset + 2 > len(data):
        raise CryptoError("DER is truncated")
    tag, length = data[offset], data[offset + 1]
    start = offset + 2
    if tag & 0x1F == 0x1F:
        raise CryptoError("DER has a tag of more than one octet")
    if length & 0x80:
        octets = length & 0x7F
        length = int.from_bytes(data[start : start + octets], "big")
        if not 1 <= octets <= 3 or length < 0x80 or length >> (8 * (octets - 1)) == 0:
            raise CryptoError("DER has a length that is not minimal, indefinite or too large")
        start += octets
    if start + length > len(data):
        raise CryptoError("DER is truncated")
    return tag, start, start + length
