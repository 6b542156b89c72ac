"""The inbound gap after a takeover: authenticated, counted, told; what the policy "learn" accepts, and what never."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from esp_pair import GCM, GCM_ESN, Side, child_policy, child_sa, connection, udp
from ipsecha.ipsec.replay import ReplayWindow
from ipsecha.model.leases import Leasing
from ipsecha.model.policy import Inbound, Policy
from ipsecha.model.proposals import ChildSuite
from ipsecha.model.records import LeaseEntry

SPI = 0x1001


def policy(inbound: Inbound) -> Policy:
    return Policy((msgspec.structs.replace(connection((child_policy(),)), inbound=inbound),))


class Scene:
    """A peer, and a member that has just taken over an SA with this ceiling and this known number."""

    def __init__(
        self,
        inbound: Inbound = Inbound.STRICT,
        suite: ChildSuite = GCM,
        ceiling: int = 100,
        known: int = 60,
        mode: Leasing = Leasing.FREE,
    ) -> None:
        self.peer = Side(first=False)
        self.peer.install(child_sa(0x2002, SPI, suite, first=False))
        sender = self.peer.sad.adopt(0x2002)
        assert sender is not None
        sender.out_lease.restart(sender.end)
        self.sender = sender
        self.member = Side(policy(inbound), mode=mode)
        self.member.sad.deactivate()
        self.child = self.member.install(child_sa(SPI, 0x2002, suite, in_ceiling=ceiling, in_known=known))
        self.member.sad.activate(2, False)

    def packet(self, number: int) -> bytes:
        self.sender.next_out = number
        (datagram,) = self.peer.send(udp("10.2.0.5", "10.1.0.5"))
        return datagram

    def accepts(self, *numbers: int) -> list[int]:
        return [number for number in numbers if self.member.receive(self.packet(number))]

    def told(self, name: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.member.events.seen if event[0] == name]


@pytest.mark.parametrize("inbound", [Inbound.STRICT, Inbound.REKEY])
@pytest.mark.parametrize("suite", [GCM, GCM_ESN], ids=["32", "esn"])
def test_the_whole_gap_is_refused_and_counted(inbound: Inbound, suite: ChildSuite) -> None:
    scene = Scene(inbound, suite)
    assert scene.accepts(61, 62, 70, 99, 100) == []
    gap = scene.member.sad.lives[SPI].gap
    assert gap is not None
    assert (gap.refused, gap.remaining) == (5, 0)
    assert scene.accepts(101) == [101]
    assert scene.told("gap_closed") == [(SPI,)]
    assert scene.member.counters.in_gap == 5


@pytest.mark.parametrize("suite", [GCM, GCM_ESN], ids=["32", "esn"])
def test_a_long_gap_is_seen_far_below_the_window(suite: ChildSuite) -> None:
    """With extended numbers the window would take what lies far below it for numbers beyond the next 2^32."""
    scene = Scene(suite=suite, ceiling=(1 << 33) + 5 if suite.esn else 1 << 20)
    floor = scene.child.in_ceiling
    assert scene.accepts(floor - 100_000, floor - 50_000) == []
    assert scene.told("gap_traffic") == [(SPI, 1, 100_000), (SPI, 2, 50_000)]
    assert scene.member.counters.integrity == 0
    assert scene.accepts(floor + 1) == [floor + 1]


def test_a_gap_is_told_at_ever_longer_intervals() -> None:
    scene = Scene(ceiling=1000)
    scene.accepts(*range(1, 501))
    assert [refused for _, refused, _ in scene.told("gap_traffic")] == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_what_is_forged_shows_nothing() -> None:
    for inbound in Inbound:
        scene = Scene(inbound)
        datagram = scene.packet(80)
        assert scene.member.receive(datagram[:-1] + bytes([datagram[-1] ^ 1])) == []
        gap = scene.member.sad.lives[SPI].gap
        assert gap is not None
        assert (gap.refused, gap.learnt) == (0, 0)
        assert scene.member.counters.integrity == 1
        assert scene.told("gap_traffic") == []


def test_learning_takes_the_first_authentic_number_and_goes_on_from_there() -> None:
    scene = Scene(Inbound.LEARN)
    assert scene.accepts(75, 76, 80, 79, 120) == [75, 76, 80, 79, 120]
    assert scene.told("gap_closed") == [(SPI,)]


def test_what_learning_can_accept_and_what_it_never_can() -> None:
    """Numbers up to the last one that the owner before had delivered when its lease was asked for are refused for ever;
    those between it and the ceiling may come a second time, once; below the number learnt from nothing is accepted."""
    scene = Scene(Inbound.LEARN)
    assert scene.accepts(1, 59, 60) == []
    assert scene.accepts(75, 75, 74, 61, 1) == [75]
    assert scene.accepts(*range(1, 101)) == list(range(76, 101))
    assert scene.accepts(*range(1, 101)) == []


def test_nobody_learns_from_the_same_gap_again() -> None:
    """Neither this member when it is owner anew, nor the next one: the record says so before a number is accepted."""
    scene = Scene(Inbound.LEARN)
    assert scene.accepts(75) == [75]
    assert scene.child.in_known == 100
    scene.member.sad.deactivate()
    scene.member.sad.activate(3, False)
    assert scene.accepts(*range(61, 101)) == []
    assert scene.accepts(101) == [101]


def test_with_a_backup_learning_waits_until_that_knows_of_it() -> None:
    scene = Scene(Inbound.LEARN, mode=Leasing.LEASED)
    assert scene.accepts(75, 76) == []
    (entry,) = scene.member.sad.lease_requests(scene.member.now)
    assert entry.known == 100
    stale = LeaseEntry(SPI, entry.in_ceiling, entry.out_ceiling)
    assert scene.member.grant([stale]) == ([], [])  # the answer to a request from before
    _, delivered = scene.member.grant([entry])
    assert len(delivered) == 2
    assert scene.accepts(75, 76, 77) == [77]


def test_the_owner_tells_what_it_has_delivered_only_where_that_is_learnt_from() -> None:
    for inbound in Inbound:
        scene = Scene(inbound, ceiling=0, known=0, mode=Leasing.LEASED)
        scene.accepts(1, 2, 3)
        (entry,) = scene.member.sad.lease_requests(scene.member.now)
        assert entry.known == 0
        scene.member.grant([entry])
        scene.accepts(*range(4, 20))
        (entry,) = scene.member.sad.lease_requests(scene.member.now)
        assert (entry.known > 3) == (inbound is Inbound.LEARN)
        assert entry.known < 20


def test_a_planned_switchover_leaves_no_gap() -> None:
    scene = Scene()
    scene.member.sad.deactivate()
    scene.member.sad.adopt_exact([LeaseEntry(SPI, 42, 50)])
    scene.member.sad.activate(3, False)
    assert scene.accepts(42, 43) == [43]
    assert scene.member.sad.lives[SPI].gap is None


def test_exact_numbers_count_for_nothing_once_somebody_has_learnt() -> None:
    """The owner before went on after all, and has delivered numbers below its ceiling."""
    scene = Scene(Inbound.LEARN)
    scene.member.sad.deactivate()
    scene.member.sad.adopt_exact([LeaseEntry(SPI, 42, 50)])
    scene.member.sad.apply_leases([LeaseEntry(SPI, 100, 256, known=100)])
    scene.member.sad.activate(3, False)
    assert scene.accepts(43, 99, 100) == []


def test_a_window_learnt_from_knows_what_it_has_seen() -> None:
    window = ReplayWindow(64, 74)
    assert not window.fresh(74)
    assert window.fresh(75)
