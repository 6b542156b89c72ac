"""Reads the known answers that lie beside the repository; tests that need one skip where it is absent."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).resolve().parents[2] / ".." / "shared" / "vectors"


def vector_file(name: str) -> Path:
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"test vectors {name} are not beside the repository")
    return path


@functools.cache
def load(name: str) -> Any:
    """The content of a JSON file of vectors."""
    return json.loads(vector_file(name).read_text())


def wycheproof(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """All (group, test) pairs of a Wycheproof file."""
    return [(group, test) for group in load(f"wycheproof/{name}_test.json")["testGroups"] for test in group["tests"]]
