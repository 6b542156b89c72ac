"""Clusters that are broken on purpose in what strangers may learn and what they may cost."""

from __future__ import annotations

import logging

from ipsecha.cluster import effects as fx
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.ike.half_open import HalfOpen
from simulation.gateways import MemberNode
from simulation.world import Variant


class _KeysInReports(IkeEndpoint):
    """A report shows all there is to know of an IKE SA."""

    def report(self, event: str, text: str, connection: str = "", level: int = 20) -> None:
        keys = " ".join(bytes(sa.keys).hex() for sa in self.sas.values() if sa.connection == connection)
        super().report(event, f"{text} {keys}", connection, level)


def _shared_without_budget(node: MemberNode) -> None:
    """Every half-open IKE SA is shared with the backup, whoever has asked for it."""

    def allows(half_open: HalfOpen, octets: int, crowd: int, verified: bool, now: float) -> bool:
        return True

    node.endpoint.sharing.allows = allows  # type: ignore[method-assign]


def _keys_in_the_log(node: MemberNode) -> None:
    """A takeover logs what it has taken over, keys included."""
    carry_out = node.side._actions[fx.BecomeActive]

    def talkative(effect: fx.BecomeActive) -> None:
        carry_out(effect)
        for sa in node.endpoint.sas.values():
            logging.getLogger("ipsecha").debug("takes over %r with %s", sa, sa.keys.hex())

    node.side._actions[fx.BecomeActive] = talkative


def _keys_on_the_wire(node: MemberNode) -> None:
    """A takeover tells the peers, in the clear, what it knows of their IKE SAs."""
    carry_out = node.side._actions[fx.BecomeActive]

    def talkative(effect: fx.BecomeActive) -> None:
        carry_out(effect)
        for sa in node.endpoint.sas.values():
            node.plane.send_ike(bytes(20) + sa.keys, sa.local, sa.remote)

    node.side._actions[fx.BecomeActive] = talkative


STRANGER_VARIANTS: dict[str, tuple[Variant, set[str]]] = {
    variant.name: (variant, checkers)
    for variant, checkers in (
        (Variant("keys-in-reports", endpoint=_KeysInReports), {"I6"}),
        (Variant("keys-in-the-log", prepare=_keys_in_the_log, faults=("crash", "hang"), secrecy=True), {"I6"}),
        (Variant("keys-on-the-wire", prepare=_keys_on_the_wire, faults=("crash", "hang"), secrecy=True), {"I6"}),
        (Variant("shared-without-budget", prepare=_shared_without_budget, faults=("flood", "crash")), {"I7"}),
    )
}
"""By name: what is broken, and the checkers that may be the first to notice."""
