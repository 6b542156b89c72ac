"""Full collections look at what is new only."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from ipsecha.gateway.garbage import keep_collections_short


@pytest.fixture
def collector() -> Iterator[None]:
    callbacks = list(gc.callbacks)
    yield
    gc.callbacks[:] = callbacks
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
def test_survivors_are_not_looked_at_again() -> None:
    keep_collections_short()
    tables = [[number] for number in range(1000)]
    gc.collect()
    assert id(tables[0]) not in {id(looked_at) for looked_at in gc.get_objects()}
    before = gc.get_freeze_count()
    del tables
    assert gc.get_freeze_count() <= before - 1000, "what is frozen is still freed by its references"


@pytest.mark.usefixtures("collector")
def test_cycles_that_come_and_go_are_still_collected() -> None:
    keep_collections_short()
    keep_collections_short()
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() >= 1
