"""A cut through all networks, without a witness: each member serves the peers at its side.  When it has healed, the
tunnels of the owner that gives up go on at the one that stays, which has never seen them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ipsecha.ike.flags import LEAVING
from simulation.faults import divide, peace
from simulation.gateways import PeerNode
from simulation.world import Variant, World

pytestmark = pytest.mark.slow

Story = Callable[[World, PeerNode], None]


def rekeys_the_ike_sa(world: World, peer: PeerNode) -> None:
    for spi in _ike_spis(peer):
        peer.ask(peer.endpoint.rekey_ike, spi, peer.now())


def rekeys_everything(world: World, peer: PeerNode) -> None:
    rekeys_the_ike_sa(world, peer)
    world.run(0.2)
    for spi in list(peer.endpoint.child_index):
        peer.ask(peer.endpoint.rekey_child, spi, peer.now())


def begins_anew(world: World, peer: PeerNode) -> None:
    peer.process.kill()
    world.run(0.1)
    peer.start()
    if not peer.endpoint.initiations:
        peer.ask(peer.endpoint.initiate, peer.endpoint.policy.connections[0].name, None, peer.now())


def is_called(world: World, peer: PeerNode) -> None:
    """The member at its side takes the connection down, and up again."""
    member = next(node for node in world.members if world.network.sides[peer.site.address] is node.host)
    name = peer.site.name
    member.ask(member.endpoint.terminate, member.now(), connection=name)
    world.run(0.2)
    member.ask(member.endpoint.initiate, name, None, member.now())


STORIES = (rekeys_the_ike_sa, rekeys_everything, begins_anew, is_called)


def _ike_spis(peer: PeerNode) -> set[bytes]:
    return {spi for spi, sa in peer.endpoint.sas.items() if not sa.flags & LEAVING and sa.children}


def _healed(story: Story, side: int, seed: int, variant: Variant | None = None) -> tuple[World, dict[str, set[bytes]]]:
    """The world three seconds after the cut has healed, and the IKE SAs that each peer had in that moment."""
    world = World(seed, variant, peers=2)
    world.start()
    world.run(3.0)
    divide(world, world.members[0])
    for peer in world.peers:
        world.network.sides[peer.site.address] = world.members[side].host
    world.run(1.0)
    assert all(node.member.owns for node in world.members)
    for peer in world.peers:
        story(world, peer)
    for _ in range(10):
        world.inner_packets()
        world.run(0.2)
    held = {peer.name: _ike_spis(peer) for peer in world.peers}
    world.healed_at = world.time
    peace(world, world.members[0])
    for _ in range(15):
        world.run(0.2)
        world.inner_packets()
    world.run(0.1)
    return world, held


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_every_tunnel_goes_on(story: Story, side: int, seed: int) -> None:
    world, held = _healed(story, side, seed)
    owner = next(node for node in world.members if node.member.owns)
    assert [node.member.in_sync for node in world.members].count(True) == 1
    for peer in world.peers:
        assert held[peer.name], "the story has left the peer a tunnel"
        assert _ike_spis(peer) == held[peer.name]
        assert not [when for when in world.record.initiations[peer.site.address] if when > world.healed_at]
        assert all(world.time - when < 0.5 for when in world.last_delivery(peer.site))
    if story is not begins_anew:  # what the former process of a peer had is found out by liveness checks
        world.run(1.0)
        ours = {sa.spi_i for sa in owner.endpoint.sas.values() if not sa.flags & LEAVING}
        assert ours <= {sa.spi_i for peer in world.peers for sa in peer.endpoint.sas.values()}
