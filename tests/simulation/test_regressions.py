"""Plans that once failed, cut down to what it took: they hold now.  ``make sim SIM=--keep`` adds to them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from simulation import play
from simulation.broken import BROKEN
from simulation.levels import LEVELS, replay
from simulation.plan import PACKETS, Plan, decode_plan, encode_plan, without
from simulation.shrink import Shrinker, finding

KEPT = sorted((Path(__file__).parent / "regressions").glob("*.json"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_once_failed_holds(path: Path) -> None:
    replay(decode_plan(path.read_bytes()))


@pytest.mark.parametrize("level", LEVELS)
def test_a_plan_is_data(level: str) -> None:
    draw = LEVELS[level].draw
    plan = draw(3, ())
    assert decode_plan(encode_plan(plan)) == plan == draw(3, ())
    assert replay(plan) == replay(decode_plan(encode_plan(plan)))


def test_events_can_be_left_out_without_a_change_to_the_others() -> None:
    plan = play.draw(5)
    smaller = without(plan, range(1, len(plan.events), 2))
    kept = plan.events[::2]
    assert [event.chance for event in smaller.events] == [event.chance for event in kept]
    times = [sum(event.pause_s for event in plan.events[: index + 1]) for index in range(0, len(plan.events), 2)]
    assert [round(sum(event.pause_s for event in smaller.events[: index + 1]), 4) for index in range(len(kept))] == [
        round(time, 4) for time in times
    ]


def _failing(name: str) -> Plan:
    level, variant = name.split("/")
    draw = LEVELS[level].draw
    faults = {"pair": ("crash", "slow"), "full": ("crash", "slow_channel")}[level]
    for seed in range(200):
        plan = msgspec.structs.replace(draw(seed, faults), variant=variant)
        if finding(plan) is not None:
            return plan
    raise AssertionError(f"{name} is not found out")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pair/released-before-ack", "full/ack-before-apply"])
def test_a_failing_plan_shrinks_and_still_fails_in_the_same_way(name: str) -> None:
    plan = _failing(name)
    found = finding(plan)
    assert found is not None
    smaller = Shrinker(plan, found).shrink()
    assert sum(event.what != PACKETS for event in smaller.events) <= 4
    again = finding(smaller)
    assert again is not None
    assert again.checker in BROKEN[name].checkers
    assert str(again) == smaller.found
    assert smaller.story().count("\n") < 12
