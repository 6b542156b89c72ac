"""docs/simulation.md says of the broken clusters what the code says."""

from __future__ import annotations

from simulation.broken import BROKEN
from simulation.table import rows

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


def test_every_broken_cluster_says_what_is_broken() -> None:
    assert all(one.what for one in BROKEN.values())


def test_the_mistakes_that_others_make_are_among_them() -> None:
    assert {f"full/{name}" for name in CLASSICAL} <= BROKEN.keys()
