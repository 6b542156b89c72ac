"""A backup that joins, and what it keeps: the snapshot's CPU, the longest pauses of both event loops, memory.

Both members live in one process; a process of its own for each measurement.  CPU is that of both together, as if they
shared one core.  Meanwhile everything goes on that does on a real owner: child SAs are busy, peers call at a steady
pace, both members beat ten times a second.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
from collections.abc import Generator, Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

from bench.accounting import resident
from bench.figures import Context, Figure, Goal, Topic
from bench.pairs import HEARTBEAT_S, Half, Halves, make_sas
from ipsecha.cluster import effects as fx
from ipsecha.gateway.compaction import BATCH
from ipsecha.gateway.garbage import keep_collections_short
from ipsecha.gateway.status import sas_view, status_view
from ipsecha.gateway.views import as_answer
from ipsecha.model.records import IkeSa, encode_record

COUNT, QUICK_COUNT = 100_000, 10_000
CHILDREN = 2
CALLS_PER_S = 100.0
"""Peers that begin a handshake while the backup joins; so many may leave their half-open IKE SA with it, too."""
BUSY_SHARE = 10
"""So many child SAs carry packets: one for so many IKE SAs."""
MANY_BUSY_SHARE = 5
WARM, PART = 2048, 32
CHECKED_AT_ONCE = 4096
KEPT, QUICK_KEPT = 20_000, 5_000
SECONDS_GOAL, PAUSE_GOAL_MS = 10.0, 20.0
GAP_GOAL_MS = 300.0  # from there on a member counts as silent
COMPLETED_GOAL = 0.9  # the last ones are on their way when the join ends
STANDBY_GOAL, ACTIVE_GOAL = 2048, 4096


class Join(NamedTuple):
    """CPU of both members and their longest pauses; seconds."""

    cpu: float
    sender: float
    receiver: float
    background: float  # longest pause of the new owner while it looks after its SAs
    discard: float
    shown: float  # of the owner, asked for its status and its SAs
    gaps: tuple[float, float]  # longest between two heartbeats of the owner, of the backup; time that passes
    begun: int  # handshakes of peers meanwhile
    completed: int
    handshake: float  # the longest of them


def busier_owner(count: int) -> float:
    """Longest pause of an owner of whose child SAs ``MANY_BUSY_SHARE`` times as many are in use."""
    halves = Halves(count, CHILDREN, MANY_BUSY_SHARE * count // BUSY_SHARE, HEARTBEAT_S, CALLS_PER_S)
    longest = halves.one.pauses.longest
    halves.close()
    return longest


def join(count: int) -> Join:
    halves = Halves(count, CHILDREN, count // BUSY_SHARE, HEARTBEAT_S, CALLS_PER_S)
    sender, receiver = halves.one.pauses.longest, halves.two.pauses.longest
    window = halves.joining_from, halves.joining_until
    gaps = halves.one.beating.longest_gap(*window), halves.two.beating.longest_gap(*window)
    calls = halves.begun, halves.completed, halves.callers.longest_s
    shown = _shown(halves.one)
    halves.lose_one()
    halves.two.pauses.longest = 0.0
    halves.take_over()
    halves.until(lambda: (halves.two.gateway.endpoint.next_timer() or 0.0) > halves.two.gateway.clock.now())
    background, halves.two.pauses.longest = halves.two.pauses.longest, 0.0
    halves.two.pauses.timed(halves.two.side._discard_records)(fx.DiscardRecords())
    found = Join(halves.joining_s, sender, receiver, background, halves.two.pauses.longest, shown, gaps, *calls)
    halves.close()
    return found


def _shown(half: Half) -> float:
    """The longest step of what the control socket does for ``status`` and a page of ``sas`` from the middle."""
    config: Any = SimpleNamespace(member=SimpleNamespace(name="one"), cluster=None)
    half.pauses.longest = 0.0
    timed = half.pauses.timed
    middle = {"offset": len(half.gateway.endpoint.sas) // 2}
    for steps in (status_view(half.gateway, None, config, 0.0), sas_view(half.gateway, middle)):
        ended = list[msgspec.Struct]()

        def step(steps: Generator[None, None, msgspec.Struct] = steps, ended: list[msgspec.Struct] = ended) -> None:
            try:
                next(steps)
            except StopIteration as end:
                ended.append(end.value)
                msgspec.json.encode(as_answer(end.value))

        while not ended:
            timed(step)()
    return half.pauses.longest


def kept(count: int, active: bool, thawed: bool = False) -> float:
    """Octets per IKE SA with one child SA, everything of each peer's own; ``active``: after a takeover, all timers
    armed, no packet yet; ``thawed``: and each SA has been an object for a moment since, CHECKED_AT_ONCE at a time."""
    keep_collections_short()
    loop = asyncio.new_event_loop()
    half, sas = Half(loop, 1), make_sas(WARM + count, 1000.0)
    _take_in(half, sas, WARM)
    before = resident()
    _take_in(half, sas, count)
    if active:
        endpoint, plane = half.gateway.endpoint, half.gateway.plane
        plane.activate(1, 0)
        endpoint.activate(1, 1000.0)
        while (due := endpoint.next_timer()) is not None and due <= 1000.0:
            endpoint.handle_timer(1000.0)
            endpoint.take_effects()
    if thawed:
        _use_all(half)
    gc.collect()
    octets = (resident() - before) / count
    half.close()
    loop.close()
    return octets


def _use_all(half: Half) -> None:
    """What a liveness check of each does to memory."""
    sas, compaction = half.gateway.endpoint.sas, half.side.compaction
    compaction.start()
    for number, spi in enumerate(list(sas)):
        sas.get(spi)
        if number % CHECKED_AT_ONCE == CHECKED_AT_ONCE - 1:
            for _ in range(CHECKED_AT_ONCE // BATCH + 2):
                compaction._look()


def _take_in(half: Half, sas: Iterator[IkeSa], count: int) -> None:
    for _ in range(count // PART):
        half.side._apply(fx.Apply(tuple((sa.local_spi, encode_record(sa)) for sa in islice(sas, PART))))
    gc.collect()


def run(context: Context) -> list[Figure]:
    count, few = context.count(COUNT, QUICK_COUNT), context.count(KEPT, QUICK_KEPT)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        context.step(f"memory of {few:,} IKE SAs")
        standby, active = pool.apply(kept, (few, False)), pool.apply(kept, (few, True))
        checked = pool.apply(kept, (few, True, True))
        context.step(f"a backup joins {count:,} IKE SAs")
        found: Join = pool.apply(join, (count,))
        busier = pool.apply(busier_owner, (count,))
    what = f"{count:,} IKE SAs and {CHILDREN * count:,} child SAs"
    return [
        Figure("memory per IKE SA and child SA, standby", standby, "B", goal=Goal(STANDBY_GOAL, "value")),
        Figure("memory per IKE SA and child SA, active, idle", active, "B", goal=Goal(ACTIVE_GOAL, "value")),
        Figure("the same, each SA has been in use for a moment", checked, "B", goal=Goal(ACTIVE_GOAL, "value")),
        *_snapshot(found, what),
        *(
            Figure(f"longest pause: {name}", 1e3 * seconds, "ms", goal=Goal(PAUSE_GOAL_MS, "value"))
            for name, seconds in (
                ("the owner, a backup joining", found.sender),
                (f"the same, {MANY_BUSY_SHARE} times as many child SAs busy", busier),
                ("the backup, joining", found.receiver),
                ("a new owner, looking after its SAs", found.background),
                ("giving up all records", found.discard),
                ("status and sas", found.shown),
            )
        ),
    ]


def _snapshot(found: Join, what: str) -> list[Figure]:
    included = (
        f"CPU of both includes {found.completed} handshakes of peers, heartbeats, and leases of the busy child SAs;"
        " not the peers, nor the packets"
    )
    owner, backup = (1e3 * gap for gap in found.gaps)
    return [
        Figure(f"snapshot of {what}, CPU of both", found.cpu, "s", goal=Goal(SECONDS_GOAL, "value"), note=included),
        Figure(
            "handshakes completed meanwhile",
            found.completed,
            "",
            f"those begun, {CALLS_PER_S:.0f} a second",
            found.begun,
            Goal(COMPLETED_GOAL, at_least=True),
        ),
        Figure("the longest of them, CPU until its last answer", 1e3 * found.handshake, "ms"),
        Figure("longest time between two beats of the owner", owner, "ms", goal=Goal(GAP_GOAL_MS, "value")),
        Figure("longest time between two beats of the backup", backup, "ms", goal=Goal(GAP_GOAL_MS, "value")),
    ]


TOPIC = Topic("joining", "a backup that joins, and what it keeps", run, lambda quick: 2)
