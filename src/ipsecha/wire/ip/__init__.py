"""Inner IP packets, as far as a security gateway has to read, answer, cut or correct them.

Packets are complete IPv4 or IPv6 packets as ``bytes``; octets behind the length that the IP header states (TFC
padding, RFC 4303 section 2.7) are tolerated and never looked at.
"""

from ipsecha.wire.ip.checksum import checksum, internet_sum, pseudo_header_sum, transport_checksum, update_checksum
from ipsecha.wire.ip.fragmentation import fragment_ipv4
from ipsecha.wire.ip.headers import build_ipv4, build_ipv6, build_udp, dont_fragment, packet_length
from ipsecha.wire.ip.icmp import fragmentation_needed, packet_too_big, too_big
from ipsecha.wire.ip.mss import clamp_mss
from ipsecha.wire.ip.selectors import (
    PacketSelectors,
    Transport,
    has_small_fragment_offset,
    locate_transport,
    packet_selectors,
)
from ipsecha.wire.ip.tunnel import (
    decapsulate_ecn,
    decapsulated_ecn,
    outer_dont_fragment,
    outer_traffic_class,
    traffic_class,
)

__all__ = [
    "PacketSelectors",
    "Transport",
    "build_ipv4",
    "build_ipv6",
    "build_udp",
    "checksum",
    "clamp_mss",
    "decapsulate_ecn",
    "decapsulated_ecn",
    "dont_fragment",
    "fragment_ipv4",
    "fragmentation_needed",
    "has_small_fragment_offset",
    "internet_sum",
    "locate_transport",
    "outer_dont_fragment",
    "outer_traffic_class",
    "packet_length",
    "packet_selectors",
    "packet_too_big",
    "pseudo_header_sum",
    "too_big",
    "traffic_class",
    "transport_checksum",
    "update_checksum",
]
