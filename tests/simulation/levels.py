"""The kinds of worlds that there are, from the smallest to the whole, behind one interface.

| level | what runs in it | what it is good at |
|---|---|---|
| pair | two ``PairMember``s around a model of a data plane | many failovers: ownership, leases, lanes, the channel |
| witness | the same, with a witness and cuts between all three | nothing is excused |
| mirrors | three ``SeatedMember``s around the same model | seats that change hands, copies that are to become backups |
| mirrors-witness | the same, with a witness | nothing is excused |
| boundaries | the whole, one story and one fault at every act of it | a failover in milliseconds |
| seats | the same with three whole members | mirrors that get the seat, and own |
| power | the same; both members lose power at once and come back with what is on their disks | saved state |
| full | members and peers of the product's own parts; only what is outside of them is simulated | everything |
| trio | the same, and a witness | nothing is excused |
| lazy | the same as full, with ``commit = "lazy"`` | what was lost is repaired |

A seed plays one level, unless it is told which: ``level_of``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

import msgspec

import cluster_faults
import mirror_faults
import witness_world
from cluster_world import World as ModelWorld
from ipsecha.cluster.pair import PairMember
from simulation import boundaries, lazy, play, power_cuts, seats
from simulation.full_variants import FULL_VARIANTS
from simulation.narrator import narrated
from simulation.plan import Plan
from simulation.third_box import witnessed
from simulation.variants_lazy import LAZY_VARIANTS
from simulation.variants_mirrors import MIRROR_VARIANTS
from simulation.variants_pair import PAIR_VARIANTS, kinds_of, spoken
from simulation.variants_power import POWER_VARIANTS
from simulation.variants_seats import SEAT_VARIANTS
from simulation.variants_witness import WITNESS_VARIANTS
from simulation.violation import Violation
from simulation.world import Variant, World

SOUND = "sound"
WHOLE_TRACE = 1_000_000


class Outcome(NamedTuple):
    """What came of runs; they add up.  ``failovers``: activations but for cold starts."""

    failovers: int = 0
    datagrams: int = 0  # between the gateways, and frames between the members
    packets: int = 0  # that reached their ends
    splits: int = 0  # runs in which both members went on alone
    seconds: float = 0.0  # of simulated time
    trace: str = ""  # a hash of all that became visible outside; of replayed plans only, for it takes a while

    def plus(self, other: Outcome) -> Outcome:
        return Outcome(*(one + two for one, two in zip(self[:-1], other[:-1], strict=True)))


class Level(NamedTuple):
    """``judge(seed)`` and ``replay(plan, whole)`` raise Violation; its note is the end of the trace, or all of it.

    ``share``: of a thousand seeds so many, about, play it; 0: those that are asked to."""

    share: int
    judge: Callable[[int], Outcome]
    draw: Callable[[int, Sequence[str]], Plan]
    replay: Callable[[Plan, bool], Outcome]


def _replay_pair(plan: Plan, whole: bool = False) -> Outcome:
    members = {spoken(broken[0].__name__): broken[0] for broken in PAIR_VARIANTS} | {SOUND: PairMember}
    more = {"lines": WHOLE_TRACE} if whole else {}
    return _outcome_of_model(cluster_faults.replayed(plan, members[plan.variant], **more))


def _outcome_of_model(world: ModelWorld) -> Outcome:
    return Outcome(world.failovers, world.frames, world.packets, world.has_split, world.time, f"{world.trace:08x}")


def _variant(name: str, known: Mapping[str, tuple[Variant, set[str]]] = FULL_VARIANTS) -> Variant | None:
    return None if name == SOUND else known[name][0]


def _outcome(world: World) -> Outcome:
    record = world.record
    return Outcome(world.failovers, record.datagrams, record.deliveries, record.has_split, world.time)


def _traced(world: World) -> Outcome:
    return _outcome(world)._replace(trace=world.record.trace)


def _replay_full(plan: Plan, whole: bool = False) -> Outcome:
    return _traced(play.replayed(plan, _variant(plan.variant), narrated if whole else play.last_lines))


class _Counted(boundaries.Walk):
    """A walk may go through several worlds."""

    def __init__(
        self, plan: Plan, variant: Variant | None, watch: Callable[[World], Callable[[], str]] = play.last_lines
    ) -> None:
        super().__init__(plan, variant)
        self.outcome = Outcome()
        self.seen: Callable[[], str] = lambda: ""
        self._watch = watch

    def begin(self) -> None:
        if self.worlds:
            self.close()
        super().begin()
        self.seen = self._watch(self.world)

    def close(self) -> None:
        self.outcome = self.outcome.plus(_outcome(self.world))


class _CountedSeats(_Counted, seats.Walk):
    pass


def _walked(plan: Plan, whole: bool = False) -> _Counted:
    watch = narrated if whole else play.last_lines
    if plan.level == seats.LEVEL:
        walk: _Counted = _CountedSeats(plan, _variant(plan.variant, SEAT_VARIANTS), watch)
    else:
        walk = _Counted(plan, _variant(plan.variant), watch)
    try:
        walk.play()
    except Violation as violation:
        violation.add_note(f"seed {plan.seed}\n{walk.seen()}")
        raise
    walk.close()
    return walk


def _replay_walk(plan: Plan, whole: bool = False) -> Outcome:
    walk = _walked(plan, whole)
    return walk.outcome._replace(trace=walk.world.record.trace)


def _replay_witnessed(plan: Plan, whole: bool = False) -> Outcome:
    types = next((broken.types for broken in WITNESS_VARIANTS if broken.name == plan.variant), {})
    more = {"lines": WHOLE_TRACE} if whole else {}
    return _outcome_of_model(witness_world.replayed(plan, **types, **more))


def _replay_mirrors(plan: Plan, whole: bool = False) -> Outcome:
    broken = (one.types for one in MIRROR_VARIANTS if (one.level, one.name) == (plan.level, plan.variant))
    more = {"lines": WHOLE_TRACE} if whole else {}
    return _outcome_of_model(mirror_faults.replayed(plan, **next(broken, {}), **more))


def _draw_trio(seed: int, faults: Sequence[str] = ()) -> Plan:
    return msgspec.structs.replace(play.draw(seed, faults), level="trio")


def _replay_trio(plan: Plan, whole: bool = False) -> Outcome:
    return _traced(play.replayed(plan, witnessed(), narrated if whole else play.last_lines))


def _replay_power(plan: Plan, whole: bool = False) -> Outcome:
    variant = None if plan.variant == SOUND else POWER_VARIANTS[plan.variant][0]
    return _traced(power_cuts.replayed(plan, variant, narrated if whole else play.last_lines))


def _replay_lazy(plan: Plan, whole: bool = False) -> Outcome:
    variant = None if plan.variant == SOUND else LAZY_VARIANTS[plan.variant][0]
    return _traced(lazy.replayed(plan, variant, narrated if whole else play.last_lines))


LEVELS: dict[str, Level] = {
    "pair": Level(595, lambda seed: _replay_pair(cluster_faults.draw(seed)), cluster_faults.draw, _replay_pair),
    "witness": Level(
        80, lambda seed: _replay_witnessed(witness_world.draw(seed)), witness_world.draw, _replay_witnessed
    ),
    "mirrors": Level(25, lambda seed: _replay_mirrors(mirror_faults.draw(seed)), mirror_faults.draw, _replay_mirrors),
    "mirrors-witness": Level(
        25,
        lambda seed: _replay_mirrors(mirror_faults.draw_with_witness(seed)),
        mirror_faults.draw_with_witness,
        _replay_mirrors,
    ),
    "boundaries": Level(250, lambda seed: _walked(boundaries.draw(seed)).outcome, boundaries.draw, _replay_walk),
    "power": Level(5, lambda seed: _outcome(power_cuts.judged_power(seed)), power_cuts.draw, _replay_power),
    "full": Level(12, lambda seed: _outcome(play.judged(seed)), play.draw, _replay_full),
    "trio": Level(5, lambda seed: _outcome(play.judged(seed, witnessed())), _draw_trio, _replay_trio),
    "lazy": Level(3, lambda seed: _outcome(lazy.judged_lazily(seed)), lazy.draw, _replay_lazy),
    "seats": Level(5, lambda seed: _walked(seats.draw(seed)).outcome, seats.draw, _replay_walk),
}


def level_of(seed: int) -> str:
    """The level that a seed plays where none is asked for."""
    shares = [level.share for level in LEVELS.values()]
    return Random(f"level/{seed}").choices(list(LEVELS), shares)[0]


def replay(plan: Plan, whole: bool = False) -> Outcome:
    """Play a plan.  Raises Violation; KeyError for a level or variant that does not exist."""
    return LEVELS[plan.level].replay(plan, whole)


def faults_of(level: str, variant: str) -> tuple[str, ...]:
    """The kinds of faults under which a broken variant shows soonest; none: any."""
    if level == "pair":
        return {spoken(broken[0].__name__): kinds_of(broken) for broken in PAIR_VARIANTS}.get(variant, ())
    if level == "witness":
        return next((broken.faults for broken in WITNESS_VARIANTS if broken.name == variant), ())
    if level in (mirror_faults.LEVEL, mirror_faults.WITNESSED_LEVEL):
        return next((one.faults for one in MIRROR_VARIANTS if (one.level, one.name) == (level, variant)), ())
    if level == power_cuts.LEVEL:
        return power_cuts.kinds_of(POWER_VARIANTS[variant][0]) if variant in POWER_VARIANTS else ()
    return FULL_VARIANTS[variant][0].faults if variant in FULL_VARIANTS else ()
