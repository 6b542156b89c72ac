"""ESP, UDP encapsulation and inner packets: RFC 4303, 3948, 4301, 6040, 1071, 1624, 1191, 4443."""

from __future__ import annotations

import struct

import pytest

from ipsecha.model.errors import WireError
from ipsecha.wire import ip
from ipsecha.wire.esp import ESP, IKE, KEEPALIVE, build_esp, classify, parse_esp

A, B = bytes((192, 0, 2, 1)), bytes((198, 51, 100, 2))
A6, B6 = bytes(15) + b"\x01", bytes(15) + b"\x02"
PORTS = struct.pack(">HH", 1000, 2000) + bytes(28)


def test_esp_spi_0_is_never_on_the_wire() -> None:
    """RFC 4303 section 2.1: the SPI 0 MUST NOT be sent on the wire."""
    with pytest.raises(WireError):
        parse_esp(bytes(40))
    assert parse_esp(build_esp(256, 1) + bytes(32)) == (256, 1)


def test_only_the_low_half_of_extended_sequence_numbers_is_sent() -> None:
    """RFC 4303 section 2.2.1: only the low-order 32 bits are in the header."""
    assert build_esp(0x01020304, 0xAABBCCDD_00000005) == bytes.fromhex("0102030400000005")


def test_non_esp_marker() -> None:
    """RFC 3948 section 2.2: four zero octets where an ESP packet has its SPI."""
    assert classify(bytes(4) + b"initiatr" + bytes(20)) is IKE
    assert classify(b"\x00\x00\x00\x01" + bytes(28)) is ESP


def test_nat_keepalive() -> None:
    """RFC 3948 section 2.3: one octet 0xFF; it MUST be told from the others, and SHOULD be ignored."""
    assert classify(b"\xff") is KEEPALIVE
    for octets in (b"", b"\x00", b"\xff\xff", b"\xff" * 7):
        with pytest.raises(WireError):
            classify(octets)
    assert classify(b"\xff" * 40) is ESP


def test_ah_and_esp_are_next_layer_protocols() -> None:
    """RFC 4301 section 4.4.1.1: extension headers 0, 43, 44 and 60 are skipped; AH and ESP are not."""
    for protocol in (50, 51):
        packet = ip.build_ipv6(A6, B6, 0, bytes((60, 0)) + bytes(6) + bytes((protocol, 0)) + bytes(6) + PORTS)
        assert ip.packet_selectors(packet).protocol == protocol


def test_opaque_ports_of_later_fragments() -> None:
    """RFC 4301 section 4.4.1.1: ports are OPAQUE where a non-initial fragment does not show them."""
    v4 = ip.build_ipv4(A, B, 17, PORTS, flags_offset=20)
    assert ip.packet_selectors(v4)[2:] == (17, None, None)
    v6 = ip.build_ipv6(A6, B6, 44, struct.pack(">BBHI", 6, 0, 160, 1) + PORTS)
    assert ip.packet_selectors(v6)[2:] == (6, None, None)


def test_protocol_of_ipv6_fragments_may_be_hidden() -> None:
    """RFC 4301 section 7: a later fragment may not contain the next layer protocol: then only ANY selects it."""
    packet = ip.build_ipv6(A6, B6, 44, struct.pack(">BBHI", 60, 0, 160, 1) + PORTS)
    assert ip.packet_selectors(packet)[2:] == (60, None, None)


def test_minimum_offset_of_fragments() -> None:
    """RFC 4301 section 7.2: receivers MUST check the offset of IPv4 fragments (appendix D suggests 128 octets)."""
    offsets = [0, 1, 15, 16, 0x1FFF]
    packets = [ip.build_ipv4(A, B, 17, PORTS, flags_offset=offset) for offset in offsets]
    assert [ip.has_small_fragment_offset(packet) for packet in packets] == [False, True, True, False, False]
    assert not ip.has_small_fragment_offset(ip.build_ipv6(A6, B6, 17, PORTS))


def test_icmp_type_and_code_are_one_selector() -> None:
    """RFC 4301 section 4.4.1.1: the type in the most significant octet, the code in the least significant."""
    assert ip.packet_selectors(ip.build_ipv4(A, B, 1, bytes((8, 3, 0, 0))))[3:] == (0x0803, 0x0803)


NOT_ECT, ECT_1, ECT_0, CE = 0, 1, 2, 3


