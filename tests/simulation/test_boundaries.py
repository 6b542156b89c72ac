"""Each boundary between two acts of a member is a place where a fault may strike."""

from __future__ import annotations

import pytest

from simulation import boundaries
from simulation.stories import FAULTS, STORIES

LATE = [name for name in FAULTS if name != "crash"]


@pytest.mark.parametrize("story", STORIES)
def test_a_member_dies_at_every_boundary(story: str) -> None:
    walk = boundaries.Walk(boundaries.draw(1, ("crash",), (story,), stride=1, relay=0))
    walk.play()
    assert walk.failovers


@pytest.mark.slow
@pytest.mark.parametrize("fault", LATE)
def test_other_faults_strike_anywhere(fault: str) -> None:
    for seed in range(len(STORIES)):
        boundaries.Walk(boundaries.draw(seed, (fault,), stride=23)).play()


def test_a_walk_reaches_the_end_of_its_story() -> None:
    walk = boundaries.Walk(boundaries.draw(0, ("crash",), ("child rekey by the peer",), stride=1, relay=0))
    walk.play()
    assert walk.over == {("crash: child rekey by the peer", 0), ("crash: child rekey by the peer", 1)}


def test_one_seed_is_one_walk() -> None:
    assert len({boundaries.judged(3).record.trace for _ in range(2)}) == 1
