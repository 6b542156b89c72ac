"""The checker of I7 for half-open IKE SAs: what is shared with the backup never exceeds the configured budget.

It asks nobody for an opinion: it counts what was sent and when, like a bucket that leaks at the budget's rate.
"""

from __future__ import annotations

UNIT = 1024
LEAST_BURST = 8


class BudgetError(Exception):
    """More went over the synch channel than an unauthenticated sender may cause."""


class SharingBudget:
    """``per_s`` as configured; one half-open IKE SA counts as one unit, a larger one than a kibibyte as more."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._burst = max(per_s, LEAST_BURST) if per_s else 0.0
        self._level = 0.0
        self._at = 0.0
        self.count = 0
        self.octets = 0

    def sent(self, octets: int, now: float) -> None:
        """One shared half-open IKE SA of so many octets.  Raises BudgetError."""
        self._level = max(0.0, self._level - (now - self._at) * self._per_s) + max(1.0, octets / UNIT)
        self._at = now
        self.count += 1
        self.octets += octets
        if self._level > self._burst + 1e-6:
            raise BudgetError(f"{self._level:.1f} units at once where {self._burst:.0f} are allowed")
