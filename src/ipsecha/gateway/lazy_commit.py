"""Output commit for slow channels (``commit = "lazy"``): most steps leave at once, their records follow.

Theory of operation.  What a backup does not know when its owner dies is lost, so it has to know at least *where* it may
know too little.  An IKE SA is *open* while that is so, and its record says it: OPEN.  The first step of an SA that is
not open waits for its acknowledgement, as in strict mode, and its commit opens the SA.  Further steps leave at once.
When there has been none for QUIET_S, one more record closes the SA.  All records of an SA travel in one ordered stream:
a backup that has the one that closes has all before it, however slow the channel; no clock is involved (decision 0016).

CHANGING does the same for steps that make or delete child SAs: they are rare, and cost more to repair.

Always strict: the birth, the rekey and the end of an IKE SA, since nothing repairs those; the installation of a child
SA, or the next owner, which may make the very same one of a repeated answer, would not know that its numbers were used
(invariants I2 and I3); everything, when the channel
lags too far behind; and counter leases, which are not the business of this queue (invariants I2 and I3).

The record of an IKE SA's rekey or end closes it: all that has left before it has its record before it, and nothing
leaves behind it until it is known.  A next owner that took it for open would set our request for the new IKE SA aside
when its answer is late, and the peer may have made one of it.  Only where an owner before may have lost something
(IN_DOUBT) it stays open.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from ipsecha.gateway.output_commit import Changes, OutputCommit, is_free, record_of, replicated
from ipsecha.ike.collisions import CREATIONS
from ipsecha.ike.flags import CHANGING, IN_DOUBT, LEAVING, OPEN
from ipsecha.ike.timers import Timers
from ipsecha.model.effects import Effect, InstallChild, RemoveChild
from ipsecha.model.records import ExchangeKind, IkeSa

QUIET_S = 10.0
"""An SA without any step for so long is closed."""

LAG_S = 1.0
LAG_COMMITS = 512
"""Beyond either every step waits: what one death can cost is bounded."""

CLOSED_PER_TURN = 64

NEVER = -1
FIRST_REQUEST_AFTER_AUTH = 2
_CHILD_EXCHANGES = (*CREATIONS, ExchangeKind.DELETE_CHILD)


class Open:
    """One SA: the numbers of the commits that have said OPEN and CHANGING, the last that a step of it waits for, and
    when its last step was."""

    __slots__ = ("awaited", "changing", "last_at", "opened", "sa")

    def __init__(self, sa: IkeSa) -> None:
        self.sa = sa
        self.opened = self.changing = self.awaited = NEVER
        self.last_at = 0.0

    def is_known(self, marks: int, released: int) -> bool:
        """Whether a backup that has everything up to ``released`` knows of these marks, and nothing waits."""
        changing = not marks & CHANGING or NEVER != self.changing <= released
        return changing and NEVER != self.opened <= released and self.awaited <= released


class Step:
    """The changes and what depends on them, of one step of the IKE core."""

    __slots__ = ("changed", "dependent")

    def __init__(self) -> None:
        self.changed: dict[bytes, IkeSa | bytes | None] = {}
        self.dependent: list[Effect] = []

    @property
    def changes_children(self) -> bool:
        return any(type(effect) in (InstallChild, RemoveChild) for effect in self.dependent) or any(
            isinstance(sa, IkeSa) and sa.exchange is not None and sa.exchange.kind in _CHILD_EXCHANGES
            for sa in self.changed.values()
        )


class LazyCommit(OutputCommit):
    """As ``OutputCommit``; ``is_suspect``: SAs of a predecessor that are not repaired yet stay open."""

    def __init__(
        self,
        commit: Callable[[Changes], int],
        carry_out: Callable[[Sequence[Effect]], None],
        clock: Callable[[], float],
        is_suspect: Callable[[bytes], bool],
    ) -> None:
        super().__init__(commit, carry_out)
        self.open: dict[bytes, Open] = {}
        self._clock = clock
        self._is_suspect = is_suspect
        self._released = 0
        self._sent_at: deque[tuple[int, float]] = deque()  # of the commits that are not acknowledged
        self._closings = Timers()

    @property
    def open_sas(self) -> int:
        return len(self.open)

    @property
    def lag(self) -> tuple[int, float]:
        """The commits that the backup has not acknowledged, and the age of the oldest of them in seconds."""
        return len(self._sent_at), self._clock() - self._sent_at[0][1] if self._sent_at else 0.0

    def submit(self, effects: Sequence[Effect]) -> None:
        now = self._clock()
        commits, age = self.lag
        prompt = commits < LAG_COMMITS and age < LAG_S
        waiting: list[Effect] = []
        at_once: list[Effect] = []
        changed: dict[bytes, IkeSa | bytes | None] = {}
        opening: list[tuple[Open, int, bool]] = []
        for step in _steps(effects, at_once):
            changed |= step.changed
            if not step.changed:
                self._queue_behind(waiting, at_once, step.dependent)
            elif self._leaves_at_once(step, prompt, opening, now):
                at_once += step.dependent
            else:
                waiting += step.dependent
        if changed:
            self._send(changed, waiting, opening, now)
        if at_once:
            self._carry_out(at_once)

    def _leaves_at_once(self, step: Step, prompt: bool, opening: list[tuple[Open, int, bool]], now: float) -> bool:
        """Open the SAs of a step; whether the backup knows already that they are."""
        marks = OPEN | CHANGING if step.changes_children else OPEN
        known = prompt and not any(type(effect) is InstallChild for effect in step.dependent)
        touched: list[Open] = []
        for key, sa in step.changed.items():
            if not isinstance(sa, IkeSa) or _is_strict(sa):
                known = False
                self.open.pop(key, None)
                if isinstance(sa, IkeSa) and not sa.flags & IN_DOUBT and not self._is_suspect(key):
                    sa.flags &= ~(OPEN | CHANGING)
                continue
            one = self.open.get(key)
            if one is None:
                one = self.open[key] = Open(sa)
                self._closings.arm(key, now + QUIET_S)
            one.sa, one.last_at = sa, now
            sa.flags |= marks
            known = known and one.is_known(marks, self._released)
            touched.append(one)
        opening += [(one, marks, not known) for one in touched]
        return known

    def _queue_behind(self, waiting: list[Effect], at_once: list[Effect], dependent: list[Effect]) -> None:
        """What belongs to no change (a repetition) stays behind what has been waiting before it."""
        if waiting:
            waiting += dependent
        else:
            held = next((held for _, held in reversed(self._held) if held), at_once)
            held += dependent

    def _send(
        self,
        changed: dict[bytes, IkeSa | bytes | None],
        waiting: list[Effect],
        opening: Sequence[tuple[Open, int, bool]],
        now: float,
    ) -> None:
        number = self._commit(replicated(changed))
        self._held.append((number, waiting))
        self._sent_at.append((number, now))
        for one, marks, waits in opening:
            one.opened = number if one.opened == NEVER else one.opened
            if marks & CHANGING and one.changing == NEVER:
                one.changing = number
            if waits:
                one.awaited = number

    def release(self, number: int) -> None:
        self._released = max(self._released, number)
        while self._sent_at and self._sent_at[0][0] <= number:
            self._sent_at.popleft()
        super().release(number)

    def give_up(self, effects: Sequence[Effect]) -> int:
        self.open.clear()
        self._closings.clear()
        self._sent_at.clear()
        return super().give_up(effects)

    # Closing

    def next_timer(self) -> float:
        """Seconds from now."""
        due = self._closings.next_timer()
        return math.inf if due is None else due - self._clock()

    def handle_timer(self) -> None:
        now = self._clock()
        closed: dict[bytes, IkeSa | bytes | None] = {}
        for key in self._closings.due(now, CLOSED_PER_TURN):
            assert isinstance(key, bytes)
            one = self.open.get(key)
            if one is None:
                continue
            if now < one.last_at + QUIET_S or self._is_suspect(key):
                self._closings.arm(key, max(now, one.last_at) + QUIET_S)
                continue
            del self.open[key]
            one.sa.flags &= ~(OPEN | CHANGING)
            closed[key] = one.sa
        if closed:
            self._send(closed, [], (), now)


def _is_strict(sa: IkeSa) -> bool:
    """Whether this step is one of those that nothing repairs.  Among them is the first record of an SA that the peer
    has asked for: it does not say OPEN, or the next owner would ask a peer that may not have the SA yet."""
    if not sa.next_request_id and sa.expected_request_id <= FIRST_REQUEST_AFTER_AUTH and sa.exchange is None:
        return True
    ends = sa.flags & LEAVING
    return bool(ends) or (
        sa.exchange is not None and sa.exchange.kind in (ExchangeKind.REKEY_IKE, ExchangeKind.DELETE_IKE)
    )


def _steps(effects: Sequence[Effect], free: list[Effect]) -> list[Step]:
    """The effects step by step; those that depend on nothing go into ``free``."""
    steps: list[Step] = []
    step = Step()
    for effect in effects:
        change = record_of(effect)
        if change is not None:
            if step.dependent or not steps:
                step = Step()
                steps.append(step)
            key, record = change
            step.changed[key] = record
        elif is_free(effect):
            free.append(effect)
        else:
            if not steps:
                steps.append(step)
            step.dependent.append(effect)
    return steps
