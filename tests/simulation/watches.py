"""Checkers of I6 and I7 for whole worlds: what is said holds no keys, and strangers cost the channel what they may."""

from __future__ import annotations

from collections import deque
from typing import Any

from ipsecha.cluster import frames
from needles import Needles, parts
from simulation.gateways import LIMITS
from simulation.secrecy import Secrecy
from simulation.world import World

WINDOW_S = 1.0
SECRECY = 64
"""In one world of so many secrets are looked for in everything: that takes as long as all the rest."""


class Watches:
    """Looks on from its construction; ``end`` after the run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._shared: dict[str, deque[float]] = {}  # by process: when it shared half-open IKE SAs
        self._send = world.synch.send
        world.synch.send = self._sending  # type: ignore[method-assign]
        if world.variant.secrecy or world.seed % SECRECY == 0:
            world.secrecy = Secrecy(world)

    def _sending(self, end: Any, data: bytes) -> None:
        if data[0] == HALF_OPEN and isinstance(frames.decode_frame(data), frames.HalfOpen):
            self._half_open(end.process.name)
        self._send(end, data)

    def _half_open(self, who: str) -> None:
        """A bucket lets its burst through, and what comes in meanwhile."""
        now, times = self.world.time, self._shared.setdefault(who, deque())
        times.append(now)
        while times[0] < now - WINDOW_S:
            times.popleft()
        if len(times) > LIMITS.shared_half_open_per_s * (1 + now - times[0]) + 1:
            self.world.record.violation("I7", f"{who} shares {len(times)} half-open IKE SAs in {now - times[0]:.2f} s")

    def end(self) -> None:
        """Keys of IKE SAs and child SAs in whatever members and peers have told; and, where secrets are looked for,
        anywhere."""
        needles, disks = Needles(), b"\n".join(self.world.saved())
        for node in (*self.world.members, *self.world.peers):
            for sa in node.endpoint.sas.values():
                for one in (sa, *sa.children):
                    needles.add(f"the keys of {one}", bytes(one.keys))
                    if any(part in disks for part in parts(one.keys)):
                        self.world.record.violation("I6", f"the keys of {one} are on a disk")
        found = needles.found(self.world.record.told)
        if found:
            self.world.record.violation("I6", f"{', '.join(sorted(found))} are told")
        if self.world.secrecy is not None:
            self.world.secrecy.judge()
        self.world.timeline.judge()

    def close(self) -> None:
        if self.world.secrecy is not None:
            self.world.secrecy.close()


HALF_OPEN = frames.encode_frame(frames.HalfOpen(0, b""))[0]
