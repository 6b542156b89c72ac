"""The outer network, the networks behind the gateways, and what a gateway's data plane has instead of devices."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from ipsecha.dataplane.userspace.outer import Arrival, OuterSocket
from ipsecha.dataplane.userspace.plane import UserspacePlane
from ipsecha.dataplane.userspace.sockets import OuterSockets, Receive
from ipsecha.model.errors import WireError
from ipsecha.model.numbers import Protocol
from ipsecha.model.records import Address
from ipsecha.wire.ah import gather_ipv4
from simulation.nat import Nat

if TYPE_CHECKING:
    from simulation.clockwork import Process, SimulatedLoop, Timeline

LIFETIME_S = 3.0
QUEUE = 2000
ESP_PORT, AH_PORT = -50, -51  # stand for protocols 50 and 51 where UDP has a port
RAW_PORTS = (ESP_PORT, AH_PORT)


class Datagram(NamedTuple):
    data: bytes
    source: Address
    destination: Address


class Host:
    """A machine: carrier, addresses that it has for the moment, and the sockets of its process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = True
        self.carrier = True
        self.refuses = False  # requests of IKE, whatever they are
        self.is_heard = self.hears = True  # or the way from it, or that to it, is cut somewhere in the outer network
        self.valid_until: dict[str, float] = {}
        self.sockets: dict[Address, SimulatedSocket] = {}
        self.inner: SimulatedInner | None = None
        self.key_of: Callable[[bytes], bytes] = lambda spi_out: b""

    def has(self, address: str, time: float) -> bool:
        return self.valid_until.get(address, -1.0) > time


def _is_request(datagram: Datagram) -> bool:
    data, port = datagram.data, datagram.destination[1]
    if port in RAW_PORTS or (port == 4500 and data[:4] != bytes(4)):
        return False
    return not data[(4 if port == 4500 else 0) + 19] & 0x20


class OuterNetwork:
    """Delivers datagrams to whichever host announced the destination last; loses, doubles and delays as told.

    ``tap`` sees each datagram with the gateways' own addresses, and as it travels outside the NATs.
    """

    def __init__(self, timeline: Timeline, tap: Callable[[Host, Datagram, Datagram], None]) -> None:
        self.timeline = timeline
        self.tap = tap
        self.holders: dict[str, Host] = {}
        self.sides: dict[str, Host] = {}  # where the network is cut in two: the member that a peer reaches, by address
        self.nats: dict[str, Nat] = {}  # by inner address
        self.loss = self.doubling = 0.0
        self.delay_s = 0.001
        self.reordering_s = 0.0

    def announce(self, address: str, host: Host) -> None:
        if host.carrier and host.up:
            self.holders[address] = host

    def inside(self, address: str) -> str:
        """The peer's own address, where ``address`` is one that a NAT has shown."""
        return next((nat.inner for nat in self.nats.values() if address in nat.addresses), address)

    def send(self, host: Host, datagram: Datagram) -> None:
        told = datagram
        if self.nats:
            nat = self.nats.get(datagram.source[0])
            if nat is not None:
                datagram = datagram._replace(source=nat.outward(datagram.source))
            told = told._replace(destination=(self.inside(datagram.destination[0]), datagram.destination[1]))
        self.tap(host, told, datagram)
        if not (host.carrier and host.is_heard):
            return
        if self.sides.get(self.inside(datagram.destination[0]), host) is not host:
            return
        chance = self.timeline.random
        for _ in range(2 if self.doubling and chance.random() < self.doubling else 1):
            if not self.loss or chance.random() >= self.loss:
                self.carry(datagram)

    def carry(self, datagram: Datagram) -> None:
        delay = self.delay_s * 0.3 + self.timeline.random.random() * self.reordering_s
        self.timeline.at(delay, self._arrive, datagram)

    def _arrive(self, datagram: Datagram) -> None:
        address = datagram.destination[0]
        for nat in self.nats.values():
            if address in nat.addresses:
                inner = nat.inward(datagram.destination)
                if inner is None:
                    return
                address, datagram = inner[0], datagram._replace(destination=inner)
        host = self.sides.get(self.inside(datagram.source[0])) if self.sides else None
        host = host or self.holders.get(address)
        if host is None or not (host.up and host.carrier and host.has(address, self.timeline.time)):
            return
        if not host.hears or (host.refuses and _is_request(datagram)):
            return
        socket = host.sockets.get(datagram.destination)
        if socket is not None:
            socket.arrive(datagram)


class SimulatedSocket(OuterSocket):
    """One local address and port, or protocol 50 or 51 at one address."""

    def __init__(self, local: Address, plane: SimulatedPlane) -> None:
        self.local = local
        self.failed = 0
        self._plane = plane
        self._queue: deque[Datagram] = deque()
        self.malformed = 0
        self._number = plane.new_descriptor()
        plane.host.sockets[local] = self

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        if self._plane.host.sockets.get(self.local) is self:
            del self._plane.host.sockets[self.local]

    def prepare(self, outer: int) -> None:
        pass

    def send(self, datagram: bytes, remote: Address) -> None:
        plane = self._plane
        destination = (remote[0], self.local[1]) if self.local[1] in RAW_PORTS else remote
        plane.process.emit(plane.network.send, plane.host, Datagram(datagram, self.local, destination))

    def send_run(self, datagrams: list[bytes], remote: Address) -> None:
        for datagram in datagrams:
            self.send(datagram, remote)

    def arrive(self, datagram: Datagram) -> None:
        if len(self._queue) < QUEUE:
            self._queue.append(datagram)
            self._plane.loop.readable(self._number)

    def receive(self, limit: int) -> list[Arrival]:
        arrivals: list[Arrival] = []
        while self._queue and len(arrivals) < limit:
            datagram = self._queue.popleft()
            remote = datagram.source if self.local[1] not in RAW_PORTS else (datagram.source[0], 0)
            data = datagram.data
            if self.local[1] == AH_PORT:
                try:
                    data = gather_ipv4(data)
                except WireError:
                    continue
            if arrivals and arrivals[-1].remote == remote:
                arrivals[-1].datagrams.append(data)
            else:
                arrivals.append(Arrival([data], remote, 0))
        if self._queue:
            self._plane.loop.readable(self._number)
        return arrivals


