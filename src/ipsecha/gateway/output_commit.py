"""Output commit: effects leave only after the records they depend on have been acknowledged (DESIGN section 3).

One commit carries all IKE SAs that changed in one turn of the event loop.  Whatever follows a change, in the order of
the effects, waits behind it; what depends on no replicated state (stateless messages, keepalives, reports) does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from ipsecha.model.effects import (
    Effect,
    InstallChild,
    Keepalive,
    RemoveChild,
    Replicate,
    Report,
    Transmit,
    UpdateChild,
    Withdraw,
)
from ipsecha.model.records import IkeSa, encode_record

Changes = list[tuple[bytes, bytes | None]]
"""Local SPI and encoded record; None: the IKE SA is gone."""

_PLANE_EFFECTS = (InstallChild, UpdateChild, RemoveChild)


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

    def submit(self, effects: Sequence[Effect]) -> None:
        """Take one turn's effects: commit what changed, hold what depends on it, do the rest."""
        changed: dict[bytes, IkeSa | None] = {}
        dependent: list[Effect] = []
        free: list[Effect] = []
        for effect in effects:
            kind = type(effect)
            if kind is Replicate:
                changed[effect.sa.local_spi] = effect.sa  # type: ignore[union-attr]
            elif kind is Withdraw:
                changed[effect.local_spi] = None  # type: ignore[union-attr]
            elif kind in (Report, Keepalive) or (kind is Transmit and effect.stateless):  # type: ignore[union-attr]
                free.append(effect)
            else:
                dependent.append(effect)
        if changed:
            records: Changes = [(spi, None if sa is None else encode_record(sa)) for spi, sa in changed.items()]
            self._held.append((self._commit(records), dependent))
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
