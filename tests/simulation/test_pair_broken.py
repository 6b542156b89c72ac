"""The checkers are worth what they catch: each deliberately broken member is found out, and by the right checker.

| variant | what is broken | found by |
|---|---|---|
| AckBeforeApply | a frame is acknowledged before it is applied | commit |
| EpochNotChecked | a backup takes writes of any epoch | I5 |
| SnapshotWithoutTail | commits do not reach a backup that is joining | commit |
| LeaseBeforeAck | ceilings count before the backup knows them | I2, I3 |
| ReleasedBeforeAck | messages leave before the backup knows them | commit |
| TakeoverNotAboveTheLane | a takeover goes on right above the ceilings | I2 |
| FreeWithoutSkipping | a rival's death is taken as proof of its innocence | I2, I5 |
| FreeAfterSilence | alone after silence, without a lane | I2, I3 |
| JoinWithoutDiscarding | stale records survive a join | commit |
| InSyncTooEarly | part of a snapshot is taken for the whole | commit |
| EpochNotRaised | a takeover keeps the former owner's epoch | I5 |
| SilenceAtOnce | one missed beat is death | I5 |
| DoubtForgotten | a handover without answer counts as not sent | I2 |
| DoubtAboveOneLane | the owner in doubt and the backup go on at the same place | I2 |
| RivalEpochForgotten | an epoch that a dead rival took unheard is taken again | I5 |
| RoleKeptSecret | the partner is not told who owns | stuck |
| DismissalIgnored | a backup that the owner goes on without still counts as in sync | I2, I3 |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from cluster_checkers import Violation
from cluster_faults import judged, owner_dies_behind_a_cut_cable
from cluster_world import World
from ipsecha.cluster import effects as fx
from ipsecha.cluster import lanes
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.frames import Change, Hello
from ipsecha.cluster.pair import PairMember, Role
from ipsecha.model.leases import Leasing
from ipsecha.model.records import LeaseEntry

SEEDS = 400


class AckBeforeApply(PairMember):
    """Acknowledges at once, applies with the next frame."""

    _late: fx.ClusterEffect | None = None

    def receive_frame(self, data: bytes, now: float) -> None:
        before = len(self._effects)
        super().receive_frame(data, now)
        for effect in self._effects[before:]:
            if isinstance(effect, fx.Apply):
                self._effects.remove(effect)
                if self._late is not None:
                    self._effects.append(self._late)
                self._late = effect


class EpochNotChecked(PairMember):
    """A backup that takes writes of whoever sends some; its owner does write while it hands over."""

    def _fenced(self, epoch: int) -> bool:
        return False

    def _try_handover(self) -> None:
        super()._try_handover()
        if self._handover is not None and self._handover.sent:
            self.commit([(bytes(8), None)], 0.0)


class SnapshotWithoutTail(PairMember):
    """Live commits are not sent to a backup that is joining."""

    def commit(self, changes: Sequence[Change], now: float) -> int:
        if self.log.backup is not BackupState.JOINING:
            return super().commit(changes, now)
        self._effects.append(fx.Released(self.log.number))
        return self.log.number


class LeaseBeforeAck(PairMember):
    def extend(self, entries: Sequence[LeaseEntry], now: float) -> None:
        super().extend(entries, now)
        self._effects.append(fx.Granted(tuple(entries)))


class ReleasedBeforeAck(PairMember):
    def commit(self, changes: Sequence[Change], now: float) -> int:
        number = super().commit(changes, now)
        self._effects.append(fx.Released(number))
        return number


class TakeoverNotAboveTheLane(PairMember):
    def _become_active(self, above_lanes: int, leasing: Leasing, same_epoch: bool = False) -> None:
        super()._become_active(0, leasing, same_epoch)


class FreeWithoutSkipping(PairMember):
    """Proof of death, or a partner that joins anew, is taken as proof that it never used our SAs."""

    def _end_rivalry(self, proven_innocent: bool = False) -> int:
        return super()._end_rivalry(True)


class FreeAfterSilence(PairMember):
    """Alone after silence, but bounded by no lane."""

    def _backup_gone(self, proof: bool, now: float) -> None:
        super()._backup_gone(proof, now)
        self._effects.append(fx.SetLeasing(Leasing.FREE))


class JoinWithoutDiscarding(PairMember):
    def _follow(self, partner: Hello, now: float) -> None:
        super()._follow(partner, now)
        self._effects = [effect for effect in self._effects if not isinstance(effect, fx.DiscardRecords)]


class InSyncTooEarly(PairMember):
    """A backup that takes the first part of a snapshot for the whole."""

    def receive_frame(self, data: bytes, now: float) -> None:
        super().receive_frame(data, now)
        self.in_sync = self.in_sync or (self.role is Role.STANDBY and self._applied is not None)


class EpochNotRaised(PairMember):
    """Takes over in the epoch of the former owner."""

    def _become_active(self, above_lanes: int, leasing: Leasing, same_epoch: bool = False) -> None:
        super()._become_active(above_lanes, leasing, same_epoch or self.in_sync)


class SilenceAtOnce(PairMember):
    """Ticks while nothing was heard count, however late they come after each other."""

    def handle_timer(self, now: float) -> None:
        self.listener.missed_beats = 1
        super().handle_timer(now)


class DoubtForgotten(PairMember):
    """No TAKEN came: goes on as if HANDOVER had not been sent."""

    def _abandon_handover(self, proof: bool, now: float) -> None:
        if self._handover is not None:
            self._handover.sent = False
        super()._abandon_handover(False, now)


class DoubtAboveOneLane(PairMember):
    """Goes on in doubt where the backup begins that takes over on silence."""

    def _become_active(self, above_lanes: int, leasing: Leasing, same_epoch: bool = False) -> None:
        super()._become_active(min(above_lanes, lanes.AFTER_SILENCE), leasing, same_epoch)


class RivalEpochForgotten(PairMember):
    """Lets the next backup take an epoch that a former one may have taken unheard."""

    def _end_rivalry(self, proven_innocent: bool = False) -> int:
        highest = self._highest_epoch
        skip = super()._end_rivalry(proven_innocent)
        self._highest_epoch = highest
        return skip


class RoleKeptSecret(PairMember):
    def _hello_again(self, now: float) -> None:
        """Tells nobody."""


class DismissalIgnored(PairMember):
    """Says that it has given up being in sync, and does not."""

    def _give_up_sync(self, dismissal: int) -> None:
        self._dismissal = dismissal


Broken = tuple[type[PairMember], set[str], tuple[str, ...], int]
VARIANTS: tuple[Broken, ...] = (  # with the kinds of faults that matter, and the seed from which on to look
    (AckBeforeApply, {"commit"}, ("crash", "switchover"), 0),
    (EpochNotChecked, {"I5"}, ("switchover",), 0),
    (SnapshotWithoutTail, {"commit"}, ("crash", "break"), 118),
    (LeaseBeforeAck, {"I2", "I3"}, ("crash", "slow"), 14),
    (ReleasedBeforeAck, {"commit"}, ("crash", "slow"), 0),
    (TakeoverNotAboveTheLane, {"I2"}, ("pause", "deaf", "partition"), 0),
    (FreeWithoutSkipping, {"I2", "I5"}, ("partition", "crash"), 118),
    (FreeAfterSilence, {"I2", "I3"}, ("pause", "deaf", "partition"), 10),
    (JoinWithoutDiscarding, {"commit"}, ("crash", "partition"), 58),
    (InSyncTooEarly, {"commit"}, ("crash", "break"), 370),
    (EpochNotRaised, {"I5"}, ("crash",), 0),
    (SilenceAtOnce, {"I5"}, ("late", "switchover"), 10),
    (DoubtForgotten, {"I2"}, ("switchover and fault", "partition", "partition"), 240),
    (DoubtAboveOneLane, {"I2"}, ("switchover and fault", "partition", "partition"), 830),
    (RivalEpochForgotten, {"I5"}, ("partition", "crash"), 118),
    (RoleKeptSecret, {"stuck"}, ("crash",), 0),
)


def _found(variant: type[PairMember], faults: tuple[str, ...], first: int) -> Iterator[str]:
    for seed in range(first, first + SEEDS):
        try:
            judged(World(seed, member=variant, faults=faults))
        except Violation as violation:
            yield violation.checker


@pytest.mark.parametrize("broken", VARIANTS, ids=[broken[0].__name__ for broken in VARIANTS])
def test_a_broken_member_is_found_out(broken: Broken) -> None:
    variant, checkers, faults, first = broken
    assert next(_found(variant, faults, first), None) in checkers


@pytest.mark.parametrize("faults", sorted({broken[2] for broken in VARIANTS}), ids="+".join)
def test_a_sound_member_passes_where_broken_ones_fail(faults: tuple[str, ...]) -> None:
    for seed in range(12):
        judged(World(seed, faults=faults))


def test_a_backup_that_ignores_its_dismissal_is_found_out() -> None:
    """The synch cable alone is cut, and later the owner dies."""
    found = set()
    for seed in range(8):
        world = World(seed, member=DismissalIgnored, faults=("crash",))
        try:
            owner_dies_behind_a_cut_cable(world)
        except Violation as violation:
            found.add(violation.checker)
    assert found
    assert found <= {"I2", "I3"}
