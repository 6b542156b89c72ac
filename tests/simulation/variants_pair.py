"""Members that are broken on purpose, in the pair's own world: the checkers are worth what they catch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from msgspec import structs

from cluster_faults import judged
from cluster_stories import (
    an_estate_that_was_used_before,
    doubt_then_a_beat,
    doubt_then_isolation,
    handed_over_there_and_back,
    links_fail_where_the_partner_has_long_been_silent,
    owner_dies_after_a_join,
    owner_dies_behind_a_cut_cable,
    owner_dies_in_mid_join,
)
from cluster_world import World
from ipsecha.cluster import effects as fx
from ipsecha.cluster import lanes
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.frames import Change, Hello
from ipsecha.cluster.pair import PairMember, PairSettings, Role
from ipsecha.model.leases import Leasing
from ipsecha.model.records import LeaseEntry
from ipsecha.model.spi import Entropy


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
    """Ceilings count before the backup knows them."""

    def extend(self, entries: Sequence[LeaseEntry], now: float) -> None:
        super().extend(entries, now)
        self._effects.append(fx.Granted(tuple(entries)))


class ReleasedBeforeAck(PairMember):
    """Messages leave before the backup knows them."""

    def commit(self, changes: Sequence[Change], now: float) -> int:
        number = super().commit(changes, now)
        self._effects.append(fx.Released(number))
        return number


class TakeoverNotAboveTheLane(PairMember):
    """A takeover goes on right above the ceilings."""

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
    """Stale records survive a join."""

    def _discard(self) -> None:
        super()._discard()
        if self.role is Role.STANDBY:
            self._effects = [effect for effect in self._effects if not isinstance(effect, fx.DiscardRecords)]


class InSyncTooEarly(PairMember):
    """A backup that takes the first part of a snapshot for the whole."""

    def __init__(self, settings: PairSettings, entropy: Entropy) -> None:
        super().__init__(settings, entropy)
        self.log.part = self.log.window = 1  # a record each, for owners have few

    def receive_frame(self, data: bytes, now: float) -> None:
        super().receive_frame(data, now)
        self.in_sync = self.in_sync or (self.role is Role.STANDBY and self._applied is not None)


class InSyncBeforeAllAreLeased(PairMember):
    """The end of a join does not wait for the SAs whose turn to be leased comes later."""

    def close_join(self, ceilings: Iterator[Sequence[LeaseEntry]], now: float) -> None:
        super().close_join(islice(ceilings, 1), now)


class RaisedWhileJoiningNotTold(PairMember):
    """A backup that joins does not hear of the ceilings that were raised behind its records."""

    def close_join(self, ceilings: Iterator[Sequence[LeaseEntry]], now: float) -> None:
        super().close_join((() for _ in ceilings), now)


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


class ResumedInTheLaneOfDoubt(PairMember):
    """Goes on after it was isolated where an owner in doubt does, too."""

    def _become_active(self, above_lanes: int, leasing: Leasing, same_epoch: bool = False) -> None:
        place = lanes.IN_DOUBT if above_lanes in lanes.RESUMED else above_lanes
        super()._become_active(place, leasing, same_epoch)


class HandsOverUnconfirmed(PairMember):
    """Hands over to a former owner that may not know yet that it has handed over, and be in doubt."""

    @property
    def _may_hand_over(self) -> bool:
        self._backup_follows = True
        return super()._may_hand_over


class DoubtConcealed(PairMember):
    """Does not say that it has gone on in doubt, under its old epoch."""

    def _my_hello(self, now: float) -> Hello:
        return structs.replace(super()._my_hello(now), has_owned=False)


class RivalEpochForgotten(PairMember):
    """Lets the next backup take an epoch that a former one may have taken unheard."""

    def _end_rivalry(self, proven_innocent: bool = False) -> int:
        highest = self._highest_epoch
        skip = super()._end_rivalry(proven_innocent)
        self._highest_epoch = highest
        return skip


class RoleKeptSecret(PairMember):
    """The partner is not told who owns."""

    def _hello_again(self, now: float) -> None:
        """Tells nobody."""


class DismissalIgnored(PairMember):
    """Says that it has given up being in sync, and does not."""

    def _give_up_sync(self, dismissal: int) -> None:
        self._dismissal = dismissal


class BeginsAnew(PairMember):
    """A backup in sync begins anew where its owner has died."""

    def _take_over(self, proof: bool, now: float, reason: str = "") -> None:
        self.in_sync = self.in_sync and not proof
        super()._take_over(proof, now, reason)


class IsolatedThoughAlone(PairMember):
    """An owner that has gone on beside a silent partner distrusts itself when its own links fail, and begins anew."""

    _stops_without_links = True


class EveryEstateIsTaken(PairMember):
    """Leaves its SAs to a new process of the partner, though the one before may have used them."""

    def _unused_before(self, partner: Hello) -> bool:
        return True


Broken = tuple[type[PairMember], set[str], tuple[str, ...] | Callable[[World], World]]
PAIR_VARIANTS: tuple[Broken, ...] = (  # with the checkers that may be first, and the kinds of faults that matter
    (AckBeforeApply, {"commit"}, ("crash", "switchover")),
    (EpochNotChecked, {"I5"}, ("switchover",)),
    (SnapshotWithoutTail, {"commit"}, ("crash", "break")),
    (LeaseBeforeAck, {"I2", "I3"}, ("crash", "slow")),
    (ReleasedBeforeAck, {"commit"}, ("crash", "slow")),
    (TakeoverNotAboveTheLane, {"I2"}, ("pause", "deaf", "partition")),
    (FreeWithoutSkipping, {"I2", "I5"}, ("partition", "crash")),
    (FreeAfterSilence, {"I2", "I3"}, ("pause", "deaf", "partition")),
    (JoinWithoutDiscarding, {"commit"}, ("crash", "partition")),
    (InSyncTooEarly, {"commit"}, owner_dies_in_mid_join),
    (InSyncBeforeAllAreLeased, {"I2", "I3"}, owner_dies_after_a_join),
    (RaisedWhileJoiningNotTold, {"I2", "I3"}, owner_dies_after_a_join),
    (EpochNotRaised, {"I5"}, ("crash",)),
    (SilenceAtOnce, {"I5"}, ("late", "switchover")),
    (DoubtForgotten, {"I2"}, ("switchover and fault", "switchover and fault", "pause", "partition")),
    (DoubtAboveOneLane, {"I2"}, ("switchover and fault", "partition", "switchover and fault")),
    (ResumedInTheLaneOfDoubt, {"I2"}, doubt_then_isolation),
    (HandsOverUnconfirmed, {"I2"}, handed_over_there_and_back),
    (DoubtConcealed, {"I2"}, doubt_then_a_beat),
    (RivalEpochForgotten, {"I5"}, ("partition", "crash")),
    (RoleKeptSecret, {"stuck"}, ("crash",)),
    (DismissalIgnored, {"I2", "I3"}, owner_dies_behind_a_cut_cable),
    (BeginsAnew, {"lost"}, ("crash", "switchover")),
    (EveryEstateIsTaken, {"I2", "I3"}, an_estate_that_was_used_before),
    (IsolatedThoughAlone, {"lost"}, links_fail_where_the_partner_has_long_been_silent),
)


def spoken(name: str) -> str:
    """``AckBeforeApply`` as it stands in the table."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def judged_pair(broken: Broken, seed: int) -> World:
    """The pair of a seed, made of broken members.  Raises Violation."""
    member, _, faults = broken
    if callable(faults):
        return faults(World(seed, member=member))
    return judged(seed, member, faults)


def kinds_of(broken: Broken) -> tuple[str, ...]:
    """The kinds of faults that matter; none where there is a story."""
    return () if callable(broken[2]) else broken[2]
