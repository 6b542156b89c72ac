"""Both members live, are cut off from each other without a witness, and meet again: the one that stays owner learns
which SAs the other one has used."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cluster_checkers import Node, Violation
from cluster_faults import settle
from cluster_gateway import ModelGateway, Use
from cluster_world import World
from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.pair import PairMember, Role
from witness_world import WitnessedWorld


class Confessed(PairMember):
    """Joins without a word of what it has done."""

    def _confess(self) -> None:
        pass


class Miser(PairMember):
    """Gives up its records, those that nobody else has among them, without offering them."""

    def bequeath(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        pass


class SelfMade(ModelGateway):
    """Takes inherited SAs for such as it has made itself."""

    def _inherit(self, effect: fx.Inherit) -> None:
        before = self.table.keys() | set()
        super()._inherit(effect)
        for key in self.table.keys() - before:
            self.uses[key] = Use(0, 0, self.table[key])


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


def _lost(world: World, strangers: bool = False) -> set[int]:
    """SAs that one of two owners made while it was cut off, and that nobody has when they have met."""
    former, backup = _split(world)
    if strangers:  # a new process of the backup finds nobody, and begins anew
        world.crash(backup.index)
        world.start(backup.index)
        world.run(3.0)
    assert former.member.role is backup.member.role is Role.ACTIVE
    made = set()
    for number, node in enumerate((former, backup) * 5):
        made.add(key := 1000 + number)
        node.gateway.create(key)
        world._carry_out(node)
        for packet in range(30):
            node.gateway.send(key)
            node.gateway.receive(key, packet)
        world._carry_out(node)
    settle(world)
    world.expect_settled()
    winner = next(node for node in world.nodes if node.member.role is Role.ACTIVE)
    for key in made & winner.gateway.table.keys():  # a number used again, or taken again, is a violation
        for packet in range(60):
            winner.gateway.send(key)
            winner.gateway.receive(key, packet)
        world._carry_out(winner)
    return made - winner.gateway.table.keys() - world._withdrawn


@pytest.mark.parametrize("seed", range(10))
def test_what_the_other_has_made_goes_on(seed: int) -> None:
    assert not _lost(World(seed))


@pytest.mark.parametrize("seed", range(10))
def test_nor_is_anything_lost_between_strangers(seed: int) -> None:
    """Their records go back to different cold starts."""
    assert not _lost(World(seed), strangers=True)


def test_who_has_handed_over_leaves_nothing() -> None:
    """A backup's records are its owner's, who may have used more of them than it has heard."""
    world = World(0)
    world.start(0)
    world.start(1)
    world.run(3.0)
    owner = next(node for node in world.nodes if node.member.owns)
    assert owner.member._estate.bequest(b"heir", strangers=True) is not None
    world.ask(owner.index, PairMember.switchover)
    world.run(1.0)
    assert owner.member.role is Role.STANDBY
    assert owner.member._estate.bequest(b"heir", strangers=True) is None


@pytest.mark.parametrize("seed", range(5))
def test_what_both_had_is_repaired_though_it_is_offered(seed: int) -> None:
    """Its maker had not heard that the other one had received it."""
    world = World(seed)
    world.start(0)
    world.start(1)
    world.run(3.0)
    owner = next(node for node in world.nodes if node.member.owns)
    backup = world.nodes[1 - owner.index]
    owner.gateway.create(1000)
    world._carry_out(owner)
    while 1000 not in backup.gateway.table:
        world.run(0.0002)
    for way in world.blocked:  # its acknowledgement does not arrive
        world.block(*way)
    world.run(2.0)
    for node in (owner, backup):
        node.gateway.message(1000)
        world._carry_out(node)
    settle(world)
    winner = next(node for node in world.nodes if node.member.owns)
    assert 1000 in winner.gateway.suspects


def test_a_loser_that_leaves_nothing_is_found_out() -> None:
    assert all(_lost(World(seed, member=Miser)) for seed in range(3))


def test_an_heir_that_goes_on_from_the_beginning_is_found_out() -> None:
    with pytest.raises(Violation, match=r"I2"):
        _lost(World(0, gateway=SelfMade), strangers=True)


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


def test_what_this_process_has_used_and_forgotten_it_does_not_take() -> None:
    """It gave up its records to begin anew; the other one has the same, and does not know how far they are used."""
    world = World(0)
    world.start(0)
    world.start(1)
    world.run(3.0)
    owner = next(node for node in world.nodes if node.member.owns)
    owner.member._cold_start(world.time)
    bequest = frames.Bequest(owner.member.epoch, ((b"12345678", b"record"),))
    owner.member.take_effects()
    owner.member._on_bequest(bequest, world.time)
    (report,) = owner.member.take_effects()
    assert isinstance(report, fx.ClusterReport)
    assert report.event == "bequest-refused"
    owner.member._estate.known()
    owner.member._on_bequest(bequest, world.time)
    assert [type(effect) for effect in owner.member.take_effects()] == [fx.Suspect, fx.Inherit]


def test_it_takes_none_until_the_end_of_a_join_is_acknowledged() -> None:
    """The channel may break behind that end: then the other one still has what it offered, and offers it again."""
    world = World(0)
    owner, backup = world.nodes
    world.start(owner.index)
    world.run(3.0)
    owner.member._estate.has_forgotten = True
    world.start(backup.index)
    while owner.member.log.backup is not BackupState.IN_SYNC:
        world.run(0.0001)
    assert owner.member._estate.has_forgotten
    world.run(0.1)
    assert not owner.member._estate.has_forgotten
