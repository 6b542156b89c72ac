"""Both members live, are cut off from each other without a witness, and meet again: the one that stays owner learns
which SAs the other one has used."""

from __future__ import annotations

import pytest

from cluster_checkers import Node
from cluster_faults import settle
from cluster_world import World
from ipsecha.cluster.pair import PairMember, Role
from witness_world import WitnessedWorld


class Confessed(PairMember):
    """Joins without a word of what it has done."""

    def _confess(self) -> None:
        self._touched.clear()


def _split(world: World) -> tuple[Node, Node]:
    """A pair with a few SAs, cut on all paths for two seconds: the former owner and its backup."""
    world.start(0)
    world.start(1)
    world.run(3.0)
    for _ in range(40):
        world.traffic()
        world.run(0.005)
    owner = next(node for node in world.nodes if node.member.role is Role.ACTIVE)
    for path, receiver in world.blocked:
        world.block(path, receiver)
    world.run(2.0)
    return owner, world.nodes[1 - owner.index]


def _unknown(world: World) -> set[int]:
    """SAs that both have, and that the loser used while it was an owner, without the winner's knowing it."""
    former, backup = _split(world)
    assert former.member.role is backup.member.role is Role.ACTIVE
    shared = former.gateway.table.keys() & backup.gateway.table.keys()
    for node in (former, backup):
        for key in shared:
            node.gateway.message(key)
            world._carry_out(node)
    settle(world)
    world.expect_settled()
    winner = next(node for node in world.nodes if node.member.role is Role.ACTIVE)
    return shared - winner.gateway.suspects


@pytest.mark.parametrize("seed", range(10))
def test_the_one_that_stays_knows_what_the_other_has_used(seed: int) -> None:
    assert not _unknown(World(seed))


def test_a_loser_that_keeps_silent_is_found_out() -> None:
    assert any(_unknown(World(seed, member=Confessed)) for seed in range(10))


@pytest.mark.parametrize("seed", range(10))
def test_with_a_witness_there_is_nothing_to_confess(seed: int) -> None:
    world = WitnessedWorld(seed)
    former, backup = _split(world)
    assert [former.member.role, backup.member.role].count(Role.ACTIVE) == 1
    winner = former if former.member.role is Role.ACTIVE else backup
    for _ in range(20):
        world.traffic()
        world.run(0.01)
    settle(world)
    world.expect_settled()
    world.expect_records_kept()
    assert winner.member.role is Role.ACTIVE
    assert not winner.gateway.suspects
