"""What a protect entry selects and arrives in clear is dropped (RFC 4301 section 5.2)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ipsecha.lab import network, stage
from ipsecha.lab.namespaces import Namespace, available
from ipsecha.lab.stage import CHILD, CONNECTION

STRANGER = "10.2.0.77"  # within the remote selectors, but outside on the wire
PORT = 4999

_LISTEN = f"""
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", {PORT}))
while True:
    print(sock.recv(100).decode(), flush=True)
"""
_SAY = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 0))
sock.sendto(sys.argv[3].encode(), (sys.argv[2], %d))
"""


def say(namespace: Namespace, source: str, text: str) -> None:
    namespace.run("python3", "-c", _SAY % PORT, source, network.HOST_A, text)


@pytest.mark.root
def test_clear_packets_of_the_remote_network_are_dropped(tmp_path: Path) -> None:
    """RFC 4301 section 5.2: inbound clear packets that an entry with PROTECT selects MUST be discarded."""
    if reason := available():
        pytest.skip(str(reason))
    with network.standing() as topology:
        tunnel = stage.Tunnel()
        with (
            stage.single(topology, tmp_path / "gw", tunnel) as gateway,
            stage.single(topology, tmp_path / "peer", tunnel, peer=True) as peer,
        ):
            peer.initiate(CONNECTION, CHILD)
            gateway.wait_for("child SA", lambda member: member.children(CHILD))
            topology["hosta"].start(["python3", "-c", _LISTEN], tmp_path / "heard")
            time.sleep(0.3)
            topology.address("sw", network.OUTER_BRIDGE, "192.0.2.77/24", f"{STRANGER}/32")
            topology["sw"].run("ip", "route", "add", network.HOST_A, "via", tunnel.gateway_address)
            say(topology["sw"], "192.0.2.77", "not selected")
            say(topology["sw"], STRANGER, "in clear")
            say(topology["hostb"], network.HOST_B, "through the tunnel")
            deadline = time.monotonic() + 5
            while "tunnel" not in (tmp_path / "heard").read_text() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert (tmp_path / "heard").read_text().splitlines() == ["not selected", "through the tunnel"]


@pytest.mark.root
def test_selectors_of_both_sides_may_overlap(tmp_path: Path) -> None:
    """What was just decapsulated follows the main table and does not go back into the tunnel."""
    if reason := available():
        pytest.skip(str(reason))
    with network.standing() as topology:
        tunnel = stage.Tunnel(networks_a=["10.0.0.0/8"], networks_b=["10.0.0.0/8"])
        with (
            stage.single(topology, tmp_path / "gw", tunnel),
            stage.single(topology, tmp_path / "peer", tunnel, peer=True) as peer,
        ):
            peer.initiate(CONNECTION, CHILD)
            peer.wait_for("child SA", lambda member: member.children(CHILD))
            assert topology["hosta"].ping(network.HOST_B, count=2)
