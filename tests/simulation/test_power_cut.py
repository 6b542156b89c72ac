"""Both members lose power at once, at any moment, and come back with what is on their disks: nothing is used twice, and
what had been saved works again.

Those that are broken on purpose are in ``test_broken_worlds.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulation.power import PowerVariant, PowerWorld
from simulation.power_cuts import judged_power
from simulation.variants_power import POWER_VARIANTS

pytestmark = pytest.mark.slow

SEEDS = 40
BATCH = 10


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_power_cuts(first: int) -> None:
    worlds = [judged_power(seed) for seed in range(first, first + BATCH)]
    assert sum(world.restored for world in worlds) > BATCH / 2


@pytest.mark.parametrize("story", [one.story for one, _ in POWER_VARIANTS.values() if one.story is not None])
def test_a_sound_cluster_comes_through_the_stories(story: Callable[[PowerWorld], None]) -> None:
    for seed in range(4):
        judged_power(seed, PowerVariant(story=story))


def test_one_seed_is_one_run() -> None:
    assert len({judged_power(3).record.trace for _ in range(2)}) == 1
