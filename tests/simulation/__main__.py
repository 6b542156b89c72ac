"""``python -m simulation [seeds]``: simulated clusters under random faults, and the broken ones that must be found out.

Each seed is one world, at the level of simulation that falls to it, or at those that are asked for.  A seed that fails
is cut down to the events that it takes, and told as a story with its trace.
"""

from __future__ import annotations

import argparse
import sys
import time
from multiprocessing.pool import Pool
from pathlib import Path

import msgspec

from simulation import reporting
from simulation.broken import BROKEN, Finding
from simulation.levels import LEVELS, SOUND, faults_of, replay
from simulation.plan import Plan, decode_plan, encode_plan
from simulation.reporting import Screen
from simulation.running import Failure, Tally, carry_out, find, jobs_for, quiet, rarest_first, workers
from simulation.shrink import Shrinker, finding
from simulation.table import recorded, write_table

REGRESSIONS = Path(__file__).parent / "regressions"


def main() -> int:
    arguments = _arguments()
    screen = Screen()
    quiet()
    if arguments.replay:
        return _show(screen, decode_plan(arguments.replay.read_bytes()))
    if arguments.seed is not None:
        return _one(screen, arguments)
    try:
        return _many(screen, arguments)
    except KeyboardInterrupt:
        screen.say("interrupted")
        return 130


def _many(screen: Screen, arguments: argparse.Namespace) -> int:
    levels = tuple(arguments.level or ())
    missed = 0
    failures: list[Failure] = []
    with workers(arguments.jobs) as pool:
        if not arguments.only_variants:
            failures = _seeds(screen, pool, levels, arguments.first, arguments.seeds)
        if not arguments.no_variants:
            missed = _variants(screen, pool, levels, arguments)
    for failure in failures[: arguments.shrink]:
        _shrink(screen, failure, arguments.keep)
    return 1 if failures or missed else 0


def _seeds(screen: Screen, pool: Pool, levels: tuple[str, ...], first: int, seeds: int) -> list[Failure]:
    failures: list[Failure] = []
    began, tallies = time.monotonic(), {level: Tally() for level in levels or LEVELS}
    try:
        with screen.progress("seeds", seeds) as progress:
            for batch in pool.imap_unordered(carry_out, jobs_for(levels, first, seeds)):
                failures += batch.failures
                for failure in batch.failures:
                    screen.say(f"seed {failure.seed}, level {failure.level}: {failure.text.splitlines()[0]}")
                for level, tally in batch.tallies.items():
                    tallies[level] = tallies[level].plus(tally)
                progress.advance(batch.seeds, reporting.in_brief(tallies, failures))
    finally:
        reporting.summary(screen, tallies, failures, time.monotonic() - began)
    return failures


def _variants(screen: Screen, pool: Pool, levels: tuple[str, ...], arguments: argparse.Namespace) -> int:
    """How many of the broken variants were not found out as they should."""
    names = [name for name, one in BROKEN.items() if one.level in (levels or LEVELS) and arguments.named in name]
    found: dict[str, Finding] = {}
    with screen.progress("broken clusters", len(names)) as progress:
        for name, one in pool.imap_unordered(find, rarest_first(names, recorded())):
            found[name] = one
            progress.advance(1, f"{name}: {one.checker or 'not found out'}")
    missed = reporting.variants(screen, found)
    if arguments.write_table:
        write_table(found)
    return missed


def _plan_of(level: str, seed: int, variant: str = SOUND) -> Plan:
    return msgspec.structs.replace(LEVELS[level].draw(seed, faults_of(level, variant)), variant=variant)


def _shrink(screen: Screen, failure: Failure, keep: bool) -> None:
    plan = _plan_of(failure.level, failure.seed)
    found = finding(plan)
    if found is None:
        screen.say(f"seed {failure.seed}, level {failure.level} cannot be shrunk: {failure.text}")
        return
    with screen.progress(f"shrinking seed {failure.seed}", None) as progress:
        shrinker = Shrinker(plan, found, lambda smaller: progress.advance(1, f"{len(smaller.events)} events"))
        plan = shrinker.shrink()
    _show(screen, plan)
    if keep:
        _keep(screen, plan, found.checker)


def _keep(screen: Screen, plan: Plan, checker: str) -> None:
    path = REGRESSIONS / f"{plan.level}-{plan.seed}-{checker}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode_plan(plan))
    screen.say(f"kept as {path}: the tests replay it from now on")


def _one(screen: Screen, arguments: argparse.Namespace) -> int:
    """One seed, told whole; where it fails it is shrunk, unless by ``--shrink 0``, and kept with ``--keep``.  What
    broken members do is not kept: it would fail for ever."""
    plan = _plan_of((arguments.level or ["full"])[0], arguments.seed, arguments.variant)
    found = finding(plan)
    if found is not None and arguments.shrink:
        plan = Shrinker(plan, found).shrink()
    if found is not None and arguments.keep and plan.variant == SOUND:
        _keep(screen, plan, found.checker)
    return _show(screen, plan)


def _show(screen: Screen, plan: Plan) -> int:
    """The story of a plan, its trace, and what came of it."""
    screen.say(plan.story())
    if found := finding(plan, whole=True):
        screen.say("\n".join(found.__notes__))
        screen.say(str(found))
        return 1
    outcome = replay(plan)
    screen.say(f"{outcome.failovers} failovers, {outcome.packets} packets; trace {outcome.trace}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    add = parser.add_argument
    add("seeds", type=int, nargs="?", default=200, help="how many (default: 200)")
    add("--first", type=int, default=0, help="the first seed")
    add("--level", action="append", choices=sorted(LEVELS), help="all seeds play this level; may be repeated")
    add("--jobs", type=int, default=0, help="processes (default: one a core)")
    add("--only-variants", "--variants", action="store_true", help="only the clusters that are broken on purpose")
    add("--no-variants", action="store_true", help="leave them out")
    add("--named", default="", metavar="TEXT", help="only broken clusters with this in their name")
    add("--write-table", action="store_true", help="write what was found out about them to docs/simulation.md")
    add("--shrink", type=int, default=1, metavar="N", help="cut so many failing seeds down (default: 1)")
    add("--keep", action="store_true", help="keep what is left of them as regressions")
    add("--seed", type=int, help="play this seed alone, and tell all of it")
    add("--variant", default=SOUND, help="with --seed: members broken in this way")
    add("--replay", type=Path, metavar="FILE", help="play a plan that was kept, and tell all of it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
