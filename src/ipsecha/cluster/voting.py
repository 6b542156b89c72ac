"""A member and its witness: who may go on when the partner is silent (``cluster.witness`` is what they say).

Theory of operation.  Without a witness nothing here happens, and silence is acted on at once (DESIGN section 3).  With
one, the same judgement leads to a claim first, and what was going to happen happens with the vote: ``_granted`` looks
at what this member is *now*, so it does not matter what it was when it asked.

Until the vote is there an owner stays within what its backup has acknowledged: packets and commits wait, bounded, and
after ``WAIT_TICKS`` it stops serving altogether.  A backup stays a backup.  The member whose claim is refused knows
that its records are old.

Proof of death needs no vote: nobody else lives.  But the dead one may have had it, unheard, and then its SAs went on
without us; so the witness is asked there, too, where it can be, and only a member that has itself seen a silence before
the proof, or has just been asleep for as long as one, insists on an answer; unless the dead one's last word was that it
had not gone on.
"""

from __future__ import annotations

from ipsecha.cluster import effects as fx
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.epoch import MEMBER_BITS, make_epoch, next_epoch
from ipsecha.cluster.frames import Hello
from ipsecha.cluster.ownership import ERROR, WARNING, PairSettings, Role
from ipsecha.cluster.restoring import Restoring
from ipsecha.cluster.witness import Kind, Request, WitnessClient
from ipsecha.model.errors import ClusterError
from ipsecha.model.spi import Entropy

WAIT_TICKS = 30
"""So long (heartbeats) an owner without an answer holds what may not leave; then it stops."""

PROOF_TICKS = 3
"""So long a member that has proof waits for the witness's answer."""


