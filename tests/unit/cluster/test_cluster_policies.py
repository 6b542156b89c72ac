"""Both members say what they have read (RFC 6027 section 3.1 leaves it to the administrator; this tells him)."""

from __future__ import annotations

from ike_pair import Entropy
from ipsecha.cluster import effects as fx
from ipsecha.cluster.pair import PairMember, PairSettings

NAMES = ("alpha", "beta")


class Two:
    """Two members on a channel that loses nothing."""

    def __init__(self) -> None:
        self.members = [PairMember(PairSettings("lab", NAMES, index), Entropy(NAMES[index])) for index in (0, 1)]
        self.told: list[tuple[str, str]] = []

    def meet(self) -> None:
        for member in self.members:
            member.start(0.0, 1.7e9)
            member.channel_up(0.0)
        self.talk()

    def talk(self) -> None:
        for _ in range(20):
            for index, member in enumerate(self.members):
                for effect in member.take_effects():
                    if isinstance(effect, fx.SendFrame):
                        self.members[1 - index].receive_frame(effect.data, 0.0)
                    elif isinstance(effect, fx.ClusterReport) and effect.event.startswith("policies"):
                        self.told.append((NAMES[index], effect.event))


def test_members_that_have_read_the_same_say_nothing() -> None:
    two = Two()
    for member in two.members:
        member.has_read(b"one")
    two.meet()
    assert [member.policies_differ for member in two.members] == [False, False]
    assert two.told == []


def test_a_difference_is_told_once_by_each_and_so_is_its_end() -> None:
    two = Two()
    two.members[0].has_read(b"one")
    two.members[1].has_read(b"another")
    two.meet()
    assert [member.policies_differ for member in two.members] == [True, True]
    assert sorted(two.told) == [("alpha", "policies-differ"), ("beta", "policies-differ")]
    two.told.clear()
    two.members[0].has_read(b"two")
    two.talk()
    assert two.told == []
    two.members[1].has_read(b"two")
    two.talk()
    assert sorted(two.told) == [("alpha", "policies-agree"), ("beta", "policies-agree")]


def test_a_partner_that_does_not_say_is_no_difference() -> None:
    """A member of version 0.1 does not know the frame."""
    two = Two()
    two.members[0].has_read(b"one")
    two.meet()
    assert [member.policies_differ for member in two.members] == [None, None]
    assert two.told == []
