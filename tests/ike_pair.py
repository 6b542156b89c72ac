"""Two IKE endpoints driven by hand: a fake clock, entropy that repeats, and a network that loses what it is told to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from ipsecha.crypto.credentials import ConnectionSecrets, Credentials
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.effects import Effect, InstallChild, Keepalive, RemoveChild, Replicate, Report, Transmit, Withdraw
from ipsecha.model.identity import parse_identity
from ipsecha.model.numbers import Protocol
from ipsecha.model.policy import Authentication, ChildPolicy, Connection, IkeLimits, Policy
from ipsecha.model.proposals import ALGORITHM_TOKENS, Proposal
from ipsecha.model.records import Address, ChildSa, IkeSa
from ipsecha.model.selectors import selector_from_prefix

LEFT_IP, RIGHT_IP = "192.0.2.1", "198.51.100.2"
START = 1_000_000.0
WALL_TIME = 1_760_000_000.0
PSK = b"a secret that both sides share"


class Entropy:
    """Octets that look random and are the same in every run."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._count = 0
        self._stock = b""

    def __call__(self, length: int) -> bytes:
        while len(self._stock) < length:
            self._count += 1
            self._stock += hashlib.sha512(self._seed + self._count.to_bytes(8, "big")).digest()
        octets, self._stock = self._stock[:length], self._stock[length:]
        return octets


def proposal(text: str, protocol: int = Protocol.IKE) -> Proposal:
    """A proposal from tokens as in the configuration, e.g. ``aes256gcm16-prfsha256-x25519``."""
    return Proposal(1, protocol, b"", tuple(ALGORITHM_TOKENS[token] for token in text.split("-")))


def esp(text: str) -> Proposal:
    """An ESP proposal, without extended sequence numbers unless the text says so."""
    return proposal(text if "esn" in text else f"{text}-noesn", Protocol.ESP)


def ah(text: str) -> Proposal:
    """The same for AH."""
    return proposal(text if "esn" in text else f"{text}-noesn", Protocol.AH)


IKE_PROPOSAL = proposal("aes128gcm16-prfsha256-x25519")
ESP_PROPOSAL = esp("aes128gcm16")


def child_policy(
    name: str = "net", local: str = "10.1.0.0/16", remote: str = "10.2.0.0/16", **more: object
) -> ChildPolicy:
    """A child SA between two prefixes."""
    fields: dict[str, object] = {
        "local_ts": (selector_from_prefix(local),),
        "remote_ts": (selector_from_prefix(remote),),
        "proposals": (ESP_PROPOSAL,),
        **more,
    }
    return ChildPolicy(name=name, **fields)  # type: ignore[arg-type]


def connection(local_ip: str, remote_ip: str, own: str, peer: str, **more: object) -> Connection:
    """A connection with a PSK and one child, unless ``more`` says otherwise."""
    fields: dict[str, object] = {
        "local": (local_ip,),
        "remote": (remote_ip,),
        "name": "site",
        "local_id": parse_identity(own),
        "remote_id": parse_identity(peer),
        "local_auth": Authentication.PSK,
        "remote_auth": Authentication.PSK,
        "proposals": (IKE_PROPOSAL,),
        "children": (child_policy(),),
        **more,
    }
    return Connection(**fields)  # type: ignore[arg-type]


def left_connection(**more: object) -> Connection:
    return connection(LEFT_IP, RIGHT_IP, "left.example", "right.example", **more)


def right_connection(**more: object) -> Connection:
    more.setdefault("children", (child_policy(local="10.2.0.0/16", remote="10.1.0.0/16"),))
    return connection(RIGHT_IP, LEFT_IP, "right.example", "left.example", **more)


class Packet(NamedTuple):
    """A datagram on its way."""

    data: bytes
    source: Address
    destination: Address

    @property
    def exchange(self) -> int:
        return self.data[18]

    @property
    def is_response(self) -> bool:
        return bool(self.data[19] & 0x20)

    @property
    def message_id(self) -> int:
        return int.from_bytes(self.data[20:24], "big")


