"""After a split brain without a witness: IKE SAs that the other owner has used while nobody told us.

The owner that stays learns which they are when the two meet.  For it they are what an SA is whose owner died with
updates that nobody else knows: *suspects* (``repair``).  The repair finds out which message IDs the peer expects, and
which child SAs it knows.

IKE SAs that the other owner has made are *inherited*.  We may have had one all the same, and have ended it unheard: so
its IVs and numbers go on where none of ours has come to (invariants I1 and I2).  Child SAs that we know under another
IKE SA of the peer's have moved, since the other owner has rekeyed that one.  Both of us may have used them, so they are
rekeyed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ipsecha.ike import repair_children, standby
from ipsecha.ike.flags import CHANGING, LEAVING, OPEN
from ipsecha.ike.message import IV_COUNTER_BITS
from ipsecha.model.effects import InstallChild, UpdateChild
from ipsecha.model.leases import lane_width
from ipsecha.model.records import ExchangeKind, IkeSa, keep_ceilings

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

IV_JUMP = 1 << 32
"""More IKE messages than anybody sends on one IKE SA, and an IV counter has room for a hundred jumps."""

LAST_JUMP = 1 << (IV_COUNTER_BITS - 1)


def mark(endpoint: IkeEndpoint, spis: Iterable[bytes]) -> list[bytes]:
    """Make suspects of those that we have, and that are not about to end; gives these."""
    marked = []
    for spi in spis:
        sa = endpoint.sas.get(spi)
        if sa is None or sa.flags & LEAVING:
            continue
        sa.flags |= OPEN | CHANGING
        endpoint.asked_sync.discard((spi, int(ExchangeKind.MESSAGE_ID_SYNC)))  # that was before the other owner's
        endpoint.suspects[spi] = None
        endpoint.touch(sa)
        marked.append(spi)
    return marked


def inherit(endpoint: IkeEndpoint, sas: Iterable[IkeSa], above_lanes: int) -> list[bytes]:
    """Take over those that we do not have, and repair those that we have: both of us may have used them.  Gives the
    SPIs of all these."""
    inherited, known = [], []
    for sa in sas:
        if sa.local_spi in endpoint.inherited:
            continue  # offered again, or ended since: numbers must not begin again
        if sa.local_spi in endpoint.sas:
            known.append(sa.local_spi)
        elif _fits(endpoint, sa):
            _take(endpoint, sa, above_lanes)
            endpoint.inherited.add(sa.local_spi)
            inherited.append(sa.local_spi)
    return inherited + mark(endpoint, known)


def _fits(endpoint: IkeEndpoint, sa: IkeSa) -> bool:
    """Whether the inbound SPIs of its child SAs are free, or those of the same child SAs of the same peer."""
    for child in sa.children:
        holder = endpoint.sa_of_child(child.spi_in)
        if holder is None:
            continue
        known = holder.child_by_inbound_spi(child.spi_in)
        same_peer = (holder.connection, holder.remote_id) == (sa.connection, sa.remote_id)
        if not same_peer or known is None or known.keys != child.keys:
            return False
    return sa.iv_counter < LAST_JUMP


def _take(endpoint: IkeEndpoint, sa: IkeSa, above_lanes: int) -> None:
    sa.iv_counter += IV_JUMP
    holders: dict[int, IkeSa] = {}
    for child in sa.children:
        holder = endpoint.sa_of_child(child.spi_in)
        known = holder.child_by_inbound_spi(child.spi_in) if holder is not None else None
        if holder is None or known is None:
            child.out_ceiling += above_lanes * lane_width(child.suite.esn)
            endpoint.emit(InstallChild(sa, child))
        else:
            holders[child.spi_in] = holder
            keep_ceilings(child, known)
            endpoint.emit(UpdateChild(sa, child))
    standby.reserve_offer(endpoint, sa)
    endpoint.add_sa(sa)  # before its predecessor: whoever follows the records sees the child SAs move, not vanish
    for spi_in, holder in holders.items():
        holder.children = tuple(child for child in holder.children if child.spi_in != spi_in)
        endpoint.touch(holder)
    if holders:
        endpoint.repairs.add(sa, endpoint.now)
        repair_children.doubt(endpoint, sa)
