"""The cluster's side of a gateway with more than two members: a channel and beats for each of the others.

All channels listen on one address; whose connection it is, is told by where it comes from, and then by its certificate.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ipsecha.cluster import effects as fx
from ipsecha.cluster.seating import SeatedMember
from ipsecha.gateway.beats import MAX_BEAT, BeatPath, bound_socket
from ipsecha.gateway.channel import BACKLOG, ChannelConfig, ChannelEvents, LossReason, SynchChannel, listener
from ipsecha.gateway.config_model import ClusterLinkConfig
from ipsecha.gateway.core import Gateway
from ipsecha.gateway.pair_side import PairSide
from ipsecha.gateway.shared_addresses import AddressKeeper
from ipsecha.model.records import Address

log = logging.getLogger("ipsecha")


class Mesh:
    """The channels to all other members, by their index."""

    def __init__(self, listen: Address, channels: Mapping[int, SynchChannel]) -> None:
        self.channels = channels
        self._listen = listen
        self._listener: socket.socket | None = None
        self._foreign = 0

    async def start(self) -> None:
        """Listen, and look for all of them.  Raises OSError when the address cannot be bound."""
        self._listener = listener(self._listen)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)
        for channel in self.channels.values():
            channel.seek()

    async def stop(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for channel in self.channels.values():
            await channel.stop()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(BACKLOG):
            try:
                raw, source = listening.accept()
            except OSError:  # nothing more, or gone again
                return
            if not any(channel.take(raw, source[0]) for channel in self.channels.values()):
                raw.close()
                self._foreign += 1

    def reset(self) -> None:
        for channel in self.channels.values():
            channel.reset()

    @property
    def refused_peers(self) -> int:
        return self._foreign + sum(channel.refused_peers for channel in self.channels.values())

    @property
    def frames_sent(self) -> int:
        return sum(channel.frames_sent for channel in self.channels.values())

    @property
    def frames_received(self) -> int:
        return sum(channel.frames_received for channel in self.channels.values())

    @property
    def bytes_sent(self) -> int:
        return sum(channel.bytes_sent for channel in self.channels.values())

    @property
    def bytes_received(self) -> int:
        return sum(channel.bytes_received for channel in self.channels.values())


class MeshBeats:
    """One socket for each of our addresses; a beat goes to everybody, and whose it is, is told by its source."""

    def __init__(self, paths: Mapping[int, tuple[BeatPath, ...]], received: Callable[[int, str, bytes], None]) -> None:
        """``paths``: to the member with this index."""
        self._received = received
        self._ways: dict[Address, dict[Address, tuple[int, str]]] = {}
        for index, each in paths.items():
            for path in each:
                self._ways.setdefault(path.local, {})[path.partner] = index, path.name
        self._sockets: dict[Address, socket.socket] = {}
        self.foreign = 0  # datagrams that did not come from a member

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OSError where an address cannot be bound."""
        for local, ways in self._ways.items():
            sock = self._sockets[local] = bound_socket(local)
            loop.add_reader(sock, self._readable, sock, ways)

    def send(self, beat: bytes) -> None:
        """A path that is down is what beats are there to find out."""
        for local, sock in self._sockets.items():
            for partner in self._ways[local]:
                try:
                    sock.sendto(beat, partner)
                except OSError:
                    continue

    def _readable(self, sock: socket.socket, ways: dict[Address, tuple[int, str]]) -> None:
        for _ in range(16 * len(ways)):
            try:
                data, source = sock.recvfrom(MAX_BEAT)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error that the kernel reports on the socket: a member's port is closed
                continue
            way = ways.get(source[:2])
            if way is not None:
                self._received(*way, data)
            else:
                self.foreign += 1

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        for sock in self._sockets.values():
            loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()


class MirrorSide(PairSide):
    """Implements ``core.ClusterSide`` for three or four members."""

    shares_ceilings = False  # who joins may not be who gets the seat

    def __init__(self, gateway: Gateway, member: SeatedMember, addresses: AddressKeeper) -> None:
        super().__init__(gateway, member, addresses)
        self.seated = member
        self.mesh: Mesh
        self._actions |= {
            fx.ForMember: self._for_member,
            fx.TakeMirrorSnapshot: self._take_mirror_snapshot,
        }

    def member_channel_up(self, index: int) -> None:
        self._announce(self.member.epoch)
        self._tell(self.seated.member_channel_up, index)

    def member_channel_down(self, index: int, reason: LossReason) -> None:
        self._tell(self.seated.member_channel_down, index, reason is LossReason.REFUSED)

    def member_frame(self, index: int, frame: bytes) -> None:
        self._tell(self.seated.member_frame, index, frame)

    def member_beat(self, index: int, path: str, beat: bytes) -> None:
        self._tell(self.seated.member_beat, index, path, beat)

    def _tell(self, method: Callable[..., None], *arguments: Any) -> None:
        method(*arguments, self.gateway.clock.now())
        self.gateway.wake()

    def _for_member(self, effect: fx.ForMember) -> None:
        channel = self.mesh.channels[effect.member]
        if isinstance(effect.effect, fx.SendFrame):
            channel.send(effect.effect.data)
        else:
            name = self.seated.settings.members[effect.member]
            log.warning("synch channel to %s: %s", name, effect.effect.reason)
            channel.reset()

    def _take_mirror_snapshot(self, effect: fx.TakeMirrorSnapshot) -> None:
        endpoint = self.gateway.endpoint
        total = len(endpoint.sas) + len(endpoint.initiations)
        self.seated.mirror_snapshot(effect.member, self._present_records(), total, self._now)


def channel_config(link: ClusterLinkConfig, member: str, *, dials: bool) -> ChannelConfig:
    """For the channel to ``member``."""
    papers = str(link.certificate), str(link.private_key), str(link.ca)
    return ChannelConfig(link.listen, link.peers[member], member, dials, *papers)


def refused_peer(why: str) -> None:
    log.warning("synch channel: refused a peer: %s", why)


def mirror_side(side: MirrorSide, link: ClusterLinkConfig) -> MirrorSide:
    """The side with its channels and beats, none of them started."""
    settings = side.seated.settings
    channels, paths = {}, {}
    for index, name in enumerate(settings.members):
        if index == settings.index:
            continue
        events = ChannelEvents(
            up=partial(side.member_channel_up, index),
            down=partial(side.member_channel_down, index),
            frame=partial(side.member_frame, index),
            refused_peer=refused_peer,
        )
        channels[index] = SynchChannel(channel_config(link, name, dials=settings.index > index), events)
        lan = [BeatPath(beat.name, beat.local, beat.partner) for beat in link.beats if beat.member == name]
        paths[index] = (BeatPath("synch", link.listen, link.peers[name]), *lan)
    # a mesh stands where a pair has its one channel; nothing is sent on it as a whole
    side.mesh = side.channel = Mesh(link.listen, channels)  # type: ignore[assignment]
    side.beats = MeshBeats(paths, side.member_beat)  # type: ignore[assignment]
    return side
