"""Clusters of three whole members that are broken on purpose in what mirrors do with what they are sent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import structs

from ipsecha.cluster import effects as fx
from ipsecha.cluster.seating import SeatedMember
from ipsecha.gateway.mirrors import MirrorSide
from simulation.gateways import MemberNode
from simulation.variants_mirrors import FirstAckCounts
from simulation.world import Variant


def _side(node: MemberNode) -> MirrorSide:
    assert isinstance(node.side, MirrorSide)
    return node.side


def _as_a_mirror(node: MemberNode, kind: type, alter: Callable[[Any], Any]) -> None:
    """What a member is told to do is altered until it is in sync on a seat."""
    side = _side(node)
    carry_out = side._actions[kind]
    side._actions[kind] = lambda effect: carry_out(effect if side.seated.seated else alter(effect))


def _deltas_dropped(node: MemberNode) -> None:
    """A mirror acknowledges deltas, and drops them."""
    _as_a_mirror(node, fx.Apply, lambda effect: structs.replace(effect, deltas=()))


def _records_without_ceilings(node: MemberNode) -> None:
    """A mirror takes in records, and not the ceilings of their leases."""
    _as_a_mirror(node, fx.ApplyLeases, lambda effect: structs.replace(effect, entries=()))


def _snapshot_in_advance(node: MemberNode) -> None:
    """A mirror's snapshot is made of the records as they are when it begins to join."""
    side = _side(node)
    present = side._present_records

    def early() -> Any:
        return iter(list(present()))

    side._present_records = early  # type: ignore[method-assign]


class _BeginsAnew(SeatedMember):
    """A backup in sync, a mirror not long ago, begins anew where its owner has died."""

    def _take_over(self, proof: bool, now: float, reason: str = "") -> None:
        self.in_sync = self.in_sync and not proof
        super()._take_over(proof, now, reason)


_broken = partial(Variant, member=SeatedMember)
SEAT_VARIANTS: dict[str, tuple[Variant, set[str]]] = {
    variant.name: (variant, checkers)
    for variant, checkers in (
        (_broken("deltas-dropped", prepare=_deltas_dropped), {"commit", "acks", "I4"}),
        (_broken("records-without-ceilings", prepare=_records_without_ceilings), {"I2", "I3"}),
        (_broken("snapshot-in-advance", prepare=_snapshot_in_advance), {"commit", "acks", "I4"}),
        (Variant("first-ack-counts", member=FirstAckCounts), {"acks"}),
        (Variant("begins-anew", member=_BeginsAnew), {"lost"}),
    )
}
"""By name: what is broken, and the checkers that may be the first to notice."""
