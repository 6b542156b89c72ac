"""The owner's side of one mirror: the same ordered stream that the backup gets, with numbers of its own.

Theory of operation.  A mirror joins as a backup does, by a snapshot with live commits in between, but without a change
of leasing: the owner may be using leases that the backup grants.  A ceiling that is asked for while the snapshot is on
its way may reach the mirror before the record that it belongs to, and the record may be encoded before the ceiling is
granted.  So all ceilings that were asked for since (and those under way when it began) are said again at the end.

Where all have to acknowledge (``acks = "all"``), ``bound`` is the number of the backup's stream up to which this mirror
lets things go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from ipsecha.cluster.commit_log import BackupState, CommitLog
from ipsecha.cluster.frames import Change, Frame
from ipsecha.model.records import LeaseEntry

STALL_TICKS = 10
"""A mirror in sync that acknowledges nothing for so long (heartbeats) is in sync no more."""


class MirrorSource:
    """What one mirror has been sent, and what it has acknowledged."""

    def __init__(self) -> None:
        self.log = CommitLog()
        self._asked: dict[int, LeaseEntry] = {}  # since the join began, by SPI
        self._marks: deque[tuple[int, int]] = deque()  # number in the backup's stream, and in this one
        self._joined: tuple[int, int] | None = None  # up to where the backup had come then; number of the join's end
        self._stalled_ticks = 0
        self._seen = 0

    @property
    def state(self) -> BackupState:
        return self.log.backup

    @property
    def bound(self) -> int | None:
        """None: nothing of what the backup is sent has to wait for this mirror."""
        if self.state is not BackupState.IN_SYNC:
            return None
        if self._joined is not None:  # what was under way then stands in the snapshot, and has no mark
            return self._joined[0]
        return self._marks[0][0] - 1 if self._marks else None

    def attach(self, under_way: Sequence[LeaseEntry], deltas: bool) -> None:
        """The mirror holds nothing and asks for a snapshot; ``under_way``: ceilings that the backup was asked for."""
        self.log.reset(BackupState.JOINING)
        self.log.deltas = deltas
        self._joined = None
        self._marks.clear()
        self._asked = {}
        self._stalled_ticks = 0
        self._note(under_way)

    def detach(self) -> None:
        self.log.reset(BackupState.ABSENT)
        self._joined = None
        self._marks.clear()
        self._asked = {}

    def commit(self, epoch: int, changes: Sequence[Change], now: float, number: int) -> Frame:
        """``number``: of the same commit in the backup's stream."""
        frame = self.log.commit(epoch, changes, now)
        self._marks.append((number, self.log.number))
        return frame

    def extend(self, epoch: int, entries: Sequence[LeaseEntry], now: float, number: int) -> Frame:
        if self.state is BackupState.JOINING:
            self._note(entries)
        frame = self.log.extend(epoch, entries, now)
        self._marks.append((number, self.log.number))
        return frame

    def _note(self, entries: Sequence[LeaseEntry]) -> None:
        """The highest ceilings count, but for those that were given back: a mirror that owns one day uses the SAs up to
        there, and the former owner has to know as much."""
        for entry in entries:
            known = self._asked.get(entry.spi_in)
            inbound, outbound, learnt = entry.in_ceiling, entry.out_ceiling, entry.known
            if known is not None:
                inbound = inbound if entry.lowers else max(inbound, known.in_ceiling)
                outbound = max(outbound, known.out_ceiling)
                learnt = max(learnt, known.known)
            self._asked[entry.spi_in] = LeaseEntry(entry.spi_in, inbound, outbound, False, learnt)

    def snapshot(self, records: Iterator[Change], total: int) -> None:
        self.log.begin_snapshot(records, total)

    def pump(self, epoch: int, highest_epoch: int, now: float, acknowledged: int) -> list[Frame]:
        """What may leave now; the last frame of all says that the mirror is in sync.  ``acknowledged``: by the backup,
        in its stream."""
        parts, last = self.log.snapshot_parts(epoch, now)
        if last:
            if self._asked:
                parts.append(self.log.extend(epoch, tuple(self._asked.values()), now))
            parts.append(self.log.end_snapshot(epoch, highest_epoch, now))
            self._joined = acknowledged, self.log.number
            self._asked = {}
        return parts

    def acknowledge(self, number: int) -> None:
        self.log.acknowledge(number)
        if self._joined is not None and self._joined[1] <= self.log.acknowledged:
            self._joined = None
        while self._marks and self._marks[0][1] <= self.log.acknowledged:
            self._marks.popleft()

    def tick(self) -> bool:
        """One heartbeat interval is over: whether the mirror has stalled."""
        waits = self.log.outstanding > 0 and self.log.acknowledged == self._seen
        self._stalled_ticks = self._stalled_ticks + 1 if waits else 0
        self._seen = self.log.acknowledged
        return self._stalled_ticks > STALL_TICKS
