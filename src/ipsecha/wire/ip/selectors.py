"""The selectors of a packet, for SPD and SAD lookups (RFC 4301 section 4.4.1.1)."""

from __future__ import annotations

from typing import NamedTuple

from ipsecha.model.errors import WireError

MAX_EXTENSION_HEADERS = 16
"""More than any honest packet has; bounds the walk."""

MIN_FRAGMENT_OFFSET = 128
"""Octets; a smaller offset could overlap the ports of the first fragment (RFC 4301 section 7.2, appendix D)."""

# Hop-by-Hop Options, Routing, Destination Options; AH and ESP count as next layer protocols (section 4.4.1.1)
_SKIPPED = (0, 43, 60)
_FRAGMENT = 44
_WITH_PORTS = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite: ports in the first four octets
_ICMP = (1, 58)
_MOBILITY = 135


class PacketSelectors(NamedTuple):
    """Addresses of 4 or 16 octets; the ports are None (OPAQUE) where the packet shows none: protocols without ports,
    fragments other than the first, truncated headers.

    For ICMP both ports are type << 8 | code, for the Mobility Header type << 8.  ``protocol`` is an extension
    header's number where a fragment does not tell more: only ANY selects it.
    """

    src: bytes
    dst: bytes
    protocol: int
    src_port: int | None
    dst_port: int | None


class Transport(NamedTuple):
    """Where the next layer header lies: ``packet[offset:end]``; ``later_fragment``: it is in another fragment."""

    protocol: int
    offset: int
    end: int
    later_fragment: bool


def packet_selectors(packet: bytes) -> PacketSelectors:
    """The selectors of an IPv4 or IPv6 packet.

    Raises WireError where it is neither, is shorter than it states or has endless extension headers.
    """
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        protocol, offset, end, later = _ipv4_transport(packet)
        src, dst = packet[12:16], packet[16:20]
    else:
        protocol, offset, end, later = _ipv6_transport(packet)
        src, dst = packet[8:24], packet[24:40]
    if later or end - offset < 4:
        return PacketSelectors(src, dst, protocol, None, None)
    if protocol in _WITH_PORTS:
        return PacketSelectors(
            src,
            dst,
            protocol,
            (packet[offset] << 8) | packet[offset + 1],
            (packet[offset + 2] << 8) | packet[offset + 3],
        )
    if protocol in _ICMP:
        port = (packet[offset] << 8) | packet[offset + 1]
        return PacketSelectors(src, dst, protocol, port, port)
    if protocol == _MOBILITY:
        port = packet[offset + 2] << 8
        return PacketSelectors(src, dst, protocol, port, port)
    return PacketSelectors(src, dst, protocol, None, None)


def locate_transport(packet: bytes) -> Transport:
    """The next layer protocol behind all extension headers; raises WireError as packet_selectors does."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        return Transport(*_ipv4_transport(packet))
    return Transport(*_ipv6_transport(packet))


def _ipv4_transport(packet: bytes) -> tuple[int, int, int, bool]:
    offset = (packet[0] & 15) << 2
    end = (packet[2] << 8) | packet[3]
    if not 20 <= offset <= end <= len(packet):
        raise WireError(f"IPv4: header of {offset} octets, packet of {end}, {len(packet)} arrived")
    return packet[9], offset, end, bool(packet[6] & 0x1F or packet[7])


def _ipv6_transport(packet: bytes) -> tuple[int, int, int, bool]:
    if len(packet) < 40 or packet[0] >> 4 != 6:
        raise WireError(f"neither IPv4 nor IPv6: {len(packet)} octets")
    end = 40 + ((packet[4] << 8) | packet[5])
    if end > len(packet):
        raise WireError(f"IPv6 packet of {end} octets, {len(packet)} arrived")
    protocol, offset = packet[6], 40
    if protocol not in _SKIPPED and protocol != _FRAGMENT:
        return protocol, offset, end, False
    return _skip_extension_headers(packet, protocol, offset, end)


def _skip_extension_headers(packet: bytes, protocol: int, offset: int, end: int) -> tuple[int, int, int, bool]:
    fragmented = False
    for _ in range(MAX_EXTENSION_HEADERS):
        if protocol not in _SKIPPED and protocol != _FRAGMENT:
            return protocol, offset, end, False
        if protocol == _FRAGMENT:
            length = 8
        elif offset + 2 <= end:
            length = (packet[offset + 1] + 1) << 3
        else:
            length = 8
        if offset + length > end:
            if fragmented:  # the rest of the headers is in another fragment (RFC 4301 section 7)
                return protocol, offset, end, True
            raise WireError(f"extension header {protocol} at octet {offset} is cut off")
        if protocol == _FRAGMENT:
            place = (packet[offset + 2] << 8) | packet[offset + 3]
            if place & 0xFFF8:
                return packet[offset], offset + 8, end, True
            fragmented = place & 1 == 1
        protocol, offset = packet[offset], offset + length
    raise WireError(f"more than {MAX_EXTENSION_HEADERS} extension headers")


def has_small_fragment_offset(packet: bytes) -> bool:
    """Whether an IPv4 packet is a later fragment that could overwrite the ports of the first one: to be dropped where
    an SA carries fragments only (OPAQUE ports; RFC 4301 section 7.2).  ``packet`` has passed packet_selectors.
    """
    if packet[0] >> 4 != 4:
        return False
    offset = (((packet[6] & 0x1F) << 8) | packet[7]) << 3
    return 0 < offset < MIN_FRAGMENT_OFFSET
