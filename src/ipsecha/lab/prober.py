"""The process that probes: sends numbered datagrams at a steady pace, answers those of the other side, and writes
down what it saw.  Run as ``python -m ipsecha.lab.prober``; ``ipsecha.lab.probes`` starts and evaluates it.

The log is a sequence of records (kind, number, CLOCK_MONOTONIC seconds): that clock is one for all processes and
namespaces of a machine, so the logs of both sides can be laid over each other.
"""

from __future__ import annotations

import argparse
import gc
import ipaddress
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

RECORD = struct.Struct("=BId")
SENT, ANSWERED, ARRIVED = 1, 2, 3
"""A probe left; its answer came back; a probe of the other side came in."""

_PROBE = struct.Struct("!4sBI")
_MAGIC = b"IHAp"
_REQUEST, _ANSWER = 0, 1
_FLUSH_S = 0.05

Send = Callable[[bytes], None]
Receive = Callable[[], bytes]


class Prober:
    """One side: ``send`` and ``receive`` carry datagrams to and from the other side (receive: b"" if none)."""

    def __init__(self, send: Send, receive: Receive, log: Path, interval_s: float, size: int) -> None:
        self._send = send
        self._receive = receive
        self._interval_s = interval_s
        self._padding = bytes(max(0, size - _PROBE.size))
        self._log = log.open("ab", buffering=0)
        self._records = bytearray()
        self._number = 0
        self._running = True
        self._probing = True

    def run(self, descriptor: int) -> None:
        """Probes until SIGTERM; after SIGUSR1 it only answers, so that what is under way can arrive."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGUSR1, self._quiet)
        gc.disable()
        due = flush = time.monotonic()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while self._running:
            now = time.monotonic()
            if now >= due:
                self._probe(now)
                due += self._interval_s * max(1, (now - due) // self._interval_s)
            if now >= flush:
                self._flush()
                flush = now + _FLUSH_S
            if poll.poll(max(0.0, min(due, flush) - time.monotonic()) * 1000):
                self._drain()
        self._flush()

    def _stop(self, *_: object) -> None:
        self._running = False

    def _quiet(self, *_: object) -> None:
        self._probing = False

    def _probe(self, now: float) -> None:
        if not self._probing:
            return
        self._number += 1
        self._note(SENT, self._number, now)
        self._out(_PROBE.pack(_MAGIC, _REQUEST, self._number) + self._padding)

    def _drain(self) -> None:
        for _ in range(64):
            data = self._receive()
            if not data:
                return
            if len(data) < _PROBE.size or data[:4] != _MAGIC:
                continue
            _, kind, number = _PROBE.unpack_from(data)
            if kind == _ANSWER:
                self._note(ANSWERED, number, time.monotonic())
            else:
                self._note(ARRIVED, number, time.monotonic())
                self._out(_PROBE.pack(_MAGIC, _ANSWER, number) + data[_PROBE.size :])

    def _out(self, data: bytes) -> None:
        with suppress(OSError):  # no route, no carrier, a full queue: the probe counts as lost
            self._send(data)

    def _note(self, kind: int, number: int, now: float) -> None:
        self._records += RECORD.pack(kind, number, now)

    def _flush(self) -> None:
        self._log.write(self._records)
        self._records.clear()


def plain(local: str, remote: str, port: int) -> tuple[socket.socket, Send, Receive]:
    """Probes as UDP datagrams through the kernel's network stack."""
    sock = socket.socket(socket.AF_INET6 if ":" in local else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((local, port))
    sock.setblocking(False)

    def receive() -> bytes:
        try:
            return sock.recv(65536)
        except OSError:  # nothing there, or an ICMP error of an earlier probe
            return b""

    return sock, lambda data: _sent(sock.sendto(data, (remote, port))), receive


class Tunnelled:
    """Probes as whole IPv4 packets in UDP datagrams between ``near`` and the gateways (``address:port``).

    This is how a gateway without a TUN device takes clear traffic: what needs no root.  Of several gateways the one
    that was heard last gets the packets, as a switch learns from frames where an address is; at first all get them.
    """

    def __init__(self, local: str, remote: str, port: int, near: str, gateways: list[str]) -> None:
        self._addresses = local, remote, port
        self._gateways = [_endpoint(text) for text in gateways]
        self._learned: tuple[str, int] | None = None
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(_endpoint(near))
        self.socket.setblocking(False)

    def send(self, data: bytes) -> None:
        packet = packet_of(*self._addresses, data)
        for gateway in [self._learned] if self._learned else self._gateways:
            with suppress(OSError):  # this one is down; another one may not be
                self.socket.sendto(packet, gateway)

    def receive(self) -> bytes:
        try:
            packet, sender = self.socket.recvfrom(65536)
        except OSError:
            return b""
        if sender in self._gateways:
            self._learned = sender
        return packet[28:] or b"\0"  # IPv4 and UDP headers without options: those of ``packet_of``


def _sent(_octets: int) -> None:
    return None


def _endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def packet_of(source: str, destination: str, port: int, data: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram (without its optional checksum)."""
    length = 28 + len(data)
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, socket.IPPROTO_UDP, 0) + addresses
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = 0xFFFF - ((total & 0xFFFF) + (total >> 16))
    udp = struct.pack("!HHHH", port, port, length - 20, 0)
    return head[:10] + struct.pack("!H", checksum) + head[12:] + udp + data


def main() -> None:
    parser = argparse.ArgumentParser(prog="ipsecha.lab.prober")
    parser.add_argument("--local", required=True)
    parser.add_argument("--remote", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--interval", type=float, default=0.01, help="seconds")
    parser.add_argument("--size", type=int, default=64, help="octets of payload")
    parser.add_argument("--near", help="address:port of our end when packets travel in UDP datagrams")
    parser.add_argument("--gateway", nargs="+", help="address:port of the gateways' ends")
    given = parser.parse_args()
    if given.near:
        path = Tunnelled(given.local, given.remote, given.port, given.near, given.gateway)
        prober = Prober(path.send, path.receive, given.log, given.interval, given.size)
        prober.run(path.socket.fileno())
    else:
        sock, send, receive = plain(given.local, given.remote, given.port)
        Prober(send, receive, given.log, given.interval, given.size).run(sock.fileno())


if __name__ == "__main__":
    main()
