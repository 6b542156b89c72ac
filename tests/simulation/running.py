"""Many seeds on all cores: what the workers do, and what becomes of their results."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool
from typing import NamedTuple

from simulation.broken import BROKEN, Finding, first_finding
from simulation.levels import LEVELS, Outcome, level_of
from simulation.violation import Violation

BATCH = 16
"""Seeds that a worker takes at once: some tenths of a second."""


class Failure(NamedTuple):
    level: str
    seed: int
    checker: str
    text: str


class Tally(NamedTuple):
    """What one level has done; ``cpu_s``: of the workers."""

    runs: int = 0
    cpu_s: float = 0.0
    outcome: Outcome = Outcome()

    def plus(self, other: Tally) -> Tally:
        return Tally(self.runs + other.runs, self.cpu_s + other.cpu_s, self.outcome.plus(other.outcome))

    @property
    def failovers_per_core(self) -> float:
        """Failovers a second of one core's time."""
        return self.outcome.failovers / self.cpu_s if self.cpu_s else 0.0


class Job(NamedTuple):
    """``levels``: that every seed plays; none: each plays its own."""

    levels: tuple[str, ...]
    first: int
    seeds: int


class Batch(NamedTuple):
    seeds: int
    tallies: dict[str, Tally]
    failures: list[Failure]


def jobs_for(levels: tuple[str, ...], first: int, seeds: int) -> Iterator[Job]:
    for start in range(first, first + seeds, BATCH):
        yield Job(levels, start, min(BATCH, first + seeds - start))


def carry_out(job: Job) -> Batch:
    """In a worker."""
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    failures = []
    for seed in range(job.first, job.first + job.seeds):
        for level in job.levels or (level_of(seed),):
            began = time.process_time()
            outcome = Outcome()
            try:
                outcome = LEVELS[level].judge(seed)._replace(trace="")
            except Violation as violation:
                failures.append(Failure(level, seed, violation.checker, str(violation)))
            except Exception as error:
                failures.append(Failure(level, seed, "exception", f"{type(error).__name__}: {error}"))
            tallies[level] = tallies[level].plus(Tally(1, time.process_time() - began, outcome))
    return Batch(job.seeds, dict(tallies), failures)


def find(name: str) -> tuple[str, Finding]:
    """In a worker: how soon a broken variant is found out."""
    try:
        return name, first_finding(BROKEN[name])
    except Exception as error:  # it breaks more than it should, or has not kept up with the code
        return name, Finding(type(error).__name__, 0)


@contextmanager
def workers(jobs: int = 0) -> Iterator[Pool]:
    """Processes, by default one a core.  An interrupt is the parent's business."""
    pool = multiprocessing.get_context("fork").Pool(jobs or os.cpu_count() or 1, _begin)
    try:
        yield pool
    finally:
        pool.terminate()
        pool.join()


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    quiet()


def quiet() -> None:
    """What gateways log is no news here, and worlds leave no cycles worth the time of the collector's young ages."""
    logging.getLogger("ipsecha").setLevel(logging.CRITICAL)
    gc.freeze()
    gc.set_threshold(300_000, 50, 1000)


def rarest_first(names: Iterable[str], needed: dict[str, int]) -> list[str]:
    """The variants that take long begin first, so that no core is idle in the end."""
    return sorted(names, key=lambda name: -needed.get(name, 1_000_000))
