"""Output commit and the snapshot for a joining backup, from the owner's side."""

from __future__ import annotations

from collections.abc import Iterator

from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import SNAPSHOT_PART, SNAPSHOT_WINDOW, BackupState, CommitLog
from ipsecha.cluster.frames import Change
from ipsecha.model.records import LeaseEntry

EPOCH = 0x21
LEASE = LeaseEntry(1, 10, 20)


def _records(count: int) -> list[Change]:
    return [(number.to_bytes(8, "big"), b"record") for number in range(count)]


def _in_sync() -> CommitLog:
    log = CommitLog()
    log.reset(BackupState.IN_SYNC)
    return log


def test_frames_are_numbered_in_one_sequence() -> None:
    log = _in_sync()
    commit = log.commit(EPOCH, [(b"k", None)], 1.0)
    leases = log.extend(EPOCH, [LEASE], 1.0)
    end = log.end_snapshot(EPOCH, 0x99, 1.0)
    assert commit == frames.Commit(EPOCH, 1, ((b"k", None),))
    assert leases == frames.Leases(EPOCH, 2, frames.pack_leases([LEASE]))
    assert end == frames.SnapshotEnd(EPOCH, 3, 0x99)


def test_an_owner_that_is_alone_remembers_nothing_of_its_commits() -> None:
    """Nobody will acknowledge them, however long the outage of the partner is."""
    log = CommitLog()
    for number in range(1, 1001):
        commit = log.commit(EPOCH, [(b"k", None)], float(number))
        assert commit == frames.Commit(EPOCH, number, ((b"k", None),))
    assert log.oldest_age(2000.0) == 0.0
    assert sum(len(value) for value in vars(log).values() if hasattr(value, "append")) == 0


def test_acknowledgements_are_cumulative_and_grant_what_they_cover() -> None:
    log = _in_sync()
    log.extend(EPOCH, [LEASE], 1.0)
    log.commit(EPOCH, [], 2.0)
    log.extend(EPOCH, [LeaseEntry(2, 1, 1)], 3.0)
    assert log.outstanding == 3
    assert log.oldest_age(5.0) == 4.0
    assert log.acknowledge(2) == [LEASE]
    assert log.outstanding == 1
    assert log.oldest_age(5.0) == 2.0
    assert log.acknowledge(1) == []
    assert log.acknowledged == 2
    assert log.acknowledge(3) == [LeaseEntry(2, 1, 1)]
    assert log.oldest_age(5.0) == 0.0


def test_a_backup_cannot_acknowledge_what_was_never_sent() -> None:
    log = _in_sync()
    log.commit(EPOCH, [], 1.0)
    log.acknowledge(1 << 40)
    assert log.acknowledged == 1
    log.commit(EPOCH, [], 1.0)
    assert log.outstanding == 1


def test_only_a_backup_in_sync_is_waited_for() -> None:
    log = CommitLog()
    log.commit(EPOCH, [], 1.0)
    assert log.outstanding == 0
    log.reset(BackupState.JOINING)
    log.commit(EPOCH, [], 1.0)
    assert log.outstanding == 0


def test_after_a_reset_nothing_of_before_is_granted() -> None:
    log = _in_sync()
    log.extend(EPOCH, [LEASE], 1.0)
    log.reset(BackupState.IN_SYNC)
    assert log.outstanding == 0
    assert log.acknowledge(1) == []


def test_snapshot_parts_leave_as_a_window_and_each_once() -> None:
    log = CommitLog()
    log.reset(BackupState.JOINING)
    records = _records(SNAPSHOT_PART * (SNAPSHOT_WINDOW + 1) + 1)
    log.begin_snapshot(iter(records), len(records))
    sent, last = log.snapshot_parts(EPOCH, 1.0)
    assert len(sent) == SNAPSHOT_WINDOW
    assert not last
    assert log.snapshot_parts(EPOCH, 1.0) == ([], False)
    log.acknowledge(1)
    more, last = log.snapshot_parts(EPOCH, 1.0)
    assert len(more) == 1
    assert not last
    log.acknowledge(log.number)
    rest, last = log.snapshot_parts(EPOCH, 1.0)
    assert last
    assert log.closing
    changes = [change for part in sent + more + rest if isinstance(part, frames.Commit) for change in part.changes]
    assert changes == records
    assert log.snapshot_sent == log.snapshot_total == len(records)
    assert log.snapshot_parts(EPOCH, 1.0) == ([], False)


def test_a_record_is_encoded_when_its_part_leaves() -> None:
    """A live commit behind a part is newer than what the part said, never older."""
    log = CommitLog(part=1, window=1)
    log.reset(BackupState.JOINING)
    versions = {b"a": b"1", b"b": b"1"}
    log.begin_snapshot(((key, versions[key]) for key in tuple(versions)), 2)
    log.snapshot_parts(EPOCH, 1.0)
    versions[b"b"] = b"2"
    log.acknowledge(log.number)
    (part,), _ = log.snapshot_parts(EPOCH, 1.0)
    assert isinstance(part, frames.Commit)
    assert part.changes == ((b"b", b"2"),)


def _closing(log: CommitLog) -> list[int]:
    """A log whose last record is on its way; what is asked for then is counted."""
    log.reset(BackupState.JOINING)
    log.begin_snapshot(iter(()), 0)
    log.snapshot_parts(EPOCH, 1.0)
    asked: list[int] = []

    def ceilings() -> Iterator[list[LeaseEntry]]:
        for number in range(3):
            asked.append(number)
            yield [LEASE] if number == 1 else []

    log.begin_closing(ceilings())
    return asked


def test_ceilings_leave_behind_the_records_as_a_window_and_each_when_its_turn_comes() -> None:
    log = CommitLog(window=2)
    asked = _closing(log)
    assert asked == []
    assert log.grants, "SAs that are leased already ask for more"
    first, second = log.tell(EPOCH, 1.0), log.tell(EPOCH, 1.0)
    assert first is not None
    assert first[1] == [], "an empty part is acknowledged like any other"
    assert second is not None
    assert second[1] == [LEASE]
    assert asked == [0, 1]
    assert not log.may_tell
    assert log.acknowledge(log.number) == [], "nobody waits for a grant of what was told"
    assert log.may_tell
    assert log.tell(EPOCH, 1.0) is not None
    assert log.tell(EPOCH, 1.0) is None


def test_a_reset_and_a_second_answer_change_nothing_any_more() -> None:
    log = CommitLog()
    asked = _closing(log)
    log.begin_closing(iter([[LEASE]]))
    log.tell(EPOCH, 1.0)
    assert asked == [0]
    log.reset(BackupState.ABSENT)
    assert not log.may_tell
    assert not log.grants
    log.begin_closing(iter([[LEASE]]))
    assert not log.may_tell, "nobody joins"


def test_an_empty_snapshot_is_through_at_once_and_a_reset_forgets_it() -> None:
    log = CommitLog()
    log.reset(BackupState.JOINING)
    log.begin_snapshot(iter(()), 0)
    assert log.snapshot_parts(EPOCH, 1.0) == ([], True)
    log.reset(BackupState.JOINING)
    assert not log.closing
    log.begin_snapshot(iter(()), 0)
    log.snapshot_parts(EPOCH, 1.0)
    log.end_snapshot(EPOCH, 0, 1.0)
    assert not log.closing
    assert log.backup is BackupState.IN_SYNC
