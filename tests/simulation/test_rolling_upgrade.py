"""Members are upgraded one after the other: for as long, two versions of the record and of the frames meet."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from frozen_encodings import frame_through_version_0_1
from simulation.boundaries import Walk, draw
from simulation.gateways import MemberNode
from simulation.play import judged
from simulation.stories import FAULTS, STORIES
from simulation.world import Variant, World

SEEDS = 6
TOLD = tuple(name for name, story in STORIES.items() if not story.renews)
"""Version 0.1 shares no half-open IKE SAs: what is lost with an owner in the middle of a handshake is lost."""
WALKS, APART = 24, 7
"""Walks, and seeds from one to the next: that goes through all stories and all faults."""
BACK_AND_FORTH = 200
"""Takeovers in either direction, at least."""


def _older(name: str) -> Variant:
    """The member ``name`` reads and writes as version 0.1 did."""

    def prepare(node: MemberNode) -> None:
        if node.name != name:
            return
        send, receive = node.side.channel.send, node.side.frame_received

        def write(frame: bytes) -> None:
            if (older := frame_through_version_0_1(frame)) is not None:
                send(older)

        def read(frame: bytes) -> None:
            if (older := frame_through_version_0_1(frame)) is not None:
                receive(older)

        node.side.channel.send = write  # type: ignore[method-assign]
        node.side.frame_received = read  # type: ignore[method-assign]

    return Variant(f"{name}-is-older", prepare=prepare)


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_newer_and_an_older_member_make_a_cluster(name: str) -> None:
    """Under faults on top of each other nothing is lost, nothing comes twice."""
    for seed in range(SEEDS):
        judged(9000 + seed, _older(name))


class _Remembered(Walk):
    """Keeps all the worlds that it has gone through."""

    def __init__(self, seed: int, variant: Variant) -> None:
        self.all: list[World] = []
        super().__init__(draw(seed, stories=TOLD), variant)

    def begin(self) -> None:
        super().begin()
        self.all.append(self.world)

    def takeovers(self) -> Counter[tuple[str, str]]:
        """From whom to whom, and how often."""
        owners = [[process[0] for process in world.record.owners.values()] for world in self.all]
        return Counter(change for names in owners for change in pairwise(names))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a", "b"])
def test_takeovers_go_from_the_older_member_to_the_newer_one_and_back(name: str) -> None:
    """At the acts of either of them, and in relays of ten owners: what one has written the other one goes on with."""
    assert len({(seed * APART) % (len(TOLD) * len(FAULTS)) for seed in range(WALKS)}) == WALKS
    takeovers: Counter[tuple[str, str]] = Counter()
    for number in range(WALKS):
        walk = _Remembered(number * APART, _older(name))
        walk.play()
        takeovers += walk.takeovers()
    assert min(takeovers["a", "b"], takeovers["b", "a"]) > BACK_AND_FORTH
