"""Ten deaths in a row: kill the active member, let it return, kill the other, and so on, under traffic.  And ten
switchovers: there and back again."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from ipsecha.lab import capture, network
from ipsecha.lab.failover import Scene, wait_for_pair
from ipsecha.lab.member import Member
from ipsecha.lab.scenes import PeerKind, in_namespaces

DEATHS = SWITCHOVERS = 10
SPIS = list[tuple[str, str, list[tuple[str, str]]]]
"""Of all IKE SAs, and of their child SAs."""


@pytest.mark.root
@pytest.mark.peer
def test_ten_deaths_in_a_row(tmp_path: Path) -> None:
    """The same IKE SA and child SA throughout; no sequence number repeats on the wire (I2); nothing that is played back
    at the last survivor is delivered (I3)."""
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN) as scene:
        active, standby, identity = _under_probes(scene)
        for _ in range(DEATHS):
            active.wait_for("protection", _is_protected)
            time.sleep(0.3)
            active.kill()
            standby.wait_for("takeover", lambda member: member.role() == "active")
            scene.topology["hosta"].ping(network.HOST_B, count=1)
            active.start()
            active.wait_for("return", lambda member: member.role() == "standby")
            active, standby = standby, active
        active.wait_for("protection", _is_protected)
        assert _spis(active) == identity
        assert scene.wire is not None
        packets = scene.wire.packets()
        esp = capture.esp(packets)
        assert len({packet.spi for packet in esp}) == 2
        assert capture.repeated(packets) == []
        inbound = [packet for packet in esp if packet.destination == scene.cluster_address]
        scene.play_back(inbound)
        time.sleep(0.5)
        assert scene.topology["hosta"].ping(network.HOST_B, count=3)
        _lost(scene, f"{DEATHS} deaths")


@pytest.mark.root
@pytest.mark.peer
def test_ten_switchovers_in_a_row(tmp_path: Path) -> None:
    """Exact counters are handed over (DESIGN section 3), to a member that has owned the SAs before as to any other:
    next to nothing is refused as something that the other one may have delivered."""
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN) as scene:
        active, standby, identity = _under_probes(scene)
        for _ in range(SWITCHOVERS):
            active.wait_for("protection", _is_protected)
            time.sleep(0.3)
            active.switchover()
            standby.wait_for("switchover", lambda member: member.role() == "active")
            active.wait_for("standby", lambda member: member.role() == "standby")
            active, standby = standby, active
        active.wait_for("protection", _is_protected)
        assert _spis(active) == identity
        assert scene.wire is not None
        assert capture.repeated(scene.wire.packets()) == []
        assert _lost(scene, f"{SWITCHOVERS} switchovers") <= SWITCHOVERS


def _under_probes(scene: Scene) -> tuple[Member, Member, SPIS]:
    """Owner and backup of a tunnel under probes, and the SPIs of its SAs."""
    active, standby = wait_for_pair(scene.members)
    scene.bring_up()
    scene.probes.wait_until_answered()
    return active, standby, _spis(active)


def _lost(scene: Scene, what: str) -> int:
    """Probes of both sides that were lost; none has arrived twice."""
    scene.probes.settle()
    sides = scene.probes.reports()
    assert sum(report.duplicates for report in sides) == 0
    lost = sum(report.lost for report in sides)
    sys.stdout.write(f"{what}: {lost} of {sum(report.sent for report in sides)} probes lost\n")
    return lost


def _spis(member: Member) -> SPIS:
    return [(sa.spi_i, sa.spi_r, [(child.spi_in, child.spi_out) for child in sa.children]) for sa in member.sas()]


def _is_protected(member: Member) -> bool:
    cluster = member.status().cluster
    return cluster is not None and cluster.protection == "protected"
