"""What was on the wire: every IKE and ESP packet of a link with its SPI and sequence number, to prove that no number
was used twice, and to play back at a survivor what its predecessor has already received.

``Capture`` runs ``python -m ipsecha.lab.capture`` in the switch, on the bridge itself: it sees each frame once.
"""

from __future__ import annotations

import argparse
import ipaddress
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from ipsecha.lab.namespaces import Namespace
from ipsecha.lab.processes import LabError, run, stop, tail

_RECORD = struct.Struct("=dI")
_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC = 263, 1, 1  # <linux/if_packet.h>
_ETHERNET_HEADER = 14
_UDP = 17
_SPI_AT = {50: 0, 51: 4}  # by IP protocol: ESP, AH
READY = "listening"


class Ports(NamedTuple):
    ike: int
    nat_t: int


STANDARD_PORTS = Ports(500, 4500)


class Packet(NamedTuple):
    """An IP packet seen at ``at`` (CLOCK_MONOTONIC seconds).  ``spi`` and ``sequence`` are 0 unless it is ESP or AH;
    ``exchange`` is 0 unless it is IKE."""

    at: float
    mac: str  # of the sender: tells members apart that share an address
    source: str
    destination: str
    source_port: int  # 0 for raw ESP
    destination_port: int
    spi: int
    sequence: int
    exchange: int  # IKE exchange type
    raw: bytes  # from the IP header on


def parse(at: float, frame: bytes, ports: Ports = STANDARD_PORTS) -> Packet | None:
    """The packet in an Ethernet frame, or None unless it is an unfragmented UDP datagram, ESP or AH packet over IPv4
    or IPv6."""
    raw = frame[_ETHERNET_HEADER:]
    found = _ip(raw)
    if found is None:
        return None
    source, destination, protocol, offset = found
    mac = frame[6:12].hex(":")
    if protocol in _SPI_AT and len(raw) >= offset + _SPI_AT[protocol] + 8:
        spi, sequence = struct.unpack_from("!II", raw, offset + _SPI_AT[protocol])
        return Packet(at, mac, source, destination, 0, 0, spi, sequence, 0, raw)
    if protocol != _UDP or len(raw) < offset + 8:
        return None
    source_port, destination_port = struct.unpack_from("!HH", raw, offset)
    content = _content(raw[offset + 8 :], {source_port, destination_port}, ports)
    return Packet(at, mac, source, destination, source_port, destination_port, *content, raw)


def _content(payload: bytes, used: set[int], ports: Ports) -> tuple[int, int, int]:
    """SPI and sequence number of ESP in UDP, and the exchange type of an IKE message (RFC 3948 section 2)."""
    message = payload
    if ports.nat_t in used:
        if len(payload) < 8:
            return 0, 0, 0
        if payload[:4] != bytes(4):
            spi, sequence = struct.unpack_from("!II", payload)
            return spi, sequence, 0
        message = payload[4:]
    elif ports.ike not in used:
        return 0, 0, 0
    return 0, 0, message[18] if len(message) >= 28 else 0


def _ip(raw: bytes) -> tuple[str, str, int, int] | None:
    """Source, destination, protocol and the offset of what the IP packet carries."""
    if len(raw) < 20:
        return None
    if raw[0] >> 4 == 4 and not struct.unpack_from("!H", raw, 6)[0] & 0x3FFF:
        return socket.inet_ntoa(raw[12:16]), socket.inet_ntoa(raw[16:20]), raw[9], (raw[0] & 15) * 4
    if raw[0] >> 4 == 6 and len(raw) >= 40:
        return str(ipaddress.IPv6Address(raw[8:24])), str(ipaddress.IPv6Address(raw[24:40])), raw[6], 40
    return None


def read(path: Path) -> Iterator[Packet]:
    """The packets of a capture file so far, in order."""
    data = path.read_bytes() if path.exists() else b""
    offset = 0
    while offset + _RECORD.size <= len(data):
        at, length = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size
        if offset + length > len(data):
            return
        packet = parse(at, data[offset : offset + length])
        offset += length
        if packet is not None:
            yield packet


