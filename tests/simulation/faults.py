"""What goes wrong in a world, and what operators do meanwhile.  A fault is a function of the world and one member."""

from __future__ import annotations

from collections.abc import Callable

from ipsecha.model.errors import ClusterError
from ipsecha.model.records import ChildState
from simulation.gateways import MemberNode, Node, PeerNode
from simulation.hostile import dawdle, deaf, flood, forge, repeat_wildly, roam, wrong_message_ids
from simulation.network import Host
from simulation.synch import PATHS
from simulation.world import World

Fault = Callable[[World, MemberNode], None]

LONGEST_JUMP_S = 50.0
"""Of all in a world."""


# Processes and machines


def crash(world: World, node: MemberNode) -> None:
    node.process.kill()


def crash_between_acts(world: World, node: MemberNode) -> None:
    """At one of the next acts that others can see: after replicating and before installing, in mid-snapshot, ..."""
    node.process.acts_left = world.random.choice((world.random.randint(0, 4), world.random.randint(0, 40)))


def crash_host(world: World, node: MemberNode) -> None:
    node.host.up = False
    node.process.kill()


def restart(world: World, node: MemberNode) -> None:
    if not node.process.alive:
        node.start()


def hang(world: World, node: MemberNode) -> None:
    node.process.stop_for(world.random.choice((0.05, 0.2, 0.35, 0.6, 1.5)) * (0.8 + 0.4 * world.random.random()))


def crash_both(world: World, node: MemberNode) -> None:
    """One soon after the other; the first may be back by then, in sync or not."""
    node.process.kill()
    later = world.random.choice((0.0, 0.01, 0.1, 0.5))
    if world.random.random() < 0.5:
        world.timeline.at(later * world.random.random(), restart, world, node)
    world.timeline.at(later, _crash_unless_over, world, world.members[1 - node.index])


def _crash_unless_over(world: World, node: MemberNode) -> None:
    if not world.over:
        crash(world, node)


def slow(world: World, node: MemberNode) -> None:
    """Each act takes a while: an overloaded host, swapping."""
    node.process.pause_s = world.random.choice((0.001, 0.01, 0.05))


def jump_clock(world: World, node: MemberNode) -> None:
    """The clock of the cluster on one member, forwards or back; and the one on the wall, by days.  Whoever jumps over
    both the rekey and the end of an SA has lost it, so all jumps together are shorter than what lies between these."""
    clock, seconds = node.gateway.clock, world.random.choice((-0.3, 0.3, 2.0, 40.0))
    if world.jumped_s + seconds > LONGEST_JUMP_S:
        seconds = -0.3
    world.jumped_s += max(seconds, 0.0)
    node.wall_skew_s += world.random.choice((-1e6, -10.0, 10.0, 1e6))
    node.process.run(clock.shift, seconds)


def restart_peer(world: World, node: MemberNode) -> None:
    peer = world.random.choice(world.peers)
    peer.process.kill()
    peer.start()
    world.excuse(peer.site)


# Between the members


def break_channel(world: World, node: MemberNode) -> None:
    if node.link is not None:
        world.synch.break_link(node.link)


def slow_channel(world: World, node: MemberNode) -> None:
    world.synch.delay_s = world.random.choice((0.01, 0.05, 0.15, 0.4))


def cut_channel(world: World, node: MemberNode) -> None:
    for receiver in world.random.choice(((0,), (1,), (0, 1))):
        world.synch.block("synch", receiver)


def cut_lan(world: World, node: MemberNode) -> None:
    for receiver in world.random.choice(((0,), (1,), (0, 1))):
        world.synch.block("lan", receiver)


def partition(world: World, node: MemberNode) -> None:
    """On all paths between the members, one way or both; the peers still reach whoever announces the address."""
    for receiver in world.random.choice(((0,), (1,), (0, 1), (0, 1))):
        for path in PATHS:
            world.synch.block(path, receiver)


def divide(world: World, node: MemberNode) -> None:
    """A cut through all networks: the members do not see each other, and each peer reaches the one at its side."""
    for path in PATHS:
        for receiver in (0, 1):
            world.synch.block(path, receiver)
    for peer in world.peers:
        world.network.sides[peer.site.address] = world.random.choice(world.members).host


def mend(world: World, node: MemberNode) -> None:
    world.synch.heal()
    world.network.sides.clear()
    _join_ways(world)
    node.host.carrier = True


def lose_beats(world: World, node: MemberNode) -> None:
    world.synch.beat_loss = 0.6


def lose_carrier(world: World, node: MemberNode) -> None:
    node.host.carrier = False


# Outside


def cut_way_of_peer(world: World, node: MemberNode) -> None:
    """Between one peer and all others: what it sends arrives, what is sent to it does not; or the other way round."""
    _cut_one_way(world, world.random.choice(world.peers).host)


def cut_way_of_members(world: World, node: MemberNode) -> None:
    """The same between a member, or whoever has the addresses, and the peers.  The cut lies behind the members' own
    network: who has the addresses is heard, members hear each other, and no link is down: nobody takes over."""
    both = tuple(one.host for one in world.members)
    _cut_one_way(world, *world.random.choice(((node.host,), both)))


