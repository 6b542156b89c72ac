"""What a member of a pair is, and how that changes: the acts.  When to do what is decided in ``pair``.

Each change of ownership takes the next epoch beyond all that were ever seen, and leaves replication, leasing, lanes and
the partner's knowledge of it in a consistent state; the effects come in the order in which they must be carried out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum

import msgspec

from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames, lanes
from ipsecha.cluster.commit_log import BackupState, CommitLog
from ipsecha.cluster.detector import BeatListener
from ipsecha.cluster.epoch import next_epoch
from ipsecha.cluster.estate import Estate
from ipsecha.cluster.frames import Frame, Hello
from ipsecha.cluster.handover import Handover
from ipsecha.model.errors import ClusterError
from ipsecha.model.leases import Leasing
from ipsecha.model.spi import Entropy

CLOCK_TOLERANCE_S = 0.05
TOUCHED_PART = 4096
"""Keys in one frame."""

INFO, WARNING, ERROR = 20, 30, 40

Write = frames.Commit | frames.Leases | frames.SnapshotEnd
"""What an owner sends to those who hold a copy."""


class Role(Enum):
    STARTING = "starting"
    ACTIVE = "active"
    STANDBY = "standby"
    ISOLATED = "isolated"
    HANDING_OVER = "handing over"
    MIRROR = "mirror"  # of a cluster of more than two: see ``seating``


OWNERS = (Role.ACTIVE, Role.HANDING_OVER)


class PairSettings(msgspec.Struct, frozen=True):
    cluster: str
    members: tuple[str, ...]  # of more than two, two are seated at a time: see ``seating``
    index: int  # of this member in ``members``
    heartbeat_s: float = 0.1
    missed_beats: int = 3
    start_wait_s: float = 1.0
    handover_timeout_s: float = 0.5
    stop_when_alone: bool = False  # after silence an owner stops serving instead of going on in its lane
    witness: bool = False  # a third box has a vote: see ``cluster.voting``
    acks_all: bool = False  # of all mirrors in sync, too, not of the backup alone


class Ownership:
    """The state of one member, its changes, and what it says to the partner about them."""

    def __init__(self, settings: PairSettings, entropy: Entropy) -> None:
        self.settings = settings
        self.partner_index = int(settings.index == 0)
        self.role = Role.STARTING
        self.epoch = 0  # of the ownership that this member takes part in
        self.lineage = 0  # epoch of the cold start that our records go back to
        self.in_sync = False  # as a backup: records are complete
        self.alone_since: float | None = None
        self.alone_by_proof = False
        self.alone_by_vote = False
        self.partner: Hello | None = None
        self.channel_is_up = False
        self.links_are_up = True
        self.health = 0
        self.partner_health = 0
        self.log = CommitLog()
        self.listener = BeatListener(settings.missed_beats)
        self.counters: Counter[str] = Counter()
        self.rivalry = lanes.Rivalry()
        self._boot_id = entropy(16)
        self._beat_key = entropy(32)
        self._beat_counter = 0
        self._highest_epoch = 0
        self._first_epoch = 0  # no cold start takes a lower one
        self._owned = False  # our records are those of a former owner that nobody took over from, as far as we know
        self._has_owned = False  # since we were last a backup in sync, or handed over
        self.restored = False  # our records come from the disk, and nobody has said yet that they are not old
        self.marked = True  # where SAs are saved: the disk knows of the present ownership
        self._applied: int | None = None  # number of the owner's last frame; the next one must follow it
        self._greeted = False  # the partner said hello on this channel
        self._tick_at = 0.0
        self._start_deadline = 0.0
        self._partner_wait_s = settings.start_wait_s  # after the start of this process
        self._handover: Handover | None = None
        self._weaker_ticks = 0
        self._channel_down_ticks = 0
        self._quiet_ticks = 0  # since the last frame on a channel that is up
        self._dismissal = 0  # as in Beat
        self._estate = Estate()
        self._join_sent = self._bequeathing = False  # what we made beside a rival goes first, then we join
        self._followed = b""  # boot id of the owner that our records came from
        self._insists = False  # a silence was seen: the partner may have been voted for since
        self._proof = False  # of the partner's death, while the witness is asked (``voting``)
        self._clock_shift = 0.0  # asked for, and not yet in what the gateway calls now
        self._effects: list[fx.ClusterEffect] = []

    def take_effects(self) -> list[fx.ClusterEffect]:
        effects, self._effects = self._effects, []
        self._clock_shift = 0.0  # the gateway's clock follows now
        return effects

    @property
    def owns(self) -> bool:
        return self.role in OWNERS

    # Changes of ownership

    def _become_active(self, above_lanes: int, leasing: Leasing, same_epoch: bool = False) -> None:
        """The mode comes first, so that not even the first packet is sent under the rules of a former ownership."""
        if not same_epoch:
            self.epoch = next_epoch(max(self._highest_epoch, self.epoch), self.settings.index)
        self._highest_epoch = max(self._highest_epoch, self.epoch)
        self.role = Role.ACTIVE
        self.in_sync = self.restored = False
        self._owned = self._has_owned = True
        self._estate.owned()
        self._handover = None
        self._dismissal = 0
        self._effects.append(fx.SetLeasing(leasing))
        self._effects.append(fx.BecomeActive(self.epoch, above_lanes))

    def _alone(self, proof: bool, now: float) -> None:
        self.log.reset(BackupState.ABSENT)
        self.alone_since, self.alone_by_proof, self.alone_by_vote = now, proof, False

    def _raise_epoch(self) -> None:
        """An owner without a backup goes on in a later epoch: what anybody else knows is of an earlier one."""
        self.epoch = next_epoch(max(self._highest_epoch, self.epoch), self.settings.index)
        self._highest_epoch = self.epoch
        self._effects.append(fx.RaiseEpoch(self.epoch))

    def _end_rivalry(self, proven_innocent: bool = False) -> int:
        """The lanes to skip before numbers are free.

        The rival may also have taken the next epoch, unheard: no successor of ours may take it again, with the same
        keys (invariant I1).
        """
        skip = self.rivalry.end(proven_innocent)
        if skip:
            self._highest_epoch = next_epoch(max(self._highest_epoch, self.epoch), self.partner_index)
        return skip

    def _begin_without_records(self, reason: str, now: float) -> None:
        self._report("owner-lost", f"{self._partner_name} is gone ({reason}), and no records are complete", WARNING)
        self.role = Role.STARTING
        self._start_deadline = now + self.settings.start_wait_s

    def _take_over(self, proof: bool, now: float, reason: str = "") -> None:
        """A backup that is not in sync has nothing to take over with.  ``proof``: the partner goes on no more."""
        reason = reason or ("proof of death" if proof else "silence")
        if not self.in_sync:
            self._begin_without_records(reason, now)
            if proof:
                self._cold_start(now)
            return
        self._alone(proof, now)
        self.rivalry.none()
        self.rivalry.doubt = not proof
        self._become_active(lanes.CERTAIN if proof else lanes.AFTER_SILENCE, self.rivalry.leasing)
        self._report("takeover", f"took over from {self._partner_name} after {reason}, epoch {self.epoch:#x}", WARNING)
        self._hello_again(now)

    def _cold_start(self, now: float) -> None:
        self._discard()
        self._alone(False, now)
        self._end_rivalry()
        self._highest_epoch = max(self._highest_epoch, self._first_epoch)
        self._become_active(0, Leasing.FREE)
        self.lineage = self.epoch
        self._report("cold-start", f"no other owner found: active alone, epoch {self.epoch:#x}", WARNING)
        self._hello_again(now)

    def _resume(self, now: float) -> None:
        """Own again what nobody has taken over, as far as we know.  There is a place to do so beside a rival once."""
        if self.rivalry.exists and self.rivalry.resumed:
            self._report("owner-lost", "isolated twice beside a rival: no numbers are left for that", ERROR)
            self._cold_start(now)
            return
        self._alone(False, now)
        place = lanes.RESUMED[self.settings.index > self.partner_index] if self.rivalry.exists else 0
        self.rivalry.resumed = self.rivalry.exists
        self._become_active(place, self.rivalry.leasing)
        self._report("resumed", f"owner again, epoch {self.epoch:#x}", WARNING)
        self._hello_again(now)

    def _reclaim(self, now: float) -> None:
        """We go on, and the partner gives up its records, but it has seen a higher epoch."""
        self._alone(False, now)
        self._effects.append(fx.Released(self.log.number))
        self.rivalry.none()
        self._become_active(lanes.CERTAIN, Leasing.FREE)
        self._report("resumed", f"still the owner, now under epoch {self.epoch:#x}", WARNING)
        self._hello_again(now)

    def _step_down(self, role: Role, reason: str) -> None:
        self._owned = self._insists = role is Role.ISOLATED
        self._dismissal = 0
        self.role = role
        self.in_sync = False
        self._handover = None
        self.log.reset(BackupState.ABSENT)
        self._effects.append(fx.BecomeStandby(forward=False))
        self._report("stepped-down", f"no longer active: {reason}", WARNING)

    def _yield(self, reason: str, now: float) -> None:
        """The partner is owner, but has not said hello as such: the hellos of a new channel decide what follows."""
        self._step_down(Role.STARTING, reason)
        self._start_deadline = now + self.settings.start_wait_s
        self._reset_channel("ownership changed")

    def _follow(self, partner: Hello, now: float) -> None:
        """Become the backup of the partner: give up our records first, then ask for its."""
        strangers = partner.lineage != self.lineage and self._unused_before(partner)
        bequest = None if self.settings.witness else self._estate.bequest(partner.boot_id, strangers)
        self.epoch, self.lineage = partner.epoch, partner.lineage
        self._followed = partner.boot_id
        self.role = Role.STANDBY
        self.in_sync = self._owned = self._proof = self.restored = False
        self._applied = None
        self._dismissal = 0
        self.rivalry.none()
        self.log.reset(BackupState.ABSENT)
        self._adopt_clock(partner.cluster_time, now)
        self._join_sent, self._bequeathing = False, bequest is not None
        if bequest is None:
            self._join()
        else:
            self._effects.append(bequest)

    def _unused_before(self, partner: Hello) -> bool:
        """Whether no former process of the partner can have used our SAs: then nobody would know how far."""
        return not self.rivalry.exists or self.rivalry.heir == partner.boot_id

    def bequeath(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """A part of the answer to ``Bequeath``, by key: our SAs are in use no more."""
        if self._bequeathing and self.role is Role.STANDBY and records:
            for key, _ in records:
                self._estate.offered(key)
            self._send(frames.Bequest(self.epoch, tuple(records)))

    def bequeathed(self) -> None:
        """The end of the answer to ``Bequeath``."""
        if self._bequeathing and self.role is Role.STANDBY and self.channel_is_up:
            self._join()

    def _join(self) -> None:
        """We use our records no more.  Those that we bequeath stay until the owner answers: should the channel break
        before it has them, they are offered again."""
        self._confess()
        if not self._bequeathing:
            self._discard()
        self._send(frames.Join(self.epoch))
        self._join_sent = True

    def _confess(self) -> None:
        """What we have changed while both of us were owners, the one that stays does not know."""
        touched = self._estate.confession()
        for first in range(0, len(touched), TOUCHED_PART):
            self._send(frames.Touched(self.epoch, tuple(touched[first : first + TOUCHED_PART])))

    def _note_unacknowledged(self, now: float) -> None:
        """Before the log forgets them: the backup may have received these changes, or not."""
        self._estate.note(self.log.unacknowledged, now - self.log.oldest_age(now))

    def _discard(self) -> None:
        self._bequeathing = False
        self._estate.forgotten()
        self._effects.append(fx.DiscardRecords())

    def _backup_gone(self, proof: bool, now: float, leave: bool = False) -> None:
        """``leave``: to go on although nothing is proven, from the witness or the operator."""
        self._dismissal = 0
        if not proof and self.rivalry.exists:
            self._note_unacknowledged(now)
        self.log.reset(BackupState.ABSENT)
        self._effects.append(fx.Released(self.log.number))
        self.alone_since = now if self.alone_since is None else self.alone_since
        self.alone_by_proof, self.alone_by_vote = proof, False
        if self.settings.stop_when_alone and not (proof or leave) and self.rivalry.exists:
            self._start_deadline = float("inf")
            self._step_down(Role.ISOLATED, 'the partner is silent and alone = "stop"')
            return
        skip = self._end_rivalry() if proof else 0
        self._effects.append(fx.SetLeasing(self.rivalry.leasing, skip))
        why = "its process is dead" if proof else "it is silent"
        self._report("unprotected", f"no backup: {self._partner_name} is gone ({why}), serving alone", WARNING)

    # Dismissal: the members hear each other's beats, but the channel is gone

    def _dismiss(self) -> None:
        """The backup lives and lacks what happens from now on: before the owner goes on without it, it has to know.

        Until its beats say so, nothing is released and no lease is extended; should they end, it is silent.
        """
        if not self._dismissal:
            self._dismissal = self._beat_counter + 1
            self._report("dismissing", f"no channel to {self._partner_name}: asking it to give up", WARNING)

    def _give_up_sync(self, dismissal: int) -> None:
        """The owner goes on without us: our records are stale from now on, and so is what the channel still brings."""
        if dismissal == self._dismissal:
            return
        self._dismissal = dismissal
        self.in_sync = False
        self._report("out-of-sync", f"{self._partner_name} goes on without this backup", WARNING)
        if self.channel_is_up:
            self._reset_channel("the owner has no channel to us")
            self.channel_is_up = False

    def _backup_gave_up(self, now: float) -> None:
        """The backup has given up: nobody else can use our records."""
        self._dismissal = 0
        self._alone(True, now)
        self._effects.append(fx.Released(self.log.number))
        if self.role is Role.HANDING_OVER:  # it never took over
            self._become_active(self._end_rivalry(proven_innocent=True), Leasing.FREE, same_epoch=True)
        else:
            self._effects.append(fx.SetLeasing(Leasing.FREE, self._end_rivalry(proven_innocent=True)))
        self._report("unprotected", f"no backup: no channel to {self._partner_name}, which gave up", WARNING)

    # What an owner writes

    def _take_in(self, frame: Write, last: int | None) -> bool:
        """Have what an owner writes applied; ``last``: number of its frame before, None at the first.  Whether the
        records are complete with it.  Raises ClusterError where a frame is missing."""
        if last is not None and frame.number != last + 1:
            raise ClusterError(f"frame {frame.number} came after {last}")
        if isinstance(frame, frames.Commit):
            self._effects.append(fx.Apply(frame.changes, frame.initiations, frame.deltas))
        elif isinstance(frame, frames.Leases):
            self._effects.append(fx.ApplyLeases(tuple(frames.lease_entries(frame))))
        else:
            self._highest_epoch = max(self._highest_epoch, frame.highest_epoch)
            self._has_owned = False
            self._estate.known()
            return True
        return False

    # Small things

    @property
    def _partner_name(self) -> str:
        return self.settings.members[self.partner_index]

    @property
    def partner_name(self) -> str:
        """The member at the other seat."""
        return self._partner_name

    @property
    def replicates(self) -> bool:
        """Whether there is a backup, in sync or joining, that hears what we send."""
        return self.owns and self.channel_is_up and self.log.backup is not BackupState.ABSENT

    def share(self, state: bytes) -> None:
        """Send a half-open IKE SA to the backup, if there is one; nothing waits for it."""
        self._replicate(frames.HalfOpen(self.epoch, state))

    def _on_half_open(self, frame: frames.HalfOpen, now: float) -> None:
        if frame.epoch == self.epoch and self.role is Role.STANDBY:
            self._effects.append(fx.HoldHalfOpen(frame.state))
        else:
            self.counters["stale half-open"] += 1

    def _replicate(self, frame: Frame) -> None:
        if self.log.backup is not BackupState.ABSENT:
            self._send(frame)

    def _send(self, frame: Frame) -> None:
        if self.channel_is_up:
            self._effects.append(fx.SendFrame(frames.encode_frame(frame)))

    def _my_hello(self, now: float) -> Hello:
        mine = self.settings
        rank = 2 if self._owned else int(self.in_sync)
        return Hello(
            frames.VERSION,
            mine.cluster,
            mine.index,
            self._boot_id,
            self.owns,
            self.epoch,
            rank,
            self._beat_key,
            now,
            self.lineage,
            frames.DELTAS,
            self.restored,
            self._has_owned,
            max(self._highest_epoch, self.epoch),
        )

    def _say_hello(self, now: float) -> None:
        self._send(self._my_hello(now))

    def _hello_again(self, now: float) -> None:
        """Our role changed: tell the partner, if it can be told."""
        if self.channel_is_up:
            self._say_hello(now)

    def _adopt_clock(self, cluster_time: float, now: float) -> None:
        offset = cluster_time - now - self._clock_shift
        if abs(offset) > CLOCK_TOLERANCE_S:
            self._effects.append(fx.ClockOffset(offset))
            self._clock_shift += offset
            self._tick_at += offset
            self._start_deadline += offset

    def _reset_channel(self, reason: str) -> None:
        self._effects.append(fx.ResetChannel(reason))

    def _report(self, event: str, text: str, level: int = INFO) -> None:
        self._effects.append(fx.ClusterReport(event, text, level))
