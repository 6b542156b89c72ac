"""What the documentation shows exists: links, files, tests, commands with their options, configuration files."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

from ipsecha.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# What may stand in a command line of the documentation where a reader puts something of their own
ALTERNATIVES = re.compile(r"[\w-]+(\|[\w-]+)+")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made on the web."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_were_found() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "CHANGELOG.md", "docs/concepts.md", "docs/operations.md"} <= names
    assert len(list((ROOT / "docs/invariants").glob("I[1-7]-*.md"))) == 7


@pages
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        assert not anchor or anchor in _anchors(there), target


@pages
def test_every_page_of_the_documentation_can_be_found(page: Path) -> None:
    """From the README or the index, or from the index of its folder."""
    indexes = [ROOT / "README.md", ROOT / "docs/README.md", page.parent / "README.md"]
    linked = {
        (index.parent / target.partition("#")[0]).resolve()
        for index in indexes
        for target in re.findall(r"\]\(([^)\s]+)\)", index.read_text())
    }
    assert page in {*linked, ROOT / "README.md", ROOT / "docs/README.md"}


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"(?<![\w/.-])((?:src|tests|docs|scripts|packaging|examples|bench)/[\w./*-]*[\w*/])", page.read_text()
    )
    for name in named:
        assert any(ROOT.glob(name.rstrip("/"))), name


@cache
def _tests_in(path: Path) -> frozenset[str]:
    """The names of a file's test functions and of its state machines."""
    tree = ast.parse(path.read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return frozenset(name for name in names if name.lower().startswith("test"))


@pages
def test_tests_that_are_named_exist(page: Path) -> None:
    """``tests/x/test_y.py::test_z``; ``::test_z`` alone means the file that was named last."""
    path = None
    for file, name in re.findall(r"`(tests/[\w/.]+\.py)?::(\w+)`", page.read_text()):
        path = ROOT / file if file else path
        assert path is not None, name
        assert name in _tests_in(path), f"{file}::{name}"


def test_concepts_and_invariants_name_tests() -> None:
    for page in [ROOT / "docs/concepts.md", *(ROOT / "docs/invariants").glob("I*.md")]:
        assert len(re.findall(r"::test_\w+|::Test\w+", page.read_text())) >= 3, page


def _command_lines(page: Path) -> Iterator[str]:
    """The calls of ipsecha in code blocks and in spans of code."""
    text = page.read_text().replace("\\\n", " ")
    spans = re.findall(r"^```[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    spans += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    for span in spans:
        for line in span.splitlines():
            for part in re.split(r"&&|\|\||[;|](?= )|\$\(", re.sub(r"^\w*[#$] +", "", line.strip())):
                found = re.match(r"(?:\S*/)?ipsecha +([a-z-].*)", part.strip())
                if found:
                    yield found[1]


def _parse(line: str) -> None:
    """Raises where the command line would be refused; nothing is carried out.

    Words in capitals stand for something of the reader's own, brackets for what may be left out, bars for a choice.
    """
    words = []
    for word in shlex.split(line.replace("[", " ").replace("]", " "), comments=True):
        words += word.split("|")[:1] if ALTERNATIVES.fullmatch(word) else [word]
    words = ["3" if word == "N" else word for word in words]
    command, name = typer.main.get_command(app), "ipsecha"
    while hasattr(command, "get_command"):  # a group
        if not words or words[0].startswith("-"):
            return
        name = words.pop(0)
        found = command.get_command(command.context_class(command), name)
        assert found is not None, f"there is no command {name}"
        command = found
    if words or not any(parameter.required for parameter in command.params):
        command.make_context(name, words)


@pages
def test_commands_that_are_shown_exist(page: Path) -> None:
    for line in _command_lines(page):
        try:
            _parse(line)
        except Exception as error:
            pytest.fail(f"ipsecha {line}: {getattr(error, 'message', error)}")


@pytest.mark.parametrize(
    "line", ["statsu", "status --wach 1", "lab failover --fault earthquake", "cluster invite beta", "sas --limit 0"]
)
def test_commands_that_do_not_exist_are_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"no command|No such option|is not one of|Missing|greater than"):
        _parse(line)


def test_the_readme_shows_the_files_of_the_example() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in ("policy.toml", "alpha.toml"):
        assert f"```toml\n{(ROOT / 'examples/site-to-site' / name).read_text()}```" in readme
    alpha, beta = ((ROOT / "examples/site-to-site" / f"{name}.toml").read_text() for name in ("alpha", "beta"))
    mirrored = {"alpha": "beta", "beta": "alpha", "10.99.0.1": "10.99.0.2", "10.99.0.2": "10.99.0.1"}
    mirrored |= {"192.0.2.11": "192.0.2.12", "192.0.2.12": "192.0.2.11"}
    assert re.sub("|".join(map(re.escape, mirrored)), lambda found: mirrored[found[0]], alpha) == beta


def test_the_picture_is_that_of_its_run() -> None:
    draw = {"__name__": "draw_failover"}
    exec((ROOT / "scripts/draw_failover.py").read_text(), draw)  # a script, no module
    images = ROOT / "docs/images"
    assert (
        draw["draw"](draw["json"].loads((images / "failover.json").read_text()))
        == (images / "failover.svg").read_text()
    )  # type: ignore[operator,attr-defined]


@pages
def test_pages_are_plain(page: Path) -> None:
    """One wide line at most per table row; no trailing blanks; nothing of the machine that they were written on."""
    text = page.read_text()
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0, "a block of code is not closed"
    assert "```" not in re.sub(r"^```", "", text, flags=re.MULTILINE), "a fence within a line"
    assert not re.search(r"[ \t]+$", text, re.MULTILINE)
    assert not re.search(r"/(home|root|work|tmp)/", text)
