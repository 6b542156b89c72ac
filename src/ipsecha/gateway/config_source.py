"""A TOML file with the line of every key.

``tomllib`` tells no positions.  The scanner below walks a text that tomllib has already accepted, so it needs to know
only where keys begin and where values end: headers, dotted keys, strings of four kinds, arrays and inline tables.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from ipsecha.gateway.config_problems import ConfigProblem, ProblemList, shown

MAX_FILE = 8 * 1024 * 1024

KeyPath = tuple[str | int, ...]
"""Where a value stands: table names and, within arrays, positions from 0."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\r\n]*")
_BASIC_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_LITERAL_STRING = re.compile(r"'[^']*'")
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'''(?:'{0,2})", re.DOTALL)
_AT_LINE = re.compile(r"\s*\(at line (\d+), column \d+\)$")


class Source(msgspec.Struct, frozen=True):
    """A parsed file; ``lines`` maps key paths to line numbers from 1."""

    path: Path
    name: str  # as shown in messages
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """The line of the key, or of the nearest table around it."""
        while path:
            found = self.lines.get(path)
            if found is not None:
                return found
            path = path[:-1]
        return 0


def dotted(path: KeyPath) -> str:
    """The path as a reader writes it: ``connections.paris.children.lan``, ``rules[2].local``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            name = part if _BARE_KEY.fullmatch(part) else shown(part)
            text += f".{name}" if text else name
    return text


def read_source(path: Path, problems: ProblemList, name: str = "") -> Source | None:
    """Read and parse one file; notes a problem and returns None where that cannot be done."""
    name = name or str(path)
    try:
        text = read_regular_file(path, MAX_FILE).decode("utf-8")
    except (OSError, ValueError) as error:
        problems.add(ConfigProblem(name, 0, "", f"cannot read the file: {reason_of(error)}"))
        return None
    try:
        data = tomllib.loads(text)
    except RecursionError:
        problems.add(ConfigProblem(name, 0, "", "not valid TOML: nested too deeply"))
        return None
    except tomllib.TOMLDecodeError as error:
        problems.add(_syntax_problem(name, text, str(error)))
        return None
    except ValueError:  # of Python, which bounds the digits of a number
        problems.add(ConfigProblem(name, 0, "", "not valid TOML: a number or a date is out of range"))
        return None
    return Source(path.absolute(), name, data, _Scanner(text.replace("\r\n", "\n")).scan())


def read_regular_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` octets.  Raises OSError or ValueError for anything else: a
    FIFO or a device must not be able to hang the start of the gateway."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it is larger than {limit} octets")
    return data


def reason_of(error: Exception) -> str:
    """Why a file could not be read, without repeating its name."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text (octet {error.start})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)


def _syntax_problem(name: str, text: str, message: str) -> ConfigProblem:
    match = _AT_LINE.search(message)
    line = int(match.group(1)) if match else text.rstrip().count("\n") + 1
    reason = _AT_LINE.sub("", message).removesuffix("(at end of document)").strip()
    reason = "".join(character if character.isprintable() else "?" for character in reason)[:120]
    return ConfigProblem(name, line, "", f"not valid TOML: {reason[:1].lower()}{reason[1:]}")


class _Scanner:
    """Finds the keys of a valid TOML text.  On a text that it does not understand it stops and keeps what it has."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0
        self._lines: dict[KeyPath, int] = {}
        self._table: KeyPath = ()
        self._arrays: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        with contextlib.suppress(RecursionError, ValueError):
            self._document()
        return self._lines

    def _document(self) -> None:
        while True:
            self._skip(_SPACE_AND_LINES)
            if self._at >= len(self._text):
                return
            before = self._at
            if self._text[self._at] == "[":
                self._header()
            else:
                self._pair(self._table)
            if self._at == before:
                return

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match.group()

    def _next(self, token: str) -> bool:
        found = self._text.startswith(token, self._at)
        if found:
            self._at += len(token)
        return found

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _header(self) -> None:
        is_array = self._next("[[")
        if not is_array:
            self._next("[")
        line = self._line_here()
        path = self._inside_arrays(self._key())
        if is_array:
            position = self._arrays.get(path, -1) + 1
            self._arrays[path] = position
            self._lines.setdefault(path, line)
            path = (*path, position)
        self._table = path
        self._note(path, line)
        self._next("]]" if is_array else "]")

    def _inside_arrays(self, key: tuple[str, ...]) -> KeyPath:
        """A header under an array of tables belongs to the array's latest table."""
        path: KeyPath = ()
        for depth, part in enumerate(key):
            path = (*path, part)
            if depth < len(key) - 1 and path in self._arrays:
                path = (*path, self._arrays[path])
        return path

    def _note(self, path: KeyPath, line: int) -> None:
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines and length < len(path):
                break
            self._lines.setdefault(path[:length], line)

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            parts.append(self._simple_key())
            self._skip(_SPACE)
            if not self._next("."):
                return tuple(parts)

    def _simple_key(self) -> str:
        if self._text.startswith('"', self._at):
            quoted = self._skip(_BASIC_STRING)
            return str(tomllib.loads(f"k = {quoted}")["k"]) if quoted else ""
        if self._text.startswith("'", self._at):
            return self._skip(_LITERAL_STRING)[1:-1]
        return self._skip(_BARE_KEY)

    def _pair(self, table: KeyPath) -> None:
        line = self._line_here()
        path = (*table, *self._key())
        self._note(path, line)
        self._next("=")
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        for opening, pattern in (('"""', _LONG_BASIC), ("'''", _LONG_LITERAL), ('"', _BASIC_STRING)):
            if self._text.startswith(opening, self._at):
                self._skip(pattern)
                return
        if self._text.startswith("'", self._at):
            self._skip(_LITERAL_STRING)
        elif self._next("["):
            self._array(path)
        elif self._next("{"):
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        position = 0
        while True:
            self._skip(_SPACE_AND_LINES)
            if self._next("]") or self._at >= len(self._text):
                return
            before = self._at
            self._lines.setdefault((*path, position), self._line_here())
            self._value((*path, position))
            self._skip(_SPACE_AND_LINES)
            self._next(",")
            position += 1
            if self._at == before:
                self._at = len(self._text)

    def _inline_table(self, path: KeyPath) -> None:
        while True:
            self._skip(_SPACE_AND_LINES)
            if self._next("}") or self._at >= len(self._text):
                return
            before = self._at
            self._pair(path)
            self._skip(_SPACE_AND_LINES)
            self._next(",")
            if self._at == before:
                self._at = len(self._text)
