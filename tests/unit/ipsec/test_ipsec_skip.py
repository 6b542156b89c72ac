"""Jumps of outbound numbers that the peer asks for (RFC 6311 section 5.2): within leases, lanes and the numbers there
are."""

from __future__ import annotations

import pytest

from esp_pair import GCM, GCM_ESN, Side, child_sa, pair, sequence_number, udp
from ipsecha.ipsec.live import END, END_ESN
from ipsecha.ipsec.skip import LARGEST_SKIP, skip_outbound
from ipsecha.model.leases import FIRST_OUT_CEILING, LANE, Leasing
from ipsecha.model.proposals import ChildSuite

SPI = 0x1001


def number(side: Side) -> int:
    (datagram,) = side.send(udp())
    return sequence_number(datagram)


@pytest.mark.parametrize("used", [0, 5])
def test_numbers_go_on_further(used: int) -> None:
    """Of an SA in use as of one that has not sent yet; once."""
    side, _ = pair()
    for _ in range(used):
        number(side)
    assert skip_outbound(side.sad, SPI, 1000, side.now)
    assert [number(side), number(side)] == [used + 1001, used + 1002]


def test_the_peer_accepts_what_follows() -> None:
    """That is what it is for: the peer's window begins above what the dead owner may have accepted."""
    left, right = pair()
    right.sad.deactivate()
    right.sad.activate(9, False)
    (lost,) = left.send(udp())
    assert right.receive(lost) == []
    assert skip_outbound(left.sad, SPI, 1000, left.now)
    assert len(right.receive(*left.send(udp()))) == 1


def test_the_jump_waits_for_its_lease() -> None:
    """No number above the acknowledged ceiling leaves; it is asked for at once, not with the next packet."""
    side, _ = pair(mode=Leasing.LEASED)
    assert number(side) == 1
    assert skip_outbound(side.sad, SPI, 100_000, side.now)
    assert "leases_wanted" in side.events.names()
    assert side.send(udp()) == []
    (entry,) = side.sad.lease_requests(side.now)
    assert entry.out_ceiling > 100_002
    sent, _ = side.grant([entry])
    assert [sequence_number(datagram) for datagram in sent] == [100_002]


def test_within_the_lease_nothing_waits() -> None:
    side, _ = pair(mode=Leasing.LEASED)
    assert skip_outbound(side.sad, SPI, FIRST_OUT_CEILING // 4, side.now)
    assert number(side) == FIRST_OUT_CEILING // 4 + 1


def test_the_next_owner_begins_beyond_the_jump() -> None:
    """Invariant I2: what was skipped and acknowledged counts as used."""
    side, _ = pair(mode=Leasing.LEASED)
    skip_outbound(side.sad, SPI, 100_000, side.now)
    side.acknowledge()
    last = number(side)
    side.sad.deactivate()
    side.sad.activate(9, False)
    assert side.send(udp()) == []
    (sent,), _ = side.acknowledge()
    assert sequence_number(sent) > last > 100_000


@pytest.mark.parametrize(("suite", "end"), [(GCM, END), (GCM_ESN, END_ESN)])
def test_without_room_the_sa_is_rekeyed(suite: ChildSuite, end: int) -> None:
    """A jump never uses up the numbers; nor does a hostile one, however large."""
    side, _ = pair(suite)
    for delta in (LARGEST_SKIP + 1, 1 << 32, (1 << 64) - 1):
        assert not skip_outbound(side.sad, SPI, delta, side.now)
        assert side.events.seen[-1] == ("must_rekey", SPI)
    assert number(side) == 1
    live = side.sad.lives[SPI]
    live.next_out = end - (end >> 4) - 100
    assert skip_outbound(side.sad, SPI, 90, side.now)
    assert not skip_outbound(side.sad, SPI, 90, side.now)


def test_many_jumps_end_in_a_rekey() -> None:
    side, _ = pair()
    done = 0
    while skip_outbound(side.sad, SPI, LARGEST_SKIP, side.now):
        done += 1
    assert done == 3
    assert number(side) == 3 * LARGEST_SKIP + 1
    assert ("must_rekey", SPI) in side.events.seen


def test_alone_after_silence_the_lane_is_the_limit() -> None:
    """Beyond its lane the numbers may be another owner's: there is no jump, the SA is rekeyed (invariant I2)."""
    side, _ = pair(mode=Leasing.LANE)
    assert number(side) == 1
    assert skip_outbound(side.sad, SPI, LANE // 4, side.now)
    assert not skip_outbound(side.sad, SPI, LANE, side.now)
    assert number(side) == LANE // 4 + 2


def test_what_is_not_ours_is_left_alone() -> None:
    side, _ = pair()
    assert not skip_outbound(side.sad, 0x9999, 5, side.now)
    side.sad.deactivate()
    assert not skip_outbound(side.sad, SPI, 5, side.now)
    side.install(child_sa(0x3003, 0x4004))
    assert side.events.seen == []
