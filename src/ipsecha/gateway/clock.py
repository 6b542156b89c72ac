"""The cluster clock: this process's monotonic clock plus an offset that the members agree on over the synch channel."""

from __future__ import annotations

import time


class ClusterClock:
    """Seconds that mean the same on all members, within milliseconds; timers only, no safety rests on it."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._offset_s

    def shift(self, seconds: float) -> None:
        """Adopt the clock of the member that owns the SAs: it is ``seconds`` ahead of ours."""
        self._offset_s += seconds
