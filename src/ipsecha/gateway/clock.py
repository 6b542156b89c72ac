"""The cluster clock: this host's monotonic clock plus an offset that the members agree on over the synch channel.

It goes on while the host is suspended: a member that slept is to know, and peers have not waited for it.
"""

from __future__ import annotations

import time


class ClusterClock:
    """Seconds that mean the same on all members, within milliseconds; timers only, no safety rests on it."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self._offset_s

    def shift(self, seconds: float) -> None:
        """Adopt the clock of the member that owns the SAs: it is ``seconds`` ahead of ours."""
        self._offset_s += seconds
