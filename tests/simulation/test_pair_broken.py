"""The checkers are worth what they catch: each deliberately broken member is found out, and by the right checker.

The table of all of them, with the seeds that it takes, stands in docs/simulation.md.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster_faults import judged
from cluster_world import World
from simulation.broken import BROKEN
from simulation.table import noticed_by
from simulation.variants_pair import PAIR_VARIANTS, kinds_of

pytestmark = pytest.mark.slow

NAMES = [name for name, broken in BROKEN.items() if broken.level == "pair"]


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_member_is_found_out(name: str) -> None:
    assert noticed_by(name) in BROKEN[name].checkers


@pytest.mark.parametrize("faults", sorted({kinds_of(broken) for broken in PAIR_VARIANTS} - {()}), ids="+".join)
def test_a_sound_member_passes_where_broken_ones_fail(faults: tuple[str, ...]) -> None:
    for seed in range(12):
        judged(seed, faults=faults)


@pytest.mark.parametrize("story", [broken[2] for broken in PAIR_VARIANTS if callable(broken[2])])
def test_a_sound_member_comes_through_the_stories(story: Callable[[World], World]) -> None:
    for seed in range(12):
        story(World(seed))
