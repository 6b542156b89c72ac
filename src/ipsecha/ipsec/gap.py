"""What a new owner refuses of an inbound SA that it has taken over (RFC 6027 section 3.5).

Its predecessor may have delivered every number up to the ceiling of its lease, the *floor* of the new owner's window.
The gap is open until a number above the floor has been accepted.  Until then packets at or below it are authenticated,
so that nobody but the peer, or a replay of what it sent, shows where the peer is; they are refused and counted.

With the policy *learn* the first authentic one above ``known`` is accepted and makes a window of its own: whatever the
predecessor delivered between ``known`` and its last packet may be replayed, once.  ``known`` is the highest number that
it had delivered when its last lease was asked for; taking over raises the record's to the floor, so that the numbers
of one gap are never learnt from again, whoever comes next.
"""

from __future__ import annotations

_LOW_RANGE = 1 << 32


class Gap:
    """The numbers from 1 to ``floor`` of one SA in use; those up to ``known`` are refused for ever."""

    __slots__ = ("closed_at", "floor", "known", "learnt", "refused", "top")

    def __init__(self, floor: int, known: int) -> None:
        """``known``: at least ``floor`` where the policy is not to learn."""
        self.floor = floor
        self.known = known
        self.refused = 0  # authentic packets
        self.top = 0  # the highest number among them
        self.learnt = 0  # the number that the window was learnt from
        self.closed_at = 0.0

    @property
    def remaining(self) -> int:
        """How many numbers the peer still has before it: at most this many packets are still lost."""
        return 0 if self.closed_at or self.learnt else self.floor - self.top

    def may_learn(self, number: int) -> bool:
        return number > self.known and not self.learnt

    def refuse(self, number: int) -> bool:
        """An authentic packet bears this number; whether it is time to tell: at the 1st, 2nd, 4th, 8th and so on."""
        self.refused += 1
        self.top = max(self.top, number)
        return self.refused & (self.refused - 1) == 0

    def number_of(self, low: int) -> int:
        """The number at or below the floor whose low half came on the wire; not above 0 where there is none.

        A window that stands at the floor infers (RFC 4303 appendix A2.2) that what lies far below it has come round to
        the next 2^32.
        """
        return self.floor - (self.floor - low) % _LOW_RANGE
