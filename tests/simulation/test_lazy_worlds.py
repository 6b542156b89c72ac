"""``commit = "lazy"`` in whole worlds: owners die with commits under way, and two seconds later every tunnel works.

| variant | what is broken | noticed by | seeds needed |
|---|---|---|---|
| suspects-not-marked | the records do not say that an SA is open | commit | 8 |
| opened-without-ack | the first step of an SA leaves at once, too | commit | 1 |
| suspects-not-repaired | the new owner does not look after its suspects | I4 | 8 |
| any-answer | whatever answers a probe ends the repair | repair | 5 |
| no-evidence | requests of the peer that are ahead are dropped | I4 | 36 |
"""

from __future__ import annotations

import pytest

from simulation.lazy import VARIANTS, judged_lazily
from simulation.violation import Violation

SEEDS = 60


@pytest.mark.parametrize("seed", range(6))
def test_two_seconds_after_each_takeover_every_tunnel_works(seed: int) -> None:
    judged_lazily(seed)


@pytest.mark.slow
def test_many_worlds() -> None:
    assert sum(judged_lazily(seed).record.lost for seed in range(6, 60)) > 10, "hardly an update was lost"


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_broken_cluster_is_found_out(name: str) -> None:
    variant, checkers = VARIANTS[name]
    found = ""
    for seed in range(SEEDS):
        try:
            judged_lazily(seed, variant)
        except Violation as violation:
            found = violation.checker
            break
    assert found in checkers
