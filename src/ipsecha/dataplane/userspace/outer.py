"""Sockets towards the peers: what UDP-encapsulated and raw ESP have in common.

A socket is bound to one of the cluster's addresses, which need not be on this member yet (IP_FREEBIND), bears the
mark that the policy routing exempts, and writes the outer header's traffic class and DF bit as a run asks for.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from ipsecha.model.records import Address

RECEIVE_BUFFER = 8 << 20
SEND_BUFFER = 4 << 20
BATCH = 64  # datagrams or packets of one wake-up

# Linux, absent from the socket module
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_DONT = 0
_PMTUDISC_DO = 2
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
SO_MARK = 36
_INT = struct.Struct("i")


class Arrival(NamedTuple):
    """Datagrams of one read: from one address, with one traffic class in their outer headers."""

    datagrams: list[bytes]
    remote: Address
    traffic_class: int


class OuterSocket:
    """A non-blocking socket bound to ``local``; raises OSError where that is not possible.

    ``on_too_long(remote address)`` hears when a datagram with DF did not fit into the path.
    """

    def __init__(self, local: Address, kind: int, protocol: int, mark: int, on_too_long: Callable[[str], None]) -> None:
        self.local = local
        self.ipv6 = ":" in local[0]
        self.failed = 0
        self._on_too_long = on_too_long
        self._outer = -1
        family = socket.AF_INET6 if self.ipv6 else socket.AF_INET
        self.socket = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        try:
            self._set_options(mark)
            self.socket.bind(local)
        except OSError:
            self.socket.close()
            raise

    def _set_options(self, mark: int) -> None:
        sock = self.socket
        if self.ipv6:
            if sock.type == socket.SOCK_DGRAM:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        for force, ordinary, size in (
            (_SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER),
            (_SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER),
        ):
            try:
                sock.setsockopt(socket.SOL_SOCKET, force, size)
            except PermissionError:  # without CAP_NET_ADMIN the system's limit holds
                sock.setsockopt(socket.SOL_SOCKET, ordinary, size)

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()

    def prepare(self, outer: int) -> None:
        """The outer header of what is sent from now on: traffic class << 1 | DF.  Two system calls on a change."""
        if outer == self._outer:
            return
        discover = _PMTUDISC_DO if outer & 1 else _PMTUDISC_DONT
        if self.ipv6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, outer >> 1)
            self.socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, discover)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, outer >> 1)
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, discover)
        self._outer = outer

    def send(self, datagram: bytes, remote: Address) -> None:
        """One datagram; what the kernel refuses is counted, as if it had been lost on the way."""
        try:
            self.socket.sendto(datagram, remote)
        except OSError as error:
            self.refused(error, remote)

    def refused(self, error: OSError, remote: Address) -> None:
        self.failed += 1
        if error.errno == errno.EMSGSIZE:
            self._on_too_long(remote[0])


def traffic_class_of(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The outer traffic class among control messages, 0 where there is none."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == socket.IP_TOS:
            return data[0]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_TCLASS:
            return int(_INT.unpack_from(data)[0])
    return 0
