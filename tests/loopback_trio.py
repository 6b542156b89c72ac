"""Three members, a peer and probes on loopback: ``ipsecha.lab.loopback`` with a mirror more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ipsecha.lab import loopback, stage
from ipsecha.lab.member import Member, toml
from ipsecha.lab.pki import Authority
from ipsecha.lab.stage import CHILD, CONNECTION, Tunnel

NAMES = ("alpha", "beta", "gamma")
_HOSTS = ("127.0.10.11", "127.0.10.12", "127.0.10.13")


class Trio:
    def __init__(self, members: tuple[Member, ...], peer: Member) -> None:
        self.members = members
        self.peer = peer

    def owner(self) -> Member:
        """The one that serves; waits for it."""
        return self._in_role("active")

    def backup(self) -> Member:
        return self._in_role("standby")

    def mirror(self) -> Member:
        return self._in_role("mirror")

    def _in_role(self, role: str) -> Member:
        living = [member for member in self.members if member.running]
        living[0].wait_for(f"member in the role {role}", lambda _: any(one.role() == role for one in living))
        return next(one for one in living if one.role() == role)

    def named(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    def is_whole(self) -> bool:
        """One owner, one backup and one mirror, all in sync."""
        views = [member.status().cluster for member in self.members]
        found = {view.role: view.protection for view in views if view is not None}
        return found == {"active": "protected", "standby": "protected", "mirror": "mirror"}

    def spis(self) -> list[tuple[str, str]]:
        return sorted((child.spi_in, child.spi_out) for child in self.peer.children(CHILD))


@contextmanager
def trio(directory: Path, **cluster: Any) -> Iterator[Trio]:
    """``cluster``: further keys of ``[cluster]``."""
    options = {"encapsulate": True}
    tunnel = Tunnel(
        gateway_address=loopback.CLUSTER, peer_address=loopback.PEER, gateway_options=options, peer_options=options
    )
    shared = directory / "trio"
    shared.mkdir(parents=True)
    table = stage.connection_table(tunnel, shared, None, peer=False)
    named = {"name": "lab", "members": list(NAMES), **cluster}
    (shared / "policy.toml").write_text(toml({"cluster": named, "connections": {CONNECTION: table}}))
    authority = Authority("lab cluster")
    members = tuple(_member(shared, number, authority) for number in range(3))
    peer = loopback._peer(directory / "peer", tunnel)
    with ExitStack() as running:
        for member in (peer, *members):
            running.enter_context(member)
        scene = Trio(members, peer)
        members[0].wait_for("whole cluster", lambda _: scene.is_whole())
        yield scene


def _member(directory: Path, number: int, authority: Authority) -> Member:
    name, host = NAMES[number], _HOSTS[number]
    own = directory / name
    own.mkdir()
    link: dict[str, Any] = stage.cluster_link(own, name, authority)
    peers = {other: f"{_HOSTS[index]}:14600" for index, other in enumerate(NAMES) if other != name}
    link |= {"listen": f"{host}:14600", "peers": peers}
    device = {**loopback.PORTS, "inner": f"udp:{host}:17001<->{loopback.HOST_A}"}
    return Member(name, own, {"policy": "../policy.toml", "cluster": link, "device": device})
