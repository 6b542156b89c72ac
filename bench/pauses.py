"""What keeps a member's event loop from everything else, and how regularly it beats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise


class Pauses:
    """The longest time for which anything has kept a member's event loop from everything else; in seconds of CPU, so
    that other processes do not count, collections of garbage do."""

    def __init__(self) -> None:
        self.longest = 0.0

    def timed(self, callback: Callable[..., object]) -> Callable[..., None]:
        def called(*arguments: object) -> None:
            began = time.thread_time()
            callback(*arguments)
            self.longest = max(self.longest, time.thread_time() - began)

        return called


class TimedLoop:
    """The event loop that two members share, as one of them sees it: whatever it has called there is a pause of its
    own, the work behind timers that nobody thinks of included."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pauses: Pauses) -> None:
        self._loop = loop
        self._timed = pauses.timed
        self.time = loop.time

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> asyncio.Handle:
        return self._loop.call_soon(self._timed(callback), *arguments)

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, self._timed(callback), *arguments)


class Moments:
    """When something has happened that should happen regularly.  Time that passes: what others take from the machine
    counts, as it does for the partner that waits for a beat."""

    def __init__(self) -> None:
        self._at: list[float] = []

    def note(self) -> None:
        self._at.append(time.monotonic())

    def longest_gap(self, began: float, ended: float) -> float:
        """The longest time between ``began`` and ``ended`` (of ``time.monotonic``) in which it has not happened."""
        meanwhile = [at for at in self._at if began < at < ended]
        return max(later - earlier for earlier, later in pairwise((began, *meanwhile, ended)))
