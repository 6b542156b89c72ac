"""The gateway's turns: when the one timer is due, whatever happens to the clock in the middle of a turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ipsecha.gateway.core import Gateway


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at


class Handle:
    def __init__(self, loop: Loop, delay: float) -> None:
        self._loop = loop
        self.delay = delay

    def cancel(self) -> None:
        self._loop.armed.remove(self)


class Loop:
    """Remembers what is to be called; ``turn`` calls what is to be called soon."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.armed: list[Handle] = []

    def time(self) -> float:
        return 0.0

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        self.armed.append(Handle(self, delay))
        return self.armed[-1]

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


class Endpoint:
    def take_effects(self) -> list[Any]:
        return []

    def next_timer(self) -> None:
        return None


class Cluster:
    """A standby whose next heartbeat is due in a tenth of a second, and which does ``act`` in its next turn."""

    def __init__(self, clock: Clock) -> None:
        self.tick_at = clock.now() + 0.1
        self.act: Callable[[], None] | None = None

    def next_timer(self) -> float:
        return self.tick_at

    def carry_out(self, now: float) -> bool:
        act, self.act = self.act, None
        if act is not None:
            act()
        return act is not None


def _gateway() -> tuple[Any, Loop, Clock, Cluster]:
    loop, clock = Loop(), Clock()
    gateway: Any = Gateway(loop, clock, Endpoint())  # type: ignore[arg-type]
    gateway.cluster = cluster = Cluster(clock)
    return gateway, loop, clock, cluster


@pytest.mark.parametrize("ahead", [100.0, -100.0])
def test_a_standby_that_adopts_the_owners_clock_beats_on(ahead: float) -> None:
    gateway, loop, clock, cluster = _gateway()

    def shift() -> None:
        clock.at += ahead
        cluster.tick_at += ahead
        gateway.rearm_timer()

    cluster.act = shift
    gateway.wake()
    loop.turn()
    assert [handle.delay for handle in loop.armed] == [pytest.approx(0.1)]


def test_the_time_that_a_turn_took_is_not_added_to_the_deadline() -> None:
    gateway, loop, clock, cluster = _gateway()

    def work() -> None:
        clock.at += 0.07

    cluster.act = work
    gateway.wake()
    loop.turn()
    assert [handle.delay for handle in loop.armed] == [pytest.approx(0.03)]


def test_packets_that_came_in_before_a_switchover_leave_no_deadline_in_the_past() -> None:
    """While what arrives is kept or forwarded nobody heeds them: a timer for them would be due all the time."""
    gateway, loop, clock, cluster = _gateway()
    gateway.traffic_in([7])
    gateway._receiving_at = clock.at + 0.01
    gateway.divert = lambda data, local, remote: None
    clock.at += 0.05
    gateway.wake()
    loop.turn()
    assert [handle.delay for handle in loop.armed] == [pytest.approx(cluster.tick_at - clock.at)]
