"""Both members live and are cut off from each other, with a real strongSwan as the peer; and owners that die between
two steps of a rekey."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from ipsecha.gateway.control import ControlError
from ipsecha.lab import mid_rekey, network
from ipsecha.lab.failover import Fault, protection, wait_for_pair
from ipsecha.lab.loopback import on_loopback
from ipsecha.lab.member import Member
from ipsecha.lab.mid_rekey import STEPS, Rekey
from ipsecha.lab.namespaces import isolate
from ipsecha.lab.plays import MORTAL, play
from ipsecha.lab.scenes import CABLES, NamespaceScene, PeerKind, in_namespaces
from ipsecha.lab.stage import CHILD, CONNECTION
from ipsecha.lab.strongswan import StrongSwan


def timeline(text: str) -> None:
    sys.stdout.write(f"{text}\n")


@pytest.mark.root
@pytest.mark.peer
@pytest.mark.parametrize("witness", [True, False], ids=["witness", "alone"])
def test_strongswan_does_not_see_the_split(tmp_path: Path, witness: bool) -> None:
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN, witness=witness) as scene:
        outcome = play(scene, Fault.PARTITION, timeline)
        assert outcome.holds, outcome.verdicts
        if scene.witness is not None:
            owner = next(member for member in scene.members if member.name == outcome.owner_after)
            owner.wait_for("telling the witness", lambda member: scene.witness.epoch == member.status().cluster.epoch)


@pytest.mark.root
def test_neither_partner_nor_witness(tmp_path: Path) -> None:
    """Nobody goes on, and both say so; the operator's word is needed, and enough; the cut heals as any other."""
    with in_namespaces(tmp_path, PeerKind.IPSECHA, witness=True) as scene:
        active, standby = wait_for_pair(scene.members)
        scene.bring_up()
        scene.probes.wait_until_answered()
        active.wait_for("protection", lambda member: protection(member) == "protected")
        assert scene.witness is not None
        scene.witness.stop()
        isolate(scene.topology["sw"], network.MEMBERS, CABLES, isolated=True)
        active.wait_for("stopping", lambda member: member.role() == "isolated")
        assert standby.role() == "standby"
        for member in scene.members:
            assert (
                "witness-unreachable" in member.log.read_text()
                or "no answer from the witness" in member.log.read_text()
            )
            assert "cannot be reached" in member.status().cluster.fencing
        active.request("serve-alone")
        active.wait_for("serving", lambda member: member.role() == "active")
        scene.probes.wait_until_answered()
        with pytest.raises(ControlError, match="alone already"):
            active.request("serve-alone")
        isolate(scene.topology["sw"], network.MEMBERS, CABLES, isolated=False)
        active.wait_for("protection", lambda member: protection(member) == "protected")
        assert active.role() == "active"
        scene.probes.settle()
        assert all(report.duplicates == 0 for report in scene.probes.reports())


@pytest.mark.root
def test_the_death_of_a_host_with_a_witness(tmp_path: Path) -> None:
    """Silence, a vote, a takeover; then the same while the witness is away: a dead process needs no vote."""
    with in_namespaces(tmp_path, PeerKind.IPSECHA, witness=True) as scene:
        outcome = play(scene, Fault.LINK, timeline)
        assert outcome.holds, outcome.verdicts
        assert scene.witness is not None
        scene.witness.stop()
        active, standby = wait_for_pair(scene.members)
        time.sleep(1.0)
        active.kill()
        standby.wait_for("taking over", lambda member: member.role() == "active")
        assert scene.topology["hostb"].ping(network.HOST_A, count=3)


@pytest.mark.root
@pytest.mark.peer
@pytest.mark.parametrize("rekey", list(Rekey), ids=lambda rekey: rekey.name.lower())
@pytest.mark.parametrize("step", [2, 4, 6])
def test_a_crash_in_mid_rekey(tmp_path: Path, rekey: Rekey, step: int) -> None:
    number = list(Rekey).index(rekey) + (step - 1) * len(Rekey)
    assert mid_rekey.case(number) == (rekey, step)
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN, command=MORTAL) as scene:
        outcome = play(scene, Fault.CRASH_MID_REKEY, timeline, number=number)
        assert outcome.holds, outcome.verdicts


@pytest.mark.slow
@pytest.mark.parametrize("number", [8, 9, 14, 15])
def test_a_crash_in_mid_rekey_without_root(tmp_path: Path, number: int) -> None:
    with on_loopback(tmp_path, command=MORTAL) as scene:
        outcome = play(scene, Fault.CRASH_MID_REKEY, timeline, steady_s=0.3, number=number)
        assert outcome.holds, outcome.verdicts


def test_every_step_of_every_rekey_has_its_turn() -> None:
    assert len({mid_rekey.case(number) for number in range(len(Rekey) * STEPS)}) == len(Rekey) * STEPS


