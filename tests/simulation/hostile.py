"""Peers that misbehave, strangers, and what the world does to peers.  Whatever they do, nobody else is to notice, and
the tunnels of those who behave well work on.

What is sent here bypasses the record: it judges gateways by what they say, not strangers.
"""

from __future__ import annotations

import struct

from ipsecha.ike import window
from ipsecha.model.numbers import ExchangeType
from ipsecha.model.records import IkeSa
from ipsecha.wire.header import FLAG_INITIATOR, FLAG_RESPONSE
from simulation.gateways import CLUSTER, MemberNode, PeerNode
from simulation.network import RAW_PORTS, Datagram
from simulation.world import World

SPI_AND_HEADER = 28
FLOOD = 200
"""Requests from strangers at one moment."""


def roam(world: World, node: MemberNode) -> None:
    """The NAT in front of a peer forgets its mappings: in mid-exchange, in the middle of a takeover."""
    for nat in world.network.nats.values():
        if world.random.random() < 0.7:
            nat.rebind(world.random)


def repeat_wildly(world: World, node: MemberNode) -> None:
    """Each datagram to the cluster once more, several times, early and late."""
    for datagram in list(world.recorded)[-60:]:
        for _ in range(world.random.randint(1, 4)):
            world.timeline.at(world.random.random() * 0.5, world.network.carry, datagram)


def forge(world: World, node: MemberNode) -> None:
    """Rubbish under SPIs that are in use, requests and responses with message IDs of every kind."""
    chance = world.random
    for datagram in list(world.recorded)[-40:]:
        data = bytearray(datagram.data)
        marker = 4 if datagram.source[1] not in RAW_PORTS and data[:4] == bytes(4) else 0
        if chance.random() < 0.5 and len(data) > marker + SPI_AND_HEADER:
            data[marker + 19] ^= chance.choice((0, FLAG_RESPONSE, FLAG_INITIATOR))
            struct.pack_into(">I", data, marker + 20, chance.choice((0, 1, 2, 3, 1 << 31, (1 << 32) - 1)))
        for _ in range(chance.choice((0, 1, 8))):
            data[chance.randrange(marker, len(data))] ^= chance.randrange(1, 256)
        world.network.carry(datagram._replace(data=bytes(data[: chance.choice((len(data), len(data) // 2))])))


def wrong_message_ids(world: World, node: MemberNode) -> None:
    """Authentic requests and responses of a peer, under numbers whose turn it is not."""
    for peer in world.peers:
        for sa in list(peer.endpoint.sas.values())[:2]:
            for ahead in (-2, -1, 50, 1000) if sa.exchange is None else (50, 1000):
                peer.process.run(_send_authentic, world, peer, sa, 0, sa.next_request_id + ahead)
            for ahead in (-2, 1000):  # not what may be in flight: that would be an answer, and a malformed one
                peer.process.run(_send_authentic, world, peer, sa, FLAG_RESPONSE, sa.expected_request_id + ahead)


def _send_authentic(world: World, peer: PeerNode, sa: IkeSa, response: int, number: int) -> None:
    """Under IVs of its own: the peer does not repeat them."""
    if number < 0:
        return
    for data in window.seal(peer.endpoint, sa, ExchangeType.INFORMATIONAL, response, number, ()):
        port = sa.local[1]
        marked = bytes(4) + data if port == 4500 else data
        sent = Datagram(marked, (peer.site.address, port), sa.remote)
        nat = world.network.nats.get(peer.site.address)
        world.network.carry(sent if nat is None else sent._replace(source=nat.outward(sent.source)))


def deaf(world: World, node: MemberNode) -> None:
    """A peer that takes no requests for a while, deletions and liveness checks among them, and says so to nobody."""
    peer = world.random.choice(world.peers)
    peer.host.refuses = True
    world.timeline.at(world.random.choice((0.3, 1.0, 2.0)), _hears_again, peer)


def _hears_again(peer: PeerNode) -> None:
    peer.host.refuses = False


def dawdle(world: World, node: MemberNode) -> None:
    """A peer that takes its time."""
    world.random.choice(world.peers).process.pause_s = world.random.choice((0.01, 0.1, 0.3))


def flood(world: World, node: MemberNode) -> None:
    """First requests under the addresses of strangers, all well formed; and repetitions of those of the peers."""
    inits = [one for one in world.first_requests if one.destination[0] == CLUSTER]
    if not inits:
        return
    chance = world.random
    for _ in range(FLOOD):
        data = bytearray(chance.choice(inits).data)
        data[:8] = chance.randbytes(8)
        stranger = f"203.0.{chance.randrange(100, 200)}.{chance.randrange(1, 255)}", chance.randrange(1024, 65536)
        world.timeline.at(chance.random() * 0.2, world.network.carry, Datagram(bytes(data), stranger, (CLUSTER, 500)))
    for one in inits[-5:]:
        world.network.carry(one)
