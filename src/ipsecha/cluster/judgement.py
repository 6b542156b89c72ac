"""Heartbeats, and what a member makes of what it hears: who is dead, who is only silent, who distrusts itself.

The verdicts lead to the acts in ``ownership``; the frames that members exchange are ``pair``'s.
"""

from __future__ import annotations

from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.detector import Beat, seal_beat
from ipsecha.cluster.handover import Handover
from ipsecha.cluster.ownership import WARNING, Role
from ipsecha.cluster.voting import Voting
from ipsecha.model.errors import ClusterError

CHANNEL_PATIENCE_TICKS = 3
"""How long an owner waits for a lost channel to come back before it dismisses its backup."""

CHANNEL_QUIET_TICKS = 5
"""After so many ticks without any frame a channel counts as dead, whatever TCP still hopes for."""


class Judgement(Voting):
    """One of two members as it watches the other."""

    def channel_down(self, refused: bool, now: float) -> None:
        """The channel is gone, or could not be built; ``refused``: the partner's host says that its process is dead."""
        if refused and self.channel_is_up:
            self.counters["stale refusal"] += 1  # an answer to a knock from before the partner came up
            return
        self.channel_is_up = False
        if refused:
            self._partner_dead(now)
        elif self.log.backup is BackupState.JOINING and not self.rivalry.exists:
            self._backup_gone(proof=False, now=now)  # one that has the whole snapshot may be in sync: it is dismissed

    def switchover(self, now: float) -> None:
        """Hand the SAs to the partner.  Raises ClusterError where that cannot be done now, with the reason."""
        if not self.channel_is_up:
            raise ClusterError("no switchover: the synch channel to the partner is down")
        if self.role is Role.STANDBY and self.in_sync:
            self._send(frames.SwitchoverRequest(self.epoch))
        elif self.role is Role.ACTIVE and not self.marked:
            raise ClusterError("no switchover: the disk does not know yet that this member is the owner")
        elif self.role is Role.ACTIVE and self._may_hand_over:
            self.role = Role.HANDING_OVER
            self._handover = Handover(now + self.settings.handover_timeout_s)
            self._effects.append(fx.Freeze())
        else:
            raise ClusterError(f"no switchover: this member is {self.role.value} and no backup is known to be in sync")

    # Heartbeats and judgement

    def _beat(self, now: float) -> None:
        self._beat_counter += 1
        beat = Beat(
            self._boot_id, self._beat_counter, self.epoch, self.owns, self.health, now, self.lineage, self._dismissal
        )
        self._effects.append(fx.SendBeat(seal_beat(beat, self._beat_key)))

    def _pulse(self, now: float) -> None:
        """Keep an idle channel alive, and find out about one that is not: an end that sends nothing would never."""
        if not self.channel_is_up:
            return
        self._quiet_ticks += 1
        if self._quiet_ticks > CHANNEL_QUIET_TICKS:
            self._reset_channel("nothing arrives on it")
            self.channel_down(False, now)
        elif self._greeted:
            self.counters["pulses-out"] += 1
            self._send(frames.Pulse(self.epoch))

    def _judge(self, now: float) -> None:
        if self.role is Role.HANDING_OVER:
            if self._handover is not None and now >= self._handover.deadline:
                self._handover_is_late(self._handover, now)
        elif self.role in (Role.STARTING, Role.ISOLATED):
            if not self.links_are_up:
                self._start_deadline = max(self._start_deadline, now + self.settings.start_wait_s)
            elif now >= self._start_deadline and self.listener.silent:
                self._decide(False, now)  # an owner that was isolated may go on where no backup can have taken over
        elif self.listener.silent:
            self._partner_silent(now)
        elif self.role is Role.ACTIVE:
            self._mind_the_channel(now)
            self._prefer_healthier(now)

    def _handover_is_late(self, handover: Handover, now: float) -> None:
        """With a witness nobody goes on in doubt: the partner has to say what it is, or to be outvoted."""
        if self.witness is None or not handover.sent:
            self._abandon_handover(False, now)
        elif self.listener.silent:
            self._decide(False, now)
        else:
            handover.deadline = now + self.settings.handover_timeout_s
            self._dismiss()
            if self.channel_is_up:
                self._reset_channel("switchover without answer")

    def _mind_the_channel(self, now: float) -> None:
        """A partner that beats but cannot be reached by the channel is no backup: commits would wait for ever.

        One that is in sync may take over: it has to give that up first.
        """
        lost = not self.channel_is_up and self.log.backup is not BackupState.ABSENT
        self._channel_down_ticks = self._channel_down_ticks + 1 if lost else 0
        if self._channel_down_ticks > CHANNEL_PATIENCE_TICKS:
            if self.rivalry.exists:
                self._dismiss()
            else:
                self._backup_gone(proof=False, now=now)

    def _partner_silent(self, now: float) -> None:
        alone = self.role is Role.ACTIVE and self.log.backup is BackupState.ABSENT
        if self.channel_is_up and (self._greeted or not alone):  # the hello on a new one takes a while: see ``_pulse``
            self._reset_channel("the partner is silent on all paths")
            self.channel_is_up = False
        if not self.links_are_up:
            self._start_deadline = now + self.settings.start_wait_s
            if alone and not self._stops_without_links:
                return
            if self.owns:
                if self.rivalry.exists:
                    self._note_unacknowledged(now)
                self._step_down(Role.ISOLATED, "no link, no beat: this member distrusts itself")
            elif self.role is Role.STANDBY:
                self.role = Role.ISOLATED
        elif self.role is Role.STANDBY or self.log.backup is not BackupState.ABSENT:
            self._decide(False, now)

    @property
    def _stops_without_links(self) -> bool:
        """Whether an owner that is alone distrusts itself once more.  To step down tells nobody anything, and nobody
        could say afterwards whether it may go on; with a witness it asks again."""
        return self.settings.witness

    def _partner_dead(self, now: float) -> None:
        """Proof: the partner's process is gone and with it every key it held."""
        known = self.log.backup is BackupState.ABSENT and not self.rivalry.exists and self.alone_by_proof
        if self.role in (Role.STANDBY, Role.HANDING_OVER) or (self.role is Role.ACTIVE and not known):
            self._decide(True, now)

    def _prefer_healthier(self, now: float) -> None:
        """Hand over when the partner has more of the shared links than we have, for more than a moment."""
        reachable = self.channel_is_up and self.links_are_up and self.listener.missed == 0
        weaker = reachable and self.partner_health > self.health and self._may_hand_over
        self._weaker_ticks = self._weaker_ticks + 1 if weaker else 0
        if self._weaker_ticks >= 2:
            self._weaker_ticks = 0
            self._report("link-lost", "a shared link is down here and up at the partner: handing over", WARNING)
            self.switchover(now)
