"""Letting go of a hundred thousand records: a second of work for the allocator, done in slices of a millisecond."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

SLICE, PAUSE_S = 256, 0.002


class Disposal:
    """Empties tables that nobody looks at any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tables: list[dict[Any, Any]] = []

    def dispose(self, tables: Iterable[dict[Any, Any]]) -> None:
        busy = bool(self._tables)
        self._tables += tables
        if not busy:
            self._go_on()

    def _go_on(self) -> None:
        tables = self._tables
        for _ in range(SLICE):
            while tables and not tables[-1]:
                tables.pop()
            if not tables:
                return
            tables[-1].popitem()
        self._loop.call_later(PAUSE_S, self._go_on)
