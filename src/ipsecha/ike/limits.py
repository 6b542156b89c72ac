"""Token buckets: what unauthenticated senders may cost (RFC 7296 section 2.21.4)."""

from __future__ import annotations


class TokenBucket:
    """Allows ``burst`` events at once and ``rate`` a second in the long run."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = 0.0

    def take(self, now: float, cost: float = 1.0, reserve: float = 0.0) -> bool:
        """Whether an event that counts as ``cost`` is allowed at ``now``, with as much as ``reserve`` left over."""
        if self.level(now) < cost + reserve:
            return False
        self._tokens -= cost
        return True

    def is_empty(self, now: float) -> bool:
        """Whether ``take`` would refuse an event at ``now``."""
        return self.level(now) < 1

    def level(self, now: float) -> float:
        """How much is allowed at ``now``."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        return self._tokens
