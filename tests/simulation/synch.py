"""What is between the members: a TCP connection that breaks, stalls and is built anew, and the paths of the beats."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ipsecha.gateway.channel import LossReason

if TYPE_CHECKING:
    from simulation.clockwork import Process, Timeline

TCP_PATIENCE_S = 3.0
FIRST_DIAL_S, LAST_DIAL_S = 0.004, 0.25
"""Between two knocks at the door of a member that is not there: twice as long each time."""
PATHS = ("synch", "lan")


class Side(Protocol):
    def channel_up(self) -> None: ...
    def channel_down(self, reason: LossReason) -> None: ...
    def frame_received(self, frame: bytes) -> None: ...
    def beat_received(self, path: str, beat: bytes) -> None: ...


class End(Protocol):
    """A member as the network between the members sees it."""

    index: int
    process: Process
    side: Side
    link: Link | None

    @property
    def host_up(self) -> bool: ...


class Link:
    """One connection: ordered in each direction; a broken one loses what would arrive after the cut."""

    def __init__(self) -> None:
        self.broken = False
        self.cut_at = [float("inf"), float("inf")]  # by receiver
        self.last = [0.0, 0.0]
        self.stalled: list[tuple[int, bytes]] = []
        self.stalled_since = 0.0


class SynchNetwork:
    """``tap(sender, receiver, frame)`` sees each frame as it is handed over."""

    def __init__(self, timeline: Timeline, ends: list[End], tap: Callable[[int, int, bytes], None]) -> None:
        self.timeline = timeline
        self.ends = ends
        self.tap = tap
        self.blocked = {(path, receiver): False for path in PATHS for receiver in (0, 1)}
        self.beat_loss = 0.0
        self.delay_s = 0.001
        self._latest: Link | None = None
        self._dialling_until = 0.0
        self._dialled = 0  # what was due before counts no more
        self._dial_soon()

    # Faults

    def block(self, path: str, receiver: int, blocked: bool = True) -> None:
        self.blocked[path, receiver] = blocked
        if path == "synch" and not self.cut and self._latest is not None:
            self._unstall(self._latest)
        self._dial_soon()

    def heal(self) -> None:
        self.beat_loss, self.delay_s = 0.0, 0.001
        for path, receiver in self.blocked:
            self.block(path, receiver, False)

    @property
    def cut(self) -> bool:
        return self.blocked["synch", 0] or self.blocked["synch", 1]

    def process_gone(self, host_too: bool) -> None:
        link = self._latest
        if link is not None:
            self.timeline.at(TCP_PATIENCE_S if host_too else 0.0, self.break_link, link)
        self._dial_soon()

    def process_started(self) -> None:
        if self._latest is not None:
            self.break_link(self._latest)
        self._dial_soon()

    # The connection

    def _dial_soon(self, pause_s: float = FIRST_DIAL_S) -> None:
        self._dialled += 1
        self._pause_s = pause_s
        self.timeline.at(self.timeline.jitter(pause_s), self._dial, self._dialled)

    def _dial(self, number: int) -> None:
        """Until there is a connection, or none to be had before something changes."""
        a, b = self.ends
        if number != self._dialled:
            return
        if self.cut or not (a.host_up and b.host_up):
            return
        if a.process.alive and b.process.alive:
            if self._latest is None or self._latest.broken:
                if self._dialling_until <= self.timeline.time:
                    self._connect()
                self._dial_soon()
            return
        self._dial_soon(min(2 * self._pause_s, LAST_DIAL_S))
        for end in self.ends:
            if end.process.alive and end.link is None:
                self.timeline.at(self.timeline.jitter(self.delay_s), end.process.run, self._refused, end)

    @staticmethod
    def _refused(end: End) -> None:
        if end.link is None:
            end.side.channel_down(LossReason.REFUSED)

    def _connect(self) -> None:
        link = self._latest = Link()
        for end in self.ends:
            delay = self.timeline.jitter(self.delay_s)
            self._dialling_until = max(self._dialling_until, self.timeline.time + delay)
            link.last[end.index] = self.timeline.time + delay
            self.timeline.at(delay, end.process.run, self._link_up, end, link)

    @staticmethod
    def _link_up(end: End, link: Link) -> None:
        if link.broken:
            return
        previous, end.link = end.link, link
        if previous is not None:
            end.side.channel_down(LossReason.LOST)
        end.side.channel_up()

    def break_link(self, link: Link) -> None:
        """Both ends notice in their own time; what was under way arrives or not, for each direction alone."""
        if link.broken:
            return
        link.broken = True
        self._dial_soon()
        chance = self.timeline.random
        for end in self.ends:
            link.cut_at[end.index] = self.timeline.time + self.timeline.jitter(self.delay_s) * chance.randint(0, 1)
            patience = TCP_PATIENCE_S if self.cut else 0.0
            delay = self.timeline.jitter(0.01) + chance.randint(0, 1) * patience
            self.timeline.at(delay, end.process.run, self._link_down, end, link)

    @staticmethod
    def _link_down(end: End, link: Link) -> None:
        if end.link is link:
            end.link = None
            end.side.channel_down(LossReason.LOST)

    def send(self, end: End, frame: bytes) -> None:
        link = end.link
        if link is None or link.broken:
            return
        receiver = 1 - end.index
        arrival = max(link.last[receiver], self.timeline.time + self.timeline.jitter(self.delay_s))
        link.last[receiver] = arrival
        self.timeline.at(arrival - self.timeline.time, self._arrive, link, receiver, frame)

    def _arrive(self, link: Link, receiver: int, frame: bytes) -> None:
        if self.cut or link.stalled:
            if not link.stalled:
                link.stalled_since = self.timeline.time
            link.stalled.append((receiver, frame))
        elif self.timeline.time <= link.cut_at[receiver]:
            end = self.ends[receiver]
            end.process.run(self._receive, end, link, frame)

    def _unstall(self, link: Link) -> None:
        if not link.stalled:
            return
        if self.timeline.time - link.stalled_since > TCP_PATIENCE_S:
            self.break_link(link)
        stalled, link.stalled = link.stalled, []
        for receiver, frame in stalled:
            self._arrive(link, receiver, frame)

    def _receive(self, end: End, link: Link, frame: bytes) -> None:
        if end.link is link:
            self.tap(1 - end.index, end.index, frame)
            end.side.frame_received(frame)

    # Beats

    def send_beat(self, end: End, beat: bytes) -> None:
        receiver = self.ends[1 - end.index]
        for path in PATHS:
            if self.blocked[path, receiver.index] or self.timeline.random.random() < self.beat_loss:
                continue
            self.timeline.at(self.timeline.jitter(0.001), receiver.process.run, receiver.side.beat_received, path, beat)


class SimulatedChannel:
    """As much of ``gateway.channel.SynchChannel`` as the pair's side uses."""

    def __init__(self, network: SynchNetwork, end: End) -> None:
        self._network = network
        self._end = end

    def send(self, frame: bytes) -> None:
        self._end.process.emit(self._network.send, self._end, frame)

    def reset(self) -> None:
        if self._end.link is not None:
            self._network.break_link(self._end.link)


class SimulatedBeats:
    def __init__(self, network: SynchNetwork, end: End) -> None:
        self._network = network
        self._end = end

    def send(self, beat: bytes) -> None:
        self._end.process.emit(self._network.send_beat, self._end, beat)
