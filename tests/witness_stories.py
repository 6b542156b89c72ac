"""Faults of a pair with a witness in an order to which chance hardly comes (``cluster_stories`` has those of a pair
without)."""

from __future__ import annotations

from cluster_faults import busy, settle
from witness_world import FROM, TO, WitnessedWorld

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
    for way in world.ways_of(sleeper.index):
        world.block(*way)
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
    world.start(other.index)
    settle(world)
    world.expect_settled()
    return world


def refused_when_the_partner_comes_up(world: WitnessedWorld) -> WitnessedWorld:
    """A backup is cut off while its owner goes on with the vote, and the host of that dies.  Then the witness can be
    reached again at the very moment at which a new process of the partner says hello."""
    _begin(world)
    owner, backup = sorted(world.nodes, key=lambda node: not node.member.owns)
    for way in world.ways_of(backup.index):
        world.block(*way)
    for way in (TO, FROM):
        world.cut_witness(backup.index, way)
    busy(world, 50)
    assert owner.member.alone_by_vote
    world.crash(owner.index, host=True)
    world.run(2.0)
    world.heal()
    world.start(owner.index)
    settle(world)
    world.expect_settled()
    return world


def _begin(world: WitnessedWorld) -> None:
    for node in world.nodes:
        world.start(node.index)
    world.run(3.5)
    busy(world, 20)
