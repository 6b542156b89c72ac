"""Large TCP segments between the kernel and us (virtio_net_hdr): one read or write carries up to 64 KiB.

Outbound, the kernel hands over what TCP wrote in one piece and leaves it to us to cut it into segments and to finish
checksums; inbound, consecutive segments of a stream go back in one piece.  Nothing is lost of what end-to-end
checksums promise: a segment joins others only after its own checksum has been verified.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from struct import Struct

HEADER = Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset (linux/virtio_net.h)
HEADER_LENGTH = HEADER.size
NO_HEADER = bytes(HEADER_LENGTH)

_NEEDS_CSUM = 1
_GSO_NONE = 0
_GSO_TCPV4 = 1
_GSO_TCPV6 = 4
_GSO_ECN = 0x80
_TCP = 6
_FIN, _SYN, _RST, _PSH, _ACK, _CWR = 1, 2, 4, 8, 16, 128
_LAST_ONLY = _FIN | _PSH
_LONGEST = 65000
_SEGMENTS = 64
_TCP_CHECKSUM = 16
_IPV4_PLAIN = 0x45

# halvings for word_sum: bits, and a mask of as many
_FOLDS = tuple((bits, (1 << bits) - 1) for bits in (8192, 4096, 2048, 1024, 512))
_WIDE_FOLDS = tuple((bits, (1 << bits) - 1) for bits in (262144, 131072, 65536, 32768, 16384))
_FOLD_FROM = 200  # octets: below, a division is quicker
_FOLDED_ONCE = 2048  # octets up to which the first table is enough


def word_sum(data: bytes) -> int:
    """The sum of 16-bit words modulo 65535 (RFC 1071), by halving one long integer: a third of a division's time."""
    number = int.from_bytes(data, "big")
    length = len(data)
    if length & 1:
        number <<= 8
    if length > _FOLDED_ONCE:
        for bits, mask in _WIDE_FOLDS:
            number = (number >> bits) + (number & mask)
    if length > _FOLD_FROM:
        for bits, mask in _FOLDS:
            number = (number >> bits) + (number & mask)
    return number % 0xFFFF


def split(read: bytes) -> list[bytes]:
    """The packets of one read: header and packet as they came.  What makes no sense yields nothing."""
    if len(read) < HEADER_LENGTH + 20:
        return []
    flags, kind, _, size, start, offset = HEADER.unpack_from(read)
    packet = read[HEADER_LENGTH:]
    kind &= ~_GSO_ECN
    if kind == _GSO_NONE:
        return [_finished(packet, start, start + offset)] if flags & _NEEDS_CSUM else [packet]
    if kind not in (_GSO_TCPV4, _GSO_TCPV6) or not size or len(packet) < start + 20 or start < 20:
        return []
    return _segments(packet, size, start)


def _finished(packet: bytes, start: int, field: int) -> bytes:
    """A packet whose transport checksum field holds the pseudo-header's sum only."""
    if field + 2 > len(packet):
        return packet
    value = 0xFFFF - word_sum(packet[start:])
    return packet[:field] + (value or 0xFFFF).to_bytes(2, "big") + packet[field + 2 :]


def _segments(packet: bytes, size: int, start: int) -> list[bytes]:
    """TCP segmentation (what a network card would do): ``size`` octets of data each."""
    data = start + (packet[start + 12] >> 4) * 4
    flags = packet[start + 13]
    # what the segments' TCP checksums have in common: addresses, protocol and all of the header that stays
    stable = packet[start : start + 4] + packet[start + 8 : start + 12]
    rest = packet[start + 14 : start + 16] + packet[start + 18 : data]
    is_ipv4 = packet[0] >> 4 == 4
    common = word_sum(packet[12:20] if is_ipv4 else packet[8:40]) + word_sum(stable + rest)
    common += _TCP + data - start + (packet[start + 12] << 8)
    header = _ipv4_headers(packet, start) if is_ipv4 else _ipv6_headers(packet, start)
    build = _tcp_struct(data - start - 18).pack
    ports, middle, window, tail = packet[start : start + 4], packet[start + 8 : start + 13], rest[:2], rest[2:]
    number = int.from_bytes(packet[start + 4 : start + 8], "big")
    segments: list[bytes] = []
    end = len(packet)
    for index, place in enumerate(range(data, end, size)):
        chunk = packet[place : place + size]
        length = len(chunk)
        own = flags if place + size >= end else flags & ~_LAST_ONLY
        if index:
            own &= ~_CWR
        check = 0xFFFF - (common + own + (number >> 16) + (number & 0xFFFF) + length + word_sum(chunk)) % 0xFFFF
        tcp = build(ports, number, middle, own, window, check, tail)
        segments.append(header(index, data - start + length) + tcp + chunk)
        number = (number + length) & 0xFFFFFFFF
    return segments


@functools.cache
def _tcp_struct(tail: int) -> Struct:
    """Ports, sequence number, acknowledgement number and data offset, flags, window, checksum, what follows."""
    return Struct(f">4sI5sB2sH{tail}s")


