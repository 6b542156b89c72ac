"""Handshakes with a real strongSwan as initiator: the CPU and memory of our daemon as responder, beside strongSwan's
own daemon as responder in the same place, taking turns in the same run.

Both install a child SA per handshake (strongSwan into its own userspace ESP, as we do); both have just begun; the CPU
is that of the whole process, system calls included, as the kernel accounts it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import sites
from bench.accounting import cpu_s, resident
from bench.figures import Context, Figure, Goal, Topic
from ipsecha.lab import network
from ipsecha.lab.namespaces import Topology

ROUNDS, QUICK_ROUNDS = 3, 1
HANDSHAKES, QUICK_HANDSHAKES = 1000, 300
WARM = 100
STORM, CALM = 64, 2
"""Calls under way: as after a crash, when all peers come back at once; and as on an ordinary day."""

Responder = Callable[[Topology, Path], AbstractContextManager[int]]


class Cost(NamedTuple):
    """Of one handshake: microseconds of CPU in a storm of calls and with few at a time, octets of memory that stay."""

    storm: float
    calm: float
    memory: float


@contextmanager
def _ours(topology: Topology, directory: Path) -> Iterator[int]:
    with sites.responder_member(topology["gw1"], directory) as member:
        yield member.pid


@contextmanager
def _strongswan(topology: Topology, directory: Path) -> Iterator[int]:
    with sites.responder_strongswan(topology["gw1"], directory) as gateway:
        sites.configure_responder(gateway)
        yield gateway.pid


def _measure(topology: Topology, directory: Path, responder: Responder, count: int) -> Cost:
    with (
        responder(topology, directory / "responder") as pid,
        sites.initiators(topology, directory / "initiator") as peer,
    ):
        peer.load()
        sites.call_all(peer, WARM, STORM)
        before, memory_before = cpu_s(pid), resident(pid)
        sites.call_all(peer, count, STORM)
        between, memory = cpu_s(pid), (resident(pid) - memory_before) / count
        sites.call_all(peer, count // 2, CALM)
        return Cost(1e6 * (between - before) / count, 1e6 * (cpu_s(pid) - between) / (count // 2), memory)


def run(context: Context) -> list[Figure]:
    """Alternates the two responders; the figures are medians over the rounds."""
    count = context.count(HANDSHAKES, QUICK_HANDSHAKES)
    ours: list[Cost] = []
    theirs: list[Cost] = []
    with network.standing() as topology:
        for number in range(context.count(ROUNDS, QUICK_ROUNDS)):
            for name, responder, costs in (("ipsecha", _ours, ours), ("strongSwan", _strongswan, theirs)):
                context.step(f"{name} answers {count} handshakes")
                costs.append(_measure(topology, context.directory / f"{name}-{number}", responder, count))

    def compared(name: str, unit: str, place: int, goal: Goal | None) -> Figure:
        value, reference = (statistics.median(cost[place] for cost in costs) for costs in (ours, theirs))
        return Figure(name, value, unit, "strongSwan as responder", reference, goal)

    return [
        compared(f"CPU per handshake, {STORM} at a time", "us", 0, Goal(0.7)),
        compared(f"CPU per handshake, {CALM} at a time", "us", 1, None),
        compared("memory per IKE SA and child SA", "B", 2, Goal(2048, "value")),
    ]


TOPIC = Topic(
    "responder",
    "handshakes with strongSwan as initiator",
    run,
    lambda quick: 2 * (QUICK_ROUNDS if quick else ROUNDS),
    sites.missing,
)
