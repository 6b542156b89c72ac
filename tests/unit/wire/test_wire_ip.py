"""Inner IP packets: selectors, ICMP errors, fragments, MSS, checksums."""

from __future__ import annotations

import struct

import pytest

from ipsecha.model.policy import DontFragment
from ipsecha.wire import ip
from ipsecha.wire.ip import PacketSelectors

V4_A, V4_B, V4_GATEWAY = bytes((10, 1, 0, 1)), bytes((10, 2, 0, 2)), bytes((192, 0, 2, 1))
V6_A, V6_B, V6_GATEWAY = (bytes((0x20, 0x01, 0x0D, 0xB8)) + bytes(11) + bytes((last,)) for last in (1, 2, 3))
PORTS = struct.pack(">HH", 5000, 53) + bytes(16)
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60


def extension(following: int, octets: int = 8) -> bytes:
    return bytes((following, octets // 8 - 1)) + bytes(octets - 2)


def fragment_header(following: int, offset: int, more: bool) -> bytes:
    return struct.pack(">BBHI", following, 0, offset | more, 77)


def tcp(flags: int = 2, options: bytes = b"", src: bytes = V4_A, dst: bytes = V4_B, data: bytes = b"") -> bytes:
    header = struct.pack(">HHIIBBHHH", 4000, 80, 1, 0, (20 + len(options)) << 2, flags, 65535, 0, 0) + options + data
    check = ip.transport_checksum(src, dst, 6, header)
    return header[:16] + check.to_bytes(2, "big") + header[18:]


def transport_is_intact(packet: bytes) -> bool:
    protocol, offset, end, _ = ip.locate_transport(packet)
    src, dst = (packet[12:16], packet[16:20]) if packet[0] >> 4 == 4 else (packet[8:24], packet[24:40])
    pseudo = ip.pseudo_header_sum(src, dst, protocol, end - offset)
    return ip.internet_sum(packet[offset:end], pseudo) == 0xFFFF


@pytest.mark.parametrize("protocol", [6, 17, 33, 132, 136])
def test_selectors_with_ports(protocol: int) -> None:
    expected = (protocol, 5000, 53)
    assert ip.packet_selectors(ip.build_ipv4(V4_A, V4_B, protocol, PORTS)) == (V4_A, V4_B, *expected)
    assert ip.packet_selectors(ip.build_ipv6(V6_A, V6_B, protocol, PORTS)) == (V6_A, V6_B, *expected)


@pytest.mark.parametrize("protocol", [4, 41, 47, 50, 51, 59, 112])
def test_protocols_without_ports_are_opaque(protocol: int) -> None:
    assert ip.packet_selectors(ip.build_ipv4(V4_A, V4_B, protocol, PORTS))[2:] == (protocol, None, None)
    assert ip.packet_selectors(ip.build_ipv6(V6_A, V6_B, protocol, PORTS))[2:] == (protocol, None, None)


def test_ipv4_options_are_skipped() -> None:
    packet = bytearray(ip.build_ipv4(V4_A, V4_B, 17, bytes((1, 1, 1, 0)) + PORTS))
    packet[0] = 0x46
    assert ip.packet_selectors(bytes(packet)) == PacketSelectors(V4_A, V4_B, 17, 5000, 53)


def test_padding_behind_the_packet_is_no_port() -> None:
    packet = ip.build_ipv4(V4_A, V4_B, 17, b"")
    assert ip.packet_selectors(packet + PORTS) == PacketSelectors(V4_A, V4_B, 17, None, None)
    assert ip.packet_length(packet + PORTS) == 20
    assert ip.packet_length(ip.build_ipv6(V6_A, V6_B, 17, PORTS) + bytes(9)) == 60


def test_extension_headers_in_any_order() -> None:
    payload = extension(DESTINATION, 16) + extension(ROUTING) + extension(FRAGMENT, 24)
    payload += fragment_header(DESTINATION, 0, False) + extension(17) + PORTS
    packet = ip.build_ipv6(V6_A, V6_B, HOP_BY_HOP, payload)
    assert ip.packet_selectors(packet) == PacketSelectors(V6_A, V6_B, 17, 5000, 53)
    assert ip.locate_transport(packet) == (17, 40 + 16 + 8 + 24 + 8 + 8, len(packet), False)


def test_first_fragments_show_their_ports_and_later_ones_do_not() -> None:
    def ports(packet: bytes) -> tuple[int | None, int | None]:
        found = ip.packet_selectors(packet)
        assert found.protocol == 17
        return found.src_port, found.dst_port

    assert ports(ip.build_ipv4(V4_A, V4_B, 17, PORTS, flags_offset=0x2000)) == (5000, 53)
    assert ports(ip.build_ipv4(V4_A, V4_B, 17, PORTS, flags_offset=0x2001)) == (None, None)
    assert ports(ip.build_ipv4(V4_A, V4_B, 17, PORTS, flags_offset=0x1FFF)) == (None, None)
    assert ports(ip.build_ipv6(V6_A, V6_B, FRAGMENT, fragment_header(17, 0, True) + PORTS)) == (5000, 53)
    assert ports(ip.build_ipv6(V6_A, V6_B, FRAGMENT, fragment_header(17, 8, False) + PORTS)) == (None, None)


def test_first_fragment_that_ends_within_its_headers() -> None:
    packet = ip.build_ipv6(V6_A, V6_B, FRAGMENT, fragment_header(DESTINATION, 0, True) + extension(17, 16)[:8])
    assert ip.packet_selectors(packet) == PacketSelectors(V6_A, V6_B, DESTINATION, None, None)
    packet = ip.build_ipv6(V6_A, V6_B, FRAGMENT, fragment_header(17, 0, True) + PORTS[:2])
    assert ip.packet_selectors(packet) == PacketSelectors(V6_A, V6_B, 17, None, None)


def test_sixteen_extension_headers_are_the_most() -> None:
    def packet(count: int) -> bytes:
        return ip.build_ipv6(V6_A, V6_B, DESTINATION, extension(DESTINATION) * (count - 1) + extension(17) + PORTS)

    assert ip.packet_selectors(packet(15)).src_port == 5000


def test_icmp_type_and_code_and_mobility_header_type_stand_for_ports() -> None:
    unreachable = bytes((3, 4)) + bytes(6)
    assert ip.packet_selectors(ip.build_ipv4(V4_A, V4_B, 1, unreachable))[2:] == (1, 0x0304, 0x0304)
    assert ip.packet_selectors(ip.build_ipv6(V6_A, V6_B, 58, unreachable))[2:] == (58, 0x0304, 0x0304)
    mobility = bytes((59, 0, 5, 0)) + bytes(4)
    assert ip.packet_selectors(ip.build_ipv6(V6_A, V6_B, 135, mobility))[2:] == (135, 0x0500, 0x0500)


def test_udp_checksum_is_never_0() -> None:
    datagram = ip.build_udp(V4_A, V4_B, 1, 2, b"data")
    assert transport_is_intact(ip.build_ipv4(V4_A, V4_B, 17, datagram))
    short = ip.transport_checksum(V4_A, V4_B, 17, struct.pack(">HHHH", 1, 2, 10, 0) + bytes(2))
    empty = struct.pack(">HHHH", 1, 2, 10, 0) + short.to_bytes(2, "big")
    assert ip.transport_checksum(V4_A, V4_B, 17, empty) == 0xFFFF


@pytest.mark.parametrize("size", [100, 1401, 60000])
def test_fragmentation_needed(size: int) -> None:
    packet = ip.build_ipv4(V4_A, V4_B, 17, PORTS + bytes(size), flags_offset=0x4000)
    answer = ip.too_big(packet + bytes(3), 1400, V4_GATEWAY)
    assert answer is not None
    assert (answer[12:16], answer[16:20], answer[9]) == (V4_GATEWAY, V4_A, 1)
    assert len(answer) == ip.packet_length(answer) == min(28 + len(packet), 576)
    assert ip.checksum(answer[:20]) == ip.checksum(answer[20:]) == 0
    assert answer[20:22] + answer[24:28] == bytes((3, 4, 0, 0)) + (1400).to_bytes(2, "big")
    assert packet.startswith(answer[28:])


@pytest.mark.parametrize("size", [100, 1401, 60000])
def test_packet_too_big(size: int) -> None:
    packet = ip.build_ipv6(V6_A, V6_B, 17, PORTS + bytes(size))
    answer = ip.too_big(packet + bytes(3), 1400, V6_GATEWAY)
    assert answer is not None
    assert (answer[8:24], answer[24:40], answer[6]) == (V6_GATEWAY, V6_A, 58)
    assert len(answer) == ip.packet_length(answer) == min(48 + len(packet), 1280)
    assert transport_is_intact(answer)
    assert answer[40:42] + answer[44:48] == bytes((2, 0)) + (1400).to_bytes(4, "big")
    assert packet.startswith(answer[48:])


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(ip.build_ipv4(V4_A, V4_B, 1, bytes((3, 4)) + bytes(900)), id="ICMP error"),
        pytest.param(ip.build_ipv4(V4_A, V4_B, 1, b""), id="ICMP without type"),
        pytest.param(ip.build_ipv4(V4_A, V4_B, 17, PORTS, flags_offset=0x2010), id="later fragment"),
        pytest.param(ip.build_ipv4(V4_A, bytes((224, 0, 0, 5)), 17, PORTS), id="multicast"),
        pytest.param(ip.build_ipv4(V4_A, b"\xff" * 4, 17, PORTS), id="broadcast"),
        pytest.param(ip.build_ipv4(bytes(4), V4_B, 17, PORTS), id="from nobody"),
        pytest.param(ip.build_ipv4(bytes((127, 0, 0, 1)), V4_B, 17, PORTS), id="from loopback"),
        pytest.param(ip.build_ipv4(bytes((224, 0, 0, 5)), V4_B, 17, PORTS), id="from multicast"),
        pytest.param(ip.build_ipv6(V6_A, V6_B, 58, bytes((2, 0)) + bytes(900)), id="ICMPv6 error"),
        pytest.param(ip.build_ipv6(V6_A, V6_B, 58, bytes((137, 0)) + bytes(900)), id="ICMPv6 redirect"),
        pytest.param(
            ip.build_ipv6(V6_A, V6_B, FRAGMENT, fragment_header(58, 64, False) + bytes(90)), id="ICMPv6 later fragment"
        ),
        pytest.param(ip.build_ipv6(bytes(16), V6_B, 17, PORTS), id="from the unspecified address"),
        pytest.param(ip.build_ipv6(b"\xff\x02" + bytes(14), V6_B, 17, PORTS), id="from IPv6 multicast"),
    ],
)
def test_packets_that_get_no_icmp_error(packet: bytes) -> None:
    assert ip.too_big(packet, 1280, V4_GATEWAY if packet[0] >> 4 == 4 else V6_GATEWAY) is None


