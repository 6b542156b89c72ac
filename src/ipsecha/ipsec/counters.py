"""What happened to packets, as plain integers: RFC 4301 and RFC 4303 call most of these auditable events."""

from __future__ import annotations

import msgspec


class PlaneCounters(msgspec.Struct, gc=False):
    """Packets of the whole data plane by fate.  Counters of one SA are in its ``LiveSa``."""

    outbound: int = 0
    inbound: int = 0
    malformed: int = 0  # neither IPv4 nor IPv6, or less than it states
    no_policy: int = 0  # no SPD entry, a discard rule, or no SA for the entry
    discarded: int = 0
    bypassed: int = 0
    acquired: int = 0  # dropped while an SA is being negotiated
    exhausted: int = 0  # hard limit or end of the sequence numbers
    hold_overflow: int = 0  # no room to wait for a lease
    too_big: int = 0  # answered with ICMP
    fragmented: int = 0
    ttl_exceeded: int = 0
    unknown_spi: int = 0
    replayed: int = 0
    in_gap: int = 0  # refused after a takeover: the owner before may have delivered them
    integrity: int = 0
    bad_padding: int = 0
    dummies: int = 0
    selector_mismatch: int = 0
    ecn_dropped: int = 0
    forwarded: int = 0  # to the new owner
    send_failed: int = 0
