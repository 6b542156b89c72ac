"""The owner dies in the middle of a handshake with a real strongSwan, which does not start over: neither as initiator,
whose IKE_AUTH comes too late for the old owner, nor as responder, whose answer does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipsecha.gateway.views import SharingView
from ipsecha.lab import network, stage
from ipsecha.lab.failover import Fault, wait_for_pair
from ipsecha.lab.member import Member
from ipsecha.lab.scenes import NamespaceScene, PeerKind, in_namespaces
from ipsecha.lab.stage import CHILD, CONNECTION, Tunnel
from ipsecha.lab.strongswan import StrongSwan
from ipsecha.model.numbers import ExchangeType

pytestmark = [pytest.mark.root, pytest.mark.peer]

_DROP_IKE_AUTH = f"""
table inet handshake {{
  chain output {{
    type filter hook output priority 0
    udp dport 500 @th,208,8 {ExchangeType.IKE_AUTH:d} drop
    udp dport 4500 @th,240,8 {ExchangeType.IKE_AUTH:d} drop
  }}
}}
"""


def lose_ike_auth(scene: NamespaceScene) -> None:
    """From now on what the peer sends in IKE_AUTH does not leave it."""
    scene.topology["peer"].run("nft", "-f", "-", stdin=_DROP_IKE_AUTH)


def let_ike_auth_pass(scene: NamespaceScene) -> None:
    scene.topology["peer"].run("nft", "delete", "table", "inet", "handshake")


@contextmanager
def meanwhile(action: Callable[[], object]) -> Iterator[None]:
    """``action`` runs beside what is done meanwhile, and has ended well when that is done."""
    faults: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(30.0)
    assert not thread.is_alive()
    assert not faults, faults


def _sharing(member: Member) -> SharingView:
    cluster = member.status().cluster
    assert cluster is not None
    assert cluster.half_open is not None
    return cluster.half_open


def _protected_pair(scene: NamespaceScene) -> tuple[Member, Member]:
    active, standby = wait_for_pair(scene.members)
    for member in (active, standby):
        member.wait_for("protection", lambda one: (view := one.status().cluster) and view.protection == "protected")
    return active, standby


def _initiator_spis(scene: NamespaceScene) -> set[bytes]:
    """Of all IKE_SA_INIT messages on the wire: who starts over takes another."""
    assert scene.wire is not None
    packets = [packet for packet in scene.wire.packets() if packet.exchange == ExchangeType.IKE_SA_INIT]
    return {packet.raw[28:36] for packet in packets}


@pytest.mark.parametrize("certificates", [False, True], ids=["psk", "fragments"])
@pytest.mark.parametrize("fault", [Fault.KILL, Fault.SWITCHOVER], ids=lambda fault: fault.value)
def test_an_ike_auth_that_comes_after_the_failover(tmp_path: Path, fault: Fault, certificates: bool) -> None:
    """The half-open IKE SA was shared: the new owner takes the IKE_AUTH request, in fragments as well."""
    tunnel = Tunnel(auth="ecdsa" if certificates else "psk", gateway_address=network.CLUSTER_OUTER)
    credentials = stage.make_certificates("ecdsa", depth=1, padding=1500) if certificates else None
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN, tunnel, credentials) as scene:
        active, standby = _protected_pair(scene)
        lose_ike_auth(scene)
        with meanwhile(scene.bring_up):
            active.wait_for("half-open IKE SA", lambda member: member.status().half_open)
            standby.wait_for("its copy", lambda member: _sharing(member).held == 1)
            assert _sharing(active).shared == 1
            sys.stdout.write(f"{_sharing(active).octets} octets shared\n")
            scene.strike(fault, active)
            standby.wait_for("takeover", lambda member: member.role() == "active")
            let_ike_auth_pass(scene)
            standby.wait_for("child SA", lambda member: member.children(CHILD))
        assert _sharing(standby).continued == 1
        assert len(_initiator_spis(scene)) == 1, "strongSwan did not start over"
        assert scene.topology["hostb"].ping(network.HOST_A, count=3)


def test_an_answer_that_comes_after_the_failover(tmp_path: Path) -> None:
    """strongSwan has both SAs before we know of its answer: the new owner repeats the IKE_AUTH request and takes it."""
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN) as scene:
        active, standby = _protected_pair(scene)
        peer = scene.peer
        assert isinstance(peer, StrongSwan)
        lose_ike_auth(scene)
        active.initiate(CONNECTION, CHILD)
        peer.wait_for(CHILD, "INSTALLED")
        (sa,) = peer.sas(CONNECTION)
        active.kill()
        standby.wait_for("takeover", lambda member: member.role() == "active")
        let_ike_auth_pass(scene)
        standby.wait_for("child SA", lambda member: member.children(CHILD))
        assert len(_initiator_spis(scene)) == 1
        assert [one["uniqueid"] for one in peer.sas(CONNECTION)] == [sa["uniqueid"]]
        assert scene.topology["hostb"].ping(network.HOST_A, count=3)
