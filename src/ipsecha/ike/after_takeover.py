"""What a new owner does for its child SAs in the background: it closes inbound gaps, and rekeys (RFC 6027 section 3.5).

The data plane tells which child SAs get packets that it has to refuse, since the owner before may have delivered them
(``gap_traffic``), and when that is over.  Where the peer supports it, it is asked to jump over the gap (RFC 6311,
IPSEC_REPLAY_COUNTER_SYNC: a round trip); else, with ``inbound = "rekey"`` or after a restart from saved state, the
child SA is rekeyed, since a new one has no gap.  With ``rekey_after_failover`` every child SA that the owner before has
had is rekeyed after that.

Never a storm: exchanges begin at a fixed rate, the child SAs with most traffic first, and no more than MAX_UNDER_WAY
wait for an answer.  Nothing here is replicated: who takes over next sees the gaps that there are then.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

from ipsecha.ike import message_sync, window
from ipsecha.ike.flags import LEAVING, REPLAY_COUNTER_SYNC
from ipsecha.model.policy import Inbound
from ipsecha.model.records import ChildSa, ChildState, ExchangeKind, IkeSa, Task

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

MAX_UNDER_WAY = 16
POLL_S = 0.1
SETTLE_S = 2.0
"""Child SAs without a gap wait for so long, so that by then it is known which have traffic."""

_STARTS_PER_CALL = 64
_SYNC, _REKEY = int(ExchangeKind.COUNTER_SYNC), int(ExchangeKind.REKEY_CHILD)


class Progress(NamedTuple):
    """Child SAs by what has become of them since the takeover; ``closed``: the gap was over before their turn came."""

    waiting: int = 0
    under_way: int = 0
    synchronised: int = 0
    rekeyed: int = 0
    failed: int = 0
    closed: int = 0


class AfterTakeover:
    """The child SAs that wait, by traffic, and those whose exchanges are under way."""

    def __init__(self) -> None:
        self._wide_gaps = self._expects_wide_gaps = False
        self._clear()

    def _clear(self) -> None:
        self._heat: dict[int, int] = {}  # packets seen, by inbound SPI, of child SAs that wait
        self._remaining: dict[int, int] = {}  # numbers of the gap that the peer still has before it
        # -heat and SPI, of those with a gap and of the others; an entry that is not up to date counts for nothing
        self._gaps: list[tuple[int, int]] = []
        self._heap: list[tuple[int, int]] = []
        self._rest: list[int] | None = None  # child SAs to be rekeyed after those with traffic; None: not listed yet
        self._made: set[int] = set()  # child SAs that we have made ourselves, as long as others wait
        self._rekey_all = False
        self._settled_at = 0.0
        self._under_way: dict[int, int] = {}  # kind of the exchange, by inbound SPI
        self._next_at = 0.0
        self.synchronised = self.rekeyed = self.failed = self.closed = 0

    def expect_wide_gaps(self) -> None:
        """The SAs come from a disk: when we become the owner, the gaps are too wide to wait for their end."""
        self._expects_wide_gaps = True

    def begin(self, endpoint: IkeEndpoint, now: float, failover: bool) -> None:
        """We are the owner now; ``failover``: after the owner before was lost, not as planned.  O(1)."""
        self._clear()
        self._wide_gaps, self._expects_wide_gaps = self._expects_wide_gaps, False
        self._rekey_all = failover and endpoint.policy.after_failover.rekey_all
        self._settled_at = now + SETTLE_S

    def end(self) -> None:
        """We are no longer the owner."""
        self._clear()

    @property
    def progress(self) -> Progress:
        waiting = len(self._heat) + len(self._rest or ())
        return Progress(waiting, len(self._under_way), self.synchronised, self.rekeyed, self.failed, self.closed)

    # What the data plane says

    def gap_traffic(self, endpoint: IkeEndpoint, spi_in: int, refused: int, remaining: int) -> None:
        """So many authentic packets of a child SA have been refused since the takeover."""
        sa = endpoint.sa_of_child(spi_in)
        if sa is None or spi_in in self._under_way or not self._can_help(endpoint, sa):
            return
        self._remaining[spi_in] = remaining
        self._heated(spi_in, refused, endpoint.now)

    def made(self, spi_in: int) -> None:
        """This child SA is ours from its beginning: there is nothing to make good."""
        if self._rekey_all and (self._waits or self._under_way):
            self._made.add(spi_in)

    def gap_closed(self, spi_in: int) -> None:
        """The peer's numbers are beyond the gap: there is no hurry any more."""
        if self._heat.pop(spi_in, None) is not None:
            self._remaining.pop(spi_in, None)
            if self._rekey_all and self._rest is not None:
                self._rest.append(spi_in)
            else:
                self.closed += not self._rekey_all

    def traffic_seen(self, spi_in: int, now: float) -> None:
        """A child SA without a gap receives: where all are to be rekeyed it comes before those that do not."""
        if self._rekey_all and self._rest is None and spi_in not in self._under_way:
            self._heated(spi_in, self._heat.get(spi_in, 0) + 1, now)

    def _heated(self, spi_in: int, heat: int, now: float) -> None:
        if not self._heat and not self._under_way:
            self._next_at = max(self._next_at, now)
        self._heat[spi_in] = heat
        heapq.heappush(self._gaps if spi_in in self._remaining else self._heap, (-heat, spi_in))

    def _can_help(self, endpoint: IkeEndpoint, sa: IkeSa) -> bool:
        if self._rekey_all or self._wide_gaps or sa.flags & REPLAY_COUNTER_SYNC:
            return True
        connection = endpoint.connection_of(sa)
        return connection is not None and connection.inbound is Inbound.REKEY

    # The exchanges

    def next_timer(self) -> float | None:
        """When ``run`` has something to do."""
        if self._under_way and (len(self._under_way) >= MAX_UNDER_WAY or not self._waits):
            return self._next_at + POLL_S
        if self._heat and self._remaining:
            return self._next_at
        return max(self._next_at, self._settled_at) if self._waits else None

    @property
    def _waits(self) -> bool:
        return bool(self._heat or self._rest or (self._rekey_all and self._rest is None))

    def run(self, endpoint: IkeEndpoint, now: float) -> None:
        """Begin what is due, inside a step."""
        if not (self._waits or self._under_way):
            return
        for spi_in in list(self._under_way):
            self._look_after(endpoint, spi_in)
        if self._rekey_all and self._rest is None and now >= self._settled_at:
            self._rest = [spi for spi in endpoint.child_index if spi not in self._heat and spi not in self._under_way]
        pause = 1.0 / endpoint.policy.after_failover.exchanges_per_s
        for _ in range(_STARTS_PER_CALL):
            if len(self._under_way) >= MAX_UNDER_WAY or self._next_at > now:
                break
            chosen = self._hottest(now)
            if chosen is None:
                break
            if self._start(endpoint, chosen, now):
                self._next_at = max(self._next_at, now - POLL_S) + pause
        if len(self._under_way) >= MAX_UNDER_WAY or not self._waits:
            self._next_at = max(self._next_at, now)

    def _hottest(self, now: float) -> int | None:
        """The child SA whose turn it is: those that lose packets first; the others, all of which may have traffic, wait
        until it is known how much."""
        found = self._pop(self._gaps)
        if found is None and now >= self._settled_at:
            found = self._pop(self._heap)
            if found is None and self._rest:
                found = self._rest.pop()
        return found

    def _pop(self, heap: list[tuple[int, int]]) -> int | None:
        while heap:
            heat, spi_in = heapq.heappop(heap)
            if self._heat.get(spi_in) == -heat:
                del self._heat[spi_in]
                return spi_in
        return None

    def _start(self, endpoint: IkeEndpoint, spi_in: int, now: float) -> bool:
        """Begin the exchange that helps this child SA; whether there is one."""
        remaining = self._remaining.pop(spi_in, 0)
        sa = endpoint.sa_of_child(spi_in)
        child = sa.child_by_inbound_spi(spi_in) if sa is not None else None
        if sa is None or child is None or sa.flags & LEAVING or child.state != ChildState.ESTABLISHED:
            return False
        if remaining and message_sync.start_sync(endpoint, sa, now, False, self._delta(sa, remaining)):
            self._under_way[spi_in] = _SYNC
            return True
        if spi_in in self._made and not remaining:
            return False
        connection = endpoint.connection_of(sa)
        if connection is None or not (self._rekey_all or self._wide_gaps or connection.inbound is Inbound.REKEY):
            return False
        self._under_way[spi_in] = _REKEY
        window.enqueue(endpoint, sa, Task(ExchangeKind.REKEY_CHILD, spi_in, child.name), now)
        return True

    def _delta(self, sa: IkeSa, remaining: int) -> int:
        """One request raises the numbers of all child SAs of an IKE SA: by what that with the longest gap needs."""
        return max(remaining, *(self._remaining.get(child.spi_in, 0) for child in sa.children))

    def _look_after(self, endpoint: IkeEndpoint, spi_in: int) -> None:
        """Whether an exchange is over, and with which outcome."""
        kind = self._under_way[spi_in]
        sa = endpoint.sa_of_child(spi_in)
        child = sa.child_by_inbound_spi(spi_in) if sa is not None else None
        if sa is not None and child is not None and _is_under_way(sa, child, kind):
            return
        del self._under_way[spi_in]
        if kind == _SYNC:
            self.synchronised += 1
            if self._rekey_all and self._rest is not None:
                self._rest.append(spi_in)
        elif child is None or child.state in (ChildState.REKEYED, ChildState.DELETING):
            self.rekeyed += 1
        else:
            self.failed += 1


def _is_under_way(sa: IkeSa, child: ChildSa, kind: int) -> bool:
    exchange = sa.exchange
    if kind == _SYNC:
        return any(task.kind == kind for task in sa.queue) or (exchange is not None and exchange.kind == kind)
    if exchange is not None and exchange.kind == kind and exchange.old_spi == child.spi_in:
        return True
    return any(task.kind == kind and task.spi == child.spi_in for task in sa.queue)
