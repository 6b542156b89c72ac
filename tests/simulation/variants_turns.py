"""Clusters that are broken on purpose in when their gateways have something to do."""

from __future__ import annotations

from simulation.gateways import MemberNode
from simulation.world import Variant


def _due_while_it_forwards(node: MemberNode) -> None:
    """A former owner heeds no packets that it has received, and yet its timer is due for them all the time."""
    gateway = node.gateway
    arm = gateway._arm_timer

    def hasty(now: float) -> None:
        arm(now)
        if gateway.divert is not None:
            gateway.loop.call_later(0.0, gateway._timer_due)

    gateway._arm_timer = hasty  # type: ignore[method-assign]


TURN_VARIANTS: dict[str, tuple[Variant, set[str]]] = {
    "due-while-it-forwards": (
        Variant("due-while-it-forwards", prepare=_due_while_it_forwards, faults=("switchover",)),
        {"busy"},
    ),
}
"""By name: what is broken, and the checkers that may be the first to notice."""
