"""Inbound numbers given back, in the model of a pair: owners that lower their ceilings all the time, through faults.

Those that are broken on purpose are in ``test_pair_broken.py``.
"""

from __future__ import annotations

import pytest

from simulation.variants_giving_back import FAULTS, GivingBack, judged_giving_back

SEEDS = 60


@pytest.mark.slow
@pytest.mark.parametrize("faults", [(), FAULTS, ("switchover", "crash"), ("partition",)], ids="+".join)
def test_no_number_is_accepted_twice(faults: tuple[str, ...]) -> None:
    before = GivingBack.given_back
    for seed in range(SEEDS):
        judged_giving_back(seed, GivingBack, faults)
    assert GivingBack.given_back > before + SEEDS
