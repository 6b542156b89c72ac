"""Heartbeats between the members: small UDP datagrams on every path (synch link and LAN).

A path is a pair of addresses.  What a beat says and how it is authenticated is the business of ``ipsecha.cluster``;
datagrams from other sources than the partner's address are not even read by it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

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


class Beats:
    """Sends a beat on all paths and hands over what comes in, with the name of the path."""

    def __init__(self, paths: tuple[BeatPath, ...], received: Callable[[str, bytes], None]) -> None:
        self._paths = paths
        self._received = received
        self._sockets: list[tuple[BeatPath, socket.socket]] = []
        self.foreign = 0  # datagrams that did not come from the partner

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open one socket a path.  Raises OSError where an address cannot be bound."""
        for path in self._paths:
            sock = bound_socket(path.local)
            self._sockets.append((path, sock))
            loop.add_reader(sock, self._readable, path, sock)

    def send(self, beat: bytes) -> None:
        """One beat on each path; a path that is down is what beats are there to find out."""
        for path, sock in self._sockets:
            try:
                sock.sendto(beat, path.partner)
            except OSError:
                continue

    def _readable(self, path: BeatPath, sock: socket.socket) -> None:
        for _ in range(16):
            try:
                data, source = sock.recvfrom(MAX_BEAT)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error that the kernel reports on the socket: the partner's port is closed
                continue
            if source[:2] == path.partner:
                self._received(path.name, data)
            else:
                self.foreign += 1

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        for _, sock in self._sockets:
            loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()
