"""The outermost ring: faults of our own that nobody expected are counted, logged at a limited rate, and survived.

A line names the kind of fault and the places in the code, never the exception's text: that might hold key material.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from ipsecha.ike.limits import TokenBucket

log = logging.getLogger("ipsecha")

LINES_PER_S, FIRST_LINES = 0.1, 10.0
_PLACES = 4


class Faults:
    """``count`` of all faults so far; ``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.count = 0
        self._clock = clock
        self._lines = TokenBucket(LINES_PER_S, FIRST_LINES)

    def note(self, where: str, error: BaseException) -> None:
        """Count ``error``, which was caught in ``where``, and log it if the rate allows."""
        self.count += 1
        if self._lines.take(self._clock()):
            frames = traceback.extract_tb(error.__traceback__)[-_PLACES:]
            places = " < ".join(f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
            log.error(
                "a fault of ipsecha, number %d: %s in %s, at %s; it goes on, please report this",
                self.count,
                type(error).__name__,
                where,
                places or "an unknown place",
                extra={"event": "fault"},
            )

    def from_loop(self, loop: object, context: dict[str, Any]) -> None:
        """The event loop's exception handler: what no callback has caught."""
        error = context.get("exception")
        self.note("the event loop", error if isinstance(error, BaseException) else RuntimeError())