def test_echo_requests_do_get_an_icmp_error() -> None:
    assert ip.too_big(ip.build_ipv4(V4_A, V4_B, 1, bytes((8, 0)) + bytes(900)), 1280, V4_GATEWAY) is not None
    assert ip.too_big(ip.build_ipv6(V6_A, V6_B, 58, bytes((128, 0)) + bytes(900)), 1280, V6_GATEWAY) is not None
    assert ip.too_big(ip.build_ipv6(V6_A, b"\xff\x0e" + bytes(14), 17, PORTS), 1280, V6_GATEWAY) is not None


def reassemble(fragments: list[bytes]) -> bytes:
    data = b""
    for fragment in fragments:
        place = int.from_bytes(fragment[6:8], "big")
        assert (place & 0x1FFF) * 8 == len(data)
        assert bool(place & 0x2000) == (fragment is not fragments[-1])
        assert ip.checksum(fragment[: (fragment[0] & 15) * 4]) == 0
        data += fragment[(fragment[0] & 15) * 4 : ip.packet_length(fragment)]
    return data


@pytest.mark.parametrize("mtu", [68, 576, 1279, 1280, 1400, 1499])
def test_fragments_reassemble_to_the_packet(mtu: int) -> None:
    data = bytes(range(256)) * 5 + bytes(200)
    packet = ip.build_ipv4(V4_A, V4_B, 17, data, identification=4711, ttl=9, traffic_class=0xB8)
    fragments = ip.fragment_ipv4(packet, mtu)
    assert len(fragments) > 1
    assert all(len(fragment) <= mtu for fragment in fragments)
    assert reassemble(fragments) == data
    for fragment in fragments:
        assert fragment[4:6] == packet[4:6]
        assert (fragment[1], fragment[8:10], fragment[12:20]) == (0xB8, packet[8:10], packet[12:20])


