"""What can happen to three members, and runs made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cluster_world import PATHS
from ipsecha.cluster.pair import PairMember, Role
from ipsecha.cluster.seating import SeatedMember
from mirror_world import Member, MirrorWorld
from simulation.violation import Violation

ROUNDS = 20


def _crash(world: MirrorWorld, node: Member) -> None:
    if node.alive:
        world.crash(node.index)


def _host(world: MirrorWorld, node: Member) -> None:
    if node.alive:
        world.crash(node.index, host=True)


def _crash_in_effects(world: MirrorWorld, node: Member) -> None:
    node.crash_after = world.random.randint(0, 12)


def _crash_two(world: MirrorWorld, node: Member) -> None:
    _crash(world, node)
    world.run(world.random.choice((0.0, 0.003, 0.02, 0.3)))
    _crash(world, world.random.choice([other for other in world.nodes if other is not node]))


def _crash_owner_and_next(world: MirrorWorld, node: Member) -> None:
    """The next owner dies within a second after the first."""
    for _ in range(2):
        owner = next((other for other in world.nodes if other.alive and other.member.owns), node)
        _crash(world, owner)
        world.run(world.random.choice((0.05, 0.2, 1.0)))


def _restart_all(world: MirrorWorld, node: Member) -> None:
    for other in world.nodes:
        _crash(world, other)
    _start(world, node)


def _start(world: MirrorWorld, node: Member) -> None:
    """No process comes back at once."""
    world.run(0.1)
    for other in world.nodes:
        if not other.alive:
            world.start(other.index)


def _isolate(world: MirrorWorld, node: Member) -> None:
    for path, sender, receiver in world.blocked:  # type: ignore[misc]
        if node.index in (sender, receiver):
            world.block_way(path, sender, receiver)


def _part(world: MirrorWorld, node: Member) -> None:
    """Two of them cannot reach each other, and both the third."""
    for path, sender, receiver in world.blocked:  # type: ignore[misc]
        if node.index not in (sender, receiver):
            world.block_way(path, sender, receiver)


def _cut(world: MirrorWorld, node: Member) -> None:
    """The synch cable between two, one way; their beats get through."""
    world.block_way("synch", node.index, world.random.choice([n.index for n in world.nodes if n is not node]))


def _deaf(world: MirrorWorld, node: Member) -> None:
    for path in PATHS:
        for other in world.nodes:
            if other is not node:
                world.block_way(path, other.index, node.index)


def _break(world: MirrorWorld, node: Member) -> None:
    if node.wires:
        world.break_link(world.random.choice(list(node.wires.values())))


def _switchover(world: MirrorWorld, node: Member) -> None:
    world.ask(node.index, PairMember.switchover)


def _switchover_and_fault(world: MirrorWorld, node: Member) -> None:
    for other in world.nodes:
        _switchover(world, other)
    world.run(world.random.random() * 0.004)
    disturb(world)


def _goodbye(world: MirrorWorld, node: Member) -> None:
    if world.ask(node.index, lambda member, now: member.say_goodbye()):
        node.gateway.active = False
        node.paused_until = float("inf")
        world.run(world.random.random() * 0.004 * world.random.randint(0, 1))
        _crash(world, node)


def _pause(world: MirrorWorld, node: Member) -> None:
    world.pause(node.index, world.random.choice((0.2, 0.5, 1.5)))


def _links(world: MirrorWorld, node: Member) -> None:
    node.links_up, node.health = False, 0
    _isolate(world, node)


def _health(world: MirrorWorld, node: Member) -> None:
    node.health = world.random.randint(0, 2)


def _slow(world: MirrorWorld, node: Member) -> None:
    world.delay_s = world.random.choice((0.001, 0.03, 0.2))
    world.faulty()


def _loss(world: MirrorWorld, node: Member) -> None:
    world.beat_loss = world.random.choice((0.1, 0.5, 0.9))
    world.faulty()


def _late(world: MirrorWorld, node: Member) -> None:
    world.late_ticks_s = 0.15
    world.faulty()


def _heal(world: MirrorWorld, node: Member) -> None:
    world.heal()


def _peace(world: MirrorWorld, node: Member) -> None:
    world.heal()
    _start(world, node)
    world.run(1.0 + world.random.random())


FAULTS: dict[str, Callable[[MirrorWorld, Member], None]] = {
    "crash": _crash,
    "host": _host,
    "crash in effects": _crash_in_effects,
    "crash two": _crash_two,
    "crash owner and next": _crash_owner_and_next,
    "restart all": _restart_all,
    "isolate": _isolate,
    "part": _part,
    "cut": _cut,
    "deaf": _deaf,
    "break": _break,
    "switchover": _switchover,
    "switchover and fault": _switchover_and_fault,
    "goodbye": _goodbye,
    "pause": _pause,
    "links": _links,
    "health": _health,
    "slow": _slow,
    "loss": _loss,
    "late": _late,
}
REPAIRS: dict[str, Callable[[MirrorWorld, Member], None]] = {"start": _start, "heal": _heal, "peace": _peace}


def disturb(world: MirrorWorld) -> None:
    """One fault or repair of the kinds that this run plays."""
    strike(world, world.random.choice(world.faults), world.random.choice(world.nodes))


def strike(world: MirrorWorld, kind: str, node: Member) -> None:
    world.note(f"fault {kind} {node.index}")
    (world.faults_known or {**FAULTS, **REPAIRS})[kind](world, node)


def start_all(world: MirrorWorld) -> None:
    for node in world.nodes:
        world.start(node.index)


def busy(world: MirrorWorld, turns: int, pause_s: float = 0.02) -> None:
    for _ in range(turns):
        world.traffic()
        world.run(pause_s)


def play(world: MirrorWorld) -> None:
    """Faults among traffic, then peace.  Raises Violation where a checker finds something."""
    chance = world.random
    known = sorted((world.faults_known or FAULTS).keys() - REPAIRS.keys())
    kinds = world.faults or chance.sample(known, chance.randint(2, 7))
    world.faults = [*kinds, *chance.sample(sorted(REPAIRS), chance.randint(1, 3)), "peace", "start"]
    start_all(world)
    world.run(chance.choice((0.0, 0.5, 2.0)))
    for _ in range(ROUNDS):
        for _ in range(chance.randint(1, 6)):
            world.traffic()
            world.run(chance.random() * chance.choice((0.001, 0.01, 0.1)))
        disturb(world)
    settle(world)


def settle(world: MirrorWorld) -> None:
    """The faults are over; within a bounded time everything must be as it should."""
    _peace(world, world.nodes[0])
    world.run(5.0)
    busy(world, 20, 0.01)
    world.run(1.0)
    world.expect_settled()


@contextmanager
def told(world: MirrorWorld, lines: int = 60) -> Iterator[None]:
    """A Violation takes the end of the world's story with it."""
    try:
        yield
    except Violation as violation:
        violation.add_note("\n".join(world.log[-lines:]))
        raise


