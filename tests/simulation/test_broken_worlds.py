"""The checkers are worth what they catch: each deliberately broken cluster is found out, and by a checker that may.

| variant | what is broken | noticed by | seeds needed |
|---|---|---|---|
| no-output-commit | messages leave before the backup has acknowledged | commit | 9 |
| carried-out-before-commit | everything is carried out at once, then replicated | commit | 2 |
| response-not-in-the-record | the last response is not replicated | commit | 1 |
| request-not-in-the-record | the request in flight is not replicated | commit | 1 |
| epoch-not-checked | writes of a former owner are applied | I5 | 59 |
| epoch-does-not-grow | a takeover keeps the epoch | I5 | 1 |
| iv-without-incarnation | SK IVs are the counter alone | I1 | 1 |
| announced-once | the addresses are not announced again once the rival has given up | I4 | 7 |
| ack-before-apply | the backup acknowledges what it has not applied | commit | 1 |
| takeover-at-the-ceiling | a takeover after silence starts at the ceiling, not above the lanes | I2 | 60 |
| floor-below-the-ceiling | the inbound floor is a number below the ceiling | I3 | 23 |
| lease-without-ack | a lease is used before it is acknowledged | I3 | 55 |
| snapshot-without-tail | changes during a snapshot are not sent | commit | 1 |
| stale-records-kept | a backup joins with the records it had | commit | 4 |
"""

from __future__ import annotations

import pytest

from simulation.play import judged
from simulation.record import Violation
from simulation.variants import VARIANTS

SEEDS = 150


def _first_finding(name: str) -> tuple[int, str]:
    variant, _ = VARIANTS[name]
    for seed in range(SEEDS):
        try:
            judged(seed, variant)
        except Violation as violation:
            return seed + 1, violation.checker
    return SEEDS, "nothing"


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_broken_cluster_is_found_out(name: str) -> None:
    assert _first_finding(name)[1] in VARIANTS[name][1]
