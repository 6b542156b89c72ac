"""Timers by the hundred thousand: keys in buckets of a tenth of a second, without an object per timer.

A key (a local IKE SPI, or a connection's name) has at most one timer.  Arming it for later than before changes nothing:
it fires early, whoever takes it finds nothing due and arms it anew.  So the common case, a deadline that moves away,
costs nothing.
"""

from __future__ import annotations

import heapq

Key = bytes | str

TICKS_PER_S = 10


class _Bucket(list[Key]):
    """The keys that are due in one tick."""

    __slots__ = ("tick",)

    def __init__(self, tick: int) -> None:
        self.tick = tick


class Timers:
    """Deadlines by key; all times are seconds of the injected clock."""

    def __init__(self) -> None:
        self._armed: dict[Key, int] = {}
        self._buckets: dict[int, _Bucket] = {}
        self._ticks: list[int] = []  # heap of the buckets' numbers

    def __len__(self) -> int:
        return len(self._armed)

    def arm(self, key: Key, when: float) -> None:
        """Let ``key`` be due at ``when`` at the latest (rounded up to a tenth of a second)."""
        tick = int(when * TICKS_PER_S) + 1
        armed = self._armed.get(key)
        if armed is not None and armed <= tick:
            return
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = _Bucket(tick)
            heapq.heappush(self._ticks, tick)
        self._armed[key] = bucket.tick  # one integer for all of them
        bucket.append(key)

    def cancel(self, key: Key) -> None:
        """Forget the timer of ``key``, if there is one."""
        self._armed.pop(key, None)

    def clear(self) -> None:
        self._armed.clear()
        self._buckets.clear()
        self._ticks.clear()

    def next_timer(self) -> float | None:
        """When ``due`` has something to give, or None.  Cancelled timers may make it earlier than need be."""
        return self._ticks[0] / TICKS_PER_S if self._ticks else None

    def due(self, now: float, limit: int) -> list[Key]:
        """At most ``limit`` keys whose time has come; their timers are disarmed."""
        tick_now = int(now * TICKS_PER_S)
        keys: list[Key] = []
        while self._ticks and self._ticks[0] <= tick_now and len(keys) < limit:
            tick = self._ticks[0]
            bucket = self._buckets[tick]
            while bucket and len(keys) < limit:
                key = bucket.pop()
                if self._armed.get(key) == tick:
                    del self._armed[key]
                    keys.append(key)
            if not bucket:
                del self._buckets[tick]
                heapq.heappop(self._ticks)
        return keys
