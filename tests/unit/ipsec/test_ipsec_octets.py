"""Octets that an owner has not used yet: what is told of them, to a file or to a backup, holds for all that the owners
before have used."""

from __future__ import annotations

from itertools import chain

import pytest

from esp_pair import Side, child_sa, ike_sa, udp
from ipsecha.model.leases import Leasing, lane_width
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

    def become_owner(self, above_lanes: int = 0) -> None:
        self.sad.set_leasing(Leasing.FREE)
        self.sad.activate(2, above_lanes)


@pytest.mark.parametrize("used_before", [False, True])
def test_the_first_bounds_of_octets_cover_the_leases_that_came_behind_them(used_before: bool) -> None:
    """I2 and I3 after a power failure: the file would name fewer numbers than the owner before has used."""
    side = Frozen()
    side.become_owner()
    side.sad.begin_saving(lambda: None)
    if used_before:
        assert side.send(udp())
    ((spi, inbound, outbound),) = side.sad.bounds_to_write(side.copy().children, side.now)
    assert (spi, inbound >= IN_CEILING, outbound >= OUT_CEILING) == (SPI, True, True)
    (datagram,) = side.send(udp())
    assert OUT_CEILING < int.from_bytes(datagram[4:8], "big") <= outbound


def test_a_backup_that_joins_hears_of_the_lanes_that_octets_will_skip() -> None:
    """I2: the owner before may have used a lane that it was not told of."""
    side = Frozen()
    side.become_owner(above_lanes=1)
    (entry,) = chain.from_iterable(side.sad.lease_in_parts(side.sad.spd.walk()))
    assert entry.out_ceiling >= OUT_CEILING + lane_width(False)
    side.grant([entry])
    assert side.send(udp()) == [], "no lease goes beyond what is known to be used"
    (datagram,), _ = side.acknowledge()
    assert int.from_bytes(datagram[4:8], "big") > OUT_CEILING + lane_width(False)
