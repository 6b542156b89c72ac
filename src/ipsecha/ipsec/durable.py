"""How far sequence numbers may go where SAs are saved: never beyond what the file says (``cluster.journal``).

A cluster that comes back after a power failure goes on beyond the *bounds* in its file.  So each child SA whose record
has been saved has a pair of them, well ahead of its ceilings, and they hold in every mode of leasing, with a backup and
without: a bound is the end of the SA's lease.  A first bound holds from the moment at which it is written; one that
replaces it only once it has been written for good.  An SA that reaches half of the reserve is noted in passing, so that
whoever saves looks at the busy ones only.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipsecha.ipsec.ceilings import Ceilings, PlaneEvents
from ipsecha.ipsec.leases import CHANNEL_BUDGET
from ipsecha.ipsec.live import LiveSa
from ipsecha.model.leases import lane_width
from ipsecha.model.records import ChildSa

INBOUND_RESERVE = 4096
INBOUND_RESERVE_S = 30.0
"""What a power failure costs an SA at most, in numbers, or at its rate; until it is rekeyed."""

OUTBOUND_RESERVE = 1 << 18


class Durable(Ceilings):
    """Bounds of child SAs by inbound SPI; None while nothing is saved."""

    def __init__(self, events: PlaneEvents, channel_budget: int = CHANNEL_BUDGET) -> None:
        super().__init__(events, channel_budget)
        self.bounds: dict[int, tuple[int, int]] | None = None
        self._moved: set[int] = set()  # SAs whose ceilings have moved since the last write
        self._above_lanes = 0  # that SAs which no packet has touched yet will skip

    def begin_saving(self) -> None:
        """A new file begins: no record is in it."""
        self.end_saving()
        self.bounds = {}

    def end_saving(self) -> list[LiveSa]:
        """Nothing is saved any more, and nothing of it counts: the SAs whose packets were held."""
        self.bounds = None
        self._moved.clear()
        return self._rebound(self.lives)

    def bounds_to_write(self, saved_now: Iterable[ChildSa], now: float) -> list[tuple[int, int, int]]:
        """The bounds that are to be in the next write: of child SAs whose records are in it for the first time
        (``saved_now``), for which they hold at once, and of those that come near theirs."""
        bounds = self.bounds
        if bounds is None:
            return []
        wanted = []
        for child in saved_now:
            if child.spi_in not in bounds:
                bounds[child.spi_in] = self._ahead(child, now)
                self._rebound((child.spi_in,))
                wanted.append((child.spi_in, *bounds[child.spi_in]))
        moved, self._moved = self._moved, set()
        for spi_in in moved:
            live, bound = self.lives.get(spi_in), bounds.get(spi_in)
            if live is not None and bound is not None and self._is_near(live.child, bound):
                inbound, outbound = self._ahead(live.child, now)
                wanted.append((spi_in, max(bound[0], inbound), max(bound[1], outbound)))
        return wanted

    def bounds_of(self, children: Iterable[ChildSa]) -> list[tuple[int, int, int]]:
        """Those that hold now."""
        bounds = self.bounds or {}
        return [(child.spi_in, *bounds[child.spi_in]) for child in children if child.spi_in in bounds]

    def bounds_written(self, written: Iterable[tuple[int, int, int]]) -> list[LiveSa]:
        """These bounds are on the disk for good: the SAs whose packets were held."""
        if self.bounds is None:
            return []
        raised = []
        for spi_in, inbound, outbound in written:
            before = self.bounds.get(spi_in)
            if before is not None and (inbound, outbound) != before:
                self.bounds[spi_in] = (max(before[0], inbound), max(before[1], outbound))
                raised.append(spi_in)
        return self._rebound(raised)

    def forget_bound(self, spi_in: int) -> None:
        if self.bounds is not None:
            self.bounds.pop(spi_in, None)
            self._moved.discard(spi_in)

    def bind(self, live: LiveSa) -> None:
        """An SA comes into use, or its leases begin anew: its bounds end them."""
        if self.bounds is None:
            return
        bound = self.bounds.get(live.spi_in)
        if bound is not None:
            live.in_lease.bind(bound[0])
            live.out_lease.bind(bound[1])
            self._moved.add(live.spi_in)

    def _note_use(self, spi_in: int) -> None:
        """A ceiling of the SA moves."""
        if self.bounds is not None:
            self._moved.add(spi_in)

    def _rebound(self, spis_in: Iterable[int]) -> list[LiveSa]:
        held = []
        for spi_in in spis_in:
            live = self.lives.get(spi_in)
            if live is not None:
                bound = None if self.bounds is None else self.bounds.get(spi_in)
                live.in_lease.bind(None if bound is None else bound[0])
                live.out_lease.bind(None if bound is None else bound[1])
                if live.held_in or live.held_out:
                    held.append(live)
        return held

    def _reached(self, child: ChildSa) -> tuple[int, int]:
        """The highest numbers that may be in use, or are asked for; ``child`` may be a copy of what is octets, and then
        does not know of the leases that came behind its record."""
        live = self.lives.get(child.spi_in)
        if live is None:
            inbound, outbound = child.in_ceiling, child.out_ceiling
            early = self._early.get(child.spi_in)
            if early is not None:
                inbound, outbound = max(inbound, early.in_ceiling), max(outbound, early.out_ceiling)
            return inbound, outbound + self._above_lanes * lane_width(child.suite.esn)
        inbound = max(child.in_ceiling, live.in_lease.requested)
        return inbound, max(child.out_ceiling, live.out_lease.requested, live.next_out)

    def _ahead(self, child: ChildSa, now: float) -> tuple[int, int]:
        inbound, outbound = self._reached(child)
        live = self.lives.get(child.spi_in)
        rate = 0.0 if live is None else live.in_lease.rate(live.window.top, now)
        return inbound + max(INBOUND_RESERVE, int(rate * INBOUND_RESERVE_S)), outbound + OUTBOUND_RESERVE

    def _is_near(self, child: ChildSa, bound: tuple[int, int]) -> bool:
        inbound, outbound = self._reached(child)
        return inbound > bound[0] - INBOUND_RESERVE // 2 or outbound > bound[1] - OUTBOUND_RESERVE // 2
