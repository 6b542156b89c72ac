"""Heartbeats between the members: small UDP datagrams on every path (synch link and LAN).

A path is a pair of addresses.  What a beat says and how it is authenticated is the business of ``ipsecha.cluster``;
datagrams from other sources than the partner's address are not even read by it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping

import msgspec

from ipsecha.model.records import Address

MAX_BEAT = 512


class BeatPath(msgspec.Struct, frozen=True):
    name: str
    local: Address
    partner: Address


def bound_socket(local: Address) -> socket.socket:
    """Raises OSError where the address cannot be bound."""
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind(local)
    return sock


Received = Callable[[bytes], None]


class Beats:
    """Sends a beat on all paths and hands over what comes in, to whom it may concern by its source: paths to several
    members may begin at one address."""

    def __init__(self, paths: Iterable[tuple[BeatPath, Received]]) -> None:
        """Each path with what is called for the beats that come in on it."""
        self._ways: dict[Address, dict[Address, Received]] = {}  # by our address, then by the other member's
        for path, received in paths:
            self._ways.setdefault(path.local, {})[path.partner] = received
        self._sockets: dict[Address, socket.socket] = {}
        self.foreign = 0  # datagrams that did not come from a member

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open one socket an address.  Raises OSError where an address cannot be bound."""
        for local, ways in self._ways.items():
            sock = self._sockets[local] = bound_socket(local)
            loop.add_reader(sock, self._readable, sock, ways)

    def send(self, beat: bytes) -> None:
        """One beat on each path; a path that is down is what beats are there to find out."""
        for local, sock in self._sockets.items():
            for partner in self._ways[local]:
                try:
                    sock.sendto(beat, partner)
                except OSError:
                    continue

    def _readable(self, sock: socket.socket, ways: Mapping[Address, Received]) -> None:
        for _ in range(16 * len(ways)):
            try:
                data, source = sock.recvfrom(MAX_BEAT)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error that the kernel reports on the socket: a member's port is closed
                continue
            received = ways.get(source[:2])
            if received is not None:
                received(data)
            else:
                self.foreign += 1

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        for sock in self._sockets.values():
            loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()
