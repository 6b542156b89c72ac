"""Clusters of three that are broken on purpose (``mirror_world``): the checkers are worth what they catch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.mirroring import Mirroring, Other
from ipsecha.cluster.ownership import Role
from ipsecha.cluster.seating import SeatedMember
from ipsecha.model.records import LeaseEntry
from mirror_faults import a_channel_breaks_after_a_join, deaths_in_a_row, judged
from simulation.violation import Violation


class CeilingsNotTold(SeatedMember):
    """Who gets the seat does not hear of the ceilings that were raised without a backup."""

    def close_join(self, ceilings: Iterator[Sequence[LeaseEntry]], now: float) -> None:
        super().close_join((() for _ in ceilings), now)


class CeilingsInSnapshotForgotten(SeatedMember):
    """Ceilings that were asked for while a mirror received its snapshot are not said again."""

    def _pump_mirror(self, other: Other, now: float) -> None:
        other.source._asked = {}
        super()._pump_mirror(other, now)


class FirstAckCounts(SeatedMember):
    """``acks_all`` releases what one has acknowledged."""

    def _on_ack(self, frame: frames.Ack, now: float) -> None:
        super(Mirroring, self)._on_ack(frame, now)

    _on_frame = {**SeatedMember._on_frame, frames.Ack: _on_ack}  # noqa: RUF012


class MirrorGoesOn(SeatedMember):
    """A mirror whose owner is gone goes on with what it has."""

    def _lose_owner(self, now: float) -> None:
        complete = self.complete
        super()._lose_owner(now)
        if complete:
            self.in_sync = self.seated = True
            self._take_over(True, now)


class SeatOnSilence(SeatedMember):
    """The seat of a backup that is only silent is given away."""

    def _seat_is_free(self) -> bool:
        return self.role is Role.ACTIVE and self.log.backup is BackupState.ABSENT

    def _take_over(self, proof: bool, now: float, reason: str = "") -> None:
        super()._take_over(True, now, reason)


class AckBeforeApply(SeatedMember):
    """A mirror acknowledges at once and applies with the next frame."""

    _late: fx.ClusterEffect | None = None

    def member_frame(self, index: int, data: bytes, now: float) -> None:
        before = len(self._effects)
        super().member_frame(index, data, now)
        if self.seated:
            return
        for effect in self._effects[before:]:
            if isinstance(effect, fx.Apply):
                self._effects.remove(effect)
                if self._late is not None:
                    self._effects.append(self._late)
                self._late = effect


Judge = Callable[..., object]

MIRROR_VARIANTS: dict[str, tuple[type[SeatedMember], tuple[str, ...], tuple[str, ...], Judge]] = {
    "ceilings not told": (CeilingsNotTold, ("I2", "I3"), (), deaths_in_a_row),
    "ceilings in the snapshot forgotten": (
        CeilingsInSnapshotForgotten,
        ("I2", "I3"),
        (),
        a_channel_breaks_after_a_join,
    ),
    "first ack counts": (FirstAckCounts, ("acks",), ("slow", "crash"), judged),
    "mirror goes on": (MirrorGoesOn, ("seat",), ("crash", "break"), judged),
    "seat on silence": (SeatOnSilence, ("I2", "I3", "commit", "I5"), ("isolate", "part", "pause"), judged),
    "ack before apply": (AckBeforeApply, ("acks", "commit"), ("crash", "slow"), judged),
}


KNOWN_SEEDS = {"ceilings in the snapshot forgotten": 151, "ceilings not told": 19}
"""Where a variant is first found out: before any other is tried."""


def noticed_by(name: str, seeds: int) -> tuple[str, int] | None:
    """The checker that finds a variant out, and at which seed; None: none of so many does."""
    member, _, faults, judge = MIRROR_VARIANTS[name]
    for seed in (KNOWN_SEEDS.get(name, 0), *range(seeds)):
        try:
            judge(seed, faults, member)
        except Violation as violation:
            return violation.checker, seed
    return None
