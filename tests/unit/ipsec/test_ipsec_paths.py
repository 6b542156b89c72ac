"""Both packet paths: every transform, hostile packets, MTU, fragments, MSS, TTL."""

from __future__ import annotations

import ipaddress

import pytest

from esp_pair import ALL_SUITES, GCM, Side, child_policy, child_sa, connection, pair, udp
from ipsecha.ipsec.tunnel import decrement_ttl, inner_mtu
from ipsecha.model.policy import Action, DontFragment, Policy, Rule, TooBig
from ipsecha.model.proposals import ChildSuite
from ipsecha.wire.ip import build_ipv4, checksum, packet_selectors


@pytest.mark.parametrize("suite", ALL_SUITES, ids=str)
@pytest.mark.parametrize("ends", [("10.1.0.5", "10.2.0.5"), ("2001:db8:1::5", "2001:db8:2::5")])
def test_round_trip(suite: ChildSuite, ends: tuple[str, str]) -> None:
    left, right = pair(suite)
    packets = [udp(*ends, size=size) for size in (*range(60, 100), 1400)]
    assert right.receive(*left.send(*packets)) == packets
    assert right.counters.integrity == 0


def test_what_does_not_fit_by_one_octet() -> None:
    """The computed room is exact: one octet more makes the outer packet too long (for every alignment)."""
    for suite in ALL_SUITES:
        left, _ = pair(suite)
        for mtu in range(1400, 1417):
            left.mtu = mtu
            left.sad.path_changed("192.0.2.2")
            live = left.sad.adopt(0x1001)
            assert live is not None
            left.sad.path_changed("192.0.2.2")
            room = live.inner_mtu
            (fits,) = left.send(udp(size=room))
            assert len(fits) + 28 <= mtu
            assert len(left.outbound._seal(live, 1, udp(size=room + 1), 0)) + 28 > mtu


def test_the_room_matches_the_measured_one() -> None:
    assert inner_mtu(1500, 28, 24, 4) == 1438


def test_df_is_answered_with_the_tunnels_mtu() -> None:
    left, _ = pair()
    assert left.send(udp(size=1439, flags_offset=0x4000)) == []
    (answer,) = left.outbound.back
    assert answer[9] == 1
    assert answer[20:22] == bytes((3, 4))
    assert int.from_bytes(answer[26:28], "big") == 1438
    assert answer[12:16] == ipaddress.ip_address("10.2.0.5").packed
    assert answer[16:20] == ipaddress.ip_address("10.1.0.5").packed


def test_ipv6_is_answered_with_packet_too_big() -> None:
    left, _ = pair()
    assert left.send(udp("2001:db8:1::5", "2001:db8:2::5", size=1439)) == []
    (answer,) = left.outbound.back
    assert answer[40] == 2
    assert int.from_bytes(answer[44:48], "big") == 1438


def test_without_df_fragments_go_into_the_tunnel() -> None:
    left, right = pair()
    packet = udp(size=4000)
    fragments = right.receive(*left.send(packet))
    assert len(fragments) == 3
    assert all(len(one) <= 1438 for one in fragments)
    assert b"".join(one[20:] for one in fragments) == packet[20:]
    assert all(checksum(one[:20]) == 0 for one in fragments)


def test_fragments_count_once_as_packets_of_the_tunnel() -> None:
    left, right = pair()
    datagrams = left.send(udp(), udp(size=4000), udp())
    right.receive(*datagrams)
    live = left.sad.lives[0x1001]
    assert (live.packets_out, left.counters.outbound) == (len(datagrams), len(datagrams)) == (5, 5)


def test_the_policy_to_fragment_overrides_df_and_cuts_ipv6_outside() -> None:
    left, right = pair(too_big=TooBig.FRAGMENT)
    assert len(right.receive(*left.send(udp(size=2000, flags_offset=0x4000)))) == 2
    runs = left.outbound.process([udp("2001:db8:1::5", "2001:db8:2::5", size=2000)], left.now)
    assert [run.outer & 1 for run in runs] == [0]
    assert left.outbound.back == []


def test_a_tunnel_below_ipv6s_minimum_still_carries_its_minimum() -> None:
    """RFC 8200 section 5: 1280 octets must pass; the outer packet is cut instead."""
    left, _ = pair()
    left.mtu = 1300
    runs = left.outbound.process([udp("2001:db8:1::5", "2001:db8:2::5", size=1280)], left.now)
    assert [run.outer & 1 for run in runs] == [0]
    left.send(udp("2001:db8:1::5", "2001:db8:2::5", size=1281))
    (answer,) = left.outbound.back
    assert int.from_bytes(answer[44:48], "big") == 1280


