"""The life of a tunnel between ipsecha and strongSwan: rekeys, deletes and deaths, from either side, under traffic."""

from __future__ import annotations

import time

import pytest
from interop_session import Connect, Session

from ipsecha.lab import network
from ipsecha.lab.member import Member
from ipsecha.lab.namespaces import Topology
from ipsecha.lab.stage import CHILD, CONNECTION, Tunnel
from ipsecha.lab.vici import Section

pytestmark = [pytest.mark.root, pytest.mark.peer]

SIDES = ("ipsecha", "strongswan")
QUICK_DEATH: Section = {"retransmit_timeout": "0.3", "retransmit_tries": "2"}


def rekey_child(session: Session, side: str) -> None:
    """A child rekey by ``side``; returns when both have the new pair of SPIs and nothing else."""
    before = session.spis()
    if side == "ipsecha":
        session.gateway.rekey(CONNECTION, CHILD)
    else:
        session.peer.rekey_child(CHILD)
    session.gateway.wait_for("rekeyed child", lambda _: _fresh(session, before))


def _fresh(session: Session, before: set[str]) -> bool:
    now = session.spis()
    return len(now) == 2 and not now & before and session.peer_spis() == now


def rekey_ike(session: Session, side: str) -> None:
    before = session.gateway.sas()[0].spi_i
    if side == "ipsecha":
        session.gateway.rekey(CONNECTION)
    else:
        session.peer.rekey_ike(CONNECTION)
    session.gateway.wait_for("rekeyed IKE SA", lambda gateway: _ike_spis(session) and _is_new(gateway.sas(), before))


def _is_new(sas: tuple[object, ...], before: str) -> bool:
    return len(sas) == 1 and getattr(sas[0], "spi_i", before) != before


def _ike_spis(session: Session) -> bool:
    """Whether both sides see one and the same IKE SA."""
    ours = {(sa.spi_i, sa.spi_r) for sa in session.gateway.sas()}
    theirs = {(str(sa["initiator-spi"]), str(sa["responder-spi"])) for sa in session.peer.sas()}
    return len(ours) == 1 and ours == theirs


@pytest.mark.parametrize("initiator", SIDES)
@pytest.mark.parametrize("esp", ["aes256gcm16-noesn", "aes256gcm16-x25519-noesn"], ids=["plain", "pfs"])
def test_rekeys_from_both_sides_lose_no_packet(direct: Topology, connect: Connect, initiator: str, esp: str) -> None:
    """RFC 7296 sections 2.8, 2.17, 2.18: child and IKE SA rekeyed by both sides in turn, under traffic."""
    session = connect(direct, Tunnel(esp=esp))
    session.bring_up(initiator)
    with session.probes() as probes:
        probes.wait_until_answered()
        begin = time.monotonic()
        for side in SIDES:
            rekey_child(session, side)
            rekey_ike(session, side)
        for side in SIDES:
            rekey_child(session, side)
        probes.settle()
        a, b = probes.reports(since=begin)
    assert (a.lost, b.lost, a.duplicates, b.duplicates) == (0, 0, 0, 0)
    session.traffic()


@pytest.mark.parametrize("side", SIDES)
def test_deleting_the_child(direct: Topology, connect: Connect, side: str) -> None:
    """RFC 7296 section 1.4.1: both directions go, the IKE SA stays, and a new child can be made."""
    session = connect(direct, Tunnel())
    session.bring_up("strongswan")
    if side == "ipsecha":
        session.gateway.terminate(CONNECTION, CHILD)
    else:
        session.peer.terminate_child(CHILD)
    session.gateway.wait_for("end of the child", lambda gateway: not gateway.children() and not session.peer.children())
    assert len(session.gateway.sas()) == len(session.peer.sas()) == 1
    session.bring_up(side)
    session.traffic()


@pytest.mark.parametrize("side", SIDES)
def test_deleting_the_ike_sa(direct: Topology, connect: Connect, side: str) -> None:
    session = connect(direct, Tunnel())
    session.bring_up("ipsecha")
    if side == "ipsecha":
        session.gateway.terminate(CONNECTION)
    else:
        session.peer.terminate_ike(CONNECTION)
    session.gateway.wait_for("end of the IKE SA", lambda gateway: not gateway.sas() and not session.peer.sas())
    assert not session.host_b.ping(network.HOST_A, timeout_s=1)
    session.bring_up("strongswan")
    session.traffic()


def test_a_dead_peer_is_noticed(direct: Topology, connect: Connect) -> None:
    """RFC 7296 section 2.4: no answer to liveness checks; the SAs go."""
    options = {"dpd": "1s", "retransmit_timeout": "200ms", "retransmit_tries": 3}
    session = connect(direct, Tunnel(gateway_options=options))
    session.bring_up("strongswan")
    session.peer.kill()
    session.gateway.wait_for("end of the dead peer's SAs", lambda gateway: not gateway.sas(), 20)


def test_our_death_is_noticed(direct: Topology, connect: Connect) -> None:
    session = connect(direct, Tunnel(peer_options={"dpd_delay": "1s"}), peer_settings=QUICK_DEATH)
    session.bring_up("strongswan")
    session.gateway.kill()
    deadline = time.monotonic() + 20
    while session.peer.sas():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("side", SIDES)
def test_liveness_checks_are_answered(direct: Topology, connect: Connect, side: str) -> None:
    """RFC 7296 section 2.4: an idle tunnel lives on while either side asks and the other answers."""
    ours, theirs = ({"dpd": "1s"}, {}) if side == "ipsecha" else ({"dpd": "off"}, {"dpd_delay": "1s"})
    session = connect(direct, Tunnel(gateway_options=ours, peer_options=theirs), peer_settings=QUICK_DEATH)
    session.bring_up("ipsecha")
    before = session.gateway.sas()[0]

    def checked(gateway: Member) -> bool:
        now = gateway.sas()[0]
        ours, theirs = now.next_request_id, now.expected_request_id
        return ours + theirs >= before.next_request_id + before.expected_request_id + 3

    session.gateway.wait_for("liveness checks", checked)
    session.traffic()


def test_a_returning_peer_replaces_what_it_forgot(direct: Topology, connect: Connect) -> None:
    """RFC 7296 section 2.4, INITIAL_CONTACT: strongSwan was killed and comes back; its old SAs go at once."""
    session = connect(direct, Tunnel())
    session.bring_up("strongswan")
    old = session.spis()
    session.peer.kill()
    session.peer.restart()
    session.bring_up("strongswan")
    session.gateway.wait_for("end of the old SAs", lambda gateway: len(gateway.sas()) == 1 and not session.spis() & old)
    session.traffic()


def test_packets_start_the_tunnel(direct: Topology, connect: Connect) -> None:
    """RFC 4301 section 4.4.1: a packet that needs an SA makes the gateway initiate (start = "trap")."""
    session = connect(direct, Tunnel(gateway_child_options={"start": "trap"}))
    assert session.peer.sas() == []
    assert session.host_a.ping(network.HOST_B, count=20, timeout_s=5)
    session.traffic()
