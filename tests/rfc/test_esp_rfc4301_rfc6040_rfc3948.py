"""RFC 4301 (selectors, DF, MTU), RFC 6040 (ECN) and RFC 3948 (UDP encapsulation) on the packet path."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from esp_pair import Side, child_sa, pair, udp
from ipsecha.dataplane.userspace.sockets import OuterSockets
from ipsecha.wire.ip import checksum, decapsulated_ecn, traffic_class

FAMILIES = [("10.1.0.5", "10.2.0.5"), ("2001:db8:1::5", "2001:db8:2::5")]


def test_an_inner_packet_that_does_not_match_the_sa_is_dropped() -> None:
    """RFC 4301 section 5.2 step 4: the packet MUST be discarded if its selectors do not match the SA's; auditable."""
    left, right = pair()
    live = left.sad.adopt(0x1001)
    assert live is not None
    assert right.receive(left.outbound._seal(live, 1, udp("10.1.0.5", "10.99.0.5"), 0)) == []
    assert right.counters.selector_mismatch == 1


def test_a_packet_on_another_sa_than_its_own_is_dropped() -> None:
    """RFC 4301 section 5.2: each inbound packet is matched against the SA it came by, not against any SA."""
    left, right = pair()
    other = child_sa(0x2012, 0x1011, first=False, local_ts=right.policy.connections[0].children[0].remote_ts)
    right.install(other)
    left.install(child_sa(0x1011, 0x2012, local_ts=other.remote_ts, created_at=9.0))
    live = left.sad.adopt(0x1011)
    assert live is not None
    assert right.receive(left.outbound._seal(live, 1, udp(), 0)) == []


def test_a_packet_without_a_policy_is_dropped() -> None:
    """RFC 4301 section 5.1 step 3: no entry means discard."""
    side = Side()
    assert side.send(udp("172.16.0.1", "172.17.0.1")) == []
    assert side.counters.no_policy == 1


@pytest.mark.parametrize("ends", FAMILIES)
@pytest.mark.parametrize("inner", range(4))
@pytest.mark.parametrize("outer", range(4))
def test_ecn_decapsulation(ends: tuple[str, str], inner: int, outer: int) -> None:
    """RFC 6040 section 4.2, figure 4: every combination, with a correct checksum."""
    left, right = pair()
    got = right.receive(*left.send(udp(*ends, traffic_class=0x28 | inner)), outer=0x28 | outer)
    expected = decapsulated_ecn(inner, outer)
    if expected is None:
        assert got == []
        assert right.counters.ecn_dropped == 1
        return
    assert traffic_class(got[0]) == 0x28 | expected
    assert got[0][0] >> 4 == 6 or checksum(got[0][:20]) == 0


@pytest.mark.parametrize("ends", FAMILIES)
@pytest.mark.parametrize("ecn", range(4))
def test_ecn_encapsulation_copies(ends: tuple[str, str], ecn: int) -> None:
    """RFC 6040 section 4.1: normal mode copies the inner ECN field."""
    left, _ = pair()
    (run,) = left.outbound.process([udp(*ends, traffic_class=ecn)], 0.0)
    assert run.outer >> 1 & 3 == ecn


class Wire:
    """The NAT traversal port of one gateway on the loopback interface, and a peer."""

    def __init__(self) -> None:
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.settimeout(5)
        ike, nat = free_ports()
        self.sockets = OuterSockets(ike, nat, 0, lambda remote: None)
        self.readers = list(self.sockets.open(["127.0.0.1"], raw=False))
        self.ike: list[bytes] = []
        self.esp: list[bytes] = []

    def hear(self, datagram: bytes, port: int) -> None:
        self.peer.sendto(datagram, ("127.0.0.1", port))
        for _, receive in self.readers:
            receive(
                lambda datagrams, local, remote, outer, protocol: self.esp.extend(datagrams),
                lambda data, local, remote: self.ike.append(data),
            )


def free_ports() -> tuple[int, int]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.sockets.close()
    made.peer.close()


def test_ike_bears_the_non_esp_marker_on_the_nat_port_only(wire: Wire) -> None:
    """RFC 3948 section 2.2: four zero octets in front of IKE on port 4500, none on port 500."""
    wire.sockets.send_ike(b"message", ("127.0.0.1", wire.sockets.nat_port), wire.peer.getsockname())
    assert wire.peer.recv(100) == bytes(4) + b"message"
    wire.sockets.send_ike(b"message", ("127.0.0.1", wire.sockets.ike_port), wire.peer.getsockname())
    assert wire.peer.recv(100) == b"message"


def test_what_arrives_at_the_nat_port_is_told_apart(wire: Wire) -> None:
    """RFC 3948 sections 2.1 to 2.3: ESP, IKE behind the marker, keepalives are ignored."""
    esp = bytes.fromhex("0000100100000001") + bytes(32)
    for datagram in (esp, bytes(4) + b"ike message", b"\xff", b"", b"\x00", bytes(4), b"\x01\x02"):
        wire.hear(datagram, wire.sockets.nat_port)
    assert wire.esp == [esp]
    assert wire.ike == [b"ike message"]
    assert wire.sockets.malformed == 4


def test_esp_never_travels_on_the_ike_port(wire: Wire) -> None:
    """RFC 7296 section 2.23: UDP encapsulation MUST NOT be done on port 500."""
    esp = bytes.fromhex("0000100100000001") + bytes(32)
    wire.hear(esp, wire.sockets.ike_port)
    assert wire.esp == []
    assert wire.ike == [esp]  # where the IKE parser refuses it
    assert wire.sockets.encapsulated(("127.0.0.1", wire.sockets.ike_port)) is not wire.readers[0][0]


def test_keepalives_are_one_octet(wire: Wire) -> None:
    """RFC 3948 section 2.3: a one-octet payload with the value 0xFF."""
    wire.sockets.send_keepalive(("127.0.0.1", wire.sockets.nat_port), wire.peer.getsockname())
    assert wire.peer.recv(100) == b"\xff"
