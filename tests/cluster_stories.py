"""Faults in an order and at moments to which chance comes once in ten thousand worlds; what members do meanwhile, and
with which numbers, is left to the seed."""

from __future__ import annotations

from collections.abc import Callable

from cluster_checkers import Link, Node
from cluster_faults import W, busy, settle
from cluster_world import World
from ipsecha.cluster.pair import PairMember, Role

STEP_S = 0.0002


def owner_dies_behind_a_cut_cable(world: World) -> World:
    """The synch cable is cut while beats go on over the LAN, then the owner dies."""
    owner, _ = _pair(world)
    for receiver in (0, 1):
        world.block("synch", receiver)
    busy(world, 100)
    world.crash(owner.index)
    busy(world, 100)
    world.heal()
    return come_back(world, owner)


def owner_dies_in_mid_join(world: World) -> World:
    """Its backup has come back, and has received a part of the records."""
    owner, backup = _pair_again(world)
    for _ in range(5000):
        if backup.member._applied is not None:
            break
        world.run(STEP_S)
    world.crash(owner.index)
    world.run(0.5)
    return come_back(world, owner)


def owner_dies_after_a_join(world: World) -> World:
    """Its backup has come back, under traffic that ends when all records are on their way, and is in sync at last."""
    owner, backup = _pair_again(world)
    for _ in range(1000):
        if backup.member.in_sync:
            break
        if not owner.member.log.closing:
            world.traffic()
        world.run(STEP_S)
    world.crash(owner.index)
    busy(world, 50, 0.002)
    world.start(owner.index)
    return _settled_andbusy(world)


def doubt_then_isolation(world: World) -> World:
    """A switchover whose answer is lost: its owner goes on in doubt beside the new one.  That one is isolated, and its
    operator has it serve all the same."""
    _, heir = _in_doubt(world)
    busy(world, 80)
    _isolate(world, heir)
    world.run(0.6)
    assert heir.member.role is Role.ISOLATED
    world.ask(heir.index, PairMember.serve_alone)
    busy(world, 60)
    return _settled_andbusy(world)


def links_fail_where_the_partner_has_long_been_silent(world: World) -> World:
    """The owner's host dies without a word.  Then, more than once, all links of the member that has gone on are down
    for a while: a switch that restarts.  Nothing that was protected may be lost, and the dead member joins in the end.
    """
    owner, backup = _pair(world)
    world.crash(owner.index, host=True)
    world.run(1.0)
    for _ in range(3):
        busy(world, 20)
        _isolate(world, backup)
        busy(world, int(world.random.choice((10, 300))))
        world.heal()
        world.run(3.0)
        world.expect_records_kept()
    come_back(world, owner)
    world.expect_records_kept()
    return world


def handed_over_there_and_back(world: World) -> World:
    """A switchover whose answer is lost; before anybody knows, the new owner is to hand over in its turn.  Neither
    hears the other, and each would be in doubt."""
    former, heir = _pair(world)
    world.run(0.1)
    world.ask(former.index, PairMember.switchover)
    _run_until_owner(world, heir)
    _cut_all(world, former)
    world.ask(heir.index, PairMember.switchover)
    world.run(0.1)
    _cut_all(world)
    world.run(0.8)
    busy(world, 80)
    return _settled_andbusy(world)


def doubt_then_a_beat(world: World) -> World:
    """As above, and then the owner in doubt hears a beat of the new one before it can say what it has done."""
    former, _ = _in_doubt(world)
    busy(world, 20)
    world.block("lan", former.index, blocked=False)
    world.run(0.3)
    world.heal()
    return _settled_andbusy(world)


def an_estate_that_was_used_before(world: World) -> World:
    """A switchover whose answer is lost, and the new owner is isolated.  The former one sees it for as long as it
    takes to reclaim the SAs, uses them, dies, and begins anew.  Then the isolated one meets it, with all its records.
    """
    former, heir = _in_doubt(world)
    _isolate(world, heir)
    world.run(0.5)
    world.heal()
    epoch = former.member.epoch
    _run_until(world, lambda: former.member.epoch != epoch)
    _lose(world, former.link)
    _isolate(world, heir)
    busy(world, 400, 0.002)
    world.crash(former.index)
    world.run(0.2)
    world.start(former.index)
    world.run(2.5)
    world.heal()
    return _settled_andbusy(world)


def _lose(world: World, link: Link | None) -> None:
    """A channel breaks, with all that is under way on it."""
    world.break_link(link)
    if link is not None:
        link.cut_at = dict.fromkeys(link.cut_at, world.time)
    _cut_all(world)
    world.run(0.001)
    world.heal()


def _pair(world: World) -> tuple[Node, Node]:
    """Owner and backup, some traffic later."""
    world.start(0)
    world.start(1)
    world.run(0.5)
    busy(world, 20)
    owner = next(node for node in world.nodes if node.member.owns)
    return owner, world.nodes[1 - owner.index]


def _pair_again(world: World) -> tuple[Node, Node]:
    """Owner and backup, which has died and begins to join."""
    owner, backup = _pair(world)
    busy(world, 60)
    world.crash(backup.index)
    world.run(0.5)
    world.start(backup.index)
    return owner, backup


def come_back(world: W, node: Node) -> W:
    """The last of whatever has happened: nothing is disturbed any more, and a member is there again."""
    world.start(node.index)
    settle(world)
    world.expect_settled()
    return world


def _in_doubt(world: World) -> tuple[Node, Node]:
    """An owner that has sent HANDOVER and goes on without an answer, and the one that has taken over."""
    former, heir = _pair(world)
    world.run(0.1)
    world.ask(former.index, PairMember.switchover)
    _run_until_owner(world, heir)
    _cut_all(world, former)
    world.run(0.8)
    assert all(node.member.owns for node in world.nodes)
    return former, heir


def _cut_all(world: World, receiver: Node | None = None) -> None:
    for path, index in world.blocked:
        if receiver is None or receiver.index == index:
            world.block(path, index)


def _isolate(world: World, node: Node) -> None:
    """All its links fail."""
    node.links_up, node.health = False, 0
    _cut_all(world)


def _run_until_owner(world: World, node: Node) -> None:
    _run_until(world, lambda: node.member.owns)


def _run_until(world: World, done: Callable[[], bool]) -> None:
    for _ in range(5000):
        if done():
            return
        world.run(STEP_S)


def _settled_andbusy(world: World) -> World:
    settle(world)
    busy(world, 400)
    settle(world)
    world.expect_settled()
    return world
