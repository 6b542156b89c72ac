"""What a run shows: a bar with rate and time left on a terminal, plain lines elsewhere; tables in the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from simulation.broken import BROKEN, Finding
from simulation.levels import Outcome
from simulation.running import Failure, Tally

LINE_EVERY_S = 10.0
PLAIN_WIDTH = 150


class Screen:
    def __init__(self) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console = Console(highlight=False, width=PLAIN_WIDTH)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Bar]:
        if not self.console.is_terminal:
            bar = Bar(self, what, total)
            yield bar
            bar.line()
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[brief]}", markup=False),
        )
        with Progress(*columns, console=self.console, refresh_per_second=5) as progress:
            yield _TerminalBar(self, what, total, progress)


class Bar:
    """Lines, every ten seconds."""

    def __init__(self, screen: Screen, what: str, total: int | None) -> None:
        self._screen, self._what, self._total = screen, what, total
        self._began = self._told = time.monotonic()
        self._done, self._brief = 0, ""

    def advance(self, count: int, brief: str) -> None:
        self._done, self._brief = self._done + count, brief
        self._show()

    def _show(self) -> None:
        if time.monotonic() - self._told > LINE_EVERY_S:
            self.line()

    def line(self) -> None:
        self._told = time.monotonic()
        if self._total is None:
            return
        left = (self._total - self._done) / self.rate if self.rate else 0.0
        self._screen.say(
            f"{self._done:,} of {self._total:,} {self._what}, {self.rate:.1f} a second, {_duration(left)} left; "
            f"{self._brief}"
        )

    @property
    def rate(self) -> float:
        return self._done / max(time.monotonic() - self._began, 0.001)


class _TerminalBar(Bar):
    def __init__(self, screen: Screen, what: str, total: int | None, progress: Progress) -> None:
        super().__init__(screen, what, total)
        self._progress = progress
        self._task = progress.add_task(what, total=total, rate="", brief="")

    def _show(self) -> None:
        self._progress.update(self._task, completed=self._done, rate=f"{self.rate:.1f}/s", brief=self._brief)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def in_brief(tallies: Mapping[str, Tally], failures: Sequence[Failure]) -> str:
    failovers = sum(tally.outcome.failovers for tally in tallies.values())
    return f"{failovers:,} failovers, {len(failures)} failed"


def summary(screen: Screen, tallies: Mapping[str, Tally], failures: Sequence[Failure], seconds: float) -> None:
    table = Table(title=f"{_duration(seconds)} of simulation")
    table.add_column("level")
    for column in (
        "worlds",
        "failovers",
        "a CPU second",
        "messages",
        "packets",
        "split",
        "hours in there",
        "failed",
    ):
        table.add_column(column, justify="right")
    total = Tally()
    for level, tally in tallies.items():
        total = total.plus(tally)
        _row(table, level, tally, sum(failure.level == level for failure in failures))
    if len(tallies) > 1:
        table.add_section()
        _row(table, "all", total, len(failures))
    screen.console.print(table)
    counts: dict[str, int] = {}
    for failure in failures:
        counts[failure.checker] = counts.get(failure.checker, 0) + 1
    if counts:
        screen.say("failed: " + ", ".join(f"{checker} {count}" for checker, count in sorted(counts.items())))


def _row(table: Table, level: str, tally: Tally, failed: int) -> None:
    outcome: Outcome = tally.outcome
    table.add_row(
        level,
        f"{tally.runs:,}",
        f"{outcome.failovers:,}",
        f"{tally.failovers_per_core:.0f}",
        f"{outcome.datagrams:,}",
        f"{outcome.packets:,}",
        f"{outcome.splits:,}",
        f"{outcome.seconds / 3600:,.1f}",
        f"{failed:,}",
    )


def variants(screen: Screen, found: Mapping[str, Finding]) -> int:
    """The table of the broken variants; how many were not found out by a checker that may."""
    table = Table(title="Clusters that are broken on purpose")
    for column in ("level", "variant", "what is broken", "noticed by"):
        table.add_column(column, no_wrap=column in ("level", "variant"))
    table.add_column("seeds needed", justify="right")
    missed = 0
    for name, broken in BROKEN.items():
        if name not in found:
            continue
        checker, seeds = found[name]
        right = checker in broken.checkers
        missed += not right
        told = checker or "nobody"
        if not right:
            told += f" (should be {', '.join(sorted(broken.checkers))})"
        table.add_row(broken.level, broken.name, broken.what, told, f"{seeds:,}")
    screen.console.print(table)
    screen.say(f"{len(found) - missed} of {len(found)} found out")
    return missed
