"""RFC 6311 with others: updates are lost, the member that takes over asks the peer for the message IDs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from lossy_member import CHECK, FORCE, LOSE, SYNCHRONISE

from ipsecha.lab import capture, namespaces, network, stage, strongswan
from ipsecha.lab.failover import Fault, wait_for_pair
from ipsecha.lab.member import Member
from ipsecha.lab.namespaces import Topology
from ipsecha.lab.scenes import PeerKind, in_namespaces
from ipsecha.lab.stage import CHILD, CONNECTION, Tunnel
from ipsecha.lab.strongswan import StrongSwan

CLUSTER = network.CLUSTER_OUTER
CBC, AEAD = "aes256-sha256-x25519", "aes256gcm16-prfsha256-x25519"


@pytest.fixture(autouse=True)
def lossy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Member, "command", "lossy_member")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def ids(member: Member) -> tuple[int, int]:
    (sa,) = member.sas()
    return sa.next_request_id, sa.expected_request_id


class Scene:
    """A pair, a strongSwan that has brought up the tunnel, and silence in it: liveness checks go both ways."""

    def __init__(self, topology: Topology, members: tuple[Member, Member], peer: StrongSwan) -> None:
        self.topology = topology
        self.active, self.standby = wait_for_pair(members)
        self.peer = peer
        peer.initiate(CHILD)
        self.active.wait_for("protection", lambda member: protection(member) == "protected")
        self.ping()

    def ping(self) -> None:
        assert self.topology["hostb"].ping(network.HOST_A, count=2)
        assert self.topology["hosta"].ping(network.HOST_B, count=2)

    def fail_over(self, delta: int = 0) -> Member:
        """The standby misses liveness checks of both sides, then the active member dies."""
        (self.standby.directory / SYNCHRONISE).write_text(str(delta))
        (self.standby.directory / LOSE).touch()
        before = ids(self.active)
        (self.active.directory / CHECK).touch()
        self.active.wait_for("liveness checks of both sides", lambda member: _both_further(ids(member), before))
        self.active.kill()
        self.standby.wait_for("its turn", lambda member: member.role() == "active")
        return self.standby


def _both_further(now: tuple[int, int], before: tuple[int, int]) -> bool:
    return now[0] > before[0] and now[1] > before[1]


def protection(member: Member) -> str:
    cluster = member.status().cluster
    return cluster.protection if cluster is not None else ""


@contextmanager
def on_stage(tmp_path: Path, ike: str) -> Iterator[Scene]:
    if namespaces.available() or strongswan.available():
        pytest.skip(str(namespaces.available() or strongswan.available()))
    tunnel = Tunnel(
        ike=ike,
        gateway_address=network.CLUSTER_OUTER,
        gateway_options={"dpd": "off"},
        peer_options={"dpd_delay": "1s"},
    )
    with ExitStack() as running:
        topology = running.enter_context(network.standing(members=2))
        members = stage.pair(topology, tmp_path / "pair", tunnel)
        peer = running.enter_context(StrongSwan(topology["peer"], tmp_path / "strongswan"))
        stage.configure_strongswan(peer, tunnel)
        for member in members:
            running.enter_context(member)
        yield Scene(topology, members, peer)


def every_exchange_works(scene: Scene, survivor: Member) -> None:
    """From either side, and traffic in both directions."""
    before = {child.spi_in for child in survivor.children(CHILD)}
    scene.peer.rekey_child(CHILD)
    survivor.wait_for("child rekeyed by the peer", lambda m: not before & {c.spi_in for c in m.children(CHILD)})
    survivor.rekey(CONNECTION, CHILD)
    survivor.rekey(CONNECTION)
    scene.peer.rekey_ike(CONNECTION)
    survivor.wait_for("one IKE SA", lambda member: len(member.sas()) == 1)
    scene.ping()


@pytest.mark.root
@pytest.mark.peer
def test_strongswan_answers(tmp_path: Path) -> None:
    """strongSwan, the initiator, has answered exchanges that the survivor knows nothing of: it takes the higher message
    IDs, answers with its own, and everything goes on."""
    with on_stage(tmp_path, CBC) as scene:
        survivor = scene.fail_over()
        survivor.wait_for("agreement", lambda member: "message IDs agreed" in member.log.read_text())
        scene.ping()
        every_exchange_works(scene, survivor)


@pytest.mark.root
@pytest.mark.peer
@pytest.mark.parametrize("forced", [False, True], ids=["as it is", "asked all the same"])
def test_strongswan_with_an_aead_is_not_asked(tmp_path: Path, forced: bool) -> None:
    """It would be the end of the IKE SA: strongSwan 5.9.8 takes its IVs from message IDs, and has used up the two that
    it has for message ID 0.  Should the second case fail one day, the first has lost its reason."""
    with on_stage(tmp_path, AEAD) as scene:
        if forced:
            (scene.standby.directory / FORCE).touch()
        survivor = scene.fail_over()
        log = scene.peer.log
        if not forced:
            scene.ping()
            time.sleep(1.0)
            assert "MSG_ID_SYN)" not in log.read_text()
            assert len(scene.peer.sas()) == 1
            return
        survivor.wait_for("a request", lambda _: "INFORMATIONAL request 0 [ N(MSG_ID_SYN) ]" in log.read_text())
        survivor.wait_for("the end", lambda _: not scene.peer.sas())
        assert "no IV or padding" in log.read_text()


@pytest.mark.root
def test_ipsecha_answers_and_skips(tmp_path: Path) -> None:
    """Between two ipsecha, over the whole way to the wire: message IDs agree, and the peer's ESP numbers jump by what
    the survivor asks for."""
    delta = 300_000
    with in_namespaces(tmp_path, PeerKind.IPSECHA, command=Member.command) as scene:
        active, standby = wait_for_pair(scene.members)
        scene.bring_up()
        scene.probes.wait_until_answered()
        active.wait_for("protection", lambda member: protection(member) == "protected")
        (standby.directory / SYNCHRONISE).write_text(str(delta))
        (standby.directory / LOSE).touch()
        before = ids(active)
        (active.directory / CHECK).touch()
        active.wait_for("a liveness check", lambda member: ids(member)[0] > before[0])
        scene.strike(Fault.KILL, active)
        standby.wait_for("agreement", lambda member: "message IDs agreed" in member.log.read_text())
        scene.probes.wait_until_answered()
        time.sleep(0.5)
        assert isinstance(scene.peer, Member)
        assert ids(standby) == ids(scene.peer)[::-1]
        assert scene.wire is not None
        inbound = [packet for packet in scene.wire.packets() if packet.spi and packet.destination == CLUSTER]
        (span,) = capture.spans(inbound)
        assert delta < span.last < 2 * delta
        standby.rekey(CONNECTION, CHILD)
        scene.peer.rekey(CONNECTION, CHILD)
        scene.probes.settle()
        assert all(report.duplicates == 0 for report in scene.probes.reports())