class SimulatedSockets(OuterSockets):
    def __init__(self, plane: SimulatedPlane) -> None:
        super().__init__(500, 4500, 0, lambda remote: None)
        self._plane = plane

    def open(self, addresses: Iterable[str], raw: bool) -> list[tuple[OuterSocket, Receive]]:
        opened: list[tuple[OuterSocket, Receive]] = []
        for address in addresses:
            for port in (self.ike_port, self.nat_port):
                if (address, port) not in self._udp:
                    sock = SimulatedSocket((address, port), self._plane)
                    self._udp[address, port] = sock  # type: ignore[assignment]
                    opened.append((sock, self._reader(sock, port)))  # type: ignore[arg-type]
            if address not in self._raw:
                esp = SimulatedSocket((address, ESP_PORT), self._plane)
                self._raw[address] = esp  # type: ignore[assignment]
                opened.append((esp, self._raw_reader(esp, Protocol.ESP)))  # type: ignore[arg-type]
                ah = SimulatedSocket((address, AH_PORT), self._plane)
                self._ah[address] = ah  # type: ignore[assignment]
                opened.append((ah, self._raw_reader(ah, Protocol.AH)))  # type: ignore[arg-type]
        return opened


class SimulatedInner:
    """The device towards the network behind a gateway."""

    forwards = True

    def __init__(self, plane: SimulatedPlane, delivered: Callable[[Host, bytes], None]) -> None:
        self._plane = plane
        self._delivered = delivered
        self._queue: deque[bytes] = deque()
        self._number = plane.new_descriptor()

    def fileno(self) -> int:
        return self._number

    def arrive(self, packets: list[bytes]) -> None:
        if len(self._queue) < QUEUE:
            self._queue.extend(packets)
            self._plane.loop.readable(self._number)

    def read_batch(self, limit: int) -> list[bytes]:
        packets = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
        if self._queue:
            self._plane.loop.readable(self._number)
        return packets

    def write_batch(self, packets: list[bytes]) -> None:
        for packet in packets:
            self._plane.process.emit(self._delivered, self._plane.host, packet)

    def close(self) -> None:
        pass


class _FixedMtu:
    def get(self, local: str, remote: str, now: float) -> int:
        return 1500

    def forget(self, remote: str) -> None:
        pass


class SimulatedPlane(UserspacePlane):
    """The product's plane with sockets of this network; its process, loop and host are set before its construction."""

    def __init__(
        self,
        process: Process,
        loop: SimulatedLoop,
        host: Host,
        network: OuterNetwork,
        delivered: Callable[[Host, bytes], None],
        *arguments: object,
        **more: object,
    ) -> None:
        self.process, self.loop, self.host, self.network = process, loop, host, network
        self._descriptors = 0
        self.device = SimulatedInner(self, delivered)
        super().__init__(*arguments, inner=self.device, **more)  # type: ignore[arg-type]
        self._paths = _FixedMtu()  # type: ignore[assignment]
        self._sockets = SimulatedSockets(self)
        host.sockets.clear()
        host.inner = self.device
        host.key_of = self.key_of

    def key_of(self, spi_out: bytes) -> bytes:
        """The key under which this gateway sends for an SPI: two owners may have made an SA each with the one SPI that
        the peer has offered, and then no number of the one is a number of the other."""
        for live in self._sad.lives.values():
            if live.spi_out == spi_out:
                return live.child.keys[len(live.child.keys) // 2 :]
        return b""

    def new_descriptor(self) -> int:
        self._descriptors += 1
        return self._descriptors


class SimulatedAddresses:
    """Implements ``gateway.shared_addresses.AddressKeeper``: addresses lapse by themselves unless renewed."""

    def __init__(
        self, host: Host, links: Callable[[], bool], network: OuterNetwork, addresses: tuple[str, ...]
    ) -> None:
        self._host = host
        self._links = links
        self._network = network
        self._addresses = addresses
        self._claimed = False

    def claim(self) -> None:
        self._claimed = True
        self.renew()

    def renew(self) -> None:
        if self._claimed:
            for address in self._addresses:
                self._host.valid_until[address] = self._network.timeline.time + LIFETIME_S

    def announce(self) -> None:
        for address in self._addresses:
            self._network.announce(address, self._host)

    def release(self) -> None:
        self._claimed = False
        for address in self._addresses:
            self._host.valid_until.pop(address, None)

    def links_up(self) -> bool:
        return self._links()

    def carriers(self) -> frozenset[str]:
        return frozenset(("outer",) if self._host.carrier else ())

    def close(self) -> None:
        pass
