"""What can happen to three members, with and without a witness, and runs made of it: a pair's faults, and more.

Some kinds are stories: several faults in the order, and at the pace, in which they meet in the middle of something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cluster_faults import (
    EVERY,
    FAULTS,
    Fault,
    among_traffic,
    block,
    brought_along,
    busy,
    crash,
    disturb,
    draw_relay,
    heirs_of,
    played,
    start,
    switchover,
    with_repairs,
)
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.ownership import Role
from mirror_witness import WitnessedMirrorWorld
from mirror_world import NAMES, Member, MirrorWorld
from simulation.plan import Drawing, Plan
from witness_world import WITNESS_FAULTS

LEVEL, WITNESSED_LEVEL = "mirrors", "mirrors-witness"
ROUNDS = 20


def _crash_two(world: MirrorWorld, node: Member) -> None:
    crash(world, node)
    world.run(world.random.choice((0.0, 0.003, 0.02, 0.3)))
    crash(world, world.random.choice([other for other in world.nodes if other is not node]))


def _crash_owner_and_next(world: MirrorWorld, node: Member) -> None:
    """The next owner dies within a second after the first."""
    for _ in range(2):
        crash(world, _first(world, Role.ACTIVE) or node)
        world.run(world.random.choice((0.05, 0.2, 1.0)))


def _isolate(world: MirrorWorld, node: Member) -> None:
    block(world, world.ways_of(node.index))


def _part(world: MirrorWorld, node: Member) -> None:
    """Two of them cannot reach each other, and both the third."""
    block(world, [way for way in world.blocked if node.index not in way])


def _break_one(world: MirrorWorld, node: Member) -> None:
    if node.links:
        world.break_link(world.random.choice(node.channels()))


def _switchover_and_fault(world: MirrorWorld, node: Member) -> None:
    """Whoever owns is asked."""
    for other in world.nodes:
        switchover(world, other)
    world.run(world.random.random() * 0.004)
    disturb(world)


def _backup_then_owner(world: MirrorWorld, node: Member) -> None:
    """The backup dies, then the owner, as soon as it has the next backup or at any other time, all in the middle of
    traffic; and both come back."""
    busy(world, 20, 0.002)
    crash(world, _first(world, Role.STANDBY) or node)
    if world.random.random() < 0.5:
        _until(world, lambda: any(other.alive and other.member.in_sync for other in world.nodes), world.traffic)
    else:
        world.run(world.random.choice((0.0, 0.02, 0.1)))
        busy(world, world.random.randint(0, 12), 0.002)
    crash(world, _first(world, Role.ACTIVE) or node)
    busy(world, world.random.randint(0, 12), 0.002)
    _take_over(world)
    start(world, node)
    busy(world, 10, 0.002)


def _join_then_break(world: MirrorWorld, node: Member) -> None:
    """A mirror joins while all SAs have a little traffic, too little for saying everything again; then the channel of
    the pair breaks, so that the mirror is the better backup, and gets the seat although nobody has died; then the
    owner dies."""
    mirror, owner = _first(world, Role.MIRROR) or node, _first(world, Role.ACTIVE)
    crash(world, mirror)
    start(world, mirror)
    if owner is None or not owner.alive:
        return
    _until(world, lambda: any(o.source.state is BackupState.JOINING for o in owner.member.mirrors()), world.trickle)
    _trickle(world, world.random.randint(0, 6))
    world.run(0.02 + 10 * world.delay_s)
    world.break_link(owner.links.get(owner.member.partner_index))
    world.run(0.05 + 10 * world.delay_s)
    crash(world, owner)
    _take_over(world)
    busy(world, 20, 0.005)
    start(world, owner)


def _deaf_then_gone(world: MirrorWorld, node: Member) -> None:
    """An owner asks for ceilings, and hears no answer: because it hears nobody for a while, and goes on in its lane, or
    because the channel of the pair breaks.  A mirror that has heard of them gets the seat of the backup.  Then the
    owner dies; or that mirror, after it has been given the owner's place and has used the SAs."""
    owner = _first(world, Role.ACTIVE)
    if owner is None:
        return
    block(world, [way for way in world.blocked if way[-1] == owner.index])
    _trickle(world, 6)
    if world.random.random() < 0.5:
        busy(world, 10, 0.05)
        world.heal()
    else:
        world.heal()
        world.break_link(owner.links.get(owner.member.partner_index))
        world.run(0.02)
    _until(world, lambda: owner.member.log.backup is BackupState.IN_SYNC, lambda: None)
    if world.random.random() < 0.5:
        switchover(world, owner)
        world.run(0.02)
        _trickle(world, 4)
    crash(world, _first(world, Role.ACTIVE) or node)
    _take_over(world)
    busy(world, 10, 0.002)
    start(world, node)


