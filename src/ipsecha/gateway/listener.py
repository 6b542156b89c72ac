"""A TCP socket that is listened on in the event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from ipsecha.model.records import Address


class Listener:
    """Hands over each connection that comes in, with the address of its other end."""

    def __init__(self, address: Address, backlog: int, accepted: Callable[[socket.socket, str], None]) -> None:
        self._address = address
        self._backlog = backlog
        self._accepted = accepted
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Raises OSError when the address cannot be bound."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._socket = socket.create_server(self._address, family=family, backlog=self._backlog)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._accept, self._socket)

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _accept(self, listening: socket.socket) -> None:
        """At most as many a turn as the kernel keeps, so that nothing else has to wait for long."""
        for _ in range(self._backlog):
            try:
                raw, source = listening.accept()
            except OSError:  # nothing more, or gone again
                return
            self._accepted(raw, source[0])
