"""Segmentation and joining of TCP, each against a plain computation of what must come out."""

from __future__ import annotations

import ipaddress
import os

import pytest

from ipsecha.dataplane.userspace.offload import HEADER, NO_HEADER, join, split, word_sum
from ipsecha.wire.ip import build_ipv4, build_ipv6, checksum, internet_sum, pseudo_header_sum

ENDS = {4: ("10.1.0.5", "10.2.0.5"), 6: ("2001:db8:1::5", "2001:db8:2::5")}
OPTIONS = bytes.fromhex("0101080a0000000100000002")


def addresses(version: int) -> tuple[bytes, bytes]:
    one, other = ENDS[version]
    return ipaddress.ip_address(one).packed, ipaddress.ip_address(other).packed


def tcp(
    version: int, number: int, data: bytes, flags: int = 0x10, ack: int = 7, ports: int = 0x00501F90, **more: int
) -> bytes:
    """A TCP segment with timestamps and a right checksum, in IP."""
    source, target = addresses(version)
    header = ports.to_bytes(4, "big") + number.to_bytes(4, "big") + ack.to_bytes(4, "big")
    header += bytes((8 << 4, flags)) + b"\x10\x00" + bytes(4) + OPTIONS
    segment = header + data
    value = checksum(segment, pseudo_header_sum(source, target, 6, len(segment)))
    segment = segment[:16] + value.to_bytes(2, "big") + segment[18:]
    build = build_ipv4 if version == 4 else build_ipv6
    return build(source, target, 6, segment, **more)  # type: ignore[arg-type]


def verify(packet: bytes) -> None:
    version = packet[0] >> 4
    start = 20 if version == 4 else 40
    segment = packet[start:]
    assert checksum(segment, pseudo_header_sum(*addresses(version), 6, len(segment))) == 0
    if version == 4:
        assert checksum(packet[:20]) == 0
        assert int.from_bytes(packet[2:4], "big") == len(packet)
    else:
        assert int.from_bytes(packet[4:6], "big") == len(packet) - 40


@pytest.mark.parametrize("length", [0, 1, 2, 3, 63, 64, 65, 1000, 1399, 1400, 9001, 65001])
def test_word_sum_is_the_internet_checksums_sum(length: int) -> None:
    data = os.urandom(length)
    assert word_sum(data) == internet_sum(data) % 0xFFFF
    assert word_sum(b"\xff" * length) == internet_sum(b"\xff" * length) % 0xFFFF


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("length", [1, 1398, 1399, 1400, 14000, 14001, 60000])
def test_a_large_segment_becomes_packets(version: int, length: int) -> None:
    data = os.urandom(length)
    start = 20 if version == 4 else 40
    whole = tcp(version, 0xFFFFFF00, data, flags=0x80 | 0x10 | 0x08 | 0x01)
    kind = 1 if version == 4 else 4
    packets = split(HEADER.pack(1, kind, 0, 1400, start, 16) + whole)
    assert len(packets) == -(-length // 1400)
    assert b"".join(packet[start + 32 :] for packet in packets) == data
    for index, packet in enumerate(packets):
        verify(packet)
        number = int.from_bytes(packet[start + 4 : start + 8], "big")
        assert number == (0xFFFFFF00 + index * 1400) & 0xFFFFFFFF
        last = index == len(packets) - 1
        assert packet[start + 13] == 0x10 | (0x09 if last else 0) | (0x80 if index == 0 else 0)
        assert packet[start + 20 : start + 32] == OPTIONS
    if version == 4:
        assert [int.from_bytes(packet[4:6], "big") for packet in packets] == list(range(len(packets)))


@pytest.mark.parametrize("version", [4, 6])
def test_a_checksum_left_to_the_device_is_finished(version: int) -> None:
    start = 20 if version == 4 else 40
    right = tcp(version, 5, b"hello")
    pseudo = pseudo_header_sum(*addresses(version), 6, len(right) - start)
    partial = right[: start + 16] + pseudo.to_bytes(2, "big") + right[start + 18 :]
    assert split(HEADER.pack(1, 0, 0, 0, start, 16) + partial) == [right]
    assert split(NO_HEADER + right) == [right]


@pytest.mark.parametrize(
    "read",
    [
        b"",
        bytes(10),
        bytes(29),
        HEADER.pack(1, 1, 0, 0, 20, 16) + bytes(40),
        HEADER.pack(1, 9, 0, 9, 20, 16) + bytes(60),
        HEADER.pack(1, 1, 0, 1400, 60000, 16) + bytes(60),
    ],
)
def test_nonsense_yields_nothing(read: bytes) -> None:
    assert split(read) == []


@pytest.mark.parametrize("version", [4, 6])
def test_consecutive_segments_are_joined_and_split_again(version: int) -> None:
    packets = [tcp(version, 1000 + index * 1400, os.urandom(1400)) for index in range(10)]
    packets.append(tcp(version, 15000, os.urandom(77), flags=0x18))
    (write,) = join(packets)
    again = split(b"".join(write))
    start = 20 if version == 4 else 40
    # the identification counts on, which the first packets here do not
    assert [packet[start:] for packet in again] == [packet[start:] for packet in packets]
    for packet in again:
        verify(packet)


def test_what_must_not_be_joined_is_not() -> None:
    first = tcp(4, 1000, bytes(100))
    for other in (
        tcp(4, 1101, bytes(100)),  # a gap
        tcp(4, 1100, bytes(101)),  # longer than the first
        tcp(4, 1100, bytes(100), ack=8),
        tcp(4, 1100, bytes(100), flags=0x11),
        tcp(4, 1100, bytes(100), ports=0x00511F90),
        tcp(4, 1100, bytes(100), traffic_class=3),
        tcp(4, 1100, bytes(100), ttl=63),
        tcp(4, 1100, bytes(100))[:-1] + b"\x01",  # a wrong checksum must stay one
    ):
        assert join([first, other]) == [[NO_HEADER, first], [NO_HEADER, other]]
    pushed = tcp(4, 1000, bytes(100), flags=0x18)
    assert len(join([pushed, tcp(4, 1100, bytes(100))])) == 2
    short = tcp(4, 1100, bytes(50))
    assert len(join([first, short, tcp(4, 1150, bytes(50))])) == 2


def test_connections_are_joined_side_by_side() -> None:
    one = [tcp(4, 100 * index, bytes(100)) for index in range(5)]
    other = [tcp(4, 100 * index, bytes(100), ports=0x12345678) for index in range(5)]
    mixed = [packet for both in zip(one, other, strict=True) for packet in both]
    assert len(join(mixed)) == 2


def test_a_control_segment_does_not_change_its_place() -> None:
    """A FIN between two stretches of data stays between them."""
    packets = [tcp(4, 0, bytes(100)), tcp(4, 100, bytes(100)), tcp(4, 200, b"x", flags=0x11), tcp(4, 200, bytes(100))]
    writes = join(packets)
    assert [len(write) for write in writes] == [4, 2, 2]
    assert writes[1] == [NO_HEADER, packets[2]]
