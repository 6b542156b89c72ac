"""What flows between an owner and its mirrors, seen from both ends (``seating`` says who is what).

A mirror gets what the backup gets, by a stream of its own (``mirror``), and acknowledges it.  By default nothing waits
for it.  With ``acks = "all"`` an acknowledgement of the backup counts as far as all mirrors in sync have come, too; one
that stalls is in sync no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.frames import Change, Frame, Hello, Standing
from ipsecha.cluster.mirror import MirrorSource
from ipsecha.cluster.ownership import WARNING, PairSettings, Role, Write
from ipsecha.cluster.pair import PairMember
from ipsecha.model.records import LeaseEntry
from ipsecha.model.spi import Entropy

VACANT = -1
"""The index of nobody."""


class Other:
    """Another member, as far as this one knows.  ``is_dead``: its process is known to be gone."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.source = MirrorSource()
        self.reset(False)

    def reset(self, channel_is_up: bool, is_dead: bool = False) -> None:
        """The channel is new, or gone: nothing of what was said on the former one counts."""
        self.channel_is_up, self.is_dead = channel_is_up, is_dead
        self.standing: Standing | None = None
        self.seats_sent = self.seats_heard = 0
        self.quiet_ticks = 0
        self.source.detach()

    @property
    def hello(self) -> Hello | None:
        return self.standing.hello if self.standing is not None else None

    @property
    def owns(self) -> bool:
        return self.standing is not None and self.standing.hello.active

    @property
    def is_blank(self) -> bool:
        """It is there, and has no right to any records."""
        return self.standing is not None and not self.standing.seated and not self.standing.hello.active