def tcp_syn(mss: int, *, offset: int = 0) -> bytes:
    source, target = ipaddress.ip_address("10.1.0.5").packed, ipaddress.ip_address("10.2.0.5").packed
    options = bytes((1,)) * offset + bytes((2, 4)) + mss.to_bytes(2, "big")
    options += bytes(-len(options) % 4)
    header = bytes((0, 80, 1, 1)) + bytes(8) + bytes(((5 + len(options) // 4) << 4, 2, 255, 255)) + bytes(4) + options
    pseudo = source + target + bytes((0, 6)) + len(header).to_bytes(2, "big")
    value = checksum(pseudo + header)
    return build_ipv4(source, target, 6, header[:16] + value.to_bytes(2, "big") + header[18:])


@pytest.mark.parametrize("offset", [0, 1])
def test_syn_gets_the_mss_that_fits(offset: int) -> None:
    left, right = pair()
    (packet,) = right.receive(*left.send(tcp_syn(1460, offset=offset)))
    assert int.from_bytes(packet[42 + offset : 44 + offset], "big") == 1398
    body = packet[20:]
    assert checksum(packet[12:20] + bytes((0, 6)) + len(body).to_bytes(2, "big") + body) == 0
    small = tcp_syn(1000)
    assert right.receive(*left.send(small)) == [small]


def test_ttl_is_decremented_only_where_nobody_else_did() -> None:
    left, right = pair()
    assert right.receive(*left.send(udp(ttl=9)))[0][8] == 9
    left.outbound.forwards = True
    (packet,) = right.receive(*left.send(udp(ttl=9)))
    assert packet[8] == 8
    assert checksum(packet[:20]) == 0
    assert left.send(udp(ttl=1)) == []
    assert left.counters.ttl_exceeded == 1
    six = decrement_ttl(udp("2001:db8:1::5", "2001:db8:2::5"))
    assert six is not None
    assert six[7] == 63


def test_dont_fragment_of_the_outer_header() -> None:
    """RFC 4301 section 8.1: copy, set, clear."""
    for mode, expected in ((DontFragment.COPY, [0, 1]), (DontFragment.SET, [1, 1]), (DontFragment.CLEAR, [0, 0])):
        left, _ = pair(dont_fragment=mode)
        found = [left.outbound.process([udp(flags_offset=flags)], 0.0)[0].outer & 1 for flags in (0, 0x4000)]
        assert found == expected


def test_dscp_and_ecn_are_copied_outwards() -> None:
    left, _ = pair()
    (run,) = left.outbound.process([udp(traffic_class=0xB9)], 0.0)
    assert run.outer >> 1 == 0xB9
    (run,) = left.outbound.process([udp("2001:db8:1::5", "2001:db8:2::5", traffic_class=0xB9)], 0.0)
    assert run.outer >> 1 == 0xB9


def test_runs_break_where_the_outer_header_changes() -> None:
    left, _ = pair()
    runs = left.outbound.process([udp(), udp(), udp(traffic_class=4), udp()], 0.0)
    assert [len(run.datagrams) for run in runs] == [2, 1, 1]


def test_bypass_and_discard() -> None:
    wide, narrow = child_policy().local_ts, child_policy().remote_ts
    side = Side(Policy((connection((child_policy(),)),), (Rule(Action.BYPASS, wide, narrow),)))
    side.install(child_sa(0x1001, 0x2002))
    packet = udp()
    assert side.send(packet) == []
    assert side.outbound.bypass == [packet]
    side = Side(Policy((connection((child_policy(),)),), (Rule(Action.DISCARD, wide, narrow),)))
    assert side.send(packet) == []
    assert side.counters.discarded == 1


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"E",
        b"\x45" * 19,
        b"\x45" * 25,
        b"\x60" * 39,
        b"\x60" + bytes(45),
        bytes(100),
        b"\xff" * 1400,
        b"\x45" * 1500,
    ],
)
def test_hostile_clear_packets_are_dropped(packet: bytes) -> None:
    left, _ = pair()
    for forwards in (False, True):
        left.outbound.forwards = forwards
        assert left.send(packet) == []
        assert left.send(packet, udp(), packet) != []


@pytest.mark.parametrize(
    "packet", [b"", b"\x00\x00\x10\x01", bytes.fromhex("00001001000000ff"), bytes.fromhex("00001001") + b"\xff" * 50]
)
def test_hostile_esp_packets_are_dropped(packet: bytes) -> None:
    for suite in ALL_SUITES:
        left, _ = pair(suite)
        assert left.receive(packet) == []


@pytest.mark.parametrize(
    "padded",
    [
        bytes((0, 4)),
        bytes((255, 4)),
        b"\x45" + bytes(19) + bytes((0, 4)),
        b"\x60" + bytes(39) + bytes((0, 4)),
        bytes(20) + bytes((0, 4)),
        udp() + bytes((9, 9, 2, 4)),
        udp() + bytes((1, 2, 2, 41)),
        udp() + bytes((1, 2, 2, 17)),
        udp() + bytes((1, 2, 2, 97)),
    ],
)
def test_authentic_but_broken_packets_are_dropped(padded: bytes) -> None:
    left, right = pair()
    live = left.sad.adopt(0x1001)
    assert live is not None
    padded = bytes(-len(padded) % 4) + padded if not padded[0] >> 4 else padded + b""
    if len(padded) % 4:
        padded = padded[:-2] + bytes(range(1, 5 - len(padded) % 4)) + padded[-2:]
    assert right.receive(left.outbound._encrypt(live, live.outbound, 1, padded)) == []


def test_inner_packets_must_match_the_sas_selectors() -> None:
    left, right = pair()
    live = left.sad.adopt(0x1001)
    assert live is not None
    stranger = udp("10.9.0.5", "10.2.0.5")
    assert right.receive(left.outbound._seal(live, 1, stranger, 0)) == []
    assert right.receive(left.outbound._seal(live, 2, udp("10.1.0.5", "10.77.0.5"), 0)) == []
    assert right.counters.selector_mismatch == 2
    assert right.receive(left.outbound._seal(live, 3, udp(), 0)) != []
    assert right.receive(left.outbound._seal(live, 4, stranger, 0)) == []


def test_ports_of_the_sa_are_checked_for_every_packet() -> None:
    _, right = pair()
    left = Side()
    web = child_sa(0x2002, 0x1001, GCM, first=False)
    narrow = tuple(type(one)(one.start, one.end, 17, 53, 53) for one in web.local_ts)
    right.sad.remove(0x2002)
    right.install(child_sa(0x2002, 0x1001, GCM, first=False, local_ts=narrow))
    left.install(child_sa(0x1001, 0x2002))
    good, bad = udp(ports=(9999, 53)), udp(ports=(9999, 54))
    assert right.receive(*left.send(good, bad, good)) == [good, good]
    assert packet_selectors(good).dst_port == 53
