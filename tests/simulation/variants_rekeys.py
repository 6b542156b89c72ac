"""Clusters that are broken on purpose in what a new owner rekeys."""

from __future__ import annotations

from ipsecha.ike.endpoint import IkeEndpoint
from simulation.gateways import MemberNode
from simulation.world import Variant


def _rekeyed_for_ever(node: MemberNode) -> None:
    """A new owner that has rekeyed all child SAs begins again, with those that it has made."""
    after = node.endpoint.after_takeover
    run = after.run

    def again(endpoint: IkeEndpoint, now: float) -> None:
        had = bool(after._under_way)
        run(endpoint, now)
        if had and not (after._under_way or after._waits):
            after._rest = None
            after._made.clear()

    after.run = again  # type: ignore[method-assign]


def _only_gaps_rekeyed(node: MemberNode) -> None:
    """A new owner that is to rekey all child SAs rekeys only those that lose packets."""
    after = node.endpoint.after_takeover
    run = after.run

    def sparing(endpoint: IkeEndpoint, now: float) -> None:
        after._rest = []
        run(endpoint, now)

    after.run = sparing  # type: ignore[method-assign]
    after.traffic_seen = lambda spi_in, now: None  # type: ignore[method-assign]


REKEY_VARIANTS: dict[str, tuple[Variant, set[str]]] = {
    variant.name: (variant, {"rekeys"})
    for variant in (
        Variant("rekeyed-for-ever", prepare=_rekeyed_for_ever, faults=("crash",)),
        Variant("only-gaps-rekeyed", prepare=_only_gaps_rekeyed, faults=("crash",)),
    )
}
"""By name: what is broken, and the checkers that may be the first to notice."""