@pytest.mark.parametrize(
    ("inner", "outcomes"),
    [
        (NOT_ECT, {NOT_ECT: NOT_ECT, ECT_0: NOT_ECT, ECT_1: NOT_ECT, CE: None}),
        (ECT_0, {NOT_ECT: ECT_0, ECT_0: ECT_0, ECT_1: ECT_1, CE: CE}),
        (ECT_1, {NOT_ECT: ECT_1, ECT_0: ECT_1, ECT_1: ECT_1, CE: CE}),
        (CE, {NOT_ECT: CE, ECT_0: CE, ECT_1: CE, CE: CE}),
    ],
)
def test_ecn_at_tunnel_egress(inner: int, outcomes: dict[int, int | None]) -> None:
    """RFC 6040 section 4.2, figure 4: the outgoing field MUST be that of the table; None: the packet is dropped.
    DSCP stays (RFC 4301 section 5.1.2), and the IPv4 checksum follows."""
    for outer, outcome in outcomes.items():
        assert ip.decapsulated_ecn(inner, outer) == outcome
        for packet in (
            ip.build_ipv4(A, B, 17, PORTS, traffic_class=0xB8 | inner),
            ip.build_ipv6(A6, B6, 17, PORTS, traffic_class=0xB8 | inner),
        ):
            result = ip.decapsulate_ecn(packet, 0x48 | outer)
            if outcome is None:
                assert result is None
                continue
            assert result is not None
            assert ip.traffic_class(result) == 0xB8 | outcome
            assert (result is packet) == (inner == outcome)
            assert ip.packet_selectors(result) == ip.packet_selectors(packet)
            assert result[0] >> 4 == 6 or ip.checksum(result[:20]) == 0


def test_ecn_at_tunnel_ingress() -> None:
    """RFC 6040 section 4.1: normal mode MUST copy the field, compatibility mode clears it."""
    for ecn in range(4):
        packet = ip.build_ipv4(A, B, 17, PORTS, traffic_class=0x28 | ecn)
        assert ip.outer_traffic_class(packet) == 0x28 | ecn
        assert ip.outer_traffic_class(packet, copy_ecn=False) == 0x28


def test_flow_label_survives_a_change_of_ecn() -> None:
    """RFC 8200 section 3: the traffic class straddles the first two octets, the flow label begins in the second."""
    packet = bytearray(ip.build_ipv6(A6, B6, 17, PORTS, traffic_class=0xFE))
    packet[1:4] = bytes((packet[1] | 0x0A, 0xBC, 0xDE))
    result = ip.decapsulate_ecn(bytes(packet), CE)
    assert result is not None
    assert result[:4] == bytes((0x6F, 0xFA, 0xBC, 0xDE))


def test_checksum_example() -> None:
    """RFC 1071 section 3: the octets 00 01 f2 03 f4 f5 f6 f7 sum up to ddf2."""
    octets = bytes.fromhex("0001f203f4f5f6f7")
    assert ip.internet_sum(octets) == 0xDDF2
    assert ip.checksum(octets) == 0x220D
    assert ip.checksum(octets + b"\x22\x0d") == 0


def test_checksum_is_independent_of_grouping() -> None:
    """RFC 1071 section 2 (A): sums of parts (of even length) add up; an odd end is completed by zero."""
    octets = bytes(range(1, 100))
    assert ip.internet_sum(octets[40:], ip.internet_sum(octets[:40])) == ip.internet_sum(octets)
    assert ip.internet_sum(octets + b"\x00") == ip.internet_sum(octets)
    assert ip.internet_sum(b"") == ip.internet_sum(bytes(8)) == 0
    assert ip.internet_sum(b"\xff\xff") == 0xFFFF


def test_incremental_update_example() -> None:
    """RFC 1624 section 4: DD2F with 5555 changed to 3285 becomes 0000, not FFFF."""
    assert ip.update_checksum(0xDD2F, 0x5555, 0x3285) == 0x0000


def test_incremental_update_equals_computing_anew() -> None:
    """RFC 1624 section 3, equation 3, at the edges of one's complement arithmetic."""
    edges = (0x0000, 0x0001, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
    for rest in (0x0001, 0xCD7A, 0xFFFF):
        for old in edges:
            for new in edges:
                before = ip.checksum(struct.pack(">HH", rest, old))
                after = ip.checksum(struct.pack(">HH", rest, new))
                assert ip.update_checksum(before, old, new) == after


def test_next_hop_mtu_of_fragmentation_needed() -> None:
    """RFC 1191 section 4: the MTU MUST be in the low 16 bits of the second word, the high 16 bits are zero."""
    answer = ip.fragmentation_needed(ip.build_ipv4(A, B, 17, PORTS, flags_offset=0x4000), 1438, B)
    assert answer is not None
    assert answer[24:28] == bytes.fromhex("0000059e")


def test_no_icmp_error_about_an_icmp_error() -> None:
    """RFC 1122 section 3.2.2 and RFC 4443 section 2.4 (e): MUST NOT be sent."""
    for kind in (3, 4, 5, 11, 12):
        assert ip.too_big(ip.build_ipv4(A, B, 1, bytes((kind, 0)) + bytes(60)), 576, B) is None
    for kind in (1, 2, 3, 4, 100, 127, 137):
        assert ip.too_big(ip.build_ipv6(A6, B6, 58, bytes((kind, 0)) + bytes(60)), 1280, B6) is None


def test_icmpv6_errors_fit_into_the_minimum_mtu() -> None:
    """RFC 4443 section 2.4 (c): as much of the packet as possible without exceeding 1280 octets."""
    answer = ip.packet_too_big(ip.build_ipv6(A6, B6, 17, PORTS + bytes(3000)), 1280, B6)
    assert answer is not None
    assert len(answer) == 1280
