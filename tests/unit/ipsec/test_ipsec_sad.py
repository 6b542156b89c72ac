"""The SAD: lazy adoption, leases in their three modes, limits, events."""

from __future__ import annotations

from esp_pair import (
    CBC,
    GCM,
    GCM_ESN,
    LEFT_ADDRESS,
    RIGHT_ADDRESS,
    Side,
    child_policy,
    child_sa,
    connection,
    ike_sa,
    pair,
    sequence_number,
    udp,
)
from ipsecha.ipsec.ceilings import HOLD_LIMIT
from ipsecha.ipsec.live import END, END_ESN
from ipsecha.model.leases import LANE, LANE_ESN, Leasing
from ipsecha.model.policy import Policy
from ipsecha.model.records import IkeFlag, LeaseEntry


def test_taking_over_touches_no_sa() -> None:
    side = Side()
    side.sad.deactivate()
    for number in range(100):
        side.sad.install(ike_sa(), child_sa(1000 + number, number))
    side.sad.activate(5, False)
    assert side.sad.lives == {}
    side.send(udp())
    assert len(side.sad.lives) == 1


def test_a_standby_uses_nothing() -> None:
    left, right = pair()
    datagrams = right.send(udp("10.2.0.5", "10.1.0.5"))
    left.sad.deactivate()
    assert left.receive(*datagrams) == []
    assert left.send(udp()) == []
    assert left.sad.adopt(0x1001) is None


def test_the_new_owner_begins_beyond_the_ceilings() -> None:
    left, right = pair()
    left.sad.deactivate()
    left.sad.apply_leases([LeaseEntry(0x1001, 500, 900)])
    left.sad.activate(7, False)
    (datagram,) = left.send(udp())
    assert sequence_number(datagram) == 901
    assert int.from_bytes(datagram[8:11], "big") == 7  # the incarnation above the counter in the IV
    assert left.sad.lives[0x1001].window.top == 500
    live = right.sad.adopt(0x2002)
    assert live is not None
    live.next_out = 500
    old, new = right.send(udp("10.2.0.5", "10.1.0.5"), udp("10.2.0.5", "10.1.0.5"))
    assert left.receive(old) == []
    assert left.receive(new) != []
    gap = left.sad.lives[0x1001].gap
    assert gap is not None
    assert gap.refused == 1


def test_after_silence_it_begins_above_the_lane() -> None:
    for suite, width in ((GCM, LANE), (GCM_ESN, LANE_ESN)):
        side = Side()
        side.sad.deactivate()
        side.install(child_sa(0x1001, 0x2002, suite))
        side.sad.activate(2, True)
        side.send(udp())
        assert side.sad.lives[0x1001].next_out == 256 + width + 2
        found = side.sad.installed(0x1001)
        assert found is not None
        assert found[1].out_ceiling > 256 + width


def test_who_owns_again_leaves_out_what_it_left_out_before() -> None:
    """It took over twelve lanes up, used nothing, was isolated, and owns again: the lanes are those of the dead one."""
    side = Side()
    side.sad.deactivate()
    side.install(child_sa(0x1001, 0x2002))
    side.sad.activate(2, 12)
    side.sad.deactivate()
    side.sad.activate(3, 0)
    side.send(udp())
    assert side.sad.lives[0x1001].next_out == 256 + 12 * LANE + 2


def test_what_was_left_out_is_forgotten_with_the_records() -> None:
    side = Side()
    side.sad.deactivate()
    side.install(child_sa(0x1001, 0x2002))
    side.sad.activate(2, 12)
    side.sad.take_all()
    side.sad.activate(3, 0)
    side.install(child_sa(0x1001, 0x2002))
    side.send(udp())
    assert side.sad.lives[0x1001].next_out == 2


