"""Clusters that are broken on purpose: the checkers are worth what they catch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.frames import Change
from ipsecha.cluster.pair import PairMember
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.leases import Leasing
from ipsecha.model.records import ChildSa, LeaseEntry, decode_record, encode_record
from simulation.gateways import MemberNode
from simulation.world import Variant

IKE_SPI_LENGTH = 8


class _NoOutputCommit(PairMember):
    """Messages leave before the backup has acknowledged what they depend on."""

    def commit(self, changes: Sequence[Change], now: float) -> int:
        number = super().commit(changes, now)
        self._effects.append(fx.Released(number))
        return number


class _AckBeforeApply(PairMember):
    """The backup acknowledges at once and applies with the next frame."""

    _late: fx.ClusterEffect | None = None

    def _acknowledge_first(self, frame: frames.Commit, now: float) -> None:
        PairMember._on_frame[frames.Commit](self, frame, now)
        applied = [effect for effect in self._effects if isinstance(effect, fx.Apply)]
        if applied:
            self._effects.remove(applied[-1])
            if self._late is not None:
                self._effects.append(self._late)
            self._late = applied[-1]

    _on_frame: ClassVar[dict[type, Any]] = {**PairMember._on_frame, frames.Commit: _acknowledge_first}


class _EpochNotChecked(PairMember):
    """A backup takes writes of whoever sends some, gaps in the numbers included; its owner writes while it hands
    over."""

    def _fenced(self, epoch: int) -> bool:
        if epoch != self.epoch:
            self._applied = None
        return False

    def _try_handover(self) -> None:
        super()._try_handover()
        if self._handover is not None and self._handover.sent:
            self.commit([(bytes(8), None)], 0.0)


class _SnapshotWithoutTail(PairMember):
    """Live commits are not sent to a backup that is joining."""

    def commit(self, changes: Sequence[Change], now: float) -> int:
        if self.log.backup is not BackupState.JOINING:
            return super().commit(changes, now)
        self._effects.append(fx.Released(self.log.number))
        return self.log.number


class _TakeoverAtTheCeiling(PairMember):
    """Not above the lanes of whoever may still send."""

    def _become_active(self, above_lanes: int, leasing: Leasing, same_epoch: bool = False) -> None:
        super()._become_active(0, leasing, same_epoch)


class _SameEpoch(PairMember):
    """A takeover does not make the epoch grow."""

    def _become_active(self, above_lanes: int, leasing: Leasing, same_epoch: bool = False) -> None:
        super()._become_active(above_lanes, leasing, same_epoch or self.epoch > 0)


class _IvWithoutIncarnation(IkeEndpoint):
    """IVs of IKE messages are the counter alone."""

    def first_iv(self, counter: int) -> int:
        return counter


def _without_responses(node: MemberNode) -> None:
    """The record lacks the last responses."""
    _alter_records(node, _stripped)


def _alter_records(node: MemberNode, alter: Callable[[bytes], bytes]) -> None:
    """Those of IKE SAs, whose keys are their SPIs."""
    commit = node.gateway.output._commit

    def altered(key: bytes, data: bytes | None) -> bytes | None:
        return data if data is None or len(key) != IKE_SPI_LENGTH else alter(data)

    node.gateway.output._commit = lambda changes: commit([(key, altered(key, data)) for key, data in changes])


def _stripped(data: bytes) -> bytes:
    sa = decode_record(data)
    sa.responses = ()
    return encode_record(sa)


def _without_request(node: MemberNode) -> None:
    """The record lacks the request in flight."""
    _alter_records(node, _requestless)


def _requestless(data: bytes) -> bytes:
    sa = decode_record(data)
    sa.exchange = None
    return encode_record(sa)


def _install_before_commit(node: MemberNode) -> None:
    """Output commit is left out altogether: everything is carried out at once, then replicated."""
    output = node.gateway.output
    submit = output.submit

    def hasty(effects: Sequence[Any]) -> None:
        output._carry_out([effect for effect in effects if type(effect) in node.gateway._actions])
        submit([effect for effect in effects if type(effect) not in node.gateway._actions])

    output.submit = hasty  # type: ignore[method-assign]


def _floor_at_the_last_synced_number(node: MemberNode) -> None:
    """The inbound window's floor is what was used when the lease was last extended, not the ceiling."""
    sad = node.plane._sad
    start_of = sad._start_of

    def lower(child: ChildSa) -> tuple[int, int]:
        inbound, outbound = start_of(child)
        return max(inbound - 8, 0), outbound

    sad._start_of = lower  # type: ignore[method-assign]


