"""Raw sockets for ESP as IP protocol 50, IPv4 and IPv6 (RFC 4303 section 2)."""

from __future__ import annotations

import socket
from collections.abc import Callable

from ipsecha.dataplane.userspace.outer import Arrival, OuterSocket, traffic_class_of
from ipsecha.model.records import Address

_ESP = 50
_BUFFER = 64 << 10
_ANCILLARY = 64


class RawEspSocket(OuterSocket):
    """ESP to and from one local address; needs CAP_NET_RAW.  The kernel has reassembled what arrives."""

    def __init__(self, address: str, mark: int, on_too_long: Callable[[str], None]) -> None:
        super().__init__((address, 0), socket.SOCK_RAW, _ESP, mark, on_too_long)
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)

    def receive(self, limit: int) -> list[Arrival]:
        """What has arrived, until there is nothing more or ``limit`` reads have been done; stretches of packets of one
        peer come as one Arrival."""
        arrivals: list[Arrival] = []
        for _ in range(limit):
            try:
                size, ancillary, _, sender = self.socket.recvmsg_into([self._buffer], _ANCILLARY)
            except BlockingIOError:
                break
            except OSError:
                continue
            # an IPv4 raw socket gives the IP header as well, an IPv6 one does not
            start = 0 if self.ipv6 else (self._buffer[0] & 15) * 4
            outer = traffic_class_of(ancillary)
            datagram = bytes(self._view[start:size])
            last = arrivals[-1] if arrivals else None
            if last is not None and last.remote[0] == sender[0] and last.traffic_class == outer:
                last.datagrams.append(datagram)
            else:
                arrivals.append(Arrival([datagram], (sender[0], 0), outer))
        return arrivals

    def send_run(self, datagrams: list[bytes], remote: Address) -> None:
        """ESP packets to one peer."""
        peer = (remote[0], 0)
        for datagram in datagrams:
            self.send(datagram, peer)


class BypassSocket:
    """Sends packets that the SPD lets bypass IPsec, as they are, past our own routes (by the mark)."""

    def __init__(self, mark: int) -> None:
        self._ipv4 = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
        self._ipv6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
        self.failed = 0
        for sock in (self._ipv4, self._ipv6):
            if mark:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)

    def send(self, packets: list[bytes]) -> None:
        for packet in packets:
            try:
                if packet[0] >> 4 == 4:
                    self._ipv4.sendto(packet, (socket.inet_ntop(socket.AF_INET, packet[16:20]), 0))
                else:
                    self._ipv6.sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0))
            except OSError:
                self.failed += 1

    def close(self) -> None:
        self._ipv4.close()
        self._ipv6.close()
