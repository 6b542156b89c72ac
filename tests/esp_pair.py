"""Two ends of a child SA for tests: SAD, SPD and packet paths without devices, clock and entropy by hand."""

from __future__ import annotations

import ipaddress
from typing import Any

from ipsecha.crypto.esp_transforms import key_material_length
from ipsecha.ipsec.counters import PlaneCounters
from ipsecha.ipsec.inbound import Inbound
from ipsecha.ipsec.outbound import Outbound
from ipsecha.ipsec.sad import Sad
from ipsecha.model.identity import parse_identity
from ipsecha.model.leases import FIRST_IN_CEILING, FIRST_OUT_CEILING, Leasing
from ipsecha.model.numbers import Encr, Integ, Protocol
from ipsecha.model.policy import Authentication, ChildPolicy, Connection, Policy, Start
from ipsecha.model.proposals import ChildSuite, IkeSuite
from ipsecha.model.records import Address, ChildSa, IkeFlag, IkeSa, LeaseEntry
from ipsecha.model.selectors import TrafficSelector, selector_from_prefix
from ipsecha.wire.ip import build_ipv4, build_ipv6, build_udp

GCM = ChildSuite(Protocol.ESP, Encr.AES_GCM_16, 128, 0, 0, False)
GCM_ESN = ChildSuite(Protocol.ESP, Encr.AES_GCM_16, 256, 0, 0, True)
CBC = ChildSuite(Protocol.ESP, Encr.AES_CBC, 256, Integ.HMAC_SHA2_256_128, 0, False)
CHACHA = ChildSuite(Protocol.ESP, Encr.CHACHA20_POLY1305, 0, 0, 0, False)
NULL_ESN = ChildSuite(Protocol.ESP, Encr.NULL, 0, Integ.HMAC_SHA2_512_256, 0, True)
ALL_SUITES = [GCM, GCM_ESN, CBC, CHACHA, NULL_ESN]

LEFT, RIGHT = ("10.1.0.0/16", "2001:db8:1::/48"), ("10.2.0.0/16", "2001:db8:2::/48")
LEFT_ADDRESS: Address = ("192.0.2.1", 4500)
RIGHT_ADDRESS: Address = ("192.0.2.2", 4500)


def selectors(*texts: str) -> tuple[TrafficSelector, ...]:
    return tuple(map(selector_from_prefix, texts))


def connection(
    children: tuple[ChildPolicy, ...], name: str = "peer", remote: tuple[str, ...] = ("192.0.2.2",)
) -> Connection:
    return Connection(
        name,
        ("192.0.2.1",),
        remote,
        parse_identity("a.example"),
        None,
        Authentication.PSK,
        Authentication.PSK,
        (),
        children,
    )


def child_policy(
    name: str = "net", local: tuple[str, ...] = LEFT, remote: tuple[str, ...] = RIGHT, **more: Any
) -> ChildPolicy:
    more.setdefault("start", Start.TRAP)
    return ChildPolicy(name, selectors(*local), selectors(*remote), (), **more)


def child_sa(
    spi_in: int, spi_out: int, suite: ChildSuite = GCM, *, first: bool = True, name: str = "net", **more: Any
) -> ChildSa:
    half = key_material_length(suite)
    one, other = bytes(range(half)), bytes(reversed(range(half)))
    local, remote = (LEFT, RIGHT) if first else (RIGHT, LEFT)
    fields: dict[str, Any] = {
        "local_ts": selectors(*local), "remote_ts": selectors(*remote), "created_at": 0.0, "rekey_at": 0.0,
        "expires_at": 0.0, "in_ceiling": FIRST_IN_CEILING, "out_ceiling": FIRST_OUT_CEILING,
    } | more  # fmt: skip
    keys = one + other if first else other + one
    return ChildSa(name, spi_in, spi_out, suite, keys, **fields)


