"""A backup's records are octets until something asks for them; nothing that matters is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("bench", reason="bench/ lies beside the package: run pytest from the repository")

from bench import clients
from bench.pairs import Halves, child_spi

from ipsecha.cluster import effects as fx
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


def test_leases_of_octets_wait_for_them_to_be_thawed(halves: Halves) -> None:
    """I2, I3: several of them do the same one after the other, or at once."""
    two, spi_in = halves.two, child_spi(5)
    for entry in (LeaseEntry(spi_in, 9000, 7000), LeaseEntry(spi_in, 4000, 6000, True), LeaseEntry(spi_in, 5000, 0)):
        two.gateway.plane.apply_leases([entry])
    assert frozen(halves) == COUNT
    sa = two.gateway.endpoint.sa_of_child(spi_in)
    assert sa is not None
    assert (sa.children[0].in_ceiling, sa.children[0].out_ceiling) == (5000, 7000)
    assert frozen(halves) == COUNT - 1
    two.side.compaction._look()  # notes what has been thawed
    two.side.compaction._look()  # freezes it
    assert frozen(halves) == COUNT
    sa = two.gateway.endpoint.sas.peek(sa.local_spi)
    assert (sa.children[0].in_ceiling, sa.children[0].out_ceiling) == (5000, 7000)


def test_records_that_are_given_up_are_gone_at_once(halves: Halves) -> None:
    two = halves.two
    two.side._discard_records(fx.DiscardRecords())
    assert not two.gateway.endpoint.sas
    assert not two.gateway.endpoint.child_index
    assert not list(two.gateway.endpoint.sas_of(clients.NAME))
    assert len(two.gateway.plane._sad) == 0
    assert two.gateway.plane.traffic(child_spi(5)) is None


def test_a_new_owner_thaws_what_is_used_and_starts_beyond_the_leases(halves: Halves) -> None:
    """I2: an SA that was octets is not taken for one that nobody has used."""
    two, spi_in = halves.two, child_spi(7)
    two.gateway.plane.apply_leases([LeaseEntry(spi_in, 5000, 7000)])
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
    halves.until(lambda: halves.two.gateway.endpoint.active and not one.gateway.endpoint.active)
    for _ in range(COUNT // BATCH + 2):
        one.side.compaction._look()
    assert not any(isinstance(entry, IkeSa) for entry in one.gateway.endpoint.sas._entries.values())