def test_exact_numbers_leave_no_gap_but_only_while_they_hold() -> None:
    side = Side()
    side.sad.deactivate()
    side.install(child_sa(0x1001, 0x2002))
    side.install(child_sa(0x1003, 0x2004, local_ts=child_sa(1, 1).remote_ts, remote_ts=child_sa(1, 1).local_ts))
    side.sad.adopt_exact([LeaseEntry(0x1001, 3, 40), LeaseEntry(0x1003, 5, 50)])
    side.sad.apply_leases([LeaseEntry(0x1003, 17, 300)])  # its owner went on after all
    side.sad.activate(2, False)
    one, other = side.sad.adopt(0x1001), side.sad.adopt(0x1003)
    assert one is not None
    assert other is not None
    assert (one.window.top, one.next_out) == (3, 41)
    assert (other.window.top, other.next_out) == (17, 301)


def test_outbound_packets_wait_for_the_backup() -> None:
    left, _ = pair(mode=Leasing.LEASED)
    assert len(left.send(*[udp()] * 256)) == 256
    assert "leases_wanted" in left.events.names()
    assert left.send(udp(), udp()) == []
    sent, _ = left.acknowledge()
    assert [sequence_number(one) for one in sent] == [257, 258]
    assert left.send(udp()) != []


def test_inbound_packets_are_held_until_the_backup_knows() -> None:
    left, right = pair(mode=Leasing.LEASED)
    datagrams = right.send(*[udp("10.2.0.5", "10.1.0.5")] * 20)
    assert len(left.receive(*datagrams)) == 16
    assert left.receive(*datagrams) == []  # 1 to 16 are replays, 17 to 20 are held twice
    _, delivered = left.acknowledge()
    assert len(delivered) == 4
    assert left.sad.held == 0
    assert left.receive(*datagrams) == []


def test_a_former_owner_gives_nothing_back() -> None:
    """What it would give back is what the next owner has used since."""
    left, right = pair(mode=Leasing.LEASED)
    left.receive(*right.send(*[udp("10.2.0.5", "10.1.0.5")] * 40))
    left.acknowledge()
    left.sad.deactivate()
    found = left.sad.installed(0x1001)
    assert found is not None
    ceiling = found[1].in_ceiling
    for later in range(1, 5):
        left.sad.review(left.now + 100.0 * later)
        assert left.sad.lease_requests(left.now + 100.0 * later) == []
    assert found[1].in_ceiling == ceiling


def test_forged_packets_move_no_lease() -> None:
    left, right = pair(mode=Leasing.LEASED)
    (datagram,) = right.send(udp("10.2.0.5", "10.1.0.5"))
    left.receive(datagram[:4] + (10_000).to_bytes(4, "big") + datagram[8:])
    assert left.sad.lease_requests(left.now) == []
    assert left.sad.lives[0x1001].integrity_failures == 1


def test_queues_are_bounded() -> None:
    left, _ = pair(mode=Leasing.LEASED)
    for _ in range(20):
        left.send(*[udp()] * 60)
    assert len(left.sad.lives[0x1001].held_out) == HOLD_LIMIT
    assert left.counters.hold_overflow == 20 * 60 - 256 - HOLD_LIMIT
    left.sad.remove(0x1001)
    assert left.sad.held == 0


def test_one_request_per_sa_until_it_is_drained() -> None:
    left, _ = pair(mode=Leasing.LEASED)
    left.send(*[udp()] * 200)
    assert left.events.names().count("leases_wanted") == 1
    (entry,) = left.sad.lease_requests(left.now)
    assert entry.out_ceiling > 256
    assert entry.in_ceiling == 16
    assert left.sad.lease_requests(left.now) == []


def test_alone_it_grants_itself_and_the_record_says_so() -> None:
    left, _ = pair(mode=Leasing.FREE)
    left.send(*[udp()] * 1000)
    found = left.sad.installed(0x1001)
    assert found is not None
    assert found[1].out_ceiling >= 1000
    assert left.sad.lease_requests(left.now) == []


def test_a_new_backup_learns_what_was_used_without_it() -> None:
    left, _ = pair(mode=Leasing.FREE)
    left.send(*[udp()] * 1000)
    left.sad.set_leasing(Leasing.LEASED)
    assert left.send(udp()) == []
    (entry,) = left.sad.lease_requests(left.now)
    assert entry.out_ceiling > 1000
    sent, _ = left.grant([entry])
    assert len(sent) == 1


