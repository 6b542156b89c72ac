"""The scene of a failover without root: members, peer and hosts on loopback addresses and high ports.

Clear packets travel as UDP datagrams instead of through a TUN device, and the members need not move an address: all
of 127.0.0.0/8 is there for everybody, and whoever is active opens the cluster's sockets.  What this leaves out stands
in LEFT_OUT.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ipsecha.lab import network, power_cut, stage
from ipsecha.lab.capture import Capture, Packet
from ipsecha.lab.failover import Fault
from ipsecha.lab.member import COMMAND, Member, toml
from ipsecha.lab.pki import Authority
from ipsecha.lab.probes import Probes, Side
from ipsecha.lab.processes import LabError
from ipsecha.lab.stage import CHILD, CONNECTION, Tunnel
from ipsecha.lab.witness import Witness

CLUSTER, PEER = "127.0.10.10", "127.0.20.20"
SYNCH = ("127.0.10.11:14600", "127.0.10.12:14600")
GATEWAY_INNER, HOST_A = ("127.0.10.11:17001", "127.0.10.12:17001"), "127.0.10.2:17002"
PEER_INNER, HOST_B = "127.0.20.1:17001", "127.0.20.2:17002"
PORTS = {"port": 15500, "nat_port": 15545}

LEFT_OUT = (
    "real network links: no cable is pulled, no address moves, no ARP",
    "TUN devices: clear packets are UDP datagrams",
    "the capture of the wire: sequence numbers come from the members, not from what they sent",
    "strongSwan as peer",
)


class LoopbackScene:
    """Implements ``failover.Scene``."""

    def __init__(self, directory: Path, members: tuple[Member, Member], peer: Member) -> None:
        self.directory = directory
        self.members = members
        self.peer = peer
        self.cluster_address = CLUSTER
        self.wire: Capture | None = None
        self.witness: Witness | None = None
        a = Side(network.HOST_A, near=HOST_A, gateways=GATEWAY_INNER)
        b = Side(network.HOST_B, near=HOST_B, gateways=(PEER_INNER,))
        self.probes = Probes(a, b, directory)

    def bring_up(self) -> None:
        self.peer.initiate(CONNECTION, CHILD)
        self.peer.wait_for("child SA", lambda peer: peer.children(CHILD))

    def strike(self, fault: Fault, active: Member) -> float:
        """Applies the fault; returns when.  Raises LabError for a fault that needs real links."""
        at = time.monotonic()
        if fault is Fault.KILL:
            return active.kill()
        if fault is Fault.POWER_CUT:
            return power_cut.strike(self.members)
        if fault is Fault.HANG:
            raise LabError("a stopped process keeps its sockets on loopback: run as root for network namespaces")
        if fault is Fault.LINK:
            raise LabError("there are no cables to pull on loopback: run as root for network namespaces")
        if fault is Fault.PARTITION:
            raise LabError("there is no switch to cut on loopback: run as root for network namespaces")
        active.switchover()
        return at

    def heal(self, fault: Fault, failed: Member) -> None:
        if fault in (Fault.KILL, Fault.CRASH_MID_REKEY):
            failed.start()

    def play_back(self, packets: list[Packet]) -> int:
        return 0

    def peer_rekeys(self, child: str) -> None:
        self.peer.rekey(CONNECTION, child)

    def peer_spis(self) -> list[tuple[str, str]]:
        return sorted((child.spi_in, child.spi_out) for child in self.peer.children(CHILD))


@contextmanager
def on_loopback(directory: Path, *, command: str = COMMAND, saves: bool = False) -> Iterator[LoopbackScene]:
    """Members, peer and probes run while the context lasts."""
    options = {"encapsulate": True}
    tunnel = Tunnel(gateway_address=CLUSTER, peer_address=PEER, gateway_options=options, peer_options=options)
    members = _pair(directory / "pair", tunnel, saves)
    peer = _peer(directory / "peer", tunnel)
    scene = LoopbackScene(directory, members, peer)
    for member in members:
        member.command = command
    with ExitStack() as running:
        for member in (peer, *members):
            running.enter_context(member)
        running.enter_context(scene.probes)
        yield scene


def _pair(directory: Path, tunnel: Tunnel, saves: bool) -> tuple[Member, Member]:
    directory.mkdir(parents=True, exist_ok=True)
    cluster = {"name": "lab", "members": list(network.MEMBERS)}
    table = stage.connection_table(tunnel, directory, None, peer=False)
    (directory / "policy.toml").write_text(toml({"cluster": cluster, "connections": {CONNECTION: table}}))
    authority = Authority("lab cluster")
    first, second = (_member(directory, number, authority, saves) for number in range(2))
    return first, second


def _member(directory: Path, number: int, authority: Authority, saves: bool) -> Member:
    name, other = network.MEMBERS[number], network.MEMBERS[1 - number]
    own = directory / name
    own.mkdir(parents=True, exist_ok=True)
    link: dict[str, Any] = stage.cluster_link(own, name, authority)
    link |= {"listen": SYNCH[number], "peers": {other: SYNCH[1 - number]}}
    device = {**PORTS, "inner": f"udp:{GATEWAY_INNER[number]}<->{HOST_A}"}
    more = stage.persistence(own) if saves else {}
    return Member(name, own, {"policy": "../policy.toml", "cluster": link, "device": device, **more})


def _peer(directory: Path, tunnel: Tunnel) -> Member:
    directory.mkdir(parents=True, exist_ok=True)
    table = stage.connection_table(tunnel, directory, None, peer=True)
    (directory / "policy.toml").write_text(toml({"connections": {CONNECTION: table}}))
    device = {**PORTS, "inner": f"udp:{PEER_INNER}<->{HOST_B}"}
    return Member("peer", directory, {"policy": "policy.toml", "device": device})
