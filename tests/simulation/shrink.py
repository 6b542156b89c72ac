"""Cuts a failing plan down to what it takes to fail."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator

import msgspec

from simulation.levels import replay
from simulation.plan import PACKETS, Plan, without
from simulation.violation import Violation

SOME_PEERS = ("full", "trio", "power", "lazy")
"""Levels whose worlds have one peer or more."""
RUNS = 600
"""At most so many runs: what is left then is small enough to read."""


def finding(plan: Plan, whole: bool = False) -> Violation | None:
    """What fails in a plan, with the end of its trace, or all of it, as its note."""
    try:
        replay(plan, whole)
    except Violation as violation:
        return violation
    except Exception as error:  # a fault of the code under test, or of the simulator
        violation = Violation("exception", f"{type(error).__name__}: {error}")
        violation.add_note("".join(traceback.format_exception(error)))
        return violation
    return None


class Shrinker:
    """Tries plans that are smaller, keeps each that fails by the same checker, and ends when none does any more.

    A smaller plan may fail by another checker, or in another way: that is another failure, and not taken.
    """

    def __init__(self, plan: Plan, found: Violation, tell: Callable[[Plan], None] = lambda plan: None) -> None:
        self.plan = msgspec.structs.replace(plan, found=str(found))
        self.found = found
        self.runs = 0
        self._tell = tell

    def shrink(self) -> Plan:
        while self.runs < RUNS and any([self._plainer(), self._fewer_peers(), self._fewer_events(), self._shorter()]):
            pass
        return self.plan

    def _fails(self, plan: Plan) -> bool:
        if self.runs >= RUNS:
            return False
        self.runs += 1
        found = finding(plan)
        if found is None or found.checker != self.found.checker:
            return False
        self.found = found
        self.plan = msgspec.structs.replace(plan, found=str(found))
        self._tell(self.plan)
        return True

    def _plainer(self) -> bool:
        """Without rekeys that only a policy wants."""
        return self.plan.rekeys and self._fails(msgspec.structs.replace(self.plan, rekeys=False))

    def _fewer_peers(self) -> bool:
        if self.plan.level not in SOME_PEERS or self.plan.peers == 1:
            return False
        return any(self._fails(msgspec.structs.replace(self.plan, peers=peers)) for peers in (1, 2))

    def _fewer_events(self) -> bool:
        """Delta debugging (Zeller): leave out ever smaller parts, the last events first."""
        before, part = len(self.plan.events), max(len(self.plan.events) // 2, 1)
        while True:
            at = len(self.plan.events)
            while at > 0:
                taken = range(max(at - part, 0), at)
                at -= part
                if self._fails(without(self.plan, taken)):
                    at = min(at, len(self.plan.events))
            if part == 1:
                return len(self.plan.events) < before
            part = max(part // 2, 1)

    def _shorter(self) -> bool:
        """Pauses without a need, and packets without one."""
        return any([self._fails(smaller) for smaller in self._smaller()])

    def _smaller(self) -> Iterator[Plan]:
        for index in range(len(self.plan.events)):
            event = self.plan.events[index]
            if event.pause_s > 0.0:
                yield self._with(index, pause_s=0.0)
                if self.plan.events[index].pause_s > 0.0 and (short := round(event.pause_s, 2)) != event.pause_s:
                    yield self._with(index, pause_s=short)
            if event.what == PACKETS and event.count > 1:
                yield self._with(index, count=1)

    def _with(self, index: int, **changes: float) -> Plan:
        events = list(self.plan.events)
        events[index] = msgspec.structs.replace(events[index], **changes)
        return msgspec.structs.replace(self.plan, events=tuple(events))
