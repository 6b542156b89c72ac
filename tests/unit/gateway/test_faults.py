"""The outermost ring: a fault of our own, wherever it comes up, is counted, logged in bounded measure, and survived."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ipsecha.cluster import effects as fx
from ipsecha.cluster.pair import PairMember, PairSettings
from ipsecha.gateway.clock import ClusterClock
from ipsecha.gateway.core import Gateway
from ipsecha.gateway.faults import Faults
from ipsecha.gateway.pair_side import PairSide
from ipsecha.gateway.report_log import ReportLog
from ipsecha.gateway.shared_addresses import NoAddresses
from ipsecha.model.effects import Effect, RemoveChild, Report, Transmit

ADDRESS = ("192.0.2.1", 500)


class Broken(Exception):  # noqa: N818 - a fault, not an error of the protocol
    pass


class Endpoint:
    """Raises wherever ``broken`` says so."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.calls: list[str] = []
        self.effects: list[Effect] = []
        self.due: float | None = None
        self.sharing = SimpleNamespace(listening=False)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.broken:
            raise Broken(name)

    def receive(self, *arguments: object) -> None:
        self._called("receive")

    def handle_timer(self, now: float) -> None:
        self._called("handle_timer")

    def next_timer(self) -> float | None:
        self._called("next_timer")
        return self.due

    def take_effects(self) -> list[Effect]:
        self._called("take_effects")
        effects, self.effects = self.effects, []
        return effects

    def end_step(self) -> None:
        self.calls.append("end_step")

    def child_soft_limit(self, *arguments: object) -> None:
        self._called("child_soft_limit")

    def traffic_seen(self, *arguments: object) -> None:
        self._called("traffic_seen")


class Ring:
    """A gateway on a real event loop, with an endpoint and a plane that fail at will."""

    def __init__(self) -> None:
        self.loop = asyncio.SelectorEventLoop()
        self.endpoint: Any = Endpoint()
        self.gateway = Gateway(self.loop, ClusterClock(), self.endpoint)
        self.loop.set_exception_handler(self.gateway.faults.from_loop)
        self.sent: list[bytes] = []
        self.plane: Any = SimpleNamespace(
            send_ike=lambda data, local, remote: self.sent.append(data),
            remove=self._remove,
            update=None,
            review_leases=lambda now: None,
        )
        self.gateway.plane = self.plane

    @staticmethod
    def _remove(spi: int) -> None:
        raise Broken

    @property
    def faults(self) -> int:
        return self.gateway.faults.count

    def run(self, condition: Callable[[], bool] | None = None, rounds: int = 5) -> None:
        """A few rounds of the loop, or (at most ten seconds) until the condition holds."""

        async def rounds_of_the_loop() -> None:
            for _ in range(rounds):
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                while condition is not None and not condition():
                    await asyncio.sleep(0.005)

        self.loop.run_until_complete(rounds_of_the_loop())


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring()
    yield made
    made.gateway.stop()
    made.loop.close()


def test_a_message_that_makes_the_core_fail_costs_only_itself(ring: Ring) -> None:
    ring.endpoint.broken = {"receive"}
    for _ in range(3):
        ring.gateway.on_ike(b"poison", ADDRESS, ADDRESS)
    ring.run()
    assert ring.faults == 3
    assert ring.endpoint.calls.count("end_step") == 3
    ring.endpoint.broken = set()
    ring.endpoint.effects = [Transmit((b"answer",), ADDRESS, ADDRESS)]
    ring.gateway.on_ike(b"sound", ADDRESS, ADDRESS)
    ring.run()
    assert ring.sent == [b"answer"]


def test_an_effect_that_fails_leaves_the_others(ring: Ring) -> None:
    ring.endpoint.effects = [
        Transmit((b"one",), ADDRESS, ADDRESS),
        RemoveChild(7),
        Transmit((b"two",), ADDRESS, ADDRESS),
    ]
    ring.gateway.wake()
    ring.run()
    assert ring.sent == [b"one", b"two"]
    assert ring.faults == 1