def judged(
    seed: int, faults: tuple[str, ...] = (), member: type[SeatedMember] = SeatedMember, **settings: Any
) -> MirrorWorld:
    """The world of a seed after a whole run, every other one with ``acks_all``.  Raises Violation with its trace."""
    settings.setdefault("acks_all", bool(seed & 1))
    world = MirrorWorld(seed, member=member, **settings)
    world.faults = list(faults)
    with told(world):
        play(world)
    return world


def deaths_in_a_row(seed: int, faults: tuple[str, ...] = (), member: type[SeatedMember] = SeatedMember) -> MirrorWorld:
    """The backup dies, then the owner, again and again, and both come back, all in the middle of traffic."""
    world = MirrorWorld(seed, member=member, acks_all=bool(seed & 1))
    with told(world):
        start_all(world)
        world.run(0.5)
        for _ in range(10):
            busy(world, 20, 0.002)
            for role in (Role.STANDBY, Role.ACTIVE):
                for node in world.nodes:
                    if node.alive and node.member.role is role:
                        world.crash(node.index)
                        break
                world.run(world.random.choice((0.0, 0.02, 0.1)))
                busy(world, world.random.randint(0, 12), 0.002)
            world.run(0.1)
            for node in world.nodes:
                if not node.alive:
                    world.start(node.index)
            busy(world, 10, 0.002)
            world.run(0.3)
        settle(world)
    return world


def a_channel_breaks_after_a_join(
    seed: int, faults: tuple[str, ...] = (), member: type[SeatedMember] = SeatedMember
) -> MirrorWorld:
    """A mirror joins in the middle of traffic; then the channel of the pair breaks, so that the mirror is the better
    backup, and gets the seat although nobody has died; then the owner dies."""
    world = MirrorWorld(seed, member=member, acks_all=bool(seed & 1))
    with told(world):
        start_all(world)
        world.run(0.5)
        for _ in range(8):
            busy(world, 20, 0.002)
            for node in world.nodes:
                if node.member.role is Role.MIRROR:
                    world.crash(node.index)
                    world.run(0.1)
                    world.start(node.index)
                    break
            busy(world, 40, 0.0005)
            owner = next(node for node in world.nodes if node.member.owns)
            wire = owner.wires.get(owner.member.partner_index)
            world.break_link(wire)
            world.run(0.06)
            world.crash(owner.index)
            busy(world, 20, 0.005)
            world.start(owner.index)
            world.run(1.0)
        settle(world)
    return world
