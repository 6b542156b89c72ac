"""What can happen to a pair, and runs made of it: faults of all kinds, then a *relay*.  Most of it can happen to more
than two members, too.

In a relay the pair is in sync before each fault, and the fault strikes whoever owns by then: owners follow each other
fast, in the middle of traffic, and none of them may cost an SA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from cluster_checkers import Node
from cluster_world import World
from ipsecha.cluster.pair import PairMember
from simulation.plan import HEIR, IN_SYNC, PACKETS, PROOF, Drawing, Plan
from simulation.violation import Violation

W = TypeVar("W", bound=World)
LEVEL = "pair"
ROUNDS = 20
RELAY = 10
"""Owners that follow each other when the faults are over."""
PROTECTED_S = 5.5
"""After a fault a backup is in sync within so long."""
AT_REST_S = 0.5
"""What was under way has ended by then, where nothing new begins, and members have noticed that they were cut off."""


def crash(world: World, node: Node) -> None:
    if node.alive:
        world.crash(node.index)


def _host(world: World, node: Node) -> None:
    if node.alive:
        world.crash(node.index, host=True)


def _crash_in_effects(world: World, node: Node) -> None:
    node.crash_after = world.random.randint(0, 12)


def start(world: World, node: Node) -> None:
    """No process comes back at once."""
    world.run(0.1)
    for other in world.nodes:
        if not other.alive:
            world.start(other.index)


def _restart_all(world: World, node: Node) -> None:
    for other in world.nodes:
        crash(world, other)
    start(world, node)


def _partition(world: World, node: Node) -> None:
    block(world, world.blocked)


def _cut(world: World, node: Node) -> None:
    world.block(*world.random.choice([way for way in world.blocked if way[-1] == node.index]))


def _deaf(world: World, node: Node) -> None:
    block(world, [way for way in world.blocked if way[-1] == node.index])


def block(world: World, ways: Iterable[tuple[Any, ...]]) -> None:
    for way in ways:
        world.block(*way)


def _break(world: World, node: Node) -> None:
    for link in node.channels():
        world.break_link(link)


def switchover(world: World, node: Node) -> None:
    world.ask(node.index, PairMember.switchover)


def _switchover_and_fault(world: World, node: Node) -> None:
    switchover(world, node)
    world.run(world.random.random() * 0.004)
    disturb(world)


def _goodbye(world: World, node: Node) -> None:
    """A process that ends on purpose: it stops, says so, and is gone a moment later."""
    if world.ask(node.index, lambda member, now: member.say_goodbye()):
        node.gateway.active = False
        node.paused_until = float("inf")
        world.run(world.random.random() * 0.004 * world.random.randint(0, 1))
        crash(world, node)


def _pause(world: World, node: Node) -> None:
    world.pause(node.index, world.random.choice((0.2, 0.5, 1.5)))


def _links(world: World, node: Node) -> None:
    node.links_up, node.health = False, 0
    block(world, world.ways_of(node.index))


def _health(world: World, node: Node) -> None:
    node.health = world.random.randint(0, 2)


def _slow(world: World, node: Node) -> None:
    world.delay_s = world.random.choice((0.001, 0.03, 0.2))
    world.faulty()


def _loss(world: World, node: Node) -> None:
    world.beat_loss = world.random.choice((0.1, 0.5, 0.9))
    world.faulty()


def _late(world: World, node: Node) -> None:
    world.late_ticks_s = 0.15
    world.faulty()


def _heal(world: World, node: Node) -> None:
    world.heal()


def _peace(world: World, node: Node) -> None:
    world.heal()
    start(world, node)
    world.run(1.0 + world.random.random())


Fault = Callable[[Any, Node], None]
FAULTS: dict[str, Fault] = {
    "crash": crash,
    "host": _host,
    "crash in effects": _crash_in_effects,
    "restart all": _restart_all,
    "partition": _partition,
    "cut": _cut,
    "deaf": _deaf,
    "break": _break,
    "switchover": switchover,
    "switchover and fault": _switchover_and_fault,
    "goodbye": _goodbye,
    "pause": _pause,
    "links": _links,
    "health": _health,
    "slow": _slow,
    "loss": _loss,
    "late": _late,
}
REPAIRS: dict[str, Fault] = {"start": start, "heal": _heal, "peace": _peace}
EVERY: dict[str, Fault] = FAULTS | REPAIRS
HEIRS = {
    "crash": 0.01,
    "crash in effects": 0.01,
    "switchover": 0.01,
    "goodbye": 0.01,
    "host": 0.5,
    "pause": 0.5,
    "deaf": 0.5,
    "partition": 0.5,
}
"""What befalls the owners of a relay, and how long, about, it takes until another owns."""
OFTEN = ("crash", "crash in effects", "crash in effects", "switchover", "switchover")


def disturb(world: World) -> None:
    """One fault or repair of the kinds that this run plays."""
    _strike(world, world.random.choice(world.faults), world.random.choice(world.nodes))


def _strike(world: World, kind: str, node: Node, known: Mapping[str, Fault] = EVERY) -> None:
    world.note(f"fault {kind} {world.names[node.index]}")
    known[kind](world, node)


def draw(seed: int, faults: Sequence[str] = (), rounds: int = ROUNDS) -> Plan:
    """What happens in the world of a seed; with faults of the given kinds, or of some."""
    drawing = Drawing(LEVEL, seed)
    kinds = with_repairs(drawing, faults or drawing.kinds(FAULTS, 2, 7))
    drawing.pause(drawing.chance.choice((0.0, 0.5)))
    among_traffic(drawing, kinds, rounds)
    draw_relay(drawing, heirs_of(faults))
    return Plan(LEVEL, seed, tuple(drawing.events), kinds=tuple(kinds))


def with_repairs(drawing: Drawing, faults: Sequence[str]) -> list[str]:
    return [*faults, *sorted(REPAIRS)[: drawing.chance.randint(1, 3)], "peace", "start"]


def among_traffic(drawing: Drawing, kinds: Sequence[str], rounds: int, members: int = 2) -> None:
    """Again and again a burst of traffic, then something of these kinds happens to somebody."""
    chance = drawing.chance
    for _ in range(rounds):
        for _ in range(chance.randint(1, 6)):
            drawing.event(PACKETS)
            drawing.pause(chance.random() * chance.choice((0.001, 0.01, 0.1)))
        drawing.event(chance.choice(kinds), member=chance.randrange(members))


def heirs_of(faults: Sequence[str]) -> list[str]:
    """What may befall heirs where only faults of the given kinds are played; none given: of all."""
    return [kind for kind in (*HEIRS, *OFTEN) if not faults or kind in faults]


def draw_relay(drawing: Drawing, heirs: Sequence[str]) -> None:
    """Traffic, a fault of the owner in the middle of it, and all is in sync again: so many times."""
    chance = drawing.chance
    if heirs:
        drawing.event(PROOF)
        drawing.event(IN_SYNC)
    for _ in range(RELAY if heirs else 0):
        kind = chance.choice(heirs)
        for _ in range(chance.randint(1, 3)):
            drawing.event(PACKETS)
            drawing.pause(chance.random() * chance.choice((0.0, 0.001, 0.01)))
        drawing.event(HEIR + kind)
        for _ in range(chance.randint(1, 3)):
            drawing.pause(chance.random() * HEIRS[kind])
            drawing.event(PACKETS)
        drawing.event(IN_SYNC)


def brought_along(faults: Sequence[str]) -> tuple[str, ...]:
    """What a fault may bring along in worlds that know more than a pair's faults."""
    return tuple(kind for kind in faults if kind in FAULTS and kind != "switchover and fault") or ("crash",)


