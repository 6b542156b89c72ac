"""Histories as in ``test_ipsec_takeover_property``, with saved state and with backups that hold octets: a cluster that
comes back from the file of its owner uses no number that an owner has used, whoever that was (I2, I3)."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from esp_pair import Side, ike_sa
from ipsecha.model.leases import Leasing
from ipsecha.model.records import ChildSa, decode_record, encode_record
from takeover_history import SPI, TakeoverHistory, copy_of


class Write(NamedTuple):
    record: ChildSa
    bounds: list[tuple[int, int, int]]


class SavedHistory(TakeoverHistory):
    """``file``: the record and the bounds on the owner's disk; ``under_way``: what is being written to it."""

    file: Write | None = None
    under_way: Write | None = None
    octets: bytes | None = None  # of the present backup, or of an owner that has not used the child SA yet

    def record_of(self, side: Side) -> ChildSa:
        """For somebody who only looks at it."""
        if side.sad.is_frozen(SPI):
            assert self.octets is not None
            return decode_record(self.octets).children[0]
        found = side.sad.installed(SPI)
        assert found is not None
        return found[1]

    def ceilings(self, side: Side) -> tuple[int, int]:
        if not side.sad.is_frozen(SPI):
            return super().ceilings(side)
        child, early = self.record_of(side), side.sad._early.get(SPI)
        if early is None:
            return child.in_ceiling, child.out_ceiling
        inbound = early.in_ceiling if early.lowers else max(early.in_ceiling, child.in_ceiling)
        return inbound, max(early.out_ceiling, child.out_ceiling)

    @precondition(lambda self: self.backup is not None and not self.backup.sad.is_frozen(SPI))
    @rule()
    def backup_keeps_octets(self) -> None:
        side = self.backup
        assert side is not None

        def fetch(spi_in: int) -> None:
            assert self.octets is not None
            sa = decode_record(self.octets)
            side.sad.thaw(sa, sa.children[0])

        self.octets = encode_record(ike_sa(self.record_of(side)))
        side.sad.fetch_from(fetch)
        side.sad.freeze(SPI)

    @precondition(lambda self: self.under_way is None)
    @rule()
    def save(self) -> None:
        sad = self.owner.sad
        if sad.bounds is None:
            sad.begin_saving(lambda: None)
        child = self.record_of(self.owner)
        self.under_way = Write(copy_of(child), sad.bounds_to_write([child], self.owner.now))
        self.check_held()

    @precondition(lambda self: self.under_way is not None)
    @rule()
    def written(self) -> None:
        self.reach_the_disk()
        self.owner.sad.bounds_written()
        self.check_held()

    def reach_the_disk(self) -> list[tuple[int, int, int]]:
        assert self.under_way is not None
        record, bounds = self.under_way
        self.file = Write(record, bounds or (self.file.bounds if self.file is not None else []))
        self.under_way = None
        return bounds

    def check_held(self) -> None:
        """Packets that have waited for a bound."""
        for live in self.owner.sad.lives.values():
            self.check_sent(self.flush(live))
            self.check_delivered(self.owner.inbound.release(live, self.owner.now))

    def not_believed(self) -> None:
        """The owner is another one: its file begins anew, and that of the one before is not believed any more."""
        for side in (self.owner, self.backup):
            if side is not None:
                side.sad.end_saving()
        self.file = self.under_way = None

    def take_over(self, mode: Leasing, above_lane: bool) -> None:
        super().take_over(mode, above_lane)
        self.not_believed()

    @precondition(lambda self: self.backup is not None)
    @rule(exact_first=st.booleans(), aborted=st.booleans())
    def switchover(self, exact_first: bool, aborted: bool) -> None:
        super().switchover(exact_first, aborted)
        self.not_believed()

    @precondition(lambda self: self.file is not None)
    @rule(written=st.booleans())
    def power_is_cut(self, written: bool) -> None:
        """All members are gone at once; ``gateway.saved_state`` takes in what the file says."""
        if written and self.under_way is not None:
            self.reach_the_disk()
        assert self.file is not None
        child = copy_of(self.file.record)
        ((_, inbound, outbound),) = self.file.bounds
        child.in_ceiling = child.in_known = max(child.in_ceiling, inbound)
        child.out_ceiling = max(child.out_ceiling, outbound)
        now = self.owner.now
        self.owner, self.backup, self.joining, self.in_flight = self.standby(child), None, None, []
        self.owner.now = now
        self.file = self.under_way = None
        self.owner.sad.set_leasing(Leasing.FREE)
        self.incarnation += 1
        self.owner.sad.activate(self.incarnation, False)


TestSavedHistory = SavedHistory.TestCase
TestSavedHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
