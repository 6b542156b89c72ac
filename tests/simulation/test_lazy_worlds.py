"""``commit = "lazy"`` in whole worlds: owners die with commits under way, and two seconds later every tunnel works.

Those that are broken on purpose are in ``test_broken_worlds.py``.
"""

from __future__ import annotations

import pytest

from simulation.lazy import judged_lazily


@pytest.mark.parametrize("seed", range(6))
def test_two_seconds_after_each_takeover_every_tunnel_works(seed: int) -> None:
    judged_lazily(seed)


@pytest.mark.slow
def test_many_worlds() -> None:
    assert sum(judged_lazily(seed).record.lost for seed in range(6, 60)) > 10, "hardly an update was lost"
