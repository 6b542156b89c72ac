"""A tiny gateway around one ``PairMember``: a table of records, output commit, and sequence numbers used exactly as far
as leases and lanes allow, the way ``ipsecha.ipsec.sad`` does it.  It tells a ``Judge`` everything that becomes visible
outside."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from ipsecha.cluster import effects as fx
from ipsecha.cluster.frames import Change
from ipsecha.cluster.pair import PairMember
from ipsecha.model.leases import Leasing
from ipsecha.model.record_delta import splice
from ipsecha.model.records import LeaseEntry

LANE = 64
FIRST_IN, FIRST_OUT = 4, 8
SIZE = 8
LEASED = Leasing.LEASED  # a member of an enumeration takes a while to look up


class Record(msgspec.Struct, array_like=True):
    """One SA as it is replicated; ``version`` counts its IKE messages."""

    key: int
    version: int
    in_ceiling: int
    out_ceiling: int


MOVING = (1,)
"""What of a record may travel as a delta: its version."""


class Use:
    """One SA while this gateway uses it."""

    __slots__ = (
        "accepted",
        "asked",
        "floor",
        "in_limit",
        "in_requested",
        "lane_end",
        "next_out",
        "out_limit",
        "out_requested",
    )

    def __init__(self, floor: int, out_used: int, record: Record) -> None:
        self.floor = floor
        self.accepted: set[int] = set()
        self.next_out = out_used + 1
        self.in_limit = self.in_requested = record.in_ceiling
        self.out_limit = self.out_requested = record.out_ceiling
        self.lane_end = 0
        self.asked = 0, 0  # ceilings, of a backup that is gone

    def forget_requests(self, in_limit: int, out_limit: int) -> None:
        """Nobody will answer them, but mirrors have heard of them.  What is granted from now on."""
        self.asked = max(self.asked[0], self.in_requested), max(self.asked[1], self.out_requested)
        self.in_limit = self.in_requested = in_limit
        self.out_limit = self.out_requested = out_limit

    @property
    def in_top(self) -> int:
        return max(self.accepted, default=self.floor)


class Judge(Protocol):
    def activated(self, gateway: ModelGateway, epoch: int, above_lane: int) -> None: ...
    def applied(self, gateway: ModelGateway) -> None: ...
    def sent(self, gateway: ModelGateway, key: int, number: int) -> None: ...
    def accepted(self, gateway: ModelGateway, key: int, number: int) -> None: ...
    def released(self, gateway: ModelGateway, key: int, version: int, epoch: int) -> None: ...
    def covered(self, gateway: ModelGateway) -> None: ...
    def withdrawn(self, key: int) -> None: ...


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


def key_octets(key: int) -> bytes:
    return key.to_bytes(8, "big")


class ModelGateway:
    def __init__(self, name: str, member: PairMember, judge: Judge, ring: dict[type, Callable[[Any], None]]) -> None:
        """``ring``: what the outer ring does with the effects that concern the network and the clock."""
        self.name = name
        self.member = member
        self.judge = judge
        self.table: dict[int, Record] = {}
        self.uses: dict[int, Use] = {}
        self.active = False
        self.frozen = False
        self.leasing = LEASED
        self.epoch = 0
        self.lineage = 0  # epoch of the cold start that these records go back to
        self.discarded = True
        self.now: Callable[[], float] = lambda: 0.0
        self.reports: list[str] = []
        self.suspects: set[int] = set()  # that a rival has used
        self._made_at: dict[int, float] = {}
        self._inherited: set[int] = set()
        self._unshared: set[int] = set()
        self._private: set[int] = set()  # SAs that no other member has heard of: no lane bounds them
        self._unacknowledged: set[int] = set()
        self._behind: dict[int, int] = {}  # SAs in use whose mode is not the present one yet: lanes to skip then
        self._wanting: set[int] = set()
        self._exact: dict[int, tuple[int, int, int, int]] = {}
        self._held: deque[tuple[int, int, int]] = deque()
        self.actions: dict[type, Callable[[Any], None]] = {
            fx.Released: lambda effect: self._release(effect.number),
            fx.Granted: lambda effect: self._grant(effect.entries),
            fx.SetLeasing: lambda effect: self._set_leasing(effect.mode, effect.skip_lanes, effect.gradually),
            fx.BecomeActive: self._become_active,
            fx.BecomeStandby: self._become_standby,
            fx.Freeze: self._freeze,
            fx.Apply: self._apply,
            fx.ApplyLeases: lambda effect: self._raise(effect.entries),
            fx.ApplyExact: self._apply_exact,
            fx.DiscardRecords: self._discard,
            fx.TakeSnapshot: self._take_snapshot,
            fx.Suspect: lambda effect: self.suspects.update(int.from_bytes(key, "big") for key in effect.keys),
            fx.Bequeath: self._bequeath,
            fx.Inherit: self._inherit,
            fx.CloseJoin: self._close_join,
            fx.ClusterReport: lambda effect: self.reports.append(effect.event),
            **ring,
        }

    # What happens to the owner

    def create(self, key: int) -> None:
        record = Record(key, 0, FIRST_IN, FIRST_OUT)
        self.table[key] = record
        self._made_at[key] = self.now()
        if self.leasing is not LEASED:
            self._unshared.add(key)
            self._private.add(key)
        self.uses[key] = Use(0, 0, record)
        self.message(key)

    def message(self, key: int) -> None:
        """One IKE exchange step: it leaves once the record is safe."""
        record = self.table[key]
        record.version += 1
        number = self.member.commit([(key_octets(key), _encode(record))], self.now())
        self._held.append((number, key, record.version))

    def withdraw(self, key: int) -> None:
        self.judge.withdrawn(key)
        del self.table[key]
        del self.uses[key]
        self._forget(key)
        self.member.commit([(key_octets(key), None)], self.now())

    def send(self, key: int) -> None:
        record, use = self.table[key], self.uses[key]
        if use.next_out > use.out_requested - SIZE // 2:
            self._catch_up(key)
        number = use.next_out
        if number > use.out_requested - SIZE // 2:
            use.out_requested = max(use.out_requested, number + SIZE)
            if self.leasing is LEASED:
                self._wanting.add(key)
            else:
                if use.lane_end:
                    use.out_requested = min(use.out_requested, use.lane_end)
                record.out_ceiling = use.out_limit = max(record.out_ceiling, use.out_requested)
                self._unshared.add(key)
        self.flush()
        if number <= use.out_limit:
            use.next_out += 1
            self.judge.sent(self, key, number)

    def receive(self, key: int, number: int) -> None:
        record, use = self.table[key], self.uses[key]
        if number <= use.floor or number in use.accepted:
            return
        if number > use.in_requested - SIZE // 2:
            self._catch_up(key)
        if number > use.in_requested - SIZE // 2:
            use.in_requested = number + SIZE
            if self.leasing is LEASED:
                self._wanting.add(key)
            else:
                record.in_ceiling = use.in_limit = max(record.in_ceiling, use.in_requested)
                self._unshared.add(key)
        self.flush()
        if number <= use.in_limit:
            use.accepted.add(number)
            self.judge.accepted(self, key, number)

    def flush(self) -> None:
        entries = self._requests()
        if entries:
            self.member.extend(entries, self.now())

    @property
    def waiting(self) -> int:
        return len(self._held) + len(self._wanting) + len(self._unacknowledged)

    def versions(self) -> dict[int, int]:
        """What the members must agree upon when nothing is under way."""
        return {key: record.version for key, record in self.table.items()}

    @property
    def goes_beyond(self) -> bool:
        """It uses what no other member has acknowledged."""
        return self.active and self.leasing is not LEASED

    # Ownership

    def _become_active(self, effect: fx.BecomeActive) -> None:
        lanes = int(effect.above_lane)
        self.judge.activated(self, effect.epoch, lanes)
        self.active, self.frozen = True, False
        self.discarded = False
        self.epoch = effect.epoch
        self.uses.clear()
        for key, record in self.table.items():
            exact = self._exact.get(key)
            used = record.in_ceiling, record.out_ceiling
            if lanes:
                record.out_ceiling += lanes * LANE
                self._unshared.add(key)
                used = used[0], record.out_ceiling
            elif exact is not None and exact[2:] == used:
                used = exact[:2]
            self.uses[key] = Use(*used, record)
        self._exact.clear()
        self._behind.clear()
        for key, use in self.uses.items():
            self._bound(key, use, self.table[key])

    def _become_standby(self, effect: fx.BecomeStandby) -> None:
        self.active = self.frozen = False
        self._skip_unfinished()
        self._held.clear()
        self._wanting.clear()
        self._exact.clear()

    def _freeze(self, effect: fx.Freeze) -> None:
        self.active, self.frozen = False, True
        self._skip_unfinished()
        self._wanting.clear()
        self._exact.clear()
        exact = [LeaseEntry(key, use.in_top, use.next_out - 1) for key, use in self.uses.items()]
        self.member.handover_ready(exact, self.now())

    def _discard(self, effect: fx.DiscardRecords) -> None:
        self.active = self.frozen = False
        self.discarded = True
        self.table.clear()
        self.uses.clear()
        self._behind.clear()
        for kept in (self._unshared, self._unacknowledged, self._wanting, self._private, self._exact, self._held):
            kept.clear()

    # Leases

    def _set_leasing(self, mode: Leasing, skip_lanes: int, gradually: bool) -> None:
        """``gradually``: an SA in use passes to the mode when it needs more than it was allowed before."""
        if skip_lanes or mode is LEASED or mode is not self.leasing:  # a lane does not grow by being said twice
            self._leave_behind(skip_lanes if self.active else 0)
        if mode is LEASED and self.leasing is not LEASED:
            self._unacknowledged |= self._unshared
            self._unshared = set()
            self._private.clear()
        self.leasing = mode
        if mode is not LEASED:
            self._unshared |= self._unacknowledged
            self._unacknowledged = set()
        for key in () if gradually else list(self._behind):
            self._catch_up(key)

    def _leave_behind(self, lanes: int) -> None:
        self._behind = {key: self._behind.get(key, 0) + lanes for key in self.uses}

    def _skip_unfinished(self) -> None:
        for key, lanes in self._behind.items():
            self.table[key].out_ceiling += lanes * LANE
        self._behind.clear()

    def _catch_up(self, key: int) -> None:
        if key not in self._behind:
            return
        record, use, lanes = self.table[key], self.uses[key], self._behind.pop(key)
        if lanes:
            record.out_ceiling += lanes * LANE
            use.next_out = record.out_ceiling + 1
            self._unshared.add(key)
        self._bound(key, use, record)

    def _bound(self, key: int, use: Use, record: Record) -> None:
        use.lane_end = 0
        if self.leasing is LEASED:
            use.forget_requests(use.in_limit, use.out_limit)
            self._grant_what_was_asked(use, record)
            if key in self._unacknowledged:
                use.in_limit = use.out_limit = -1
                self._wanting.add(key)
            return
        if self.leasing is Leasing.LANE and key not in self._private:
            use.lane_end = record.out_ceiling + LANE
        use.forget_requests(record.in_ceiling, record.out_ceiling)

    def _grant_what_was_asked(self, use: Use, record: Record) -> None:
        """Of a backup that is gone: mirrors have heard of it."""
        ceilings = max(record.in_ceiling, use.asked[0]), max(record.out_ceiling, use.asked[1])
        if self.active and ceilings != (record.in_ceiling, record.out_ceiling):
            record.in_ceiling, record.out_ceiling = ceilings
            self._unshared.add(record.key)

    def _requests(self) -> list[LeaseEntry]:
        if not self._wanting:
            return []
        wanting, self._wanting = self._wanting, set()
        return [self._entry(key) for key in sorted(wanting)]

    def _entry(self, key: int) -> LeaseEntry:
        record, use = self.table[key], self.uses[key]
        return LeaseEntry(key, max(use.in_requested, record.in_ceiling), max(use.out_requested, record.out_ceiling))

    def _grant(self, entries: tuple[LeaseEntry, ...]) -> None:
        for entry in entries:
            record, use = self.table.get(entry.spi_in), self.uses.get(entry.spi_in)
            if record is None or use is None:
                continue
            if entry.in_ceiling >= record.in_ceiling and entry.out_ceiling >= record.out_ceiling:
                self._unacknowledged.discard(entry.spi_in)
            use.in_limit = max(use.in_limit, entry.in_ceiling)
            use.out_limit = max(use.out_limit, entry.out_ceiling)
        self._raise(entries)

    def _raise(self, entries: tuple[LeaseEntry, ...]) -> None:
        for entry in entries:
            record = self.table.get(entry.spi_in)
            if record is not None:
                record.in_ceiling = max(record.in_ceiling, entry.in_ceiling)
                record.out_ceiling = max(record.out_ceiling, entry.out_ceiling)

    def _apply_exact(self, effect: fx.ApplyExact) -> None:
        for entry in effect.entries:
            record = self.table.get(entry.spi_in)
            if record is not None:
                ceilings = record.in_ceiling, record.out_ceiling
                self._exact[entry.spi_in] = (entry.in_ceiling, entry.out_ceiling, *ceilings)

    # Records

    def _forget(self, key: int) -> None:
        for kept in (self._unshared, self._unacknowledged, self._wanting, self._private):
            kept.discard(key)
        self._behind.pop(key, None)
        self._exact.pop(key, None)

    def _apply(self, effect: fx.Apply) -> None:
        self.judge.applied(self)
        for octets, data in effect.changes:
            key = int.from_bytes(octets, "big")
            if data is None:
                self.table.pop(key, None)
                self.uses.pop(key, None)
                self._forget(key)
                continue
            record, before = _decode(data), self.table.get(key)
            if before is not None:
                record.in_ceiling = max(record.in_ceiling, before.in_ceiling)
                record.out_ceiling = max(record.out_ceiling, before.out_ceiling)
            self.table[key] = record
        for octets, delta in effect.deltas:
            key = int.from_bytes(octets, "big")
            self.table[key] = _decode(splice(_encode(self.table[key]), delta, MOVING))

    def _release(self, number: int) -> None:
        while self._held and self._held[0][0] <= number:
            _, key, version = self._held.popleft()
            self.judge.released(self, key, version, self.epoch)

    def _take_snapshot(self, effect: fx.TakeSnapshot) -> None:
        self.member.snapshot(self._present(), len(self.table), self.now())

    def _present(self) -> Iterator[Change]:
        for key in tuple(self.table):
            record = self.table.get(key)
            if record is not None:
                yield key_octets(key), _encode(record)

    def _bequeath(self, effect: fx.Bequeath) -> None:
        if effect.keys is None:  # all; clocks of this world may be below zero
            made = list(self.table)
        else:
            keys = [int.from_bytes(key, "big") for key in effect.keys]
            made = [key for key in keys if key in self.table and self._made_at.get(key, -math.inf) >= effect.since]
        self.member.bequeath([(key_octets(key), _encode(self.table[key])) for key in made])
        self.member.bequeathed()

    def _inherit(self, effect: fx.Inherit) -> None:
        for record in map(_decode, effect.records):
            if record.key in self._inherited:
                continue
            if record.key in self.table:
                self.suspects.add(record.key)
                continue
            self._inherited.add(record.key)
            record.out_ceiling += effect.above_lanes * LANE
            self.table[record.key] = record
            self._unshared.add(record.key)
            self._private.add(record.key)
            self.uses[record.key] = Use(record.in_ceiling, record.out_ceiling, record)
            self.message(record.key)

    def _close_join(self, effect: fx.CloseJoin) -> None:
        self.member.close_join(self._lease_in_parts(), self.now())

    def _lease_in_parts(self) -> Iterator[list[LeaseEntry]]:
        """One SA at a time, so that much comes in between."""
        self._unshared |= self._unacknowledged
        self._unacknowledged = set()
        self._private.clear()
        self._leave_behind(0)
        self.leasing = LEASED
        while self._behind or self._unshared:
            key = min(self._behind or self._unshared)
            self._catch_up(key)
            told = [key] if key in self._unshared else []
            self._unshared.discard(key)
            yield [self._entry(key) for key in told]
        self.judge.covered(self)
