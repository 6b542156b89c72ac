"""What checkers of every level raise."""

from __future__ import annotations


class Violation(AssertionError):  # noqa: N818 - the word of the checkers
    """A checker's finding; ``checker`` names the invariant."""

    def __init__(self, checker: str, text: str) -> None:
        self.checker = checker
        super().__init__(f"{checker}: {text}")