def esp(packets: Iterable[Packet]) -> list[Packet]:
    """Those that are ESP, in UDP or raw, or AH."""
    return [packet for packet in packets if packet.spi]


def repeated(packets: Iterable[Packet]) -> list[tuple[int, int]]:
    """The (SPI, sequence number) pairs that were seen more than once, whoever sent them: invariant I2."""
    counts = Counter((packet.spi, packet.sequence) for packet in packets if packet.spi)
    return [pair for pair, count in counts.items() if count > 1]


class Span(NamedTuple):
    """The sequence numbers of one SPI: first, last and how many, in the order of time."""

    spi: int
    first: int
    last: int
    packets: int


def spans(packets: Iterable[Packet]) -> list[Span]:
    """Per SPI, in order of appearance."""
    found: dict[int, Span] = {}
    for packet in packets:
        if packet.spi:
            first = found.get(packet.spi, Span(packet.spi, packet.sequence, 0, 0))
            found[packet.spi] = Span(packet.spi, first.first, packet.sequence, first.packets + 1)
    return list(found.values())


class Capture:
    """Captures an interface of a namespace while the context lasts; the file outlives it."""

    def __init__(self, namespace: Namespace, interface: str, path: Path) -> None:
        self._namespace = namespace
        self._interface = interface
        self.path = path
        self._console = path.with_suffix(".console")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Capture:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "ipsecha.lab.capture", "listen", self._interface, str(self.path)]
        self._process = self._namespace.start(argv, self._console)
        deadline = time.monotonic() + 10
        while READY not in tail(self._console):
            if self._process.poll() is not None or time.monotonic() > deadline:
                stop(self._process)
                raise LabError(f"the capture did not start:\n{tail(self._console)}")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            stop(self._process)

    def packets(self) -> list[Packet]:
        """What was captured so far."""
        return list(read(self.path))


def play_back(namespace: Namespace, packets: Iterable[Packet], directory: Path) -> int:
    """Sends these packets again, octet for octet, from ``namespace`` to their destinations; returns how many."""
    path = directory / "playback.capture"
    chosen = list(packets)
    path.write_bytes(b"".join(_as_record(packet) for packet in chosen))
    run(namespace.command([sys.executable, "-m", "ipsecha.lab.capture", "play", str(path)]), timeout_s=60)
    return len(chosen)


def _as_record(packet: Packet) -> bytes:
    frame = bytes(_ETHERNET_HEADER) + packet.raw  # the one who plays back routes and addresses it anew
    return _RECORD.pack(packet.at, len(frame)) + frame


def _listen(interface: str, path: Path) -> None:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
    sock.bind((interface, _ETH_P_ALL))
    membership = struct.pack("iHH8s", socket.if_nametoindex(interface), _PACKET_MR_PROMISC, 0, b"")
    sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
    running = True

    def end(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, end)
    sock.settimeout(0.1)
    print(READY, flush=True)
    with path.open("ab", buffering=0) as output:
        while running:
            try:
                frame, address = sock.recvfrom(65536)
            except TimeoutError:
                continue
            if address[2] != socket.PACKET_OUTGOING and parse(0.0, frame) is not None:
                output.write(_RECORD.pack(time.monotonic(), len(frame)) + frame)


def _play(path: Path) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as four,
        socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as six,
    ):
        for number, packet in enumerate(read(path), 1):
            (six if ":" in packet.destination else four).sendto(packet.raw, (packet.destination, 0))
            if number % 32 == 0:
                time.sleep(0.005)  # no burst that a socket's buffer could not take


def main() -> None:
    parser = argparse.ArgumentParser(prog="ipsecha.lab.capture")
    commands = parser.add_subparsers(dest="command", required=True)
    listen = commands.add_parser("listen")
    listen.add_argument("interface")
    listen.add_argument("path", type=Path)
    play = commands.add_parser("play")
    play.add_argument("path", type=Path)
    given = parser.parse_args()
    if given.command == "listen":
        _listen(given.interface, given.path)
    else:
        _play(given.path)


if __name__ == "__main__":
    main()
