"""What the record takes for the synchronisations of RFC 6311, which all bear the message ID 0, and what not."""

from __future__ import annotations

from ipsecha.ike import message_sync
from ipsecha.ike.flags import MESSAGE_ID_SYNC
from simulation.boundaries import Walk, draw
from simulation.gateways import CLUSTER
from simulation.network import Datagram
from simulation.record import INFORMATIONAL
from simulation.stories import check_liveness
from simulation.violation import Violation
from simulation.world import World


def _world() -> tuple[World, list[Datagram]]:
    """A world in which everything works, and the INFORMATIONAL messages of ID 0 that its cluster sends from now on."""
    walk = Walk(draw(0))
    walk.begin()
    sent: list[Datagram] = []
    tap = walk.world.network.tap

    def watched(host: object, datagram: Datagram, outside: Datagram) -> None:
        message = datagram.data[4:] if datagram.source[1] == 4500 else datagram.data
        ike = datagram.source[1] == 500 or (datagram.source[1] == 4500 and datagram.data[:4] == bytes(4))
        if ike and datagram.source[0] == CLUSTER and message[18] == INFORMATIONAL and message[20:24] == bytes(4):
            sent.append(datagram)
        tap(host, datagram, outside)  # type: ignore[arg-type]

    walk.world.network.tap = watched  # type: ignore[assignment]
    return walk.world, sent


def _synchronise(world: World) -> None:
    owner = next(node for node in world.members if node.member.owns)
    (sa,) = owner.endpoint.sas.values()
    assert sa.flags & MESSAGE_ID_SYNC
    for _ in range(2):
        owner.endpoint.asked_sync.clear()
        owner.ask(message_sync.start_sync, owner.endpoint, sa, owner.now(), True, 0)
        world.run(0.3)


def test_synchronisations_are_no_other_messages_with_one_message_id() -> None:
    world, sent = _world()
    _synchronise(world)
    assert len({datagram.data for datagram in sent}) > 1
    assert not world.timeline.failures


def test_other_messages_with_the_id_0_are_judged_among_synchronisations() -> None:
    world, sent = _world()
    for node in (world.peers[0], *world.members):
        check_liveness(node)
    world.run(0.3)
    _synchronise(world)
    host = next(node.host for node in world.members if node.member.owns)
    sync = sent[-1]
    for octet in (1, 2):
        world.record.sent(host, sync._replace(data=sync.data[:-1] + bytes((sync.data[-1] ^ octet,))))
    assert [found.checker for found in world.timeline.failures if isinstance(found, Violation)][-1] == "I4"
