"""Path MTUs towards the peers (RFC 4301 section 8.2): the kernel's knowledge, ICMP included, asked for by address."""

from __future__ import annotations

import socket

from ipsecha.dataplane.userspace.outer import SO_MARK

_IP_MTU = 14
_IPV6_MTU = 24
_DEFAULT = 1500
_DISCARD_PORT = 9
_AGE_S = 600.0  # RFC 4301 section 8.2.2: what was learned is to be doubted after a while
_ENTRIES = 65536


class PathMtu:
    """The longest IP datagram to each peer, remembered for some minutes.

    ``limit`` caps all of them (0: none).  A connected UDP socket tells the route's MTU or what ICMP has taught the
    kernel about that destination, which our sockets' datagrams with DF bring about.
    """

    def __init__(self, mark: int, limit: int = 0) -> None:
        self._mark = mark
        self._limit = limit
        self._known: dict[tuple[str, str], tuple[int, float]] = {}

    def get(self, local: str, remote: str, now: float) -> int:
        known = self._known.get((local, remote))
        if known is not None and now - known[1] < _AGE_S:
            return known[0]
        if len(self._known) >= _ENTRIES:
            self._known.clear()
        mtu = self._asked(local, remote)
        if self._limit:
            mtu = min(mtu, self._limit)
        self._known[local, remote] = (mtu, now)
        return mtu

    def forget(self, remote: str) -> None:
        """Something did not fit on the way to ``remote``."""
        for key in [key for key in self._known if key[1] == remote]:
            del self._known[key]

    def _asked(self, local: str, remote: str) -> int:
        ipv6 = ":" in remote
        try:
            with socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
                if self._mark:
                    probe.setsockopt(socket.SOL_SOCKET, SO_MARK, self._mark)
                probe.connect((remote, _DISCARD_PORT))
                if ipv6:
                    return probe.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
                return probe.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        except OSError:
            return _DEFAULT