def test_a_dead_backup_releases_what_waits() -> None:
    left, _ = pair(mode=Leasing.LEASED)
    left.send(*[udp()] * 300)
    lives = left.sad.set_leasing(Leasing.FREE)
    assert len(lives) == 1
    assert sum(len(run.datagrams) for run in left.outbound.release(lives[0], left.now)) == 44


def test_in_the_lane_numbers_end_and_a_rekey_is_asked_for() -> None:
    left, _ = pair(mode=Leasing.LEASED)
    left.send(udp())
    left.sad.set_leasing(Leasing.LANE)
    live = left.sad.lives[0x1001]
    live.next_out = 256 + LANE // 2 + 1
    left.send(udp())
    assert left.events.names().count("must_rekey") == 1
    live.next_out = 256 + LANE
    assert len(left.send(udp(), udp())) == 1
    assert left.events.names().count("must_rekey") == 1


def test_a_lane_does_not_grow_by_being_said_twice() -> None:
    left, _ = pair(mode=Leasing.LEASED)
    left.send(udp())
    left.sad.set_leasing(Leasing.LANE)
    left.send(*[udp()] * 500)
    left.sad.set_leasing(Leasing.LANE)
    assert left.sad.lives[0x1001].out_lease.end == 256 + LANE


def test_lanes_can_be_skipped_by_sas_in_use_and_by_others_later() -> None:
    left, _ = pair(mode=Leasing.LEASED)
    left.install(child_sa(0x1003, 0x2004, local_ts=child_sa(1, 1).remote_ts, remote_ts=child_sa(1, 1).local_ts))
    left.send(udp())
    left.sad.set_leasing(Leasing.FREE, 4)
    assert sequence_number(left.send(udp())[0]) == 256 + 4 * LANE + 1
    other = left.sad.adopt(0x1003)
    assert other is not None
    assert other.next_out == 256 + 4 * LANE + 1
    side = Side()
    side.sad.deactivate()
    side.install(child_sa(0x1001, 0x2002))
    side.sad.activate(3, 2)
    assert sequence_number(side.send(udp())[0]) == 256 + 2 * LANE + 1
    assert list(side.sad.lease_in_parts(side.sad.spd.walk()))
    found = side.sad.installed(0x1001)
    assert found is not None
    assert found[1].out_ceiling > 256 + 2 * LANE


def test_a_record_that_is_older_than_a_lease_lowers_nothing() -> None:
    side = Side()
    side.install(child_sa(0x1001, 0x2002))
    side.sad.apply_leases([LeaseEntry(0x1001, 700, 800)])
    newer = side.install(child_sa(0x1001, 0x2002))
    assert (newer.in_ceiling, newer.out_ceiling) == (700, 800)


def test_a_lease_that_precedes_its_record_counts() -> None:
    side = Side()
    side.sad.apply_leases([LeaseEntry(0x1001, 700, 800)])
    child = side.install(child_sa(0x1001, 0x2002))
    assert (child.in_ceiling, child.out_ceiling) == (700, 800)


def test_byte_and_packet_limits_fire_once_each() -> None:
    left, _ = pair(rekey_packets=10)
    left.send(*[udp()] * 9)
    assert left.events.seen == []
    left.send(udp())
    left.send(udp())
    assert left.events.seen == [("soft_limit", 0x1001), ("hard_limit", 0x1001)]
    assert left.send(udp()) == []
    assert left.counters.exhausted == 1
    left, right = pair(rekey_bytes=1000)
    left.receive(*right.send(*[udp("10.2.0.5", "10.1.0.5")] * 10))
    assert ("soft_limit", 0x1001) in left.events.seen


def test_numbers_end_before_the_counter_in_the_iv_does() -> None:
    """Without ESN at 2^32 - 1; with ESN at 2^40 - 1, where an AEAD's IV would repeat."""
    for suite, end in ((GCM, END), (CBC, END), (GCM_ESN, END_ESN)):
        left, _ = pair(suite)
        live = left.sad.adopt(0x1001)
        assert live is not None
        live.next_out = end - (end >> 4) + 1
        left.send(udp())
        assert left.events.names() == ["soft_limit"]
        live.next_out = end
        assert len(left.send(udp(), udp())) == 1
        assert left.events.names() == ["soft_limit", "hard_limit"]


