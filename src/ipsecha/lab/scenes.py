"""The scenes of a failover: a pair, a peer and inner hosts, in network namespaces or, without root, on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path

from ipsecha.lab import capture, network, power_cut, stage
from ipsecha.lab.capture import Capture, Packet
from ipsecha.lab.failover import Fault
from ipsecha.lab.member import COMMAND, Member, Table
from ipsecha.lab.namespaces import Topology, isolate, set_cables
from ipsecha.lab.probes import Probes
from ipsecha.lab.stage import CHILD, CONNECTION, Certificates, Tunnel
from ipsecha.lab.strongswan import StrongSwan
from ipsecha.lab.witness import Witness

CABLES = (network.OUTER, network.INNER, network.SYNCH)


class PeerKind(Enum):
    IPSECHA = "ipsecha"
    STRONGSWAN = "strongswan"


class NamespaceScene:
    """A pair behind a switch, a peer on its other side, a host behind either."""

    def __init__(
        self, topology: Topology, directory: Path, members: tuple[Member, Member], peer: Member | StrongSwan
    ) -> None:
        self.topology = topology
        self.directory = directory
        self.members = members
        self.peer = peer
        self.cluster_address = network.CLUSTER_OUTER
        self.witness: Witness | None = None
        self.wire: Capture | None = Capture(topology["sw"], network.OUTER_BRIDGE, directory / "outer.capture")
        self.probes: Probes = stage.inner_probes(topology, directory)

    def bring_up(self) -> None:
        """The peer initiates, as a road warrior or a branch would."""
        if isinstance(self.peer, StrongSwan):
            self.peer.initiate(CHILD)
            return
        self.peer.initiate(CONNECTION, CHILD)
        self.peer.wait_for("child SA", lambda peer: peer.children(CHILD))

    def strike(self, fault: Fault, active: Member) -> float:
        """Applies the fault; returns when (CLOCK_MONOTONIC)."""
        at = time.monotonic()
        if fault is Fault.KILL:
            return active.kill()
        if fault is Fault.HANG:
            return active.hang()
        if fault is Fault.LINK:
            set_cables(self.topology["sw"], active.name, CABLES, connected=False)
            return time.monotonic()
        if fault is Fault.POWER_CUT:
            return power_cut.strike(self.members)
        if fault is Fault.PARTITION:
            isolate(self.topology["sw"], network.MEMBERS, CABLES, isolated=True)
            return at
        active.switchover()
        return at

    def heal(self, fault: Fault, failed: Member) -> None:
        if fault in (Fault.KILL, Fault.CRASH_MID_REKEY):
            failed.start()
        elif fault is Fault.PARTITION:
            isolate(self.topology["sw"], network.MEMBERS, CABLES, isolated=False)
        elif fault is Fault.HANG:
            failed.resume()
        elif fault is Fault.LINK:
            set_cables(self.topology["sw"], failed.name, CABLES, connected=True)

    def play_back(self, packets: list[Packet]) -> int:
        """From where the captured packets came: the peer, or the NAT before it."""
        outside = self.topology["nat" if self.topology.has("nat") else "peer"]
        return capture.play_back(outside, packets, self.directory)

    def peer_rekeys(self, child: str) -> None:
        if isinstance(self.peer, Member):
            self.peer.rekey(CONNECTION, child)
        elif child:
            self.peer.rekey_child(child)
        else:
            self.peer.rekey_ike(CONNECTION)

    def peer_spis(self) -> list[tuple[str, str]]:
        if isinstance(self.peer, Member):
            return sorted((child.spi_in, child.spi_out) for child in self.peer.children(CHILD))
        found = [child for child in self.peer.children(CHILD) if child["state"] == "INSTALLED"]
        return sorted((str(child["spi-in"]), str(child["spi-out"])) for child in found)


@contextmanager
def in_namespaces(
    directory: Path,
    kind: PeerKind,
    tunnel: Tunnel | None = None,
    certificates: Certificates | None = None,
    *,
    nat: bool = False,
    witness: bool = False,
    saves: bool = False,
    command: str = COMMAND,
    cluster: Table | None = None,
) -> Iterator[NamespaceScene]:
    """The scene with namespaces: needs root.  Members, peer, capture and probes run while it lasts.

    ``saves``: the members save their state.  ``command``: what they run (``member.COMMAND``).  ``cluster``: further
    keys of ``[cluster]``.
    """
    tunnel = tunnel or Tunnel(gateway_address=network.CLUSTER_OUTER)
    with ExitStack() as running:
        topology = running.enter_context(network.standing(members=2, nat=nat, witness=witness))
        members = stage.pair(topology, directory / "pair", tunnel, certificates, saves=saves, **(cluster or {}))
        peer: Member | StrongSwan
        if kind is PeerKind.STRONGSWAN:
            peer = running.enter_context(StrongSwan(topology["peer"], directory / "strongswan"))
            stage.configure_strongswan(peer, tunnel, certificates)
        else:
            peer = running.enter_context(stage.single(topology, directory / "peer", tunnel, certificates, peer=True))
        scene = NamespaceScene(topology, directory, members, peer)
        if witness:
            scene.witness = running.enter_context(Witness(directory / "pair" / "witness", topology["witness"]))
        for member in members:
            member.command = command
            running.enter_context(member)
        assert scene.wire is not None
        running.enter_context(scene.wire)
        running.enter_context(scene.probes)
        yield scene
