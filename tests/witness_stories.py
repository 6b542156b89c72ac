"""Faults of a pair with a witness in an order to which chance hardly comes (``cluster_stories`` has those of a pair
without)."""

from __future__ import annotations

from cluster_faults import block, busy
from cluster_stories import come_back
from witness_world import WITNESS_FAULTS, WitnessedWorld

SLEEP_S = 2.0


def asleep_during_a_vote(world: WitnessedWorld) -> WitnessedWorld:
    """Owner or backup sleeps, and what is sent to it is lost, at once or after a few beats.  Meanwhile the other one
    goes on with the vote, and dies.  The sleeper wakes up, has proof of that some time later, and the witness is gone.
    """
    _begin(world)
    sleeper, other = world.random.sample(world.nodes, 2)
    wakes_at = world.time + SLEEP_S
    world.pause(sleeper.index, SLEEP_S)
    world.run(world.random.choice((0.0, 0.15)))
    block(world, world.ways_of(sleeper.index))
    busy(world, 50)
    assert other.member.alone_by_vote
    world.witness(False)
    world.crash(other.index)
    world.run(0.001)  # what is still under way gets lost
    world.run(world.random.choice((0.0, wakes_at + world.random.uniform(0.0, 0.5) - world.time)))
    for way in world.ways_of(sleeper.index):
        world.block(*way, blocked=False)
    busy(world, 150)
    world.heal()
    return come_back(world, other)


def refused_when_the_partner_comes_up(world: WitnessedWorld) -> WitnessedWorld:
    """A backup is cut off while its owner goes on with the vote, and the host of that dies.  Then the witness can be
    reached again at the very moment at which a new process of the partner says hello."""
    _begin(world)
    owner, backup = sorted(world.nodes, key=lambda node: not node.member.owns)
    block(world, world.ways_of(backup.index))
    WITNESS_FAULTS["witness cut"](world, backup)
    busy(world, 50)
    assert owner.member.alone_by_vote
    world.crash(owner.index, host=True)
    world.run(2.0)
    world.heal()
    return come_back(world, owner)


def _begin(world: WitnessedWorld) -> None:
    for node in world.nodes:
        world.start(node.index)
    world.run(3.5)
    busy(world, 20)
