"""AH packets (RFC 4302 section 2): the header, and what of the packet around it is authenticated.

In front of AH stands the outer IP header.  It is authenticated, too, its mutable fields counting as zero (section
3.3.3.1).  A packet that has been read is *gathered* into one string, whatever carried it:

    SPI (4) | sequence number (4) | length of the outer header (1) | outer header, mutable fields zero |
    next header (1) | payload length (1) | reserved (2) | ICV field with padding | payload
"""

from __future__ import annotations

import struct

from ipsecha.model.errors import WireError

AH = 51
AH_FIXED_LENGTH = 12
IPV4_LENGTH = 20
IPV6_LENGTH = 40
_OUTER_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_OUTER_IPV6 = struct.Struct(">IHBB16s16s")
_ALIGNMENT = {IPV4_LENGTH: 4, IPV6_LENGTH: 8}
_DONT_FRAGMENT = 0x4000
_FRAGMENT = 0x3FFF  # there are more, or it is not the first
_TTL = 64


def padding_length(icv_length: int, outer_length: int) -> int:
    """Octets of explicit padding behind the ICV: AH is a multiple of 4 octets behind IPv4, of 8 behind IPv6
    (RFC 4302 section 2.6).  ``outer_length``: of the outer header, which tells the version."""
    return -(AH_FIXED_LENGTH + icv_length) % _ALIGNMENT[outer_length]


def outer_ipv4(src: bytes, dst: bytes, length: int, identification: int) -> bytes:
    """An IPv4 header without options as it is authenticated; ``length``: of AH and all behind it, octets."""
    return _OUTER_IPV4.pack(0x45, 0, IPV4_LENGTH + length, identification, 0, 0, AH, 0, src, dst)


def outer_ipv6(src: bytes, dst: bytes, length: int) -> bytes:
    """An IPv6 header without extensions as it is authenticated."""
    return _OUTER_IPV6.pack(6 << 28, length, AH, 0, src, dst)


def sent_ipv4(authenticated: bytes, traffic_class: int, dont_fragment: bool) -> bytes:
    """The header as it is sent, from what was authenticated; the kernel fills in the checksum."""
    flags = _DONT_FRAGMENT if dont_fragment else 0
    return (
        authenticated[:1]
        + bytes((traffic_class,))
        + authenticated[2:6]
        + flags.to_bytes(2, "big")
        + bytes((_TTL,))
        + authenticated[9:]
    )


def first_octets(next_header: int, field_length: int) -> bytes:
    """Next Header, Payload Length (in words, less 2) and RESERVED; ``field_length``: of the ICV with its padding."""
    return bytes((next_header, (AH_FIXED_LENGTH + field_length) // 4 - 2, 0, 0))


def gather_ipv4(packet: bytes) -> bytes:
    """A whole IPv4 packet as it arrived, reassembled: gathered.

    Raises WireError for one that is no AH packet or too short, for a fragment (RFC 4302 section 3.4.1), and for one
    with IP options: which of those are mutable depends on each of them (appendix A1), and no gateway sends them in the
    outer header.
    """
    if len(packet) < IPV4_LENGTH + AH_FIXED_LENGTH or packet[0] != 0x45 or packet[9] != AH:
        raise WireError("no AH packet behind an IPv4 header without options")
    if int.from_bytes(packet[6:8], "big") & _FRAGMENT:
        raise WireError("a fragment of an AH packet")
    length = int.from_bytes(packet[2:4], "big")
    if not IPV4_LENGTH + AH_FIXED_LENGTH <= length <= len(packet):
        raise WireError(f"an IPv4 packet of {len(packet)} octets states {length}")
    outer = packet[:1] + b"\0" + packet[2:6] + b"\0\0\0" + packet[9:10] + b"\0\0" + packet[12:20]
    return _gather(outer, packet[IPV4_LENGTH:length])


def gather_ipv6(src: bytes, dst: bytes, packet: bytes) -> bytes:
    """AH and what is behind it, as it arrived right behind an IPv6 header: gathered.  Raises WireError when too
    short."""
    if len(packet) < AH_FIXED_LENGTH:
        raise WireError(f"AH packet of {len(packet)} octets")
    return _gather(outer_ipv6(src, dst, len(packet)), packet)


def _gather(outer: bytes, packet: bytes) -> bytes:
    return packet[4:12] + bytes((len(outer),)) + outer + packet[:4] + packet[12:]
