"""Simulated time, and processes in it: a process acts only while it lives and is not stopped."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from ipsecha.gateway.clock import ClusterClock
from simulation.violation import Violation

WALL_AT_START = 1_700_000_000.0
LATENESS_S = 0.00005
BUSY_S, BUSY = 0.1, 1500
"""A process whose timers fire so often in so short a time does nothing else."""
MOST_BEHIND_S = 1.0
"""A slow process falls behind no more than this."""


class Killed(BaseException):
    """The process is no more: unlike an exception, nothing of its code may catch this."""


class Timeline:
    """Events in the order of their times; ``random`` is the only source of chance, seeded."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.time = 0.0
        self.failures: list[BaseException] = []  # what the checkers found
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0

    def at(self, delay: float, action: Callable[..., None], *arguments: Any) -> None:
        self._order += 1
        heappush(self._events, (self.time + delay if delay > 0.0 else self.time, self._order, action, arguments))

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        events = self._events
        while events and events[0][0] <= end:
            self.time, _, action, arguments = heappop(events)
            action(*arguments)
            if self.failures:
                break
        else:
            self.time = end
        self.judge()

    def judge(self) -> None:
        """Raise what the checkers found first."""
        if self.failures:
            raise self.failures[0]

    def jitter(self, scale: float) -> float:
        return scale * (0.2 + self.random.random())


class Process:
    """Runs callbacks; may be stopped for a while, and killed between any two acts that are visible outside.

    ``acts_left`` acts from now something befalls it, ``boundary``: by default it dies there.
    """

    def __init__(self, name: str, timeline: Timeline, killed: Callable[[Process], None]) -> None:
        self.name = name
        self.timeline = timeline
        self.alive = True
        self.acts_left: int | None = None
        self.boundary: Callable[[], None] = self.kill
        self.pause_s = 0.0  # so long, about, each act takes
        self._killed = killed
        self._stopped_until = 0.0
        self._held: deque[tuple[float, Callable[..., None], tuple[Any, ...]]] = deque()  # acts of a stopped process
        self._backlog: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._inside = False

    @property
    def stopped(self) -> bool:
        return self._stopped_until > self.timeline.time or bool(self._backlog)

    @property
    def responsive(self) -> bool:
        return self.alive and not self.stopped

    def stop_for(self, seconds: float) -> None:
        """As SIGSTOP and, later, SIGCONT: what happens meanwhile is found in order on waking."""
        self._stopped_until = max(self._stopped_until, self.timeline.time + seconds)
        self.timeline.at(self._stopped_until - self.timeline.time, self._wake)

    def kill(self) -> None:
        if self.alive:
            self.alive = False
            self._backlog.clear()
            self._held.clear()
            self._killed(self)

    def act(self) -> None:
        """Called before each act: what others can see, and what is carried out step by step.  Raises Killed where the
        process dies first."""
        if not self.alive:
            raise Killed
        if self.pause_s:
            behind_s = max(self._stopped_until - self.timeline.time, 0.0)
            self.stop_for(min(behind_s + self.timeline.jitter(self.pause_s), MOST_BEHIND_S))
        if self.acts_left is not None:
            self.acts_left -= 1
            if self.acts_left < 0:
                self.acts_left = None
                self.boundary()
                if not self.alive:
                    raise Killed

    def emit(self, action: Callable[..., None], *arguments: Any) -> None:
        """An act that others can see: as soon as the process runs, should it be stopped in the middle of its code."""
        self.act()
        if self._held or self._stopped_until > self.timeline.time:
            self._held.append((self._stopped_until, action, arguments))
        else:
            action(*arguments)

    def run(self, action: Callable[..., Any], *arguments: Any) -> None:
        if not self.alive:
            return
        if self._inside or self._backlog or self._stopped_until > self.timeline.time:
            self._backlog.append((action, arguments))
            if self._inside:
                self.timeline.at(0.0, self._wake)
            return
        self._call(action, arguments)

    def _call(self, action: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._inside = True
        try:
            action(*arguments)
        except Killed:
            pass
        finally:
            self._inside = False

    def _wake(self) -> None:
        while self._held and self._held[0][0] <= self.timeline.time:
            _, action, arguments = self._held.popleft()
            action(*arguments)
        while self.alive and self._backlog and self._stopped_until <= self.timeline.time and not self._inside:
            self._call(*self._backlog.popleft())


class Timer:
    """What ``call_later`` gives."""

    def __init__(self, action: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.action: Callable[..., Any] | None = action
        self.arguments = arguments

    def cancel(self) -> None:
        self.action = None


class SimulatedLoop:
    """As much of an event loop as the gateway uses."""

    def __init__(self, process: Process, started_at: float) -> None:
        self._process = process
        self._timeline = process.timeline
        self._started_at = started_at
        self._readers: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}
        self._ready: set[int] = set()
        self._fired, self._fired_since = 0, 0.0

    def time(self) -> float:
        return self._timeline.time - self._started_at + 1000.0

    def call_soon(self, action: Callable[..., Any], *arguments: Any) -> Timer:
        return self.call_later(0.0, action, *arguments)

    def call_later(self, delay: float, action: Callable[..., Any], *arguments: Any) -> Timer:
        timer = Timer(action, arguments)
        late = self._timeline.random.random() * LATENESS_S
        self._timeline.at(delay + late, self._process.run, self._fire, timer)
        return timer

    def _fire(self, timer: Timer) -> None:
        action, timer.action = timer.action, None
        if action is not None:
            self._fired += 1
            if self._fired == BUSY:
                self._judge_haste()
            action(*timer.arguments)

    def _judge_haste(self) -> None:
        now = self._timeline.time
        if now - self._fired_since < BUSY_S:
            text = f"{self._process.name} does nothing but see to timers: {BUSY} in {now - self._fired_since:.3f} s"
            self._timeline.failures.append(Violation("busy", text))
        self._fired, self._fired_since = 0, now

    def add_reader(self, descriptor: int, action: Callable[..., None], *arguments: Any) -> None:
        self._readers[descriptor] = action, arguments

    def remove_reader(self, descriptor: int) -> bool:
        return self._readers.pop(descriptor, None) is not None

    def readable(self, descriptor: int) -> None:
        """Something has arrived there: its reader runs, once for all that has arrived by then."""
        if descriptor not in self._ready:
            self._ready.add(descriptor)
            self._process.run(self._read, descriptor)

    def _read(self, descriptor: int) -> None:
        self._ready.discard(descriptor)
        reader = self._readers.get(descriptor)
        if reader is not None:
            reader[0](*reader[1])


class SimulatedClock(ClusterClock):
    """Members' clocks disagree by ``skew_s`` until they have met, run at rates of their own and may jump."""

    def __init__(self, timeline: Timeline, skew_s: float, rate: float = 1.0) -> None:
        self._timeline = timeline
        self._rate = rate
        self._offset_s = WALL_AT_START + skew_s + timeline.time * (1.0 - rate)

    def now(self) -> float:
        return self._timeline.time * self._rate + self._offset_s