def play(world: World, plan: Plan, known: Mapping[str, Fault] = EVERY) -> None:
    """Faults among traffic, then peace.  Raises Violation where a checker finds something."""
    world.faults = list(plan.kinds)
    for node in world.nodes:
        world.start(node.index)
    carry_out(world, plan, partial(_strike, known=known))


def carry_out(world: World, plan: Plan, strike: Callable[[World, str, Node], None]) -> None:
    """All events of a plan, then peace."""
    for event in plan.events:
        world.run(event.pause_s)
        world.random.seed(event.chance)
        if event.what == PACKETS:
            world.traffic()
        elif event.what == PROOF:
            _prove(world, plan.seed)
        elif event.what == IN_SYNC:
            _come_to_be_in_sync(world)
        elif event.what.startswith(HEIR):
            _strike_heir(world, event.what.removeprefix(HEIR), strike)
        else:
            strike(world, event.what, world.nodes[event.member])
    if plan.events and plan.events[-1].what == IN_SYNC:  # nothing of a fault is left to be waited for
        _use(world)
        world.expect_settled()
    else:
        _prove(world, plan.seed)


def _prove(world: World, seed: int) -> None:
    world.random.seed(f"end/{seed}")
    settle(world)
    world.expect_settled()


def _come_to_be_in_sync(world: World) -> None:
    for node in world.nodes:
        node.crash_after = None
    calm_at = AT_REST_S + max(world.time if world.disturbed else 0.0, world.awake_at)
    if world.disturbed:
        world.heal()
    if not all(node.alive for node in world.nodes):
        start(world, world.nodes[0])
    world.run(max(calm_at - world.time, 0.0))
    end = world.time + PROTECTED_S
    while not world.protected:
        if world.time > end:
            raise Violation("stuck", f"no backup is in sync after {PROTECTED_S} s")
        world.run(0.01)
    world.expect_inherited()


def _strike_heir(world: World, kind: str, strike: Callable[[World, str, Node], None]) -> None:
    """One fault at a time: an owner is struck that has had a backup in sync since the last one."""
    if world.may_be_struck:
        world.may_be_struck = False
        strike(world, kind, world.owner)


def settle(world: World) -> None:
    """The faults are over; within a bounded time everything must be as it should."""
    _peace(world, world.nodes[0])
    world.run(world.settle_s)
    _use(world)


def _use(world: World) -> None:
    busy(world, 20, 0.01)
    world.run(1.0)


def judged(seed: int, member: type[PairMember] = PairMember, faults: Sequence[str] = ()) -> World:
    """The world of a seed after a whole run.  Raises Violation with the end of its trace."""
    return replayed(draw(seed, faults), member)


def replayed(plan: Plan, member: type[PairMember] = PairMember, lines: int = 60) -> World:
    """The world of a plan after a whole run.  Raises Violation with the last ``lines`` of its trace."""
    return played(World(plan.seed, member=member), plan, EVERY, lines)


def played(world: W, plan: Plan, known: Mapping[str, Fault], lines: int) -> W:
    """A world after a whole run.  Raises Violation with the last ``lines`` of its trace."""
    try:
        play(world, plan, known)
    except Violation as violation:
        world.note(f"!!! {violation}")
        violation.add_note("\n".join([f"seed {plan.seed}", *world.log[-lines:]]))
        raise
    return world


def busy(world: World, turns: int, pause_s: float = 0.02) -> None:
    for _ in range(turns):
        world.traffic()
        world.run(pause_s)