class Voting(Restoring):
    """One of two members as it asks the witness."""

    def __init__(self, settings: PairSettings, entropy: Entropy) -> None:
        super().__init__(settings, entropy)
        self.witness = WitnessClient(settings.cluster, self._boot_id) if settings.witness else None
        self._waiting_ticks = 0
        self._told_epoch = 0
        self._told_unreachable = False
        self._returning: Request | None = None  # the claim whose vote we have no use for
        self._outgrowing = 0  # the epoch that the witness was told before we take it
        self._waking_ticks = 0  # that are left after a sleep

    # Input

    def witness_up(self, now: float) -> None:
        if self.witness is not None:
            self._told_epoch = 0
            self._effects.append(fx.AskWitness(self.witness.up()))
            if self._told_unreachable:
                self._told_unreachable = False
                self._report("witness", "the witness can be reached again")

    def witness_down(self, now: float) -> None:
        if self.witness is not None:
            self.witness.down()

    def witness_answer(self, data: bytes, now: float) -> None:
        """One message of the witness; one that makes no sense resets the connection and is counted."""
        if self.witness is None or not self.witness.connected:
            return
        try:
            decided = self.witness.answer(data)
        except ClusterError:
            self.counters["malformed answers of the witness"] += 1
            self._reset_witness()
            return
        if self.witness.line is not None and not (decided and decided[1]):
            self._highest_epoch = max(self._highest_epoch, self.witness.line.epoch)
        if decided is None:
            return
        claim, granted = decided
        if granted and self._is_wanted(claim):
            self._granted(claim, now)
        elif granted:
            self._returning = claim
            self._return_vote()
            if self._proof:
                self._proof = False
                self._decide(True, now)
                return
        elif self._proof or self.listener.silent:
            self._refused(claim, now)
        self._proof = False

    def serve_alone(self, now: float) -> None:
        """The operator knows that the partner serves nobody.  Raises ClusterError where it is there, or where this
        member serves alone anyway.

        Outbound numbers stay in lanes all the same: I1 and I2 hold even if the operator is wrong.
        """
        there = self.channel_is_up and not self.listener.silent and self.partner is not None
        if there and (self.owns or (self.partner is not None and self.partner.active)):
            raise ClusterError(f"{self._partner_name} is there: no need to serve alone")
        if self.role is Role.ACTIVE and self.log.backup is BackupState.ABSENT:
            raise ClusterError("this member serves alone already")
        self._report("serve-alone", "the operator says: serve alone", WARNING)
        if self.witness is not None:
            self.witness.claim = None
        self._insists = self._proof = False
        if self.role is Role.ACTIVE:
            self._go_on_alone(False, now)
        elif self.role is Role.HANDING_OVER:
            self._abandon_handover(False, now)
        elif self.in_sync:
            self._take_over(False, now)
        elif self._owned:
            self._resume(now)
        else:
            self._cold_start(now)

    @property
    def _verdict_pending(self) -> bool:
        """The former process of the partner is dead, and the witness has not said yet whether it had gone on: a new
        one is nobody's backup before that, whatever it acknowledges."""
        return self._proof and self.witness is not None and self.witness.claim is not None

    # Deciding

    def _decide(self, proof: bool, now: float) -> None:
        """The partner is dead, or silent: act, with the vote where there is a witness."""
        if self.witness is None or not self._at_stake(proof):
            self._act(proof, now)
            return
        self._proof = self._proof or proof
        # Restored from a disk: anybody may have owned since.
        self._insists = self._insists or not proof or self.restored or self._has_slept(now)
        if proof and not self._insists and not self.witness.connected:
            self._proof = False
            self._act(True, now)
        elif self.witness.may_claim or (proof and self.witness.claim is None):
            self._claim_epoch(now)

    def _has_slept(self, now: float) -> bool:
        """Whether we have just been asleep for as long as makes us silent: the partner may have gone on with the vote,
        and what it has said since may be lost, or wait in front of us."""
        return self._waking_ticks > 0 or self._is_asleep(now + self._clock_shift)

    def _is_asleep(self, now: float) -> bool:
        return now - self._tick_at >= (self.settings.missed_beats - 1) * self.settings.heartbeat_s

    def _mind_sleep(self, now: float) -> None:
        """Once a heartbeat, before the next one is due.  Beats from before may be read after the first one; if no
        others follow, we have ourselves seen a silence after so many more."""
        self._waking_ticks = self.settings.missed_beats + 1 if self._is_asleep(now) else max(self._waking_ticks - 1, 0)

    def _has_stayed(self, now: float) -> None:
        """The partner's process has said, as its last word, that it is in the epoch of our records: it never went on
        without us, whatever we have missed."""
        self._insists, self._waking_ticks = False, 0
        self._tick_at = max(self._tick_at, now + self._clock_shift)

    def _at_stake(self, proof: bool) -> bool:
        """Whether the partner may have had the same idea: it holds our records, or may start anew beside us."""
        if self.role in (Role.ACTIVE, Role.HANDING_OVER):
            return self.rivalry.exists or self.role is Role.HANDING_OVER
        if self.role is Role.STANDBY and not self.in_sync:
            return False
        if self._owned and not self.rivalry.exists:
            return False
        return self._owned or self.in_sync or not proof

    def _act(self, proof: bool, now: float) -> None:
        """Silence or proof, without a witness or without anything at stake."""
        if proof and self.witness is not None:
            self._leave_room()
        if self.role is Role.ACTIVE:
            self._backup_gone(proof, now)
        elif self.role is Role.HANDING_OVER:
            self._abandon_handover(proof, now)
        elif self.role is Role.STANDBY:
            self._take_over(proof, now)
        elif self._owned and not self.rivalry.exists:
            self._resume(now)
        elif self._owned and proof:
            self._reclaim(now)
        else:
            self._cold_start(now)

    # Nobody owns, and the two of us talk

    def _give_up_records(self, now: float) -> None:
        """The partner is to go on with its records: ours are none from now on, and no vote for them counts."""
        self.in_sync = self._owned = self.restored = False
        self._say_hello(now)

    def _claim_records(self, hello: Hello, now: float) -> None:
        """The partner holds none: it has given them up, or its former process took them along, and what it did last."""
        if hello.boot_id not in (self.rivalry.heir, self._followed):
            self._decide(True, now)
        elif self.in_sync:
            self._take_over(True, now)
        else:
            self._reclaim(now)

    def _ask_about_restored(self, now: float) -> None:
        self._insists = True
        self._decide(True, now)

    def _claim_epoch(self, now: float) -> None:
        """One term is left out: in doubt, it may be that of the partner that has taken over."""
        assert self.witness is not None
        base = self.epoch if self.in_sync or self._owned else 0
        if self.epoch and not base:
            return  # we have followed an owner: it may live, though the witness need not have heard of it
        highest = max(self._highest_epoch, self.epoch, self._first_epoch)
        if self.witness.line is not None:
            highest = max(highest, self.witness.line.epoch)
        self._returning = None  # it may be the same epoch again
        epoch = make_epoch((highest >> MEMBER_BITS) + 2, self.settings.index)
        data = self.witness.ask(epoch, base, self.lineage)
        if self.witness.connected:
            self._effects.append(fx.AskWitness(data))

    def _is_wanted(self, claim: Request) -> bool:
        """Whether a vote still fits: nobody has come back, and our records are those that it was asked for."""
        gone = self._proof or (self.listener.silent and not self.channel_is_up)  # on a channel we have said what we are
        if not gone or not self.links_are_up:
            return False
        if self.role is Role.ACTIVE and not self.rivalry.exists:
            return False
        return claim.base == (self.epoch if self.in_sync or self._owned else 0)

    def _granted(self, claim: Request, now: float) -> None:
        self._insists = False
        self._waiting_ticks = 0
        self._highest_epoch = max(self._highest_epoch, claim.epoch - (1 << MEMBER_BITS))
        if self.role is Role.ACTIVE:
            self._go_on_alone(True, now)
        elif self.role is Role.HANDING_OVER:
            self._go_on_after_handover(now)
        elif self.in_sync:
            self._take_over(True, now, "the vote" if not self._proof else "proof of death")
        elif self._owned:
            (self._resume_restored if self.restored else self._reclaim)(now)
        else:
            self._cold_start(now)
        self.alone_by_vote = not self._proof
        self.alone_by_proof = self._proof

    def _refused(self, claim: Request, now: float) -> None:
        """Somebody has gone on from a later epoch than our records are of."""
        assert self.witness is not None
        line = self.witness.line
        assert line is not None
        self._highest_epoch = max(self._highest_epoch, line.epoch)
        if self._proof and claim.base:
            self._report("owner-lost", f"{line.member} had gone on before it died: its SAs are lost", ERROR)
            if self.owns:
                self._step_down(Role.STARTING, "our records are old")
            self._cold_start(now)
            return
        if self.owns or self.in_sync:
            self._report("refused", f"the witness has {line.member} in epoch {line.epoch:#x}: not going on", WARNING)
        if self.owns:
            self._start_deadline = now
            self._step_down(Role.ISOLATED, "the witness has voted for another")
        elif self.in_sync:
            self.role = Role.STARTING
            self._start_deadline = now + self.settings.start_wait_s
        self._insists = self.in_sync = self._owned = self.restored = False
        self._hello_again(now)  # a partner that has just come up waits for what our records would have made of us

    # Time

    def _mind_the_witness(self, now: float) -> None:
        """Once a heartbeat."""
        if self.witness is None:
            return
        data = self.witness.tick()
        if self.witness.is_dead:
            self._reset_witness()
        elif self.witness.connected:
            if self.owns and self._told_epoch != self.epoch:
                self._told_epoch = self.epoch
                data = self.witness.request(Kind.TELL, self.epoch, self.epoch, self.lineage)
            if data is not None:
                self._effects.append(fx.AskWitness(data))
                self._return_vote()
            self._outgrow_the_dead()
        self._mind_the_claim(now)

    def _return_vote(self) -> None:
        """As long as the witness has us in an epoch that we did not take: our partner would be refused when we die."""
        assert self.witness is not None
        claim, line = self._returning, self.witness.line
        if claim is None or line is None:
            return
        if self.witness.claim is not None or line.epoch != claim.epoch or line.holder != self._boot_id:
            self._returning = None
            return
        data = self.witness.request(Kind.RETURN, claim.epoch, claim.base, claim.lineage)
        self._effects.append(fx.AskWitness(data))

    def _outgrow_the_dead(self) -> None:
        """Both of us have begun anew, below an epoch that the witness was told by a process that is no more: our backup
        would be refused when we die.  It joins again in an epoch above that line.  The witness is told of that epoch
        before it is taken: a later process of ours must not take it again (invariant I1)."""
        assert self.witness is not None
        line, in_sync = self.witness.line, self.log.backup is BackupState.IN_SYNC
        if line is None or line.epoch <= self.epoch or not in_sync or not self._is_followed_by_all():
            return
        if self.role is not Role.ACTIVE or not self.channel_is_up or self.partner is None:
            return
        if line.holder == self._boot_id and line.epoch == self._outgrowing:
            self.epoch, self._highest_epoch = line.epoch, max(self._highest_epoch, line.epoch)
            self._effects.append(fx.RaiseEpoch(self.epoch))
            self._reset_channel("an epoch above the witness's line")
        elif line.holder not in (self._boot_id, self.partner.boot_id):
            self._outgrowing = next_epoch(max(self._highest_epoch, line.epoch), self.settings.index)
            data = self.witness.request(Kind.TELL, self._outgrowing, self._outgrowing, self.lineage)
            self._effects.append(fx.AskWitness(data))

    def _is_followed_by_all(self) -> bool:
        """Whether every other member is our backup, or in sync otherwise, or dead."""
        return True

    def _mind_the_claim(self, now: float) -> None:
        assert self.witness is not None
        waits = self.witness.claim is not None and (self._proof or self.listener.silent)
        self._waiting_ticks = self._waiting_ticks + 1 if waits else 0
        if self._waiting_ticks < PROOF_TICKS:
            return
        if self._proof and not self._insists:
            self._proof = False
            self._act(True, now)
            self._hello_again(now)  # to a new process of the partner, whose wish to join was not heeded
            return
        if not self._told_unreachable:
            self._told_unreachable = True
            self._report("witness-unreachable", "no answer from the witness, and the partner is gone: waiting", ERROR)
        if self._waiting_ticks >= WAIT_TICKS and self._proof and self.restored:
            self._proof = self._insists = False
            self.witness.claim = None
            self._report("saved-state", "not used: neither the partner nor the witness can confirm it", WARNING)
            self._cold_start(now)
        elif self._waiting_ticks >= WAIT_TICKS and self.owns:
            self._start_deadline = now
            self._step_down(Role.ISOLATED, "neither the partner nor the witness can be reached")
            if self.channel_is_up:
                self._reset_channel("ownership changed")  # the hellos of a new one decide

    def _reset_witness(self) -> None:
        assert self.witness is not None
        self.witness.down()
        self._effects.append(fx.ResetWitness())

    # Acts that only a vote allows

    def _go_on_alone(self, voted: bool, now: float) -> None:
        """An owner goes on without its backup, in a later epoch: what the backup knows is of an earlier one."""
        if self.witness is not None:
            self._raise_epoch()
        skip = self._end_rivalry() if voted else 0
        self._backup_gone(False, now, leave=True)
        if skip:
            self._effects.append(fx.SetLeasing(self.rivalry.leasing, skip))
        self._hello_again(now)

    def _go_on_after_handover(self, now: float) -> None:
        """In doubt no more: the partner, if it has taken over, will be refused."""
        self._report("switchover-failed", f"{self._partner_name} is gone: active again, with the vote", ERROR)
        self._alone(True, now)
        self._effects.append(fx.Released(self.log.number))
        self._become_active(self._end_rivalry(), self.rivalry.leasing)
        self._hello_again(now)
