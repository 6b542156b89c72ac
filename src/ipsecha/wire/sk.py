"""Framing of the Encrypted payload (SK, RFC 7296 section 3.14) and the Encrypted Fragment payload (SKF, RFC 7383
section 2.5): where the associated data ends and the protected octets begin.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ipsecha.model.errors import WireError
from ipsecha.wire.chain import MAX_PAYLOADS
from ipsecha.wire.header import HEADER_LENGTH, build_header

SK_PREFIX_LENGTH = HEADER_LENGTH + 4
SKF_PREFIX_LENGTH = HEADER_LENGTH + 8

_SK = 46
_SKF = 53
_ENCRYPTED = (_SK, _SKF)
_GENERIC = struct.Struct(">BBH")
_FRAGMENT = struct.Struct(">BBHHH")


class SkHeader(NamedTuple):
    """Where the Encrypted payload of a message lies.

    ``message[:body_offset]`` is what an AEAD authenticates in the clear, ``message[body_offset:]`` is IV, ciphertext
    and ICV.  ``offset`` is where the generic header begins: unprotected payloads stand between octet 28 and it.
    ``first_inner`` is the type of the first payload of the plaintext.  ``fragment`` (from 1) and ``total`` are 0 for
    an SK payload.
    """

    offset: int
    body_offset: int
    first_inner: int
    fragment: int = 0
    total: int = 0


def find_encrypted(message: bytes, first: int) -> SkHeader:
    """The SK or SKF payload of ``message`` (IKE header included); ``first`` is the header's Next Payload field.

    Raises WireError where there is none, where it is not the last payload or where its fragment numbers are
    impossible.
    """
    kind, offset, end = first, HEADER_LENGTH, len(message)
    for _ in range(MAX_PAYLOADS):
        if not kind or offset + 4 > end:
            raise WireError("no Encrypted payload")
        following, _, length = _GENERIC.unpack_from(message, offset)
        if length < 4 or offset + length > end:
            raise WireError(f"payload {kind} at octet {offset}: length {length} of {end - offset} octets")
        if kind in _ENCRYPTED:
            if offset + length != end:
                raise WireError("octets after the Encrypted payload")
            return SkHeader(offset, offset + 4, following) if kind == _SK else _skf_header(message, offset, length)
        kind, offset = following, offset + length
    raise WireError("too many payloads before the Encrypted payload")


def _skf_header(message: bytes, offset: int, length: int) -> SkHeader:
    if length < 8:
        raise WireError("Encrypted Fragment payload without fragment numbers")
    following, _, _, fragment, total = _FRAGMENT.unpack_from(message, offset)
    if not 1 <= fragment <= total:
        raise WireError(f"fragment {fragment} of {total}")
    # only the first fragment says what the plaintext begins with; the others bear 0 (RFC 7383 section 2.5)
    return SkHeader(offset, offset + 8, following if fragment == 1 else 0, fragment, total)


def build_sk_prefix(
    spi_i: bytes, spi_r: bytes, exchange: int, flags: int, message_id: int, first_inner: int, sealed_length: int
) -> bytes:
    """IKE header and SK generic header (32 octets) of a message whose IV, ciphertext and ICV take ``sealed_length``
    octets: the associated data of an AEAD, and what stands before the IV.
    """
    length = sealed_length + 4
    if length > 0xFFFF:
        raise WireError(f"Encrypted payload of {length} octets")
    header = build_header(spi_i, spi_r, _SK, exchange, flags, message_id, HEADER_LENGTH + length)
    return header + _GENERIC.pack(first_inner, 0, length)


def build_skf_prefix(
    spi_i: bytes,
    spi_r: bytes,
    exchange: int,
    flags: int,
    message_id: int,
    first_inner: int,
    sealed_length: int,
    fragment: int,
    total: int,
) -> bytes:
    """The same for fragment number ``fragment`` (from 1) of ``total``: 36 octets, all of them associated data.

    ``first_inner`` goes out in the first fragment only.
    """
    length = sealed_length + 8
    if length > 0xFFFF or not 1 <= fragment <= total <= 0xFFFF:
        raise WireError(f"fragment {fragment} of {total} with {length} octets")
    header = build_header(spi_i, spi_r, _SKF, exchange, flags, message_id, HEADER_LENGTH + length)
    return header + _FRAGMENT.pack(first_inner if fragment == 1 else 0, 0, length, fragment, total)
