"""Golden dialogues: runs of the product's own code, told for readers.  ``pytest --rewrite-scenarios`` writes them anew;
what then differs in the files is what a change does on the wire, between the members, or in time."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.dialogues import DIALOGUES, told

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_dialogue_is_as_it_is_written(name: str, request: pytest.FixtureRequest) -> None:
    text, path = told(name), HERE / f"{name.replace('_', '-')}.txt"
    if request.config.getoption("--rewrite-scenarios"):
        path.write_text(text)
    assert text.splitlines() == path.read_text().splitlines()


def test_no_dialogue_is_left_over() -> None:
    assert {path.stem for path in HERE.glob("*.txt")} == {name.replace("_", "-") for name in DIALOGUES}
