"""``systemctl stop``: the SAs go to the partner, also where it needs a moment before it can take them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsecha.gateway import leaving
from ipsecha.model.errors import ClusterError


class Member:
    """An owner whose partner can take the SAs when it has been asked ``refusals`` times, or never."""

    def __init__(self, refusals: int | None, *, owns: bool = True, channel_is_up: bool = True) -> None:
        self.refusals, self.owns, self.channel_is_up = refusals, owns, channel_is_up
        self.asked = 0

    def switchover(self, now: float) -> None:
        self.asked += 1
        if self.refusals is None or self.asked <= self.refusals:
            raise ClusterError("no switchover: no backup is known to be in sync")
        asyncio.get_running_loop().call_later(0.02, setattr, self, "owns", False)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "PAUSE_S", 0.001)
    monkeypatch.setattr(leaving, "FORWARDING_S", 0.001)


def _leave(member: Member) -> None:
    gateway = SimpleNamespace(clock=SimpleNamespace(now=lambda: 0.0), wake=lambda: None)
    asyncio.run(leaving.hand_over(cast(Any, member), cast(Any, gateway)))


@pytest.mark.parametrize("refusals", [0, 3])
def test_the_partner_takes_the_sas_when_it_can(refusals: int) -> None:
    member = Member(refusals)
    _leave(member)
    assert not member.owns
    assert member.asked == refusals + 1  # and is not asked again while they are on their way


def test_a_partner_that_never_can_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "PATIENCE_S", 0.02)
    member = Member(None)
    _leave(member)
    assert member.owns
    assert member.asked > 1


def test_where_there_is_no_partner_nobody_waits() -> None:
    member = Member(None, channel_is_up=False)
    _leave(member)
    assert member.asked == 1


def test_a_member_that_is_not_the_owner_leaves_at_once() -> None:
    member = Member(None, owns=False)
    _leave(member)
    assert not member.asked