class Side:
    """One endpoint and everything that it has asked for so far."""

    def __init__(
        self, name: str, connections: tuple[Connection, ...], secrets: dict[str, ConnectionSecrets], **limits: float
    ) -> None:
        self.name = name
        self.wall_time = WALL_TIME
        self.policy = Policy(connections, limits=IkeLimits(**limits))  # type: ignore[arg-type]
        self.endpoint = IkeEndpoint(self.policy, Credentials(secrets), Entropy(name), wall_clock=lambda: self.wall_time)
        self.effects: list[Effect] = []
        self.reports: list[Report] = []
        self.installed: dict[int, ChildSa] = {}

    @property
    def sas(self) -> list[IkeSa]:
        return list(self.endpoint.sas.values())

    @property
    def sa(self) -> IkeSa:
        """The only IKE SA."""
        (sa,) = self.endpoint.sas.values()
        return sa

    @property
    def events(self) -> list[str]:
        return [report.event for report in self.reports]

    def collect(self) -> list[Packet]:
        """Carry out the effects; the datagrams among them."""
        packets: list[Packet] = []
        for effect in self.endpoint.take_effects():
            self.effects.append(effect)
            if isinstance(effect, Transmit):
                packets += [Packet(data, effect.local, effect.remote) for data in effect.datagrams]
            elif isinstance(effect, Keepalive):
                packets.append(Packet(b"\xff", effect.local, effect.remote))
            elif isinstance(effect, Report):
                self.reports.append(effect)
            elif isinstance(effect, InstallChild):
                self.installed[effect.child.spi_in] = effect.child
            elif isinstance(effect, RemoveChild):
                self.installed.pop(effect.spi_in, None)
        return packets

    def records(self) -> dict[bytes, IkeSa]:
        """What a backup knows by now."""
        known: dict[bytes, IkeSa] = {}
        for effect in self.effects:
            if isinstance(effect, Replicate):
                known[effect.sa.local_spi] = effect.sa
            elif isinstance(effect, Withdraw):
                known.pop(effect.local_spi, None)
        return known


Filter = Callable[[Packet], list[Packet]]
"""What becomes of a packet: ``[]`` loses it, two copies double it, another address is a NAT."""


class Pair:
    """``left`` (the initiator, by habit) and ``right``, with the network between them.

    ``network`` decides what becomes of each packet; ``sent`` is all that was sent, ``queue`` what is on its way.
    """

    def __init__(
        self,
        left: Connection | None = None,
        right: Connection | None = None,
        *,
        left_secrets: ConnectionSecrets | None = None,
        right_secrets: ConnectionSecrets | None = None,
        **limits: float,
    ) -> None:
        shared = ConnectionSecrets(psk=PSK)
        self.now = START
        self.left = Side("left", (left or left_connection(),), {"site": left_secrets or shared})
        self.right = Side("right", (right or right_connection(),), {"site": right_secrets or shared}, **limits)
        self.network: Filter = lambda packet: [packet]
        self.sent: list[Packet] = []
        self.queue: list[Packet] = []
        for number, side in enumerate(self.sides, start=1):
            side.endpoint.activate(number, self.now)
            self._settle(side)

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.left, self.right

    def _settle(self, side: Side) -> None:
        """Let the background pass after the activation run to its end."""
        for _ in range(3):
            side.endpoint.handle_timer(self.now)

    def side_at(self, address: Address) -> Side | None:
        if address[0] == LEFT_IP:
            return self.left
        return self.right if address[0] == RIGHT_IP else None

    def gather(self) -> None:
        """Put on the way what both sides want to send."""
        for side in self.sides:
            for packet in side.collect():
                self.sent.append(packet)
                self.queue += self.network(packet)

    def deliver(self, packet: Packet) -> None:
        """Hand one packet to whoever has its destination."""
        side = self.side_at(packet.destination)
        if side is not None and packet.data != b"\xff":
            side.endpoint.receive(packet.data, packet.destination, packet.source, self.now)

    def run(self, limit: int = 500) -> None:
        """Carry packets until nobody has anything to say."""
        for _ in range(limit):
            self.gather()
            if not self.queue:
                return
            self.deliver(self.queue.pop(0))
        raise AssertionError("the two sides do not come to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass: timers fire when they are due, packets arrive at once."""
        end = self.now + seconds
        self.run()
        while True:
            times = [time for side in self.sides if (time := side.endpoint.next_timer()) is not None]
            when = min(times, default=end + 1)
            if when > end:
                break
            self.now = max(self.now, when)
            for side in self.sides:
                side.endpoint.handle_timer(self.now)
            self.run()
        self.now = end

    def establish(self) -> None:
        """The left side brings up its connection."""
        self.left.endpoint.initiate("site", None, self.now)
        self.run()
