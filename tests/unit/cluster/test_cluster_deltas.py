"""Deltas: what a backup gets of a record that it has, when only counters have moved."""

from __future__ import annotations

import msgspec
import pytest

from ipsecha.cluster.commit_log import BackupState, CommitLog
from ipsecha.cluster.frames import Commit, decode_frame, encode_frame
from ipsecha.model.record_delta import splice, split

MOVING = (1,)


def record(key: str, version: int, *more: int) -> bytes:
    return msgspec.msgpack.encode([key, version, *more])


def log_of(backup: BackupState) -> CommitLog:
    log = CommitLog()
    log.reset(backup)
    log.deltas, log.moving = True, MOVING
    return log


def sent(log: CommitLog, octets: bytes | None) -> Commit:
    frame = decode_frame(encode_frame(log.commit(1, [(b"k", octets)], 0.0)))
    assert isinstance(frame, Commit)
    return frame


def test_a_delta_makes_the_newer_record_of_the_older_one() -> None:
    old, new = record("a", 1, 7), record("a", 2, 7)
    (one, _), (other, delta) = split(old, MOVING), split(new, MOVING)
    assert one == other
    assert splice(old, delta, MOVING) == new
    assert split(record("a", 2, 8), MOVING)[0] != one
    assert splice(record("a", 1, 7, 9), delta, MOVING) == record("a", 2, 7, 9), "fields of a newer version stay"


@pytest.mark.parametrize("delta", [b"", b"\xc1", msgspec.msgpack.encode([1, 2]), msgspec.msgpack.encode("no array")])
def test_what_is_no_delta_is_an_error(delta: bytes) -> None:
    with pytest.raises((ValueError, msgspec.DecodeError)):
        splice(record("a", 1), delta, MOVING)


def test_only_what_this_backup_has_whole_is_followed_by_deltas() -> None:
    log = log_of(BackupState.IN_SYNC)
    assert sent(log, record("a", 1)).changes
    assert sent(log, record("a", 2)).deltas
    assert sent(log, record("b", 3)).changes, "more than counters has changed"
    assert sent(log, record("b", 4)).deltas
    log.new_stream()
    assert sent(log, record("b", 5)).changes, "the channel is new"
    log.reset(BackupState.JOINING)
    assert sent(log, record("b", 6)).changes, "the backup is new"
    assert sent(log, None).changes == ((b"k", None),)
    assert sent(log, record("b", 7)).changes, "it was withdrawn"
    log.reset(BackupState.ABSENT)
    sent(log, record("b", 8))
    log.backup = BackupState.IN_SYNC
    assert sent(log, record("b", 9)).changes, "nobody has received what was sent to nobody"


def test_a_partner_of_an_older_version_gets_whole_records() -> None:
    log = log_of(BackupState.IN_SYNC)
    log.deltas = False
    for version in range(3):
        assert sent(log, record("a", version)).changes


def test_parts_of_a_snapshot_are_whole() -> None:
    log = log_of(BackupState.JOINING)
    sent(log, record("a", 1))
    log.begin_snapshot(iter([(b"k", record("a", 2))]), 1)
    parts, last = log.snapshot_parts(1, 0.0)
    assert last
    assert [part.changes for part in parts if isinstance(part, Commit)] == [((b"k", record("a", 2)),)]
    assert sent(log, record("a", 3)).deltas
