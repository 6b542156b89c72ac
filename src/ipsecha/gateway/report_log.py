"""Reports of the IKE core as lines of log, at a limited rate per connection and event.

Authenticated peers can cause reports as fast as they send: a log that grows with their requests would be a way to
fill the disk and to hide what matters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ipsecha.ike.limits import TokenBucket
from ipsecha.model.effects import Report

log = logging.getLogger("ipsecha")

NOTICES = 50.0, 1000.0  # a second, and at once
WARNINGS = 2.0, 50.0
_KINDS = 4096  # pairs of connection and event


class ReportLog:
    """``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], TokenBucket] = {}
        self._hidden: dict[tuple[str, str], int] = {}

    def __call__(self, report: Report) -> None:
        key = report.connection, report.event
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= _KINDS:
                self._buckets.clear()
                self._hidden.clear()
            bucket = self._buckets[key] = TokenBucket(*(WARNINGS if report.level >= logging.WARNING else NOTICES))
        if not bucket.take(self._clock()):
            self._hidden[key] = self._hidden.get(key, 0) + 1
            return
        prefix = f"{report.connection}: " if report.connection else ""
        hidden = self._hidden.pop(key, 0)
        suffix = f" ({hidden} more like this are not shown)" if hidden else ""
        log.log(report.level, "%s%s%s", prefix, report.text, suffix, extra={"event": report.event})
