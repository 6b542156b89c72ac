"""Two clusters that face each other (RFC 6311): one owner dies, and both at the same moment, again and again.

With ``commit = "lazy"`` updates are lost on both sides.  Two seconds after each takeover the tunnel works in both
directions; then every exchange works from either side, both believe the same, and the IKE SA has not been made anew.

| variant | what is broken | noticed by | seeds needed |
|---|---|---|---|
| deaf-while-asking | who asks for new message IDs answers nobody who does | I4 | 2 |
| not-the-higher | message IDs become what the other side says | I4 | 1 |
| numbers-stay | who is asked to skip outbound numbers does not | repair | 28 |
| rekeys-stay-open | the record of an IKE SA's rekey says that something may be missing | I4 | 10 |
"""

from __future__ import annotations

import pytest

from simulation.facing_broken import VARIANTS
from simulation.facing_play import AGREED, judged_facing
from simulation.lazy import LazyVariant
from simulation.violation import Violation

SEEDS = 100
FAILOVERS = 6
"""Of both sides together: one by one, and twice at once."""


@pytest.mark.parametrize("seed", range(4))
def test_lazy_clusters_agree_again(seed: int) -> None:
    world = judged_facing(seed)
    assert sum(side.failovers for side in world.sides) >= FAILOVERS
    assert any(side.events[AGREED] for side in world.sides)


@pytest.mark.parametrize("seed", range(4))
def test_strict_clusters_lose_nothing(seed: int) -> None:
    """There is nothing to be repaired: message IDs need not be agreed upon."""
    world = judged_facing(seed, LazyVariant("strict", strict=True))
    assert sum(side.failovers for side in world.sides) >= FAILOVERS
    assert world.record.lost == 0
    assert not any(side.events[AGREED] for side in world.sides)


@pytest.mark.slow
def test_many_worlds() -> None:
    """Updates are lost, both sides ask at the same moment, and gaps are closed by numbers that are skipped."""
    worlds = [judged_facing(seed) for seed in range(4, 40)]
    assert sum(world.record.lost for world in worlds) > len(worlds) // 2
    assert sum(world.both_asked for world in worlds) > len(worlds)
    assert sum(bool(side.raised) for world in worlds for side in world.sides) > len(worlds) // 8


@pytest.mark.slow
def test_many_strict_worlds() -> None:
    worlds = [judged_facing(seed, LazyVariant("strict", strict=True)) for seed in range(4, 24)]
    assert any(side.raised for world in worlds for side in world.sides)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_broken_cluster_is_found_out(name: str) -> None:
    variant, checkers = VARIANTS[name]
    found = ""
    for seed in range(SEEDS):
        try:
            judged_facing(seed, variant)
        except Violation as violation:
            found = violation.checker
            break
    assert found in checkers
