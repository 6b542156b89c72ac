"""What is between three members: a ``SynchNetwork`` between each two of them, and what the product takes for its
channels and for the sockets of its beats (``gateway.mirrors.mirror_side``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ipsecha.gateway.beats import BeatPath, Beats, Received
from ipsecha.gateway.channel import ChannelConfig, ChannelEvents, LossReason, SynchChannel
from ipsecha.gateway.config_model import BeatPathConfig, ClusterLinkConfig
from ipsecha.model.records import Address
from simulation.synch import Link, SimulatedBeats, SimulatedChannel, SynchNetwork

if TYPE_CHECKING:
    from simulation.clockwork import Process, Timeline

NAMES = ("a", "b", "c")
CHANNEL_PORT, BEAT_PORT = 4510, 4511
NO_PAPER = Path("none")


class Member(Protocol):
    """As the mesh sees it."""

    index: int
    process: Process

    @property
    def host_up(self) -> bool: ...


class Port:
    """Implements ``synch.End`` and ``synch.Side``: where the cable to one other member ends.  ``index``: 0 or 1, as the
    cable counts its ends."""

    def __init__(self, member: Member, other: Member) -> None:
        self.index = int(member.index > other.index)
        self.link: Link | None = None
        self.events: ChannelEvents
        self.beats: dict[str, Received] = {}  # by path
        self.cable: SynchNetwork
        self._member = member

    @property
    def process(self) -> Process:
        return self._member.process

    @property
    def host_up(self) -> bool:
        return self._member.host_up

    @property
    def side(self) -> Port:
        return self

    def channel_up(self) -> None:
        self.events.up()

    def channel_down(self, reason: LossReason) -> None:
        self.events.down(reason)

    def frame_received(self, frame: bytes) -> None:
        self.events.frame(frame)

    def beat_received(self, path: str, beat: bytes) -> None:
        self.beats[path](beat)


class MeshNetwork:
    """``tap(sender, receiver, frame)`` sees each frame as it is handed over."""

    def __init__(self, timeline: Timeline, members: list[Member], tap: Callable[[int, int, bytes], None]) -> None:
        self.tap = tap
        self.cables: dict[tuple[int, int], SynchNetwork] = {}
        self.ports: dict[tuple[int, int], Port] = {}  # by member, and the one at the other end
        for a, b in combinations(members, 2):
            ends = (a.index, b.index)
            self.ports[ends], self.ports[ends[::-1]] = ports = Port(a, b), Port(b, a)
            cable = SynchNetwork(timeline, list(ports), partial(self._arrived, ends))
            self.cables[ends] = ports[0].cable = ports[1].cable = cable

    def _arrived(self, ends: tuple[int, int], sender: int, receiver: int, frame: bytes) -> None:
        self.tap(ends[sender], ends[receiver], frame)

    def cables_of(self, index: int) -> list[SynchNetwork]:
        return [cable for ends, cable in self.cables.items() if index in ends]

    def process_started(self, index: int) -> None:
        self._forget_links(index)
        for cable in self.cables_of(index):
            cable.process_started()

    def process_gone(self, index: int, host_too: bool) -> None:
        self._forget_links(index)
        for cable in self.cables_of(index):
            cable.process_gone(host_too)

    def _forget_links(self, index: int) -> None:
        for (owner, _), port in self.ports.items():
            if owner == index:
                port.link = None

    def break_channel(self, a: int, b: int) -> None:
        link = self.ports[a, b].link
        if link is not None:
            self.break_link(link)

    def break_link(self, link: Link) -> None:
        for port in self.ports.values():
            if port.link is link:
                port.cable.break_link(link)

    @staticmethod
    def send(end: Port, frame: bytes) -> None:
        end.cable.send(end, frame)

    def heal(self) -> None:
        for cable in self.cables.values():
            cable.heal()

    # What a member takes for its channels and beats

    def channel(self, index: int, config: ChannelConfig, events: ChannelEvents) -> SynchChannel:
        port = self.ports[index, _member_at(config.partner)]
        port.events = events
        return SimulatedChannel(self, port)  # type: ignore[return-value,arg-type]

    def beats(self, index: int, paths: list[tuple[BeatPath, Received]]) -> Beats:
        for path, received in paths:
            self.ports[index, _member_at(path.partner)].beats[path.name] = received
        ports = [port for ends, port in self.ports.items() if ends[0] == index]
        return MeshBeats([SimulatedBeats(port.cable, port) for port in ports])  # type: ignore[return-value,arg-type]


class MeshBeats:
    """As much of ``gateway.beats.Beats`` as a side uses."""

    def __init__(self, ways: list[SimulatedBeats]) -> None:
        self._ways = ways

    def send(self, beat: bytes) -> None:
        for way in self._ways:
            way.send(beat)


def _address(index: int, network: int, port: int) -> Address:
    return f"10.{network}.0.{index + 1}", port


def _member_at(address: Address) -> int:
    return int(address[0].rpartition(".")[2]) - 1


def link_of(index: int) -> ClusterLinkConfig:
    """As the file of a member says."""
    others = {name: other for other, name in enumerate(NAMES) if other != index}
    local = _address(index, 9, BEAT_PORT)
    return ClusterLinkConfig(
        _address(index, 8, CHANNEL_PORT),
        {name: _address(other, 8, CHANNEL_PORT) for name, other in others.items()},
        NO_PAPER,
        NO_PAPER,
        NO_PAPER,
        tuple(BeatPathConfig("lan", local, _address(other, 9, BEAT_PORT), name) for name, other in others.items()),
    )
