"""The cluster's side of a gateway: ownership changes hands even where sockets, routes or addresses are in the way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from esp_pair import child_sa, ike_sa
from ipsecha.cluster import effects as fx
from ipsecha.cluster.pair import PairMember, PairSettings, Role
from ipsecha.gateway import stranded_packets
from ipsecha.gateway.clock import ClusterClock
from ipsecha.gateway.core import Gateway
from ipsecha.gateway.pair_side import PairSide
from ipsecha.model.effects import Effect, InstallChild, Replicate, Transmit
from ipsecha.model.errors import DataPlaneError

EPOCH = 0x20


class Loop:
    """Remembers what is to be called later; ``pass_time`` calls it."""

    def __init__(self) -> None:
        self.later: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.at = 0.0

    def time(self) -> float:
        return self.at

    def call_soon(self, callback: Callable[..., None]) -> None:
        pass

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> Any:
        self.later.append((callback, arguments))
        return SimpleNamespace(cancel=lambda: None)

    def pass_time(self) -> None:
        later, self.later = self.later, []
        for callback, arguments in later:
            callback(*arguments)


class Recorder:
    """Any method may be called; ``broken`` names those that the system refuses."""

    def __init__(self, calls: list[str], name: str) -> None:
        self._calls = calls
        self._name = name
        self.broken: set[str] = set()
        self.effects: list[Effect] = []

    def take_effects(self) -> list[Effect]:
        effects, self.effects = self.effects, []
        return effects

    def __getattr__(self, method: str) -> Callable[..., None]:
        def called(*arguments: Any) -> None:
            self._calls.append(f"{self._name} {method}")
            if method in self.broken:
                raise DataPlaneError(f"{method} is refused")

        return called


class Member:
    def __init__(self) -> None:
        self.loop: Any = Loop()
        self.calls: list[str] = []
        self.endpoint: Any = Recorder(self.calls, "endpoint")
        self.plane: Any = Recorder(self.calls, "plane")
        self.addresses: Any = Recorder(self.calls, "addresses")
        self.gateway = Gateway(self.loop, ClusterClock(), self.endpoint)
        self.gateway.plane = self.plane
        self.core = PairMember(PairSettings("lab", ("alpha", "beta"), 0), bytes)
        self.side = PairSide(self.gateway, self.core, self.addresses)
        self.side.channel = Recorder(self.calls, "channel")  # type: ignore[assignment]
        self.gateway.cluster = self.side

    def do(self, *effects: fx.ClusterEffect) -> None:
        self.core._effects += effects
        self.side.carry_out(0.0)

    def become_active(self) -> None:
        self.core.role, self.core.epoch = Role.ACTIVE, EPOCH
        self.do(fx.BecomeActive(EPOCH, 0))

    def step_down(self) -> None:
        self.core.role = Role.STARTING
        self.do(fx.BecomeStandby(forward=False))


@pytest.fixture
def member() -> Member:
    return Member()


@pytest.mark.parametrize("broken", ["plane listen", "addresses claim"])
def test_an_owner_serves_with_what_it_has_and_goes_on_trying(
    member: Member, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    part, method = broken.split()
    getattr(member, part).broken = {method}
    member.become_active()
    assert member.gateway.faults.count == 0
    assert {"endpoint activate", "plane activate", "plane listen", "addresses claim"} <= set(member.calls)
    assert "plane stop_listening" not in member.calls
    assert member.side.holds_addresses is (broken != "addresses claim")
    for _ in range(20):
        member.loop.pass_time()
    assert member.calls.count(broken) == 21
    assert caplog.messages == [f"{method} is refused"]
    getattr(member, part).broken = set()
    member.loop.pass_time()
    assert member.side.holds_addresses
    member.calls.clear()
    for _ in range(20):
        member.loop.pass_time()
    assert broken not in member.calls


def test_addresses_that_come_late_are_announced_as_often_as_those_that_come_at_once(member: Member) -> None:
    member.become_active()
    member.loop.pass_time()
    at_once = member.calls.count("addresses announce")
    late = Member()
    late.addresses.broken = {"claim"}
    late.become_active()
    late.calls.clear()
    late.addresses.broken = set()
    late.loop.pass_time()
    late.loop.pass_time()
    assert late.calls.count("addresses announce") == at_once > 1


@pytest.mark.parametrize("broken", ["plane stop_listening", "addresses release"])
def test_who_steps_down_gives_up_everything_that_can_be_given_up(member: Member, broken: str) -> None:
    member.become_active()
    part, method = broken.split()
    getattr(member, part).broken = {method}
    member.calls.clear()
    member.step_down()
    assert member.gateway.faults.count == 0
    assert {"endpoint deactivate", "plane deactivate", "plane stop_listening", "addresses release"} <= set(member.calls)
    assert not member.side.holds_addresses


def test_who_has_stepped_down_does_not_take_its_place_again(member: Member) -> None:
    member.addresses.broken = {"claim"}
    member.become_active()
    member.step_down()
    member.calls.clear()
    member.loop.pass_time()
    assert not {"plane listen", "addresses claim", "addresses announce"} & set(member.calls)


def test_an_owner_that_has_slept_hears_who_owns_the_addresses_before_it_takes_them_back(member: Member) -> None:
    """The kernel has taken them away; the first thing to do is not to put them on again."""
    member.side.start(0.0, 0.0)
    member.become_active()
    for _ in range(3):
        member.loop.at += 1.0
        member.loop.pass_time()
    assert member.calls.count("addresses renew") == 4
    member.loop.at += 10.0
    member.loop.pass_time()
    assert member.calls.count("addresses renew") == 4
    member.loop.at += 0.25
    member.loop.pass_time()
    assert member.calls.count("addresses renew") == 5


def test_who_leaves_uses_nothing_any_more_when_it_says_goodbye(member: Member) -> None:
    member.become_active()
    member.core.channel_is_up = True
    member.calls.clear()
    member.core._effects = [fx.BecomeActive(EPOCH, 0)]
    member.side.end()
    assert member.calls == ["endpoint deactivate", "plane deactivate", "addresses release", "channel send"]


def test_forwarded_packets_do_not_fill_the_channel(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stranded_packets, "FORWARD_LIMIT", 4500)
    member.become_active()
    member.core.role, member.core.channel_is_up = Role.STANDBY, True
    for _ in range(2):
        member.do(fx.BecomeStandby(forward=True))
        member.calls.clear()
        for _ in range(10):
            member.gateway.on_ike(bytes(1000), ("192.0.2.1", 500), ("192.0.2.2", 500))
            member.side.carry_out(0.0)
        assert member.calls.count("channel send") == 4
    assert member.side.counters["packets not forwarded"] == 12


def test_the_grace_after_a_handover_ends_whatever_epoch_it_is_by_then(member: Member) -> None:
    """The new owner may take another epoch at once; the addresses must go all the same."""
    member.become_active()
    member.core.role, member.core.epoch = Role.STANDBY, EPOCH + 16
    member.do(fx.BecomeStandby(forward=True))
    assert member.gateway.divert is not None
    member.core.epoch += 16
    member.calls.clear()
    member.loop.pass_time()
    assert {"addresses release", "plane stop_listening", "plane deactivate"} <= set(member.calls)
    assert member.gateway.divert is None


def test_the_grace_does_not_end_what_came_after_it(member: Member) -> None:
    member.become_active()
    member.core.role = Role.STANDBY
    member.do(fx.BecomeStandby(forward=True))
    member.become_active()
    member.calls.clear()
    member.loop.pass_time()
    assert not {"addresses release", "plane stop_listening", "plane deactivate"} & set(member.calls)


@pytest.mark.parametrize(
    ("carriers", "pause_s", "announced"),
    [
        (["", "lan"], 3.0, True),
        (["lan", "lan"], 3.0, False),
        (["lan", ""], 3.0, False),
        (["lan", "wan"], 3.0, True),
        (["lan wan", "wan"], 3.0, False),
        (["lan", "", "lan"], 3.0, False),  # it has heard of us, and of whoever has claimed them since
        (["", "lan", "", "lan"], 3.0, False),
        (["lan", "", "lan"], 0.1, True),  # it failed while they were announced
    ],
)
def test_links_that_were_down_when_the_addresses_were_claimed_hear_of_it(
    member: Member, carriers: list[str], pause_s: float, announced: bool
) -> None:
    """Neighbours behind them have missed it; a link that only flaps must not take them from a rival."""
    member.core.handle_timer = lambda now: None  # type: ignore[method-assign]
    first, *later = [frozenset(up.split()) for up in carriers]
    member.addresses.carriers = lambda: first
    member.become_active()
    for up in later:
        member.loop.pass_time()
        member.loop.at += pause_s
        member.calls.clear()
        member.addresses.carriers = lambda up=up: up
        member.side.handle_timer(1.0)
        member.loop.pass_time()
    assert ("addresses announce" in member.calls) is announced
    assert member.core.health == len(up)


def test_a_core_that_does_not_own_says_nothing_and_keeps_nobody_waiting(member: Member) -> None:
    """What it changed would be acknowledged by nobody, and the owner's records would be installed behind that."""
    child = child_sa(1, 2)
    sa = ike_sa(child)
    address = ("192.0.2.1", 500)
    member.endpoint.active = False
    member.endpoint.effects = [Replicate(sa), Transmit((b"message",), address, address)]
    member.gateway.flush()
    member.endpoint.effects = [InstallChild(sa, child)]
    member.gateway.flush()
    assert member.calls == ["plane install"]
    assert not member.gateway.output.waiting
