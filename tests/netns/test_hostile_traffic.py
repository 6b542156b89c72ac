"""A daemon with an established tunnel under hostile traffic: random octets, and all that a real session has sent,
spoiled in every way, from its peer's address and from many others.  Afterwards it serves as before.

``IPSECHA_HOSTILE`` sets the number of datagrams, ``IPSECHA_HOSTILE_RATE`` how many a second.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ipsecha.lab import network, stage
from ipsecha.lab.capture import Capture, Packet
from ipsecha.lab.member import Member
from ipsecha.lab.namespaces import Topology, available
from ipsecha.lab.stage import CHILD, CONNECTION, Tunnel

pytestmark = pytest.mark.root

PROCESS = Path(__file__).with_name("hostile_process.py")
COUNT = int(os.environ.get("IPSECHA_HOSTILE", "200000"))
RATE = float(os.environ.get("IPSECHA_HOSTILE_RATE", "10000"))
FLOOD = 20_000
COOKIE_THRESHOLD = 100
GATEWAY = network.MEMBER_OUTER[0]
MOST_GROWTH_KB = 48 * 1024
MOST_LOG = 64 * 1024


class Scene(NamedTuple):
    topology: Topology
    gateway: Member
    peer: Member
    directory: Path
    session: list[Packet]  # all that the peer has sent to the gateway


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two ipsecha with a tunnel; their certificates are long, so that IKE_AUTH travels in fragments."""
    if available():
        pytest.skip(str(available()))
    directory = tmp_path_factory.mktemp("hostile")
    certificates = stage.make_certificates("ecdsa", depth=1, padding=1500)
    tunnel = Tunnel(auth="ecdsa", gateway_options={"dpd": "off"}, peer_options={"dpd": "off"})
    with (
        network.standing() as topology,
        stage.single(topology, directory / "gw", tunnel, certificates) as gateway,
        stage.single(topology, directory / "peer", tunnel, certificates, peer=True) as peer,
        Capture(topology["sw"], network.OUTER_BRIDGE, directory / "session.capture") as wire,
    ):
        peer.initiate(CONNECTION, CHILD)
        gateway.wait_for("child SA", lambda member: member.children(CHILD))
        for _ in range(2):
            assert topology["hostb"].ping(network.HOST_A, count=5)
            _rekey(gateway, peer, CHILD)
            _rekey(gateway, peer)
        assert topology["hostb"].ping(network.HOST_A, count=5)
        session = [packet for packet in wire.packets() if packet.destination == GATEWAY]
        yield Scene(topology, gateway, peer, directory, session)


def _rekey(gateway: Member, peer: Member, child: str = "") -> None:
    before = _spis(gateway)
    peer.rekey(CONNECTION, child)
    gateway.wait_for("rekeyed SA", lambda _: _settled(gateway, before) and _spis(gateway) == _spis(peer))


def _settled(gateway: Member, before: list[str]) -> bool:
    sas = gateway.sas()
    return len(sas) == 1 and len(sas[0].children) == 1 and _spis(gateway) != before


def _spis(member: Member) -> list[str]:
    sas = member.sas()
    children = {spi for sa in sas for child in sa.children for spi in (child.spi_in, child.spi_out)}
    return sorted(children | {spi for sa in sas for spi in (sa.spi_i, sa.spi_r)})


