"""The lines of keys: whatever tomllib finds in a text, the scanner finds too."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecha.gateway.config_problems import ConfigError, ProblemList
from ipsecha.gateway.config_source import KeyPath, dotted, read_source

SAMPLE = '''# comment
a = 1
"quoted key" = "x # no comment"
b.c = """
three
lines \\""" of text"""
'lit.eral' = \'\'\'
it's\'\'\'
list = [
  1, # one
  [2, "]"],
  { x = 1, y = [ { z = 2 } ] },
]

[table]   # header
k = 1979-05-27T07:32:00Z
[table.inner."with ]"]
k = { p = "}", q.r = 1 }

[[array]]
x = 1
[[array]]
x = 2
[array.sub]
y = 3
[[array.deep]]
z = 4
'''


def paths(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    """All key paths in parsed TOML."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found = [(*path, key) for key, _ in items]
    for key, inner in items:
        found += paths(inner, (*path, key))
    return found


def source_of(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "file.toml"
    path.write_bytes(text.encode())
    problems = ProblemList()
    source = read_source(path, problems, "file.toml")
    problems.raise_if_failed()
    return source


def test_every_key_of_the_sample_has_its_line(tmp_path: Path) -> None:
    source = source_of(tmp_path, SAMPLE)
    assert set(source.lines) == set(paths(tomllib.loads(SAMPLE)))
    lines = SAMPLE.splitlines()
    for path, word in {
        ("a",): "a = 1",
        ("quoted key",): '"quoted key"',
        ("b", "c"): "b.c",
        ("lit.eral",): "'lit",
        ("list", 2, "y", 0, "z"): "{ x = 1",
        ("table",): "[table]",
        ("table", "k"): "k = 1979",
        ("table", "inner", "with ]"): "[table.inner",
        ("table", "inner", "with ]", "k", "q", "r"): "k = { p",
        ("array", 1, "x"): "x = 2",
        ("array", 1, "sub", "y"): "y = 3",
        ("array", 1, "deep", 0, "z"): "z = 4",
    }.items():
        assert lines[source.line(path) - 1].strip().startswith(word), path


def test_line_of_something_missing_is_that_of_the_table_around(tmp_path: Path) -> None:
    source = source_of(tmp_path, SAMPLE)
    assert source.line(("table", "absent", "deeper")) == source.line(("table",))
    assert source.line(("absent",)) == 0


def test_windows_line_ends(tmp_path: Path) -> None:
    source = source_of(tmp_path, "a = 1\r\n\r\n[t]\r\nb = 2\r\n")
    assert source.line(("t", "b")) == 4


def test_dotted() -> None:
    assert dotted(("connections", "paris", "children", "a b")) == 'connections.paris.children."a b"'
    assert dotted(("rules", 1, "local", 0)) == "rules[2].local[1]"


keys = st.one_of(st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True), st.text(max_size=4))
scalars = st.one_of(st.integers(-1000, 1000), st.booleans(), st.text(max_size=12))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)


def quoted(text: str, style: int) -> str:
    """A key or text in one of TOML's notations."""
    if style == 0 and text.isascii() and text.isalnum():
        return text
    if style == 1 and text.isprintable() and "'" not in text:
        return f"'{text}'"
    escaped = "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in text)
    return f'"{escaped}"'


def rendered(value: Any, draw: Any) -> str:
    gap = draw(st.sampled_from(["", " ", "\n", " # ]}\"'\n"]))
    if isinstance(value, dict):
        pairs = [f"{quoted(key, draw(st.integers(0, 2)))} = {rendered(inner, draw)}" for key, inner in value.items()]
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[" + "".join(f"{gap}{rendered(inner, draw)}{gap}," for inner in value) + gap + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        if draw(st.booleans()):
            return '"""\n' + quoted(value, 2)[1:-1] + '"""'
        return quoted(value, draw(st.integers(1, 2)))
    return str(value)


@st.composite
def documents(draw: Any) -> str:
    lines: list[str] = []
    for key, value in draw(st.dictionaries(keys, values, max_size=5)).items():
        lines.append(f"{quoted(key, draw(st.integers(0, 2)))} = {rendered(value, draw)}")
    for name in draw(st.lists(st.sampled_from(["t", "u.v", "u.w", "'x y'.z"]), unique=True)):
        lines += [f"[ {name} ] # comment", f"k = {rendered(draw(values), draw)}"]
    for _ in range(draw(st.integers(0, 3))):
        lines += ["[[many]]", f"k = {rendered(draw(values), draw)}", "[many.inner]", "k = 1"]
    return "\n".join(lines)


@given(text=documents())
def test_every_key_of_any_document_has_a_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    source = source_of(tmp_path_factory.getbasetemp(), text)
    assert set(paths(data)) <= set(source.lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in source.lines.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = \n", "file.toml:1: not valid TOML: invalid value"),
        (b"a = 1\nb = 'x\n", "file.toml:2: not valid TOML: "),
        (b"a = 1\n\nb = [1,\n", "file.toml:3: not valid TOML: "),
        (b"a = 1\na = 2\n", "file.toml:2: not valid TOML: cannot overwrite a value"),
        (b"\xff\xfe", "file.toml: cannot read the file: it is not UTF-8 text (octet 0)"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "file.toml: not valid TOML: nested too deeply"),
        (b"a = " + b"9" * 10000, "file.toml: not valid TOML: a number or a date is out of range"),
        (b"a = 1\x00", "file.toml:1: not valid TOML: "),
    ],
)
def test_files_that_are_no_toml(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.toml"
    path.write_bytes(content)
    problems = ProblemList()
    assert read_source(path, problems, "file.toml") is None
    with pytest.raises(ConfigError) as caught:
        problems.raise_if_failed()
    assert str(caught.value).startswith(message)
    assert str(caught.value).isprintable()


def test_files_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name, reason in {
        "absent": "no such file or directory",
        "fifo": "it is not a regular file",
        "folder": "is a directory",
    }.items():
        problems = ProblemList()
        assert read_source(tmp_path / name, problems, name) is None
        assert [str(problem) for problem in problems.sorted()] == [f"{name}: cannot read the file: {reason}"]
