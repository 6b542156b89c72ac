"""Tunnel headers: DSCP and DF (RFC 4301 sections 5.1.2 and 8.1), ECN (RFC 6040)."""

from __future__ import annotations

from ipsecha.model.policy import DontFragment
from ipsecha.wire.ip.checksum import update_checksum
from ipsecha.wire.ip.headers import dont_fragment

ECN_MASK = 3
ECT_1 = 1
ECT_0 = 2
CE = 3

# RFC 6040 figure 4, [inner][outer] with columns Not-ECT, ECT(1), ECT(0), CE; None: drop
_EGRESS: tuple[tuple[int | None, ...], ...] = (
    (0, 0, 0, None),
    (ECT_1, ECT_1, ECT_1, CE),
    (ECT_0, ECT_1, ECT_0, CE),
    (CE, CE, CE, CE),
)


def traffic_class(packet: bytes) -> int:
    """DSCP << 2 | ECN of an IPv4 or IPv6 packet that has passed packet_length."""
    return packet[1] if packet[0] >> 4 == 4 else ((packet[0] & 15) << 4) | (packet[1] >> 4)


def outer_traffic_class(packet: bytes, copy_dscp: bool = True, copy_ecn: bool = True) -> int:
    """The outer header's field for the inner ``packet``.

    DSCP is copied (RFC 4301 section 5.1.2) or 0; ECN is copied ("normal mode", RFC 6040 section 4.1) or Not-ECT
    ("compatibility mode").
    """
    return traffic_class(packet) & ((0xFC if copy_dscp else 0) | (ECN_MASK if copy_ecn else 0))


def outer_dont_fragment(packet: bytes, policy: DontFragment) -> bool:
    """Whether the outer IPv4 header bears DF; an inner IPv6 packet counts as having it (RFC 4301 section 8.1)."""
    if policy is DontFragment.COPY:
        return dont_fragment(packet)
    return policy is DontFragment.SET


def decapsulated_ecn(inner: int, outer: int) -> int | None:
    """The ECN field that goes on after decapsulation, None where the packet is to be dropped (RFC 6040 section 4.2)."""
    return _EGRESS[inner & ECN_MASK][outer & ECN_MASK]


def decapsulate_ecn(packet: bytes, outer: int) -> bytes | None:
    """The inner ``packet`` with its ECN field set for an outer traffic class or ECN field of ``outer``.

    None where it is to be dropped.  ``packet`` has passed packet_length; it is returned as is where nothing changes.
    """
    old = traffic_class(packet)
    ecn = decapsulated_ecn(old, outer)
    if ecn is None or ecn == old & ECN_MASK:
        return packet if ecn is not None else None
    new = old & ~ECN_MASK | ecn
    if packet[0] >> 4 == 6:
        return bytes((packet[0], (new & 15) << 4 | packet[1] & 15)) + packet[2:]
    first = packet[0] << 8
    check = update_checksum((packet[10] << 8) | packet[11], first | old, first | new)
    return packet[:1] + bytes((new,)) + packet[2:10] + check.to_bytes(2, "big") + packet[12:]
