"""One seed is one run, in any process: whatever the order of sets and the addresses of objects are there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from simulation.levels import LEVELS

SEEDS = {"power": 2, "full": 20, "trio": 20}
"""Worlds in which owners follow each other; elsewhere the first one will do."""
FAILOVERS = 2
PROGRAM = """
import sys
from simulation.levels import LEVELS, replay

for level, seed in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    outcome = replay(LEVELS[level].draw(seed, ()))
    print(level, outcome.failovers, outcome.packets, outcome.trace)
"""


def _started(hash_seed: str) -> subprocess.Popen[str]:
    worlds = [text for level in LEVELS for text in (level, str(SEEDS.get(level, 1)))]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *worlds], env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def told() -> list[dict[str, list[str]]]:
    """Failovers, packets and trace by level, as each of two processes has them."""
    processes = [_started(hash_seed) for hash_seed in ("1", "77")]
    texts = [process.communicate()[0] for process in processes]
    assert not any(process.returncode for process in processes)
    return [{line.split()[0]: line.split()[1:] for line in text.splitlines()} for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_one_seed_is_one_run_in_any_process(level: str, told: list[dict[str, list[str]]]) -> None:
    one, another = (run[level] for run in told)
    assert one == another
    assert int(one[0]) >= FAILOVERS, "hardly anything happens in this world"
