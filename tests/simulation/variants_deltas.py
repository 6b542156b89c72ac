"""Clusters that are broken on purpose in how they keep and send records: deltas, octets."""

from __future__ import annotations

from ipsecha.model.record_delta import split
from simulation.gateways import MemberNode
from simulation.world import Variant


def _delta_on_another_base(node: MemberNode) -> None:
    """A delta is sent although more than the counters has changed since the backup got the record."""
    log = node.member.log
    sound = log._delta

    def careless(key: bytes, record: bytes | None) -> bytes | None:
        if record is None or key not in log._bases:
            return sound(key, record)
        return split(record)[1]

    log._delta = careless  # type: ignore[method-assign]


DELTA_VARIANTS: dict[str, tuple[Variant, set[str]]] = {
    "delta-on-another-base": (Variant("delta-on-another-base", prepare=_delta_on_another_base), {"I4", "commit"}),
}
