"""Inbound numbers that are not needed are given back: when, how far, and that nothing above is delivered meanwhile."""

from __future__ import annotations

import msgspec
import pytest

from esp_pair import Side, child_sa, pair, udp
from ipsecha.cluster.frames import lease_entries, leases_frame
from ipsecha.ipsec.leases import Lease
from ipsecha.model.errors import ClusterError
from ipsecha.model.leases import Leasing
from ipsecha.model.records import LeaseEntry

SPI = 0x1001


class Burst:
    """A child SA with a long inbound lease and little traffic; ``backup`` knows what has been acknowledged."""

    def __init__(self) -> None:
        self.owner, self.peer = pair(mode=Leasing.LEASED)
        self.backup = Side(mode=Leasing.LEASED)
        self.backup.sad.deactivate()
        self.backup.install(child_sa(SPI, 0x2002))
        self.delivered = 0
        for _ in range(4):
            self.arrive(60)
        self.burst_ceiling = self.ceiling(self.backup)
        for _ in range(3):
            self.owner.now += 2.0
            self.arrive(1)

    @staticmethod
    def ceiling(side: Side) -> int:
        found = side.sad.installed(SPI)
        assert found is not None
        return found[1].in_ceiling

    def packets(self, count: int) -> list[bytes]:
        sent = self.peer.send(*[udp("10.2.0.5", "10.1.0.5")] * count)
        return sent + self.peer.acknowledge()[0]

    def arrive(self, count: int) -> None:
        self.delivered += len(self.owner.receive(*self.packets(count)))
        self.acknowledge(self.owner.sad.lease_requests(self.owner.now))

    def acknowledge(self, entries: list[LeaseEntry]) -> None:
        self.backup.sad.apply_leases(lease_entries(leases_frame(1, 1, entries)))
        self.delivered += len(self.owner.grant(entries)[1])

    def give_back(self) -> list[LeaseEntry]:
        self.owner.now += 2.0
        self.owner.sad.review(self.owner.now)
        return self.owner.sad.lease_requests(self.owner.now)

    @property
    def top(self) -> int:
        return self.owner.sad.lives[SPI].window.top


def test_after_a_burst_a_slow_flow_risks_little_again() -> None:
    burst = Burst()
    assert burst.burst_ceiling - burst.top > 20
    (entry,) = burst.give_back()
    assert entry.lowers
    burst.acknowledge([entry])
    assert burst.ceiling(burst.backup) == burst.ceiling(burst.owner) <= burst.top + 3


def test_nothing_is_given_back_twice_nor_by_a_steady_flow() -> None:
    burst = Burst()
    burst.acknowledge(burst.give_back())
    assert burst.give_back() == []
    left, right = pair(mode=Leasing.LEASED)
    for _ in range(400):
        left.now += 0.01
        left.receive(*right.send(*[udp("10.2.0.5", "10.1.0.5")] * 5))
        right.acknowledge()
        left.sad.review(left.now)
        entries = left.sad.lease_requests(left.now)
        assert not any(entry.lowers for entry in entries[: 1 if left.now > 1002.5 else 0])
        left.grant(entries)


def test_the_owner_delivers_nothing_above_from_the_moment_at_which_it_asks() -> None:
    burst = Burst()
    lowering = burst.give_back()
    before = burst.delivered
    room = lowering[0].in_ceiling - burst.top
    assert room <= 3
    burst.delivered += len(burst.owner.receive(*burst.packets(10)))
    assert burst.delivered == before + room
    raising = burst.owner.sad.lease_requests(burst.owner.now)
    burst.acknowledge(lowering)
    assert burst.delivered == before + room
    burst.acknowledge(raising)
    assert burst.delivered == before + 10
    assert burst.ceiling(burst.backup) >= burst.top


def test_the_answer_to_an_earlier_request_brings_nothing_back() -> None:
    """A request for outbound numbers was under way, and named the inbound ceiling of that time."""
    burst = Burst()
    burst.owner.send(*[udp()] * 200)
    earlier = burst.owner.sad.lease_requests(burst.owner.now)
    assert earlier[0].in_ceiling == burst.burst_ceiling or earlier[0].in_ceiling > burst.top + 1
    lowering = burst.give_back()
    burst.acknowledge(earlier)
    burst.delivered += len(burst.owner.receive(*burst.packets(10)))
    assert burst.top == lowering[0].in_ceiling
    burst.acknowledge(lowering)
    assert burst.ceiling(burst.backup) == burst.ceiling(burst.owner) == lowering[0].in_ceiling


def test_a_record_sent_before_does_not_bring_the_ceiling_back_nor_one_sent_after() -> None:
    burst = Burst()
    record = child_sa(SPI, 0x2002, in_ceiling=burst.ceiling(burst.owner))
    lowering = burst.give_back()
    after = child_sa(SPI, 0x2002, in_ceiling=burst.ceiling(burst.owner))
    burst.backup.install(record)
    burst.acknowledge(lowering)
    burst.backup.install(after)
    assert burst.ceiling(burst.backup) == lowering[0].in_ceiling


def test_whoever_ceases_to_be_owner_counts_what_was_given_back_unheard_as_kept() -> None:
    burst = Burst()
    (entry,) = burst.give_back()
    assert burst.ceiling(burst.owner) == entry.in_ceiling
    burst.owner.sad.deactivate()
    assert burst.ceiling(burst.owner) == burst.ceiling(burst.backup)


def test_nothing_is_given_back_below_the_floor_of_a_takeover() -> None:
    lease = Lease(1000, 1 << 32, 1, 16, 0.1)
    assert lease.give_back(10, 500, 0.0, 1.0) == 500
    assert lease.limit == lease.requested == 500
    assert lease.give_back(10, 500, 0.0, 1.0) is None


def test_nothing_is_given_back_while_something_is_asked_for() -> None:
    lease = Lease(1000, 1 << 32, 1, 16, 0.1)
    lease.request(999, 0.0, 1.0)
    assert lease.give_back(10, 0, 10.0, 1.0) is None


def test_alone_nothing_is_given_back() -> None:
    left, right = pair(mode=Leasing.FREE)
    left.receive(*right.send(*[udp("10.2.0.5", "10.1.0.5")] * 100))
    left.sad.review(left.now + 100)
    assert left.sad.lease_requests(left.now + 100) == []


def test_lease_frames_carry_what_is_lowered_and_known() -> None:
    entries = [
        LeaseEntry(1, 2, 3),
        LeaseEntry(4, 5, 6, True),
        LeaseEntry(7, 8, 9, False, 10),
        LeaseEntry(1, 1, 1, True, 2),
    ]
    assert lease_entries(leases_frame(1, 1, entries[:3])) == entries[:3]
    plain = leases_frame(1, 1, entries[:1])
    assert (plain.lowered, plain.known) == (b"", b"")
    broken = leases_frame(1, 1, entries[3:])
    for field in ("lowered", "known"):
        with pytest.raises(ClusterError):
            lease_entries(msgspec.structs.replace(broken, **{field: b"123"}))
