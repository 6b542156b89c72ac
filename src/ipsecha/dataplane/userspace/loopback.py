"""An inner device without privileges: clear IP packets travel as UDP datagrams to and from one address."""

from __future__ import annotations

import socket

from ipsecha.model.records import Address

_LONGEST = 65535


class LoopbackDevice:
    """Packets from ``peer`` arrive at ``local``, whatever is written goes to ``peer``; others are not heard."""

    forwards = True  # nobody has decremented a TTL before

    def __init__(self, local: Address, peer: Address) -> None:
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        self.refused = 0
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(local)
        self._socket.connect(peer)

    @property
    def address(self) -> Address:
        name = self._socket.getsockname()
        return name[0], name[1]

    def fileno(self) -> int:
        return self._socket.fileno()

    def read_batch(self, limit: int) -> list[bytes]:
        packets: list[bytes] = []
        for _ in range(limit):
            try:
                packets.append(self._socket.recv(_LONGEST))
            except BlockingIOError:
                break
            except OSError:
                self.refused += 1
        return packets

    def write_batch(self, packets: list[bytes]) -> None:
        for packet in packets:
            try:
                self._socket.send(packet)
            except OSError:
                self.refused += 1

    def close(self) -> None:
        self._socket.close()