def _attack(scene: Scene, count: int, *, flood: bool = False) -> int:
    """Sends the datagrams and returns the most half-open IKE SAs that the gateway has shown meanwhile."""
    ike = sorted({message for packet in scene.session if (message := _message(packet))})
    esp = [packet.raw[20:] for packet in scene.session if packet.spi]
    assert {message[18] for message in ike} == {34, 35, 36, 37}
    assert any(message[16] == 53 for message in ike), "IKE_AUTH came in fragments"
    what = {
        "target": GATEWAY,
        "count": count,
        "rate": RATE,
        "seed": 7296,
        "peer": network.PEER_OUTER,
        "ike": [message.hex() for message in ike],
        "esp": [packet.hex() for packet in esp],
        "flood": flood,
    }
    path = scene.directory / "attack.json"
    path.write_text(json.dumps(what))
    process = scene.topology["peer"].start([sys.executable, str(PROCESS), str(path)], scene.directory / "attack.log")
    half_open = 0
    while process.poll() is None:
        half_open = max(half_open, scene.gateway.status(30.0).half_open)
    assert process.returncode == 0, (scene.directory / "attack.log").read_text()
    return half_open


def _message(packet: Packet) -> bytes:
    """The IKE message in a packet, without the non-ESP marker."""
    if not packet.exchange:
        return b""
    payload = packet.raw[28:]
    return payload[4:] if packet.destination_port == 4500 else payload


def _resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def _seen(gateway: Member) -> int:
    """How many datagrams the gateway has counted as dropped, refused or answered."""
    return sum(gateway.status(30.0).counters.values())


def _in_order(scene: Scene) -> None:
    """The daemon has nothing to complain about itself, and still serves."""
    log = scene.gateway.log.read_text()
    assert "Traceback" not in log
    assert "a fault of ipsecha" not in log
    assert "faults" not in scene.gateway.status(30.0).counters
    assert len(log) < MOST_LOG
    assert log.isascii()
    assert scene.topology["hostb"].ping(network.HOST_A, count=3)
    assert scene.topology["hosta"].ping(network.HOST_B, count=3)


def test_hostile_datagrams_change_nothing(scene: Scene) -> None:
    """RFC 7296 sections 2.6 and 2.21, RFC 4303 section 3.4: what is not authentic is dropped and counted.  No packet is
    accepted twice (I3), no SA changes, no memory is lost, the log does not grow with the attack."""
    gateway, spis = scene.gateway, _spis(scene.gateway)
    memory, seen, packets = _resident_kb(gateway.pid), _seen(gateway), gateway.children()[0].packets_in
    half_open = _attack(scene, COUNT)
    growth, seen = _resident_kb(gateway.pid) - memory, _seen(gateway) - seen
    sys.stdout.write(f"{COUNT} datagrams, {seen} counted, {growth} KiB more, {half_open} half-open at most\n")
    assert _spis(gateway) == spis
    assert gateway.children()[0].packets_in == packets, "a forged or repeated ESP packet was accepted"
    assert seen > COUNT // 2
    assert half_open <= COOKIE_THRESHOLD
    assert growth < MOST_GROWTH_KB
    _in_order(scene)
    assert _spis(gateway) == _spis(scene.peer) == spis


def test_a_flood_of_first_requests_is_met_with_cookies(scene: Scene) -> None:
    """RFC 7296 section 2.6: half-open IKE SAs stay few, and an honest peer gets through by its cookie."""
    gateway, spis = scene.gateway, _spis(scene.gateway)
    memory, demanded = _resident_kb(gateway.pid), gateway.status(30.0).counters.get("cookie-demanded", 0)
    half_open = _attack(scene, FLOOD, flood=True)
    counters = gateway.status(30.0).counters
    assert counters["cookie-demanded"] - demanded > FLOOD // 2
    assert half_open == COOKIE_THRESHOLD
    assert _resident_kb(gateway.pid) - memory < MOST_GROWTH_KB
    assert _spis(gateway) == spis
    demanded = counters["cookie-demanded"]
    scene.peer.terminate(CONNECTION)
    gateway.wait_for("end of the IKE SA", lambda member: not member.children())
    scene.peer.initiate(CONNECTION, CHILD)
    gateway.wait_for("new child SA", lambda member: member.children(CHILD))
    assert gateway.status(30.0).counters["cookie-demanded"] > demanded, "the honest peer was asked as well"
    _in_order(scene)
    assert not set(_spis(gateway)) & set(spis)
