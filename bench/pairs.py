"""Two members of a cluster within one process: everything of the gateway but the network between and around them."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any

from bench import clients
from bench.callers import Callers
from bench.pauses import Moments, Pauses, TimedLoop
from ipsecha.cluster.pair import PairMember, PairSettings
from ipsecha.dataplane.userspace.loopback import LoopbackDevice
from ipsecha.dataplane.userspace.plane import PlaneConfig, UserspacePlane
from ipsecha.gateway.channel import LossReason
from ipsecha.gateway.clock import ClusterClock
from ipsecha.gateway.core import Gateway
from ipsecha.gateway.garbage import keep_collections_short
from ipsecha.gateway.pair_side import PairSide
from ipsecha.gateway.shared_addresses import NoAddresses
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.effects import InstallChild
from ipsecha.model.records import IkeSa, decode_record, encode_record

PORT, NAT_PORT = 15500, 15501
FEED = 256
JUMPS_PER_TURN, JUMP = 16, 200
PATIENCE_S = 300.0
HEARTBEAT_S, SLOW_HEARTBEAT_S = 0.1, 200.0
"""The real one, and one for measurements in which nobody keeps time and nobody is to be taken for dead."""


class _Wire:
    """Stands for the synch channel and the paths of the beats: what one half sends the other gets, in order."""

    def __init__(self, note: Callable[[], None] = lambda: None) -> None:
        self.deliver: Callable[[bytes], None]
        self._queue: deque[bytes] = deque()
        self._note = note

    def send(self, data: bytes) -> None:
        self._note()
        self._queue.append(data)

    def reset(self) -> None:
        raise RuntimeError("the members do not understand each other")

    def pump(self) -> None:
        while self._queue:
            self.deliver(self._queue.popleft())


class _Addresses(NoAddresses):
    """Notes when a new owner says that it has the addresses: the last of what it has to do before it forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.announced: list[tuple[float, float]] = []

    def announce(self) -> None:
        self.announced.append((time.perf_counter(), time.process_time()))


class Half:
    """One member."""

    def __init__(self, loop: asyncio.AbstractEventLoop, index: int, heartbeat_s: float = SLOW_HEARTBEAT_S) -> None:
        self.pauses, self.beating = Pauses(), Moments()
        clock = ClusterClock()
        secrets = clients.responder_credentials()
        endpoint = IkeEndpoint(clients.responder_policy(), secrets, os.urandom, wall_clock=time.time)
        timed_loop: Any = TimedLoop(loop, self.pauses)
        self.gateway = Gateway(timed_loop, clock, endpoint)
        config = PlaneConfig(ike_port=PORT, nat_port=NAT_PORT, raw=False, routes=False, mark=0)
        inner = LoopbackDevice(("127.0.0.1", 0), ("127.0.0.1", 9))
        policy, on_ike = endpoint.policy, self.gateway.on_ike
        self.gateway.plane = UserspacePlane(policy, self.gateway, on_ike, config=config, inner=inner, clock=clock.now)
        self.addresses = _Addresses()
        settings = PairSettings("bench", ("one", "two"), index, heartbeat_s=heartbeat_s, start_wait_s=1.0)
        self.side = PairSide(self.gateway, PairMember(settings, os.urandom), self.addresses)
        self.frames, self.beats = _Wire(), _Wire(self.beating.note)
        self.side.channel, self.side.beats = self.frames, self.beats  # type: ignore[assignment]
        self.gateway.cluster = self.side
        self.gateway.plane.attach(loop, self.gateway.read)
        self.closed = False

    def start(self) -> None:
        self.side.start(self.gateway.clock.now(), time.time())
        self.gateway.wake()

    def close(self) -> None:
        """The end of the process, without a word to the other."""
        if not self.closed:
            self.closed = True
            self.gateway.stop()
            self.gateway.plane.close()


