"""More than two members: a pair on two seats, and mirrors that hold a copy as hot as a backup's.

Theory of operation.

    looking ──an owner is there──▶ MIRROR (joins, in sync) ──Seat──▶ backup, then whatever ``pair`` makes of it
       │  ▲                           │                                │
       │  └──────its owner is gone────┘      its owner has another ────┘ (looking again)
       └──nobody owns, nobody has anything──▶ owner

The owner and its backup are a pair, and decide as a pair does.  A member without a seat decides nothing: it follows
whoever owns, applies what it is sent, and acknowledges (``mirroring``).

Filling the seat.  The owner gives the other seat to the first mirror in sync when nobody else can use its records any
more (``not rivalry.exists``): after proof of death, when the backup has given up, by the witness's vote, or since there
has been no backup yet; never on silence alone.  What the mirror lacks travels in front of ``Seat`` in the same ordered
stream, and what it gets behind it is the end of a join: the ceilings that were raised without a backup, and the word
that it is in sync.  So the gap is closed by order, and nothing waits for it.

Losing the seat.  Members say to all others where they stand (``Standing``).  A backup that hears its owner name another
partner has been replaced; an owner whose partner says that it has no seat knows that it has given up.  ``Standing``
counts the seats that were offered on a channel, so that nobody mistakes an old word for the answer to an offer.

Beginning.  A member that starts listens first.  Where all others are there, or known to be dead, and none has anything,
the first one begins; where some are missing, the first one present does so after ``start_wait``.  A member that has
followed an owner in its present life begins nothing on silence: whoever it cannot hear may be serving.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames, meeting
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.frames import Hello, Standing
from ipsecha.cluster.judgement import CHANNEL_QUIET_TICKS
from ipsecha.cluster.mirroring import VACANT, Mirroring, Other
from ipsecha.cluster.ownership import WARNING, PairSettings, Role
from ipsecha.cluster.pair import PairMember
from ipsecha.model.errors import ClusterError
from ipsecha.model.spi import Entropy


class SeatedMember(Mirroring):
    """One of three or four members.  Inputs that concern a channel name the member at its other end."""

    def __init__(self, settings: PairSettings, entropy: Entropy) -> None:
        super().__init__(settings, entropy)
        self.seated = False
        self._followed_any = False  # in this life
        self._wanted_alone = False  # by the operator
        self._told: tuple[object, ...] = ()
        self._sources_of: tuple[object, ...] = ()
        self._now = 0.0

    # Inputs

    def start(self, now: float, wall_s: float) -> None:
        """As for a pair; a former process of this member may have owned in epochs of which those that it finds have not
        heard, so all that this one takes are later."""
        super().start(now, wall_s)
        self._highest_epoch = max(self._highest_epoch, self._first_epoch)

    def member_channel_up(self, index: int, now: float) -> None:
        self.member_channel_down(index, False, now)
        other = self.others[index]
        other.reset(True)
        self._send_to(other, self._standing(other))

    def member_channel_down(self, index: int, refused: bool, now: float) -> None:
        self._now = now
        other = self.others[index]
        if refused and other.channel_is_up:
            self.counters["stale refusal"] += 1
            return
        other.reset(False, other.is_dead or refused)
        if self._is_partner(index):
            super().channel_down(refused, now)
        elif self.following == index:
            self._lose_owner(now)
        self._pass_acks(now)

    def member_frame(self, index: int, data: bytes, now: float) -> None:
        """One frame of a channel; one that makes no sense resets it and is counted."""
        self._now = now
        other = self.others[index]
        other.quiet_ticks = 0
        if self._are_a_pair(other) and data[:1] not in frames.SEATING:
            super().receive_frame(data, now)
            return
        if not other.channel_is_up:
            self.counters["frame behind the end of the channel"] += 1
            return
        try:
            frame = frames.decode_frame(data)
            if other.standing is None and not isinstance(frame, Standing):
                raise ClusterError("a frame came before the member has said where it stands")
            action = self._on_other_frame.get(type(frame))
            if frame is not None and action is not None:
                frames.check_reach(frame)
                action(self, other, frame, now)
            elif frame is not None:
                self.counters["frame of a former pair"] += 1
        except ClusterError as error:
            self.counters["malformed frame"] += 1
            self._reset_member(other, str(error))

    def member_beat(self, index: int, path: str, data: bytes, now: float) -> None:
        """Members without a seat judge nobody by beats, and nobody judges them."""
        if self._is_partner(index):
            super().beat_received(path, data, now)

    def handle_timer(self, now: float) -> None:
        self._now = now
        due = now + self._clock_shift >= self._tick_at
        super().handle_timer(now)
        if due:
            self._wait_for_none()
            for other in self.others.values():
                self._mind_the_member(other, now)

    def serve_alone(self, now: float) -> None:
        """As in ``voting``; a member without a seat has no right to its records and begins with none."""
        if not self.seated and any(other.owns for other in self.others.values()):
            raise ClusterError("there is an owner: no need to serve alone")
        self._wanted_alone = True
        try:
            super().serve_alone(now)
        finally:
            self._wanted_alone = False

    def take_effects(self) -> list[fx.ClusterEffect]:
        """Whatever has happened: what follows from it for the seats comes last."""
        self._renew_sources()
        self._look_at_the_seats(self._now)
        self._tell_standing()
        return super().take_effects()

    # Who sits where

    def _is_partner(self, index: int) -> bool:
        return self.seated and self.partner_index == index

    def _are_a_pair(self, other: Other) -> bool:
        """Whether the channel is a pair's; whoever sat with us last may have come back without a seat."""
        agreed = self.channel_is_up or (other.standing is not None and self._sits_with_us(other.standing))
        return agreed and self._is_partner(other.index)

    @property
    def _partner_name(self) -> str:
        return self.settings.members[self.partner_index] if self.partner_index != VACANT else "nobody"

    @property
    def partner_name(self) -> str:
        """The member at the other seat; for a mirror, the owner that it follows."""
        return self._partner_name if self.following is None else self._name(self.others[self.following])

    def _look_at_the_seats(self, now: float) -> None:
        waits = self.role in (Role.STARTING, Role.ISOLATED)
        if self.seated and waits and not (self.in_sync or self._owned):
            self._leave_the_seat(now)
        if self._seat_is_free():
            heir = next((other for other in self.mirrors() if other.source.state is BackupState.IN_SYNC), None)
            if heir is not None:
                self._give_the_seat(heir, now)

    def _seat_is_free(self) -> bool:
        """Nobody else can use our records: the one reason for which a mirror may come in."""
        alone = self.role is Role.ACTIVE and self.log.backup is BackupState.ABSENT
        return alone and not (self.rivalry.exists or self._verdict_pending or self._dismissal)

    def _give_the_seat(self, other: Other, now: float) -> None:
        assert other.hello is not None
        self.log.number = max(self.log.number, other.source.log.number)  # what it still acknowledges is older than all
        other.source.detach()
        self.partner_index = other.index
        self._sit_with(other.hello)
        self._partner_acked = 0
        self.log.reset(BackupState.JOINING)
        self._effects.append(fx.Released(self.log.number))
        other.seats_sent += 1
        self._send(frames.Seat(self.epoch))
        self._report("seat", f"{self._partner_name} gets the seat of the backup")
        self.log.begin_snapshot(iter(()), 0)
        self._pump_snapshot(now)
        self._say_policy()

    def _on_seat(self, other: Other, frame: frames.Seat, now: float) -> None:
        other.seats_heard += 1
        fits = not self.seated and self.following == other.index and self.complete and frame.epoch == self.epoch
        if not fits or other.hello is None:
            self._send_to(other, frames.Nack(self.epoch))
            self._reset_member(other, "a seat that is not for us")
            return
        self.seated, self.partner_index, self.following = True, other.index, None
        self.role = Role.STANDBY
        self.in_sync = self._owned = self._proof = self.complete = False
        self._followed = other.hello.boot_id
        self._applied = None
        self._dismissal = 0
        self.rivalry.none()
        self.log.reset(BackupState.ABSENT)
        self._sit_with(other.hello)
        self._say_policy()

    def _sit_with(self, hello: Hello) -> None:
        """The two of us are a pair from here on, on the channel that there is."""
        self.partner, self._greeted, self.channel_is_up = hello, True, True
        self._partner_digest = b""
        self._quiet_ticks = self._channel_down_ticks = self._weaker_ticks = 0
        self.partner_health = 0
        self.listener.expect(hello.boot_id, hello.beat_key)
        self.log.deltas = bool(hello.features & frames.DELTAS)
        self.log.new_stream()

    def _leave_the_seat(self, now: float) -> None:
        self._report("seat", "without a seat: looking for an owner", WARNING)
        self.seated, self.partner_index = False, VACANT
        self.role, self.in_sync, self._owned = Role.STARTING, False, False
        self.partner = None
        self._part_from_partner()
        self.listener.expect(b"", b"")
        self.rivalry.none()
        self.log.reset(BackupState.ABSENT)
        self._start_deadline = now + self.settings.start_wait_s

    def _part_from_partner(self) -> None:
        self.channel_is_up = self._greeted = False

    def _cold_start(self, now: float) -> None:
        """Not beside anybody who may have something to go on with."""
        if self._wanted_alone or self._may_begin(now):
            self.seated, self.partner_index, self.following = True, VACANT, None
            super()._cold_start(now)
        elif self.seated:
            self._leave_the_seat(now)

    def _may_begin(self, now: float) -> bool:
        others = self.others.values()
        if any(other.standing is not None and not other.is_blank for other in others):
            return False
        if all(other.is_blank or other.is_dead for other in others):
            return True
        return not self._followed_any and now >= self._start_deadline

    def _decide(self, proof: bool, now: float) -> None:
        """With a witness somebody else may have been seated by a vote, unheard: proof alone is not enough then."""
        unseated = (self._is_partner(other.index) or other.is_blank for other in self.others.values())
        if proof and self.witness is not None and self.seated and not all(unseated):
            self._insists = True
        super()._decide(proof, now)

    def _is_followed_by_all(self) -> bool:
        mirrors = [other for other in self.others.values() if not self._is_partner(other.index)]
        return all(other.is_dead or other.source.state is BackupState.IN_SYNC for other in mirrors)

    # Where the others stand

    def _standing(self, other: Other) -> Standing:
        partner = self.partner_index if self.seated else VACANT if self.following is None else self.following
        return Standing(self._my_hello(self._now), self.seated, partner, other.seats_heard)

    def _renew_sources(self) -> None:
        """Another ownership: mirrors join anew."""
        present = (self.owns, self.epoch)
        if present != self._sources_of:
            self._sources_of = present
            for other in self.others.values():
                other.source.detach()

    def _tell_standing(self) -> None:
        """To all, whenever it has changed."""
        present = (self.owns, self.epoch, self.seated, self.partner_index, self.following)
        if present != self._told:
            self._told = present
            for other in self.others.values():
                self._send_to(other, self._standing(other))

    def _on_standing(self, other: Other, frame: Standing, now: float) -> None:
        hello, mine = frame.hello, self.settings
        if hello.version != frames.VERSION or hello.cluster != mine.cluster or hello.member_index != other.index:
            raise ClusterError(f"hello of version {hello.version}, cluster {hello.cluster!r}, {hello.member_index}")
        other.standing = frame
        self._highest_epoch = max(self._highest_epoch, hello.epoch, hello.highest_epoch)
        if self._is_partner(other.index):
            self._on_partner_standing(other, frame, now)
        if self.owns and hello.active and not (self._is_partner(other.index) and self._sits_with_us(frame)):
            self._on_rival(hello, now)
        elif not self.seated:
            self._follow_if_due(other, now)

    def _sits_with_us(self, frame: Standing) -> bool:
        return frame.seated and frame.partner == self.settings.index

    def _on_partner_standing(self, other: Other, frame: Standing, now: float) -> None:
        reborn = self.partner is not None and self.partner.boot_id != frame.hello.boot_id
        if reborn and not frame.hello.active:
            self._part_from_partner()
            self._partner_dead(now)
        elif self._sits_with_us(frame):
            if not self.channel_is_up:
                super().channel_up(now)
        elif frame.seats == other.seats_sent:
            self._part_from_partner()
            self._partner_has_no_seat(frame, now)

    def _partner_has_no_seat(self, frame: Standing, now: float) -> None:
        """It lives, and has nothing with which it could go on beside us, unless it is an owner."""
        if frame.hello.active:
            if not self.owns:
                self._leave_the_seat(now)
        elif self.owns:
            if self.log.backup is not BackupState.ABSENT or self.rivalry.exists or self.role is Role.HANDING_OVER:
                self._partner_gave_up(frame.hello, now)
        elif self._owned and frame.partner == VACANT and frame.hello.epoch <= self.epoch:
            if frame.hello.has_owned:  # in our epoch or before, and has used numbers in it
                self._decide(True, now)
                return
            self.rivalry.none()
            self.listener.expect(b"", b"")  # whom we wait for is no partner any more
        else:
            self._leave_the_seat(now)

    def _partner_gave_up(self, hello: Hello, now: float) -> None:
        """It may have been an owner for a while: then it has used numbers."""
        if hello.epoch > self.epoch or hello.has_owned:
            self._act(True, now)
        else:
            self._backup_gave_up(now)

    def _on_rival(self, hello: Hello, now: float) -> None:
        """Two owners that are no pair, after a split: one of them stays."""
        if not meeting.outranks((self.lineage, self.epoch), (hello.lineage, hello.epoch)):
            self._step_down(Role.STARTING, f"{self.settings.members[hello.member_index]} is owner, too, and stays")
            self._leave_the_seat(now)
        elif hello.epoch > self.epoch:
            self._take_later_epoch()

    def _take_later_epoch(self) -> None:
        """Nobody who has seen an epoch follows an older one.  A backup joins anew, on a new channel."""
        self._raise_epoch()
        if self.channel_is_up:
            self._reset_channel("a later epoch")

    def _wait_for_none(self) -> None:
        """Whoever has lost an owner of a later epoch, and sees no other owner than us, is to follow us."""
        settled = self.log.backup is BackupState.IN_SYNC and self.channel_is_up
        if self.role is not Role.ACTIVE or not (settled or self._seat_is_free()):
            return
        standings = [other.standing for other in self.others.values() if other.standing is not None]
        lost = any(not one.seated and one.partner == VACANT and one.hello.epoch > self.epoch for one in standings)
        if lost and not any(one.hello.active for one in standings):
            self._take_later_epoch()

    # Without a seat

    def _judge(self, now: float) -> None:
        if self.seated:
            super()._judge(now)
            return
        if not self.links_are_up:
            self._start_deadline = max(self._start_deadline, now + self.settings.start_wait_s)
            return
        for other in self.others.values():
            self._follow_if_due(other, now)
        if self.following is None and self._is_first() and self._may_begin(now):
            if all(other.is_blank for other in self.others.values()):
                self._cold_start(now)
            else:
                self._decide(False, now)

    def _is_first(self) -> bool:
        """Of those in reach."""
        return all(other.index > self.settings.index for other in self.others.values() if other.channel_is_up)

    def _follow_if_due(self, other: Other, now: float) -> None:
        """Whoever owns; of several the first one, until they have met."""
        hello = other.hello
        if self.following == other.index and hello is not None and not hello.active:
            self._lose_owner(now)
        if hello is None or not hello.active or hello.epoch < self.epoch:
            return
        if self.following is None or (self.following == other.index and hello.epoch != self.epoch):
            self._followed_any = True
            self._attach(other, hello, now)

    # Channels

    def _mind_the_member(self, other: Other, now: float) -> None:
        """Keep an idle channel alive, and find out about one that is not.  That of the pair minds itself."""
        if not other.channel_is_up or (self._is_partner(other.index) and self.channel_is_up):
            return
        self._mind_the_mirror(other, now)
        other.quiet_ticks += 1
        if other.quiet_ticks > CHANNEL_QUIET_TICKS:
            self._reset_member(other, "nothing arrives on it")
        else:
            self._send_to(other, frames.Pulse(self.epoch, now if self.owns else 0.0))

    def _on_other_pulse(self, other: Other, frame: frames.Pulse, now: float) -> None:
        self.counters["pulses-in"] += 1
        if self.following == other.index and frame.cluster_time:
            self._adopt_clock(frame.cluster_time, now)

    def _on_other_forward(self, other: Other, frame: frames.Forward, now: float) -> None:
        self._effects.append(fx.Forwarded(frame.data))

    _on_frame: ClassVar[dict[type, Callable[[Any, Any, float], None]]] = {
        **PairMember._on_frame,
        frames.Join: Mirroring._on_join,
    }
    _on_other_frame: ClassVar[dict[type, Callable[[Any, Any, Any, float], None]]] = {
        frames.Standing: _on_standing,
        frames.Seat: _on_seat,
        frames.Commit: Mirroring._on_mirror_write,
        frames.Leases: Mirroring._on_mirror_write,
        frames.SnapshotEnd: Mirroring._on_mirror_write,
        frames.Join: Mirroring._on_mirror_join,
        frames.Ack: Mirroring._on_mirror_ack,
        frames.Nack: Mirroring._on_mirror_nack,
        frames.Pulse: _on_other_pulse,
        frames.Forward: _on_other_forward,
    }
