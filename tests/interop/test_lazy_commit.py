"""``commit = "lazy"`` with a real strongSwan: the owner dies with steps that nobody else knows, and the next one finds
out what they were."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from lossy_member import CHECK, LOSE

from ipsecha.lab import namespaces, network, stage, strongswan
from ipsecha.lab.failover import wait_for_pair
from ipsecha.lab.member import Member
from ipsecha.lab.namespaces import Topology
from ipsecha.lab.stage import CHILD, CONNECTION, Tunnel
from ipsecha.lab.strongswan import StrongSwan

CBC, AEAD = "aes256-sha256-x25519", "aes256gcm16-prfsha256-x25519"
REPAIRED_S = 2.0
SLACK_S = 3.0
"""For machines that are busy with other things; the simulation is strict about the two seconds."""


@pytest.fixture(autouse=True)
def lossy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Member, "command", "lossy_member")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


class Scene:
    def __init__(self, topology: Topology, members: tuple[Member, Member], peer: StrongSwan) -> None:
        self.topology = topology
        self.active, self.standby = wait_for_pair(members)
        self.peer = peer

    def works(self) -> bool:
        hosts = self.topology["hostb"], self.topology["hosta"]
        return all(
            host.ping(other, count=1) for host, other in zip(hosts, (network.HOST_A, network.HOST_B), strict=True)
        )

    def bring_up(self, by_us: bool) -> None:
        if by_us:
            self.active.initiate(CONNECTION, CHILD)
        else:
            self.peer.initiate(CHILD)
        self.active.wait_for("an IKE SA", Member.sas)
        self.standby.wait_for("its record", Member.sas)
        assert self.works()

    def lose(self) -> None:
        """From now on the standby acknowledges and forgets; it knows that the IKE SA is open."""
        check(self.active)
        cluster = self.active.status().cluster
        assert cluster is not None
        assert cluster.commit == "lazy"
        assert cluster.open_sas == 1
        (self.standby.directory / LOSE).touch()

    def fail_over(self) -> Member:
        """The survivor; the tunnel works a moment after it has taken over."""
        self.active.kill()
        self.standby.wait_for("its turn", lambda member: member.role() == "active")
        end = time.monotonic() + REPAIRED_S + SLACK_S
        while not self.works():
            assert time.monotonic() < end, "the tunnel does not work"
        return self.standby


@contextmanager
def on_stage(tmp_path: Path, ike: str, **peer_options: str) -> Iterator[Scene]:
    if namespaces.available() or strongswan.available():
        pytest.skip(str(namespaces.available() or strongswan.available()))
    tunnel = Tunnel(
        ike=ike, gateway_address=network.CLUSTER_OUTER, gateway_options={"dpd": "off"}, peer_options=peer_options
    )
    with ExitStack() as running:
        topology = running.enter_context(network.standing(members=2))
        members = stage.pair(topology, tmp_path / "pair", tunnel, commit="lazy")
        peer = running.enter_context(StrongSwan(topology["peer"], tmp_path / "strongswan"))
        stage.configure_strongswan(peer, tunnel)
        for member in members:
            running.enter_context(member)
        yield Scene(topology, members, peer)


def check(member: Member) -> None:
    """A liveness check of ours."""
    (before,) = member.sas()
    (member.directory / CHECK).touch()
    member.wait_for("liveness check", lambda one: one.sas()[0].next_request_id > before.next_request_id)


def rekey(scene: Scene) -> None:
    before = {child.spi_in for child in scene.active.children(CHILD)}
    scene.peer.rekey_child(CHILD)
    scene.active.wait_for("rekey", lambda m: not before & {c.spi_in for c in m.children(CHILD)})


def our_rekey(scene: Scene) -> None:
    before = {child.spi_in for child in scene.active.children(CHILD)}
    scene.active.rekey(CONNECTION, CHILD)
    scene.active.wait_for("rekey", lambda m: not before & {c.spi_in for c in m.children(CHILD)})


def every_exchange_works(scene: Scene, survivor: Member) -> None:
    """From either side, and traffic in both directions."""
    survivor.wait_for("the end of the repair", _repaired)
    survivor.wait_for("one child SA", lambda member: len(member.children(CHILD)) == 1)
    before = {child.spi_in for child in survivor.children(CHILD)}
    scene.peer.rekey_child(CHILD)
    survivor.wait_for("child rekeyed by the peer", lambda m: not before & {c.spi_in for c in m.children(CHILD)})
    survivor.rekey(CONNECTION, CHILD)
    for rekey_ike in (survivor.rekey, scene.peer.rekey_ike):
        old = {sa.spi_i for sa in survivor.sas()}
        rekey_ike(CONNECTION)
        survivor.wait_for("a new IKE SA alone", lambda member, old=old: not old & {sa.spi_i for sa in member.sas()})  # type: ignore[misc]
    assert scene.works()


def _repaired(member: Member) -> bool:
    cluster = member.status().cluster
    return cluster is not None and not cluster.suspects


@pytest.mark.root
@pytest.mark.peer
@pytest.mark.parametrize("by_us", [False, True], ids=["responder", "initiator"])
@pytest.mark.parametrize("ike", [AEAD, CBC], ids=["probed", "RFC 6311"])
def test_strongswan_keeps_its_ike_sa(tmp_path: Path, ike: str, by_us: bool) -> None:
    """A liveness check and a rekey of the child SA by either side are lost with the owner: the IKE SA stays, the child
    SA is made anew, and nothing is left behind.  strongSwan supports RFC 6311 where it is the initiator."""
    with on_stage(tmp_path, ike) as scene:
        scene.bring_up(by_us)
        scene.lose()
        check(scene.active)
        rekey(scene)
        our_rekey(scene)
        survivor = scene.fail_over()
        every_exchange_works(scene, survivor)
        log = survivor.log.read_text()
        assert ("message IDs agreed" in log) == (ike == CBC and not by_us)
        assert "answers no request" not in log


@pytest.mark.root
@pytest.mark.peer
def test_a_doomed_ike_sa_is_replaced(tmp_path: Path) -> None:
    """strongSwan has given up the only IKE SA that the survivor knows: a new one is begun at once, though the policy
    leaves that to the peer."""
    with on_stage(tmp_path, AEAD) as scene:
        scene.bring_up(by_us=False)
        scene.lose()
        scene.peer.terminate_ike(CONNECTION)
        scene.active.wait_for("the end of the IKE SA", lambda member: not member.sas())
        survivor = scene.fail_over()
        assert "doomed and is replaced" in survivor.log.read_text()
        every_exchange_works(scene, survivor)
