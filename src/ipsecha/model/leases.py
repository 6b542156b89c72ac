"""Counter leases as all layers see them (DESIGN section 3): how sequence numbers are used, and the first ceilings.

A new child SA's record carries its first leases, so that its first packets wait for nobody: whoever makes a
``ChildSa`` sets ``in_ceiling`` and ``out_ceiling`` to the constants below.
"""

from __future__ import annotations

from enum import Enum

FIRST_IN_CEILING = 16
"""Small: after a failover the peer's next numbers up to here are lost."""

FIRST_OUT_CEILING = 256
"""Generous: a jump of our own numbers costs nothing."""

LANE = 1 << 20
"""How far beyond its ceilings a member that goes on alone after silence may send; who takes over on silence starts
above that."""

LANE_ESN = 1 << 22
"""The same with extended sequence numbers: room for longer, and still small enough that an idle SA may change owners 85
times before its jumps add up to 2^32, where a receiver that infers the high half would lose step (RFC 4303 appendix
A2.2)."""


MARGIN_IN = 1 << 16
MARGIN_OUT = 1 << 18
"""Where SAs are saved: how far beyond its ceilings a new owner goes before the disk knows of it."""

RESTORED_IN = 2 * MARGIN_IN
"""So far beyond the bound on the disk the inbound window of a restored SA begins: a switchover and the takeover that
follows it may both be unknown to the disks.  Outbound see ``cluster.lanes``."""


class Leasing(Enum):
    """What bounds the sequence numbers that the owner of an SA may use."""

    LEASED = "leased"  # a backup lives: nothing above the ceilings that it has acknowledged
    LANE = "lane"  # alone after silence: outbound up to ceiling + lane, then the SA must be rekeyed
    FREE = "free"  # alone after proof, or a gateway without a cluster


def lane_width(esn: bool) -> int:
    return LANE_ESN if esn else LANE