def test_what_fits_is_not_cut() -> None:
    packet = ip.build_ipv4(V4_A, V4_B, 17, PORTS, flags_offset=0x4000)
    assert ip.fragment_ipv4(packet + bytes(100), len(packet)) == [packet]


def test_fragments_do_not_bear_df_and_may_get_a_new_identification() -> None:
    packet = ip.build_ipv4(V4_A, V4_B, 17, bytes(3000), flags_offset=0x4000)
    fragments = ip.fragment_ipv4(packet, 1500, identification=99)
    assert [fragment[6] & 0x40 for fragment in fragments] == [0, 0, 0]
    assert {fragment[4:6] for fragment in fragments} == {b"\x00\x63"}
    assert ip.dont_fragment(packet)
    assert not ip.dont_fragment(fragments[0])


def test_fragments_of_a_fragment() -> None:
    packet = ip.build_ipv4(V4_A, V4_B, 17, bytes(2000), flags_offset=0x2000 | 100)
    places = [int.from_bytes(fragment[6:8], "big") for fragment in ip.fragment_ipv4(packet, 1020)]
    assert places == [0x2000 | 100, 0x2000 | 225]
    last = ip.build_ipv4(V4_A, V4_B, 17, bytes(2000), flags_offset=100)
    assert int.from_bytes(ip.fragment_ipv4(last, 1020)[-1][6:8], "big") == 225


