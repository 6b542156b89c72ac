"""Random faults on a pair of members; every run is judged by the checkers of ``cluster_world``."""

from __future__ import annotations

import pytest

from cluster_faults import RELAY, judged

SEEDS = 250
BATCH = 25
MORE = [pytest.param(first, marks=pytest.mark.slow) for first in range(BATCH, SEEDS, BATCH)]


@pytest.mark.parametrize("first", [0, *MORE])
def test_faults_of_all_kinds(first: int) -> None:
    for seed in range(first, first + BATCH):
        judged(seed)


def test_one_seed_is_one_run() -> None:
    assert len({judged(7).trace for _ in range(2)}) == 1


def test_owners_follow_each_other() -> None:
    worlds = [judged(seed) for seed in range(10)]
    assert sum(world.failovers for world in worlds) > 0.7 * RELAY * len(worlds)
