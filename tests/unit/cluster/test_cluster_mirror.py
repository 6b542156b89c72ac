"""The owner's side of one mirror."""

from __future__ import annotations

from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.mirror import STALL_TICKS, MirrorSource
from ipsecha.model.records import LeaseEntry

EPOCH = 0x11
CHANGE = (b"12345678", b"record")


def joined() -> MirrorSource:
    source = MirrorSource()
    source.attach([], deltas=False)
    source.snapshot(iter([]), 0)
    source.pump(EPOCH, EPOCH, 0.0, 0)
    source.acknowledge(source.log.number)
    assert source.state is BackupState.IN_SYNC
    return source


def test_ceilings_asked_for_during_the_snapshot_are_said_again_at_its_end() -> None:
    """They may arrive before the record that they belong to, which may have been encoded before they were granted."""
    source = MirrorSource()
    source.attach([LeaseEntry(1, 10, 20)], deltas=False)
    source.extend(EPOCH, [LeaseEntry(2, 30, 40), LeaseEntry(1, 5, 25)], 0.0, number=7)
    source.snapshot(iter([CHANGE]), 1)
    sent = source.pump(EPOCH, EPOCH, 0.0, 0)
    leases = next(frame for frame in sent if isinstance(frame, frames.Leases))
    assert frames.lease_entries(leases) == [LeaseEntry(1, 10, 25), LeaseEntry(2, 30, 40)]
    assert isinstance(sent[-1], frames.SnapshotEnd)


def test_ceilings_that_were_given_back_meanwhile_are_not_said_again() -> None:
    """A mirror that owns one day uses the SAs up to its ceilings, and the former owner has to know as much (I3)."""
    source = MirrorSource()
    source.attach([LeaseEntry(1, 1000, 20)], deltas=False)
    source.extend(EPOCH, [LeaseEntry(1, 300, 25, lowers=True)], 0.0, number=7)
    source.extend(EPOCH, [LeaseEntry(1, 310, 25)], 0.0, number=8)
    source.snapshot(iter([CHANGE]), 1)
    leases = next(frame for frame in source.pump(EPOCH, EPOCH, 0.0, 0) if isinstance(frame, frames.Leases))
    assert frames.lease_entries(leases) == [LeaseEntry(1, 310, 25)]


def test_what_a_mirror_in_sync_lacks_bounds_the_backups_stream() -> None:
    source = joined()
    assert source.bound is None
    source.commit(EPOCH, [CHANGE], 0.0, number=70)
    first = source.log.number
    source.commit(EPOCH, [CHANGE], 0.0, number=71)
    assert source.bound == 69
    source.acknowledge(first)
    assert source.bound == 70
    source.acknowledge(source.log.number)
    assert source.bound is None


def test_what_was_under_way_when_a_mirror_joined_waits_for_the_end_of_the_join() -> None:
    """It stands in the snapshot: no commit of it was sent to this mirror."""
    source = MirrorSource()
    source.attach([], deltas=False)
    source.snapshot(iter([CHANGE]), 1)
    source.pump(EPOCH, EPOCH, 0.0, 41)
    assert source.bound == 41
    source.commit(EPOCH, [CHANGE], 0.0, number=50)
    source.acknowledge(source.log.number - 2)
    assert source.bound == 41
    source.acknowledge(source.log.number - 1)
    assert source.bound == 49


def test_a_mirror_that_joins_bounds_nothing() -> None:
    source = MirrorSource()
    source.attach([], deltas=False)
    source.commit(EPOCH, [CHANGE], 0.0, number=70)
    assert source.bound is None


def test_a_mirror_that_acknowledges_nothing_has_stalled() -> None:
    source = joined()
    source.commit(EPOCH, [CHANGE], 0.0, number=70)
    assert not any(source.tick() for _ in range(STALL_TICKS))
    assert [source.tick() for _ in range(2)][-1]
    source.acknowledge(source.log.number)
    assert not source.tick()
