"""What happens in a walk along the boundaries (``boundaries``): stories, and faults that strike in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ipsecha.ike.flags import LEAVING
from ipsecha.model.errors import ClusterError
from ipsecha.model.records import ChildState, IkeSa
from simulation.gateways import MemberNode, Node
from simulation.world import World

EXCHANGES_S = 0.06
"""A few exchanges, one behind the other, when nothing is lost."""
RENEWAL_S = 1.3
"""A deletion, the second that a connection rests, and a new beginning."""


def standing(node: Node) -> Iterator[tuple[bytes, IkeSa]]:
    """IKE SAs of a gateway that are not about to go, by local SPI."""
    for spi, sa in list(node.endpoint.sas.items()):
        if not sa.flags & LEAVING:
            yield spi, sa


# What a gateway may begin


def check_liveness(node: Node) -> None:
    for spi, _ in standing(node):
        node.ask(node.endpoint.check_liveness, spi, node.now())


def _rekey_child(node: Node) -> None:
    for _, sa in standing(node):
        for child in sa.children:
            if child.state == ChildState.ESTABLISHED:
                node.ask(node.endpoint.rekey_child, child.spi_in, node.now())


def _rekey_ike(node: Node) -> None:
    for spi, _ in standing(node):
        node.ask(node.endpoint.rekey_ike, spi, node.now())


def _delete_child(node: Node) -> None:
    for _, sa in standing(node):
        for child in sa.children:
            node.ask(node.endpoint.terminate, node.now(), spi_in=child.spi_in)


def _delete_ike(node: Node) -> None:
    for spi, _ in standing(node):
        node.ask(node.endpoint.terminate, node.now(), local_spi=spi)


def _nothing(node: Node) -> None:
    pass


# Stories


class Story(NamedTuple):
    """``seconds``: what it takes where nothing befalls it; ``renews``: IKE SAs end in it, and new ones are made."""

    tell: Callable[[World, MemberNode, MemberNode], None]
    seconds: float = EXCHANGES_S
    renews: bool = False


def _exchanges(
    by_owner: Callable[[Node], None],
    by_peer: Callable[[Node], None],
    seconds: float = EXCHANGES_S,
    renews: bool = False,
) -> Story:
    def tell(world: World, owner: MemberNode, backup: MemberNode) -> None:
        by_peer(world.peers[0])
        by_owner(owner)
        world.inner_packets()

    return Story(tell, seconds, renews)


def _hand_over(world: World, owner: MemberNode) -> None:
    def command() -> None:
        try:
            owner.member.switchover(owner.now())
        except ClusterError as error:
            world.record.note(owner.process.name, str(error))

    owner.ask(command)
    world.inner_packets(3)


def _switch_over(world: World, owner: MemberNode, backup: MemberNode) -> None:
    _hand_over(world, owner)


def _return(world: World, owner: MemberNode, backup: MemberNode) -> None:
    """The backup comes back with nothing, while a child SA is rekeyed."""
    backup.process.kill()
    backup.start()
    world.timeline.at(world.random.random() * 0.015, _rekey_child, world.random.choice((world.peers[0], owner)))
    world.inner_packets(3)


STORIES: dict[str, Story] = {
    "traffic": _exchanges(_nothing, _nothing, 0.01),
    "child rekey by the cluster": _exchanges(_rekey_child, _nothing),
    "child rekey by the peer": _exchanges(_nothing, _rekey_child),
    "child rekeys by both": _exchanges(_rekey_child, _rekey_child),
    "IKE rekey by the cluster": _exchanges(_rekey_ike, _nothing),
    "IKE rekey by the peer": _exchanges(_nothing, _rekey_ike),
    "IKE rekeys by both": _exchanges(_rekey_ike, _rekey_ike),
    "IKE rekey by the cluster, child rekey by the peer": _exchanges(_rekey_ike, _rekey_child),
    "child rekey by the cluster, IKE rekey by the peer": _exchanges(_rekey_child, _rekey_ike),
    "liveness checks by both": _exchanges(check_liveness, check_liveness),
    "child delete by the cluster": _exchanges(_delete_child, _nothing, RENEWAL_S),
    "child delete by the peer": _exchanges(_nothing, _delete_child, RENEWAL_S),
    "child deletes by both": _exchanges(_delete_child, _delete_child, RENEWAL_S),
    "delete by the cluster and a new handshake": _exchanges(_delete_ike, _nothing, RENEWAL_S, True),
    "delete by the peer and a new handshake": _exchanges(_nothing, _delete_ike, RENEWAL_S, True),
    "switchover": Story(_switch_over),
    "return of the backup": Story(_return),
}


# Faults, in the middle of the victim's code


class Fault(NamedTuple):
    """``silent``: nobody is told that the victim is gone, so that beats decide.  ``passes``: it is over after a while;
    otherwise the survivor has to manage.  ``anyway``: in the end, where the story is too short."""

    strike: Callable[[World, MemberNode], None]
    silent: bool = True
    passes: bool = True
    anyway: bool = False


def _crash(world: World, node: MemberNode) -> None:
    node.process.kill()


def _crash_host(world: World, node: MemberNode) -> None:
    node.host.up = False
    node.process.kill()


def _crash_both(world: World, node: MemberNode) -> None:
    """The other one soon afterwards; the first is started again by then, or not."""
    other = world.members[1 - node.index]
    node.process.kill()
    later = world.random.random() * 0.06
    world.timeline.at(later, other.process.kill)
    if world.random.random() < 0.7:
        world.timeline.at(world.random.random() * later, node.start)


def _hang(world: World, node: MemberNode) -> None:
    node.process.stop_for(world.random.choice((0.02, 0.2, 0.35, 0.6, 1.2)))


def _slow(world: World, node: MemberNode) -> None:
    node.process.pause_s = world.random.choice((0.001, 0.01, 0.03))


def _break_channel(world: World, node: MemberNode) -> None:
    if node.link is not None:
        world.synch.break_link(node.link)


def _cut_channel(world: World, node: MemberNode) -> None:
    for receiver in world.random.choice(((0,), (1,), (0, 1))):
        world.synch.block("synch", receiver)


def _lose_carrier(world: World, node: MemberNode) -> None:
    node.host.carrier = False


FAULTS: dict[str, Fault] = {
    "crash": Fault(_crash, silent=False, passes=False),
    "host lost": Fault(_crash_host, passes=False),
    "both crash": Fault(_crash_both, silent=False),
    "hang": Fault(_hang),
    "slow": Fault(_slow),
    "channel broken": Fault(_break_channel, silent=False),
    "channel cut": Fault(_cut_channel),
    "carrier lost": Fault(_lose_carrier),
}

HEIRS: dict[str, Fault] = {
    "heir crashes": Fault(_crash, silent=False, passes=False, anyway=True),
    "heir hands over": Fault(_hand_over, silent=False, passes=False, anyway=True),
}
"""What befalls the owners of a relay."""
