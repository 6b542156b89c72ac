"""What the project is for: the active member fails under traffic, and neither a real strongSwan nor another ipsecha
notices more than a pause.  The verdicts are those of ``ipsecha lab failover``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ipsecha.lab import network, stage
from ipsecha.lab.failover import Fault, play, wait_for_pair
from ipsecha.lab.loopback import on_loopback
from ipsecha.lab.member import Member
from ipsecha.lab.namespaces import set_cables
from ipsecha.lab.scenes import PeerKind, in_namespaces
from ipsecha.lab.stage import CHILD, CONNECTION, Tunnel
from ipsecha.lab.strongswan import StrongSwan


def timeline(text: str) -> None:
    sys.stdout.write(f"{text}\n")


DEATHS = (Fault.KILL, Fault.LINK, Fault.SWITCHOVER, Fault.HANG)
"""Those after which the other member owns a tunnel that is the same; the others have plays of their own."""


def _requests(member: Member) -> int:
    """Requests of both sides so far on the IKE SA."""
    (sa,) = member.sas()
    return sa.next_request_id + sa.expected_request_id


@pytest.mark.root
@pytest.mark.peer
@pytest.mark.parametrize("fault", DEATHS, ids=lambda fault: fault.value)
def test_strongswan_keeps_its_tunnel(tmp_path: Path, fault: Fault) -> None:
    """RFC 6027 sections 3.2 to 3.5 with an unmodified peer; afterwards every exchange still works, from both sides:
    rekeys of either kind, liveness checks (ours after some faults, the peer's after the others), delete."""
    we_ask = fault in (Fault.KILL, Fault.HANG)
    options = ({"dpd": "1s"}, {}) if we_ask else ({"dpd": "off"}, {"dpd_delay": "1s"})
    tunnel = Tunnel(gateway_address=network.CLUSTER_OUTER, gateway_options=options[0], peer_options=options[1])
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN, tunnel) as scene:
        outcome = play(scene, fault, timeline)
        assert outcome.holds, outcome.verdicts
        assert isinstance(scene.peer, StrongSwan)
        survivor, _ = wait_for_pair(scene.members)
        before = {child.spi_in for child in survivor.children(CHILD)}
        scene.peer.rekey_child(CHILD)
        survivor.wait_for("child rekeyed by the peer", lambda m: not before & {c.spi_in for c in m.children(CHILD)})
        survivor.rekey(CONNECTION)
        scene.peer.rekey_ike(CONNECTION)
        survivor.rekey(CONNECTION, CHILD)
        assert scene.topology["hostb"].ping(network.HOST_A, count=3)
        survivor.wait_for("one IKE SA", lambda member: len(member.sas()) == 1)
        checked = _requests(survivor) + 2
        survivor.wait_for("liveness checks", lambda member: _requests(member) >= checked)
        scene.peer.terminate_ike(CONNECTION)
        survivor.wait_for("end of the IKE SA", lambda member: not member.sas())


@pytest.mark.root
@pytest.mark.parametrize("fault", DEATHS, ids=lambda fault: fault.value)
def test_ipsecha_keeps_its_tunnel(tmp_path: Path, fault: Fault) -> None:
    with in_namespaces(tmp_path, PeerKind.IPSECHA) as scene:
        outcome = play(scene, fault, timeline)
        assert outcome.holds, outcome.verdicts


@pytest.mark.root
@pytest.mark.peer
def test_the_cluster_as_initiator(tmp_path: Path) -> None:
    """The member that called the peer dies; the survivor goes on as the initiator of the same IKE SA."""
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN) as scene:
        active, _ = wait_for_pair(scene.members)

        def initiate() -> None:
            active.initiate(CONNECTION, CHILD)

        scene.bring_up = initiate  # type: ignore[method-assign]
        outcome = play(scene, Fault.KILL, timeline)
        assert outcome.holds, outcome.verdicts


@pytest.mark.root
@pytest.mark.peer
def test_a_peer_behind_a_nat_with_certificates(tmp_path: Path) -> None:
    """The survivor knows the peer's mapped address and port; they may change after the failover as before."""
    tunnel = Tunnel(
        auth="ecdsa",
        ike="chacha20poly1305-prfsha256-ecp256",
        esp="chacha20poly1305-noesn",
        gateway_address=network.CLUSTER_OUTER,
        peer_local=network.PEER_BEHIND_NAT,
        gateway_options={"remote": "any"},
    )
    certificates = stage.make_certificates("ecdsa", depth=1)
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN, tunnel, certificates, nat=True) as scene:
        outcome = play(scene, Fault.KILL, timeline)
        assert outcome.holds, outcome.verdicts
        network.masquerade(scene.topology["nat"], "30000-39999")
        assert scene.topology["hostb"].ping(network.HOST_A, count=5)
        survivor, _ = wait_for_pair(scene.members)
        assert survivor.sas()[0].remote.rpartition(":")[2].startswith("3")