def _lease_without_ack(node: MemberNode) -> None:
    """What was asked for is used before it is acknowledged."""
    sad = node.plane._sad
    requests = sad.lease_requests

    def impatient(now: float) -> list[LeaseEntry]:
        entries = requests(now)
        for entry in entries:
            live = sad.lives.get(entry.spi_in)
            if live is not None:
                live.in_lease.grant(entry.in_ceiling)
                live.out_lease.grant(entry.out_ceiling)
        return entries

    sad.lease_requests = impatient  # type: ignore[method-assign]


def _stale_records_kept(node: MemberNode) -> None:
    """A backup that joins keeps what it had."""
    node.side._actions[fx.DiscardRecords] = lambda effect: node.endpoint.deactivate()


def _announced_once(node: MemberNode) -> None:
    """An owner does not say again who has the addresses when its rival has given up."""
    side = node.side
    take_snapshot = side._actions[fx.TakeSnapshot]

    def say(delays_s: tuple[float, ...]) -> None:
        side._announce()

    def take(effect: fx.TakeSnapshot) -> None:
        side._announce_repeatedly = lambda delays_s: None  # type: ignore[method-assign]
        take_snapshot(effect)
        side._announce_repeatedly = say  # type: ignore[method-assign]

    side._announce_repeatedly = say  # type: ignore[method-assign]
    side._actions[fx.TakeSnapshot] = take


def _announced_to_nobody(node: MemberNode) -> None:
    """An owner that claimed the addresses while its links were down says nothing when they are up again."""
    side = node.side
    side._mind_links = lambda: side.member.links(  # type: ignore[method-assign]
        side.addresses.links_up(), len(side.addresses.carriers())
    )


VARIANTS: dict[str, tuple[Variant, set[str]]] = {
    variant.name: (variant, checkers)
    for variant, checkers in (
        (Variant("no-output-commit", member=_NoOutputCommit, faults=("crash_between_acts",)), {"I4", "commit"}),
        (
            Variant("carried-out-before-commit", prepare=_install_before_commit, faults=("crash_between_acts",)),
            {"I4", "commit"},
        ),
        (Variant("response-not-in-the-record", prepare=_without_responses), {"I4", "commit"}),
        (Variant("request-not-in-the-record", prepare=_without_request), {"I4", "commit"}),
        (
            Variant("epoch-not-checked", member=_EpochNotChecked, faults=("switchover",)),
            {"I5"},
        ),
        (Variant("epoch-does-not-grow", member=_SameEpoch), {"I1", "I5"}),
        (Variant("iv-without-incarnation", endpoint=_IvWithoutIncarnation), {"I1"}),
        (Variant("announced-once", prepare=_announced_once, faults=("partition",)), {"I4"}),
        (Variant("announced-to-nobody", prepare=_announced_to_nobody, faults=("lose_carrier", "hang")), {"I4"}),
        (Variant("ack-before-apply", member=_AckBeforeApply), {"I4", "commit"}),
        (Variant("takeover-at-the-ceiling", member=_TakeoverAtTheCeiling, faults=("hang", "partition")), {"I2"}),
        (
            Variant(
                "inbound-floor-at-the-last-synced-number",
                prepare=_floor_at_the_last_synced_number,
                faults=("crash", "hang"),
            ),
            {"I3"},
        ),
        (
            Variant("lease-without-ack", prepare=_lease_without_ack, faults=("crash", "slow_channel", "break_channel")),
            {"I3", "I4"},
        ),
        (
            Variant("snapshot-without-tail", member=_SnapshotWithoutTail, faults=("break_channel", "slow_channel")),
            {"I4", "commit"},
        ),
        (
            Variant("stale-records-kept", prepare=_stale_records_kept, faults=("lose_beats", "cut_channel")),
            {"I4", "commit"},
        ),
    )
}
"""By name: what is broken, and the checkers that may be the first to notice."""
