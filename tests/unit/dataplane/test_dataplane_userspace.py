"""The userspace plane without privileges: clear packets as datagrams, ESP over the loopback interface."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from esp_pair import GCM, LEFT, RIGHT, Events, child_policy, child_sa, connection, ike_sa, udp
from ipsecha.dataplane.plane import DataPlane
from ipsecha.dataplane.userspace.loopback import LoopbackDevice
from ipsecha.dataplane.userspace.plane import PlaneConfig, UserspacePlane
from ipsecha.model.errors import DataPlaneError
from ipsecha.model.leases import Leasing
from ipsecha.model.policy import Policy
from ipsecha.model.records import Address, LeaseEntry


class Host:
    """The protected side of one plane."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.device = LoopbackDevice(("127.0.0.1", 0), self.socket.getsockname())

    def send(self, *packets: bytes) -> None:
        for packet in packets:
            self.socket.sendto(packet, self.device.address)

    def received(self) -> list[bytes]:
        packets = []
        while True:
            try:
                packets.append(self.socket.recv(65535))
            except BlockingIOError:
                return packets


def free_port(address: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


class Gateway:
    """A plane with everything around it."""

    def __init__(self, address: str, ports: tuple[int, int], *, first: bool, incarnation: int = 1) -> None:
        self.first = first
        self.address = address
        self.host = Host()
        self.events = Events()
        self.ike: list[tuple[bytes, Address, Address]] = []
        self.now = 100.0
        local, remote = (LEFT, RIGHT) if first else (RIGHT, LEFT)
        self.policy = Policy((connection((child_policy(local=local, remote=remote),)),))
        config = PlaneConfig(ike_port=ports[0], nat_port=ports[1], raw=False, routes=False, mark=0)
        self.plane = UserspacePlane(
            self.policy,
            self.events,
            lambda *arguments: self.ike.append(arguments),
            config=config,
            inner=self.host.device,
            clock=lambda: self.now,
        )
        self.incarnation = incarnation

        self.peer: Address = ("", 0)

    def install(self) -> None:
        spis = (0x1001, 0x2002) if self.first else (0x2002, 0x1001)
        child = child_sa(*spis, GCM, first=self.first)
        sa = ike_sa(child, first=self.first)
        sa.local, sa.remote = (self.address, self.peer[1]), self.peer
        self.plane.install(sa, child)

    def start(self, mode: Leasing = Leasing.FREE) -> None:
        self.plane.set_leasing(mode)
        self.plane.activate(self.incarnation, 0)
        self.install()  # as its first owner


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port("127.0.0.1"), free_port("127.0.0.2")


@pytest.fixture
def gateways(ports: tuple[int, int]) -> Iterator[tuple[Gateway, Gateway]]:
    left, right = Gateway("127.0.0.1", ports, first=True), Gateway("127.0.0.2", ports, first=False)
    left.peer, right.peer = ("127.0.0.2", ports[1]), ("127.0.0.1", ports[1])
    yield left, right
    for gateway in (left, right):
        gateway.host.socket.close()


def play(gateways: tuple[Gateway, ...], script: Any) -> None:
    """Run ``script(settle)`` with the gateways on a loop; ``await settle()`` lets everything arrive."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for gateway in gateways:
            gateway.plane.attach(loop)
            gateway.plane.listen([gateway.address])

        async def settle() -> None:
            for _ in range(20):
                await asyncio.sleep(0.001)

        await script(settle)
        for gateway in gateways:
            gateway.plane.close()

    asyncio.run(run())


def forwarded(packet: bytes) -> bytes:
    """What arrives: the TTL is one less, since the loopback device forwards nothing itself."""
    return packet[:8] + bytes((packet[8] - 1,)) + packet[9:10]


def test_it_is_a_data_plane(gateways: tuple[Gateway, Gateway]) -> None:
    plane: DataPlane = gateways[0].plane
    assert plane.traffic(0x9999) is None


def test_packets_cross_in_both_directions(gateways: tuple[Gateway, Gateway]) -> None:
    left, right = gateways
    there, back = [udp(size=size) for size in (60, 500, 1400)], [udp("10.2.0.5", "10.1.0.5")] * 200

    async def script(settle: Any) -> None:
        left.start()
        right.start()
        left.host.send(*there)
        await settle()
        assert [one[:10] for one in right.host.received()] == [forwarded(one) for one in there]
        right.host.send(*back)
        await settle()
        assert len(left.host.received()) == 200
        seen = left.plane.traffic(0x1001)
        assert seen is not None
        assert (seen.packets_out, seen.packets_in) == (3, 200)
        assert seen.in_gap > 0

    play(gateways, script)


def test_ike_messages_reach_the_gateway_without_the_marker(
    gateways: tuple[Gateway, Gateway], ports: tuple[int, int]
) -> None:
    left, right = gateways

    async def script(settle: Any) -> None:
        for port in ports:
            left.plane.send_ike(b"an IKE message", ("127.0.0.1", port), ("127.0.0.2", port))
        left.plane.send_keepalive(("127.0.0.1", ports[1]), ("127.0.0.2", ports[1]))
        left.plane.send_ike(b"lost", ("127.0.0.9", ports[1]), ("127.0.0.2", ports[1]))
        await settle()
        assert sorted(right.ike) == sorted(
            (b"an IKE message", ("127.0.0.2", port), ("127.0.0.1", port)) for port in ports
        )

    play(gateways, script)


def test_held_packets_go_on_when_the_backup_has_acknowledged(gateways: tuple[Gateway, Gateway]) -> None:
    left, right = gateways

    async def script(settle: Any) -> None:
        left.start(Leasing.LEASED)
        right.start()
        received = 0
        for _ in range(3):  # what a socket's buffer takes
            left.host.send(*[udp()] * 100)
            await settle()
            received += len(right.host.received())
        assert received == 256
        left.plane.grant(left.plane.lease_requests(left.now))
        await settle()
        assert len(right.host.received()) == 44
        right.host.send(*[udp("10.2.0.5", "10.1.0.5")] * 30)
        await settle()
        assert len(left.host.received()) == 16
        left.plane.set_leasing(Leasing.FREE)  # the backup dies
        await settle()
        assert len(left.host.received()) == 14

    play(gateways, script)


def test_planned_switchover_loses_nothing(gateways: tuple[Gateway, Gateway], ports: tuple[int, int]) -> None:
    """What still arrives at the old owner is forwarded, and the exact counters leave no gap."""
    left, right = gateways
    heir = Gateway("127.0.0.1", (free_port("127.0.0.3"), ports[1]), first=True, incarnation=9)
    heir.peer = left.peer
    heir.install()

    async def script(settle: Any) -> None:
        left.start(Leasing.LEASED)
        right.start()
        left.host.send(*[udp()] * 10)
        right.host.send(*[udp("10.2.0.5", "10.1.0.5")] * 12)
        await settle()
        handed: list[tuple[Any, ...]] = []
        left.plane.deactivate(lambda *arguments: handed.append(arguments))
        heir.plane.adopt_exact(left.plane.exact_counters())
        right.host.send(*[udp("10.2.0.5", "10.1.0.5")] * 3)
        left.host.send(*[udp()] * 2)
        await settle()
        assert sorted(one[0] for one in handed) == ["esp"] * 3 + ["inner"] * 2
        heir.plane.set_leasing(Leasing.LEASED)
        heir.plane.activate(heir.incarnation, 0)
        left.plane.stop_listening()
        heir.plane.attach(asyncio.get_running_loop())
        heir.plane.listen([heir.address])
        for arguments in handed:
            heir.plane.inject(*arguments)
        await settle()
        assert len(left.host.received()) == 12
        assert len(heir.host.received()) == 3
        assert len(right.host.received()) == 12
        seen = heir.plane.traffic(0x1001)
        assert seen is not None
        assert (seen.in_number, seen.out_number, seen.gap) == (15, 12, None)
        heir.plane.close()

    play(gateways, script)
    heir.host.socket.close()


def test_a_standby_learns_ceilings_and_forwards_nothing_without_being_told(gateways: tuple[Gateway, Gateway]) -> None:
    left, right = gateways

    async def script(settle: Any) -> None:
        right.start()
        left.install()
        left.plane.apply_leases([LeaseEntry(0x1001, 90, 900)])
        left.host.send(udp())
        right.host.send(udp("10.2.0.5", "10.1.0.5"))
        await settle()
        assert left.host.received() == []
        assert right.host.received() == []
        seen = left.plane.traffic(0x1001)
        assert seen is not None
        assert (seen.in_ceiling, seen.out_ceiling) == (90, 900)

    play(gateways, script)


def test_unknown_spi_is_reported_with_its_sender(gateways: tuple[Gateway, Gateway], ports: tuple[int, int]) -> None:
    left, right = gateways

    async def script(settle: Any) -> None:
        left.start()
        right.start()
        right.plane.remove(0x2002)
        left.host.send(udp())
        await settle()
        assert right.events.seen == [("unknown_spi", 0x2002, ("127.0.0.1", ports[1]))]

    play(gateways, script)


def test_a_port_that_is_taken_leaves_the_other_addresses_to_listen_at(
    gateways: tuple[Gateway, Gateway], ports: tuple[int, int]
) -> None:
    """As with another IKE daemon on one of our addresses: it is named, again and again, and the rest works."""
    left = gateways[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        squatter.bind(("127.0.0.3", ports[1]))

        async def script() -> None:
            loop = asyncio.get_running_loop()
            left.plane.attach(loop)
            for _ in range(2):
                with pytest.raises(DataPlaneError, match=r"127\.0\.0\.3"):
                    left.plane.listen(["127.0.0.3", left.address])
            for target in (("127.0.0.3", ports[0]), (left.address, ports[0]), (left.address, ports[1])):
                squatter.sendto(bytes(40), target)
            async with asyncio.timeout(10):
                while len(left.ike) < 3:
                    await asyncio.sleep(0.001)
            squatter.close()
            left.plane.listen(["127.0.0.3", left.address])
            left.plane.close()

        asyncio.run(script())
