"""An ipsecha and a real strongSwan with a tunnel, as the tests of this directory use them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ipsecha.lab import network, stage
from ipsecha.lab.member import Member
from ipsecha.lab.namespaces import Namespace, Topology
from ipsecha.lab.probes import Probes
from ipsecha.lab.stage import CHILD, CONNECTION
from ipsecha.lab.strongswan import StrongSwan

Connect = Callable[..., "Session"]


class Session:
    """A gateway (ipsecha, host A behind it) and a peer (strongSwan, host B behind it) that are configured alike."""

    def __init__(self, topology: Topology, gateway: Member, peer: StrongSwan, directory: Path) -> None:
        self.topology = topology
        self.gateway = gateway
        self.peer = peer
        self.directory = directory

    @property
    def host_a(self) -> Namespace:
        return self.topology["hosta"]

    @property
    def host_b(self) -> Namespace:
        return self.topology["hostb"]

    def bring_up(self, initiator: str) -> None:
        """``initiator``: ``ipsecha`` or ``strongswan``.  Returns when both sides have the child SA."""
        if initiator == "strongswan":
            self.peer.initiate(CHILD)
            self.gateway.wait_for("child SA", lambda gateway: gateway.children(CHILD))
        else:
            self.gateway.initiate(CONNECTION, CHILD)
            self.peer.wait_for(CHILD, "INSTALLED")

    def traffic(self) -> None:
        """Packets pass both ways, small ones and ones that need fragments."""
        assert self.host_b.ping(network.HOST_A, count=2), "no answer from host A through the tunnel"
        assert self.host_a.ping(network.HOST_B, count=2), "no answer from host B through the tunnel"
        assert self.host_b.ping(network.HOST_A, count=2, size=3000), "no answer to fragmented packets"

    def probes(self) -> Probes:
        return stage.inner_probes(self.topology, self.directory / "probes")

    def spis(self) -> set[str]:
        """The SPIs of the gateway's child SAs in both directions."""
        return {spi for child in self.gateway.children() for spi in (child.spi_in, child.spi_out)}

    def peer_spis(self) -> set[str]:
        return {_spi(child[key]) for child in self.peer.children() for key in ("spi-in", "spi-out")}


def _spi(value: object) -> str:
    return str(value).zfill(8)
