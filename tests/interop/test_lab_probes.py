"""Probes and captures tell the truth about a tunnel between two strongSwans: what was lost, when, and what was sent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ipsecha.lab import capture, network
from ipsecha.lab.capture import Capture, play_back
from ipsecha.lab.namespaces import set_cables
from ipsecha.lab.probes import Probes, Side, worst
from ipsecha.lab.strongswan import StrongSwan, child, connection

pytestmark = [pytest.mark.root, pytest.mark.peer]

GATEWAY, PEER = (network.MEMBER_OUTER[0], "gw.example"), (network.PEER_OUTER, "peer.example")


def configure(side: StrongSwan, near: tuple[str, str], far: tuple[str, str], here: str, there: str) -> None:
    side.connections["site"] = connection(near, far, {"net": child([here], [there])})
    side.add_secret("a lab's secret", near[1], far[1])
    side.load()


def test_an_outage_is_measured_and_a_played_back_capture_is_refused(tmp_path: Path) -> None:
    with (
        network.standing() as topology,
        StrongSwan(topology["gw1"], tmp_path / "gw") as gateway,
        StrongSwan(topology["peer"], tmp_path / "peer") as peer,
        Capture(topology["sw"], network.OUTER_BRIDGE, tmp_path / "outer.capture") as wire,
        Probes(
            Side(network.HOST_A, topology["hosta"]), Side(network.HOST_B, topology["hostb"]), tmp_path / "probes"
        ) as probes,
    ):
        configure(gateway, GATEWAY, PEER, network.NET_A, network.NET_B)
        configure(peer, PEER, GATEWAY, network.NET_B, network.NET_A)
        peer.initiate("net")
        probes.wait_until_answered()
        begin = time.monotonic()
        time.sleep(0.3)
        fault_at = time.monotonic()
        set_cables(topology["sw"], "gw1", [network.OUTER], connected=False)
        time.sleep(0.3)
        set_cables(topology["sw"], "gw1", [network.OUTER], connected=True)
        probes.wait_until_answered()
        play_back(topology["peer"], [p for p in capture.esp(wire.packets()) if p.source == PEER[0]], tmp_path)
        probes.settle()
        a, b = probes.reports(fault_at, begin)
        before = {packet.spi for packet in capture.esp(wire.packets()) if packet.at < fault_at}
        for report in (a, b):
            assert report.sent == report.answered + report.lost
            assert report.longest_gap_s > 0.25
            assert report.recovered_s is not None
            assert report.duplicates == 0
        assert b.lost > 10  # a's probes may wait in the gateway until the link is back
        assert worst([a, b]).lost == a.lost + b.lost
        child_sa = peer.children("net")[0]
        assert before == {int(str(child_sa["spi-in"]), 16), int(str(child_sa["spi-out"]), 16)}
        again = capture.repeated(wire.packets())
        assert {spi for spi, _ in again} == {int(str(child_sa["spi-out"]), 16)}
