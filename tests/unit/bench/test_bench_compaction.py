"""A backup's records are octets until something asks for them; nothing that matters is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("bench", reason="bench/ lies beside the package: run pytest from the repository")

from bench import clients
from bench.pairs import Halves, child_spi

from ipsecha.gateway.compaction import BATCH
from ipsecha.model.records import IkeSa, LeaseEntry

COUNT = 600  # more than one batch of the background pass after a takeover


@pytest.fixture
def halves() -> Iterator[Halves]:
    pair = Halves(COUNT)
    yield pair
    pair.close()


def frozen(pair: Halves) -> int:
    entries = pair.two.gateway.endpoint.sas._entries.values()
    return sum(not isinstance(entry, IkeSa) for entry in entries)


def test_a_backup_keeps_octets_and_whoever_looks_changes_nothing(halves: Halves) -> None:
    sas = halves.two.gateway.endpoint.sas
    assert frozen(halves) == COUNT
    assert [sa.children[0].spi_in for sa in sas.values()] == [child_spi(number) for number in range(COUNT)]
    assert len(halves.two.gateway.plane._sad) == COUNT
    assert halves.two.gateway.plane.traffic(child_spi(3)) is not None
    assert frozen(halves) == COUNT


def test_a_lease_thaws_one_sa_and_its_ceilings_outlive_the_next_frost(halves: Halves) -> None:
    two, spi_in = halves.two, child_spi(5)
    two.gateway.plane.apply_leases([LeaseEntry(spi_in, 5000, 7000)])
    assert frozen(halves) == COUNT - 1
    two.side.compaction._look()  # notes what has been thawed
    two.side.compaction._look()  # freezes it
    assert frozen(halves) == COUNT
    child = two.gateway.endpoint.sas.peek(two.gateway.endpoint.child_index[spi_in]).children[0]
    assert (child.in_ceiling, child.out_ceiling) == (5000, 7000)


def test_a_new_owner_thaws_what_is_used_and_starts_beyond_the_leases(halves: Halves) -> None:
    """I2: an SA that was octets is not taken for one that nobody has used."""
    two, spi_in = halves.two, child_spi(7)
    two.gateway.plane.apply_leases([LeaseEntry(spi_in, 5000, 7000)])
    two.side.compaction._look()
    two.side.compaction._look()
    halves.lose_one()
    halves.take_over()
    assert frozen(halves) > 0, "taking over has touched SAs"
    for number in (7, 8):
        two.gateway.plane.inject("inner", clients.inner_packet(number), ("", 0), ("", 0))
    live = two.gateway.plane._sad.lives[spi_in]
    assert live.next_out > 7000
    assert live.floor >= 5000
    sa = two.gateway.endpoint.sa_of_child(spi_in)
    assert sa is not None
    assert sa.children[0] is live.child, "the tables and the data plane hold one object"


def test_a_former_owner_freezes_what_it_has(halves: Halves) -> None:
    one = halves.one
    halves.one.side.member.switchover(halves.one.gateway.clock.now())
    halves.one.gateway.wake()
    halves._until(lambda: halves.two.gateway.endpoint.active and not one.gateway.endpoint.active)
    for _ in range(COUNT // BATCH + 2):
        one.side.compaction._look()
    assert not any(isinstance(entry, IkeSa) for entry in one.gateway.endpoint.sas._entries.values())
