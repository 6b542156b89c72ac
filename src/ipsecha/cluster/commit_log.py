"""The owner's side of replication: numbers, acknowledgements, and the snapshot for a member that joins.

Theory of operation.  Everything the backup must apply is numbered in one sequence; acknowledgements are cumulative.
A backup is in one of three states: *absent* (commits are released at once), *joining* (it receives snapshot parts,
live commits interleaved in the order in which the state changed; commits are still released at once, nobody relies on
it), *in sync* (commits and leases wait for its acknowledgement).

Deltas.  Most exchanges change a few counters of a record.  What is known to have reached this backup whole, in this
stream, and has not changed but for them since, is followed by deltas (``model.record_delta``).

A part of the snapshot is encoded when it is sent, and commits travel behind it in the same stream, so the receiver
never sees an older copy of a record after a newer one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import islice

from ipsecha.cluster.frames import Change, Commit, Frame, SnapshotEnd, leases_frame
from ipsecha.model import record_delta
from ipsecha.model.records import LeaseEntry
from ipsecha.model.shards import ShardedByIkeSpi

SNAPSHOT_PART = 16
"""Records in one part: small, so that live commits and heartbeats never wait long behind it."""

SNAPSHOT_WINDOW = 4
"""Parts under way without acknowledgement."""


INITIATION_KEY = 9
"""Octets of the key of a handshake's record: any octet, and the initiator's SPI."""


class BackupState(Enum):
    ABSENT = "absent"
    JOINING = "joining"
    IN_SYNC = "in sync"


class CommitLog:
    """What has been sent and not yet acknowledged, and how far a joining backup has come."""

    def __init__(self, part: int = SNAPSHOT_PART, window: int = SNAPSHOT_WINDOW) -> None:
        self.part = part
        self.window = window
        self.backup = BackupState.ABSENT
        self.number = 0
        self.acknowledged = 0
        self.snapshot_sent = 0
        self.snapshot_total = 0
        self._leases: deque[tuple[int, tuple[LeaseEntry, ...]]] = deque()
        self._sent_at: deque[tuple[int, float]] = deque()
        self._changed: deque[tuple[int, tuple[bytes, ...]]] = deque()
        self._snapshot: Iterator[Change] | None = None
        self._parts: deque[int] = deque()
        self._join_end = 0  # number of the last snapshot's end
        self.closing = False  # all records of the snapshot are on their way
        self._ceilings: Iterator[Sequence[LeaseEntry]] | None = None  # what is left to be told then
        self.deltas = False  # whether the partner understands them
        self.moving = record_delta.MOVING
        self._bases = ShardedByIkeSpi[bytes]()  # of records that were sent whole: the digest of what has to stay

    @property
    def join_is_acknowledged(self) -> bool:
        """The backup is in sync, and has said so."""
        return self.backup is BackupState.IN_SYNC and self.acknowledged >= self._join_end

    @property
    def outstanding(self) -> int:
        """Numbered frames that an in-sync backup has not acknowledged."""
        return self.number - self.acknowledged if self.backup is BackupState.IN_SYNC else 0

    @property
    def unacknowledged(self) -> list[bytes]:
        """Keys of the records whose changes a backup in sync has not acknowledged."""
        return [key for _, keys in self._changed for key in keys]

    @property
    def leases_under_way(self) -> list[LeaseEntry]:
        """Ceilings that the backup has been asked for and has not acknowledged."""
        return [entry for _, entries in self._leases for entry in entries]

    def oldest_age(self, now: float) -> float:
        """Seconds for which the oldest unacknowledged frame has been waiting."""
        return now - self._sent_at[0][1] if self._sent_at else 0.0

    def commit(self, epoch: int, changes: Sequence[Change], now: float) -> Frame:
        """Changes of IKE SAs, and of the owner's own handshakes, which an older member does not know: apart from them,
        by keys of another length."""
        initiations = tuple((key[1:], record) for key, record in changes if len(key) == INITIATION_KEY)
        if initiations:
            changes = [change for change in changes if len(change[0]) != INITIATION_KEY]
        if self.backup is BackupState.IN_SYNC:
            self._changed.append((self.number + 1, tuple([key for key, _ in changes])))
        if not self.deltas or self.backup is BackupState.ABSENT:
            return Commit(epoch, self._next(now), tuple(changes), initiations)
        whole: list[Change] = []
        deltas: list[tuple[bytes, bytes]] = []
        for key, record in changes:
            delta = self._delta(key, record)
            if delta is None:
                whole.append((key, record))
            else:
                deltas.append((key, delta))
        return Commit(epoch, self._next(now), tuple(whole), initiations, tuple(deltas))

    def _delta(self, key: bytes, record: bytes | None) -> bytes | None:
        """None: the record has to be sent whole."""
        if record is None:
            self._bases.pop(key, None)
            return None
        base, delta = record_delta.split(record, self.moving)
        if self._bases.get(key) == base:
            return delta
        self._bases[key] = base
        return None

    def extend(self, epoch: int, entries: Sequence[LeaseEntry], now: float) -> Frame:
        number = self._next(now)
        self._leases.append((number, tuple(entries)))
        return leases_frame(epoch, number, entries)

    def _next(self, now: float) -> int:
        self.number += 1
        if self.backup is not BackupState.ABSENT:  # else nobody will acknowledge it
            self._sent_at.append((self.number, now))
        return self.number

    def acknowledge(self, number: int) -> list[LeaseEntry]:
        """The backup has applied everything up to ``number``: the leases that this grants."""
        self.acknowledged = max(self.acknowledged, min(number, self.number))
        while self._sent_at and self._sent_at[0][0] <= self.acknowledged:
            self._sent_at.popleft()
        while self._changed and self._changed[0][0] <= self.acknowledged:
            self._changed.popleft()
        while self._parts and self._parts[0] <= self.acknowledged:
            self._parts.popleft()
        granted: list[LeaseEntry] = []
        while self._leases and self._leases[0][0] <= self.acknowledged:
            granted += self._leases.popleft()[1]
        return granted

    def reset(self, backup: BackupState) -> None:
        """The channel or the backup is new: nothing of what was under way will be acknowledged."""
        self.backup = backup
        self.acknowledged = self.number
        self.snapshot_sent = self.snapshot_total = 0
        self._leases.clear()
        self._sent_at.clear()
        self._changed.clear()
        self._snapshot = None
        self._parts.clear()
        self._end_closing()
        self.new_stream()

    def new_stream(self) -> None:
        """The channel is new: nobody has received anything whole on it."""
        self._bases.clear()

    def begin_snapshot(self, records: Iterator[Change], total: int) -> None:
        """``records`` yields each present record at the moment it is asked for it; ``total`` is for the progress."""
        self._snapshot = records
        self.snapshot_total = total

    def snapshot_parts(self, epoch: int, now: float) -> tuple[list[Frame], bool]:
        """The parts that may leave now, and whether these were the last ones."""
        frames: list[Frame] = []
        while self._snapshot is not None and len(self._parts) < self.window:
            changes = tuple(islice(self._snapshot, self.part))
            if not changes:
                self._snapshot = None
                self.closing = True
                return frames, True
            self.snapshot_sent += len(changes)
            frames.append(self._part(epoch, changes, now))
            self._parts.append(self.number)
        return frames, False

    def _part(self, epoch: int, changes: Sequence[Change], now: float) -> Frame:
        """Whole, whatever this stream has carried before; what follows may be deltas."""
        for key, _ in changes:
            self._bases.pop(key, None)
        return self.commit(epoch, changes, now)

    @property
    def grants(self) -> bool:
        """Whether the backup is asked for ceilings: it is in sync, or about to be, and SAs are leased already."""
        return self.backup is BackupState.IN_SYNC or self._ceilings is not None

    @property
    def may_tell(self) -> bool:
        """Whether more of what is left to be told may leave now."""
        return self._ceilings is not None and len(self._parts) < self.window

    def begin_closing(self, ceilings: Iterator[Sequence[LeaseEntry]]) -> None:
        """``ceilings`` yields, at the moment it is asked, what the backup has to be told behind the records."""
        if self.closing and self._ceilings is None:
            self._ceilings = ceilings

    def tell(self, epoch: int, now: float) -> tuple[Frame, Sequence[LeaseEntry]] | None:
        """The next of it; None: that was all.  Nobody waits for what it holds to be granted: its receiver is in sync
        only behind it.  Whatever the data plane raises ends the join."""
        ceilings, self._ceilings = self._ceilings, None
        entries = next(ceilings, None) if ceilings is not None else None
        if entries is None:
            return None
        self._ceilings = ceilings
        number = self._next(now)
        self._parts.append(number)
        return leases_frame(epoch, number, entries), entries

    def _end_closing(self) -> None:
        self.closing, self._ceilings = False, None

    def end_snapshot(self, epoch: int, highest_epoch: int, now: float) -> Frame:
        """From this frame on the receiver is in sync."""
        self.backup = BackupState.IN_SYNC
        self._end_closing()
        end = SnapshotEnd(epoch, self._next(now), highest_epoch)
        self._join_end = end.number
        return end
