"""The cluster's side of a gateway with more than two members: a channel and beats for each of the others.

All channels listen on one address; whose connection it is, is told by where it comes from, and then by its certificate.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ipsecha.cluster import effects as fx
from ipsecha.cluster.seating import SeatedMember
from ipsecha.gateway.beats import BeatPath, Beats, Received
from ipsecha.gateway.channel import BACKLOG, ChannelConfig, ChannelEvents, LossReason, SynchChannel
from ipsecha.gateway.config_model import ClusterLinkConfig
from ipsecha.gateway.core import Gateway
from ipsecha.gateway.listener import Listener
from ipsecha.gateway.pair_side import PairSide
from ipsecha.gateway.shared_addresses import ANNOUNCE_AT_S, AddressKeeper
from ipsecha.model.records import Address

log = logging.getLogger("ipsecha")


class Mesh:
    """The channels to all other members, by their index."""

    def __init__(self, listen: Address, channels: Mapping[int, SynchChannel]) -> None:
        self.channels = channels
        self._listener = Listener(listen, BACKLOG, self._accepted)
        self._foreign = 0

    async def start(self) -> None:
        """Listen, and look for all of them.  Raises OSError when the address cannot be bound."""
        self._listener.open()
        for channel in self.channels.values():
            channel.seek()

    async def stop(self) -> None:
        self._listener.close()
        for channel in self.channels.values():
            await channel.stop()

    def _accepted(self, raw: socket.socket, host: str) -> None:
        if not any(channel.take(raw, host) for channel in self.channels.values()):
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
        self._announce_repeatedly(ANNOUNCE_AT_S)
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


def beat_paths(link: ClusterLinkConfig, member: str) -> list[BeatPath]:
    """To ``member``; of a pair, the paths of the file name nobody, for there is only one."""
    lan = [BeatPath(beat.name, beat.local, beat.partner) for beat in link.beats if beat.member in ("", member)]
    return [BeatPath("synch", link.listen, link.peers[member]), *lan]


def refused_peer(why: str) -> None:
    log.warning("synch channel: refused a peer: %s", why)


def mirror_side(
    side: MirrorSide,
    link: ClusterLinkConfig,
    make_channel: Callable[[ChannelConfig, ChannelEvents], SynchChannel] = SynchChannel,
    make_beats: Callable[[list[tuple[BeatPath, Received]]], Beats] = Beats,
) -> MirrorSide:
    """The side with its channels and beats, none of them started."""
    settings = side.seated.settings
    channels: dict[int, SynchChannel] = {}
    paths: list[tuple[BeatPath, Received]] = []
    for index, name in enumerate(settings.members):
        if index == settings.index:
            continue
        events = ChannelEvents(
            up=partial(side.member_channel_up, index),
            down=partial(side.member_channel_down, index),
            frame=partial(side.member_frame, index),
            refused_peer=refused_peer,
        )
        channels[index] = make_channel(channel_config(link, name, dials=settings.index > index), events)
        for path in beat_paths(link, name):
            paths.append((path, partial(side.member_beat, index, path.name)))
    # a mesh stands where a pair has its one channel; nothing is sent on it as a whole
    side.mesh = side.channel = Mesh(link.listen, channels)  # type: ignore[assignment]
    side.beats = make_beats(paths)
    return side
