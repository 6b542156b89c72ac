"""docs/simulation.md says of the broken clusters what the code says."""

from __future__ import annotations

import pytest

from simulation.broken import BROKEN
from simulation.table import BEGIN, CHECKERS_OF, END, INVARIANTS, PAGE, caught, rows

CLASSICAL = (
    "no-output-commit",
    "response-not-in-the-record",
    "jump-of-10000-without-a-lease",
    "inbound-floor-at-the-last-synced-number",
    "epoch-not-checked",
    "iv-from-the-message-id",
    "lease-extended-by-an-old-owner",
    "ack-before-apply",
    "snapshot-without-tail",
    "retransmission-answered-from-a-re-encryption",
)


def test_the_table_has_every_broken_cluster() -> None:
    assert [(level, name, what) for level, name, what, _, _ in rows()] == [
        (one.level, one.name, one.what) for one in BROKEN.values()
    ]


def test_the_table_names_checkers_that_may_be_first() -> None:
    for level, name, _, checker, seeds in rows():
        assert checker in BROKEN[f"{level}/{name}"].checkers
        assert seeds > 0


def test_every_checker_that_finds_one_is_explained() -> None:
    table = PAGE.read_text().partition("| checker | finds | in |\n")[2].partition("\n\n")[0]
    explained = {line.split("|")[1].strip() for line in table.splitlines()}
    assert {checker for one in BROKEN.values() for checker in one.checkers} <= explained


@pytest.mark.parametrize("page", CHECKERS_OF)
def test_each_invariant_has_its_page(page: str) -> None:
    """Claim, mechanism, why it holds, who checks it, and what is known to break it: all of that, and no more."""
    text = (INVARIANTS / page).read_text()
    heads = ["**Claim.**", "**Mechanism", "**Why it holds.**", "**Checked by.**", "**Broken clusters", "**Limits.**"]
    places = [text.find(head) for head in heads]
    assert places == sorted(places)
    assert places[0] > 0
    listed = text.partition(BEGIN)[2].partition(END)[0]
    assert listed.splitlines(keepends=True) == caught(page)
    assert listed


def test_every_broken_cluster_says_what_is_broken() -> None:
    assert all(one.what for one in BROKEN.values())


def test_the_mistakes_that_others_make_are_among_them() -> None:
    assert {f"full/{name}" for name in CLASSICAL} <= BROKEN.keys()
