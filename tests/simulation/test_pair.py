"""Random faults on a pair of members; every run is judged by the checkers of ``cluster_world``."""

from __future__ import annotations

import pytest
from cluster_world import PATHS, Violation, World

from ipsecha.cluster.pair import PairMember

SEEDS = 40
ROUNDS = 12


def _fault(world: World) -> None:
    pick = world.random
    index = pick.randint(0, 1)
    node = world.nodes[index]
    kind = pick.choice(FAULTS)
    if kind in ("crash", "host", "crash in effects", "goodbye") and not node.alive:
        kind = "start"
    world.note(f"fault {kind} {'ab'[index]}")
    match kind:
        case "crash" | "host":
            world.crash(index, host=kind == "host")
        case "crash in effects":
            node.crash_after = pick.randint(0, 12)
        case "start":
            for other in world.nodes:
                if not other.alive:
                    world.start(other.index)
        case "restart both":
            for other in world.nodes:
                if other.alive:
                    world.crash(other.index)
                world.start(other.index)
        case "partition":
            for path, receiver in world.blocked:
                world.block(path, receiver)
        case "cut":
            world.block(pick.choice(PATHS), pick.randint(0, 1))
        case "deaf":
            for path in PATHS:
                world.block(path, index)
        case "break":
            world.break_link(node.link)
        case "switchover":
            world.ask(index, PairMember.switchover)
        case "switchover and fault":
            world.ask(index, PairMember.switchover)
            world.run(pick.random() * 0.004)
            _fault(world)
        case "goodbye":
            if world.ask(index, lambda member, now: member.say_goodbye()):
                node.gateway.active = False
                if pick.random() < 0.5:
                    world.run(pick.random() * 0.004)
                if node.alive:
                    world.crash(index)
        case "pause":
            world.pause(index, pick.choice((0.2, 0.5, 1.5)))
        case "links":
            node.links_up, node.health = False, 0
            for path in PATHS:
                world.block(path, 0)
                world.block(path, 1)
        case "health":
            node.health = pick.randint(0, 2)
        case "slow":
            world.delay_s = pick.choice((0.001, 0.03, 0.2))
            world.faulty()
        case "loss":
            world.beat_loss = pick.choice((0.1, 0.5, 0.9))
            world.faulty()
        case "late":
            world.late_ticks_s = 0.15
            world.faulty()
        case "heal":
            world.heal()


FAULTS = (
    *("crash", "host", "crash in effects", "start", "start", "start", "restart both"),
    *("partition", "cut", "deaf", "break", "break", "switchover", "switchover", "switchover and fault", "goodbye"),
    *("pause", "links", "health", "slow", "loss", "late", "heal", "heal", "heal"),
)


def play(world: World, rounds: int = ROUNDS) -> None:
    """Faults among traffic, then peace; ``Violation`` where a checker finds something."""
    world.start(0)
    world.start(1)
    for _ in range(rounds):
        for _ in range(world.random.randint(1, 15)):
            world.traffic()
            world.run(world.random.random() * world.random.choice((0.002, 0.02, 0.1)))
        _fault(world)
    settle(world)
    world.expect_settled()


def settle(world: World) -> None:
    world.heal()
    for node in world.nodes:
        if not node.alive:
            world.start(node.index)
    world.run(8.0)
    world.fault_until = min(world.fault_until, world.time - 3.0)
    for _ in range(20):
        world.traffic()
        world.run(0.01)
    world.run(1.0)


def judged(world: World, rounds: int = ROUNDS) -> World:
    try:
        play(world, rounds)
    except Violation as violation:
        violation.add_note("\n".join(world.log[-60:]))
        raise
    return world


@pytest.mark.parametrize("seed", range(SEEDS))
def test_faults_of_all_kinds(seed: int) -> None:
    judged(World(seed))
