"""Whole clusters and their peers under random faults, judged by the record of what went over the wires."""

from __future__ import annotations

import pytest

from simulation.play import judged

SEEDS = 60
BATCH = 10
MORE = [pytest.param(first, marks=pytest.mark.slow) for first in range(BATCH, SEEDS, BATCH)]


@pytest.mark.parametrize("first", [0, *MORE])
def test_faults_of_all_kinds(first: int) -> None:
    for seed in range(first, first + BATCH):
        judged(seed)


def test_one_seed_is_one_run() -> None:
    """Also where owners follow each other; in other processes: ``test_determinism.py``."""
    worlds = [judged(20) for _ in range(2)]
    assert worlds[0].failovers >= 2
    assert worlds[0].record.trace == worlds[1].record.trace
