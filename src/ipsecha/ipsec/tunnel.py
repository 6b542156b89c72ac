"""Tunnel mode's arithmetic: the room that ESP leaves, padding trailers, the TTL (RFC 4303 section 2.4, RFC 4301
section 5.1.2)."""

from __future__ import annotations

from ipsecha.wire.ip import update_checksum

NEXT_HEADER_IPV4 = 4
NEXT_HEADER_IPV6 = 41
NEXT_HEADER_DUMMY = 59  # RFC 4303 section 2.6
IPV6_MINIMUM_MTU = 1280
PADDING = bytes(range(1, 256))
"""RFC 4303 section 2.4: the padding octets are 1, 2, 3, ..."""


def inner_mtu(outer_mtu: int, outer_header: int, crypto_overhead: int, block: int) -> int:
    """The longest inner packet whose ESP packet fits into ``outer_mtu``.

    ``outer_header``: IP and UDP headers in front of ESP; ``crypto_overhead``: IV and ICV; ``block``: the alignment of
    payload, padding, pad length and next header together.
    """
    room = outer_mtu - outer_header - 8 - crypto_overhead
    return room // block * block - 2


def trailers(block: int, next_header: int) -> list[bytes]:
    """Padding, pad length and next header by the payload's length modulo ``block`` (4 or 16)."""
    lengths = [-(size + 2) % block for size in range(block)]
    return [PADDING[:length] + bytes((length, next_header)) for length in lengths]


def decrement_ttl(packet: bytes) -> bytes | None:
    """The packet as forwarded (RFC 4301 section 5.1.2); None when its time to live is over.

    Only for a device behind which nobody has forwarded the packet: the kernel does so on the way into a TUN.
    """
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes((packet[7] - 1,)) + packet[8:] if packet[7] > 1 else None
    ttl = packet[8]
    if ttl <= 1:
        return None
    old = ttl << 8 | packet[9]
    check = update_checksum(packet[10] << 8 | packet[11], old, old - 256)
    return packet[:8] + bytes((ttl - 1, packet[9])) + check.to_bytes(2, "big") + packet[12:]
