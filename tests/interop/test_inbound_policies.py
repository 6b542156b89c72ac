"""The owner is killed under traffic: with ``inbound = "rekey"`` (RFC 6027 section 3.5) a child SA that gets packets in
its gap is rekeyed with a real strongSwan, and status tells so."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsecha.lab import network
from ipsecha.lab.failover import Fault, begin, wait_for_pair
from ipsecha.lab.member import Member
from ipsecha.lab.scenes import PeerKind, in_namespaces
from ipsecha.lab.stage import CHILD, Tunnel

pytestmark = [pytest.mark.root, pytest.mark.peer]


def _spis(member: Member) -> set[str]:
    return {child.spi_in for child in member.children(CHILD) if child.state == "established"}


def test_a_child_sa_with_a_gap_is_rekeyed_after_a_kill(tmp_path: Path) -> None:
    tunnel = Tunnel(gateway_address=network.CLUSTER_OUTER, gateway_options={"inbound": "rekey"})
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN, tunnel) as scene:
        _, active, standby, _ = begin(scene, Fault.KILL, print, 1.0)
        before = _spis(active)
        ike = active.sas()[0].spi_i
        exposed = active.children(CHILD)[0].lease
        assert exposed is not None
        assert exposed.exposure >= 1
        scene.strike(Fault.KILL, active)
        standby.wait_for("a new child SA", lambda member: member.role() == "active" and _spis(member) - before)
        assert standby.sas()[0].spi_i == ike
        assert scene.topology["hostb"].ping(network.HOST_A, count=3)
        assert scene.topology["hosta"].ping(network.HOST_B, count=3)
        told = standby.status().after_takeover
        assert told is not None
        assert told.rekeyed == 1
        assert told.failed == 0
        active.start()
        wait_for_pair(scene.members)
