"""Clusters of three that are broken on purpose (``mirror_world``): the checkers are worth what they catch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import structs

from cluster_gateway import Record, Use
from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.mirroring import Mirroring, Other
from ipsecha.cluster.ownership import Role
from ipsecha.cluster.seating import SeatedMember
from ipsecha.cluster.witness import Ledger
from ipsecha.model.records import LeaseEntry
from mirror_faults import LEVEL, WITNESSED_LEVEL, judged, judged_with_witness
from mirror_world import MirrorGateway, MirrorWorld
from simulation.variants_pair import spoken
from simulation.variants_witness import StaleLine, VotesTwice


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

    def _acknowledged(self, number: int, now: float) -> None:
        super(Mirroring, self)._acknowledged(number, now)


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

    def _attach(self, other: Other, hello: frames.Hello, now: float) -> None:
        self._late = None
        super()._attach(other, hello, now)

    def member_frame(self, index: int, data: bytes, now: float) -> None:
        before = len(self._effects)
        super().member_frame(index, data, now)
        for effect in self._effects[before:]:
            if isinstance(effect, fx.Apply):
                at = self._effects.index(effect)
                late, self._late = self._late, None if self.seated else effect
                self._effects[at : at + 1 - self.seated] = [late] if late is not None else []


class EpochOfPredecessor(SeatedMember):
    """A process that comes back takes epochs that its predecessor may have had."""

    def start(self, now: float, wall_s: float) -> None:
        super().start(now, 0.0)


class SeatWhileJoining(SeatedMember):
    """A mirror that lacks a part of the snapshot is given the seat, and takes it."""

    def _look_at_the_seats(self, now: float) -> None:
        joining = next(iter(self.mirrors()), None)
        if joining is not None and self._seat_is_free():
            self._give_the_seat(joining, now)
        super()._look_at_the_seats(now)

    def _on_seat(self, other: Other, frame: frames.Seat, now: float) -> None:
        self.complete = True
        super()._on_seat(other, frame, now)

    _on_other_frame = {**SeatedMember._on_other_frame, frames.Seat: _on_seat}  # noqa: RUF012


class LaterEpochNotTaken(SeatedMember):
    """An owner stays in its epoch, whatever others have followed and lost."""

    def _wait_for_none(self) -> None:
        """Waits for ever."""


class NoSeatIsInnocence(SeatedMember):
    """A partner that has left its seat is taken for one that has used nothing, if its epoch is not the higher one."""

    def _partner_has_no_seat(self, frame: frames.Standing, now: float) -> None:
        hello = structs.replace(frame.hello, has_owned=False)
        super()._partner_has_no_seat(structs.replace(frame, hello=hello), now)


class OutvotedKeepsItsSeat(SeatedMember):
    """An owner that was outvoted, isolated and with nothing left, keeps its seat."""

    def _look_at_the_seats(self, now: float) -> None:
        if self.role is not Role.ISOLATED:
            super()._look_at_the_seats(now)


class AskedForForgotten(MirrorGateway):
    """Ceilings that were asked for and not acknowledged are forgotten, though mirrors have heard of them."""

    def _grant_what_was_asked(self, use: Use, record: Record) -> None:
        """Nothing is."""


class MirrorVariant(NamedTuple):
    """``broken``: a member, its gateway, or the witness's ledger.  ``checkers``: those that may be first."""

    level: str
    broken: type[SeatedMember] | type[MirrorGateway] | type[Ledger]
    checkers: set[str]
    faults: tuple[str, ...]

    @property
    def name(self) -> str:
        return spoken(self.broken.__name__)

    @property
    def types(self) -> dict[str, type]:
        """As arguments of a world."""
        roles = {"ledger": Ledger, "gateway": MirrorGateway, "member": SeatedMember}
        return {name: self.broken for name, role in roles.items() if issubclass(self.broken, role)}


MIRROR_VARIANTS = (
    MirrorVariant(LEVEL, CeilingsNotTold, {"I2", "I3"}, ("deaf then gone", "deaf then gone", "crash")),
    MirrorVariant(LEVEL, CeilingsInSnapshotForgotten, {"I2", "I3"}, ("join then break", "join then break", "slow")),
    MirrorVariant(LEVEL, AskedForForgotten, {"I3"}, ("deaf then gone", "deaf then gone", "crash")),
    MirrorVariant(LEVEL, FirstAckCounts, {"acks"}, ("slow", "crash")),
    MirrorVariant(LEVEL, MirrorGoesOn, {"seat"}, ("crash", "break")),
    MirrorVariant(LEVEL, SeatOnSilence, {"I2", "I3", "commit", "I5"}, ("isolate", "part", "pause")),
    MirrorVariant(LEVEL, AckBeforeApply, {"acks", "commit"}, ("crash", "slow")),
    MirrorVariant(LEVEL, EpochOfPredecessor, {"I5"}, ("crash", "isolate")),
    MirrorVariant(LEVEL, SeatWhileJoining, {"commit", "acks", "lost"}, ("crash two", "crash", "slow")),
    MirrorVariant(LEVEL, NoSeatIsInnocence, {"I2"}, ("doubt then no seat",)),
    MirrorVariant(LEVEL, LaterEpochNotTaken, {"stuck"}, ("part", "goodbye", "pause", "links", "crash in effects")),
    MirrorVariant(WITNESSED_LEVEL, VotesTwice, {"alone", "I2", "I3", "commit"}, ("isolate", "deaf", "partition")),
    MirrorVariant(WITNESSED_LEVEL, StaleLine, {"alone", "I2", "I3", "commit"}, ("isolate", "deaf", "partition")),
    MirrorVariant(WITNESSED_LEVEL, OutvotedKeepsItsSeat, {"stuck"}, ()),
)


def judged_mirrors(variant: MirrorVariant, seed: int) -> MirrorWorld:
    """The cluster of a seed, with what is broken.  Raises Violation."""
    judge = judged if variant.level == LEVEL else judged_with_witness
    return judge(seed, variant.faults, **variant.types)
