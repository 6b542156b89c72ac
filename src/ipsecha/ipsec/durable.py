"""How far sequence numbers may go where SAs are saved: never beyond what the file says (``cluster.journal``).

A cluster that comes back after a power failure goes on beyond the *bounds* in its file.  So each child SA whose record
has been saved has a pair of them, well ahead of its ceilings, and they hold in every mode of leasing, with a backup and
without: a lease is neither used nor asked for beyond them.  A first bound holds from the moment at which it is written;
one that replaces it only once it has been written for good.  An SA that reaches half of the reserve is noted in
passing, so that whoever saves looks at the busy ones only.

A new owner's numbers are beyond what the file of the one before says, and until its own marker is on the disk that file
might still be believed.  Nobody waits for the marker: until then each SA has a *margin* above its ceilings, and whoever
comes back with a file starts above the margins, too (``model.leases.RESTORED_IN``, ``lanes.RESTORED``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from ipsecha.ipsec.ceilings import Ceilings, PlaneEvents
from ipsecha.ipsec.leases import CHANNEL_BUDGET
from ipsecha.ipsec.live import LiveSa
from ipsecha.model.leases import MARGIN_IN, MARGIN_OUT, lane_width
from ipsecha.model.records import ChildSa
from ipsecha.model.shards import Sharded

RESERVE_S = 30.0
INBOUND_RESERVE = 4096
OUTBOUND_RESERVE = 1 << 18
"""A bound is so far ahead at least, and as far as an SA comes in ``RESERVE_S``.  Inbound that is what a power failure
costs an SA, until it is rekeyed."""

LOOKED_PER_WRITE = 2048
"""SAs that may have come near their bounds, and are looked at in one turn: at most some 7 ms."""

LARGEST_RESERVE = 1 << 24
"""Whatever the rate seems to be: a peer may skip numbers."""

Bounds = tuple[int, int]


class Durable(Ceilings):
    """Bounds of child SAs by inbound SPI; None while nothing is being saved."""

    def __init__(self, events: PlaneEvents, channel_budget: int = CHANNEL_BUDGET) -> None:
        super().__init__(events, channel_budget)
        self.bounds: dict[int, Bounds] | None = None
        self.unmarked = False  # an older owner's file may still be believed
        self._margins: dict[int, Bounds | None] = {}  # while that is so; None: no older owner knows the SA
        self._under_way: dict[int, Bounds] = {}  # in the present write
        self._moved: set[int] = set()  # SAs whose ceilings have moved since they were last looked at
        self._looking: list[int] = []  # of those, which are looked at in this round
        self._above_lanes = 0  # that SAs which no packet has touched yet will skip
        self._settled = Sharded[int]()  # of those, what records not in use yet have skipped already
        self._own: set[int] = set()  # installed by this owner itself and not used yet: no number is spent
        self._near: Callable[[], None] = _nobody

    # Whether there are bounds

    def await_marker(self) -> list[LiveSa]:
        """The ownership has changed, and the disk does not know: the SAs whose packets were held."""
        if self.unmarked:
            return []  # margins do not grow by being asked for twice
        self.end_saving()
        self.unmarked = True
        return self._rebound(self.lives)

    def marked(self) -> None:
        """The disk knows that we are a backup; should we take over, it will have to learn that, too."""
        self._margins.clear()

    def begin_saving(self, near: Callable[[], None]) -> list[LiveSa]:
        """A new file begins: no record is in it.  ``near``: called when an SA comes near its bound.  Gives the SAs
        whose packets were held."""
        self._forget()
        self.bounds = {}
        self._near = near
        return self._rebound(self.lives)

    def end_saving(self) -> list[LiveSa]:
        """Nothing is saved any more, and nothing of it counts: the SAs whose packets were held."""
        self._forget()
        return self._rebound(self.lives)

    def _forget(self) -> None:
        self.bounds, self.unmarked, self._near = None, False, _nobody
        self._margins.clear()
        self._under_way.clear()
        self._moved.clear()
        self._looking.clear()

    # What is written

    def bounds_to_write(self, saved_now: Iterable[ChildSa], now: float) -> list[tuple[int, int, int]]:
        """The bounds that are to be in the next write: of child SAs whose records are in it for the first time
        (``saved_now``), for which they hold at once, and of those that come near theirs.

        Of ten thousand busy SAs only some are looked at in one turn: ``bounds_left``."""
        bounds = self.bounds
        if bounds is None:
            return []
        wanted = []
        for child in saved_now:
            if child.spi_in not in bounds:
                bounds[child.spi_in] = self._ahead(child, now)
                self._rebound((child.spi_in,))
                wanted.append((child.spi_in, *bounds[child.spi_in]))
        if not self._looking:
            self._looking, self._moved = list(self._moved), set()
        part = self._looking[-LOOKED_PER_WRITE:]
        del self._looking[-LOOKED_PER_WRITE:]
        for spi_in in part:
            live, bound = self.lives.get(spi_in), bounds.get(spi_in)
            if live is not None and bound is not None and self._is_near(live, bound, now):
                inbound, outbound = self._ahead(live.child, now)
                raised = self._under_way[spi_in] = max(bound[0], inbound), max(bound[1], outbound)
                wanted.append((spi_in, *raised))
        return wanted

    @property
    def bounds_left(self) -> bool:
        """Whether there are more SAs to look at, for one more write."""
        return bool(self._looking)

    def bounds_of(self, children: Iterable[ChildSa]) -> list[tuple[int, int, int]]:
        """Those that hold now."""
        bounds = self.bounds or {}
        return [(child.spi_in, *bounds[child.spi_in]) for child in children if child.spi_in in bounds]

    def bounds_written(self) -> list[LiveSa]:
        """The last write is on the disk for good: the SAs whose packets were held."""
        raised, self._under_way = self._under_way, {}
        if self.bounds is None:
            return []
        self.bounds.update(raised)
        return self._rebound(raised)

    def rekey_near(self, now: float) -> None:
        """The disk takes nothing any more, and may still hold what it had: SAs that come near their bounds are rekeyed,
        for it does not know the new ones."""
        for spi_in in chain(self._looking, self._moved):
            live = self.lives.get(spi_in)
            bound = None if live is None else self._bounds_of(live.child)
            if live is None or bound is None or live.must_rekey_done:
                continue
            if self._is_near(live, bound, now):
                live.must_rekey_done = True
                self.events.must_rekey(spi_in)

    # What holds

    def bind(self, live: LiveSa) -> None:
        """An SA comes into use: its bounds end its leases."""
        bounds = self._bounds_of(live.child)
        if bounds is not None:
            live.in_lease.bind(bounds[0])
            live.out_lease.bind(bounds[1])
            self._note_use(live.spi_in)

    def forget_bound(self, spi_in: int) -> None:
        for kept in (self.bounds, self._margins, self._under_way):
            if kept is not None:
                kept.pop(spi_in, None)
        self._moved.discard(spi_in)

    def _born(self, child: ChildSa) -> None:
        """A child SA of this owner's own making: no file has it.

        It is ours alone, unless its exchange was under way when a rival went on with the same records: then the rival
        may have made it, too, with the same keys.  So it skips the lanes that all others skip, for as long as a backup
        that is in sync has not been told of them (``ipsec.switching``).
        """
        self._own.add(child.spi_in)
        if self.unmarked:
            self._margins[child.spi_in] = None
        if self._above_lanes:
            self._settle(child)
            self._unshared.add(child.spi_in)  # a join that is about to end tells it, too

    def _lanes_to_skip(self, child: ChildSa) -> int:
        """Numbers that a child SA not in use yet has still to skip."""
        return (self._above_lanes - self._settled.get(child.spi_in, 0)) * lane_width(child.suite.esn)

    def _settle(self, child: ChildSa) -> None:
        child.out_ceiling += self._lanes_to_skip(child)
        self._settled[child.spi_in] = self._above_lanes

    def _bounds_of(self, child: ChildSa) -> Bounds | None:
        if self.bounds is not None:
            return self.bounds.get(child.spi_in)
        if not self.unmarked:
            return None
        if child.spi_in not in self._margins:
            self._margins[child.spi_in] = child.in_ceiling + MARGIN_IN, child.out_ceiling + MARGIN_OUT
        return self._margins[child.spi_in]

    def _note_use(self, spi_in: int) -> None:
        if self.bounds is None:
            if self.unmarked:
                self._moved.add(spi_in)
            return
        self._moved.add(spi_in)
        bound, live = self.bounds.get(spi_in), self.lives.get(spi_in)
        if bound is not None and live is not None and spi_in not in self._under_way:
            inbound, outbound = self._reached(live.child)
            if inbound > bound[0] - INBOUND_RESERVE // 2 or outbound > bound[1] - OUTBOUND_RESERVE // 2:
                self._near()

    def _skip_margin(self, live: LiveSa, lanes: int) -> None:
        """Numbers go on so many lanes further, and so does the margin: whoever comes back leaves room for that."""
        margin = self._margins.get(live.spi_in)
        if margin is not None:
            margin = self._margins[live.spi_in] = margin[0], margin[1] + lanes * lane_width(live.esn)
            live.out_lease.bind(margin[1])

    def _rebound(self, spis_in: Iterable[int]) -> list[LiveSa]:
        held = []
        for spi_in in spis_in:
            live = self.lives.get(spi_in)
            if live is not None:
                inbound, outbound = self._bounds_of(live.child) or (None, None)
                live.in_lease.bind(inbound)
                live.out_lease.bind(outbound)
                if live.held_in or live.held_out:
                    held.append(live)
        return held

    def _reached(self, child: ChildSa) -> Bounds:
        """The highest numbers that may be in use, or are asked for, or were."""
        live = self.lives.get(child.spi_in)
        if live is None:
            skipped = self._lanes_to_skip(child)
            early = self._early.get(child.spi_in)  # of a record that is octets: they do not have its last ceilings
            if early is None:
                return child.in_ceiling, child.out_ceiling + skipped
            return max(child.in_ceiling, early.in_ceiling), max(child.out_ceiling, early.out_ceiling) + skipped
        inbound, outbound = live.in_lease, live.out_lease
        return (
            max(child.in_ceiling, inbound.requested, inbound.asked),
            max(child.out_ceiling, outbound.requested, outbound.asked, live.next_out),
        )

    def _reserves(self, spi_in: int, now: float) -> Bounds:
        live = self.lives.get(spi_in)
        if live is None:
            return INBOUND_RESERVE, OUTBOUND_RESERVE
        inbound = live.in_lease.rate(live.window.top, now) * RESERVE_S
        outbound = live.out_lease.rate(live.next_out, now) * RESERVE_S
        return (
            max(INBOUND_RESERVE, min(int(inbound), LARGEST_RESERVE)),
            max(OUTBOUND_RESERVE, min(int(outbound), LARGEST_RESERVE)),
        )

    def _ahead(self, child: ChildSa, now: float) -> Bounds:
        inbound, outbound = self._reached(child)
        more_in, more_out = self._reserves(child.spi_in, now)
        return inbound + more_in, outbound + more_out

    def _is_near(self, live: LiveSa, bound: Bounds, now: float) -> bool:
        """Whether half of the reserve is used."""
        inbound, outbound = self._reached(live.child)
        more_in, more_out = self._reserves(live.spi_in, now)
        return inbound > bound[0] - more_in // 2 or outbound > bound[1] - more_out // 2


def _nobody() -> None:
    """Nothing is saved, and nobody is to be told."""
