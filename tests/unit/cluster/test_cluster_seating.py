"""What a member of three makes of frames that make no sense, or that are not for it."""

from __future__ import annotations

import random

import pytest

from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames
from ipsecha.cluster.frames import Hello, Standing
from ipsecha.cluster.ownership import PairSettings, Role
from ipsecha.cluster.pair import PairMember
from ipsecha.cluster.seating import SeatedMember

NAMES = ("alpha", "beta", "gamma")
EPOCH = 0x5000


def standing(index: int = 0, *, active: bool = False, epoch: int = EPOCH, cluster: str = "lab") -> Standing:
    hello = Hello(frames.VERSION, cluster, index, bytes(16), active, epoch, 0, bytes(32), 0.0)
    return Standing(hello, active, -1, 0)


@pytest.fixture
def gamma() -> SeatedMember:
    member = SeatedMember(PairSettings("lab", NAMES, 2), random.Random(1).randbytes)
    member.start(0.0, 1e9)
    for index in (0, 1):
        member.member_channel_up(index, 0.0)
    member.take_effects()
    return member


def hear(member: SeatedMember, index: int, frame: frames.Frame) -> list[fx.ClusterEffect]:
    member.member_frame(index, frames.encode_frame(frame), 0.0)
    return member.take_effects()


def resets(effects: list[fx.ClusterEffect]) -> list[int]:
    return [one.member for one in effects if isinstance(one, fx.ForMember) and isinstance(one.effect, fx.ResetChannel)]


def test_an_owner_is_followed(gamma: SeatedMember) -> None:
    effects = hear(gamma, 0, standing(active=True))
    assert gamma.role is Role.MIRROR
    assert any(isinstance(one, fx.DiscardRecords) for one in effects)


def test_a_mirror_has_nothing_left_to_leave(gamma: SeatedMember) -> None:
    """It was an owner, and was about to bequeath: what it is sent from now on is another's."""
    gamma._estate.owned()
    gamma._bequeathing = True
    hear(gamma, 0, standing(active=True))
    assert not gamma._bequeathing
    assert gamma._estate.bequest(b"heir", strangers=True) is None


@pytest.mark.parametrize(
    "frame",
    [
        standing(1, active=True),  # on the channel to alpha
        standing(active=True, cluster="other"),
        standing(active=True, epoch=1 << 63),
        frames.Join(EPOCH),  # before it has said where it stands
    ],
)
def test_what_cannot_be_resets_the_channel(gamma: SeatedMember, frame: frames.Frame) -> None:
    assert resets(hear(gamma, 0, frame)) == [0]
    assert not gamma.seated
    assert gamma.following is None


def test_only_the_owner_that_is_followed_may_write(gamma: SeatedMember) -> None:
    """Invariant I5."""
    hear(gamma, 0, standing(active=True))
    hear(gamma, 1, standing(1))
    for index, epoch in ((1, EPOCH), (0, EPOCH - 16)):
        effects = hear(gamma, index, frames.Commit(epoch, 1, ((bytes(8), b"record"),)))
        assert not any(isinstance(one, fx.Apply) for one in effects)
    assert gamma.counters["fenced"] == 2


def test_a_seat_is_only_for_a_mirror_in_sync(gamma: SeatedMember) -> None:
    hear(gamma, 0, standing(active=True))
    assert resets(hear(gamma, 0, frames.Seat(EPOCH))) == [0]
    assert not gamma.seated


def test_noise_does_no_harm(gamma: SeatedMember) -> None:
    noise = random.Random(7)
    for _ in range(3000):
        for index in (0, 1):
            if not gamma.others[index].channel_is_up:
                gamma.member_channel_up(index, 0.0)
                hear(gamma, index, standing(index, active=index == 0))
            gamma.member_frame(index, bytes((noise.randrange(20),)) + noise.randbytes(noise.randrange(12)), 0.0)
        gamma.take_effects()
    assert not gamma.owns


def test_a_pair_does_not_stumble_over_frames_of_more_than_two() -> None:
    member = PairMember(PairSettings("lab", NAMES[:2], 0), random.Random(1).randbytes)
    member.start(0.0, 1e9)
    member.channel_up(0.0)
    member.receive_frame(frames.encode_frame(standing(1).hello), 0.0)
    member.take_effects()
    member.receive_frame(frames.encode_frame(frames.Seat(EPOCH)), 0.0)
    assert any(isinstance(one, fx.ResetChannel) for one in member.take_effects())
