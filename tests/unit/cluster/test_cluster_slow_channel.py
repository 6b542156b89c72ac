"""A channel between members that are far apart."""

from __future__ import annotations

import pytest

from ike_pair import Entropy
from ipsecha.cluster import effects as fx
from ipsecha.cluster.pair import PairMember, PairSettings

BEAT_S = 0.1


def _alone() -> tuple[PairMember, float]:
    """An owner that has never seen its partner, and the time of its last tick."""
    member = PairMember(PairSettings("test", ("a", "b"), 1, heartbeat_s=BEAT_S), Entropy("slow"))
    now = 100.0
    member.start(now, 1.7e9)
    for _ in range(20):
        now += BEAT_S
        member.handle_timer(now)
    member.take_effects()
    assert member.owns
    return member, now


def _resets(member: PairMember, until: float) -> bool:
    while member.next_timer() < until:
        member.handle_timer(member.next_timer())
    return any(isinstance(effect, fx.ResetChannel) for effect in member.take_effects())


@pytest.mark.parametrize("phase", range(10))
@pytest.mark.parametrize("delay_s", [0.02, 0.09, 0.12, 0.4])
def test_an_owner_that_is_alone_waits_for_the_hello(delay_s: float, phase: int) -> None:
    """It has not heard the partner for long, and yet the new channel is not to be given up for that."""
    member, now = _alone()
    up = now + phase * BEAT_S / 10
    member.channel_up(up)
    assert not _resets(member, up + delay_s)


def test_but_not_for_ever() -> None:
    member, now = _alone()
    member.channel_up(now)
    assert _resets(member, now + 1.0)
