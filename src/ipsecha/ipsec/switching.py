"""How the child SAs of an owner pass from one mode of leasing to another.

A change of mode is said once and holds for all SAs in use.  With ten thousand of them a pass over all would keep
everything else waiting, so around the join of a backup, when nothing presses, SAs may be *behind*: such a one stays
within what it was allowed before, and passes to the present mode when its turn comes, or a packet needs more than that.

* The join begins (``set_leasing`` with ``gradually``).  The joiner has given up its records, so the owner will be free;
  until then an SA uses what it was granted, or its lane, and nobody else does.  Its turn comes with its record.
* The join ends (``lease_in_parts``).  Part by part SAs become LEASED, and the backup is told of ceilings that it does
  not know from the records: those that were raised since they were encoded.  It counts as in sync, and may take over,
  only behind all of that in the same ordered stream.  So what has been told is known, as what stands in its records is:
  the numbers up to there need no acknowledgement.  From its turn on, an SA asks the backup for every further one.

A backup that was a mirror before has also heard of ceilings that were asked for and that nobody has acknowledged since.
They count as granted from the end of its join on: should it be the owner next, it uses them, and we are its backup.

Every raise without a backup goes by ``_unshared``, and LEASED SAs raise nothing on their own: when nobody is behind and
nothing is unshared, no SA uses a number that the stream does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from ipsecha.ipsec.ceilings import PlaneEvents
from ipsecha.ipsec.durable import Durable
from ipsecha.ipsec.frozen import Installed
from ipsecha.ipsec.leases import CHANNEL_BUDGET
from ipsecha.ipsec.live import LiveSa
from ipsecha.ipsec.spd import Spd
from ipsecha.model.leases import FIRST_OUT_CEILING, LANE_ESN, Leasing, lane_width
from ipsecha.model.policy import Policy
from ipsecha.model.records import LeaseEntry

SWITCHED_PER_PART = 256
"""SAs in use that become LEASED in one part, and ceilings that are told in it: some 1 ms."""

SETTLED_PER_PART = 64
"""SAs not in use: their records may be octets, and have to be made objects."""

LOOKED_PER_PART = 4096


class Switching(Durable):
    """The modes of child SAs, in use or not, by inbound SPI."""

    def __init__(self, policy: Policy, events: PlaneEvents, channel_budget: int = CHANNEL_BUDGET) -> None:
        super().__init__(events, channel_budget)
        self.spd = Spd(policy)
        self._installed: Installed = Installed(self.spd)
        self.active = False
        self.part, self.settled_part = SWITCHED_PER_PART, SETTLED_PER_PART

    def set_leasing(self, mode: Leasing, skip_lanes: int = 0, gradually: bool = False) -> list[LiveSa]:
        """What bounds the numbers from now on: the SAs whose held packets may have become free.

        ``skip_lanes``: first go on so many lanes above the ceilings, on SAs in use and on others when they come into
        use.  ``gradually``: SAs in use may stay behind; else O(SAs in use).
        """
        if mode is Leasing.LEASED:
            for spi_in in list(self._behind):
                self._catch_up(self.lives[spi_in])
            if self.leasing is not mode:
                self._ask_for_unshared()
        self._returning.clear()
        lanes = skip_lanes if self.active else 0
        if lanes or mode is Leasing.LEASED or mode is not self.leasing:  # a lane does not grow by being said twice
            self._leave_behind(lanes)
        self.leasing = mode
        held = []
        for spi_in in list(self._behind):
            live = self.lives[spi_in]
            waits = bool(live.held_in or live.held_out)
            if waits:
                held.append(live)
            if waits or not gradually:
                self._catch_up(live)
        return held

    def _ask_for_unshared(self) -> None:
        """Ceilings raised without a backup: nothing is used on those SAs before it has acknowledged them."""
        self._unacknowledged |= self._unshared
        self._unshared = set()
        for spi_in in self._unacknowledged:
            self._want(spi_in)

    def _leave_behind(self, lanes: int) -> None:
        before = self._behind
        if before:
            self._behind = {spi_in: before.get(spi_in, 0) + lanes for spi_in in self.lives}
        else:
            self._behind = dict.fromkeys(self.lives, lanes)
        if lanes:
            self._above_lanes += lanes
            self._own.clear()

    def _catch_up(self, live: LiveSa) -> None:
        lanes = self._behind.pop(live.spi_in, 0)
        if lanes:
            live.child.out_ceiling += lanes * lane_width(live.esn)
            live.next_out = live.child.out_ceiling + 1
            self._skip_margin(live, lanes)
            self._unshared.add(live.spi_in)
        self._bound_by_mode(live)

    def _skip_unfinished(self) -> None:
        """Nobody is the owner any more: whoever is the next begins above the lanes that were still to be skipped."""
        for spi_in, lanes in self._behind.items():
            live = self.lives[spi_in]
            live.child.out_ceiling += lanes * lane_width(live.esn)
        self._behind.clear()
        if self._above_lanes:
            for spi_in in self.lives:
                self._settled[spi_in] = self._above_lanes

    def share(self, spi_in: int) -> None:
        """The record is about to be encoded for a backup that joins: it is to say all that the backup has to know when
        it is in sync, so that little is left to be told in the end."""
        found = self._installed.get(spi_in)
        if found is None or not self.active:
            return
        live = self.lives.get(spi_in)
        if live is None:
            if self._above_lanes:
                self._settle(found[1])
        elif spi_in in self._behind:
            self._catch_up(live)
        self._unshared.discard(spi_in)

    # --- the end of a join

    def lease_in_parts(self, spis: Iterator[int]) -> Iterator[list[LeaseEntry]]:
        """A backup that joins has all records: from now on numbers are bounded by what it knows.  Each item is what it
        has to be told before it is in sync, at the moment at which it is asked for; with the last one all is done.

        ``spis``: inbound SPIs of all child SAs, and of those that may come of exchanges under way.  Whoever gives up on
        it says ``set_leasing``.
        """
        self._unshared |= self._unacknowledged
        self._unacknowledged = set()
        self._returning.clear()
        self._leave_behind(0)
        self.leasing = Leasing.LEASED
        yield from self._settle_in_parts(spis)
        while self._behind or self._unshared:
            yield self._lease_part()

    def _lease_part(self) -> list[LeaseEntry]:
        for spi_in in list(islice(reversed(self._behind), self.part)):
            self._catch_up(self.lives[spi_in])
        told = [self._unshared.pop() for _ in range(min(self.part, len(self._unshared)))]
        return [self._entry(spi_in, False) for spi_in in told]

    def _settle_in_parts(self, spis: Iterator[int]) -> Iterator[list[LeaseEntry]]:
        """After a takeover above the lanes, SAs that no packet has touched yet, octets or not: their records say so,
        too, before an SA comes into use without a look at the lanes."""
        if not self._above_lanes:
            return
        for first in spis:
            yield self._settle_part(chain((first,), spis))
        gone = self._settled.take_all()
        self._above_lanes = 0
        while gone:
            if len(gone.pop()) > LOOKED_PER_PART:  # letting go of a large one takes a moment
                yield []

    def _settle_part(self, spis: Iterator[int]) -> list[LeaseEntry]:
        told: list[LeaseEntry] = []
        for spi_in in islice(spis, LOOKED_PER_PART):
            if spi_in in self.lives or self._settled.get(spi_in) == self._above_lanes:
                continue
            found = self._installed.get(spi_in)
            if found is None:
                told.append(self._settle_offer(spi_in))
            else:
                self._settle(found[1])
                told.append(self._entry(spi_in, False))
            if len(told) == self.settled_part:
                break
        return told

    def _settle_offer(self, spi_in: int) -> LeaseEntry:
        """A rival may have made a child SA of an exchange that is still under way here: whoever makes it now, we or
        the backup, begins above our lanes."""
        self.apply_leases((LeaseEntry(spi_in, 0, FIRST_OUT_CEILING + self._above_lanes * LANE_ESN),))
        return self._early[spi_in]

    # --- one SA

    def _bound_by_mode(self, live: LiveSa) -> None:
        child = live.child
        live.lane_start = 0
        live.must_rekey_done = False
        live.out_lease.end = live.end
        if self.leasing is not Leasing.LEASED:
            if self.leasing is Leasing.LANE:
                width = lane_width(live.esn)
                live.lane_start = child.out_ceiling + width // 2
                live.out_lease.end = min(live.end, child.out_ceiling + width)
            live.in_lease.restart(child.in_ceiling)
            live.out_lease.restart(child.out_ceiling)
            return
        unknown = live.spi_in in self._unacknowledged
        live.in_lease.restart(-1 if unknown else live.in_lease.limit)
        live.out_lease.restart(-1 if unknown else live.out_lease.limit)
        asked = LeaseEntry(live.spi_in, live.in_lease.asked, live.out_lease.asked)
        if self.active and self._raise(asked):  # else the SAs of a former ownership, whose records are the owner's
            self._unshared.add(live.spi_in)
        self._look_again(live, 0.0)
        if unknown or live.held_in or live.held_out:
            self._want(live.spi_in)
