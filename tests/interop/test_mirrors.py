"""Three members as real processes: whoever dies, the next one has everything.  On loopback, and with strongSwan."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from mirror_session import three_members

from ipsecha.lab import network
from ipsecha.lab.namespaces import set_cables
from ipsecha.lab.stage import CHILD, CONNECTION
from loopback_trio import trio


@pytest.mark.slow
@pytest.mark.parametrize("acks", ["one", "all"])
def test_the_tunnel_survives_two_owners(tmp_path: Path, acks: str) -> None:
    """The owner is killed, and the next owner within a second: the mirror has taken the seat in between."""
    with trio(tmp_path, acks=acks) as cluster:
        cluster.peer.initiate(CONNECTION, CHILD)
        spis = cluster.peer.wait_for("child SA", lambda _: cluster.spis())
        first = cluster.owner()
        killed_at = first.kill()
        second = cluster.owner()
        second.wait_for("protection", lambda member: member.status().cluster.protection == "protected")  # type: ignore[union-attr]
        assert time.monotonic() < killed_at + 1.0
        second.kill()
        third = cluster.owner()
        assert {first, second, third} == set(cluster.members)
        assert sorted((child.spi_out, child.spi_in) for child in third.children(CHILD)) == spis
        cluster.peer.rekey(CONNECTION, CHILD)
        cluster.peer.wait_for("rekey with the third owner", lambda _: cluster.spis() and cluster.spis() != spis)
        for member in (first, second):
            member.start()
        third.wait_for("whole cluster", lambda _: cluster.is_whole())


@pytest.mark.slow
def test_a_mirror_takes_the_seat_of_a_backup_that_dies(tmp_path: Path) -> None:
    with trio(tmp_path) as cluster:
        cluster.peer.initiate(CONNECTION, CHILD)
        cluster.peer.wait_for("child SA", lambda _: cluster.spis())
        owner, backup, mirror = cluster.owner(), cluster.backup(), cluster.mirror()
        view = owner.status().cluster
        assert view is not None
        assert [(one.name, one.state) for one in view.mirrors] == [(mirror.name, "in sync")]
        backup.kill()
        owner.wait_for("another backup", lambda _: mirror.role() == "standby")
        owner.wait_for("protection", lambda member: member.status().cluster.protection == "protected")  # type: ignore[union-attr]
        backup.start()
        backup.wait_for("place as a mirror", lambda _: cluster.is_whole())
        assert backup.role() == "mirror"
        mirror.switchover()
        mirror.wait_for("switchover", lambda _: mirror.role() == "active" and cluster.is_whole())


@pytest.mark.root
@pytest.mark.peer
def test_strongswan_keeps_its_tunnel_while_two_owners_die(tmp_path: Path) -> None:
    with three_members(tmp_path) as session:
        session.peer.initiate(CHILD)
        owner = session.in_role("active")
        owner.wait_for("child SA", lambda member: member.children(CHILD))
        host = session.topology["hostb"]
        assert host.ping(network.HOST_A, count=2)
        spis = [(child["spi-in"], child["spi-out"]) for child in session.peer.children()]
        for _ in range(2):
            killed_at = session.in_role("active").kill()
            session.in_role("active")
            assert host.ping(network.HOST_A, count=2)
            assert time.monotonic() < killed_at + 5.0
        assert [(child["spi-in"], child["spi-out"]) for child in session.peer.children()] == spis


@pytest.mark.root
@pytest.mark.peer
def test_a_host_that_falls_silent_is_replaced_by_vote(tmp_path: Path) -> None:
    """The owner's cables are pulled; with the witness's vote the backup goes on, and the mirror becomes its backup."""
    with three_members(tmp_path, witness=True) as session:
        session.peer.initiate(CHILD)
        owner, mirror = session.in_role("active"), session.in_role("mirror")
        owner.wait_for("child SA", lambda member: member.children(CHILD))
        cables = (network.OUTER, network.INNER, network.SYNCH)
        set_cables(session.topology["sw"], owner.name, cables, connected=False)
        mirror.wait_for("seat", lambda _: mirror.role() == "standby")
        mirror.wait_for("protection", lambda member: member.status().cluster.protection == "protected")  # type: ignore[union-attr]
        assert session.topology["hostb"].ping(network.HOST_A, count=2)
        set_cables(session.topology["sw"], owner.name, cables, connected=True)
        owner.wait_for("place as a mirror", lambda _: session.is_whole())
        assert owner.role() == "mirror"
        session.in_role("active").kill()
        mirror.wait_for("takeover", lambda _: mirror.role() == "active")
        assert session.topology["hostb"].ping(network.HOST_A, count=2)
