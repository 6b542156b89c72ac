"""A planned switchover, seen from the owner that gives the SAs away.

It freezes, waits until everything is acknowledged, sends HANDOVER with its exact counters, and uses the SAs no more.
TAKEN ends it.  Otherwise, until HANDOVER has left, nothing has happened and the owner simply goes on.  Afterwards it is
*in doubt*: the partner may be owner or not.  The owner then goes on under its own, lower epoch, in a lane of its own
(``lanes``), so that numbers stay disjoint in either case, and so that the partner stays owner when they meet.
"""

from __future__ import annotations

from collections.abc import Sequence

from ipsecha.model.records import LeaseEntry


class Handover:
    """One attempt; ``deadline``: when the owner goes on by itself."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.sent = False
        self._counters: tuple[LeaseEntry, ...] | None = None

    def ready(self, counters: Sequence[LeaseEntry]) -> None:
        """The data plane has stopped at these numbers."""
        self._counters = tuple(counters)

    def take(self, outstanding: int) -> tuple[LeaseEntry, ...] | None:
        """The counters, once, as soon as HANDOVER may leave; from here on the owner is in doubt."""
        if self._counters is None or self.sent or outstanding:
            return None
        self.sent = True
        return self._counters
