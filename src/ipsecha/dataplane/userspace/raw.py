"""Raw sockets for ESP and AH as IP protocols 50 and 51, IPv4 and IPv6 (RFC 4303 and RFC 4302, section 2)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address

from ipsecha.dataplane.userspace.outer import Arrival, OuterSocket, traffic_class_of
from ipsecha.model.errors import WireError
from ipsecha.model.records import Address
from ipsecha.wire.ah import AH, gather_ipv4, gather_ipv6

_ESP = 50
_IP_HDRINCL = 3
_BUFFER = 64 << 10
_ANCILLARY = 64


class _RawSocket(OuterSocket):
    """One IP protocol to and from one local address; needs CAP_NET_RAW.  The kernel has reassembled what arrives."""

    def __init__(self, address: str, protocol: int, mark: int, on_too_long: Callable[[str], None]) -> None:
        super().__init__((address, 0), socket.SOCK_RAW, protocol, mark, on_too_long)
        self.malformed = 0
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
            datagram = self._datagram(bytes(self._view[:size]), sender[0])
            if datagram is None:
                self.malformed += 1
                continue
            outer = traffic_class_of(ancillary)
            last = arrivals[-1] if arrivals else None
            if last is not None and last.remote[0] == sender[0] and last.traffic_class == outer:
                last.datagrams.append(datagram)
            else:
                arrivals.append(Arrival([datagram], (sender[0], 0), outer))
        return arrivals

    def _datagram(self, packet: bytes, sender: str) -> bytes | None:
        """What the packet path is given of a packet: an IPv4 raw socket gives the IP header as well, an IPv6 one does
        not.  None where it is malformed."""
        raise NotImplementedError

    def send_run(self, datagrams: list[bytes], remote: Address) -> None:
        """Packets to one peer."""
        peer = (remote[0], 0)
        for datagram in datagrams:
            self.send(datagram, peer)


class RawEspSocket(_RawSocket):
    def __init__(self, address: str, mark: int, on_too_long: Callable[[str], None]) -> None:
        super().__init__(address, _ESP, mark, on_too_long)

    def _datagram(self, packet: bytes, sender: str) -> bytes | None:
        return packet if self.ipv6 else packet[(packet[0] & 15) * 4 :]


class RawAhSocket(_RawSocket):
    """Over IPv4 the packets that are sent bear their own header, since parts of it are authentic (``ipsec.ah``)."""

    def __init__(self, address: str, mark: int, on_too_long: Callable[[str], None]) -> None:
        super().__init__(address, AH, mark, on_too_long)
        self._local = ip_address(address).packed
        if not self.ipv6:
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_HDRINCL, 1)

    def _datagram(self, packet: bytes, sender: str) -> bytes | None:
        try:
            if self.ipv6:
                return gather_ipv6(ip_address(sender).packed, self._local, packet)
            return gather_ipv4(packet)
        except (WireError, ValueError):
            return None


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
