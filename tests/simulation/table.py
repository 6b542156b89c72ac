"""The table of broken variants in docs/simulation.md: written by a run, read by a test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from simulation.broken import BROKEN, Finding

PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"
BEGIN, END = "<!-- variants -->\n", "<!-- /variants -->\n"
_ROW = re.compile(r"^\| (\S+) \| (\S+) \| (.+) \| (\S+) \| (\d+) \|$", re.M)


def rows() -> list[tuple[str, str, str, str, int]]:
    """Level, variant, what is broken, who noticed it, and the seeds that it took: as the page has them."""
    text = PAGE.read_text() if PAGE.exists() else ""
    part = text.partition(BEGIN)[2].partition(END)[0]
    return [(*row[:4], int(row[4])) for row in _ROW.findall(part)]


def recorded() -> dict[str, int]:
    """Seeds needed, by ``level/variant``, when the page was last written."""
    return {f"{level}/{name}": seeds for level, name, _, _, seeds in rows()}


def write_table(found: Mapping[str, Finding]) -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    """With what was found out now; what was not, stays as it was."""
    known = {f"{level}/{name}": Finding(checker, seeds) for level, name, _, checker, seeds in rows()}
    known |= {name: one for name, one in found.items() if one.checker in BROKEN[name].checkers}
    lines = ["| level | variant | what is broken | noticed by | seeds needed |\n", "|---|---|---|---|---|\n"]
    lines += [
        f"| {one.level} | {one.name} | {one.what} | {known[name].checker} | {known[name].seeds} |\n"
        for name, one in BROKEN.items()
        if name in known
    ]
    PAGE.write_text("".join([before, BEGIN, *lines, END, after]))
