"""Figures and what they are compared with.

A figure alone says little about software: machines differ, and so do two minutes of one machine.  So each figure names
a reference that was measured in the same run, and the ratio is what counts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec


class Goal(msgspec.Struct, frozen=True):
    """A bound that the project has set itself: for the ratio to the reference, or for the value itself."""

    limit: float
    of: str = "ratio"  # or "value"
    at_least: bool = False

    def met(self, figure: Figure) -> bool:
        measured = figure.ratio if self.of == "ratio" else figure.value
        if measured is None:
            return False
        return measured >= self.limit if self.at_least else measured <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}{'x' if self.of == 'ratio' else ''}"


class Figure(msgspec.Struct):
    """One measured value; ``reference`` says in words what ``reference_value`` (in the same unit) belongs to."""

    name: str
    value: float
    unit: str
    reference: str = ""
    reference_value: float | None = None
    goal: Goal | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.reference_value if self.reference_value else None


T = TypeVar("T")

Step = Callable[[str], None]
"""One step of a topic's work is done; the text says what comes next."""


class Context(msgspec.Struct):
    """What a topic may use: a directory of its own, and whether to be quick about it."""

    directory: Path
    quick: bool
    step: Step

    def count(self, thorough: T, quick: T) -> T:
        """How often, how many, how long: by the patience of whoever runs this."""
        return quick if self.quick else thorough


class Topic(msgspec.Struct, frozen=True):
    """Something that is measured.  ``missing`` gives None, or the reason why it cannot be measured here;
    ``steps`` is how often ``run`` calls ``Context.step``."""

    name: str
    title: str
    run: Callable[[Context], list[Figure]]
    steps: Callable[[bool], int]
    missing: Callable[[], str | None] = lambda: None
