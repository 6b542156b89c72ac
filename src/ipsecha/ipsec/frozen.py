"""Child SAs whose records are octets: how a backup holds them, and an owner that has not used them yet.

What remains here is what a packet is found by: the selectors in the SPD.  The record comes back (*thaws*) when a
packet, a lease or an IKE message asks for the child SA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipsecha.ipsec.spd import Spd
from ipsecha.model.records import ChildSa, IkeSa


def _nowhere(spi_in: int) -> object:
    return None


class Installed(dict[int, tuple[IkeSa, ChildSa]]):
    """The records of installed child SAs by inbound SPI.  Whoever asks for one gets it; those that are frozen are
    fetched: ``fetch(spi_in)`` has whoever keeps the records call ``Sad.thaw``."""

    def __init__(self, spd: Spd) -> None:
        super().__init__()
        self._spd = spd
        self.fetch: Callable[[int], object] = _nowhere

    def is_frozen(self, spi_in: int) -> bool:
        return spi_in not in self and spi_in in self._spd

    def successor(self) -> Installed:
        """An empty table for the same SPD."""
        other = Installed(self._spd)
        other.fetch = self.fetch
        return other

    def get(self, spi_in: int, default: Any = None) -> Any:
        if spi_in not in self and spi_in in self._spd:
            self.fetch(spi_in)
        return super().get(spi_in, default)

    def __missing__(self, spi_in: int) -> tuple[IkeSa, ChildSa]:
        self.fetch(spi_in)
        found = super().get(spi_in)
        if found is None:
            raise KeyError(spi_in)
        return found
