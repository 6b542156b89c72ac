"""Arbitrary histories of two members and one child SA: sending, leases that are asked for, acknowledged and given back,
records, takeovers, switchovers; what was sent and delivered is checked all the time."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from esp_pair import GCM, GCM_ESN, LEFT, RIGHT, Side, child_policy, child_sa, connection, udp
from ipsecha.ipsec.live import LiveSa
from ipsecha.model.leases import Leasing
from ipsecha.model.policy import Inbound, Policy
from ipsecha.model.records import ChildSa, LeaseEntry
from ipsecha.wire.ip import packet_selectors

SPI = 0x1001


def copy_of(child: ChildSa) -> ChildSa:
    return child_sa(
        child.spi_in,
        child.spi_out,
        child.suite,
        in_ceiling=child.in_ceiling,
        out_ceiling=child.out_ceiling,
        in_known=child.in_known,
    )


class Requests:
    """Lease requests, and the highest number that had been delivered when they were made; ``told``: ceilings that are
    only told."""

    def __init__(self, entries: list[LeaseEntry], delivered: int, told: bool = False) -> None:
        self.entries = entries
        self.delivered = delivered
        self.told = told


class TakeoverHistory(RuleBasedStateMachine):
    """The members are A and B; ``backup`` is None while the owner is alone."""

    inbound = Inbound.STRICT

    @initialize(esn=st.booleans(), start=st.sampled_from([0, 5000, (1 << 32) - 3000]))
    def begin(self, esn: bool, start: int) -> None:
        self.suite = GCM_ESN if esn else GCM
        self.incarnation = 1
        self.peer = Side(first=False)
        self.peer.install(child_sa(0x2002, SPI, self.suite, first=False))
        self.peer.sad.adopt(0x2002)
        self.peer_live.next_out = start + 1
        self.peer_live.out_lease.restart(self.peer_live.end)
        ceilings = {"in_ceiling": start + 16, "out_ceiling": start + 256}
        self.owner = self.member(child_sa(SPI, 0x2002, self.suite, **ceilings), Leasing.LEASED)
        self.backup: Side | None = self.standby(child_sa(SPI, 0x2002, self.suite, **ceilings))
        self.in_flight: list[Requests | ChildSa] = []
        self.wire: list[bytes] = []
        self.sent: set[int] = set()
        self.delivered: dict[int, int] = {}  # how often
        self.told = 0  # numbers up to here had been delivered, as far as the backup has heard
        self.joining: tuple[Side, Iterator[list[LeaseEntry]]] | None = None  # it has the record, and is being told

    @property
    def peer_live(self):  # type: ignore[no-untyped-def]
        return self.peer.sad.lives[0x2002]

    def member(self, child: ChildSa, mode: Leasing) -> Side:
        self.incarnation += 1
        side = self.side(mode, self.incarnation)
        side.install(child)
        return side

    def side(self, mode: Leasing, incarnation: int) -> Side:
        plain = connection((child_policy(local=LEFT, remote=RIGHT),))
        policy = Policy((msgspec.structs.replace(plain, inbound=self.inbound),))
        return Side(policy, mode=mode, incarnation=incarnation)

    def standby(self, child: ChildSa) -> Side:
        side = self.member(child, Leasing.LEASED)
        side.sad.deactivate()
        return side

    def ceilings(self, side: Side) -> tuple[int, int]:
        found = side.sad.installed(SPI)
        assert found is not None
        return found[1].in_ceiling, found[1].out_ceiling

    def check_sent(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            live = self.owner.sad.lives[SPI]
            low = int.from_bytes(datagram[4:8], "big")
            number = (live.next_out - 1) >> 32 << 32 | low if self.suite.esn else low
            if number >= live.next_out:
                number -= 1 << 32
            assert number not in self.sent, "I2"
            self.sent.add(number)
            if self.backup is not None:
                assert number <= self.ceilings(self.backup)[1]

    def check_delivered(self, packets: list[bytes]) -> None:
        for packet in packets:
            ports = packet_selectors(packet)
            assert ports.src_port is not None
            assert ports.dst_port is not None
            number = int.from_bytes(packet[28:36], "big")
            self.delivered[number] = self.delivered.get(number, 0) + 1
            self.check_number(number)
            if self.backup is not None:
                assert number <= self.ceilings(self.backup)[0]

    def check_number(self, number: int) -> None:
        assert self.delivered[number] == 1, "I3"

    @rule(count=st.integers(1, 400), seconds=st.sampled_from([0.0, 0.001, 0.3, 5.0]))
    def send(self, count: int, seconds: float) -> None:
        self.owner.now += seconds
        self.check_sent(self.owner.send(*[udp(size=64)] * count))

    @rule(
        count=st.integers(1, 60), skipped=st.sampled_from([0, 0, 0, 3, 500]), seconds=st.sampled_from([0.0, 0.01, 2.0])
    )
    def peer_sends(self, count: int, skipped: int, seconds: float) -> None:
        self.owner.now += seconds
        live = self.peer_live
        live.next_out += skipped
        for _ in range(count):
            inner = udp("10.2.0.5", "10.1.0.5", size=64)
            marked = inner[:28] + live.next_out.to_bytes(8, "big") + inner[36:]
            self.wire += self.peer.send(marked)
        self.wire = self.wire[-1000:]

    @rule(data=st.data(), count=st.integers(1, 50))
    def arrive(self, data: st.DataObject, count: int) -> None:
        """In order, out of order, again and again."""
        if self.wire:
            first = data.draw(st.integers(0, len(self.wire) - 1))
            self.check_delivered(self.owner.receive(*self.wire[first : first + count]))

    @rule()
    def newest_arrive(self) -> None:
        self.check_delivered(self.owner.receive(*self.wire[-80:]))

    @rule()
    def ask(self) -> None:
        entries = self.owner.sad.lease_requests(self.owner.now)
        if entries and (self.backup is not None or self.joining is not None):
            self.in_flight.append(Requests(entries, max(self.delivered, default=0)))

    @precondition(lambda self: self.backup is not None)
    @rule(burst=st.integers(20, 60), sends=st.booleans())
    def burst_then_quiet(self, burst: int, sends: bool) -> None:
        """A burst has widened the inbound lease, and then little comes: the owner asks to give numbers back.

        ``sends``: meanwhile a request for outbound numbers is under way, that names the old inbound ceiling.
        """
        for _ in range(3):
            self.peer_sends(burst, 0, 0.0)
            self.check_delivered(self.owner.receive(*self.wire[-burst:]))
            self.everything_is_acknowledged()
        if sends:
            self.send(300, 0.0)
            self.ask()
        for _ in range(3):
            self.peer_sends(1, 0, 2.0)
            self.check_delivered(self.owner.receive(*self.wire[-1:]))
            self.owner.sad.review(self.owner.now)
        self.ask()

    def everything_is_acknowledged(self) -> None:
        self.ask()
        while self.in_flight:
            self.acknowledge()

    @precondition(lambda self: self.backup is not None)
    @rule()
    def record_is_sent(self) -> None:
        """An IKE exchange has changed it; it was encoded now, whatever is still under way before it."""
        found = self.owner.sad.installed(SPI)
        assert found is not None
        self.in_flight.append(copy_of(found[1]))

    def arrives(self, sent: Requests | ChildSa) -> None:
        backup = self.joining[0] if self.joining is not None else self.backup
        assert backup is not None
        if isinstance(sent, ChildSa):
            backup.install(copy_of(sent))
        else:
            backup.sad.apply_leases(sent.entries)
            if any(entry.known for entry in sent.entries):
                self.told = max(self.told, sent.delivered)

    @precondition(lambda self: self.in_flight)
    @rule()
    def acknowledge(self) -> None:
        first = self.in_flight.pop(0)
        self.arrives(first)
        if isinstance(first, ChildSa) or first.told:
            return
        sent, delivered = self.owner.grant(first.entries)
        self.check_sent(sent)
        self.check_delivered(delivered)

    @precondition(lambda self: self.backup is not None and self.in_flight)
    @rule()
    def acknowledgement_is_lost(self) -> None:
        self.arrives(self.in_flight[0])

    @precondition(lambda self: self.backup is not None)
    @rule(mode=st.sampled_from([Leasing.FREE, Leasing.LANE]), arrived=st.integers(-3, 3))
    def owner_dies(self, mode: Leasing, arrived: int) -> None:
        """What it sent last arrives or not."""
        for sent in self.in_flight[: arrived or None]:
            self.arrives(sent)
        self.take_over(mode, above_lane=False)

    @precondition(lambda self: self.backup is not None)
    @rule(count=st.integers(1, 300))
    def cut(self, count: int) -> None:
        """Silence: the old owner goes on in its lane, the new one above it; then the old one is found out and dies."""
        assert self.backup is not None
        backup, self.backup, self.in_flight = self.backup, None, []
        self.owner.sad.set_leasing(Leasing.LANE)
        self.check_sent([one for live in self.owner.sad.lives.values() for one in self.flush(live)])
        self.check_sent(self.owner.send(*[udp(size=64)] * count))
        self.backup = backup
        self.take_over(Leasing.FREE, above_lane=True)

    def flush(self, live) -> list[bytes]:  # type: ignore[no-untyped-def]
        return [one for run in self.owner.outbound.release(live, self.owner.now) for one in run.datagrams]

    def take_over(self, mode: Leasing, above_lane: bool) -> None:
        assert self.backup is not None
        assert self.joining is None
        self.incarnation += 1
        now = self.owner.now
        self.owner, self.backup, self.in_flight = self.backup, None, []
        self.owner.now = now
        self.owner.sad.set_leasing(mode)
        self.owner.sad.activate(self.incarnation, above_lane)

    @precondition(lambda self: self.backup is not None)
    @rule(exact_first=st.booleans(), aborted=st.booleans())
    def switchover(self, exact_first: bool, aborted: bool) -> None:
        assert self.backup is not None
        self.owner.sad.deactivate()
        exact = self.owner.sad.exact_counters()
        self.incarnation += 1
        if aborted:
            self.backup.sad.adopt_exact(exact)
            self.owner.sad.activate(self.incarnation, False)
            return
        old, new = self.owner, self.backup
        new.now = old.now
        if exact_first:
            new.sad.adopt_exact(exact)
        new.sad.activate(self.incarnation, False)
        if not exact_first:
            new.sad.adopt_exact(exact)
        self.in_flight = []
        self.owner, self.backup = new, old

    @precondition(lambda self: self.joining is None)
    @rule(skip_lanes=st.sampled_from([0, 0, 4]), between=st.integers(0, 300), shares=st.booleans())
    def backup_begins_to_join(self, skip_lanes: int, between: int, shares: bool) -> None:
        """It gets the record while the owner still works alone; one that was in sync has given up what it had."""
        self.backup, self.in_flight = None, []
        self.release(self.owner.sad.set_leasing(Leasing.FREE, skip_lanes, gradually=True))
        self.check_sent(self.owner.send(*[udp(size=64)] * between))
        if shares:
            self.owner.sad.share(SPI)
        found = self.owner.sad.installed(SPI)
        assert found is not None
        backup = self.side(Leasing.LEASED, 1)
        backup.sad.deactivate()
        backup.install(copy_of(found[1]))
        self.joining = backup, self.owner.sad.lease_in_parts(self.owner.sad.spd.walk())

    @precondition(lambda self: self.joining is not None)
    @rule()
    def backup_is_told(self) -> None:
        """Of what the owner has used beyond the record; when it has heard all, it is a backup in sync."""
        assert self.joining is not None
        backup, parts = self.joining
        entries = next(parts, None)
        if entries is not None:
            self.in_flight.append(Requests(entries, 0, told=True))
            return
        while self.in_flight:
            self.acknowledge()
        self.backup, self.joining = backup, None
        inbound, outbound = self.ceilings(backup)
        assert max(self.sent, default=0) <= outbound
        assert max(self.delivered, default=0) <= inbound

    @precondition(lambda self: self.joining is not None)
    @rule(mode=st.sampled_from([Leasing.FREE, Leasing.LANE]))
    def join_breaks_off(self, mode: Leasing) -> None:
        """Whoever has joined knows too little to go on, and gives up its records."""
        self.joining = None
        self.in_flight = []
        self.release(self.owner.sad.set_leasing(mode))

    def release(self, lives: list[LiveSa]) -> None:
        for live in lives:
            self.check_sent(self.flush(live))
            self.check_delivered(self.owner.inbound.release(live, self.owner.now))
