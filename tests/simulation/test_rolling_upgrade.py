"""Members are upgraded one after the other: for as long, two versions of the record and of the frames meet."""

from __future__ import annotations

import pytest

from frozen_encodings import frame_through_version_0_1
from simulation.gateways import MemberNode
from simulation.play import judged
from simulation.world import Variant

SEEDS = 6


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
    """Takeovers go from the older to the newer member and back again: nothing is lost, nothing comes twice."""
    for seed in range(SEEDS):
        judged(9000 + seed, _older(name))
