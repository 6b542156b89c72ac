"""Whole gateways and their peers with a witness: cuts between all three boxes, and nothing is excused.

| variant | what is broken | found by |
|---|---|---|
| votes twice | the witness gives an epoch's vote to both | commit, I2, I3, I4 |
| goes on before the vote | an owner goes on when it has asked | commit, I2, I3, I4 |
| takes over before the vote | a backup takes over when it has asked | commit, I2, I3, I4 |
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulation.play import judged
from simulation.third_box import witnessed
from simulation.variants_witness import GoesOnBeforeTheVote, TakesOverBeforeTheVote, VotesTwice
from simulation.violation import Violation
from simulation.world import Variant

pytestmark = pytest.mark.slow

SEEDS = 40
BATCH = 10
CUTS = ("partition", "mend", "crash")
BROKEN = (
    witnessed("votes twice", ledger=VotesTwice, faults=CUTS),
    witnessed("goes on before the vote", GoesOnBeforeTheVote, faults=CUTS),
    witnessed("takes over before the vote", TakesOverBeforeTheVote, faults=CUTS),
)


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_faults_of_all_kinds(first: int) -> None:
    for seed in range(first, first + BATCH):
        assert not judged(seed, witnessed()).record.has_split


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_cuts_and_deaths(first: int) -> None:
    for seed in range(first, first + BATCH):
        judged(seed, witnessed(faults=CUTS))


def _found(variant: Variant) -> Iterator[str]:
    for seed in range(150):
        try:
            judged(seed, variant)
        except Violation as violation:
            yield violation.checker


@pytest.mark.parametrize("variant", BROKEN, ids=lambda variant: variant.name)
def test_a_broken_pair_is_found_out(variant: Variant) -> None:
    assert next(_found(variant), None) in {"commit", "I2", "I3", "I4"}