def _doubt_then_no_seat(world: MirrorWorld, node: Member) -> None:
    """A switchover whose answer is lost: the former owner goes on in doubt, hears a beat of the new one, and leaves its
    seat.  The new one hears that, at once or after it was isolated, and goes on for long."""
    former, heir = _first(world, Role.ACTIVE), _first(world, Role.STANDBY)
    if former is None or heir is None:
        return
    switchover(world, former)
    for _ in range(100):
        if heir.gateway.active:
            break
        world.run(world.delay_s / 4)
    heard = [("lan", former.index, heir.index)] * world.random.randint(0, 1)
    block(world, [way for way in world.ways_of(former.index) if way not in heard])
    world.run(0.8)
    busy(world, 40, 0.005)
    world.block("lan", heir.index, former.index, blocked=False)
    if world.random.random() < 0.5:
        world.run(0.3)
    else:
        world.run(0.12)
        heir.links_up, heir.health = False, 0
        block(world, world.ways_of(heir.index))
        world.run(0.8)
    world.heal()
    busy(world, 400, 0.002)


def _trickle(world: MirrorWorld, turns: int) -> None:
    for _ in range(turns):
        world.trickle()
        world.run(world.delay_s)


def _take_over(world: MirrorWorld) -> None:
    """There is time for somebody to do so, and an attacker who knows that everybody begins at what it was told last."""
    world.run(0.05 + 10 * world.delay_s)
    world.replay_latest()


def _until(world: MirrorWorld, done: Callable[[], bool], traffic: Callable[[], None]) -> None:
    """In steps that are shorter than anything takes; not for ever."""
    for _ in range(200):
        if done():
            return
        traffic()
        world.run(world.delay_s / 2)


def _first(world: MirrorWorld, role: Role) -> Member | None:
    return next((node for node in world.nodes if node.alive and node.member.role is role), None)


MIRROR_FAULTS: dict[str, Fault] = FAULTS | {
    "crash two": _crash_two,
    "crash owner and next": _crash_owner_and_next,
    "isolate": _isolate,
    "part": _part,
    "break one": _break_one,
    "switchover and fault": _switchover_and_fault,
    "backup then owner": _backup_then_owner,
    "join then break": _join_then_break,
    "deaf then gone": _deaf_then_gone,
    "doubt then no seat": _doubt_then_no_seat,
}
WITH_WITNESS: dict[str, Fault] = MIRROR_FAULTS | WITNESS_FAULTS
CUTS = ("partition", "isolate", "part", "deaf", "cut", *WITNESS_FAULTS)


def draw(seed: int, faults: Sequence[str] = ()) -> Plan:
    """What happens in the world of a seed; with faults of the given kinds, or of some."""
    return _drawn(LEVEL, seed, faults, MIRROR_FAULTS)


def draw_with_witness(seed: int, faults: Sequence[str] = ()) -> Plan:
    return _drawn(WITNESSED_LEVEL, seed, faults, WITH_WITNESS, "witness up")


def _drawn(level: str, seed: int, faults: Sequence[str], known: Mapping[str, Fault], *repairs: str) -> Plan:
    drawing = Drawing(level, seed)
    heirs = heirs_of(faults)
    faults = faults or drawing.kinds(known, 2, 7)
    kinds = [*with_repairs(drawing, faults), *repairs]
    drawing.pause(drawing.chance.choice((0.0, 0.5, 2.0)))
    among_traffic(drawing, kinds, ROUNDS, len(NAMES))
    draw_relay(drawing, heirs)
    return Plan(level, seed, tuple(drawing.events), kinds=brought_along(faults))


def replayed(plan: Plan, lines: int = 60, **types: Any) -> MirrorWorld:
    """The world of a plan after a whole run.  Raises Violation with the last ``lines`` of its trace."""
    world = WitnessedMirrorWorld if plan.level == WITNESSED_LEVEL else MirrorWorld
    return played(world(plan.seed, **types), plan, EVERY | WITH_WITNESS, lines)


def judged(seed: int, faults: Sequence[str] = (), **types: Any) -> MirrorWorld:
    return replayed(draw(seed, faults), **types)


def judged_with_witness(seed: int, faults: Sequence[str] = (), **types: Any) -> MirrorWorld:
    return replayed(draw_with_witness(seed, faults), **types)