class Halves:
    """Both members; ``one`` owns ``count`` IKE SAs with ``children`` child SAs each, ``two`` is its backup and in sync.

    ``busy``: child SAs that have carried packets before the backup joins, and need more numbers in every turn.
    ``calls_per_s``: so many handshakes a second begin meanwhile."""

    def __init__(
        self,
        count: int,
        children: int = 1,
        busy: int = 0,
        heartbeat_s: float = SLOW_HEARTBEAT_S,
        calls_per_s: float = 0.0,
    ) -> None:
        self.children, self._heartbeat_s = children, heartbeat_s
        keep_collections_short()  # as the daemon does
        self.loop = asyncio.new_event_loop()
        self.one, self.two = Half(self.loop, 0, heartbeat_s), Half(self.loop, 1, heartbeat_s)
        self.one.frames.deliver, self.two.frames.deliver = self.two.side.frame_received, self.one.side.frame_received
        self.one.beats.deliver = lambda data: None  # the other is not there yet
        self.two.beats.deliver = lambda data: self.one.side.beat_received("lan", data)
        self.one.start()
        self._wait_in_vain()
        self._feed(count)
        for number in range(busy):
            self.one.gateway.plane.inject("inner", clients.inner_packet(number), ("", 0), ("", 0))
        self.callers = Callers(self.one.gateway, count, self.one.pauses.timed, calls_per_s)
        newest = (children - 1) * count  # of child SAs with the same selectors that one sends
        self._join(range(newest, newest + busy))
        if len(self.two.gateway.endpoint.sas) != count + self.callers.completed:
            raise RuntimeError("the backup lacks records")

    def _join(self, busy: range) -> None:
        gc.collect()
        self.one.pauses.longest = 0.0
        self.one.beats.deliver = lambda data: self.two.side.beat_received("lan", data)
        self.two.start()
        self.turn()  # with the beats that are due
        self._traffic_s = 0.0
        began, self.joining_from = time.process_time(), time.monotonic()
        self.one.side.channel_up()
        self.two.side.channel_up()
        traffic = self._traffic(busy)
        self.callers.start()
        self.until(lambda: next(traffic) and self.callers.step() and self.two.side.member.in_sync)
        self.until(lambda: not self.one.side.member.log.outstanding)
        self.joining_s = time.process_time() - began - self._traffic_s - self.callers.cpu_s
        self.joining_until = time.monotonic()
        self.begun, self.completed = self.callers.begun, self.callers.completed
        self.callers.stop()
        self.until(lambda: self.callers.step() and not self.callers.under_way and self.one.gateway.is_settled)
        self.until(lambda: not self.one.side.member.log.outstanding)

    def turn(self) -> None:
        """One turn of the event loop, and what it has put on the wires."""
        self.loop.run_until_complete(asyncio.sleep(0))
        for half, other in ((self.one, self.two), (self.two, self.one)):
            if not other.closed:
                other.pauses.timed(half.frames.pump)()
                other.pauses.timed(half.beats.pump)()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            self.turn()
            if time.monotonic() > deadline:
                raise RuntimeError("the members do not get anywhere")

    def _traffic(self, busy: range) -> Iterator[bool]:
        """With each step some of the busy child SAs go on by more than half of a lease."""
        numbers = cycle(busy)
        while True:
            began = time.process_time()
            for number in islice(numbers, JUMPS_PER_TURN):
                self.one.gateway.plane.skip_outbound(child_spi(number), JUMP)
            self._traffic_s += time.process_time() - began
            yield True

    def _wait_in_vain(self) -> None:
        """The first member finds that it is alone; with slow heartbeats its time passes quickly."""
        if self._heartbeat_s == HEARTBEAT_S:
            self.until(lambda: self.one.gateway.endpoint.active)
            return
        now = self.one.gateway.clock.now()
        for _ in range(10):
            now += self._heartbeat_s
            self.one.side.handle_timer(now)
            self.one.gateway.wake()
            self.turn()
        if not self.one.gateway.endpoint.active:
            raise RuntimeError("the first member does not begin")

    def _feed(self, count: int) -> None:
        endpoint, now = self.one.gateway.endpoint, self.one.gateway.clock.now()
        endpoint.now = now
        for number, sa in enumerate(make_sas(count, now, self.children)):
            endpoint.add_sa(sa)
            for child in sa.children:
                endpoint.emit(InstallChild(sa, child))
            if number % FEED == FEED - 1:
                self._settle()
        self._settle()

    def _settle(self) -> None:
        self.one.gateway.endpoint.end_step()
        self.one.gateway.wake()
        self.turn()

    def lose_one(self) -> None:
        """The owner's process dies; the other has lost the channel and knows no more yet."""
        self.one.close()
        self.two.side.channel_down(LossReason.LOST)
        self.loop.run_until_complete(asyncio.sleep(0.01))

    def take_over(self) -> tuple[float, float]:
        """The backup hears that the owner is dead; the time that passes until it forwards, and the CPU of it."""
        announced = self.two.addresses.announced
        announced.clear()
        began = time.perf_counter(), time.process_time()
        self.two.side.channel_down(LossReason.REFUSED)
        self.until(lambda: bool(announced))
        return announced[0][0] - began[0], announced[0][1] - began[1]

    def close(self) -> None:
        self.one.close()
        self.two.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


def child_spi(number: int) -> int:
    """The inbound SPI of the child SA of client ``number``, the first of several with the same selectors."""
    return 0x10000 + number


def make_sas(count: int, now: float, children: int = 1) -> Iterator[IkeSa]:
    """IKE SAs of as many peers: copies of a real one with SPIs and names of their own.  Further child SAs have the
    selectors of the first."""
    responder = clients.new_responder()
    clients.handshakes(responder, 1, lambda effects: None)
    (first,) = responder.sas.values()
    later = now - first.created_at
    record = encode_record(first)
    for number in range(count):
        sa = decode_record(record)
        sa.spi_i, sa.spi_r = b"bench" + number.to_bytes(3, "big"), first.spi_r[:1] + b"bens" + number.to_bytes(3, "big")
        sa.remote_id = clients.identity(number)
        sa.remote = (clients.address(number, 100), 500)
        sa.created_at = sa.last_inbound_at = now
        sa.rekey_at, sa.expires_at = first.rekey_at + later, first.expires_at + later
        (child,) = sa.children
        child.created_at, child.rekey_at, child.expires_at = now, child.rekey_at + later, child.expires_at + later
        child.remote_ts = (clients.inner_selector(number),)
        sa.children = tuple(copy.copy(child) for _ in range(children))
        for place, one in enumerate(sa.children):
            one.spi_in, one.spi_out = child_spi(number + place * count), 0x2000000 + number + place * count
        yield sa
