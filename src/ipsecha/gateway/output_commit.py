"""Output commit: effects leave only after the records they depend on have been acknowledged (DESIGN section 3).

One commit carries all IKE SAs that changed in one turn of the event loop.  Whatever follows a change, in the order of
the effects, waits behind it; what depends on no replicated state (stateless messages, keepalives, reports) does not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from ipsecha.model.effects import (
    Effect,
    InstallChild,
    Keepalive,
    RemoveChild,
    Replicate,
    ReplicateInitiation,
    Report,
    Share,
    Transmit,
    UpdateChild,
    Withdraw,
)
from ipsecha.model.records import IkeSa, encode_record

Changes = list[tuple[bytes, bytes | None]]
"""Local SPI and encoded record; None: the IKE SA is gone.  ``INITIATION`` and our SPI: a handshake of ours."""

INITIATION = b"i"

_FREE = (Report, Keepalive, Share)
_PLANE_EFFECTS = (InstallChild, UpdateChild, RemoveChild)


def record_of(effect: Effect) -> tuple[bytes, IkeSa | bytes | None] | None:
    """The key and the record that ``effect`` replicates; None: it is another effect."""
    kind = type(effect)
    if kind is Replicate:
        return effect.sa.local_spi, effect.sa  # type: ignore[union-attr]
    if kind is Withdraw:
        return effect.local_spi, None  # type: ignore[union-attr]
    if kind is ReplicateInitiation:
        return INITIATION + effect.spi_i, effect.record  # type: ignore[union-attr]
    return None


def is_free(effect: Effect) -> bool:
    """Whether ``effect`` depends on no replicated state."""
    return type(effect) in _FREE or (type(effect) is Transmit and effect.stateless)


def replicated(changed: dict[bytes, IkeSa | bytes | None]) -> Changes:
    return [(key, encode_record(record) if isinstance(record, IkeSa) else record) for key, record in changed.items()]


class OutputCommit:
    """The queue between the IKE core and the outer ring."""

    def __init__(self, commit: Callable[[Changes], int], carry_out: Callable[[Sequence[Effect]], None]) -> None:
        """``commit`` replicates and gives the number that ``release`` will bear; ``carry_out`` acts."""
        self._commit = commit
        self._carry_out = carry_out
        self._held: deque[tuple[int, list[Effect]]] = deque()

    @property
    def waiting(self) -> int:
        """Commits that no backup has acknowledged yet."""
        return len(self._held)

    @property
    def open_sas(self) -> int:
        """IKE SAs of which the outside may have seen more than the backup."""
        return 0

    def submit(self, effects: Sequence[Effect]) -> None:
        """Take one turn's effects: commit what changed, hold what depends on it, do the rest."""
        changed: dict[bytes, IkeSa | bytes | None] = {}
        dependent: list[Effect] = []
        free: list[Effect] = []
        for effect in effects:
            change = record_of(effect)
            if change is not None:
                changed[change[0]] = change[1]
            elif is_free(effect):
                free.append(effect)
            else:
                dependent.append(effect)
        if changed:
            self._held.append((self._commit(replicated(changed)), dependent))
        elif self._held:
            self._held[-1][1].extend(dependent)
        else:
            free = list(effects)
        if free:
            self._carry_out(free)

    def release(self, number: int) -> None:
        """All commits up to ``number`` are safe: carry out what waited for them, in order."""
        held = self._held
        while held and held[0][0] <= number:
            _, effects = held.popleft()
            if effects:
                self._carry_out(effects)

    def next_timer(self) -> float:
        """In how many seconds ``handle_timer`` has something to do; infinity: never."""
        return math.inf

    def handle_timer(self) -> None:
        """Nothing is due where everything waits for its acknowledgement."""

    def give_up(self, effects: Sequence[Effect]) -> int:
        """Another member owns the SAs now: what was never released, and ``effects``, is not said to anybody any more.

        The data plane follows the tables of the IKE core all the same, or it would keep child SAs that nobody knows.
        Gives the number of commits that were not acknowledged.
        """
        dropped = len(self._held)
        given_up = [effect for _, held in self._held for effect in held] + list(effects)
        self._held.clear()
        self._carry_out([effect for effect in given_up if type(effect) in _PLANE_EFFECTS])
        return dropped
