"""A NAT in front of a peer: it shows the world a public address and ports of its choice, for as long as it likes."""

from __future__ import annotations

from random import Random

from ipsecha.model.records import Address


class Nat:
    """``number``: of the peer; ``addresses``: all that it has ever had, the present one last."""

    def __init__(self, inner: str, number: int) -> None:
        self.inner = inner
        self.addresses: list[str] = []
        self._number = number
        self._ports: dict[int, int] = {}  # public, by inner
        self._next_port = 1024
        self.rebind(None)

    def rebind(self, chance: Random | None) -> None:
        """Forget all mappings; with ``chance`` perhaps the address, too: a phone goes from Wi-Fi to mobile data."""
        self._ports.clear()
        if chance is None or chance.random() < 0.5:
            self.addresses.append(f"203.0.{self._number}.{len(self.addresses) % 250 + 1}")
        self._next_port += 7

    def outward(self, source: Address) -> Address:
        """Whom the world sees; a port without a mapping gets one."""
        port = self._ports.get(source[1])
        if port is None:
            port = self._ports[source[1]] = self._next_port
            self._next_port += 1
        return self.addresses[-1], port

    def inward(self, destination: Address) -> Address | None:
        """Where a datagram from the world goes; None: no mapping, or no more."""
        if destination[0] != self.addresses[-1]:
            return None
        for inner, port in self._ports.items():
            if port == destination[1]:
                return self.inner, inner
        return None
