"""Garbage collection in a process that keeps a million small objects for days and must not pause.

Nothing of ours needs the cyclic collector to be freed: records hold no cycles, and what refers to each other is taken
apart when it is removed.  It stays on for what exceptions and the event loop leave behind, but a full collection would
walk over every table: 80 ms with 100,000 child SAs, in which no packet moves.  So what has survived one full collection
is not looked at again: each object costs that once.  Full collections come three times as often as by default, since
what is new while 100,000 SAs arrive would be 20 ms of work otherwise.
"""

from __future__ import annotations

import gc

THRESHOLDS = (700, 10, 1)


def keep_collections_short() -> None:
    """To be called once all modules are loaded; may be called again."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    if _freeze_survivors not in gc.callbacks:
        gc.callbacks.append(_freeze_survivors)


def _freeze_survivors(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()
