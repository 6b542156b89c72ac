"""What status and sas show of a member with more IKE SAs than one turn of its event loop is to look at."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("bench", reason="bench/ lies beside the package: run pytest from the repository")

from bench import clients
from bench.pairs import Halves

from in_steps import completed
from ipsecha.gateway.status import PAGE, sas_view, status_view
from ipsecha.gateway.views import SasView
from ipsecha.ike import informational

COUNT = 1100


@pytest.fixture(scope="module")
def halves() -> Iterator[Halves]:
    pair = Halves(COUNT, 2, busy=600)
    yield pair
    pair.close()


def page(halves: Halves, **arguments: Any) -> SasView:
    return completed(sas_view(halves.one.gateway, arguments))


def test_pages_are_in_the_order_of_the_spis_and_never_long(halves: Halves) -> None:
    spis = sorted(halves.one.gateway.endpoint.sas)
    found: list[str] = []
    while view := page(halves, offset=len(found), limit=COUNT).sas:
        assert len(view) <= PAGE
        found += [sa.spi_r for sa in view]
    assert found == [spi.hex() for spi in spis]


def test_a_connection_narrows_them_and_others_have_turns_meanwhile(halves: Halves) -> None:
    assert page(halves, connection=clients.NAME, offset=3, limit=2).total == COUNT
    assert page(halves, connection="another").total == 0
    steps = sas_view(halves.one.gateway, {})
    next(steps)
    halves.one.gateway.endpoint.sas.peek(sorted(halves.one.gateway.endpoint.sas)[0])
    turns = sum(1 for _ in steps)
    assert turns > PAGE // 100


def test_an_sa_that_goes_away_meanwhile_is_left_out(halves: Halves) -> None:
    endpoint = halves.one.gateway.endpoint
    steps = sas_view(halves.one.gateway, {"limit": 2})
    next(steps)
    first = endpoint.sas[min(endpoint.sas)]
    endpoint.drop_from_tables(first)
    try:
        view = completed(steps)
        assert [sa.spi_r for sa in view.sas] == [sorted(endpoint.sas)[0].hex()]
    finally:
        endpoint.put_into_tables(first)


def test_status_counts_without_a_walk_over_all(halves: Halves) -> None:
    for half, packets in ((halves.one, 600), (halves.two, 0)):
        config: Any = SimpleNamespace(member=SimpleNamespace(name="one"), cluster=None)
        view = completed(status_view(half.gateway, None, config, 0.0))
        assert (view.ike_sas, view.child_sas, view.packets_out) == (COUNT, 2 * COUNT, packets)


def test_a_closed_ike_sa_is_not_counted(halves: Halves) -> None:
    endpoint = halves.two.gateway.endpoint
    closed = endpoint.sas[min(endpoint.sas)]
    informational.close(endpoint, closed, 1.0)
    view = completed(sas_view(halves.two.gateway, {"limit": 1}))
    assert view.total == COUNT - 1
    assert view.sas[0].spi_r != closed.local_spi.hex()
    endpoint.drop_from_tables(closed)
    assert not endpoint.closed