def ike_sa(*children: ChildSa, first: bool = True, flags: int = IkeFlag.ENCAPSULATE, name: str = "peer") -> IkeSa:
    local, remote = (LEFT_ADDRESS, RIGHT_ADDRESS) if first else (RIGHT_ADDRESS, LEFT_ADDRESS)
    identity = parse_identity("a.example")
    suite = IkeSuite(Encr.AES_GCM_16, 128, 0, 5, 31)
    return IkeSa(
        bytes(8), bytes(8), first, name, suite, b"", local, remote, identity, identity, flags, 0.0, 0.0, 0.0, 0, 0,
        children=children,
    )  # fmt: skip


class Events:
    """Remembers what the data plane reported."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.seen.append((name, *arguments))

    def names(self) -> list[str]:
        return [event[0] for event in self.seen]


class Side:
    """One gateway's packet path; ``now`` is set by hand."""

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        first: bool = True,
        mode: Leasing = Leasing.FREE,
        incarnation: int = 1,
        **more: Any,
    ) -> None:
        self.first = first
        if policy is None:
            local, remote = (LEFT, RIGHT) if first else (RIGHT, LEFT)
            policy = Policy((connection((child_policy(local=local, remote=remote, **more),)),))
        self.policy = policy
        self.events = Events()
        self.now = 1000.0
        self.counters = PlaneCounters()
        self.mtu = 1500
        self.sad = Sad(policy, self.events, lambda local, remote: self.mtu)
        self.outbound = Outbound(self.sad, self.counters, bytes)
        self.inbound = Inbound(self.sad, self.counters)
        self.sad.set_leasing(mode)
        self.sad.activate(incarnation, False)

    def install(self, child: ChildSa, **more: Any) -> ChildSa:
        self.sad.install(ike_sa(child, first=self.first, **more), child)
        return child

    def send(self, *packets: bytes) -> list[bytes]:
        return [datagram for run in self.outbound.process(list(packets), self.now) for datagram in run.datagrams]

    def receive(self, *datagrams: bytes, remote: Address | None = None, outer: int = 0) -> list[bytes]:
        if remote is None:
            remote = RIGHT_ADDRESS if self.first else LEFT_ADDRESS
        return self.inbound.process(list(datagrams), remote, outer, self.now)

    def acknowledge(self) -> tuple[list[bytes], list[bytes]]:
        """The backup acknowledges everything that is wanted: datagrams and packets that were held until now."""
        return self.grant(self.sad.lease_requests(self.now))

    def grant(self, entries: list[LeaseEntry]) -> tuple[list[bytes], list[bytes]]:
        sent: list[bytes] = []
        delivered: list[bytes] = []
        for live in self.sad.grant(entries):
            sent += [one for run in self.outbound.release(live, self.now) for one in run.datagrams]
            delivered += self.inbound.release(live, self.now)
        return sent, delivered


def pair(suite: ChildSuite = GCM, mode: Leasing = Leasing.FREE, **more: Any) -> tuple[Side, Side]:
    """Left and right with one child SA: SPI 0x1001 towards the left, 0x2002 towards the right."""
    left, right = Side(mode=mode, **more), Side(first=False, mode=mode, incarnation=2, **more)
    left.install(child_sa(0x1001, 0x2002, suite))
    right.install(child_sa(0x2002, 0x1001, suite, first=False))
    return left, right


def udp(
    src: str = "10.1.0.5", dst: str = "10.2.0.5", size: int = 100, *, ports: tuple[int, int] = (1000, 2000), **more: Any
) -> bytes:
    """A UDP packet of ``size`` octets in all."""
    one, other = ipaddress.ip_address(src).packed, ipaddress.ip_address(dst).packed
    header = 20 if len(one) == 4 else 40
    body = build_udp(one, other, *ports, bytes(size - header - 8))
    return build_ipv4(one, other, 17, body, **more) if len(one) == 4 else build_ipv6(one, other, 17, body, **more)


def sequence_number(datagram: bytes) -> int:
    return int.from_bytes(datagram[4:8], "big")
