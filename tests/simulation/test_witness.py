"""A pair with a witness, under every combination of cuts: nothing is excused.  Each broken variant is found out; the
table of them stands in docs/simulation.md."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulation.broken import BROKEN
from simulation.table import noticed_by
from simulation.variants_witness import WITNESS_VARIANTS
from witness_stories import asleep_during_a_vote, refused_when_the_partner_comes_up
from witness_world import WITNESS_FAULTS, WitnessedWorld, judged

SEEDS = 240
BATCH = 20
NAMES = [name for name, broken in BROKEN.items() if broken.level == "witness"]


MORE = [pytest.param(first, marks=pytest.mark.slow) for first in range(BATCH, SEEDS, BATCH)]


@pytest.mark.parametrize("first", [0, *MORE])
def test_faults_of_all_kinds(first: int) -> None:
    for seed in range(first, first + BATCH):
        judged(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_cuts_of_all_kinds(first: int) -> None:
    """Between the members, between member and witness, each way alone; nobody dies."""
    cuts = ("partition", "deaf", "cut", *WITNESS_FAULTS)
    for seed in range(first, first + BATCH):
        judged(seed, cuts)


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_variant_is_found_out(name: str) -> None:
    assert noticed_by(name) in BROKEN[name].checkers


@pytest.mark.parametrize("faults", sorted({one.faults for one in WITNESS_VARIANTS if one.faults}), ids="+".join)
def test_a_sound_pair_passes_where_broken_ones_fail(faults: tuple[str, ...]) -> None:
    for seed in range(20):
        judged(seed, faults)


@pytest.mark.parametrize("story", [asleep_during_a_vote, refused_when_the_partner_comes_up])
def test_a_sound_pair_comes_through_the_stories(story: Callable[[WitnessedWorld], WitnessedWorld]) -> None:
    for seed in range(60):
        story(WitnessedWorld(seed))
