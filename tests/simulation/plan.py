"""A run as data: what is to happen, drawn from a seed, so that a failing run can be cut down, kept and told."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

PACKETS = "packets"
PROOF = "proof"
IN_SYNC = "in sync"
HEIR = "heir "
"""Begins what befalls whoever owns by then."""
ALL, EITHER = "all: ", "either side: "
"""Begin what befalls the whole cluster, and what the owner, a peer or both do.  In the name of an event ``{count}``
stands for its count."""
SEATS = ("the owner", "the backup", "a mirror")
"""Whoever is at one of them by then is the member of an event, where stories are told."""
CHANCE = 1 << 32


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """After a pause something happens, to one member or to all.  ``chance`` is the seed of whatever is left to chance
    from here on to the next event: so events may be taken out without a change to the others."""

    pause_s: float
    what: str
    chance: int
    member: int = 0
    count: int = 0

    def __str__(self) -> str:
        if self.what == PACKETS:
            return f"{self.count} packets each way" if self.count else "traffic"
        if self.what == PROOF:
            return "everything works"
        if self.what == IN_SYNC:
            return "all start again; there is a backup in sync"
        what = self.what.replace("{count}", str(self.count)).replace("_", " ")
        if what.startswith(HEIR):
            return f"the owner: {what.removeprefix(HEIR)}"
        if what.startswith((ALL, EITHER)):
            return what
        if ": " in self.what:
            return f"{self.what}, at act {self.count} of {SEATS[self.member]}"
        return f"{'abcd'[self.member]}: {what}"


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """``level``: in which kind of world.  ``seed``: of the world, before anything happens in it.  ``peers``: how many;
    0: as many as the seed gives.  ``kinds``: faults that a fault may bring along.
    ``rekeys``: a new owner rekeys all child SAs after a failover."""

    level: str
    seed: int
    events: tuple[Event, ...]
    peers: int = 0
    kinds: tuple[str, ...] = ()
    rekeys: bool = False
    variant: str = "sound"
    found: str = ""  # the checker that found something when this was kept, and what
    about: str = ""  # what was wrong

    def story(self) -> str:
        """What happens in it, one line an event, packets gathered."""
        lines = [f"level {self.level}, seed {self.seed}, {self.peers or 'some'} peers, {self.variant} members"]
        lines += [self.about] if self.about else []
        time, packets = 0.0, 0
        for event in self.events:
            time += event.pause_s
            if event.what == PACKETS:
                packets += max(event.count, 1)
                continue
            if packets:
                lines.append(f"{'':9}  ... {packets} rounds of packets ...")
                packets = 0
            lines.append(f"{time:9.4f}  {event}")
        if packets:
            lines.append(f"{'':9}  ... {packets} rounds of packets ...")
        return "\n".join([*lines, f"{time:9.4f}  the faults are over"])

    @property
    def seconds(self) -> float:
        return sum(event.pause_s for event in self.events)


class Drawing:
    """Draws the events of one plan; each draw is a function of the seed alone."""

    def __init__(self, level: str, seed: int) -> None:
        self.chance = random.Random(f"{level}/{seed}")
        self.events: list[Event] = []
        self._pause_s = 0.0

    def pause(self, seconds: float) -> None:
        self._pause_s += round(seconds, 6)

    def event(self, what: str, member: int = 0, count: int = 0) -> None:
        self.events.append(Event(round(self._pause_s, 6), what, self.chance.randrange(CHANCE), member, count))
        self._pause_s = 0.0

    def kinds(self, known: Mapping[str, Any], least: int, most: int) -> list[str]:
        """Each run has only some kinds of faults, so that in some a rare combination is frequent."""
        return self.chance.sample(sorted(known), self.chance.randint(least, most))


def encode_plan(plan: Plan) -> bytes:
    return msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n"


def decode_plan(data: bytes) -> Plan:
    """Raises msgspec.ValidationError where it is none."""
    return msgspec.json.decode(data, type=Plan)


def without(plan: Plan, taken: Sequence[int]) -> Plan:
    """The plan without some of its events; the others keep their times."""
    gone, kept, pause_s = set(taken), [], 0.0
    for index, event in enumerate(plan.events):
        if index in gone:
            pause_s += event.pause_s
        else:
            kept.append(msgspec.structs.replace(event, pause_s=round(event.pause_s + pause_s, 6)))
            pause_s = 0.0
    return msgspec.structs.replace(plan, events=tuple(kept))
