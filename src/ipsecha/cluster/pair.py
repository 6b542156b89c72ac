"""A pair of members: who owns the SAs, and what happens when the other is gone (DESIGN section 3, "pair").

Theory of operation.

    STARTING ──hello: partner owns──▶ STANDBY ──partner dead or silent──▶ ACTIVE
       │                                 ▲  ▲                               │ │
       └──nobody there for start_wait────┼──┼──────────────────────────────▶┘ │
                                         │  └──TAKEN── HANDING_OVER ◀─switchover
              links up again, hello ── ISOLATED ◀──nothing seen at all────────┘

Ownership.  Each change takes the next epoch beyond all that were ever seen.  Writes of an older epoch are refused with
NACK.  Where two owners meet after a split, the higher epoch stays and the other joins it as a backup.

Who may take over with the records.  A backup *in sync* has applied the whole snapshot and everything behind it, so it
has every commit that was released and every ceiling that was granted.  Any other holds nothing: it gives up its
records before it asks to join, and the owner leaves the leases only after that, so stale records are never used.

Lanes.  A takeover that was not handed over starts above the lane of the former owner, also after proof of death:
between the last record and its death the owner may have gone on alone, and the numbers cost nothing
(docs/decisions/0006).  The owner alone after silence stays within its lane; alone after proof it is free.

Handing over.  The owner freezes, waits until everything is acknowledged, sends HANDOVER with its exact counters, and is
owner no more.  If no TAKEN arrives, the other may or may not have taken over; the owner then acts as after silence: it
takes the next epoch above the lane, so that numbers and IVs stay disjoint in either case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum

import msgspec

from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import BackupState, CommitLog
from ipsecha.cluster.detector import Beat, BeatListener, seal_beat
from ipsecha.cluster.epoch import make_epoch, next_epoch
from ipsecha.cluster.frames import Change, Frame, Hello
from ipsecha.model.errors import ClusterError
from ipsecha.model.leases import Leasing
from ipsecha.model.records import LeaseEntry
from ipsecha.model.spi import Entropy

CLOCK_TOLERANCE_S = 0.05
CHANNEL_PATIENCE_TICKS = 10
INFO, WARNING, ERROR = 20, 30, 40


class Role(Enum):
    STARTING = "starting"
    ACTIVE = "active"
    STANDBY = "standby"
    ISOLATED = "isolated"
    HANDING_OVER = "handing-over"


class PairSettings(msgspec.Struct, frozen=True):
    cluster: str
    members: tuple[str, str]
    index: int  # of this member in ``members``
    heartbeat_s: float = 0.1
    missed_beats: int = 3
    start_wait_s: float = 1.0
    handover_timeout_s: float = 0.5
    stop_when_alone: bool = False  # after silence an owner stops serving instead of going on in its lane


class PairMember:
    """One of two members: inputs are method calls, outputs the ordered list of ``take_effects``."""

    def __init__(self, settings: PairSettings, entropy: Entropy) -> None:
        self.settings = settings
        self.role = Role.STARTING
        self.epoch = 0  # of the ownership that this member takes part in
        self.in_sync = False  # as a backup: records are complete
        self.alone_since: float | None = None
        self.alone_by_proof = False
        self.partner: Hello | None = None
        self.channel_is_up = False
        self.links_are_up = True
        self.health = 0
        self.partner_health = 0
        self.log = CommitLog()
        self.listener = BeatListener(settings.missed_beats)
        self.counters: Counter[str] = Counter()
        self._boot_id = entropy(16)
        self._beat_key = entropy(32)
        self._beat_counter = 0
        self._highest_epoch = 0
        self._owned = False  # our records are those of a former owner that nobody took over from, as far as we know
        self._tick_at = 0.0
        self._start_deadline = 0.0
        self._handover: tuple[LeaseEntry, ...] | None = None
        self._handover_sent = False
        self._handover_deadline = 0.0
        self._weaker_ticks = 0
        self._channel_down_ticks = 0
        self._effects: list[fx.ClusterEffect] = []

    # Inputs

    def start(self, now: float, wall_s: float) -> None:
        """Begin to beat and to look for the partner; ``wall_s`` only spreads the epochs of cold starts."""
        self._highest_epoch = make_epoch(int(wall_s), 0)
        self._tick_at = now
        self._start_deadline = now + self.settings.start_wait_s

    def take_effects(self) -> list[fx.ClusterEffect]:
        effects, self._effects = self._effects, []
        return effects

    def next_timer(self) -> float:
        return self._tick_at

    def handle_timer(self, now: float) -> None:
        if now < self._tick_at:
            return
        self._tick_at = now + self.settings.heartbeat_s
        self.listener.tick()
        self._beat(now)
        self._judge(now)

    def links(self, up: bool, health: int) -> None:
        """Whether any link of ours has carrier, and how many of the shared ones do."""
        self.links_are_up = up
        self.health = health

    def channel_up(self, now: float) -> None:
        self.channel_is_up = True
        self._hello(now)

    def channel_down(self, refused: bool, now: float) -> None:
        """The channel is gone, or could not be built; ``refused``: the partner's host says that its process is dead."""
        self.channel_is_up = False
        if not refused:
            if self.log.backup is BackupState.JOINING:
                self._backup_gone(proof=False, now=now)
            return
        self._partner_dead(now)

    def beat_received(self, path: str, data: bytes, now: float) -> None:
        beat = self.listener.open(path, data)
        if beat is None:
            return
        self._highest_epoch = max(self._highest_epoch, beat.epoch)
        self.partner_health = beat.health
        if beat.active and self.owns and beat.epoch > self.epoch:
            self._step_down(Role.STANDBY, "the partner owns a higher epoch")
            self._reset_channel("ownership changed")
        elif beat.active and not self.owns:
            self._adopt_clock(beat.cluster_time, now)

    def receive_frame(self, data: bytes, now: float) -> None:
        """One frame of the synch channel; one that makes no sense resets the channel and is counted."""
        try:
            frame = frames.decode_frame(data)
            if frame is None:
                self.counters["unknown frame type"] += 1
                return
            self.listener.heard()
            self._handle(frame, now)
        except ClusterError as error:
            self.counters["malformed frame"] += 1
            self._reset_channel(str(error))

    def commit(self, changes: Sequence[Change], now: float) -> int:
        """Replicate ``changes``; the number comes back in ``Released`` when they are safe."""
        frame = self.log.commit(self.epoch, changes, now)
        self._replicate(frame)
        if self.log.backup is not BackupState.IN_SYNC and self.owns:
            self._effects.append(fx.Released(self.log.number))
        return self.log.number

    def extend(self, entries: Sequence[LeaseEntry], now: float) -> None:
        """Ask the backup for higher ceilings; without one in sync nobody needs to be asked."""
        if self.log.backup is BackupState.IN_SYNC and entries:
            self._replicate(self.log.extend(self.epoch, entries, now))

    def snapshot(self, records: Iterator[Change], total: int, now: float) -> None:
        """The answer to ``TakeSnapshot``."""
        self.log.begin_snapshot(records, total)
        self._pump_snapshot(now)

    def join_closed(self, entries: Sequence[LeaseEntry], now: float) -> None:
        """The answer to ``CloseJoin``: the data plane has switched to leases, ``entries`` are its exact counters."""
        if self.log.backup is not BackupState.JOINING:
            return
        if entries:
            self._replicate(self.log.extend(self.epoch, entries, now))
        self._replicate(self.log.end_snapshot(self.epoch, now))
        self.alone_since = None
        self._report("protected", f"{self._partner_name} is in sync: the SAs are protected")

    def switchover(self, now: float) -> None:
        """Hand the SAs to the partner.  Raises ClusterError where that cannot be done now, with the reason."""
        if not self.channel_is_up:
            raise ClusterError("no switchover: the synch channel to the partner is down")
        if self.role is Role.STANDBY and self.in_sync:
            self._send(frames.SwitchoverRequest(self.epoch))
        elif self.role is Role.ACTIVE and self.log.backup is BackupState.IN_SYNC:
            self.role = Role.HANDING_OVER
            self._handover, self._handover_sent = None, False
            self._handover_deadline = now + self.settings.handover_timeout_s
            self._effects.append(fx.Freeze())
        else:
            raise ClusterError(f"no switchover: this member is {self.role.value} and no backup is in sync")

    def handover_ready(self, entries: Sequence[LeaseEntry], now: float) -> None:
        """The answer to ``Freeze``: the exact counters of the SAs in use."""
        self._handover = tuple(entries)
        self._try_handover()

    def forward(self, data: bytes) -> None:
        """Send a packet that arrived here to the owner."""
        self._send(frames.Forward(data))

    def say_goodbye(self) -> None:
        """This process ends; it has stopped using its SAs."""
        self._send(frames.Goodbye(self.epoch))

    @property
    def owns(self) -> bool:
        return self.role in (Role.ACTIVE, Role.HANDING_OVER)

    # Heartbeats and judgement

    def _beat(self, now: float) -> None:
        self._beat_counter += 1
        beat = Beat(self._boot_id, self._beat_counter, self.epoch, self.owns, self.health, now)
        self._effects.append(fx.SendBeat(seal_beat(beat, self._beat_key)))

    def _judge(self, now: float) -> None:
        if self.role is Role.HANDING_OVER:
            if now >= self._handover_deadline:
                self._abandon_handover(now)
        elif self.role in (Role.STARTING, Role.ISOLATED):
            if not self.links_are_up:
                self._start_deadline = max(self._start_deadline, now + self.settings.start_wait_s)
            elif now >= self._start_deadline and self.listener.silent:
                self._cold_start(now)
        elif self.listener.silent:
            self._partner_silent(now)
        elif self.role is Role.ACTIVE:
            self._mind_the_channel(now)
            self._prefer_healthier(now)

    def _mind_the_channel(self, now: float) -> None:
        """A partner that beats but cannot be reached by the channel is no backup: commits would wait for ever."""
        lost = not self.channel_is_up and self.log.backup is not BackupState.ABSENT
        self._channel_down_ticks = self._channel_down_ticks + 1 if lost else 0
        if self._channel_down_ticks > CHANNEL_PATIENCE_TICKS:
            self._channel_down_ticks = 0
            self._backup_gone(proof=False, now=now)

    def _partner_silent(self, now: float) -> None:
        if self.channel_is_up:
            self._reset_channel("the partner is silent on all paths")
            self.channel_is_up = False
        if not self.links_are_up:
            self._start_deadline = now + self.settings.start_wait_s
            if self.owns:
                self._step_down(Role.ISOLATED, "no link, no beat: this member distrusts itself")
            elif self.role is Role.STANDBY:
                self.role = Role.ISOLATED
        elif self.role is Role.STANDBY:
            self._take_over("silence", now)
        elif self.log.backup is not BackupState.ABSENT:
            self._backup_gone(proof=False, now=now)

    def _partner_dead(self, now: float) -> None:
        """Proof: the partner's process is gone and with it every key it held."""
        if self.role is Role.STANDBY:
            self._take_over("proof of death", now)
        elif self.role is Role.ACTIVE:
            if self.log.backup is not BackupState.ABSENT or not self.alone_by_proof:
                self._backup_gone(proof=True, now=now)
        elif self.role is Role.HANDING_OVER:
            self._abandon_handover(now)

    def _prefer_healthier(self, now: float) -> None:
        """Hand over when the partner has more of the shared links than we have, for more than a moment."""
        reachable = self.channel_is_up and self.links_are_up and self.listener.missed == 0
        weaker = reachable and self.partner_health > self.health and self.log.backup is BackupState.IN_SYNC
        self._weaker_ticks = self._weaker_ticks + 1 if weaker else 0
        if self._weaker_ticks >= 2:
            self._weaker_ticks = 0
            self._report("link-lost", "a shared link is down here and up at the partner: handing over", WARNING)
            self.switchover(now)

    # Changes of ownership

    def _become_active(self, above_lane: bool, leasing: Leasing, now: float) -> None:
        self._highest_epoch = self.epoch = next_epoch(max(self._highest_epoch, self.epoch), self.settings.index)
        self.role = Role.ACTIVE
        self.in_sync = False
        self._owned = True
        self._effects.append(fx.BecomeActive(self.epoch, above_lane))
        self._effects.append(fx.SetLeasing(leasing))

    def _take_over(self, reason: str, now: float) -> None:
        if not self.in_sync:
            self._effects.append(fx.DiscardRecords())
        self.log.reset(BackupState.ABSENT)
        self.alone_since, self.alone_by_proof = now, reason != "silence"
        self._become_active(self.in_sync, Leasing.FREE, now)
        self._report("takeover", f"took over from {self._partner_name} after {reason}, epoch {self.epoch:#x}", WARNING)
        self._hello_again(now)

    def _cold_start(self, now: float) -> None:
        self._effects.append(fx.DiscardRecords())
        self.in_sync = False
        self.log.reset(BackupState.ABSENT)
        self.alone_since, self.alone_by_proof = now, False
        self._become_active(False, Leasing.FREE, now)
        self._report("cold-start", f"no other owner found: active alone, epoch {self.epoch:#x}", WARNING)
        self._hello_again(now)

    def _step_down(self, role: Role, reason: str) -> None:
        self._owned = role is Role.ISOLATED
        self.role = role
        self.in_sync = False
        self.log.reset(BackupState.ABSENT)
        self._effects.append(fx.BecomeStandby(forward=False))
        self._report("stepped-down", f"no longer active: {reason}", WARNING)

    def _follow(self, partner: Hello, now: float) -> None:
        """Become the backup of the partner: give up our records first, then ask for its."""
        self.epoch = partner.epoch
        self.role = Role.STANDBY
        self.in_sync = self._owned = False
        self.log.reset(BackupState.ABSENT)
        self._adopt_clock(partner.cluster_time, now)
        self._effects.append(fx.DiscardRecords())
        self._send(frames.Join(self.epoch))

    def _backup_gone(self, proof: bool, now: float) -> None:
        self.log.reset(BackupState.ABSENT)
        self._effects.append(fx.Released(self.log.number))
        self.alone_since = now if self.alone_since is None else self.alone_since
        self.alone_by_proof = proof
        if self.settings.stop_when_alone and not proof:
            self._start_deadline = float("inf")
            self._step_down(Role.ISOLATED, 'the partner is silent and alone = "stop"')
            return
        self._effects.append(fx.SetLeasing(Leasing.FREE if proof else Leasing.LANE))
        why = "its process is dead" if proof else "it is silent"
        self._report("unprotected", f"no backup: {self._partner_name} is gone ({why}), serving alone", WARNING)

    # Switchover

    def _try_handover(self) -> None:
        if self.role is Role.HANDING_OVER and self._handover is not None and not self._handover_sent:
            if self.log.outstanding:
                return
            self._handover_sent = True
            self._send(frames.Handover(self.epoch, frames.pack_leases(self._handover)))

    def _abandon_handover(self, now: float) -> None:
        """Nobody answered.  Before HANDOVER we are still the owner; after it the partner may be: stay disjoint."""
        in_doubt = self._handover_sent
        self.log.reset(BackupState.ABSENT)
        self._effects.append(fx.Released(self.log.number))
        self.alone_since, self.alone_by_proof = now, False
        self._become_active(in_doubt, Leasing.LANE, now)
        self._report("switchover-failed", "the partner did not take over: active again, unprotected", ERROR)
        self._reset_channel("switchover without answer")

    def _resume(self, reason: str, now: float) -> None:
        """The partner certainly did not take over: go on under a new epoch; the backup joins anew."""
        self.log.reset(BackupState.ABSENT)
        self._effects.append(fx.Released(self.log.number))
        self.alone_since, self.alone_by_proof = now, False
        self._become_active(False, Leasing.LANE, now)
        self._report("switchover-failed", f"{reason}: active again", ERROR)
        self._hello_again(now)

    # Frames

    def _handle(self, frame: Frame, now: float) -> None:
        if isinstance(frame, Hello):
            self._on_hello(frame, now)
        elif self.partner is None:
            raise ClusterError("a frame came before the hello")
        elif isinstance(frame, frames.Commit | frames.Leases | frames.SnapshotEnd | frames.Handover):
            self._on_write(frame, now)
        elif isinstance(frame, frames.Ack | frames.Nack | frames.Join | frames.Taken | frames.SwitchoverRequest):
            self._on_answer(frame, now)
        elif isinstance(frame, frames.Forward):
            self._effects.append(fx.Forwarded(frame.data))
        else:
            self._partner_dead(now)

    def _on_hello(self, hello: Hello, now: float) -> None:
        mine = self.settings
        if hello.version != frames.VERSION or hello.cluster != mine.cluster or hello.member_index != 1 - mine.index:
            raise ClusterError(
                f"hello of version {hello.version}, cluster {hello.cluster!r}, member {hello.member_index}: "
                f"expected {frames.VERSION}, {mine.cluster!r}, {1 - mine.index}"
            )
        reborn = self.partner is not None and self.partner.boot_id != hello.boot_id
        self.partner = hello
        self.listener.expect(hello.boot_id, hello.beat_key)
        self._highest_epoch = max(self._highest_epoch, hello.epoch)
        if reborn and not hello.active:
            self._partner_dead(now)  # a new process of the same member: the old one is dead
        if hello.active:
            self._meet_owner(hello, now)
        elif self.role is Role.HANDING_OVER:
            self._resume("the channel broke before the partner took over", now)
        elif not self.owns and self._claim_beats(hello):
            if self._owned or self.in_sync:
                above_lane = self.in_sync
                self._become_active(above_lane, Leasing.FREE, now)
                self._report("resumed", f"owner again, epoch {self.epoch:#x}", WARNING)
                self._hello_again(now)
            else:
                self._cold_start(now)

    def _meet_owner(self, hello: Hello, now: float) -> None:
        if self.owns and hello.epoch < self.epoch:
            return  # it steps down when it reads our hello
        if self.owns:
            self._step_down(Role.STANDBY, f"{self._partner_name} owns the higher epoch {hello.epoch:#x}")
        self._follow(hello, now)

    def _claim_beats(self, hello: Hello) -> bool:
        """Neither owns: whose records are to live on?  The newer ones, the owner's own, then the first member's."""
        mine = (self.epoch if self._rank else -1, self._rank, -self.settings.index)
        theirs = (hello.epoch if hello.state_rank else -1, hello.state_rank, -hello.member_index)
        return mine > theirs

    @property
    def _rank(self) -> int:
        return 2 if self._owned else int(self.in_sync)

    def _on_write(
        self, frame: frames.Commit | frames.Leases | frames.SnapshotEnd | frames.Handover, now: float
    ) -> None:
        """What only an owner may send to its backup (invariant I5): applied first, acknowledged then."""
        if frame.epoch != self.epoch or self.role is not Role.STANDBY:
            self.counters["fenced"] += 1
            self._send(frames.Nack(self.epoch))
            return
        if isinstance(frame, frames.Handover):
            self._on_handover(frame, now)
            return
        if isinstance(frame, frames.Commit):
            self._effects.append(fx.Apply(frame.changes))
        elif isinstance(frame, frames.Leases):
            self._effects.append(fx.ApplyLeases(tuple(frames.unpack_leases(frame.packed))))
        elif not self.in_sync:
            self.in_sync = True
            self._report("in-sync", f"backup of {self._partner_name}, in sync")
        self._send(frames.Ack(self.epoch, frame.number))

    def _on_handover(self, frame: frames.Handover, now: float) -> None:
        if not self.in_sync:
            self._send(frames.Nack(self.epoch))
            return
        self._effects.append(fx.ApplyExact(tuple(frames.unpack_leases(frame.packed))))
        self.log.reset(BackupState.IN_SYNC)
        self.alone_since = None
        self._become_active(False, Leasing.LEASED, now)
        self._send(frames.Taken(self.epoch))
        self._report("switchover", f"took over from {self._partner_name} as planned, epoch {self.epoch:#x}")

    def _on_answer(
        self,
        frame: frames.Ack | frames.Nack | frames.Join | frames.Taken | frames.SwitchoverRequest,
        now: float,
    ) -> None:
        if isinstance(frame, frames.Ack):
            self._on_ack(frame, now)
        elif isinstance(frame, frames.Nack):
            self._on_nack(frame, now)
        elif isinstance(frame, frames.Taken):
            self._on_taken(frame)
        elif frame.epoch != self.epoch or self.role is not Role.ACTIVE:
            self._send(frames.Nack(self.epoch))
        elif isinstance(frame, frames.Join):
            self.log.reset(BackupState.JOINING)
            self._effects.append(fx.Released(self.log.number))
            self._effects.append(fx.SetLeasing(Leasing.FREE))
            self._effects.append(fx.TakeSnapshot())
        elif self.log.backup is BackupState.IN_SYNC:
            self.switchover(now)

    def _on_ack(self, frame: frames.Ack, now: float) -> None:
        if frame.epoch != self.epoch or not self.owns:
            self.counters["stale acknowledgement"] += 1
            return
        granted = self.log.acknowledge(frame.number)
        self._effects.append(fx.Released(self.log.acknowledged))
        if granted:
            self._effects.append(fx.Granted(tuple(granted)))
        if self.log.backup is BackupState.JOINING:
            self._pump_snapshot(now)
        self._try_handover()

    def _on_nack(self, frame: frames.Nack, now: float) -> None:
        self._highest_epoch = max(self._highest_epoch, frame.epoch)
        if self.role is Role.HANDING_OVER and frame.epoch <= self.epoch:
            self._resume("the partner refused the handover", now)
        elif self.owns and frame.epoch > self.epoch:
            self._reset_channel("the partner knows a higher epoch")  # the hellos decide who is owner
        elif not self.owns:
            self._reset_channel("the partner refused")

    def _on_taken(self, frame: frames.Taken) -> None:
        if self.role is not Role.HANDING_OVER or frame.epoch <= self.epoch:
            self.counters["stale acknowledgement"] += 1
            return
        self._highest_epoch = max(self._highest_epoch, frame.epoch)
        self.epoch = frame.epoch
        self.role = Role.STANDBY
        self.in_sync, self._owned = True, False
        self.log.reset(BackupState.ABSENT)
        self._effects.append(fx.BecomeStandby(forward=True))
        self._report("switchover", f"handed over to {self._partner_name}, epoch {self.epoch:#x}")

    def _pump_snapshot(self, now: float) -> None:
        parts, last = self.log.snapshot_parts(self.epoch, now)
        for part in parts:
            self._replicate(part)
        if last:
            self._effects.append(fx.CloseJoin())

    # Small things

    @property
    def _partner_name(self) -> str:
        return self.settings.members[1 - self.settings.index]

    def _replicate(self, frame: Frame) -> None:
        if self.log.backup is not BackupState.ABSENT:
            self._send(frame)

    def _send(self, frame: Frame) -> None:
        if self.channel_is_up:
            self._effects.append(fx.SendFrame(frames.encode_frame(frame)))

    def _hello(self, now: float) -> None:
        mine = self.settings
        self._send(
            Hello(
                frames.VERSION,
                mine.cluster,
                mine.index,
                self._boot_id,
                self.owns,
                self.epoch,
                self._rank,
                self._beat_key,
                now,
            )
        )

    def _hello_again(self, now: float) -> None:
        """Our role changed: tell the partner, if it can be told."""
        if self.channel_is_up:
            self._hello(now)

    def _adopt_clock(self, cluster_time: float, now: float) -> None:
        offset = cluster_time - now
        if abs(offset) > CLOCK_TOLERANCE_S:
            self._effects.append(fx.ClockOffset(offset))
            self._tick_at += offset
            self._start_deadline += offset

    def _reset_channel(self, reason: str) -> None:
        self._effects.append(fx.ResetChannel(reason))

    def _report(self, event: str, text: str, level: int = INFO) -> None:
        self._effects.append(fx.ClusterReport(event, text, level))
