"""The gateway: one member at work.

Theory of operation.  Inputs come from sockets, timers, the synch channel and the control socket; each calls into a
sans-IO part and ``wake``.  One ``turn`` then runs for all input of a turn of the event loop: IKE effects go through
output commit, lease requests to the backup, the cluster's effects change roles, feed the standby's tables or leave on
the channel; at the end the one timer is set to the earliest deadline.  Nothing here waits: what has to wait for an
acknowledgement stands in ``OutputCommit`` or in the data plane's bounded queues.

This is also the outermost ring.  What peers may cause is handled inside; should a fault of ours come up here, it is
noted (``Faults``), what it befell is lost like a packet, and everything else goes on: timers stay armed, beats go out.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ipsecha.dataplane.userspace.plane import UserspacePlane
from ipsecha.gateway.clock import ClusterClock
from ipsecha.gateway.faults import Faults
from ipsecha.gateway.lazy_commit import LazyCommit
from ipsecha.gateway.output_commit import Changes, OutputCommit
from ipsecha.gateway.report_log import ReportLog
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.effects import (
    Effect,
    InstallChild,
    Keepalive,
    RaiseOutbound,
    RemoveChild,
    Report,
    Share,
    Transmit,
    UpdateChild,
)
from ipsecha.model.leases import Leasing
from ipsecha.model.records import Address, LeaseEntry

ROUNDS = 16
"""Effects that cause effects are followed so often in one turn; what is left waits for the next turn."""

FAULT_PAUSE_S = 1.0
"""The next turn after a fault that left no deadline to wait for."""

TIMER_PAUSE_S = 0.05
"""Between a fault in a timer and the next timer."""

TRAFFIC_INTERVAL_S = 0.5
"""How often the IKE core hears which child SAs have received: liveness does not need it sooner."""


class ClusterSide(Protocol):
    """What the gateway asks of the cluster, if there is one."""

    def commit(self, changes: Changes) -> int: ...
    def extend(self, entries: Sequence[LeaseEntry], now: float) -> None: ...
    def share(self, state: bytes) -> None: ...
    def carry_out(self, now: float) -> bool:
        """Act on what the cluster core wants; whether there was anything."""

    def next_timer(self) -> float: ...
    def handle_timer(self, now: float) -> None: ...


class Gateway:
    """Ties the IKE endpoint, the data plane and the cluster together; implements the data plane's events."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: ClusterClock, endpoint: IkeEndpoint) -> None:
        self.loop = loop
        self.clock = clock
        self.endpoint = endpoint
        self.plane: UserspacePlane
        self.cluster: ClusterSide | None = None
        self.divert: Callable[[bytes, Address, Address], None] | None = None  # IKE messages during a switchover
        self.faults = Faults(loop.time)
        self.output: OutputCommit = OutputCommit(self._commit, self._carry_out)
        self._scheduled = False
        self._reading = False  # one of the data plane's readers is at work
        self._woken = False  # by what it has read
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._not_before = -math.inf
        self._leases_wanted = False
        self._plane_events: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._receiving: set[int] = set()
        self._receiving_at = -math.inf
        self._actions: dict[type, Callable[[Any], None]] = {
            Transmit: self._transmit,
            InstallChild: lambda effect: self.plane.install(effect.sa, effect.child),
            UpdateChild: lambda effect: self.plane.update(effect.sa, effect.child),
            RemoveChild: lambda effect: self.plane.remove(effect.spi_in),
            RaiseOutbound: lambda effect: self.plane.skip_outbound(effect.spi_in, effect.delta),
            Keepalive: lambda effect: self.plane.send_keepalive(effect.local, effect.remote),
            Report: ReportLog(loop.time),
            Share: self._share,
        }

    def serve_alone(self, incarnation: int) -> None:
        """A gateway without a cluster: active at once, without leases.  Raises DataPlaneError."""
        self.plane.listen()
        self.plane.set_leasing(Leasing.FREE)
        self.plane.activate(incarnation, 0)
        self.endpoint.activate(incarnation, self.clock.now())
        self.wake()

    def commit_lazily(self) -> None:
        """From the start: steps need not wait for the backup (``commit = "lazy"``)."""
        self.output = LazyCommit(self._commit, self._carry_out, self.loop.time, self._is_suspect)

    def _is_suspect(self, local_spi: bytes) -> bool:
        return local_spi in self.endpoint.suspects

    # Input

    def on_ike(self, data: bytes, local: Address, remote: Address) -> None:
        """One IKE message from a socket."""
        if self.divert is not None:
            self.divert(data, local, remote)
            return
        try:
            self.endpoint.receive(data, local, remote, self.clock.now())
        except Exception as fault:
            self.faults.note("an IKE message", fault)
            self.endpoint.end_step()
        self.wake()

    def wake(self) -> None:
        """Something has changed: have a turn at the end of this round of the event loop."""
        if self._scheduled:
            return
        if self._reading:
            self._woken = True
        else:
            self._scheduled = True
            self.loop.call_soon(self._turn)

    def read(self, reader: Callable[..., None], *arguments: Any) -> None:
        """Call one of the data plane's readers, and have the turn right behind it: answers to a batch of packets do not
        wait for another round of the event loop, which would cost as much as a tenth of an IKE message."""
        self._reading = True
        try:
            reader(*arguments)
        finally:
            self._reading = False
            if self._woken:
                self._woken = False
                self._turn()

    # The data plane's events, in the middle of its packets: noted here, heeded in the turn

    def soft_limit(self, spi_in: int) -> None:
        self._note(self.endpoint.child_soft_limit, spi_in)

    def hard_limit(self, spi_in: int) -> None:
        self._note(self.endpoint.child_hard_limit, spi_in)

    def must_rekey(self, spi_in: int) -> None:
        self._note(self.endpoint.child_soft_limit, spi_in)

    def child_used(self, spi_in: int) -> None:
        self._note(self.endpoint.traffic_seen, spi_in)

    def acquire(self, connection: str, child: str) -> None:
        self._note(self.endpoint.acquire, connection, child)

    def peer_moved(self, spi_in: int, remote: Address) -> None:
        self._note(self.endpoint.peer_moved, spi_in, remote)

    def unknown_spi(self, spi: int, remote: Address) -> None:
        self._note(self.endpoint.unknown_spi, spi, remote)

    def traffic_in(self, spis_in: list[int]) -> None:
        self._receiving.update(spis_in)

    def gap_traffic(self, spi_in: int, refused: int, remaining: int) -> None:
        self._note(self.endpoint.gap_traffic, spi_in, refused, remaining)

    def gap_closed(self, spi_in: int) -> None:
        self._note(self.endpoint.gap_closed, spi_in)

    def leases_wanted(self) -> None:
        self._leases_wanted = True
        self.wake()

    def _note(self, method: Callable[..., None], *arguments: Any) -> None:
        self._plane_events.append((method, arguments))
        self.wake()

    # The turn

    def _turn(self) -> None:
        self._scheduled = False
        now = self.clock.now()
        self._heed_plane_events(now)
        for _ in range(ROUNDS):
            if not self._round(now):
                break
        else:
            self.wake()
        try:
            self._arm_timer(self.clock.now())  # not the turn's time: it may have taken a while, or shifted the clock
        except Exception as fault:
            self.faults.note("the deadlines", fault)
            self.loop.call_later(FAULT_PAUSE_S, self.wake)

    def _round(self, now: float) -> bool:
        """What there is to do at this moment; whether there was anything."""
        busy = False
        try:
            busy = self.flush()
            if self._leases_wanted:
                self._leases_wanted = False
                if self.cluster is not None:
                    self.cluster.extend(self.plane.lease_requests(now), now)
        except Exception as fault:
            self.faults.note("output commit", fault)
        if self.cluster is not None:
            busy = self.cluster.carry_out(now) or busy
        return busy

    @property
    def is_settled(self) -> bool:
        """Whether nothing that the IKE core wants waits to be carried out."""
        return not (self.endpoint.has_effects or self.output.waiting)

    def flush(self) -> bool:
        """Submit what the IKE core wants; whether there was anything."""
        effects = self.endpoint.take_effects()
        if not effects:
            return False
        if self.cluster is None:
            self._carry_out([effect for effect in effects if type(effect) in self._actions])
        elif self.endpoint.active:
            self.output.submit(effects)
        else:  # a commit would wait for ever, and what the owner's records ask for would wait behind it
            self.output.give_up(effects)
        return True

    def _heed_plane_events(self, now: float) -> None:
        if self.divert is not None:  # handing over: what changes a record now would be known to nobody else
            return
        events, self._plane_events = self._plane_events, []
        for method, arguments in events:
            self._heed(method, *arguments, now)
        if self._receiving and now >= self._receiving_at:
            self._receiving_at = now + TRAFFIC_INTERVAL_S
            receiving, self._receiving = self._receiving, set()
            for spi_in in receiving:
                self._heed(self.endpoint.traffic_seen, spi_in, now)

    def _heed(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except Exception as fault:
            self.faults.note("an event of the data plane", fault)
            self.endpoint.end_step()

    def _commit(self, changes: Changes) -> int:
        assert self.cluster is not None
        return self.cluster.commit(changes)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        actions = self._actions
        for effect in effects:
            try:
                actions[type(effect)](effect)
            except Exception as fault:
                self.faults.note(type(effect).__name__, fault)

    def _share(self, effect: Share) -> None:
        if self.cluster is not None:
            self.cluster.share(effect.state)

    def _transmit(self, effect: Transmit) -> None:
        for datagram in effect.datagrams:
            self.plane.send_ike(datagram, effect.local, effect.remote)

    # Timers

    def _arm_timer(self, now: float) -> None:
        """One timer for all deadlines.  One that is armed too early costs an idle turn, so it is left as it is."""
        due = self.endpoint.next_timer() if self.divert is None else None
        at = math.inf if due is None else due
        if self.divert is None:
            at = min(at, now + self.output.next_timer())
            if self._receiving:  # else nobody heeds it: due all the time, it would spin through a whole switchover
                at = min(at, self._receiving_at)
        if self.cluster is not None:
            at = min(at, self.cluster.next_timer())
        at = max(at, self._not_before)
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self.loop.call_later(max(0.0, at - now), self._timer_due)

    def rearm_timer(self) -> None:
        """The clock was shifted: the armed timer means another time now."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf
        self._not_before = -math.inf
        self._receiving_at = -math.inf

    def _timer_due(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = self.clock.now()
        try:
            if self.cluster is not None:
                self.cluster.handle_timer(now)
        except Exception as fault:
            self._note_timer_fault("the cluster's timer", fault, now)
        try:
            if self.divert is None:
                self.endpoint.handle_timer(now)
                self.output.handle_timer()
        except Exception as fault:
            self._note_timer_fault("a timer", fault, now)
            self.endpoint.end_step()
        self._turn()

    def _note_timer_fault(self, where: str, fault: Exception, now: float) -> None:
        """What was due may be due still: not at once, or the loop would do nothing else."""
        self.faults.note(where, fault)
        self._not_before = now + TIMER_PAUSE_S

    def stop(self) -> None:
        """No more turns."""
        self.rearm_timer()
        self._scheduled = True
