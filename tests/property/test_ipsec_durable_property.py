"""Saved state and sequence numbers, over arbitrary histories of packets, leases, writes and power cuts (I2, I3).

No number above the bound on the disk is ever used, whoever comes back uses none again, and nothing waits for ever.

The file is one pair of numbers here: what the last write that ended says.  A write that was under way when the power
failed may be on the disk or not.
"""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from esp_pair import GCM, GCM_ESN, LEFT, RIGHT, Side, child_policy, child_sa, connection, udp
from ipsecha.cluster import lanes
from ipsecha.ipsec import durable
from ipsecha.model.leases import Leasing, lane_width
from ipsecha.model.policy import Policy
from ipsecha.model.records import ChildSa, LeaseEntry

SPI = 0x1001
MARGIN = 20
SMALL = {"INBOUND_RESERVE": 40, "OUTBOUND_RESERVE": 80, "MARGIN_IN": MARGIN, "MARGIN_OUT": MARGIN, "RESERVE_S": 0.01}


class PowerHistory(RuleBasedStateMachine):
    """One owner, alone or with a backup that acknowledges now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = [patch.object(durable, name, value) for name, value in SMALL.items()]
        for one in self.patches:
            one.start()

    def teardown(self) -> None:
        for one in self.patches:
            one.stop()

    @initialize(esn=st.booleans(), mode=st.sampled_from(list(Leasing)))
    def begin(self, esn: bool, mode: Leasing) -> None:
        self.suite = GCM_ESN if esn else GCM
        self.peer = Side(first=False)
        self.peer.install(child_sa(0x2002, SPI, self.suite, first=False))
        self.peer.sad.adopt(0x2002)
        self.incarnation = 0
        self.wire: list[bytes] = []
        self.sent: set[int] = set()
        self.delivered: set[int] = set()
        self.disk: tuple[int, int] | None = None  # the bounds in the owner's file; None: there is a marker
        self.own(child_sa(SPI, 0x2002, self.suite), mode, 0)

    def own(self, child: ChildSa, mode: Leasing, above: int) -> None:
        """A member becomes the owner; the disk does not know yet."""
        self.incarnation += 1
        policy = Policy((connection((child_policy(local=LEFT, remote=RIGHT),)),))
        self.owner = Side(policy, mode=mode, incarnation=self.incarnation)
        sad = self.owner.sad
        sad.deactivate()
        sad.await_marker()
        self.owner.install(child)
        sad.activate(self.incarnation, above)
        self.saving = False
        self.writing: tuple[int, int] | None = None
        self.first = False
        self.requests: list[LeaseEntry] = []
        self.limits: tuple[int, int] | None = None
        self.lane = lane_width(self.suite.esn)
        self.margin = child.in_ceiling + MARGIN, child.out_ceiling + above * self.lane + MARGIN

    def limit(self, direction: int) -> int:
        if not self.saving:
            return self.margin[direction]
        return self.limits[direction] if self.limits is not None else 1 << 62

    def check_sent(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            live = self.owner.sad.lives[SPI]
            low = int.from_bytes(datagram[4:8], "big")
            number = (live.next_out - 1) >> 32 << 32 | low if self.suite.esn else low
            assert number not in self.sent, "I2"
            assert number <= self.limit(1), "beyond the bound"
            self.sent.add(number)

    def check_delivered(self, packets: list[bytes]) -> None:
        for packet in packets:
            number = int.from_bytes(packet[28:36], "big")
            assert number not in self.delivered, "I3"
            assert number <= self.limit(0), "beyond the bound"
            self.delivered.add(number)

    def release(self, lives: list[object]) -> None:
        for live in lives:
            self.check_sent(
                [datagram for run in self.owner.outbound.release(live, self.owner.now) for datagram in run.datagrams]
            )
            self.check_delivered(self.owner.inbound.release(live, self.owner.now))

    @rule(count=st.integers(1, 60), seconds=st.sampled_from([0.0, 0.01, 0.5]))
    def send(self, count: int, seconds: float) -> None:
        self.owner.now += seconds
        self.check_sent(self.owner.send(*[udp(size=64)] * count))

    @rule(count=st.integers(1, 60), skipped=st.sampled_from([0, 0, 0, 7, 300]))
    def receive(self, count: int, skipped: int) -> None:
        live = self.peer.sad.lives[0x2002]
        live.next_out += skipped
        datagrams = []
        for _ in range(count):
            inner = udp("10.2.0.5", "10.1.0.5", size=64)
            datagrams += self.peer.send(inner[:28] + live.next_out.to_bytes(8, "big") + inner[36:])
        self.wire = [*self.wire, *datagrams][-400:]
        self.check_delivered(self.owner.receive(*datagrams))

    @rule()
    def play_back(self) -> None:
        self.check_delivered(self.owner.receive(*self.wire))

    @rule()
    def ask(self) -> None:
        self.requests += self.owner.sad.lease_requests(self.owner.now)

    @rule()
    def acknowledge(self) -> None:
        requests, self.requests = self.requests, []
        self.release(self.owner.sad.grant(requests))

    @rule(mode=st.sampled_from(list(Leasing)), skip=st.sampled_from([0, 0, 4]))
    def change_mode(self, mode: Leasing, skip: int) -> None:
        self.requests.clear()
        if not self.saving:
            self.margin = self.margin[0], self.margin[1] + skip * self.lane
        self.release(self.owner.sad.set_leasing(mode, skip))

    # The disk

    @precondition(lambda self: not self.saving)
    @rule()
    def marker_written(self) -> None:
        self.disk, self.saving = None, True
        self.release(self.owner.sad.begin_saving(lambda: None))

    @precondition(lambda self: self.saving and self.writing is None)
    @rule()
    def flush(self) -> None:
        sad = self.owner.sad
        found = sad.installed(SPI)
        assert found is not None
        self.first = self.limits is None
        wanted = sad.bounds_to_write([found[1]] if self.first else [], self.owner.now)
        if not wanted:
            return
        self.writing = wanted[-1][1:]
        if self.first:
            self.limits = wanted[0][1:]
            live = sad.lives.get(SPI)
            assert live is None or (live.window.top <= self.limits[0] and live.next_out <= self.limits[1] + 1)

    @precondition(lambda self: self.writing is not None)
    @rule()
    def flushed(self) -> None:
        self.disk = self.limits = self.writing
        self.writing = None
        self.release(self.owner.sad.bounds_written())

    @precondition(lambda self: self.writing is not None)
    @rule()
    def write_fails_and_the_file_goes(self) -> None:
        self.writing = self.disk = None
        self.limits, self.saving = None, True
        self.release(self.owner.sad.end_saving())

    @precondition(lambda self: self.saving and self.limits is not None)
    @rule()
    def disk_fails_and_the_file_stays(self) -> None:
        """Nothing is freed; the SA asks to be rekeyed when it comes near its bound."""
        self.owner.sad.rekey_near(self.owner.now)

    @precondition(lambda self: self.disk is not None)
    @rule(mode=st.sampled_from([Leasing.FREE, Leasing.LEASED]), through=st.booleans())
    def power_cut(self, mode: Leasing, through: bool) -> None:
        """Whoever comes back has what the disk says, and uses it once: there is a marker before the first packet."""
        inbound, outbound = self.writing if through and self.writing is not None else self.disk or (0, 0)
        child = child_sa(SPI, 0x2002, self.suite, in_ceiling=inbound + 2 * MARGIN, out_ceiling=outbound)
        self.disk = None
        self.own(child, mode, lanes.RESTORED)

    @precondition(lambda self: self.disk is not None and SPI in self.owner.sad.lives)
    @rule()
    def takeover_that_no_disk_has_seen(self) -> None:
        """A backup that knows the ceilings goes on within its margin; the power fails before its marker is written."""
        found = self.owner.sad.installed(SPI)
        assert found is not None
        self.requests.clear()
        before, bounds = self.disk, self.disk or (0, 0)
        known = child_sa(SPI, 0x2002, self.suite, in_ceiling=found[1].in_ceiling, out_ceiling=found[1].out_ceiling)
        self.own(known, Leasing.FREE, lanes.CERTAIN)
        self.send(30, 0.0)
        self.receive(30, 0)
        self.disk = before
        assert self.margin[0] <= bounds[0] + 2 * MARGIN
        self.power_cut(Leasing.FREE, False)

    @rule()
    def nothing_waits_for_ever(self) -> None:
        """Alone, with a disk that works: all that was held goes out."""
        self.change_mode(Leasing.FREE, 0)
        if not self.saving:
            self.marker_written()
        for _ in range(40):
            if self.writing is None:
                self.flush()
            if self.writing is not None:
                self.flushed()
        assert not self.owner.sad.held


TestPowerHistory = PowerHistory.TestCase
TestPowerHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
