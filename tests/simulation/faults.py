"""What goes wrong in a world, and what operators do meanwhile.  A fault is a function of the world and one member."""

from __future__ import annotations

from collections.abc import Callable

from ipsecha.model.errors import ClusterError
from ipsecha.model.records import ChildState
from simulation.gateways import MemberNode, Node, PeerNode
from simulation.synch import PATHS
from simulation.world import World

Fault = Callable[[World, MemberNode], None]


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


def mend(world: World, node: MemberNode) -> None:
    world.synch.heal()
    node.host.carrier = True


def lose_beats(world: World, node: MemberNode) -> None:
    world.synch.beat_loss = 0.6


def lose_carrier(world: World, node: MemberNode) -> None:
    node.host.carrier = False


# Outside


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
    world.network.loss = world.network.doubling = world.network.reordering_s = 0.0
    for member in world.members:
        member.host.carrier = True
        member.process.acts_left = None


def play_all(world: World) -> None:
    """The end of all faults: whoever is dead is started."""
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
        partition, lose_beats, lose_carrier, lose_datagrams, double_datagrams, reorder, switchover, delete_ike,
    )
}  # fmt: skip
WORK: dict[str, Fault] = {
    work.__name__: work
    for work in (replay, burst, rekey_children, rekey_ike, check_liveness, delete_children)
}  # fmt: skip
REPAIRS: dict[str, Fault] = {repair.__name__: repair for repair in (restart, mend, peace)}
