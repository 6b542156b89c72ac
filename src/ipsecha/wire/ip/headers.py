"""IPv4 and IPv6 headers: lengths, the DF bit, and building (RFC 791, RFC 8200)."""

from __future__ import annotations

import struct

from ipsecha.model.errors import WireError
from ipsecha.wire.ip.checksum import checksum, transport_checksum

IPV4_HEADER_LENGTH = 20
IPV6_HEADER_LENGTH = 40
FLAG_DF = 0x4000
FLAG_MF = 0x2000
OFFSET_MASK = 0x1FFF

_DEFAULT_HOP_LIMIT = 64
_UDP = 17
_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_UDP_HEADER = struct.Struct(">HHHH")


def packet_length(packet: bytes) -> int:
    """The length that the IP header states: what lies behind it is padding (RFC 4303 section 2.7).

    Raises WireError where the packet is neither IPv4 nor IPv6 or is shorter than it states.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= IPV4_HEADER_LENGTH:
        length, header = (packet[2] << 8) | packet[3], (packet[0] & 15) << 2
        if IPV4_HEADER_LENGTH <= header <= length <= len(packet):
            return length
    elif version == 6 and len(packet) >= IPV6_HEADER_LENGTH:
        length = IPV6_HEADER_LENGTH + ((packet[4] << 8) | packet[5])
        if length <= len(packet):
            return length
    raise WireError(f"no IP packet, or less than it states: {len(packet)} octets")


def dont_fragment(packet: bytes) -> bool:
    """Whether routers must not cut the packet: IPv4 with DF, IPv6 always.  ``packet`` has passed packet_length."""
    return packet[0] >> 4 != 4 or packet[6] & 0x40 != 0


def build_ipv4(
    src: bytes,
    dst: bytes,
    protocol: int,
    payload: bytes,
    *,
    traffic_class: int = 0,
    ttl: int = _DEFAULT_HOP_LIMIT,
    identification: int = 0,
    flags_offset: int = 0,
) -> bytes:
    """An IPv4 packet without options; ``flags_offset`` holds the flags and the fragment offset (units of 8 octets).

    Raises WireError where it would exceed 65535 octets.
    """
    length = IPV4_HEADER_LENGTH + len(payload)
    if length > 0xFFFF:
        raise WireError(f"IPv4 packet of {length} octets")
    header = _IPV4.pack(0x45, traffic_class, length, identification, flags_offset, ttl, protocol, 0, src, dst)
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + payload


def build_ipv6(
    src: bytes,
    dst: bytes,
    next_header: int,
    payload: bytes,
    *,
    traffic_class: int = 0,
    hop_limit: int = _DEFAULT_HOP_LIMIT,
) -> bytes:
    """An IPv6 packet; extension headers, where wanted, are part of ``payload``.

    Raises WireError for a payload of more than 65535 octets.
    """
    if len(payload) > 0xFFFF:
        raise WireError(f"IPv6 payload of {len(payload)} octets")
    first = (6 << 28) | (traffic_class << 20)
    return _IPV6.pack(first, len(payload), next_header, hop_limit, src, dst) + payload


def build_udp(src: bytes, dst: bytes, src_port: int, dst_port: int, data: bytes) -> bytes:
    """A UDP datagram with its checksum, without IP header; ``src`` and ``dst`` are for the pseudo-header."""
    length = 8 + len(data)
    if length > 0xFFFF:
        raise WireError(f"UDP datagram of {length} octets")
    check = transport_checksum(src, dst, _UDP, _UDP_HEADER.pack(src_port, dst_port, length, 0) + data)
    return _UDP_HEADER.pack(src_port, dst_port, length, check) + data
