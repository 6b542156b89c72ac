"""Token buckets: what unauthenticated senders may cost (RFC 7296 section 2.21.4)."""

from __future__ import annotations


class TokenBucket:
    """Allows ``burst`` events at once and ``rate`` a second in the long run."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more event is allowed at ``now``."""
        if self.is_empty(now):
            return False
        self._tokens -= 1
        return True

    def is_empty(self, now: float) -> bool:
        """Whether ``take`` would refuse at ``now``."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        return self._tokens < 1