@pytest.mark.parametrize("where", ["take_effects", "next_timer", "child_soft_limit", "traffic_seen"])
def test_a_turn_that_fails_is_not_the_last(ring: Ring, where: str) -> None:
    """Nothing leaves the gateway believing that a turn is still to come."""
    ring.endpoint.broken = {where}
    ring.gateway.soft_limit(1)
    ring.gateway.traffic_in([2])
    ring.run()
    assert ring.faults >= 1
    assert not ring.gateway._scheduled
    ring.endpoint.broken = set()
    ring.endpoint.effects = [Transmit((b"later",), ADDRESS, ADDRESS)]
    ring.gateway.wake()
    ring.run()
    assert ring.sent == [b"later"]


def test_a_timer_that_fails_is_armed_again_but_does_not_spin(ring: Ring) -> None:
    ring.endpoint.broken = {"handle_timer"}
    ring.endpoint.due = 0.0
    ring.gateway.wake()
    ring.run(lambda: ring.endpoint.calls.count("handle_timer") >= 3)
    ring.run(rounds=200)
    assert 3 <= ring.faults < 20
    ring.endpoint.broken = set()
    ring.run(lambda: ring.endpoint.calls.count("handle_timer") > ring.faults)


def test_after_a_fault_without_a_deadline_there_is_another_turn(ring: Ring) -> None:
    ring.endpoint.broken = {"next_timer"}
    ring.gateway.wake()
    ring.run()
    assert ring.faults == 1
    ring.run(lambda: ring.endpoint.calls.count("next_timer") >= 2)


def test_a_reader_that_fails_stays(ring: Ring) -> None:
    """What no callback has caught ends in the loop's handler; the daemon goes on reading."""
    calls: list[int] = []

    def reader() -> None:
        calls.append(1)
        raise Broken

    for _ in range(3):
        ring.loop.call_soon(reader)
    ring.run()
    assert len(calls) == ring.faults == 3


class Channel:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.resets = 0

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def reset(self) -> None:
        self.resets += 1


@pytest.mark.parametrize("record", [None, b"no record at all"], ids=["a fault", "malformed"])
def test_what_was_not_applied_is_not_acknowledged(ring: Ring, record: bytes | None) -> None:
    """A record that a standby fails to store, or cannot read: no Ack, and a new channel on which both look anew at who
    has what; what does not go over the channel is still carried out."""
    settings = PairSettings("lab", ("alpha", "beta"), 1)
    side = PairSide(ring.gateway, PairMember(settings, bytes), NoAddresses())
    channel: Any = Channel()
    side.channel = channel
    beats: list[bytes] = []
    side.beats = SimpleNamespace(send=beats.append)  # type: ignore[assignment]
    ring.endpoint.forget = ring.plane.remove
    ring.gateway.cluster = side
    side.member._effects = [
        fx.SendFrame(b"before"),
        fx.Apply(((b"key", record),)),
        fx.SendFrame(b"the Ack"),
        fx.SendBeat(b"beat"),
    ]
    ring.gateway.wake()
    ring.run()
    assert channel.sent == [b"before"]
    assert channel.resets == 1
    assert beats[0] == b"beat"
    assert ring.faults == 1


def test_lines_about_faults_are_few(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(lambda: 5.0)
    for _ in range(10_000):
        faults.note("a test", Broken("secret"))
    assert faults.count == 10_000
    assert len(caplog.messages) == 10
    assert "secret" not in caplog.text


@pytest.mark.slow
def test_peers_cannot_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Authenticated ones, too: what is left out is counted, and other connections are heard."""
    caplog.set_level(logging.INFO)
    times = [0.0]
    log = ReportLog(lambda: times[0])
    for _ in range(10_000):
        log(Report("request-refused", "no", "paris", logging.WARNING))
        log(Report("ike-established", "yes", "paris", logging.INFO))
    assert len(caplog.messages) == 1050
    log(Report("request-refused", "no", "berlin", logging.WARNING))
    assert caplog.messages[-1] == "berlin: no"
    times[0] = 60.0
    log(Report("request-refused", "no", "paris", logging.WARNING))
    assert caplog.messages[-1] == "paris: no (9950 more like this are not shown)"
    for number in range(100_000):
        log(Report(f"event {number}", "text", "paris", logging.WARNING))
    assert len(log._buckets) <= 4096
