"""Counter leases of one child SA direction (DESIGN section 3): how far its sequence numbers may go, when to ask for
more, and how much.

A lease has two numbers: ``limit`` is what the backup has acknowledged (nothing above it is used; where SAs are saved,
nothing above ``bound`` either, see ``ipsec.durable``), ``requested`` what it has been asked for.  The packet path
compares a sequence number with one integer, ``mark``, and leaves the fast path only above it: the number is then past
the half of the lease, or beyond it.

Sizes follow the SA's own rate times a horizon, so that a renewal costs the channel the same at 10 packets a second and
at a million; ``LeaseBudget`` widens all of them together when so many SAs are busy that the channel would see more
entries a second than it is meant to carry.
"""

from __future__ import annotations

from ipsecha.model.leases import FIRST_IN_CEILING, FIRST_OUT_CEILING

INBOUND_HORIZON_S = 0.1  # what a failover may lose of an inbound SA
OUTBOUND_HORIZON_S = 1.0  # a jump outbound costs nothing
CHANNEL_BUDGET = 20_000  # lease entries a second, by default
JUMP = 1 << 16
"""So far beyond what was asked for no burst gets: packets that must wait are held by the hundred.  A peer that is a
cluster itself has skipped numbers, and a lease as wide as its jump would cost as many packets at the next takeover."""
LONGEST_COUNT_S = 1.0  # before the widening of all leases is set anew
EXCESS = 2  # an inbound lease that reaches so many times further than need be is given back
_UNKNOWN = -1.0
_UNBOUND = 1 << 65


