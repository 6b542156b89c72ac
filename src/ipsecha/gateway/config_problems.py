"""What is wrong with a configuration: every mistake at once, each with its place and the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

import msgspec

from ipsecha.model.errors import PolicyError

MAX_PROBLEMS = 200
_MAX_SHOWN = 60


class ConfigProblem(msgspec.Struct, frozen=True, order=True):
    """One mistake.  ``line`` is 0 where the whole file is meant, ``key`` is dotted (``connections.paris.life``)."""

    file: str
    line: int
    key: str
    text: str
    nearest: str = ""  # the valid name that was probably meant
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        subject = f"{self.key}: " if self.key else ""
        hint = f'; did you mean "{self.nearest}"?' if self.nearest else ""
        mark = "warning: " if self.level == "warning" else ""
        return f"{place}: {mark}{subject}{self.text}{hint}"


class ConfigError(PolicyError):
    """A configuration that cannot be used; ``problems`` holds every mistake found, warnings included."""

    def __init__(self, problems: Iterable[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ProblemList:
    """Collects problems while the files are read.  Bounded: a hostile file costs a page of text, not more."""

    def __init__(self) -> None:
        self._problems: dict[ConfigProblem, None] = {}

    def add(self, problem: ConfigProblem) -> None:
        """Note a problem; the same one twice counts once."""
        if len(self._problems) < MAX_PROBLEMS:
            self._problems[problem] = None

    @property
    def failed(self) -> bool:
        return any(problem.level == "error" for problem in self._problems)

    def sorted(self) -> tuple[ConfigProblem, ...]:
        """All problems, file by file in the order in which the files were read, and by line within."""
        files = {problem.file: position for position, problem in reversed(list(enumerate(self._problems)))}
        return tuple(sorted(self._problems, key=lambda problem: (files[problem.file], problem.line, problem.key)))

    def raise_if_failed(self) -> None:
        """Raises ConfigError with everything found if anything found is an error."""
        if self.failed:
            raise ConfigError(self.sorted())


def nearest_name(name: str, valid: Iterable[str]) -> str:
    """The valid name that looks most like ``name``, or an empty text where none does."""
    by_lower = {candidate.lower(): candidate for candidate in valid}
    found = difflib.get_close_matches(name[:_MAX_SHOWN].lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


def shown(value: object) -> str:
    """A value as it may stand in a message: short and on one line."""
    text = f'"{value}"' if isinstance(value, str) else _scalar(value)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else "a very large number"
    return str(value)
