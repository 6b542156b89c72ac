"""A pair of members: who owns the SAs, and what happens when the other is gone (DESIGN section 3, "pair").

Theory of operation.

    STARTING ──hello: partner owns──▶ STANDBY ──partner dead or silent──▶ ACTIVE
       │                                 ▲  ▲                               │ │
       └──nobody there for start_wait────┼──┼──────────────────────────────▶┘ │
                                         │  └──TAKEN── HANDING_OVER ◀─switchover
              links up again, hello ── ISOLATED ◀──nothing seen at all────────┘

Ownership.  Each change takes the next epoch beyond all that were ever seen.  Writes of an older epoch are refused with
NACK.  Where members meet, two owners after a split for example, their hellos decide (``meeting``).

Who may take over with the records.  A backup *in sync* has applied the whole snapshot and everything behind it, so it
has every commit that was released and every ceiling that was granted.  Any other holds nothing: it gives up its
records before it asks to join, and the owner leaves the leases only after that, so stale records are never used.
Without the owner it is where a member that starts is.

Numbers.  A takeover that was not handed over starts above the lanes of all who may still use the SAs, and whoever may
not be alone stays within a lane (``lanes``).

This file is what the members say to each other; what a member makes of silence is in ``judgement``; the acts, each a
change of ownership with all that belongs to it, are in ``ownership``.
Handing over is ``handover``; what a backup has acknowledged and what it still lacks is ``commit_log``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames, lanes, meeting
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.epoch import first_term, make_epoch
from ipsecha.cluster.frames import Change, Frame, Hello
from ipsecha.cluster.judgement import Judgement
from ipsecha.cluster.meeting import Verdict
from ipsecha.cluster.ownership import ERROR, INFO, WARNING, PairSettings, Role, Write
from ipsecha.cluster.policies import Policies
from ipsecha.model.errors import ClusterError
from ipsecha.model.leases import Leasing
from ipsecha.model.records import LeaseEntry

__all__ = ["ERROR", "INFO", "WARNING", "PairMember", "PairSettings", "Role"]


class PairMember(Judgement):
    """One of two members: inputs are method calls, outputs the ordered list of ``take_effects``."""

    _inherited = 0  # records that an owner which gives up has left us, on this channel

    # Inputs

    def start(self, now: float, wall_s: float) -> None:
        """Begin to beat and to look for the partner; ``wall_s`` only spreads the epochs of cold starts."""
        self._first_epoch = make_epoch(first_term(wall_s), 0)
        self._tick_at = now
        self._start_deadline = now + self._partner_wait_s

    def next_timer(self) -> float:
        return self._tick_at

    def handle_timer(self, now: float) -> None:
        now += self._clock_shift
        if now < self._tick_at:
            return
        self._mind_sleep(now)
        self._tick_at = now + self.settings.heartbeat_s
        self.listener.tick()
        self._beat(now)
        self._pulse(now)
        self._judge(now)
        self._mind_the_witness(now)

    def links(self, up: bool, health: int) -> None:
        """Whether any link of ours has carrier, and how many of the shared ones do."""
        self.links_are_up = up
        self.health = health

    def channel_up(self, now: float) -> None:
        self.channel_is_up, self._greeted, self._quiet_ticks = True, False, 0
        self._inherited = 0
        self.log.new_stream()
        self._say_hello(now)

    def beat_received(self, path: str, data: bytes, now: float) -> None:
        beat = self.listener.open(path, data)
        if beat is None:
            return
        self._highest_epoch = max(self._highest_epoch, beat.epoch)
        self.partner_health = beat.health
        if not beat.active:
            if self.owns and self._dismissal and beat.dismissal == self._dismissal:
                self._backup_gave_up(now)
            return
        if not self.owns:
            self._adopt_clock(beat.cluster_time, now)
            if beat.dismissal and beat.epoch == self.epoch:
                self._give_up_sync(beat.dismissal)
            if self.witness is not None and beat.epoch > self.epoch:
                self.in_sync = False  # it went on without us, with the vote: its hello follows
        elif beat.epoch > self.epoch and meeting.outranks((beat.lineage, beat.epoch), (self.lineage, self.epoch)):
            self._yield(f"{self._partner_name} owns the higher epoch {beat.epoch:#x}", now)

    def receive_frame(self, data: bytes, now: float) -> None:
        """One frame of the synch channel; one that makes no sense resets the channel and is counted."""
        if not self.channel_is_up:
            self.counters["frame behind the end of the channel"] += 1
            return
        try:
            frame = frames.decode_frame(data)
            if frame is None:
                self.counters["unknown frame type"] += 1
                return
            frames.check_reach(frame)
            self.listener.heard()
            self._quiet_ticks = 0
            self._handle(frame, now)
        except ClusterError as error:
            self.counters["malformed frame"] += 1
            self._reset_channel(str(error))

    def commit(self, changes: Sequence[Change], now: float) -> int:
        """Replicate ``changes``; the number comes back in ``Released`` when they are safe."""
        if self.rivalry.exists and self.log.backup is BackupState.ABSENT:
            self._estate.note((key for key, _ in changes), now)
        frame = self.log.commit(self.epoch, changes, now)
        self._replicate(frame)
        if self.log.backup is not BackupState.IN_SYNC and self.owns:
            self._effects.append(fx.Released(self.log.number))
        return self.log.number

    def extend(self, entries: Sequence[LeaseEntry], now: float) -> None:
        """Ask the backup for higher ceilings; without one in sync nobody needs to be asked."""
        if self.log.grants and entries:
            self._replicate(self.log.extend(self.epoch, entries, now))

    def snapshot(self, records: Iterator[Change], total: int, now: float) -> None:
        """The answer to ``TakeSnapshot``; ignored when the backup that joined is gone by then."""
        if self.log.backup is BackupState.JOINING:
            self.log.begin_snapshot(records, total)
            self._pump_snapshot(now)

    def close_join(self, ceilings: Iterator[Sequence[LeaseEntry]], now: float) -> None:
        """The answer to ``CloseJoin``: each item, when it is asked for, switches some SAs to leases; when there is none
        left, no SA goes beyond what the backup has been told."""
        self.log.begin_closing(ceilings)
        self._pump_closing(now)

    def _pump_closing(self, now: float) -> None:
        while self.log.may_tell and self.partner is not None:
            if self._tell_part(now) is None:
                self._join_closed(self.partner, now)

    def _tell_part(self, now: float) -> Sequence[LeaseEntry] | None:
        """Tell the backup the next ceilings: those; None where there are none."""
        told = self.log.tell(self.epoch, now)
        if told is None:
            return None
        self._replicate(told[0])
        return told[1]

    def _join_closed(self, partner: Hello, now: float) -> None:
        self._replicate(self.log.end_snapshot(self.epoch, self._highest_epoch, now))
        self.rivalry.inherited_by(partner.boot_id)
        self.alone_since = None
        self._report("protected", f"{self._partner_name} is in sync: the SAs are protected")

    def handover_ready(self, entries: Sequence[LeaseEntry], now: float) -> None:
        """The answer to ``Freeze``: the exact counters of the SAs in use."""
        if self._handover is not None:
            self._handover.ready(entries)
            self._try_handover()

    def forward(self, data: bytes) -> None:
        """Send a packet that arrived here to the owner."""
        self._send(frames.Forward(data))

    def say_goodbye(self) -> None:
        """This process ends; it has stopped using its SAs."""
        self._send(frames.Goodbye(self.epoch))

    # Frames

    def _handle(self, frame: Frame, now: float) -> None:
        if isinstance(frame, Hello):
            self._on_hello(frame, now)
        elif not self._greeted:
            raise ClusterError("a frame came before the hello")
        else:
            action = self._on_frame.get(type(frame))
            if action is None:
                raise ClusterError("a frame of a cluster of more than two: the members lists differ")
            action(self, frame, now)

    def _on_hello(self, hello: Hello, now: float) -> None:
        mine = self.settings
        if hello.version != frames.VERSION or hello.cluster != mine.cluster or hello.member_index != self.partner_index:
            raise ClusterError(
                f"hello of version {hello.version}, cluster {hello.cluster!r}, member {hello.member_index}: "
                f"expected {frames.VERSION}, {mine.cluster!r}, {self.partner_index}"
            )
        reborn = self.partner is not None and self.partner.boot_id != hello.boot_id
        self.partner, self._greeted = hello, True
        self.listener.expect(hello.boot_id, hello.beat_key)
        self.log.deltas = bool(hello.features & frames.DELTAS)
        self._highest_epoch = max(self._highest_epoch, hello.epoch, hello.highest_epoch)
        innocent = not (hello.active or hello.has_owned) and hello.epoch <= self.epoch
        self.rivalry.meet(hello.boot_id, innocent)
        if reborn and not hello.active:  # a new process of the same member: the old one is dead
            if self.role is Role.STANDBY and not self.in_sync:  # neither has records: who begins is decided below
                self._begin_without_records("proof of death", now)
            else:
                self._partner_dead(now)
        self._act_on(meeting.judge(self._my_hello(now), hello, self.witness is not None), hello, now)
        self._say_policy()

    def _act_on(self, verdict: Verdict, hello: Hello, now: float) -> None:
        held = self.owns or self._owned or self.in_sync
        if self.owns and verdict in (Verdict.FOLLOW, Verdict.WAIT):
            self._step_down(Role.STARTING, f"{self._partner_name} is owner in epoch {hello.epoch:#x}")
            self._start_deadline = now + self.settings.start_wait_s
        if verdict is Verdict.FOLLOW:
            self._follow(hello, now)
        elif verdict is Verdict.RECLAIM:
            self._reclaim(now)
        elif verdict is Verdict.CLAIM:
            if self.witness is None or not hello.state_rank:
                self._claim(hello, now)  # else it gives up its records first, and says so
        elif verdict is Verdict.WAIT and held and not hello.active:
            if self.witness is not None:
                self._give_up_records(now)
            elif hello.epoch > self.epoch:
                self.in_sync = False  # it has owned in a later epoch than our records are of
        elif verdict is Verdict.STAY and self.role is Role.HANDING_OVER and not hello.active:
            self._refused_handover("the channel broke before the partner took over", now)

    def _claim(self, hello: Hello, now: float) -> None:
        """Nobody owns.  Records live on only where nobody else can have used them since."""
        if self.restored:
            self._claim_restored(hello, now)
        elif self.witness is not None and (self.in_sync or self._owned):
            self._claim_records(hello, now)
        elif self.in_sync:
            self._take_over(True, now)
        elif self._owned and (not self.rivalry.exists or self.rivalry.heir == hello.boot_id):
            self._resume(now)
        else:
            self._cold_start(now)

    def _fenced(self, epoch: int) -> bool:
        """Only the owner that we follow may write (invariant I5)."""
        if epoch == self.epoch and self.role is Role.STANDBY:
            return False
        self.counters["fenced"] += 1
        self._send(frames.Nack(self.epoch))
        return True

    def _on_write(self, frame: Write, now: float) -> None:
        """What an owner sends to its backup: applied first, acknowledged then."""
        if self._fenced(frame.epoch):
            return
        if self._bequeathing and not self._join_sent:  # it takes us for the backup that we were once
            self.counters["early write"] += 1
            return
        if self._bequeathing:
            self._discard()
        complete = self._take_in(frame, self._applied)
        self._applied = frame.number
        if complete:
            self.in_sync, self._insists = True, False
            self._report("in-sync", f"backup of {self._partner_name}, in sync")
        self._send(frames.Ack(self.epoch, frame.number))

    def _on_handover(self, frame: frames.Handover, now: float) -> None:
        if self._fenced(frame.epoch):
            return
        if self.in_sync and self._has_slept(now):
            self._reset_channel("a handover from before this member slept")  # its sender may have gone on since
        elif self.in_sync:
            self._take_handover(tuple(frames.unpack_leases(frame.packed)))
        else:
            self._send(frames.Nack(self.epoch))

    def _on_join(self, frame: frames.Join, now: float) -> None:
        if frame.epoch != self.epoch or self.role is not Role.ACTIVE or self.partner is None:
            self._send(frames.Nack(self.epoch))
            return
        if self._verdict_pending:
            return  # its former process may have gone on with our SAs: a hello follows when the witness has answered
        self._tell_of_heritage()
        self._take_back(self.partner, BackupState.JOINING)
        self._effects.append(fx.TakeSnapshot())

    def _take_back(self, partner: Hello, backup: BackupState) -> None:
        """The partner has given up its records: nobody else uses our numbers.  ``backup``: what it is from here on."""
        self._insists = self._proof = False  # whoever was dead or silent before, this one lives
        innocent = self.rivalry.heir == partner.boot_id and not self.rivalry.doubt
        self._dismissal = 0
        self.log.reset(backup)
        self._effects.append(fx.Released(self.log.number))
        self._effects.append(fx.SetLeasing(Leasing.FREE, self._end_rivalry(innocent), gradually=True))

    def _tell_of_heritage(self) -> None:
        if self._inherited:
            self._report("inherited", f"{self._partner_name} has left {self._inherited} IKE SAs: they go on here")
            self._inherited = 0

    def _on_ack(self, frame: frames.Ack, now: float) -> None:
        if frame.epoch != self.epoch or not self.owns or self._verdict_pending:
            self.counters["stale acknowledgement"] += 1
            return
        self._backup_follows = True
        self._acknowledged(frame.number, now)

    def _acknowledged(self, number: int, now: float) -> None:
        granted = self.log.acknowledge(number)
        self._effects.append(fx.Released(self.log.acknowledged))
        if granted:
            self._effects.append(fx.Granted(tuple(granted)))
        if self.log.backup is BackupState.JOINING:
            self._pump_snapshot(now)
        elif self.log.join_is_acknowledged:
            self._estate.known()
        self._try_handover()

    def _on_nack(self, frame: frames.Nack, now: float) -> None:
        """The partner refuses our writes, or our wish to join: the hellos of a new channel decide."""
        self._highest_epoch = max(self._highest_epoch, frame.epoch)
        if self.role is Role.HANDING_OVER and frame.epoch <= self.epoch:
            self._refused_handover("the partner refused the handover", now)
            self._reset_channel("the partner refused the handover")
        elif frame.epoch > self.epoch or (self.log.backup is not BackupState.ABSENT if self.owns else not self.in_sync):
            self._reset_channel(f"the partner refused, in epoch {frame.epoch:#x}")

    def _on_taken(self, frame: frames.Taken, now: float) -> None:
        if not self.owns or frame.epoch <= self.epoch:
            self.counters["stale acknowledgement"] += 1
            return
        self._highest_epoch = max(self._highest_epoch, frame.epoch)
        if self.role is not Role.HANDING_OVER:
            self._yield(f"{self._partner_name} took over, too late", now)
            return
        self._handed_over(frame.epoch)

    def _pump_snapshot(self, now: float) -> None:
        parts, last = self.log.snapshot_parts(self.epoch, now)
        for part in parts:
            self._replicate(part)
        if last:
            self._effects.append(fx.CloseJoin())
        self._pump_closing(now)

    def _on_switchover_request(self, frame: frames.SwitchoverRequest, now: float) -> None:
        if frame.epoch == self.epoch and self.role is Role.ACTIVE and self._may_hand_over:
            self.switchover(now)

    def _on_forward(self, frame: frames.Forward, now: float) -> None:
        self._effects.append(fx.Forwarded(frame.data))

    def _on_touched(self, frame: frames.Touched, now: float) -> None:
        if self.owns and frame.epoch == self.epoch:
            self._report("diverged", f"{self._partner_name} has used {len(frame.keys)} IKE SAs, too: repairing them")
            self._effects.append(fx.Suspect(frame.keys))

    def _on_bequest(self, frame: frames.Bequest, now: float) -> None:
        if not self.owns or frame.epoch != self.epoch:
            return
        if self._estate.has_forgotten:
            text = f"{len(frame.records)} IKE SAs of {self._partner_name} are lost: this process may have used them"
            self._report("bequest-refused", text, WARNING)
        else:
            ours = tuple(key for key, _ in frame.records if self._estate.touched(key))
            new = tuple(record for key, record in frame.records if not self._estate.touched(key))
            self._inherited += len(new)
            self._effects += [fx.Suspect(ours), fx.Inherit(new, lanes.CERTAIN)]

    def _on_pulse(self, frame: frames.Pulse, now: float) -> None:
        self.counters["pulses-in"] += 1  # it has arrived: that is all

    def _on_goodbye(self, frame: frames.Goodbye, now: float) -> None:
        if frame.epoch == self.epoch:
            self._has_stayed(now)
        self._partner_dead(now)

    _on_frame: ClassVar[dict[type, Callable[[PairMember, Any, float], None]]] = {
        frames.Commit: _on_write,
        frames.Leases: _on_write,
        frames.SnapshotEnd: _on_write,
        frames.Handover: _on_handover,
        frames.Ack: _on_ack,
        frames.Nack: _on_nack,
        frames.Taken: _on_taken,
        frames.Join: _on_join,
        frames.SwitchoverRequest: _on_switchover_request,
        frames.Forward: _on_forward,
        frames.Goodbye: _on_goodbye,
        frames.Pulse: _on_pulse,
        frames.Touched: _on_touched,
        frames.Bequest: _on_bequest,
        frames.HalfOpen: Judgement._on_half_open,
        frames.PolicyDigest: Policies._on_policy,
    }
