"""The table of broken variants in docs/simulation.md, and their names on the invariants' pages: written by a run, read
by a test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from simulation.broken import BROKEN, Finding, first_finding
from simulation.violation import Violation

PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"
BEGIN, END = "<!-- variants -->\n", "<!-- /variants -->\n"
INVARIANTS = PAGE.parent / "invariants"
CHECKERS_OF = {
    "I1-nonce.md": {"I1"},
    "I2-outbound.md": {"I2"},
    "I3-inbound.md": {"I3"},
    "I4-message-ids.md": {"I4", "commit", "acks", "lost", "repair"},
    "I5-ownership.md": {"I5", "seat", "alone", "stuck"},
    "I6-secrets.md": {"I6"},
    "I7-denial-of-service.md": {"I7"},
}
"""Whose findings stand on which page."""
_ROW = re.compile(r"^\| (\S+) \| (\S+) \| (.+) \| (\S+) \| (\d+) \|$", re.M)


def rows() -> list[tuple[str, str, str, str, int]]:
    """Level, variant, what is broken, who noticed it, and the seeds that it took: as the page has them."""
    text = PAGE.read_text() if PAGE.exists() else ""
    part = text.partition(BEGIN)[2].partition(END)[0]
    return [(*row[:4], int(row[4])) for row in _ROW.findall(part)]


def recorded() -> dict[str, int]:
    """Seeds needed, by ``level/variant``, when the page was last written."""
    return {f"{level}/{name}": seeds for level, name, _, _, seeds in rows()}


def noticed_by(name: str) -> str:
    """The checker that finds a broken cluster out: at the seed that the page has, or else at the first."""
    known = recorded().get(name, 0)
    if known:
        try:
            BROKEN[name].judge(known - 1)
        except Violation as violation:
            return violation.checker
    return first_finding(BROKEN[name]).checker


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
    for page in CHECKERS_OF:
        _write_caught(page)


def caught(page: str) -> list[str]:
    """The lines of an invariant's page: the broken clusters that its checkers were the first to find out."""
    return [
        f'- `{level}/{name}` (checker "{checker}"): {what}\n'
        for level, name, what, checker, _ in rows()
        if checker in CHECKERS_OF[page]
    ]


def _write_caught(page: str) -> None:
    before, rest = (INVARIANTS / page).read_text().split(BEGIN)
    (INVARIANTS / page).write_text("".join([before, BEGIN, *caught(page), END, rest.split(END)[1]]))
