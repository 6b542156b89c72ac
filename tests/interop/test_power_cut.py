"""Both members lose power at once, under traffic, and come back with what they have saved.

The peer, a real strongSwan or another ipsecha, keeps its IKE SA; no number is used twice, and nothing that is played
back is delivered again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ipsecha.lab.failover import Fault
from ipsecha.lab.plays import play
from ipsecha.lab.scenes import PeerKind, in_namespaces


def timeline(text: str) -> None:
    sys.stdout.write(f"{text}\n")


@pytest.mark.root
@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.parametrize("witness", [False, True], ids=["alone", "witness"])
@pytest.mark.parametrize("peer", [PeerKind.STRONGSWAN, PeerKind.IPSECHA], ids=lambda peer: peer.value)
def test_the_peer_keeps_its_tunnel(tmp_path: Path, peer: PeerKind, witness: bool) -> None:
    with in_namespaces(tmp_path, peer, witness=witness, saves=True) as scene:
        outcome = play(scene, Fault.POWER_CUT, timeline)
        assert outcome.holds, outcome.verdicts
