"""The Internet checksum (RFC 1071) and its incremental update (RFC 1624)."""

from __future__ import annotations

_UDP = 17


def internet_sum(data: bytes, initial: int = 0) -> int:
    """The one's complement sum of ``initial`` and the 16-bit words of ``data`` (an odd length is completed by 0)."""
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    number += initial
    # 2^16 = 1 modulo 65535, so one division of a long integer adds all words; the sum of words that are not
    # all zero is never +0 (RFC 1624 section 3)
    return number % 0xFFFF or (0xFFFF if number else 0)


def checksum(data: bytes, initial: int = 0) -> int:
    """The checksum of ``data``; over octets that contain a correct checksum the result is 0."""
    return internet_sum(data, initial) ^ 0xFFFF


def update_checksum(old_checksum: int, old_word: int, new_word: int) -> int:
    """The checksum after one aligned 16-bit word has changed: HC' = ~(~HC + ~m + m'), RFC 1624 equation 3."""
    total = (old_checksum ^ 0xFFFF) + (old_word ^ 0xFFFF) + new_word
    total = (total & 0xFFFF) + (total >> 16)
    return ((total & 0xFFFF) + (total >> 16)) ^ 0xFFFF


def pseudo_header_sum(src: bytes, dst: bytes, protocol: int, length: int) -> int:
    """The sum of the pseudo-header of TCP, UDP and ICMPv6 (RFC 9293 section 3.1, RFC 8200 section 8.1)."""
    return internet_sum(src + dst, protocol + length)


def transport_checksum(src: bytes, dst: bytes, protocol: int, segment: bytes) -> int:
    """The checksum of a segment whose checksum field is zero; UDP's 0 goes out as 0xFFFF (RFC 768)."""
    value = checksum(segment, pseudo_header_sum(src, dst, protocol, len(segment)))
    return value or (0xFFFF if protocol == _UDP else 0)