def test_only_options_to_be_copied_are_in_later_fragments() -> None:
    record_route, source_route = bytes((7, 7, 4)) + bytes(4), bytes((0x89, 3, 4))
    options = b"\x01" + record_route + source_route + b"\x00"
    packet = bytearray(ip.build_ipv4(V4_A, V4_B, 17, options + bytes(2000)))
    packet[0] = 0x48
    first, *others = ip.fragment_ipv4(bytes(packet), 1000)
    assert (first[0], first[20:32]) == (0x48, options)
    assert all((other[0], other[20:24]) == (0x46, source_route + b"\x00") for other in others)
    assert reassemble([first, *others]) == bytes(2000)


def test_spoiled_options_do_not_hinder_fragmentation() -> None:
    for options in (b"\x89\x00\x01\x01", b"\x89\x28\x01\x01", b"\x01\x01\x01\x89"):
        packet = bytearray(ip.build_ipv4(V4_A, V4_B, 17, options + bytes(2000)))
        packet[0] = 0x46
        fragments = ip.fragment_ipv4(bytes(packet), 1000)
        assert [fragment[0] for fragment in fragments] == [0x46, 0x45, 0x45]


MSS_1460 = b"\x02\x04\x05\xb4"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(MSS_1460, id="alone"),
        pytest.param(b"\x01\x01" + MSS_1460 + b"\x03\x03\x07\x00\x00\x00", id="aligned"),
        pytest.param(b"\x01" + MSS_1460 + b"\x01\x01\x01", id="across two words"),
        pytest.param(b"\x03\x03\x07" + MSS_1460 + b"\x00", id="behind an odd option"),
    ],
)
@pytest.mark.parametrize("flags", [0x02, 0x12, 0xC2])
def test_mss_is_clamped(options: bytes, flags: int) -> None:
    for packet in (
        ip.build_ipv4(V4_A, V4_B, 6, tcp(flags, options, data=b"odd")),
        ip.build_ipv6(V6_A, V6_B, 6, tcp(flags, options, V6_A, V6_B)),
        ip.build_ipv6(V6_A, V6_B, DESTINATION, extension(6) + tcp(flags, options, V6_A, V6_B)),
    ):
        assert transport_is_intact(packet)
        clamped = ip.clamp_mss(packet, 1338)
        assert len(clamped) == len(packet)
        assert options.replace(MSS_1460, b"\x02\x04\x05\x3a") in clamped
        assert transport_is_intact(clamped)
        assert ip.clamp_mss(packet, 1460) is packet
        assert ip.clamp_mss(packet, 9000) is packet


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(ip.build_ipv4(V4_A, V4_B, 6, tcp(0x10, MSS_1460)), id="no SYN"),
        pytest.param(ip.build_ipv4(V4_A, V4_B, 6, tcp()), id="no options"),
        pytest.param(ip.build_ipv4(V4_A, V4_B, 6, tcp(data=MSS_1460)), id="data that looks like an option"),
        pytest.param(ip.build_ipv4(V4_A, V4_B, 6, tcp(options=b"\x00\x00\x00\x00" + MSS_1460)), id="behind the end"),
        pytest.param(
            ip.build_ipv4(V4_A, V4_B, 6, tcp(options=b"\x05\x00\x00\x00" + MSS_1460)), id="option of length 0"
        ),
        pytest.param(
            ip.build_ipv4(V4_A, V4_B, 6, tcp(options=b"\x05\x01\x01\x01" + MSS_1460)), id="option of length 1"
        ),
        pytest.param(ip.build_ipv4(V4_A, V4_B, 6, tcp(options=b"\x05\xff\x01\x01" + MSS_1460)), id="endless option"),
        pytest.param(ip.build_ipv4(V4_A, V4_B, 6, tcp(options=b"\x02\x03\x05\x01")), id="MSS of length 3"),
        pytest.param(ip.build_ipv4(V4_A, V4_B, 6, tcp(options=b"\x01\x01\x01\x02")), id="option without length"),
        pytest.param(ip.build_ipv4(V4_A, V4_B, 6, tcp(options=MSS_1460)[:22]), id="cut off"),
        pytest.param(ip.build_ipv4(V4_A, V4_B, 6, tcp(options=MSS_1460)[:10]), id="no flags there"),
        pytest.param(ip.build_ipv4(V4_A, V4_B, 6, tcp(options=MSS_1460), flags_offset=8), id="later fragment"),
        pytest.param(ip.build_ipv4(V4_A, V4_B, 17, tcp(options=MSS_1460)), id="UDP"),
    ],
)
def test_packets_without_an_mss_to_clamp(packet: bytes) -> None:
    assert ip.clamp_mss(packet, 1300) is packet


def test_traffic_class_and_outer_header() -> None:
    v4 = ip.build_ipv4(V4_A, V4_B, 17, PORTS, traffic_class=0xBA)
    v6 = ip.build_ipv6(V6_A, V6_B, 17, PORTS, traffic_class=0xBA)
    for packet in (v4, v6):
        assert ip.traffic_class(packet) == ip.outer_traffic_class(packet) == 0xBA
        assert ip.outer_traffic_class(packet, copy_dscp=False) == 0x02
        assert ip.outer_traffic_class(packet, copy_ecn=False) == 0xB8


def test_outer_df() -> None:
    plain = ip.build_ipv4(V4_A, V4_B, 17, PORTS)
    marked = ip.build_ipv4(V4_A, V4_B, 17, PORTS, flags_offset=0x4000)
    v6 = ip.build_ipv6(V6_A, V6_B, 17, PORTS)
    assert [ip.outer_dont_fragment(packet, DontFragment.COPY) for packet in (plain, marked, v6)] == [False, True, True]
    assert all(ip.outer_dont_fragment(packet, DontFragment.SET) for packet in (plain, marked, v6))
    assert not any(ip.outer_dont_fragment(packet, DontFragment.CLEAR) for packet in (plain, marked, v6))
