"""UDP sockets on ports 500 and 4500, with the kernel's batching: UDP_GRO inbound, UDP_SEGMENT outbound.

One read returns up to 64 KiB of equal datagrams of one peer, one write takes as much.  A read buffer of less than
128 KiB would truncate.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable

from ipsecha.dataplane.userspace.outer import Arrival, OuterSocket, traffic_class_of
from ipsecha.model.records import Address

_UDP_SEGMENT = 103
_UDP_GRO = 104
_SEGMENTS = 44  # more would overrun small peers' buffers
_SEGMENTS_OCTETS = 65000
_BUFFER = 128 << 10
_ANCILLARY = 128
_INT = struct.Struct("i")
_SHORT = struct.Struct("H")


class UdpSocket(OuterSocket):
    """One local address and port."""

    def __init__(self, local: Address, mark: int, on_too_long: Callable[[str], None]) -> None:
        super().__init__(local, socket.SOCK_DGRAM, 0, mark, on_too_long)
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        with contextlib.suppress(OSError):  # an older kernel: one datagram a read
            self.socket.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        self._segments = True

    def receive(self, limit: int) -> list[Arrival]:
        """What has arrived, until there is nothing more or ``limit`` reads have been done."""
        arrivals: list[Arrival] = []
        for _ in range(limit):
            try:
                size, ancillary, _, remote = self.socket.recvmsg_into([self._buffer], _ANCILLARY)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error about something sent earlier
            view = self._view
            step = size
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
                    step = int(_INT.unpack_from(data)[0])
            if step < size:
                datagrams = [bytes(view[start : min(start + step, size)]) for start in range(0, size, step)]
            else:
                datagrams = [bytes(view[:size])]
            arrivals.append(Arrival(datagrams, (remote[0], remote[1]), traffic_class_of(ancillary)))
        return arrivals

    def send_run(self, datagrams: list[bytes], remote: Address) -> None:
        """Datagrams to one peer; stretches of equal length leave in one system call each."""
        count = len(datagrams)
        start = 0
        while start < count:
            size = len(datagrams[start])
            end = start + 1
            most = min(count, start + min(_SEGMENTS, _SEGMENTS_OCTETS // max(size, 1))) if self._segments else end
            while end < most and len(datagrams[end]) == size:
                end += 1
            if end < most and len(datagrams[end]) < size:
                end += 1  # the last segment may be shorter
            if end - start == 1:
                self.send(datagrams[start], remote)
            else:
                self._send_segments(datagrams[start:end], size, remote)
            start = end

    def _send_segments(self, datagrams: list[bytes], size: int, remote: Address) -> None:
        try:
            self.socket.sendmsg(datagrams, ((socket.IPPROTO_UDP, _UDP_SEGMENT, _SHORT.pack(size)),), 0, remote)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EIO, errno.ENOPROTOOPT, errno.EMSGSIZE):
                # this path or kernel does not segment (or not in this size): one by one
                for datagram in datagrams:
                    self.send(datagram, remote)
            else:
                self.refused(error, remote)
