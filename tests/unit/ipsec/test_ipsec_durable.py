"""Bounds in a saved state's file: no number beyond them may be in use, whoever has used it."""

from __future__ import annotations

import pytest

from esp_pair import Side, child_sa, ike_sa, udp
from ipsecha.model.leases import Leasing
from ipsecha.model.records import IkeSa, LeaseEntry, decode_record, encode_record

SPI = 0x1001
IN_CEILING, OUT_CEILING = 1_000_000, 5_000_000


class Frozen(Side):
    """A backup with one child SA, which it holds as octets; the owner before has gone far since its record came."""

    def __init__(self) -> None:
        super().__init__(mode=Leasing.LEASED)
        self.sad.deactivate()
        child = self.install(child_sa(SPI, 0x2002))
        self.octets = encode_record(ike_sa(child))
        self.sad.fetch_from(self._fetch)
        self.sad.freeze(SPI)
        self.sad.apply_leases([LeaseEntry(SPI, IN_CEILING, OUT_CEILING)])

    def _fetch(self, spi_in: int) -> None:
        sa = self.copy()
        self.sad.thaw(sa, sa.children[0])

    def copy(self) -> IkeSa:
        """For whoever only looks at it."""
        return decode_record(self.octets)

    def become_owner(self, mode: Leasing = Leasing.FREE) -> None:
        self.sad.set_leasing(mode)
        self.sad.activate(2, False)


@pytest.mark.parametrize("used_before", [False, True])
def test_the_first_bounds_of_octets_cover_the_leases_that_came_behind_them(used_before: bool) -> None:
    """I2 and I3 after a power failure: the file would name fewer numbers than the owner before has used."""
    side = Frozen()
    side.become_owner()
    side.sad.begin_saving()
    if used_before:
        assert side.send(udp())
    ((spi, inbound, outbound),) = side.sad.bounds_to_write(side.copy().children, side.now)
    assert (spi, inbound >= IN_CEILING, outbound >= OUT_CEILING) == (SPI, True, True)
    (datagram,) = side.send(udp())
    assert OUT_CEILING < int.from_bytes(datagram[4:8], "big") <= outbound
