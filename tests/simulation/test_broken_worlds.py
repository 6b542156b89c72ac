"""The checkers are worth what they catch: each deliberately broken cluster is found out, and by a checker that may.

The table of all of them, with the seeds that it takes, stands in docs/simulation.md.
"""

from __future__ import annotations

import pytest

from simulation.broken import BROKEN
from simulation.table import noticed_by

pytestmark = pytest.mark.slow

TESTED_BESIDE = ("pair", "witness", "mirrors", "mirrors-witness", "seats")
NAMES = [name for name, broken in BROKEN.items() if broken.level not in TESTED_BESIDE]


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_cluster_is_found_out(name: str) -> None:
    assert noticed_by(name) in BROKEN[name].checkers
