"""Clusters that are broken on purpose in what becomes of handshakes when their owner dies."""

from __future__ import annotations

from simulation.gateways import MemberNode
from simulation.variants import IKE_SPI_LENGTH
from simulation.world import Variant

HANDSHAKES = ("delete by the cluster and a new handshake", "delete by the peer and a new handshake")
"""The stories in which there is one."""


def _initiations_not_replicated(node: MemberNode) -> None:
    """Our own IKE_AUTH leaves before the backup knows of it: the peer may have an IKE SA that nobody knows."""
    commit = node.gateway.output._commit
    node.gateway.output._commit = lambda changes: commit(
        [(key, data) for key, data in changes if len(key) == IKE_SPI_LENGTH]
    )


HANDSHAKE_VARIANTS: dict[str, tuple[Variant, set[str]]] = {
    "initiations-not-replicated": (
        Variant(
            "initiations-not-replicated",
            prepare=_initiations_not_replicated,
            faults=("crash", "crash_between_acts", "lose_datagrams"),
        ),
        {"commit", "I4", "stuck"},
    ),
}
"""By name: what is broken, and the checkers that may be the first to notice."""
