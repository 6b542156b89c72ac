"""The outer network works in one direction only: whoever is cut off goes on hearing, or being heard, and nobody else is
told.  No member takes over for that, and no SA is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulation.faults import cut_way_of_members, cut_way_of_peer, mend, peace
from simulation.gateways import MemberNode
from simulation.network import Host
from simulation.play import draw, replayed
from simulation.world import World

SEEDS = 12
ONE_WAY = (cut_way_of_peer.__name__, cut_way_of_members.__name__)


def _in_peace(seed: int) -> World:
    world = World(seed, peers=1)
    for site in world.sites:
        site.child_rekey_s, site.ike_rekey_s = 3600.0, 14400.0
    world.start()
    world.run(6.0)
    return world


def _arrived(world: World) -> tuple[bool, bool]:
    """Whether a packet from the peer and one to it arrive."""
    began = world.time
    world.inner_packets(40)
    world.run(0.1)
    inbound, outbound = (when > began for when in world.last_delivery(world.sites[0]))
    return inbound, outbound


def _owner(world: World) -> MemberNode:
    return next(node for node in world.members if node.member.owns)


@pytest.mark.parametrize(
    ("end", "is_heard", "expected"),
    [
        ("peer", True, (True, False)),
        ("peer", False, (False, True)),
        ("owner", True, (False, True)),
        ("owner", False, (True, False)),
    ],
)
def test_a_way_is_cut_and_the_other_one_is_not(end: str, is_heard: bool, expected: tuple[bool, bool]) -> None:
    world = _in_peace(1)
    assert _arrived(world) == (True, True)
    host: Host = world.peers[0].host if end == "peer" else _owner(world).host
    host.is_heard, host.hears = is_heard, not is_heard
    assert _arrived(world) == expected
    peace(world, world.members[0])
    assert _arrived(world) == (True, True)


@pytest.mark.parametrize("repair", [mend, peace])
@pytest.mark.parametrize("fault", [cut_way_of_peer, cut_way_of_members])
def test_each_of_these_faults_is_undone(
    fault: Callable[[World, MemberNode], None], repair: Callable[[World, MemberNode], None]
) -> None:
    world = _in_peace(2)
    hosts = [node.host for node in (*world.members, *world.peers)]
    fault(world, world.members[0])
    assert any(host.is_heard != host.hears for host in hosts)
    repair(world, world.members[1])
    assert all(host.is_heard and host.hears for host in hosts)


@pytest.mark.slow
def test_nobody_takes_over_and_no_sa_is_lost() -> None:
    for seed in range(SEEDS):
        assert not replayed(draw(seed, ONE_WAY)).failovers