def test_the_first_packet_on_a_responders_rekeyed_child_is_told_once() -> None:
    left, right = pair()
    left.install(child_sa(0x1001, 0x2002, use_outbound=False))
    forged = bytearray(right.send(udp("10.2.0.5", "10.1.0.5"))[0])
    forged[-1] ^= 1
    left.receive(bytes(forged))
    assert "child_used" not in left.events.names()
    left.receive(*right.send(*[udp("10.2.0.5", "10.1.0.5")] * 2))
    assert left.events.seen.count(("child_used", 0x1001)) == 1


def test_inbound_traffic_is_reported_once_a_second() -> None:
    left, right = pair()
    for _ in range(5):
        left.now += 0.5
        left.receive(*right.send(udp("10.2.0.5", "10.1.0.5")))
    assert left.events.names().count("traffic_in") == 3


def test_a_peer_behind_a_nat_moves_with_its_newest_packet() -> None:
    left, right = pair()
    left.install(child_sa(0x1001, 0x2002), flags=IkeFlag.ENCAPSULATE | IkeFlag.REMOTE_NAT)
    old, new = right.send(udp("10.2.0.5", "10.1.0.5"), udp("10.2.0.5", "10.1.0.5"))
    left.receive(new, remote=("198.51.100.9", 40000))
    left.receive(old, remote=("198.51.100.8", 40000))  # late, not new
    assert left.events.seen[0] == ("peer_moved", 0x1001, ("198.51.100.9", 40000))
    assert left.events.names().count("peer_moved") == 1


def test_a_peer_does_not_move_to_where_nothing_can_be_sent() -> None:
    """Whoever is on the path can take the UDP header off; ESP without one comes from no port (RFC 3948)."""
    left, right = pair()
    left.install(child_sa(0x1001, 0x2002), flags=IkeFlag.ENCAPSULATE | IkeFlag.REMOTE_NAT)
    assert left.receive(*right.send(udp("10.2.0.5", "10.1.0.5")), remote=("198.51.100.9", 0))
    assert "peer_moved" not in left.events.names()


def test_a_peer_without_a_nat_does_not_move() -> None:
    left, right = pair()
    left.receive(*right.send(udp("10.2.0.5", "10.1.0.5")), remote=("198.51.100.9", 40000))
    assert "peer_moved" not in left.events.names()


def test_updates_reach_sas_in_use() -> None:
    left, _ = pair()
    left.send(udp())
    child = child_sa(0x1001, 0x2002)
    sa = ike_sa(child)
    sa.remote = ("198.51.100.7", 1234)
    left.sad.install(sa, child)
    (run,) = left.outbound.process([udp()], left.now)
    assert run.live.remote == ("198.51.100.7", 1234)
    assert run.live.local == LEFT_ADDRESS
    assert run.live.remote != RIGHT_ADDRESS


def test_rekeying_moves_outbound_traffic_to_the_new_sa() -> None:
    left, _ = pair()
    (before,) = left.send(udp())
    newer = child_sa(0x1011, 0x2022, created_at=5.0, use_outbound=False)
    left.install(newer)
    (still,) = left.send(udp())
    newer.use_outbound = True
    left.install(newer)
    (after,) = left.send(udp())
    assert before[:4] == still[:4] == bytes.fromhex("00002002")
    assert after[:4] == bytes.fromhex("00002022")
    left.sad.remove(0x1011)
    assert left.send(udp())[0][:4] == bytes.fromhex("00002002")


def test_an_entry_without_an_sa_asks_for_one() -> None:
    side = Side()
    assert side.send(udp()) == []
    assert side.events.seen == [("acquire", "peer", "net")]


def test_a_new_policy_reaches_lookups_at_once() -> None:
    left, _ = pair()
    assert left.send(udp()) != []
    left.sad.configure(Policy((connection((child_policy(),)),), ()))
    assert left.send(udp()) != []


def test_unknown_spis_are_counted_always_and_told_seldom() -> None:
    left, _ = pair()
    for _ in range(100):
        left.receive((0x7777).to_bytes(4, "big") + bytes(40))
    assert left.counters.unknown_spi == 100
    assert left.events.names().count("unknown_spi") == 1