@pytest.mark.root
def test_raw_esp_keeps_its_tunnel(tmp_path: Path) -> None:
    """Without UDP encapsulation (protocol 50), between two ipsecha; and with extended sequence numbers."""
    tunnel = Tunnel(gateway_address=network.CLUSTER_OUTER, esp="aes256gcm16-esn")
    with in_namespaces(tmp_path, PeerKind.IPSECHA, tunnel) as scene:
        outcome = play(scene, Fault.KILL, timeline)
        assert outcome.holds, outcome.verdicts
        assert scene.wire is not None
        assert any(packet.spi and not packet.source_port for packet in scene.wire.packets())


@pytest.mark.root
@pytest.mark.peer
@pytest.mark.parametrize("fault", [Fault.KILL, Fault.LINK], ids=lambda fault: fault.value)
def test_over_ipv6(tmp_path: Path, fault: Fault) -> None:
    """IKE and ESP leave from one shared IPv6 address, which the survivor takes with a neighbour advertisement."""
    tunnel = Tunnel(gateway_address=network.CLUSTER_OUTER6, peer_address=network.PEER_OUTER6)
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN, tunnel) as scene:
        scene.cluster_address = network.CLUSTER_OUTER6
        outcome = play(scene, fault, timeline)
        assert outcome.holds, outcome.verdicts
        assert scene.wire is not None
        assert all(":" in packet.source for packet in scene.wire.packets() if packet.spi)


@pytest.mark.root
@pytest.mark.parametrize("fault", [Fault.KILL, Fault.SWITCHOVER], ids=lambda fault: fault.value)
def test_ah_keeps_its_tunnel(tmp_path: Path, fault: Fault) -> None:
    """Protocol 51 (RFC 4302), between two ipsecha: no member of the peers that run here has AH in user space."""
    option = {"protocol": "ah"}
    tunnel = Tunnel(
        gateway_address=network.CLUSTER_OUTER,
        esp="aes128gmac-esn",
        gateway_child_options=option,
        peer_child_options=option,
    )
    with in_namespaces(tmp_path, PeerKind.IPSECHA, tunnel) as scene:
        outcome = play(scene, fault, timeline)
        assert outcome.holds, outcome.verdicts
        assert scene.wire is not None
        assert any(packet.spi and packet.raw[9] == 51 for packet in scene.wire.packets())


@pytest.mark.parametrize("fault", [Fault.KILL, pytest.param(Fault.SWITCHOVER, marks=pytest.mark.slow)])
def test_without_root_on_loopback(tmp_path: Path, fault: Fault) -> None:
    with on_loopback(tmp_path) as scene:
        outcome = play(scene, fault, timeline, steady_s=0.3)
        assert outcome.holds, outcome.verdicts


@pytest.mark.root
def test_the_synch_cable_alone(tmp_path: Path) -> None:
    """The members lose their channel but not each other's beats: the owner goes on once its backup knows, nobody takes
    over, and the pair is protected again when the cable is back."""
    with in_namespaces(tmp_path, PeerKind.IPSECHA) as scene:
        active, standby = wait_for_pair(scene.members)
        scene.bring_up()
        scene.probes.wait_until_answered()
        active.wait_for("protection", lambda member: _protection(member) == "protected")
        set_cables(scene.topology["sw"], standby.name, (network.SYNCH,), connected=False)
        active.wait_for("its own way", lambda member: _protection(member).startswith("unprotected"))
        standby.wait_for("giving up", lambda member: _protection(member) != "protected")
        scene.probes.wait_until_answered()
        assert (active.role(), standby.role()) == ("active", "standby")
        set_cables(scene.topology["sw"], standby.name, (network.SYNCH,), connected=True)
        active.wait_for("protection again", lambda member: _protection(member) == "protected")
        standby.wait_for("being in sync again", lambda member: _protection(member) == "protected")
        scene.probes.settle()
        for report in scene.probes.reports():
            timeline(f"longest gap {report.longest_gap_s * 1000:.0f} ms, {report.lost} of {report.sent} probes lost")
            assert report.duplicates == 0


def _protection(member: Member) -> str:
    cluster = member.status().cluster
    return cluster.protection if cluster is not None else ""
