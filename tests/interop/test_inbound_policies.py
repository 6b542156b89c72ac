"""The owner is killed under traffic, beside a real strongSwan: what the policies for inbound packets and rekeys after a
failover (RFC 6027 section 3.5) make of a child SA, and that status tells so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ipsecha.gateway.views import AfterTakeoverView
from ipsecha.ike.after_takeover import SETTLE_S
from ipsecha.lab import network
from ipsecha.lab.failover import Fault, begin, wait_for_pair
from ipsecha.lab.member import Member, Table
from ipsecha.lab.scenes import NamespaceScene, PeerKind, in_namespaces
from ipsecha.lab.stage import CHILD, Tunnel

pytestmark = [pytest.mark.root, pytest.mark.peer]


def _spis(member: Member) -> set[str]:
    return {child.spi_in for child in member.children(CHILD) if child.state == "established"}


def _kill_the_owner(scene: NamespaceScene) -> tuple[Member, Member, set[str]]:
    """Under traffic, with inbound numbers in hand; the dead one, its backup, the child SA's SPI before."""
    _, active, standby, _ = begin(scene, Fault.KILL, print, 1.0)
    exposed = active.children(CHILD)[0].lease
    assert exposed is not None
    assert exposed.exposure >= 1
    before = _spis(active)
    scene.strike(Fault.KILL, active)
    return active, standby, before


def _told(member: Member) -> AfterTakeoverView:
    told = member.status().after_takeover
    assert told is not None
    return told


def _goes_on(scene: NamespaceScene, dead: Member) -> None:
    assert scene.topology["hostb"].ping(network.HOST_A, count=3)
    assert scene.topology["hosta"].ping(network.HOST_B, count=3)
    dead.start()
    wait_for_pair(scene.members)


@pytest.mark.parametrize(
    ("options", "cluster"),
    [
        pytest.param({"inbound": "rekey"}, {}, id="inbound = rekey"),
        pytest.param({}, {"rekey_after_failover": True, "rekey_rate": 50}, id="rekey_after_failover"),
    ],
)
def test_a_child_sa_is_rekeyed_once_after_a_kill(tmp_path: Path, options: Table, cluster: Table) -> None:
    """A new child SA has no gap, and only the dead owner's are rekeyed, whenever their turn comes."""
    tunnel = Tunnel(gateway_address=network.CLUSTER_OUTER, gateway_options=options)
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN, tunnel, cluster=cluster) as scene:
        dead, owner, before = _kill_the_owner(scene)
        ike = {sa.spi_i for sa in owner.sas()}
        owner.wait_for("a new child SA", lambda member: member.role() == "active" and _spis(member) - before)
        time.sleep(SETTLE_S + 1.0)  # all that is to be rekeyed has had its turn
        assert {sa.spi_i for sa in owner.sas()} == ike
        told = _told(owner)
        assert (told.rekeyed, told.failed, told.waiting, told.under_way) == (1, 0, 0, 0)
        _goes_on(scene, dead)


def test_a_window_is_learnt_from_traffic_after_a_kill(tmp_path: Path) -> None:
    """The first packet in the gap is accepted, and the child SA goes on as it is.  A long horizon: packets are to come
    before the gap is over, on a slow machine, too."""
    tunnel = Tunnel(gateway_address=network.CLUSTER_OUTER, gateway_options={"inbound": "learn"})
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN, tunnel, cluster={"horizon": "5s"}) as scene:
        dead, owner, before = _kill_the_owner(scene)
        owner.wait_for("a learnt window", lambda member: member.role() == "active" and _told(member).learnt)
        (child,) = owner.children(CHILD)
        assert {child.spi_in} == before
        assert child.lease is not None
        assert child.lease.gap is not None
        assert child.lease.gap.learnt
        assert child.lease.gap.remaining == 0
        told = _told(owner)
        assert (told.learnt, told.rekeyed, told.failed) == (1, 0, 0)
        _goes_on(scene, dead)