def _cut_one_way(world: World, *hosts: Host) -> None:
    outward = world.random.random() < 0.5
    for host in hosts:
        host.is_heard, host.hears = not outward, outward


def _join_ways(world: World) -> None:
    for one in (*world.members, *world.peers):
        one.host.is_heard = one.host.hears = True


def lose_datagrams(world: World, node: MemberNode) -> None:
    world.network.loss = world.random.choice((0.1, 0.3, 0.6))


def double_datagrams(world: World, node: MemberNode) -> None:
    world.network.doubling = 0.4


def reorder(world: World, node: MemberNode) -> None:
    world.network.reordering_s = world.random.choice((0.005, 0.05, 0.3))


def replay(world: World, node: MemberNode) -> None:
    world.replay()


def burst(world: World, node: MemberNode) -> None:
    world.inner_packets(world.random.choice((40, 100)))


# Operators and lifetimes


def switchover(world: World, node: MemberNode) -> None:
    def command() -> None:
        try:
            node.member.switchover(node.now())
        except ClusterError as error:
            world.record.note(node.process.name, str(error))

    node.ask(command)


def _gateways(world: World) -> list[Node]:
    """Who is to do something: a peer, the owner, or both at once."""
    peer: PeerNode = world.random.choice(world.peers)
    owners: list[Node] = [one for one in world.members if one.process.alive and one.member.owns]
    return world.random.choice(([peer], owners, [peer, *owners]))


def rekey_children(world: World, node: MemberNode) -> None:
    for gateway in _gateways(world):
        for sa in list(gateway.endpoint.sas.values())[:4]:
            for child in sa.children:
                if child.state == ChildState.ESTABLISHED:
                    gateway.ask(gateway.endpoint.rekey_child, child.spi_in, gateway.now())


def rekey_ike(world: World, node: MemberNode) -> None:
    for gateway in _gateways(world):
        for spi in list(gateway.endpoint.sas)[:4]:
            gateway.ask(gateway.endpoint.rekey_ike, spi, gateway.now())


def rekey_at_once(world: World, node: MemberNode) -> None:
    """Both sides of every IKE SA, at the same moment."""
    for gateway in [*world.peers, *(one for one in world.members if one.process.alive and one.member.owns)]:
        for spi, sa in list(gateway.endpoint.sas.items())[:4]:
            if world.random.random() < 0.5:
                gateway.ask(gateway.endpoint.rekey_ike, spi, gateway.now())
            for child in sa.children if world.random.random() < 0.7 else ():
                gateway.ask(gateway.endpoint.rekey_child, child.spi_in, gateway.now())


def check_liveness(world: World, node: MemberNode) -> None:
    for gateway in _gateways(world):
        for spi in list(gateway.endpoint.sas)[:4]:
            gateway.ask(gateway.endpoint.check_liveness, spi, gateway.now())


def delete_children(world: World, node: MemberNode) -> None:
    """They come back by themselves where the policy wants them always up."""
    for gateway in _gateways(world):
        for spi_in in list(gateway.endpoint.child_index)[:4]:
            gateway.ask(gateway.endpoint.terminate, gateway.now(), spi_in=spi_in)


def delete_ike(world: World, node: MemberNode) -> None:
    for gateway in _gateways(world):
        for spi, sa in list(gateway.endpoint.sas.items())[:1]:
            world.excuse(next(site for site in world.sites if site.name == sa.connection))
            gateway.ask(gateway.endpoint.terminate, gateway.now(), local_spi=spi)


def peace(world: World, node: MemberNode) -> None:
    """Everything works again, but nobody who is dead comes back by himself."""
    world.synch.heal()
    world.network.sides.clear()
    world.network.loss = world.network.doubling = world.network.reordering_s = 0.0
    _join_ways(world)
    for member in world.members:
        member.host.carrier = True
        member.process.acts_left = None
        member.process.pause_s = 0.0
    for peer in world.peers:
        peer.process.pause_s = 0.0
        peer.host.refuses = False


def play_all(world: World) -> None:
    """The end of all faults: whoever is dead is started."""
    world.over = True
    peace(world, world.members[0])
    for member in world.members:
        restart(world, member)


def rekey_all(world: World) -> None:
    for gateway in [*world.peers, *(one for one in world.members if one.member.owns)]:
        for spi_in in list(gateway.endpoint.child_index):
            gateway.ask(gateway.endpoint.rekey_child, spi_in, gateway.now())


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        crash, crash_between_acts, crash_host, hang, restart_peer, break_channel, slow_channel, cut_channel, cut_lan,
        partition, divide, lose_beats, lose_carrier, lose_datagrams, double_datagrams, reorder, switchover, delete_ike,
        crash_both, slow, jump_clock, roam, deaf, dawdle, cut_way_of_peer, cut_way_of_members,
    )
}  # fmt: skip
WORK: dict[str, Fault] = {
    work.__name__: work
    for work in (
        replay, burst, rekey_children, rekey_ike, rekey_at_once, check_liveness, delete_children, repeat_wildly, forge,
        wrong_message_ids, flood,
    )
}  # fmt: skip
REPAIRS: dict[str, Fault] = {repair.__name__: repair for repair in (restart, mend, peace)}
