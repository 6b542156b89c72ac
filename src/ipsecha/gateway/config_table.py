"""Walks the tables of a parsed file: typed reads that note a problem and go on, so that one run finds all mistakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from ipsecha.gateway.config_problems import ConfigProblem, ProblemList, nearest_name, shown
from ipsecha.gateway.config_source import KeyPath, Source, dotted
from ipsecha.gateway.config_values import Wrong
from ipsecha.model.errors import PolicyError

T = TypeVar("T")
D = TypeVar("D")
Convert = Callable[[Any], T]
"""Turns a TOML value into the value wanted; raises ``Wrong`` or PolicyError with what was expected."""


class Table:
    """One table of the file.  Every key that is read is remembered: ``finish`` reports the others."""

    def __init__(self, source: Source, problems: ProblemList, path: KeyPath = (), data: dict[str, Any] | None = None):
        self._source = source
        self._problems = problems
        self._path = path
        self._data = source.data if data is None else data
        self._asked: set[str] = set()

    @property
    def source(self) -> Source:
        return self._source

    @property
    def problems(self) -> ProblemList:
        return self._problems

    @property
    def name(self) -> str:
        """The last part of the table's path: the name of a connection, a child, a peer."""
        return str(self._path[-1]) if self._path else ""

    @property
    def path_text(self) -> str:
        return dotted(self._path)

    @property
    def empty(self) -> bool:
        return not self._data

    def has(self, key: str) -> bool:
        self._asked.add(key)
        return key in self._data

    def says(self, key: str, word: object) -> bool:
        """Whether the value of the key is this very one."""
        return self.has(key) and self._data[key] == word

    def problem(
        self,
        key: str | KeyPath,
        text: str,
        nearest: str = "",
        level: Literal["error", "warning"] = "error",
    ) -> None:
        """Note a problem of ``key`` in this table; an empty key stands for the table itself."""
        path = (*self._path, *((key,) if isinstance(key, str) and key else key or ()))
        place = ConfigProblem(self._source.name, self._source.line(path), dotted(path), text, nearest, level)
        self._problems.add(place)

    def warn(self, key: str | KeyPath, text: str) -> None:
        self.problem(key, text, level="warning")

    def get(self, key: str, convert: Convert[T], default: T) -> T:
        """The value of an optional key; a wrong one is noted and the default returned."""
        if not self.has(key):
            return default
        return self._converted((key,), self._data[key], convert, default)

    def require(self, key: str, convert: Convert[T], expected: str) -> T | None:
        """The value of a key that must be there; None where it is missing or wrong (which has been noted)."""
        if not self.has(key):
            self.problem("", f'"{key}" is missing: expected {expected}')
            return None
        return self._converted((key,), self._data[key], convert, None)

    def get_list(self, key: str, convert: Convert[T], default: tuple[T, ...] = ()) -> tuple[T, ...]:
        """One value or a list of values; each wrong item is noted, an empty list too."""
        if not self.has(key):
            return default
        value = self._data[key]
        if not isinstance(value, list):
            one = self._converted((key,), value, convert, None)
            return () if one is None else (one,)
        if not value:
            self.problem(key, "expected at least one value, found an empty list")
        items = [self._converted((key, position), item, convert, None) for position, item in enumerate(value)]
        return tuple(item for item in items if item is not None)

    def require_list(self, key: str, convert: Convert[T], expected: str) -> tuple[T, ...]:
        if not self.has(key):
            self.problem("", f'"{key}" is missing: expected {expected}')
        return self.get_list(key, convert)

    def _converted(self, key: KeyPath, value: object, convert: Convert[T], default: D) -> T | D:
        try:
            return convert(value)
        except Wrong as wrong:
            self.problem(key, wrong.text, wrong.nearest)
        except PolicyError as error:
            self.problem(key, str(error))
        return default

    def table(self, key: str) -> Table:
        """A table within this one; an empty one where it is missing or no table."""
        value = self._data.get(key, {}) if self.has(key) else {}
        if not isinstance(value, dict):
            self.problem(key, f"expected a table ([{dotted((*self._path, key))}]), found {shown(value)}")
            value = {}
        return Table(self._source, self._problems, (*self._path, key), value)

    def named_tables(self, key: str) -> list[Table]:
        """The tables ``[key.NAME]``, in the order of the file."""
        outer = self.table(key)
        return [outer.table(name) for name in outer._data if isinstance(outer._data[name], dict) or outer._bad(name)]

    def _bad(self, name: str) -> bool:
        expected = f"expected a table ([{dotted((*self._path, name))}])"
        self.problem(name, f"{expected}, found {shown(self._data[name])}")
        return False

    def table_array(self, key: str) -> list[Table]:
        """The tables ``[[key]]``, in the order of the file."""
        value = self._data.get(key, []) if self.has(key) else []
        if not isinstance(value, list):
            self.problem(key, f"expected tables ([[{dotted((*self._path, key))}]]), found {shown(value)}")
            return []
        result = []
        for position, item in enumerate(value):
            if isinstance(item, dict):
                result.append(Table(self._source, self._problems, (*self._path, key, position), item))
            else:
                self.problem((key, position), f"expected a table, found {shown(item)}")
        return result

    def names(self) -> tuple[str, ...]:
        """All keys, for tables whose keys are names that the operator chooses."""
        return tuple(self._data)

    def length(self, key: str) -> int:
        """How many items the list has, right or wrong ones; 1 for a single value."""
        value = self._data.get(key, [])
        return len(value) if isinstance(value, list) else 1

    def finish(self) -> None:
        """Note every key that nobody asked for."""
        for key in self._data:
            if key not in self._asked:
                self.problem(key, "unknown key", nearest_name(key, self._asked))
