"""Taking over: from the news that the owner is dead to the moment when its backup forwards, by number of SAs.

It must not grow with them: that is what makes a failover of a hundred thousand tunnels as short as that of one.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import NamedTuple

from bench import clients
from bench.figures import Context, Figure, Goal, Topic
from bench.pairs import Halves, child_spi

COUNTS, QUICK_COUNTS = (1000, 10_000, 100_000, 200_000), (1000, 10_000)
REPEATS, QUICK_REPEATS = 3, 2
CPU_GOAL_MS = 20.0
FIRST_PACKETS = 50
FLAT = 2.0
"""What passes for "does not grow": caches are larger than nothing, and clocks are not perfect."""


class Takeover(NamedTuple):
    """Seconds."""

    passed: float
    cpu: float
    first_packet: float  # CPU: an SA is adopted when its first packet comes
    afterwards: float  # CPU for each SA, in the background, in small pieces
    joining: float  # CPU of both members for each SA, when the backup joins


def measure(count: int) -> Takeover:
    """One takeover of ``count`` IKE SAs."""
    halves = Halves(count)
    halves.lose_one()
    gc.collect()
    passed, cpu = halves.take_over()
    first_packet = _first_packets(halves)
    afterwards = _afterwards(halves) / count
    halves.close()
    return Takeover(passed, cpu, first_packet, afterwards, halves.joining_s / count)


def _first_packets(halves: Halves) -> float:
    plane = halves.two.gateway.plane
    began = time.process_time()
    for number in range(FIRST_PACKETS):
        plane.inject("inner", clients.inner_packet(number), ("", 0), ("", 0))
    spent = time.process_time() - began
    traffic = [plane.traffic(child_spi(number)) for number in range(FIRST_PACKETS)]
    if not all(seen is not None and seen.packets_out for seen in traffic):
        raise RuntimeError("the new owner does not forward")
    return spent / FIRST_PACKETS


def _afterwards(halves: Halves) -> float:
    endpoint, now = halves.two.gateway.endpoint, halves.two.gateway.clock.now()
    began = time.process_time()
    while (due := endpoint.next_timer()) is not None and due <= now:
        endpoint.handle_timer(now)
    endpoint.take_effects()
    return time.process_time() - began


def run(context: Context) -> list[Figure]:
    counts, repeats = context.count(COUNTS, QUICK_COUNTS), context.count(REPEATS, QUICK_REPEATS)
    found: dict[int, list[Takeover]] = {count: [] for count in counts}
    for number in range(repeats):
        for count in counts:
            context.step(f"takeover of {count} SAs, {number + 1} of {repeats}")
            found[count].append(measure(count))
    smallest, largest = counts[0], counts[-1]
    base = {name: _median(found[smallest], name) for name in Takeover._fields}
    reference = f"takeover of {smallest:,} SAs, CPU"
    figures = [Figure(reference, 1e3 * base["cpu"], "ms")]
    for count in counts[1:]:
        took, name = 1e3 * _median(found[count], "cpu"), f"takeover of {count:,} SAs, CPU"
        figures.append(Figure(name, took, "ms", reference, 1e3 * base["cpu"], Goal(FLAT)))
    return [
        *figures,
        Figure(
            f"the same, {largest:,} SAs", 1e3 * _median(found[largest], "cpu"), "ms", goal=Goal(CPU_GOAL_MS, "value")
        ),
        Figure(f"{largest:,} SAs, time that passes", 1e3 * _median(found[largest], "passed"), "ms"),
        Figure("then: first packet of an SA, CPU", 1e6 * _median(found[largest], "first_packet"), "us"),
        Figure("then: in the background, CPU for each SA", 1e6 * _median(found[largest], "afterwards"), "us"),
        Figure("before: a backup joins, CPU of both for each SA", 1e6 * _median(found[largest], "joining"), "us"),
    ]


def _median(takeovers: list[Takeover], name: str) -> float:
    place = Takeover._fields.index(name)
    return statistics.median(one[place] for one in takeovers)


def _steps(quick: bool) -> int:
    return len(QUICK_COUNTS) * QUICK_REPEATS if quick else len(COUNTS) * REPEATS


TOPIC = Topic("takeover", "taking over by number of SAs (two members in one process)", run, _steps)