class Mirroring(PairMember):
    """One of three or four members, as it replicates."""

    def __init__(self, settings: PairSettings, entropy: Entropy) -> None:
        super().__init__(settings, entropy)
        self.partner_index = VACANT
        self.others = {index: Other(index) for index in range(len(settings.members)) if index != settings.index}
        self.following: int | None = None  # the owner, as a mirror
        self.complete = False  # as a mirror: everything of its owner's has arrived
        self._mirror_applied: int | None = None
        self._partner_acked = 0

    # An owner and its mirrors

    def mirrors(self) -> list[Other]:
        """Those that hear what we commit, in the order in which they get a seat."""
        if not self.owns:
            return []
        return [other for other in self.others.values() if other.source.state is not BackupState.ABSENT]

    def commit(self, changes: Sequence[Change], now: float) -> int:
        number = super().commit(changes, now)
        for other in self.mirrors():
            self._send_to(other, other.source.commit(self.epoch, changes, now, number))
        return number

    def extend(self, entries: Sequence[LeaseEntry], now: float) -> None:
        super().extend(entries, now)
        if self.log.grants and entries:
            self._tell_ceilings(entries, now)

    def _tell_part(self, now: float) -> Sequence[LeaseEntry] | None:
        entries = super()._tell_part(now)
        if entries:
            self._tell_ceilings(entries, now)
        return entries

    def _tell_ceilings(self, entries: Sequence[LeaseEntry], now: float) -> None:
        for other in self.mirrors():
            self._send_to(other, other.source.extend(self.epoch, entries, now, self.log.number))

    def mirror_snapshot(self, index: int, records: Iterator[Change], total: int, now: float) -> None:
        """The answer to ``TakeMirrorSnapshot``; ignored when the mirror is gone by then."""
        other = self.others[index]
        if other.source.state is BackupState.JOINING:
            other.source.snapshot(records, total)
            self._pump_mirror(other, now)

    def _pump_mirror(self, other: Other, now: float) -> None:
        for frame in other.source.pump(self.epoch, self._highest_epoch, now, self.log.acknowledged):
            self._send_to(other, frame)
        if other.source.state is BackupState.IN_SYNC:
            self._report("mirror", f"{self._name(other)} is a mirror in sync")

    def _on_mirror_join(self, other: Other, frame: frames.Join, now: float) -> None:
        if frame.epoch != self.epoch or self.role is not Role.ACTIVE or other.hello is None:
            self._send_to(other, frames.Nack(self.epoch))
            return
        other.source.attach(self.log.leases_under_way, bool(other.hello.features & frames.DELTAS))
        self._effects.append(fx.TakeMirrorSnapshot(other.index))

    def _on_mirror_ack(self, other: Other, frame: frames.Ack, now: float) -> None:
        if frame.epoch != self.epoch or not self.owns or other.source.state is BackupState.ABSENT:
            self.counters["stale acknowledgement"] += 1
            return
        other.source.acknowledge(frame.number)
        if other.source.state is BackupState.JOINING:
            self._pump_mirror(other, now)
        self._pass_acks(now)

    def _on_mirror_nack(self, other: Other, frame: frames.Nack, now: float) -> None:
        """One side is behind in what it knows of the other: a new channel begins with where both stand."""
        self._highest_epoch = max(self._highest_epoch, frame.epoch)
        self._reset_member(other, f"{self._name(other)} refused, in epoch {frame.epoch:#x}")

    # Acknowledgements of the backup

    def _acknowledged(self, number: int, now: float) -> None:
        self._partner_acked = max(self._partner_acked, number)
        self._pass_acks(now)

    def _pass_acks(self, now: float) -> None:
        """What the backup has acknowledged counts; with ``acks_all`` only as far as the mirrors in sync have come."""
        if not self.owns or self.log.backup is BackupState.ABSENT or self._verdict_pending:
            return
        number = self._partner_acked
        if self.settings.acks_all:
            bounds = [other.source.bound for other in self.mirrors()]
            number = min([number, *(bound for bound in bounds if bound is not None)])
        super()._acknowledged(number, now)

    def _on_join(self, frame: frames.Join, now: float) -> None:
        """The backup was away and joins anew: where there is a mirror in sync, that one is the backup from now on."""
        ready = any(other.source.state is BackupState.IN_SYNC for other in self.mirrors())
        fits = frame.epoch == self.epoch and self.role is Role.ACTIVE
        if self.partner is None or not ready or not fits or self._verdict_pending:
            super()._on_join(frame, now)
        else:
            self._take_back(self.partner, BackupState.ABSENT)

    # A mirror and its owner

    def _attach(self, other: Other, hello: Hello, now: float) -> None:
        """Follow an owner: give up what we have, then ask for what it has."""
        self.following, self.complete = other.index, False
        self.role = Role.MIRROR
        self.epoch, self.lineage = hello.epoch, hello.lineage
        self._mirror_applied = None
        self._discard()
        self._send_to(other, frames.Join(self.epoch))

    def _lose_owner(self, now: float) -> None:
        """What we hold stays until the next owner's records replace it."""
        self.following, self.complete = None, False
        self.role = Role.STARTING
        self._start_deadline = now + self.settings.start_wait_s

    def _on_mirror_write(self, other: Other, frame: Write, now: float) -> None:
        """Applied first, acknowledged then; only from the owner that we follow (invariant I5)."""
        if self._fences(other, frame.epoch):
            self.counters["fenced"] += 1
            self._send_to(other, frames.Nack(self.epoch))
            return
        complete = self._take_in(frame, self._mirror_applied)
        self._mirror_applied = frame.number
        if complete:
            self.complete = True
            self._report("mirror", f"mirror of {self._name(other)}, in sync")
        self._send_to(other, frames.Ack(self.epoch, frame.number))

    def _fences(self, other: Other, epoch: int) -> bool:
        return self.following != other.index or epoch != self.epoch

    # Channels

    def _mind_the_mirror(self, other: Other, now: float) -> None:
        """Once a heartbeat: one that acknowledges nothing holds up the others, or fills our memory."""
        if other.source.tick():
            self._report("mirror", f"{self._name(other)} acknowledges nothing: in sync no more", WARNING)
            self._reset_member(other, "nothing is acknowledged on it")

    def _name(self, other: Other) -> str:
        return self.settings.members[other.index]

    def member_channel_down(self, index: int, refused: bool, now: float) -> None:
        """The channel to a member is gone; ``refused``: its host says that the process is dead."""
        raise NotImplementedError

    def _reset_member(self, other: Other, reason: str) -> None:
        self._effects.append(fx.ForMember(other.index, fx.ResetChannel(reason)))
        self.member_channel_down(other.index, False, self._tick_at)

    def _send_to(self, other: Other, frame: Frame) -> None:
        if other.channel_is_up:
            self._effects.append(fx.ForMember(other.index, fx.SendFrame(frames.encode_frame(frame))))

    def _send(self, frame: Frame) -> None:
        if self.channel_is_up and self.partner_index != VACANT:
            self._send_to(self.others[self.partner_index], frame)

    def _reset_channel(self, reason: str) -> None:
        if self.partner_index != VACANT:
            self._effects.append(fx.ForMember(self.partner_index, fx.ResetChannel(reason)))
