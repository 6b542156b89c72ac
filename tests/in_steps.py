"""Generators that yield where others may have their turn."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")


def completed(steps: Generator[None, None, Result]) -> Result:
    """What they return, without letting anybody else have a turn."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
