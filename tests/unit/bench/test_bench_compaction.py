"""A backup's records are octets until something asks for them; nothing that matters is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("bench", reason="bench/ lies beside the package: run pytest from the repository")

from bench import clients
from bench.pairs import Halves, child_spi

from ipsecha.cluster import effects as fx
from ipsecha.gateway.compaction import BATCH
from ipsecha.model.records import LeaseEntry, encode_record

COUNT = 600  # more than one batch of the background pass after a takeover


@pytest.fixture
def halves() -> Iterator[Halves]:
    pair = Halves(COUNT)
    yield pair
    pair.close()


def frozen(pair: Halves) -> int:
    sas = pair.two.gateway.endpoint.sas
    return sum(sas.thawed(spi) is None for spi in sas)


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
    assert not any(map(one.gateway.endpoint.sas.thawed, one.gateway.endpoint.sas))


def test_after_a_takeover_only_what_is_used_becomes_an_object(halves: Halves) -> None:
    two = halves.two
    halves.lose_one()
    halves.take_over()
    halves.until(lambda: (two.gateway.endpoint.next_timer() or 0.0) > two.gateway.clock.now())
    assert len(two.gateway.endpoint.timers) == COUNT
    assert frozen(halves) == COUNT
    two.gateway.plane.inject("inner", clients.inner_packet(7), ("", 0), ("", 0))
    assert frozen(halves) == COUNT - 1


def test_an_owner_freezes_again_what_is_idle_and_nothing_else(halves: Halves) -> None:
    """The object in use, in an exchange, or on its way to the data plane is the only one."""
    two, endpoint = halves.two, halves.two.gateway.endpoint
    halves.lose_one()
    halves.take_over()
    two.gateway.plane.inject("inner", clients.inner_packet(7), ("", 0), ("", 0))
    asking, idle = endpoint.sa_of_child(child_spi(8)), endpoint.sa_of_child(child_spi(9))
    assert asking is not None
    assert idle is not None
    endpoint.check_liveness(asking.local_spi, two.gateway.clock.now())
    for _ in range(4):
        two.side.compaction._look()
    assert endpoint.sas.thawed(idle.local_spi) is idle, "effects of the IKE core may still hold objects"
    two.gateway.wake()
    halves.until(lambda: two.gateway.is_settled)
    for _ in range(4):
        two.side.compaction._look()
    assert endpoint.sas.thawed(idle.local_spi) is None
    assert frozen(halves) == COUNT - 2
    assert endpoint.sas.thawed(asking.local_spi) is asking
    live = two.gateway.plane._sad.lives[child_spi(7)]
    assert endpoint.sas.thawed(live.sa.local_spi) is live.sa


def test_a_backup_that_joins_a_new_owner_leaves_its_records_octets(halves: Halves) -> None:
    two = halves.two
    halves.lose_one()
    halves.take_over()
    before = {sa.local_spi: sa for sa in two.gateway.endpoint.sas.values()}
    shared = dict(two.side._present_records())
    assert shared.keys() == before.keys()
    assert frozen(halves) == COUNT
    for spi, sa in before.items():
        now = two.gateway.endpoint.sas.peek(spi)
        assert encode_record(now) == shared[spi]
        assert now.children[0].out_ceiling > sa.children[0].out_ceiling, "the lane is part of what is shared and kept"
