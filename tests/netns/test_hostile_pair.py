"""A pair with an established tunnel under a flood of spoofed first requests: the synch channel stays quiet (I7), the
tunnel goes on, and the standby, which has heard of a few of them, takes over as if there were none.

``IPSECHA_FLOOD`` sets the number of requests, ``IPSECHA_FLOOD_RATE`` how many a second.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from ipsecha.lab import network
from ipsecha.lab.failover import wait_for_pair
from ipsecha.lab.member import Member
from ipsecha.lab.namespaces import available
from ipsecha.lab.scenes import NamespaceScene, PeerKind, in_namespaces
from ipsecha.lab.stage import CHILD, CONNECTION, Tunnel
from ipsecha.model.policy import IkeLimits

pytestmark = pytest.mark.root

PROCESS = Path(__file__).with_name("hostile_process.py")
COUNT = int(os.environ.get("IPSECHA_FLOOD", "20000"))
RATE = float(os.environ.get("IPSECHA_FLOOD_RATE", "5000"))
LIMITS = IkeLimits()
TUNNEL_OCTETS = 64 * 1024
"""Room for what the tunnel itself needs meanwhile: its packets extend leases, and the channel has a pulse."""


def _flood(scene: NamespaceScene) -> bool:
    """Sound first requests from all over the world; whether the tunnel carried traffic meanwhile."""
    assert scene.wire is not None
    first = next(packet for packet in scene.wire.packets() if packet.exchange == 34)
    what = {
        "target": network.CLUSTER_OUTER,
        "count": COUNT,
        "rate": RATE,
        "seed": 6027,
        "peer": network.PEER_OUTER,
        "ike": [first.raw[28:].hex()],
        "esp": [],
        "flood": True,
    }
    path = scene.directory / "flood.json"
    path.write_text(json.dumps(what))
    process = scene.topology["peer"].start([sys.executable, str(PROCESS), str(path)], scene.directory / "flood.log")
    answered = True
    while process.poll() is None:
        answered = scene.topology["hostb"].ping(network.HOST_A, count=3) and answered
    assert process.returncode == 0, (scene.directory / "flood.log").read_text()
    return answered


def _spis(member: Member) -> list[str]:
    return sorted(spi for child in member.children(CHILD) for spi in (child.spi_in, child.spi_out))


def _protected(scene: NamespaceScene) -> tuple[Member, Member]:
    active, standby = wait_for_pair(scene.members)
    for member in (active, standby):
        member.wait_for("protection", lambda one: (view := one.status().cluster) and view.protection == "protected")
    return active, standby


def test_a_flood_of_first_requests_costs_the_synch_channel_a_part_of_one_burst(tmp_path: Path) -> None:
    if available():
        pytest.skip(str(available()))
    tunnel = Tunnel(gateway_address=network.CLUSTER_OUTER, gateway_options={"remote": "any", "dpd": "off"})
    with in_namespaces(tmp_path, PeerKind.IPSECHA, tunnel) as scene:
        active, standby = _protected(scene)
        scene.bring_up()
        active.wait_for("child SA", lambda member: member.children(CHILD))
        spis, before = _spis(active), active.status().counters
        assert _flood(scene), "packets of the established SA went unanswered"
        view = active.status(30.0)
        after = view.counters
        more = {name: after.get(name, 0) - before.get(name, 0) for name in after}
        assert view.cluster is not None
        sharing = view.cluster.half_open
        assert sharing is not None
        scene.probes.settle()
        lost = [report.lost for report in scene.probes.reports()]
        sys.stdout.write(
            f"{COUNT} requests: {more['cookie-demanded']} cookies demanded, {more['half-open-shared']} half-open IKE "
            f"SAs shared ({sharing.octets} octets), {more['half-open-withheld']} withheld; "
            f"{more['channel-bytes-out']} octets in all on the channel; probes lost: {lost}\n"
        )
        assert more["cookie-demanded"] > COUNT // 2
        assert 0 < more["half-open-shared"] <= LIMITS.shared_half_open_per_s
        assert sharing.octets <= LIMITS.shared_half_open_per_s * 1024
        assert more["channel-bytes-out"] <= sharing.octets + TUNNEL_OCTETS
        assert view.cluster.protection == "protected"
        assert _spis(active) == spis
        held = standby.status().cluster
        assert held is not None
        assert held.half_open is not None
        assert held.half_open.held <= more["half-open-shared"] + 1
        active.kill()
        standby.wait_for("takeover", lambda member: member.role() == "active")
        assert scene.topology["hostb"].ping(network.HOST_A, count=5)
        assert _spis(standby) == spis
        assert "faults" not in standby.status().counters
        assert isinstance(scene.peer, Member)
        scene.peer.terminate(CONNECTION)
        scene.peer.wait_for("end of the IKE SA", lambda member: not member.sas())
        scene.peer.initiate(CONNECTION, CHILD)
        scene.peer.wait_for("new child SA", lambda member: member.children(CHILD))