def _ipv4_headers(packet: bytes, length: int) -> Callable[[int, int], bytes]:
    """The IPv4 header of segment ``index`` with ``payload`` octets behind it: the Identification counts on."""
    first, middle, last = packet[:2], packet[6:10], packet[12:length]
    common = word_sum(first + middle + last)
    identification = packet[4] << 8 | packet[5]
    build = Struct(f">2sHH4sH{length - 12}s").pack

    def header(index: int, payload: int) -> bytes:
        total, own = length + payload, identification + index & 0xFFFF
        return build(first, total, own, middle, 0xFFFF - (common + total + own) % 0xFFFF, last)

    return header


def _ipv6_headers(packet: bytes, length: int) -> Callable[[int, int], bytes]:
    first, last = packet[:4], packet[6:length]

    def header(index: int, payload: int) -> bytes:
        return first + (payload + length - 40).to_bytes(2, "big") + last

    return header


class _Stream:
    """Segments of one TCP connection that follow each other without a gap."""

    __slots__ = ("closed", "first", "last_flags", "length", "next", "pieces", "size", "start")

    def __init__(self, packet: bytes, start: int, data: int) -> None:
        self.first = packet
        self.start = start
        self.pieces = [packet[data:]]
        self.size = self.length = len(packet) - data
        self.next = int.from_bytes(packet[start + 4 : start + 8], "big") + self.size & 0xFFFFFFFF
        self.last_flags = packet[start + 13]
        self.closed = bool(self.last_flags & _PSH)


def join(packets: list[bytes]) -> list[list[bytes]]:
    """Packets for the kernel, as the buffers of one write each: a header, then the packet or what a run of segments
    became.  The order within a connection stays."""
    writes: list[list[bytes]] = []
    streams: dict[bytes, _Stream] = {}
    order: list[_Stream | bytes] = []
    for packet in packets:
        found = _tcp_data(packet)
        if found is None:
            order.append(packet)
            if packet[9 if packet[0] >> 4 == 4 else 6] == _TCP:
                streams.clear()  # something that must not overtake or be overtaken
            continue
        start, data, key = found
        stream = streams.get(key)
        if stream is not None and _follows(stream, packet, start, data):
            stream.pieces.append(packet[data:])
            added = len(packet) - data
            stream.length += added
            stream.next = stream.next + added & 0xFFFFFFFF
            stream.last_flags = packet[start + 13]
            stream.closed = added < stream.size or bool(stream.last_flags & _PSH)
            continue
        stream = streams[key] = _Stream(packet, start, data)
        order.append(stream)
    for one in order:
        writes.append([NO_HEADER, one] if isinstance(one, bytes) else _whole(one))
    return writes


def _tcp_data(packet: bytes) -> tuple[int, int, bytes] | None:
    """Where the TCP header and its data begin and what the segments of a run have in common; None for what is not
    joined: other protocols, no data, other flags, fragments, options of IP, a wrong checksum."""
    if packet[0] == _IPV4_PLAIN:
        if packet[9] != _TCP or packet[6] & 0x3F or packet[7] or len(packet) < 41:
            return None
        start = 20
        addresses = packet[12:20]
    elif packet[0] >> 4 == 6 and packet[6] == _TCP and len(packet) > 60:
        start = 40
        addresses = packet[8:40]
    else:
        return None
    flags = packet[start + 13]
    data = start + (packet[start + 12] >> 4) * 4
    if flags & ~_PSH != _ACK or data >= len(packet) or data < start + 20:
        return None
    segment = packet[start:]
    if (word_sum(addresses) + _TCP + len(segment) + word_sum(segment)) % 0xFFFF:
        return None
    outer = packet[1:2] + packet[6:9] if start == 20 else packet[:4] + packet[7:8]
    # ports, acknowledgement number, header length, window, urgent pointer and options must be the same
    return (
        start,
        data,
        b"".join((addresses, outer, segment[:4], segment[8:13], segment[14:16], segment[18 : data - start])),
    )


def _follows(stream: _Stream, packet: bytes, start: int, data: int) -> bool:
    added = len(packet) - data
    return (
        not stream.closed
        and added <= stream.size
        and stream.length + added <= _LONGEST
        and len(stream.pieces) < _SEGMENTS
        and int.from_bytes(packet[start + 4 : start + 8], "big") == stream.next
    )


def _whole(stream: _Stream) -> list[bytes]:
    """One write for a run; a single segment goes as it came."""
    first, start = stream.first, stream.start
    if len(stream.pieces) == 1:
        return [NO_HEADER, first]
    data = len(first) - stream.size
    payload = data - start + stream.length
    is_ipv4 = start == 20
    pseudo = word_sum(first[12:20] if is_ipv4 else first[8:40]) + _TCP + payload
    kind = _GSO_TCPV4 if is_ipv4 else _GSO_TCPV6
    header = HEADER.pack(_NEEDS_CSUM, kind, data, stream.size, start, _TCP_CHECKSUM)
    tcp = first[start : start + 13] + stream.last_flags.to_bytes(1, "big") + first[start + 14 : start + 16]
    tcp += (pseudo % 0xFFFF).to_bytes(2, "big") + first[start + 18 : data]
    build = _ipv4_headers(first, start) if is_ipv4 else _ipv6_headers(first, start)
    return [header, build(0, payload) + tcp, *stream.pieces]
