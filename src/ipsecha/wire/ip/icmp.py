"""ICMP errors for packets that do not fit: fragmentation needed (RFC 1191) and packet too big (RFC 4443)."""

from __future__ import annotations

import struct

from ipsecha.model.errors import WireError
from ipsecha.wire.ip.checksum import checksum, transport_checksum
from ipsecha.wire.ip.headers import build_ipv4, build_ipv6, packet_length
from ipsecha.wire.ip.selectors import Transport, locate_transport

_ICMP = 1
_ICMPV6 = 58
_UNREACHABLE = 3
_FRAGMENTATION_NEEDED = 4
_PACKET_TOO_BIG = 2
_IPV4_ERRORS = (3, 4, 5, 11, 12)
_IPV6_REDIRECT = 137
_MAX_IPV4_ERROR = 576  # RFC 1812 section 4.3.2.3
_MAX_IPV6_ERROR = 1280  # RFC 4443 section 2.4 (c)
_INTERNETWORK_CONTROL = 0xC0  # RFC 1812 section 4.3.2.5
_HEADER = struct.Struct(">BBHHH")
_HEADER_V6 = struct.Struct(">BBHI")


def too_big(packet: bytes, mtu: int, source: bytes) -> bytes | None:
    """The ICMP error that tells the sender of ``packet`` the ``mtu`` (octets), from address ``source``.

    None where no error may be sent.  ``source`` has the packet's IP version.  Raises WireError where ``packet`` is
    no IP packet.
    """
    return fragmentation_needed(packet, mtu, source) if packet[:1] < b"\x50" else packet_too_big(packet, mtu, source)


def fragmentation_needed(packet: bytes, mtu: int, source: bytes) -> bytes | None:
    """An IPv4 packet with Destination Unreachable, code 4, and the next-hop MTU (RFC 1191 section 4).

    None for packets that must not be answered: ICMP errors, later fragments, multicast and broadcast
    destinations, sources that name no single host (RFC 1122 section 3.2.2).
    """
    transport = locate_transport(packet)
    if packet[0] >> 4 != 4:
        raise WireError("not an IPv4 packet")
    sender, destination = packet[12:16], packet[16:20]
    if (
        transport.later_fragment
        or not 0 < sender[0] < 224
        or sender[0] == 127
        or destination[0] >= 224
        or _is_icmpv4_error(packet, transport)
    ):
        return None
    quoted = packet[: min(transport.end, _MAX_IPV4_ERROR - 20 - _HEADER.size)]
    message = _HEADER.pack(_UNREACHABLE, _FRAGMENTATION_NEEDED, 0, 0, min(mtu, 0xFFFF)) + quoted
    message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
    return build_ipv4(source, sender, _ICMP, message, traffic_class=_INTERNETWORK_CONTROL)


def packet_too_big(packet: bytes, mtu: int, source: bytes) -> bytes | None:
    """An IPv6 packet with Packet Too Big (RFC 4443 section 3.2).

    None for ICMPv6 errors and redirects, and for sources that name no single node; a multicast destination is
    answered (section 2.4 (e)).
    """
    transport = locate_transport(packet)
    if packet[0] >> 4 != 6:
        raise WireError("not an IPv6 packet")
    sender = packet[8:24]
    if sender[0] == 0xFF or sender == bytes(16) or _is_icmpv6_error(packet, transport):
        return None
    quoted = packet[: min(packet_length(packet), _MAX_IPV6_ERROR - 40 - _HEADER_V6.size)]
    message = _HEADER_V6.pack(_PACKET_TOO_BIG, 0, 0, mtu) + quoted
    value = transport_checksum(source, sender, _ICMPV6, message)
    return build_ipv6(source, sender, _ICMPV6, message[:2] + value.to_bytes(2, "big") + message[4:])


def _is_icmpv4_error(packet: bytes, transport: Transport) -> bool:
    if transport.protocol != _ICMP:
        return False
    return transport.offset >= transport.end or packet[transport.offset] in _IPV4_ERRORS


def _is_icmpv6_error(packet: bytes, transport: Transport) -> bool:
    if transport.protocol != _ICMPV6:
        return False
    # where the type is in another fragment it could be an error: then no answer is the safe one
    if transport.later_fragment or transport.offset >= transport.end:
        return True
    kind = packet[transport.offset]
    return kind < 128 or kind == _IPV6_REDIRECT
