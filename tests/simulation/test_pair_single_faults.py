"""What must not cost a single SA: any one fault that strikes a pair whose backup is in sync."""

from __future__ import annotations

import pytest

from cluster_checkers import Node
from cluster_faults import FAULTS, disturb, settle
from cluster_stories import links_fail_where_the_partner_has_long_been_silent, owner_dies_behind_a_cut_cable
from cluster_world import World
from ipsecha.cluster.pair import PairMember, Role

SINGLE = sorted(FAULTS.keys() - {"restart all", "switchover and fault"})


def _protected_pair(seed: int, faults: tuple[str, ...] = ()) -> World:
    world = World(seed, faults=faults)
    world.start(0)
    world.start(1)
    world.run(0.5)
    for _ in range(20):
        world.traffic()
        world.run(world.random.random() * 0.01)
    return world


def _owner(world: World) -> Node:
    return next(node for node in world.nodes if node.alive and node.member.role is Role.ACTIVE)


@pytest.mark.parametrize("fault", SINGLE)
def test_one_fault_at_a_time_costs_no_sa(fault: str) -> None:
    for seed in range(8):
        world = _protected_pair(seed, (fault,))
        for _ in range(4):
            disturb(world)
            for _ in range(40):
                world.traffic()
                world.run(0.02)
            world.expect_records_kept()
            settle(world)
            world.expect_settled()
            world.expect_records_kept()


def test_a_partner_that_refuses_connections_every_few_milliseconds_is_declared_dead_once() -> None:
    world = _protected_pair(1)
    world.crash(1 - _owner(world).index)
    world.run(0.1)
    owner = _owner(world).gateway
    known = list(owner.reports)
    world.run(3.0)
    assert owner.reports == known


def test_the_death_of_the_backup_does_not_touch_the_owner() -> None:
    world = _protected_pair(2)
    owner = _owner(world)
    before = world.failovers
    world.crash(1 - owner.index)
    world.run(2.0)
    assert world.failovers == before
    assert owner.gateway.uses


def test_a_member_that_came_up_alone_does_not_sweep_away_an_owner_that_has_served_for_long() -> None:
    world = _protected_pair(3)
    owner = _owner(world)
    world.crash(1 - owner.index)
    world.run(100.0)
    for path, receiver in world.blocked:
        world.block(path, receiver)
    world.start(1 - owner.index)
    world.run(3.0)
    assert world.nodes[1 - owner.index].member.role is Role.ACTIVE
    assert world.nodes[1 - owner.index].member.epoch > owner.member.epoch
    settle(world)
    world.expect_settled()
    world.expect_records_kept()
    assert _owner(world) is owner


def test_an_owner_without_a_backup_does_not_mind_an_outage_of_its_links() -> None:
    """Its partner is dead, and that is proven."""
    world = _protected_pair(4)
    owner = _owner(world)
    world.crash(1 - owner.index)
    world.run(0.5)
    epoch = owner.member.epoch
    owner.links_up = False
    world.run(1.0)
    owner.links_up = True
    world.run(0.1)
    assert owner.member.role is Role.ACTIVE
    assert owner.member.epoch == epoch
    world.expect_records_kept()


@pytest.mark.parametrize("seed", range(6))
def test_outages_of_links_cost_no_sa_where_the_partner_has_long_been_silent(seed: int) -> None:
    links_fail_where_the_partner_has_long_been_silent(World(seed))


def test_alone_stop_serves_no_more_after_silence_and_goes_on_when_the_partner_is_back() -> None:
    world = World(5, stop_when_alone=True)
    world.start(0)
    world.start(1)
    world.run(0.5)
    for _ in range(20):
        world.traffic()
    owner, backup = _owner(world), world.nodes[1 - _owner(world).index]
    world.pause(backup.index, 2.0)
    world.run(1.5)
    assert owner.member.role is Role.ISOLATED
    settle(world)
    world.expect_settled()
    world.expect_records_kept()


def test_both_operators_ask_for_a_switchover_at_once() -> None:
    world = _protected_pair(6)
    before = world.failovers
    for index in (0, 1):
        assert world.ask(index, PairMember.switchover)
    world.run(1.0)
    assert world.failovers == before + 1
    world.expect_settled()


def test_a_channel_that_dies_alone_does_not_leave_a_stale_backup() -> None:
    """The synch cable is cut, beats go on over the LAN: the owner goes on without its backup only once that knows."""
    for seed in range(20):
        world = _protected_pair(seed)
        owner = _owner(world)
        backup = world.nodes[1 - owner.index]
        for receiver in (0, 1):
            world.block("synch", receiver)
        for _ in range(100):
            world.traffic()
            world.run(0.02)
        assert owner.member.role is Role.ACTIVE
        assert not owner.member.rivalry.exists
        assert not backup.member.in_sync
        world.heal()
        settle(world)
        world.expect_settled()
        world.expect_records_kept()
        assert _owner(world) is owner


def test_the_owner_dies_while_the_synch_cable_is_cut() -> None:
    """Two faults in a row: what was delivered since the cut is not accepted again, for the backup has given up."""
    for seed in range(20):
        owner_dies_behind_a_cut_cable(World(seed))
