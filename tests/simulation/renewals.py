"""Checker of rekeys: with ``rekey_after_failover`` a new owner leaves no child SA as it was, and nobody ever rekeys in
a storm.  Both are seen from the peers, or on the wire."""

from __future__ import annotations

from collections import defaultdict, deque

from ipsecha.model.numbers import ExchangeType
from simulation.gateways import MemberNode, PeerNode
from simulation.network import RAW_PORTS, Datagram, Host
from simulation.record import NAT_PORT, RESPONSE
from simulation.world import World

WINDOW_S, STORM = 5.0, 30
"""Fewer CREATE_CHILD_SA requests than that go from one gateway to another in such a time: all that operators,
lifetimes, refusals and takeovers bring about together is half as many."""


class Renewals:
    """Looks on from its construction; ``end`` after the run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._begun: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)  # by who asks whom
        self._seen: set[bytes] = set()
        self._due: dict[PeerNode, set[int]] = {}  # inbound SPIs that ought to go, since the last failover
        self._tap, self._activated = world.network.tap, world.activated
        world.network.tap = self._sending
        if world.after_failover.rekey_all:
            world.activated = self._has_taken_over  # type: ignore[method-assign]

    def _sending(self, host: Host, datagram: Datagram, outside: Datagram) -> None:
        self._tap(host, datagram, outside)
        data, port = datagram.data, datagram.source[1]
        if port in RAW_PORTS or (port == NAT_PORT and data[:4] != bytes(4)):
            return
        header = data[4 if port == NAT_PORT else 0 :][:24]
        if header[18] == ExchangeType.CREATE_CHILD_SA and not header[19] & RESPONSE and header not in self._seen:
            self._seen.add(header)
            self._begins(host, datagram)

    def _begins(self, host: Host, datagram: Datagram) -> None:
        now, times = self.world.time, self._begun[datagram.source[0], datagram.destination[0]]
        times.append(now)
        while times[0] < now - WINDOW_S:
            times.popleft()
        if len(times) > STORM:
            text = f"{host.name} sends {datagram.destination[0]} {len(times)} CREATE_CHILD_SA requests in {WINDOW_S} s"
            self.world.record.violation("rekeys", text)

    def _has_taken_over(self, node: MemberNode, epoch: int) -> None:
        self._activated(node, epoch)
        self._due.clear()
        if node.plane._sad._above_lanes:  # not as planned
            # What the peer has made and the owner before has not is the new owner's own work: it ends that rekey.
            taken_over = {child.spi_out for sa in node.endpoint.sas.values() for child in sa.children}
            self._due = {peer: taken_over & peer.endpoint.child_index.keys() for peer in self.world.peers}

    def end(self) -> None:
        for peer, due in self._due.items():
            left = due & peer.endpoint.child_index.keys()
            if left and not self.world.is_excused(peer.site):
                names = " ".join(f"{spi:08x}" for spi in sorted(left))
                self.world.record.violation("rekeys", f"the new owner has left {names} of {peer.name} as they were")
        self.world.timeline.judge()
