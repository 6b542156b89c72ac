"""How far the sequence numbers of installed child SAs may go: what is asked of the backup, what it has acknowledged,
and what the record says of it.

The packet path asks ``may_send`` and ``may_deliver`` when a number is above its lease's mark; what the backup does not
know yet waits in bounded queues.  Which of the three modes holds, and what a change of ownership means for the numbers,
is decided in ``ipsec.sad``.

Giving back.  After a burst an inbound ceiling stands far ahead of a slow flow, and a failover would refuse all numbers
up to it.  So SAs whose inbound leases were extended are looked at again a moment later, and what is not needed is given
back.  At the moment at which the request is made, the lower ceiling becomes the owner's limit and stands in its record;
the request itself goes into the ordered stream, and the backup lowers its own when it comes to it.  Nothing above is
delivered until a request made *after* that has been granted: acknowledgements of earlier ones, which may name higher
ceilings, count for nothing inbound (``LeaseEntry.serial``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from ipsecha.ipsec.leases import CHANNEL_BUDGET, LeaseBudget
from ipsecha.ipsec.live import LiveSa
from ipsecha.model.leases import Leasing
from ipsecha.model.records import Address, ChildSa, IkeSa, LeaseEntry

HOLD_LIMIT = 512  # packets of one SA and direction that wait for a lease
HOLD_LIMIT_TOTAL = 16384

REVIEW_S = 1.0
"""So long after an inbound lease was extended it is looked at whether that was too much."""

REVIEWS_PER_CALL = 1024


class PlaneEvents(Protocol):
    """What the data plane tells the gateway; called in the middle of packet processing, so quick."""

    def soft_limit(self, spi_in: int) -> None: ...
    def hard_limit(self, spi_in: int) -> None: ...
    def acquire(self, connection: str, child: str) -> None: ...
    def peer_moved(self, spi_in: int, remote: Address) -> None: ...
    def traffic_in(self, spis_in: list[int]) -> None: ...
    def must_rekey(self, spi_in: int) -> None: ...
    def unknown_spi(self, spi: int, remote: Address) -> None: ...
    def leases_wanted(self) -> None: ...
    def child_used(self, spi_in: int) -> None: ...
    def gap_traffic(self, spi_in: int, refused: int, remaining: int) -> None: ...
    def gap_closed(self, spi_in: int) -> None: ...


class Ceilings:
    """The leases of all child SAs, by inbound SPI."""

    def __init__(self, events: PlaneEvents, channel_budget: int = CHANNEL_BUDGET) -> None:
        self.events = events
        self.lives: dict[int, LiveSa] = {}
        self.leasing = Leasing.LEASED
        self.budget = LeaseBudget(channel_budget)
        self.held = 0  # packets that wait for a lease
        self._installed: dict[int, tuple[IkeSa, ChildSa]] = {}
        self._wanting: set[int] = set()
        self._behind: dict[int, int] = {}  # SAs in use whose mode is not the present one yet: lanes to skip then
        self._unshared: set[int] = set()  # ceilings raised without a backup
        self._unacknowledged: set[int] = set()  # of those, what the present backup has not yet acknowledged
        self._early: dict[int, LeaseEntry] = {}  # ceilings of child SAs whose records are still on their way, or octets
        self._reviews: deque[tuple[float, int]] = deque()  # when to look at the inbound lease of which SA, in order
        self._returning: set[int] = set()  # SAs that are to give numbers back with the next requests
        self._serial = 0  # of the last requests
        self._valid_from: dict[int, int] = {}  # serial from which on grants count inbound, of SAs that gave back
        self._former: dict[int, int] = {}  # what stood in the record before, until the backup is known to have heard

    def may_send(self, live: LiveSa, now: float) -> bool:
        """Whether ``next_out`` may be used; called when it is above the lease's mark, and asks for more there.

        ``next_out`` may have moved on afterwards: an SA that is behind first skips its lanes.
        """
        if live.spi_in in self._behind:
            self._catch_up(live)
        number = live.next_out
        if number > live.soft_number and not live.soft_done:
            live.soft_done = True
            self.events.soft_limit(live.spi_in)
        if number > live.end:
            self.exhausted(live)
            return False
        lease = live.out_lease
        if lease.wants_more(number):
            ceiling = lease.request(number, now, self.budget.widening)
            self._extend(live, outbound=ceiling)
        if live.lane_start and number > live.lane_start and not live.must_rekey_done:
            live.must_rekey_done = True
            self.events.must_rekey(live.spi_in)
        if number > lease.bound:
            self._note_use(live.spi_in)
        return number <= lease.limit

    def may_deliver(self, live: LiveSa, number: int, now: float) -> bool:
        """The same for an inbound number, whose packet has passed the integrity check."""
        if live.spi_in in self._behind:
            self._catch_up(live)
        lease = live.in_lease
        if lease.wants_more(number):
            self._extend(live, inbound=lease.request(number, now, self.budget.widening))
            self._look_again(live, now + REVIEW_S)
        if number > lease.bound:
            self._note_use(live.spi_in)
        return number <= lease.limit

    def exhausted(self, live: LiveSa) -> None:
        """The SA can carry no more: once an event, then only drops (RFC 4303 section 3.3.3)."""
        if not live.hard_done:
            live.hard_done = True
            self.events.hard_limit(live.spi_in)

    def _extend(self, live: LiveSa, inbound: int = 0, outbound: int = 0) -> None:
        self._note_use(live.spi_in)
        if self.leasing is Leasing.LEASED:
            self._want(live.spi_in)
            return
        child = live.child
        self._unshared.add(live.spi_in)
        if inbound:
            child.in_ceiling = max(child.in_ceiling, inbound)
            if live.learns:
                child.in_known = max(child.in_known, live.window.top)
            live.in_lease.grant(child.in_ceiling)
        if outbound:
            child.out_ceiling = max(child.out_ceiling, outbound)
            live.out_lease.grant(child.out_ceiling)

    def _catch_up(self, live: LiveSa) -> None:
        """An SA that is behind passes to the present mode (``ipsec.switching``)."""

    def _note_use(self, spi_in: int) -> None:
        """A ceiling of the SA moves, or its bound is in the way (``ipsec.durable``)."""

    def _want(self, spi_in: int) -> None:
        if not self._wanting:
            self.events.leases_wanted()
        self._wanting.add(spi_in)

    def lease_requests(self, now: float) -> list[LeaseEntry]:
        """The extensions that are wanted since the last call; O(those)."""
        wanting = self._wanting
        if not wanting:
            return []
        self._wanting = set()
        self._serial += 1
        lowered = self._give_back(now)
        self.budget.note(len(wanting), now)
        return [self._entry(spi_in, spi_in in lowered) for spi_in in wanting]

    def _entry(self, spi_in: int, lowers: bool) -> LeaseEntry:
        child = self._installed[spi_in][1]
        live = self.lives.get(spi_in)
        inbound, outbound, known = child.in_ceiling, child.out_ceiling, child.in_known
        if live is not None:
            inbound = max(inbound, live.in_lease.requested)
            outbound = max(outbound, live.out_lease.requested)
            if live.learns:
                known = max(known, live.window.top)
        return LeaseEntry(spi_in, inbound, outbound, lowers, known, self._serial)

    # --- giving back

    def _look_again(self, live: LiveSa, when: float) -> None:
        if self.leasing is Leasing.LEASED and not live.under_review:
            live.under_review = True
            self._reviews.append((when, live.spi_in))

    def review(self, now: float) -> None:
        """Let SAs give back what they no longer need; bounded work a call."""
        reviews = self._reviews
        for _ in range(REVIEWS_PER_CALL):
            if not reviews or reviews[0][0] > now:
                break
            live = self.lives.get(reviews.popleft()[1])
            if live is None or not live.under_review or self.leasing is not Leasing.LEASED:
                continue
            live.under_review = False
            if live.in_lease.spare(live.window.top, live.floor, now, self.budget.widening) is not None:
                self._returning.add(live.spi_in)
                self._want(live.spi_in)
            elif live.in_lease.is_long(live.window.top):
                self._look_again(live, now + REVIEW_S)

    def _give_back(self, now: float) -> set[int]:
        """The SAs that deliver nothing above a lower ceiling from now on; the backup is told in these very requests."""
        returning, self._returning = self._returning, set()
        lowered = set()
        for spi_in in returning:
            live = self.lives.get(spi_in)
            if live is None or live.held_in or spi_in in self._behind:
                continue
            ceiling = live.in_lease.give_back(live.window.top, live.floor, now, self.budget.widening)
            if ceiling is not None:
                child = self._installed[spi_in][1]
                self._former[spi_in] = max(self._former.get(spi_in, 0), child.in_ceiling)
                child.in_ceiling = ceiling
                self._valid_from[spi_in] = self._serial
                lowered.add(spi_in)
        return lowered

    def _counts_inbound(self, entry: LeaseEntry) -> bool:
        """Whether a granted entry was asked for after the SA last gave numbers back."""
        valid_from = self._valid_from.get(entry.spi_in)
        if valid_from is None:
            return True
        if entry.serial < valid_from:
            return False
        del self._valid_from[entry.spi_in]  # acknowledgements come in order: nothing earlier is under way
        self._former.pop(entry.spi_in, None)
        return True

    # --- what is granted

    def grant(self, entries: Iterable[LeaseEntry]) -> list[LiveSa]:
        """The backup has acknowledged these ceilings: the SAs whose packets were held."""
        released = []
        for entry in entries:
            if not self._counts_inbound(entry):
                entry = LeaseEntry(entry.spi_in, 0, entry.out_ceiling)
            self._acknowledged(entry)
            self._raise(entry)
            live = self.lives.get(entry.spi_in)
            if live is None:
                continue
            live.in_lease.grant(entry.in_ceiling)
            live.out_lease.grant(entry.out_ceiling)
            if live.held_in or live.held_out:
                released.append(live)
        return released

    def apply_leases(self, entries: Iterable[LeaseEntry]) -> None:
        """A backup learns the owner's ceilings, those of SAs whose records are still on their way, or octets, too."""
        for entry in entries:
            if entry.spi_in not in self._installed:  # nor is it to be thawed for this
                early = self._early.get(entry.spi_in)
                self._early[entry.spi_in] = entry if early is None else _folded(early, entry)
            else:
                self._apply(self._installed[entry.spi_in][1], entry)

    def _apply(self, child: ChildSa, entry: LeaseEntry) -> None:
        if entry.lowers:
            child.in_ceiling = entry.in_ceiling
        self._raise(entry)

    def _acknowledged(self, entry: LeaseEntry) -> None:
        """Ceilings raised without a backup are known to this one once an entry covers them."""
        found = self._installed.get(entry.spi_in)
        if found is not None and (
            entry.in_ceiling >= found[1].in_ceiling and entry.out_ceiling >= found[1].out_ceiling
        ):
            self._unacknowledged.discard(entry.spi_in)

    def _raise(self, entry: LeaseEntry) -> bool:
        """Raise the ceilings in the record to at least these: whether that changed them."""
        found = self._installed.get(entry.spi_in)
        if found is None:
            return False
        child = found[1]
        child.in_known = max(child.in_known, entry.known)
        if entry.in_ceiling <= child.in_ceiling and entry.out_ceiling <= child.out_ceiling:
            return False
        child.in_ceiling = max(child.in_ceiling, entry.in_ceiling)
        child.out_ceiling = max(child.out_ceiling, entry.out_ceiling)
        return True

    def room_to_hold(self, waiting: int) -> bool:
        """Whether one more packet may wait for a lease, ``waiting`` of its SA being there already."""
        if waiting < HOLD_LIMIT and self.held < HOLD_LIMIT_TOTAL:
            self.held += 1
            return True
        return False


def _folded(before: LeaseEntry, entry: LeaseEntry) -> LeaseEntry:
    """One entry that does what the two do, one after the other."""
    return LeaseEntry(
        entry.spi_in,
        entry.in_ceiling if entry.lowers else max(before.in_ceiling, entry.in_ceiling),
        max(before.out_ceiling, entry.out_ceiling),
        before.lowers or entry.lowers,
        max(before.known, entry.known),
    )