class Lease:
    """The lease of one direction.  ``end`` is the highest number that the SA can ever use; ``size`` that of the first
    request, when no rate is known; ``asked`` the highest ceiling that a former backup was asked for, if it has not been
    given back."""

    __slots__ = (
        "_granted",
        "_rate",
        "_since",
        "_since_number",
        "asked",
        "bound",
        "end",
        "horizon_s",
        "limit",
        "mark",
        "minimum",
        "requested",
        "size",
    )

    def __init__(self, limit: int, end: int, minimum: int, size: int, horizon_s: float) -> None:
        self.limit = self._granted = limit
        self.bound = _UNBOUND
        self.end = end
        self.minimum = minimum
        self.horizon_s = horizon_s
        self.requested = self.asked = limit
        self.size = size
        self._rate = 0.0
        self._since = _UNKNOWN
        self._since_number = 0
        self.mark = 0
        self._set_mark()

    def wants_more(self, number: int) -> bool:
        """Whether half of what was asked for is used once ``number`` is; never at the end of the number space, nor at
        the bound."""
        return number > self.requested - (self.size + 1) // 2 and self.requested < min(self.end, self.bound)

    def request(self, number: int, now: float, widening: float) -> int:
        """Ask for more, ``number`` being the highest in use: the new ceiling to be acknowledged."""
        self.size = self._sized(number, now, widening)
        self.requested = max(self.requested, min(number + self.size, self.end, self.bound))
        self._set_mark()
        return self.requested

    def grant(self, ceiling: int) -> bool:
        """The backup has acknowledged ``ceiling``: whether that raises the limit."""
        if ceiling <= self._granted:
            return False
        self._granted = min(ceiling, self.end)
        self.limit = min(self._granted, self.bound)
        self.requested = max(self.requested, self._granted)
        self._set_mark()
        return True

    def bind(self, bound: int | None) -> None:
        """Nothing above ``bound`` is used, whatever is granted, nor asked for; None: nothing is saved."""
        self.bound = _UNBOUND if bound is None else bound
        self.limit = min(self._granted, self.bound)
        self._set_mark()

    def spare(self, number: int, floor: int, now: float, widening: float) -> int | None:
        """The lower ceiling that ``number``, the highest in use, needs at the present rate; never below ``floor``.

        None where there is little to give back, or something that was asked for is not granted yet.
        """
        size = self._sized(number, now, widening)
        if self.requested != self.limit or self.limit - number <= EXCESS * size + 1:
            return None
        ceiling = max(number + size, floor)
        return ceiling if ceiling < self.limit else None

    def is_long(self, number: int) -> bool:
        """Whether it may turn out that there is something to give back."""
        return self.requested - number > EXCESS * self.minimum + 1 or self.limit < number

    def give_back(self, number: int, floor: int, now: float, widening: float) -> int | None:
        """As ``spare``: from this moment on that is the limit."""
        ceiling = self.spare(number, floor, now, widening)
        if ceiling is not None:
            self.size = max(self.minimum, ceiling - number)
            self.limit = self._granted = self.requested = self.asked = ceiling
            self._set_mark()
        return ceiling

    def rate(self, number: int, now: float) -> float:
        """Numbers a second, ``number`` being the highest in use: since the last request, or in the horizon before it
        where that was just now."""
        if self._since == _UNKNOWN or now - self._since < self.horizon_s:
            return self._rate
        return max(0, number - self._since_number) / (now - self._since)

    def restart(self, limit: int) -> None:
        """What was asked for will not be answered (the backup has changed): begin again with ``limit`` granted.

        -1 where a new backup has acknowledged nothing yet.  Numbers may have been skipped on the way: those are no
        sign of traffic, so the rate is measured afresh.
        """
        self.asked = max(self.asked, self.requested)
        self._granted = self.requested = limit
        self.limit = limit if limit < self.bound else self.bound
        self._since = _UNKNOWN
        self._set_mark()

    def _set_mark(self) -> None:
        half, limit = self.requested - (self.size + 1) // 2, self.limit
        self.mark = half if half < limit else limit

    def _sized(self, number: int, now: float, widening: float) -> int:
        """Numbers for ``horizon_s`` at the present rate.

        The rate is that of the last whole horizon, or of the present one as far as it has come: a burst then gets at
        most what it has used, and a stream reaches its rate within a horizon.
        """
        if self._since == _UNKNOWN or number < self._since_number or number > self.requested + JUMP:
            self._since, self._since_number = now, number
            return self.size
        elapsed = now - self._since
        used = number - self._since_number
        rate = max(used / max(elapsed, self.horizon_s), self._rate)
        if elapsed >= self.horizon_s:
            self._rate = rate = used / elapsed
            self._since, self._since_number = now, number
        return max(self.minimum, int(rate * self.horizon_s * widening))


class LeaseBudget:
    """Keeps the entries per second of all SAs together near the channel's budget by widening every lease."""

    __slots__ = ("_count", "_since", "budget", "widening")

    def __init__(self, budget: int = CHANNEL_BUDGET) -> None:
        self.budget = budget
        self.widening = 1.0
        self._count = 0
        self._since = _UNKNOWN

    def note(self, entries: int, now: float) -> None:
        """``entries`` requests leave now.  Renewals are inverse to the widening, so its error corrects itself.

        Wide leases are renewed as seldom as they last for long: it is counted for so long.
        """
        if self._since == _UNKNOWN:
            self._since = now
        self._count += entries
        elapsed = now - self._since
        if elapsed >= min(INBOUND_HORIZON_S * self.widening, LONGEST_COUNT_S):
            self.widening = max(1.0, self.widening * (self._count / elapsed) / self.budget)
            self._count, self._since = 0, now


def inbound_lease(ceiling: int, end: int, horizon_s: float = INBOUND_HORIZON_S) -> Lease:
    """The lease of an inbound SA; it may be as small as one packet, since a failover loses what is left of it."""
    return Lease(ceiling, end, 1, FIRST_IN_CEILING, horizon_s)


def outbound_lease(ceiling: int, end: int, horizon_s: float = OUTBOUND_HORIZON_S) -> Lease:
    return Lease(ceiling, end, FIRST_OUT_CEILING, FIRST_OUT_CEILING, horizon_s)