@pytest.mark.root
@pytest.mark.peer
def test_what_the_loser_has_done_is_repaired(tmp_path: Path) -> None:
    """Without a witness the peer hears one owner only; that one rekeys the child SA, and then gives up its records.
    The one that stays is told, and the two sides agree again within seconds."""
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN) as scene:
        former, backup = _split_with_the_peer_at_the_former_owner(scene)
        before = scene.peer_spis()
        former.rekey(CONNECTION, CHILD)
        former.wait_for("the rekey", lambda member: len(scene.peer_spis()) == 1 and scene.peer_spis() != before)
        healed_at = _heal(scene, backup)
        backup.wait_for("agreement", lambda member: scene.peer_spis() == _spis_seen_from_the_peer(member))
        scene.probes.wait_until_answered()
        timeline(f"agreement and answers {time.monotonic() - healed_at:.1f} s after the members met")
        scene.probes.settle()
        assert all(report.duplicates == 0 for report in scene.probes.reports())


@pytest.mark.root
@pytest.mark.peer
@pytest.mark.parametrize("anew", [True, False], ids=["made", "rekeyed"])
def test_what_the_loser_has_made_goes_on(tmp_path: Path, anew: bool) -> None:
    """The peer sets up a new IKE SA with the owner that is to give up, or rekeys the old one: that very IKE SA goes on
    with the owner that stays, which has never seen it, and does what IKE SAs do."""
    with in_namespaces(tmp_path, PeerKind.STRONGSWAN) as scene:
        _, backup = _split_with_the_peer_at_the_former_owner(scene)
        assert isinstance(scene.peer, StrongSwan)
        before = _ike_spis(scene.peer)
        if anew:
            scene.peer.terminate_ike(CONNECTION)
            scene.bring_up()
        else:
            scene.peer.rekey_ike(CONNECTION)
        backup.wait_for("the new IKE SA", lambda member: len(_ike_spis(scene.peer) - before) == 1)
        made, children = _ike_spis(scene.peer) - before, scene.peer_spis()
        if anew:  # on the child SA of before, the peer may have seen the other owner's higher numbers
            scene.probes.wait_until_answered()
        _heal(scene, backup)
        scene.probes.wait_until_answered()
        assert _ike_spis(scene.peer) == made
        if anew:
            assert scene.peer_spis() == children
        backup.wait_for("agreement", lambda member: scene.peer_spis() == _spis_seen_from_the_peer(member))
        backup.rekey(CONNECTION)
        backup.wait_for("a rekey of the IKE SA", lambda member: not _ike_spis(scene.peer) & made)
        scene.probes.wait_until_answered()
        scene.probes.settle()
        assert all(report.duplicates == 0 for report in scene.probes.reports())


HOSTS = (("peer", network.OUTER, network.CLUSTER_OUTER), ("hosta", "eth0", network.CLUSTER_INNER))


def _split_with_the_peer_at_the_former_owner(scene: NamespaceScene) -> tuple[Member, Member]:
    """The former owner, whom the peer reaches, and the one that has taken over and will stay."""
    former, backup = wait_for_pair(scene.members)
    scene.bring_up()
    scene.probes.wait_until_answered()
    former.wait_for("protection", lambda member: protection(member) == "protected")
    isolate(scene.topology["sw"], network.MEMBERS, CABLES, isolated=True)
    backup.wait_for("the split", lambda member: member.role() == "active")
    for role, interface, address in HOSTS:
        mac = _mac(scene, former, "outer" if interface == network.OUTER else "inner")
        scene.topology[role].ip(f"neigh replace {address} lladdr {mac} dev {interface} nud permanent")
    return former, backup


def _heal(scene: NamespaceScene, owner: Member) -> float:
    """The members are a pair again; when that was."""
    for role, interface, address in HOSTS:
        scene.topology[role].ip(f"neigh del {address} dev {interface}")
    isolate(scene.topology["sw"], network.MEMBERS, CABLES, isolated=False)
    owner.wait_for("protection", lambda member: protection(member) == "protected")
    assert owner.role() == "active"
    return time.monotonic()


def _ike_spis(peer: StrongSwan) -> set[tuple[str, str]]:
    """Of its established IKE SAs."""
    found = [sa for sa in peer.sas() if sa["state"] == "ESTABLISHED"]
    return {(str(sa["initiator-spi"]), str(sa["responder-spi"])) for sa in found}


def _mac(scene: NamespaceScene, member: Member, interface: str) -> str:
    (found,) = json.loads(scene.topology[member.name].run("ip", "-j", "link", "show", "dev", interface).stdout)
    return str(found["address"])


def _spis_seen_from_the_peer(member: Member) -> list[tuple[str, str]]:
    return sorted((child.spi_out, child.spi_in) for child in member.children(CHILD))
