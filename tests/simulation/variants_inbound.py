"""Clusters that are broken on purpose in what they do about inbound numbers: giving back, learning."""

from __future__ import annotations

from ipsecha.ipsec.gap import Gap
from ipsecha.model.records import ChildSa, LeaseEntry
from simulation.gateways import MemberNode
from simulation.world import Variant


def _gives_back_too_late(node: MemberNode) -> None:
    """An owner that gives numbers back goes on up to the old ceiling."""
    sad = node.plane._sad
    requests = sad.lease_requests

    def late(now: float) -> list[LeaseEntry]:
        before = {spi_in: live.in_lease.limit for spi_in, live in sad.lives.items()}
        entries = requests(now)
        for entry in entries:
            if entry.lowers:
                lease = sad.lives[entry.spi_in].in_lease
                lease.limit = lease.requested = before[entry.spi_in]
                lease._set_mark()
        return entries

    sad.lease_requests = late  # type: ignore[method-assign]


def _learns_from_nothing(node: MemberNode) -> None:
    """A new owner learns its window from any authentic packet, however old, and tells nobody."""
    sad = node.plane._sad
    gap_of = sad._gap_of

    def from_nothing(child: ChildSa, in_floor: int, learns: bool) -> Gap | None:
        gap = gap_of(child, in_floor, False)
        return Gap(gap.floor, 0) if gap is not None and learns else gap

    sad._gap_of = from_nothing  # type: ignore[method-assign]


GIVES_BACK_TOO_LATE = Variant("gives-back-too-late", prepare=_gives_back_too_late)
LEARNS_FROM_NOTHING = Variant("learns-from-nothing", prepare=_learns_from_nothing)
